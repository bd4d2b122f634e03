"""One small generated task for each application recurrent networks are named for: speech, genes, clips, opinions."""

from typing import NamedTuple

import numpy as np

from seqjax import checks
from seqjax.tasks.problem import (
    Examples,
    Pair,
    Problem,
    TextProblem,
    at_least,
    balanced,
    deviation,
    one_answer,
    pick,
    whole,
)
from seqjax.tasks.vocabulary import words

__all__ = [
    "Speech",
    "clips",
    "coding",
    "genes",
    "opinion",
    "patterns",
    "promoter",
    "sentiment",
    "speech",
    "spoken",
]

BASES = "ACGT"
MOTIF = "TATAAT"
DIRECTIONS = ((0, 1), (0, -1), (1, 0), (-1, 0))
GOOD = words("wonderful moving funny clever bright honest")
BAD = words("dull clumsy noisy empty tired false")
TOPICS = words("plot music acting ending dialogue camera")


class Speech(NamedTuple):
    """Frames and what was said.

    Attributes:
      frames: ``[T, B, d]`` of float32.
      mask: ``[T, B]`` of bool, True at real frames.
      alignment: ``[T, B]`` of int32, the symbol sounding at each frame, 0 in the padding.
      texts: ``[L, B]`` of int32, the symbols said, from 1 upwards; 0 is padding and the blank of a CTC loss.
      text_mask: ``[L, B]`` of bool, True at symbols.
    """

    frames: np.ndarray
    mask: np.ndarray
    alignment: np.ndarray
    texts: np.ndarray
    text_mask: np.ndarray


def speech(
    rng: np.random.Generator,
    count: int,
    *,
    symbols: int = 8,
    features: int = 6,
    longest: int = 6,
    noise: float = 0.5,
) -> Speech:
    """Frames to characters: each character sounds for two to five noisy frames, and nobody says which.

    A symbol's frames are its own pattern of ±1 plus noise; the same symbol never follows itself, so that the
    text is the alignment with repetitions removed. Guessing the symbol of a frame succeeds with probability 1
    / symbols.

    Args:
      rng: where texts, durations and noise come from.
      count: how many utterances.
      symbols: how many symbols, 1 … symbols.
      features: d, with 2^d at least ``symbols``.
      longest: L, the largest number of symbols; at least one is said.
      noise: standard deviation of the noise on every feature.

    Returns:
      The utterances, T = 5 L.

    Raises:
      ValueError: fewer than two symbols, or too few features to tell them apart.
    """
    whole("speech", 2, symbols=symbols)
    checks.sizes("speech", features=features, longest=longest)
    deviation("speech", noise)
    if 2**features < symbols:
        raise ValueError(f"speech: expected at least log₂ {symbols} features, got {features}. Raise features.")
    steps = rng.integers(1, symbols, (longest, count))
    steps[0] = rng.integers(0, symbols, count)
    sizes = rng.integers(1, longest + 1, count)
    text_mask = np.arange(longest)[:, None] < sizes
    return spoken(rng, (np.cumsum(steps, 0) % symbols + 1) * text_mask, patterns(symbols, features), noise=noise)


def patterns(sounds: int, features: int) -> np.ndarray:
    """``[sounds, features]`` of -1 and 1, no two alike: the binary digits of their numbers.

    >>> patterns(3, 2).tolist()
    [[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]]
    """
    return 2.0 * (np.arange(sounds)[:, None] >> np.arange(features) & 1) - 1


def spoken(rng: np.random.Generator, texts: np.ndarray, sounds: np.ndarray, *, noise: float) -> Speech:
    """What texts sound like, each symbol for two to five noisy frames.

    Args:
      rng: where durations and noise come from.
      texts: ``[L, B]`` of integers, symbols from 1 upwards, 0 behind the end.
      sounds: ``[symbols, d]``, the frame of each; symbols may share one.
      noise: standard deviation of the noise on every feature.

    Returns:
      The utterances, T = 5 L.

    Example:
      >>> said = spoken(np.random.default_rng(0), np.array([[2], [1], [0]]), patterns(2, 1), noise=0)
      >>> "".join("-+"[int(x > 0)] for x in said.frames[said.mask][:, 0])
      '+++++----'
    """
    (longest, count), text_mask = texts.shape, texts > 0
    ends = np.cumsum(rng.integers(2, 6, (longest, count)) * text_mask, 0)
    ticks = np.arange(5 * longest)[:, None]
    mask = ticks < ends[-1]
    place = (ticks[:, None] >= ends[None]).sum(1)
    alignment = np.take_along_axis(texts, np.minimum(place, longest - 1), 0) * mask
    frames = sounds[alignment - 1] + rng.normal(0, noise, (*mask.shape, sounds.shape[1]))
    ids = [a.astype(np.int32) for a in (alignment, texts)]
    return Speech((frames * mask[..., None]).astype(np.float32), mask, ids[0], ids[1], text_mask)


def promoter(length: int = 50) -> Problem:
    """Sequences of bases to classify: does the motif TATAAT occur?

    Half of the sequences hold it once, at a random place; the others hold the same six bases in another order
    at such a place, so that counting bases does not help.

    Args:
      length: T.

    Returns:
      A problem with ``xs [T, B]`` of bases, numbered as in ACGT, and targets ``[B]``, 1 = it occurs.
    """
    length = at_least("promoter", length, len(MOTIF))

    def draw(rng: np.random.Generator, count: int) -> Examples:
        labels = balanced(rng, count, 2)
        strings = []
        for label in labels:
            while True:
                text = "".join(rng.choice(list(BASES), length))
                planted = MOTIF if label else "".join(rng.permutation(list(MOTIF)))
                at = rng.integers(0, length - len(MOTIF) + 1)
                text = text[:at] + planted + text[at + len(MOTIF) :]
                if text.count(MOTIF) == label:
                    break
            strings.append(text)
        return one_answer(_bases(strings, length), labels)

    return Problem(draw, 4, 2, "accuracy", 1 / 2)


def genes(length: int = 60) -> Problem:
    """Bases to label: coding or not. A gene runs from the first ATG to the first stop codon in its frame.

    Whether an ATG opens a gene depends on a stop codon (TAA, TAG, TGA) coming later at a distance that three
    divides, so that a reader needs both directions. In half of the sequences none comes, and nothing codes.

    Args:
      length: T.

    Returns:
      A problem with ``xs`` and targets ``[T, B]``, 1 = coding; ``chance`` is the share of the more frequent
      label in 2,000 sequences.
    """
    length = at_least("genes", length, 9)

    def draw(rng: np.random.Generator, count: int) -> Examples:
        strings = []
        for closed in balanced(rng, count, 2):
            while True:
                start = rng.integers(0, length // 3)
                text = "".join(rng.choice(list(BASES), length))
                text = text[:start] + "ATG" + text[start + 3 :]
                if coding(text).any() == closed:
                    break
            strings.append(text)
        targets = np.array([coding(text) for text in strings], np.int32).reshape(count, length).T
        every = np.ones(targets.shape, bool)
        return Examples(_bases(strings, length), targets, every, every)

    share = float(draw(np.random.default_rng(0), 2000).targets.mean())
    return Problem(draw, 4, 2, "accuracy", max(share, 1 - share))


def coding(text: str) -> np.ndarray:
    """Which bases are coding, ``[T]`` of 0 and 1, by reading codon after codon.

    >>> "".join(map(str, coding("CATGAAATAGC")))
    '01111111110'
    """
    labels = np.zeros(len(text), np.int32)
    start = text.find("ATG")
    if start >= 0:
        for at in range(start + 3, len(text) - 2, 3):
            if text[at : at + 3] in ("TAA", "TAG", "TGA"):
                labels[start : at + 3] = 1
                break
    return labels


def _bases(strings: list[str], length: int) -> np.ndarray:
    numbers = [[BASES.index(base) for base in text] for text in strings]
    return np.array(numbers, np.int32).reshape(len(strings), length).T


def clips(length: int = 8, *, size: int = 8, noise: float = 0.3) -> Problem:
    """Clips to classify: does the spot move right, left, down or up? No single frame tells.

    A 2 × 2 spot starts anywhere and moves one pixel a frame, leaving on one side and coming back on the
    other.

    Args:
      length: T.
      size: height and width.
      noise: standard deviation of the noise on every pixel.

    Returns:
      A problem with ``xs [T, B, size · size]`` and targets ``[B]``, numbered in the order above.
    """
    length = at_least("clips", length, 2)
    whole("clips", 4, size=size)
    deviation("clips", noise)

    def draw(rng: np.random.Generator, count: int) -> Examples:
        labels = balanced(rng, count, 4)
        frames = rng.normal(0, noise, (length, count, size, size))
        start = rng.integers(0, size, (count, 2))
        place = start + np.arange(length)[:, None, None] * np.array(DIRECTIONS)[labels]
        t, b = np.ogrid[:length, :count]
        for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
            row, column = np.moveaxis((place + corner) % size, -1, 0)
            frames[t, b, row, column] += 1
        return one_answer(frames.reshape(length, count, size * size), labels)

    return Problem(draw, size * size, 4, "accuracy", 1 / 4)


def opinion(rng: np.random.Generator, positive: bool) -> Pair:
    """One opinion: two clauses joined by "but", of which the second counts, or by "and", where they agree.

    "not" turns a judgement round, and each clause has it at even odds whatever it means to say: no word by
    itself gives the answer away.

    Returns:
      The words, and ``("positive",)`` or ``("negative",)``.
    """
    link = pick(rng, ("but", "and"))
    meant = (positive ^ (link == "but"), positive)
    clauses = []
    for topic, good in zip(rng.choice(TOPICS, 2, replace=False), meant):
        turned = bool(rng.integers(2))
        word = pick(rng, GOOD if good ^ turned else BAD)
        clauses.append(("the", str(topic), "was", *(("not",) if turned else ()), word))
    return Pair((*clauses[0], link, *clauses[1]), ("positive" if positive else "negative",))


def sentiment() -> TextProblem:
    """Opinions to classify as positive or negative, half of each.

    Returns:
      A problem of pairs (words, one label).
    """

    def draw(rng: np.random.Generator, count: int) -> list[Pair]:
        return [opinion(rng, bool(label)) for label in balanced(rng, count, 2)]

    words = tuple(sorted({"the", "was", "not", "but", "and", *TOPICS, *GOOD, *BAD}))
    return TextProblem(draw, words, ("negative", "positive"), "accuracy", 1 / 2)
