"""Subword units, learned and applied by the `tokenizers` library."""

from collections.abc import Iterable

import numpy as np

from seqjax import checks
from seqjax.tasks.vocabulary import SPECIALS, UNK


class Subwords:
    """Byte-pair units with the face of a `Vocabulary`: ``encode``, ``decode``, ``len``, the special numbers.

    The units cover every byte, so that no text is unknown and decoding gives the text back. Text that looks like a
    special symbol is text like any other: only ``bos`` and ``eos`` of `encode` put special symbols.

    Args:
      tokenizer: a `tokenizers.Tokenizer` whose first symbols are ``<pad>``, ``<unk>``, ``<bos>``, ``<eos>``.

    References:
      Sennrich, Haddow and Birch (2016), Neural machine translation of rare words with subword units.
      https://arxiv.org/abs/1508.07909
    """

    pad, unk, bos, eos = range(4)

    def __init__(self, tokenizer):
        """Wraps a tokenizer."""
        self.tokenizer = tokenizer
        tokenizer.encode_special_tokens = True  # its JSON does not keep this

    @classmethod
    def train(cls, texts: Iterable[str], size: int) -> "Subwords":
        """Learns at most ``size`` units, the 256 bytes and four special symbols included.

        Args:
          texts: strings to count in.
          size: how many units to learn at most, 260 or more.

        Returns:
          The units.

        Raises:
          ImportError: the `tokenizers` library is absent.
          ValueError: a size that has no room for all bytes.
        """
        checks.sizes("Subwords.train", size=size)
        if size < 260:
            raise ValueError(
                f"Subwords.train: expected a size of at least 260 (256 bytes and 4 special symbols), got "
                f"{size}. Raise it, or use a Vocabulary of characters."
            )
        library = _tokenizers()
        tokenizer = library.Tokenizer(library.models.BPE(unk_token=UNK))
        tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = library.decoders.ByteLevel()
        alphabet = library.pre_tokenizers.ByteLevel.alphabet()
        trainer = library.trainers.BpeTrainer(
            vocab_size=size, special_tokens=list(SPECIALS), initial_alphabet=alphabet, show_progress=False
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer)

    @classmethod
    def from_json(cls, text: str) -> "Subwords":
        """The units that `to_json` wrote.

        Raises:
          ImportError: the `tokenizers` library is absent.
          ValueError: another text.
        """
        library = _tokenizers()
        try:
            tokenizer = library.Tokenizer.from_str(text)
        except Exception as error:  # the library raises no narrower one
            raise ValueError(
                f"Subwords.from_json: expected a text that to_json wrote, got another ({error}). Write it again."
            ) from error
        return cls(tokenizer)

    def to_json(self) -> str:
        """The units as a text."""
        return self.tokenizer.to_str()

    def __len__(self) -> int:
        """V."""
        return self.tokenizer.get_vocab_size()

    def encode(self, text: str, *, bos: bool = False, eos: bool = False) -> np.ndarray:
        """A text as numbers ``[n]`` of int32."""
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        return np.array([self.bos] * bos + ids + [self.eos] * eos, np.int32)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the numbers up to the first ``<eos>``, special symbols left out."""
        ids = list(map(int, ids))
        if self.eos in ids:
            ids = ids[: ids.index(self.eos)]
        return self.tokenizer.decode(ids, skip_special_tokens=True)


def _tokenizers():
    try:
        import tokenizers
        import tokenizers.decoders
        import tokenizers.models
        import tokenizers.pre_tokenizers
        import tokenizers.trainers
    except ImportError as error:
        raise ImportError(
            "Subwords: expected the tokenizers library, got none. Install it with `pip install 'seqjax[recipes]'`."
        ) from error
    return tokenizers
