"""Spoken sentences of salads and shoes: "pair" and "pear" sound alike, and only the words around tell them apart."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from seqjax.decoding import Fusion
from seqjax.recipes.language.salads import salads
from seqjax.tasks import applications, pad
from seqjax.tasks.applications import Speech

ALIKE = ("pair", "pear")
LONGEST = 6
FEW = 0.1  # what is added to every count of two words in a row


class Spoken(NamedTuple):
    """Words as symbols from 1, what each sounds like, and sentences: those to count words in, and those to recognise.

    Attributes:
      words: of the text, in alphabetical order.
      sounds: ``[words, features]``; the two of `ALIKE` have one.
      read: nine tenths of the sentences, for the language model.
      held_back: the others.
    """

    words: tuple[str, ...]
    sounds: np.ndarray
    read: list[list[str]]
    held_back: list[list[str]]

    def numbers(self, sentences: Sequence[Sequence[str]]) -> np.ndarray:
        """Sentences as symbols ``[LONGEST, B]``, 0 behind their ends."""
        place = {word: i for i, word in enumerate(self.words, 1)}
        return pad([np.array([place[word] for word in sentence]) for sentence in sentences], length=LONGEST).values

    def any_order(self, rng: np.random.Generator, count: int, noise: float) -> Speech:
        """Words in random order, 1 to `LONGEST`: nothing but its sound tells a word. No sound follows itself."""
        steps = rng.integers(1, len(self.words) - 1, (LONGEST, count))
        steps[0] = rng.integers(0, len(self.words) - 1, count)
        others = np.array([i for i, word in enumerate(self.words, 1) if word != ALIKE[1]])
        texts = others[np.cumsum(steps, 0) % len(others)]
        first, second = (self.words.index(word) + 1 for word in ALIKE)
        texts = np.where((texts == first) & (rng.random(texts.shape) < 0.5), second, texts)
        texts = texts * (np.arange(LONGEST)[:, None] < rng.integers(1, LONGEST + 1, count))
        return applications.spoken(rng, texts, self.sounds, noise=noise)

    def said(self, rng: np.random.Generator, sentences: Sequence[Sequence[str]], noise: float) -> Speech:
        """These sentences."""
        return applications.spoken(rng, self.numbers(sentences), self.sounds, noise=noise)

    def fusion(self, weight: float) -> Fusion:
        """A language model by counting two words in a row, beside a recogniser that learned words in random order.

        q(w | v) = (N(v w) + ε) / Σ_u (N(v u) + ε)
        """
        texts = self.numbers(self.read)
        rows = np.pad(texts, ((1, 1), (0, 0)))
        counts = np.full((len(self.words) + 1, len(self.words) + 1), FEW)
        real = (rows[:-1] > 0) | (np.arange(len(rows) - 1)[:, None] == 0)  # from the boundary, up to the boundary
        np.add.at(counts, (rows[:-1][real], rows[1:][real]), 1)
        table = jnp.asarray(np.log(counts / counts.sum(1, keepdims=True)), jnp.float32)
        return Fusion(sj.pointwise(following), table, weight, weight * float(np.log(len(self.words) - 1)))


def following(table: jax.Array, symbols: jax.Array) -> jax.Array:
    """The row of each symbol."""
    return table[symbols]


def spoken(features: int) -> Spoken:
    """The sentences of `salads`.

    Raises:
      ValueError: too few features to tell the sounds apart.
    """
    sentences = [line.split() for line in salads().split("\n") if line]
    words = tuple(sorted({word for sentence in sentences for word in sentence}))
    if 2**features < len(words) - 1:
        raise ValueError(
            f"speech: expected at least {int(np.ceil(np.log2(len(words) - 1)))} features for {len(words) - 1} sounds, "
            f"got {features}. Raise features."
        )
    sound = [words.index(ALIKE[0] if word == ALIKE[1] else word) for word in words]
    sounds = applications.patterns(len(words), features)[np.unique(sound, return_inverse=True)[1]]
    cut = len(sentences) * 9 // 10
    return Spoken(words, sounds, sentences[:cut], sentences[cut:])


def spelled_right(found: Sequence[Sequence[str]], true: Sequence[Sequence[str]]) -> float:
    """The share of the words of `ALIKE` that are found as they were said, in order, of those said."""
    pairs = [[[word for word in words if word in ALIKE] for words in sentences] for sentences in (found, true)]
    right = sum(a == b for one, other in zip(*pairs) for a, b in zip(one, other))
    return right / sum(map(len, pairs[1]))
