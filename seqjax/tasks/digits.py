"""Strips of handwritten or printed digits, captioned in words."""

from typing import NamedTuple

import numpy as np

from seqjax.tasks.problem import deviation, whole

INKS = ("red", "green", "blue")
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

_ROWS = """
.###. ..#.. .###. .###. ...#. ##### .###. ##### .###. .###.
#...# .##.. #...# #...# ..##. #.... #.... ....# #...# #...#
#...# ..#.. ....# ....# .#.#. ####. #.... ...#. #...# #...#
#...# ..#.. ..##. ..##. #..#. ....# ####. ..#.. .###. .####
#...# ..#.. .#... ....# ##### ....# #...# ..#.. #...# ....#
#...# ..#.. #.... #...# ...#. #...# #...# .#... #...# ....#
.###. .###. ##### .###. ...#. .###. .###. .#... .###. .###.
"""
FONT = np.array([list(line.replace(" ", "")) for line in _ROWS.split("\n") if line]) == "#"
FONT = FONT.reshape(7, 10, 5).swapaxes(0, 1)


class Strips(NamedTuple):
    """``images [n, height, width]`` of float32 in [0, 1], ``[n, height, width, 3]`` in colour; of each its words."""

    images: np.ndarray
    captions: list[tuple[str, ...]]


def digit_strips(
    rng: np.random.Generator,
    count: int,
    *,
    pictures: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    shortest: int = 3,
    longest: int = 5,
    noise: float = 0.1,
    coloured: bool = False,
) -> Strips:
    """Pictures of ``shortest`` to ``longest`` digits side by side, and what they say in words.

    Digits stand in order on a strip as wide as the longest needs, at random distances and heights. Guessing a
    whole caption succeeds with probability 10^-shortest / (longest - shortest + 1) at best. Where they are coloured,
    each digit is red, green or blue, its colour comes before its name, and 30 stands in the place of 10.

    Args:
      rng: where digits, places and noise come from.
      count: how many strips.
      pictures: ``[n, height, width]`` of bytes to take digits from; None for the built-in 5 × 7 font.
      labels: ``[n]`` what they show; needed with ``pictures``.
      shortest: the smallest number of digits.
      longest: the largest number of digits.
      noise: standard deviation of the noise on every pixel.
      coloured: whether digits have colours.

    Returns:
      The strips; their height and width depend on the pictures' size and ``longest`` alone.

    Raises:
      ValueError: pictures and labels that do not belong together, or lengths in the wrong order.

    Example:
      >>> import numpy as np
      >>> strips = digit_strips(np.random.default_rng(0), 2)
      >>> strips.images.shape, strips.captions[0]
      ((2, 11, 35), ('two', 'four', 'nine'))
    """
    whole("digit_strips", 1, shortest=shortest)
    whole("digit_strips", shortest, longest=longest)
    deviation("digit_strips", noise)
    if (pictures is None) != (labels is None):
        raise ValueError("digit_strips: expected pictures and labels together, got one of them. Give both or none.")
    glyphs = FONT.astype(np.float32) if pictures is None else np.asarray(pictures)
    shown = np.arange(10) if labels is None else np.asarray(labels)
    if glyphs.ndim != 3 or shown.shape != glyphs.shape[:1] or set(np.unique(shown)) != set(range(10)):
        raise ValueError(
            f"digit_strips: expected pictures [n, height, width] and labels [n] of all ten digits, got "
            f"{glyphs.shape} and {shown.shape}. Read both from the same set."
        )
    scale = 255.0 if glyphs.dtype == np.uint8 else 1.0
    by_digit = [np.flatnonzero(shown == digit) for digit in range(10)]
    height, width = glyphs.shape[1:]
    gap = 2
    size = (count, height + 2 * gap, longest * (width + gap), *(len(INKS),) * coloured)
    strips = rng.normal(0, noise, size).astype(np.float32)
    captions = []
    for strip in strips:
        sequence = rng.integers(0, 10, rng.integers(shortest, longest + 1))
        free = strip.shape[1] - len(sequence) * width
        spaces = np.diff(np.sort(rng.integers(0, free + 1, len(sequence))), prepend=0)
        inks = rng.integers(0, len(INKS), len(sequence)) if coloured else [None] * len(sequence)
        left = 0
        for digit, space, ink in zip(sequence, spaces, inks):
            left += space
            top = rng.integers(0, 2 * gap + 1)
            glyph = glyphs[rng.choice(by_digit[digit])]
            shade = strip if ink is None else strip[..., ink]
            shade[top : top + height, left : left + width] += glyph.astype(np.float32) / np.float32(scale)
            left += width
        words = [(NAMES[digit],) if ink is None else (INKS[ink], NAMES[digit]) for digit, ink in zip(sequence, inks)]
        captions.append(tuple(word for both in words for word in both))
    return Strips(np.clip(strips, 0, 1), captions)
