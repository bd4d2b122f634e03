"""Words in pieces: byte pairs learned from a text, and the likeliest next words of a model of such pieces."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from seqjax.base import Array, PyTree
from seqjax.logarithms import log_softmax, logsumexp
from seqjax.products import accumulator
from seqjax.tasks.subwords import Subwords
from seqjax.tasks.vocabulary import EOS, Vocabulary

FEWEST = 257  # pieces that there are in any case: every byte, and <eos>
STARTS, WAYS, LONGEST = 64, 4, 12  # beginnings of a next word that are gone on with, in so many ways, to so many pieces


class Pieces:
    """Byte pairs with the face of a `Vocabulary` of words: sentences as numbers, and numbers as words.

    ``<eos>`` is 0; then come the pieces from the most to the least frequent, as outputs over many symbols want them.
    No word is unknown.

    Args:
      units: the byte pairs.
      order: their numbers there, ``<eos>`` first; special symbols that no text has are not among them.

    Example:
      >>> pieces = Pieces.learned(lambda: [["the", "cat"], ["the", "hat"]], 262)
      >>> pieces.decode(pieces.encode(["the", "bat"], eos=True))
      ['the', 'bat']
    """

    unk, eos = None, 0

    def __init__(self, units: Subwords, order: Sequence[int]):
        """Numbers the pieces in their order."""
        self.units, self.order = units, np.asarray(order)
        self.symbols = tuple(
            EOS if unit == units.eos else units.tokenizer.decode([unit]) for unit in self.order.tolist()
        )
        self._places = np.full(len(units), -1, np.int32)
        self._places[self.order] = np.arange(len(self.order))

    @classmethod
    def learned(cls, sentences: Callable[[], Iterable[Sequence[str]]], limit: int) -> "Pieces":
        """At most ``limit`` pieces of sentences of words, which are gone through twice."""
        units = Subwords.train(map(" ".join, sentences()), limit + Subwords.eos)
        counts, first = np.zeros(len(units), np.int64), Subwords.eos + 1
        for sentence in sentences():
            np.add.at(counts, units.encode(" ".join(sentence)), 1)
        return cls(units, [Subwords.eos, *(first + np.argsort(-counts[first:], kind="stable")).tolist()])

    @classmethod
    def kept(cls, facts: Mapping[str, Any]) -> "Pieces":
        """Those that a run kept as `facts`."""
        return cls(Subwords.from_json(facts["pieces"]["units"]), facts["pieces"]["order"])

    def facts(self) -> dict[str, Any]:
        """What a run keeps, so that it can be read without its text."""
        return {"pieces": {"units": self.units.to_json(), "order": self.order.tolist()}}

    def __len__(self) -> int:
        """V."""
        return len(self.order)

    def __contains__(self, word: object) -> bool:
        """Every word is known by its bytes."""
        return True

    def encode(self, words: Sequence[str], *, eos: bool = False) -> np.ndarray:
        """A sentence as numbers ``[n]`` of int32."""
        return self._places[self.units.encode(" ".join(words), eos=eos)]

    def decode(self, numbers: Iterable[int]) -> list[str]:
        """The words of the numbers up to the first ``<eos>``."""
        return self.units.decode(self.order[list(numbers)]).split()

    @property
    def ends(self) -> np.ndarray:
        """Before which pieces a word is over, ``[V]``: those with a blank in front, and ``<eos>``."""
        return np.array([symbol == EOS or symbol.startswith(" ") for symbol in self.symbols])

    @property
    def common(self) -> list[str]:
        """Frequent ones, words where there are some."""
        letters = [symbol for symbol in self.symbols if symbol.strip().isalpha()]
        return [symbol.strip() for symbol in sorted(letters, key=lambda symbol: not re.match(" ..", symbol))]


Symbols = Vocabulary | Pieces


def next_words(
    model: sj.Layer, params: PyTree, pieces: Pieces, read: np.ndarray, count: int
) -> list[tuple[str, float]]:
    """The likeliest whole words behind what has been read, and their probabilities.

        p(word) = Π p(its pieces) · p(a blank or <eos> | what is before)

    Those are found that begin with one of the likeliest pieces, by beam search from each; ways to write the same word
    add up. ``<eos>`` is a word, too.

    Args:
      model: a language model of pieces.
      params: its parameters.
      pieces: of which it is.
      read: ``[n]``, what stands for the beginning of a sentence, and whole words behind it.
      count: how many words to name.
    """
    state, logits = model.apply(params, model.initial_state(params), jnp.asarray(read))
    log_probs = np.asarray(log_softmax(logits[-1].astype(accumulator(logits.dtype))))
    ends = pieces.ends
    starts = np.flatnonzero(ends if len(read) > 1 else ~ends)
    starts = starts[starts != pieces.eos]
    starts = starts[np.argsort(-log_probs[starts])][:STARTS]
    state = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(starts), *leaf.shape)), state)
    found = sj.beam_search(
        sj.serial(model, sj.pointwise(_within_a_word)),
        (params, jnp.asarray(ends)),
        (state, ()),
        jnp.asarray(starts, np.int32),
        length=LONGEST,
        width=WAYS,
        eos=pieces.eos,
    )
    symbols, scores = np.asarray(found.symbols), np.asarray(found.log_probs) + log_probs[starts]
    words = {EOS: float(np.exp(log_probs[pieces.eos]))}
    for way, place in np.ndindex(scores.shape):
        if symbols[way, -1, place] == pieces.eos and np.isfinite(scores[way, place]):  # it came to its end
            word = "".join(pieces.decode([starts[place], *symbols[way, :, place]]))
            words[word] = words.get(word, 0.0) + float(np.exp(scores[way, place]))
    words.pop("", None)
    return sorted(words.items(), key=lambda found: -found[1])[:count]


def _within_a_word(ends: Array, logits: Array) -> Array:
    """What goes on with the word, and as ``<eos>`` all before which it is over."""
    log_probs = log_softmax(logits.astype(accumulator(logits.dtype)))
    over = logsumexp(jnp.where(ends, log_probs, -jnp.inf))
    return jnp.where(ends, -jnp.inf, log_probs).at[..., Pieces.eos].set(over)
