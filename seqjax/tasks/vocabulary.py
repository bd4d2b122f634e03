"""Symbols as numbers: vocabularies of characters, words or labels."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, cached_property

import numpy as np

PAD, UNK, BOS, EOS = SPECIALS = ("<pad>", "<unk>", "<bos>", "<eos>")


class Vocabulary:
    """A fixed, ordered list of symbols, and their numbers 0 … V-1.

    Which of ``<pad>``, ``<unk>``, ``<bos>`` and ``<eos>`` it holds is the maker's choice: a vocabulary of
    labels has none, one of characters may do without ``<unk>``; `pad`, `unk`, `bos` and `eos` are their
    numbers, or None.

    Args:
      symbols: the symbols, in order.

    Raises:
      ValueError: fewer than two symbols (nothing could be predicted), or one that occurs twice.

    Example:
      >>> from seqjax.tasks import Vocabulary
      >>> vocabulary = Vocabulary.build(["the cat", "the dog"])
      >>> vocabulary.encode("the bat", bos=True, eos=True).tolist()
      [2, 4, 7, 6, 5, 1, 8, 4, 3]
      >>> "".join(vocabulary.decode([4, 7, 6, 3, 0, 0]))
      'the'
    """

    def __init__(self, symbols: Iterable[str]):
        """Numbers the symbols in their order."""
        self.symbols = tuple(symbols)
        self._index = {symbol: i for i, symbol in enumerate(self.symbols)}
        if len(self._index) < len(self.symbols):
            twice = next(symbol for symbol, n in Counter(self.symbols).items() if n > 1)
            raise ValueError(f"Vocabulary: expected distinct symbols, got {twice!r} twice. Leave one out.")
        if len(self.symbols) < 2:
            raise ValueError(
                f"Vocabulary: expected at least two symbols, got {list(self.symbols)}. "
                "With one symbol there is nothing to predict: give more text or add <eos>."
            )

    @classmethod
    def build(
        cls,
        sequences: Iterable[Iterable[str]],
        *,
        specials: Sequence[str] = SPECIALS,
        limit: int | None = None,
        at_least: int = 1,
    ) -> "Vocabulary":
        """Special symbols first, then the symbols of ``sequences`` from the most to the least frequent.

        Ties are broken by the symbols' own order, so that equal data give equal numbers.

        Args:
          sequences: strings (their characters are counted) or lists of words.
          specials: symbols that come first.
          limit: how many symbols to keep in all, the special ones included; None for all.
          at_least: how often a symbol must occur to be kept.

        Returns:
          The vocabulary.

        Raises:
          ValueError: no symbol left beside the special ones, only one in all, or symbols dropped without ``<unk>``.
        """
        counts = Counter(symbol for sequence in sequences for symbol in sequence)
        return cls.counted(counts, specials=specials, limit=limit, at_least=at_least)

    @classmethod
    def counted(
        cls,
        counts: Mapping[str, int],
        *,
        specials: Sequence[str] = SPECIALS,
        limit: int | None = None,
        at_least: int = 1,
    ) -> "Vocabulary":
        """As `build`, of symbols that have been counted, such as those of a text that is read in place.

        >>> Vocabulary.counted({"a": 1, "b": 2}, specials=()).symbols
        ('b', 'a')
        """
        counts = dict(counts)
        for special in specials:
            counts.pop(special, None)
        ranked = sorted(counts, key=lambda symbol: (-counts[symbol], symbol))
        kept = [symbol for symbol in ranked if counts[symbol] >= at_least]
        if limit is not None:
            kept = kept[: max(limit - len(specials), 0)]
        if len(kept) < len(ranked) and UNK not in specials:
            raise ValueError(
                f"Vocabulary.build: expected {UNK} among the special symbols where rare ones are dropped, "
                "got "
                f"{list(specials)}. Add it or keep all {len(ranked)} symbols."
            )
        if not kept:
            raise ValueError(
                f"Vocabulary.build: expected at least one symbol beside {list(specials)}, got none of {len(ranked)} in "
                f"the data with limit={limit} and at_least={at_least}. Give more text, raise one or lower the other."
            )
        return cls([*specials, *kept])

    @cached_property
    def pad(self) -> int | None:
        """The number of ``<pad>``."""
        return self._index.get(PAD)

    @cached_property
    def unk(self) -> int | None:
        """The number of ``<unk>``, which every unseen symbol gets."""
        return self._index.get(UNK)

    @cached_property
    def bos(self) -> int | None:
        """The number of ``<bos>``."""
        return self._index.get(BOS)

    @cached_property
    def eos(self) -> int | None:
        """The number of ``<eos>``."""
        return self._index.get(EOS)

    def __len__(self) -> int:
        """V."""
        return len(self.symbols)

    def __contains__(self, symbol: str) -> bool:
        """Whether the symbol has a number of its own."""
        return symbol in self._index

    def __eq__(self, other: object) -> bool:
        """Equal symbols in equal order."""
        return isinstance(other, Vocabulary) and self.symbols == other.symbols

    def __hash__(self) -> int:
        """By the symbols."""
        return hash(self.symbols)

    def __repr__(self) -> str:
        """The size and the first symbols."""
        return f"Vocabulary({len(self)} symbols: {' '.join(map(repr, self.symbols[:8]))} …)"

    def encode(self, sequence: Iterable[str], *, bos: bool = False, eos: bool = False) -> np.ndarray:
        """Symbols as numbers.

        Args:
          sequence: a string or a list of words.
          bos: put ``<bos>`` before it.
          eos: put ``<eos>`` after it.

        Returns:
          ``[n]`` of int32.

        Raises:
          ValueError: an unseen symbol where there is no ``<unk>``, or no ``<bos>`` or ``<eos>`` to put.
        """
        symbols = list(sequence)
        ids = [self._index.get(symbol, self.unk) for symbol in symbols]
        if None in ids:
            at = ids.index(None)
            raise ValueError(
                f"Vocabulary.encode: expected one of {len(self)} known symbols, got {symbols[at]!r} at position "
                f"{at}. Build the vocabulary with {UNK}, or leave that symbol out."
            )
        for wanted, special, at in ((bos, BOS, 0), (eos, EOS, len(ids) + bos)):
            if wanted:
                if special not in self:
                    raise ValueError(
                        f"Vocabulary.encode: expected {special} in the vocabulary, got {self!r}. "
                        "Build it with that special symbol."
                    )
                ids.insert(at, self._index[special])
        return np.array(ids, np.int32)

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Numbers as symbols, up to the first ``<eos>``; ``<pad>`` and ``<bos>`` are left out.

        Raises:
          ValueError: a number outside 0 … V-1.
        """
        symbols = []
        for i in map(int, ids):
            if not 0 <= i < len(self):
                raise ValueError(
                    f"Vocabulary.decode: expected numbers from 0 to {len(self) - 1}, got {i}. "
                    "Decode with the vocabulary that encoded."
                )
            if i == self.eos:
                break
            if i not in (self.pad, self.bos):
                symbols.append(self.symbols[i])
        return symbols


def words(text: str, *, lower: bool = False) -> list[str]:
    """Splits a text into words (apostrophes and hyphens inside them stay) and single marks.

    A letter keeps what Unicode hangs on it: vowel signs, accents, joiners. Letters with their accents apart are
    composed first (Unicode's form NFC): é is one letter however it is written. Scripts that write no blanks between
    words, such as Chinese, Japanese, Thai, Khmer, stay in one run up to the next blank or mark; a zero-width space
    parts it.

    Args:
      text: any text.
      lower: write all in small letters.

    Returns:
      The words and marks, in order.

    >>> words("It isn't a well-known cat, is it?", lower=True)
    ['it', "isn't", 'a', 'well-known', 'cat', ',', 'is', 'it', '?']
    >>> words("हिन्दी भाषा")
    ['हिन्दी', 'भाषा']
    """
    text = unicodedata.normalize("NFC", text.lower() if lower else text)
    return [text[slice(*found.span())] for found in _TOKEN.finditer("".join(map(_seen, text)))]


# To `re` a vowel sign is no part of a word: every character that hangs on the one before it is shown to it as _HUNG.
_HUNG, _ZERO_WIDTH_SPACE = "\u0301", "\u200b"
_RUN = rf"(?:\w{_HUNG}*)+"
_TOKEN = re.compile(rf"{_RUN}(?:['’\-‐‑]{_RUN})*|[^\w\s]{_HUNG}*")


@cache
def _seen(character: str) -> str:
    """A character as `_TOKEN` sees it."""
    if character == _ZERO_WIDTH_SPACE:
        return " "
    return _HUNG if unicodedata.category(character) in ("Mn", "Mc", "Me", "Cf") else character
