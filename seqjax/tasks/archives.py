"""Files and archives as bytes: what an archive unpacks to is bounded, whatever it claims.

A name that ends in ``.gz`` is unpacked, and so is a ``.zip`` that holds one file beside those whose names begin with an
underscore.
"""

import contextlib
import contextvars
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DAMAGE = (
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    lzma.LZMAError,
    zipfile.BadZipFile,
    zlib.error,
)  # what unpacking raises
TIMES = 4  # its own size, that an archive may unpack to
PIECE = 2**20
_LARGEST = contextvars.ContextVar("largest", default=10**9)


class TooLarge(ValueError):
    """A file that unpacks to more than it may."""


@contextlib.contextmanager
def at_most(size: float) -> Iterator[None]:
    """While it lasts, an archive may unpack to so many bytes, or to four times its own size where that is more.

    >>> with at_most(2e9):
    ...     room(1000)
    2000000000
    """
    token = _LARGEST.set(int(size))
    try:
        yield
    finally:
        _LARGEST.reset(token)


def room(size: int) -> int:
    """Bytes that an archive of so many may unpack to: a gigabyte, or what `at_most` says."""
    return max(TIMES * size, _LARGEST.get())


def too_large(path: str | Path, size: int, claim: str) -> TooLarge:
    """The complaint about a file of so many bytes."""
    return TooLarge(
        f"{path}: expected a file of {size:,} bytes to unpack to at most {room(size):,}, got {claim}. If you trust it, "
        "raise the limit by --largest, in gigabytes, or in Python by seqjax.tasks.archives.at_most."
    )


def check_file(path: Path) -> int:
    """The size of a file.

    Raises:
      FileNotFoundError: there is no such file, or it is a folder.
      ValueError: it is empty.
    """
    if not path.is_file():
        got = "a folder" if path.is_dir() else "none"
        raise FileNotFoundError(f"{path}: expected a file, got {got}. Check the path.")
    size = path.stat().st_size
    _check_content(path, size)
    return size


def read_bytes(path: str | Path) -> bytes:
    """The bytes of a file, unpacked if it is a ``.gz`` or a ``.zip``.

    Raises:
      FileNotFoundError: there is no such file, or it is a folder.
      ValueError: an empty or damaged file, one that unpacks to more than four times its size and a gigabyte, or a
        ``.zip`` that is encrypted or without exactly one text.
    """
    path = Path(path)
    size, names = check_file(path), [path.name]
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as file:
                data = _within(path, size, file)
        elif path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                names = [n for n in archive.namelist() if not Path(n).name.startswith("_") and not n.endswith("/")]
                data = _only(path, size, archive, names[0]) if len(names) == 1 else b""
        else:
            data = path.read_bytes()
    except TooLarge:
        raise
    except DAMAGE as error:
        raise ValueError(
            f"{path}: expected a whole archive, got one that does not unpack ({error}). Fetch it again."
        ) from error
    if len(names) != 1:
        raise ValueError(f"{path}: expected one text in the archive, got {names}. Unpack it by hand.")
    _check_content(path, len(data))
    return data


def _only(path: Path, size: int, archive: zipfile.ZipFile, name: str) -> bytes:
    claimed = archive.getinfo(name).file_size
    if claimed > room(size):
        raise too_large(path, size, f"one that says {claimed:,}")
    with archive.open(name) as file:
        return _within(path, size, file)


def _within(path: Path, size: int, file: Any) -> bytes:
    """All that a file holds, unpacked piece by piece."""
    data = io.BytesIO()
    while piece := file.read(PIECE):
        data.write(piece)
        if data.tell() > room(size):
            raise too_large(path, size, "one that goes on")
    return data.getvalue()


def _check_content(path: Path, size: int) -> None:
    if not size:
        raise ValueError(f"{path}: expected some content, got an empty file. Choose another.")
