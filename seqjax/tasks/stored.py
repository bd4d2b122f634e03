"""Numbers that are read where they are asked for: any of them by a slice, all of them never."""

import contextlib
import errno
import tempfile
import weakref
from collections.abc import Iterable, Sequence
from typing import Any, BinaryIO, Protocol

import numpy as np


def temporary(owner: object, pieces: Iterable[bytes]) -> BinaryIO:
    """A file of these bytes without a name, that is gone with its owner.

    Raises:
      OSError: there is no room for it.
    """
    file = tempfile.TemporaryFile()  # noqa: SIM115
    weakref.finalize(owner, _close, file)
    try:
        for piece in pieces:
            file.write(piece)
        file.flush()
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise OSError(
            f"expected room for a temporary file in {tempfile.gettempdir()}, got none. Name another folder by TMPDIR."
        ) from error
    return file


def _close(file: BinaryIO) -> None:
    with contextlib.suppress(OSError):  # of what found no room
        file.close()


class Sliced(Protocol):
    """What a slice of is an array ``[n]`` of int32: arrays, `seqjax.tasks.Numbers`, and those here."""

    def __len__(self) -> int:
        """How many."""

    def __getitem__(self, part: slice, /) -> np.ndarray:
        """Some of them."""


class Streamed(Sliced, Protocol):
    """That, read in columns too."""

    def columns(self, starts: Sequence[int], length: int) -> np.ndarray:
        """Pieces side by side, ``[length, len(starts)]``, not to be written to; the last ones asked for are kept."""


class Stored:
    """Numbers in a temporary file, four bytes each, that is gone with them.

    >>> numbers = Stored(np.arange(n) for n in (2, 4))
    >>> len(numbers), numbers[1:4].tolist()
    (6, [1, 0, 1])
    """

    def __init__(self, pieces: Iterable[np.ndarray]):
        """Writes them, a piece after the other."""
        self._file = temporary(self, (piece.astype(np.int32).tobytes() for piece in pieces))
        self._length = self._file.tell() // 4
        self._ahead: tuple[Any, np.ndarray] = (), np.zeros((0, 0), np.int32)

    def __len__(self) -> int:
        """How many."""
        return self._length

    def __getitem__(self, part: slice) -> np.ndarray:
        """Some of them."""
        start, stop, step = part.indices(self._length)
        self._file.seek(4 * start)
        return np.frombuffer(self._file.read(4 * max(stop - start, 0)), np.int32)[::step]

    def columns(self, starts: Sequence[int], length: int) -> np.ndarray:
        """Pieces side by side, as of `Streamed`."""
        asked, found = self._ahead
        if asked != (starts, length):
            found = np.stack([self[start : start + length] for start in starts], axis=1)
            found.flags.writeable = False
            self._ahead = (starts, length), found
        return found


class First:
    """The first ``count`` of other numbers.

    >>> First(Stored([np.arange(9)]), 4)[2:7].tolist()
    [2, 3]
    """

    def __init__(self, numbers: Streamed, count: int):
        """Nothing is read yet."""
        self._numbers, self._length = numbers, count

    def __len__(self) -> int:
        """How many."""
        return self._length

    def __getitem__(self, part: slice) -> np.ndarray:
        """Some of them."""
        return self._numbers[slice(*part.indices(self._length))]

    def columns(self, starts: Sequence[int], length: int) -> np.ndarray:
        """Pieces side by side, as of `Streamed`; all of them among the first."""
        return self._numbers.columns(starts, length)
