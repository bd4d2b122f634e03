"""What a trained run can be asked: a question comes in, a reply goes out, and what the model does not know is said."""

import re
from collections.abc import Callable, Container, Sequence
from typing import NamedTuple

import numpy as np

from seqjax.tasks.vocabulary import Vocabulary

LENGTHS = 16  # questions are padded to multiples of it, so that few programs are compiled


class NoQuestion(ValueError):
    """What was typed is not what this run can be asked; the message says why, without a full stop."""


class Reply(NamedTuple):
    """What a model makes of a question.

    Attributes:
      text: its answer.
      unknown: what of the question it does not know, each once.
      note: what else the reader should know of the answer.
    """

    text: str
    unknown: tuple[str, ...] = ()
    note: str = ""


class Several(NamedTuple):
    """How many answers, best first, by a beam in groups that avoid each other's symbols, as `seqjax.Diversity`."""

    answers: int
    groups: int = 1
    diversity: float = 0.5


class Asked(NamedTuple):
    """A run that can be asked.

    Attributes:
      kind: what a question is, in words.
      example: of a question.
      reply: to a question; raises `NoQuestion`.
      whole: whether the lines so far are a whole question.
      several: ``(question, several) -> Reply``, a line an answer, its score first; None for a run that has one.
    """

    kind: str
    example: str
    reply: Callable[[str], Reply]
    whole: Callable[[str], bool] = lambda lines: True
    several: Callable[..., Reply] | None = None


def unknown(symbols: Sequence[str], vocabulary: Container[str] | Vocabulary) -> tuple[str, ...]:
    """Those that a vocabulary lacks, each once.

    >>> unknown("the cat the hat".split(), {"the"})
    ('cat', 'hat')
    """
    return tuple(dict.fromkeys(symbol for symbol in symbols if symbol not in vocabulary))


def encode(symbols: Sequence[str], vocabulary: Vocabulary, what: str = "symbols") -> np.ndarray:
    """As numbers; no question where one is unknown and there is no ``<unk>`` to read it as."""
    odd = unknown(symbols, vocabulary)
    if odd and vocabulary.unk is None:
        raise NoQuestion(f"with {what} that the model has never seen: {' '.join(map(repr, odd))}")
    if not len(symbols):
        raise NoQuestion(f"without {what}")
    return vocabulary.encode(symbols)


def numbers(question: str, size: int) -> np.ndarray:
    """Ticks of so many numbers, ``[T, size]``: ticks apart by semicolons, numbers by blanks or commas.

    Where a tick is one number, blanks and commas part ticks too.

    >>> numbers("1 2; 3 4", 2).tolist(), numbers("1, 2 3", 1).tolist()
    ([[1.0, 2.0], [3.0, 4.0]], [[1.0], [2.0], [3.0]])
    """
    ticks = re.split(r"[;,\s]+" if size == 1 else ";", question.strip(" ;,\n"))
    try:
        rows = [[float(number) for number in re.split(r"[,\s]+", tick.strip(" ,"))] for tick in ticks]
    except ValueError:
        raise NoQuestion("with something that is no number") from None
    if {len(row) for row in rows} != {size}:
        raise NoQuestion(f"of {' or '.join(map(str, sorted({len(row) for row in rows})))} numbers a tick, not {size}")
    values = np.array(rows, np.float32)
    if not np.isfinite(values).all():
        raise NoQuestion("with a number that is not finite")
    return values


def picture(path: str, *, coloured: bool = False) -> np.ndarray:
    """A picture in a file, from 0 to 1: its brightness ``[height, width]``, or its colours ``[height, width, 3]``."""
    from matplotlib.image import imread

    try:
        read = np.asarray(imread(path))
    except (OSError, ValueError, SyntaxError) as error:
        raise NoQuestion(f"a file that cannot be read as a picture ({error})".replace("\n", " ")) from None
    bright = read / 255 if read.dtype == np.uint8 else read
    if coloured:
        return (bright[..., None].repeat(3, -1) if bright.ndim == 2 else bright[..., :3]).astype(np.float32)
    return (bright if bright.ndim == 2 else bright[..., :3].mean(-1)).astype(np.float32)


def of_size(path: str, height: int, width: int, *, coloured: bool = False) -> np.ndarray:
    """A `picture` of that size."""
    found = picture(path, coloured=coloured)
    if found.shape[:2] != (height, width):
        raise NoQuestion(f"a picture of {found.shape[0]} × {found.shape[1]} pixels, not {height} × {width}")
    return found


def rounded(length: int) -> int:
    """What a question of that length is padded to."""
    return -(-length // LENGTHS) * LENGTHS
