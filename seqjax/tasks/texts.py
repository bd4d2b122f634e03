"""Texts read in place: a few characters at a time from wherever they are, so that a text may be larger than memory.

One pass over the file says whether it is UTF-8, how long it is, which characters it has, and where every 4096th one is;
after that a slice costs a read of a few kilobytes.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from seqjax.tasks.archives import check_file, read_bytes
from seqjax.tasks.vocabulary import Vocabulary

STRIDE = 4096  # characters from one known place in the file to the next
PIECE = 2**22  # bytes, or characters, at once
MARK = b"\xef\xbb\xbf"  # that some editors put before UTF-8
LAST = 0x110000  # behind the last character of Unicode


class Text:
    """A UTF-8 text: slices of it are strings; a line may end in LF, CR LF or CR, and ends in LF here.

    Args:
      source: the path of a file, or the bytes themselves.
      name: what complaints call it.

    Attributes:
      counts: how often each character occurs.
      sha256: of the text in UTF-8, as it is here.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: bytes that are not UTF-8, or a NUL among them.

    Example:
      >>> text = Text("grün und blau".encode())
      >>> len(text), text[2:8], text.counts["u"]
      (13, 'ün und', 2)
    """

    def __init__(self, source: str | Path | bytes, name: str = "text"):
        """Reads it through once."""
        self._source, self._name = source, name if isinstance(source, bytes) else str(source)
        size = len(source) if isinstance(source, bytes) else check_file(Path(source))
        at = len(MARK) if self._raw(0, len(MARK)) == MARK else 0
        digest, counts, places = hashlib.sha256(), np.zeros(LAST, np.int64), []
        self._length, lines = 0, 1
        while at < size:
            raw = _whole(self._raw(at, at + PIECE), at + PIECE >= size)
            begins = np.flatnonzero(_begins(raw))
            places.append(at + begins[-self._length % STRIDE :: STRIDE])
            at, self._length = at + len(raw), self._length + len(begins)
            lines += self._read(raw, lines, digest, counts)
        self._places = np.concatenate([*places, [size]])
        self.counts = Counter({chr(code): int(counts[code]) for code in np.flatnonzero(counts)})
        self.sha256 = digest.hexdigest()

    def __len__(self) -> int:
        """Characters."""
        return self._length

    def __getitem__(self, part: slice) -> str:
        """A piece; whole characters, one after the other."""
        start, stop, step = part.indices(self._length)
        if step != 1:
            raise ValueError(f"Text: expected a slice of step 1, got {step}. Take every character of it.")
        if stop <= start:
            return ""
        first = start // STRIDE
        raw = self._raw(self._places[first], self._places[-(-stop // STRIDE)])
        return _ended(raw).decode()[start - first * STRIDE : stop - first * STRIDE]

    def pieces(self) -> Iterator[str]:
        """All of it, a piece at a time."""
        return (self[at : at + PIECE] for at in range(0, len(self), PIECE))

    def _raw(self, start: int, stop: int) -> bytes:
        if isinstance(self._source, bytes):
            return self._source[start:stop]
        with open(self._source, "rb") as file:
            file.seek(start)
            return file.read(stop - start)

    def _read(self, raw: bytes, line: int, digest: Any, counts: np.ndarray) -> int:
        """Takes a piece into account, or complains; how many lines it ends."""
        data = _ended(raw)
        nul = data.find(b"\0")
        try:
            codes = _codes(data.decode())
        except UnicodeDecodeError as error:
            self._complain(data, error.start, line)
        if nul >= 0:
            self._complain(data, nul, line)
        digest.update(data)
        found = np.bincount(codes)
        counts[: len(found)] += found
        return data.count(b"\n")

    def _complain(self, data: bytes, at: int, line: int) -> NoReturn:
        line += data[:at].count(b"\n")
        raise ValueError(
            f"{self._name}, line {line}: expected UTF-8, got byte {data[at]:#04x}. Convert the file to UTF-8."
        )


class Numbers:
    """A text as numbers of a vocabulary, encoded where it is asked for: a slice is ``[n]`` of int32.

    Raises:
      ValueError: a character that the vocabulary has not, once it is met.

    >>> text = Text(b"abcab")
    >>> Numbers(text, Vocabulary("cba"))[1:4].tolist()
    [1, 0, 2]
    """

    def __init__(self, text: Text, vocabulary: Vocabulary):
        """Nothing is read yet."""
        self._text, self._vocabulary = text, vocabulary
        self._table = np.full(LAST, -1, np.int32)
        self._table[[ord(symbol) for symbol in vocabulary.symbols if len(symbol) == 1]] = [
            number for number, symbol in enumerate(vocabulary.symbols) if len(symbol) == 1
        ]

    def __len__(self) -> int:
        """Characters."""
        return len(self._text)

    def __getitem__(self, part: slice) -> np.ndarray:
        """A piece."""
        piece = self._text[part]
        numbers = self._table[_codes(piece)]
        return numbers if (numbers >= 0).all() else self._vocabulary.encode(piece)  # which complains, or has <unk>


def window(numbers: Numbers, count: int, size: int, length: int, number: int) -> np.ndarray:
    """A window of the first ``count`` numbers in contiguous columns, as `seqjax.tasks.streams` cuts them.

    Args:
      numbers: the text.
      count: how many of them are streamed.
      size: columns.
      length: ticks from window to window.
      number: of the window, from 0.

    Returns:
      ``[length + 1, size]``: the last row is what follows.

    >>> window(Numbers(Text(b"abcdefg"), Vocabulary("abcdefg")), 6, 2, 1, 1).T.tolist()
    [[1, 2], [4, 5]]
    """
    starts = np.arange(size) * (count // size) + number * length
    return np.stack([numbers[start : start + length + 1] for start in starts.tolist()], axis=1)


def open_text(path: str | Path) -> Text:
    r"""A text in place; an archive is unpacked into memory.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: an empty or damaged file, bytes that are not UTF-8, or a NUL among them.

    Example:
      >>> import tempfile
      >>> path = Path(tempfile.mkdtemp(), "text.txt")
      >>> _ = path.write_text("one line, and another")
      >>> open_text(path)[4:8]
      'line'
    """
    return Text(read_bytes(path), str(path)) if Path(path).suffix in (".gz", ".zip") else Text(path)


def read_text(path: str | Path) -> str:
    """A UTF-8 text; a line may end in LF, CR LF or CR, and ends in LF here.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: an empty file, bytes that are not UTF-8, or a NUL among them.
    """
    return open_text(path)[:]


def _whole(raw: bytes, last: bool) -> bytes:
    """Without what may go on behind: a CR, a character that is cut."""
    if last:
        return raw
    for back in range(1, 4):  # the last character's first byte
        if raw[-back] & 0xC0 != 0x80:
            length = 1 + sum(raw[-back] >= least for least in (0xC0, 0xE0, 0xF0))
            return raw[:-back] if length > back or raw[-back:] == b"\r" else raw
    return raw


def _begins(raw: bytes) -> np.ndarray:
    """Where a character begins: not inside one, and not at the LF of CR LF."""
    data = np.frombuffer(raw, np.uint8)
    second = np.zeros(len(data), bool)
    second[1:] = (data[1:] == 0x0A) & (data[:-1] == 0x0D)
    return (data & 0xC0 != 0x80) & ~second


def _ended(raw: bytes) -> bytes:
    return raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _codes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)
