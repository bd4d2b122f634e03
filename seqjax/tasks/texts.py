"""Texts read in place: a few characters at a time from wherever they are, so that a text may be larger than memory.

One pass over the file says whether it is UTF-8, how long it is, which characters it has, and where every 512th one is;
after that a slice costs a read of its own length and half a kilobyte. Where every byte is a character, as in English,
nothing is decoded.
"""

import contextlib
import functools
import hashlib
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from seqjax.tasks.archives import check_file, read_bytes
from seqjax.tasks.stored import Streamed
from seqjax.tasks.vocabulary import Vocabulary

STRIDE = 512  # characters from one known place in the file to the next
PIECE = 2**22  # bytes, or characters, at once
BLOCK = 2**18  # numbers that are read ahead for windows to come
MARK = b"\xef\xbb\xbf"  # that some editors put before UTF-8
LINE = ord("\n")


class Text:
    """A UTF-8 text: slices of it are strings; a line may end in LF, CR LF or CR, and ends in LF here.

    Args:
      source: the path of a file, or the bytes themselves.
      name: what complaints call it.

    Attributes:
      counts: how often each character occurs.

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
        counts, places = np.zeros(256, np.int64), []
        self._length, self._bare = 0, True
        with self._opened() as file:
            at = self._first = len(MARK) if file.read(len(MARK)) == MARK else 0
            while at < size:
                file.seek(at)
                raw = _whole(file.read(PIECE), at + PIECE >= size)
                bare = _is_bare(raw)
                begins = range(len(raw)) if bare else np.flatnonzero(_begins(raw))
                places.append(at + np.asarray(begins[-self._length % STRIDE :: STRIDE], np.int64))
                at, self._length, self._bare = at + len(raw), self._length + len(begins), self._bare and bare
                counts = self._counted(raw, bare, counts)
        self._places = np.concatenate([*places, [size]])
        self.counts = Counter({chr(code): int(counts[code]) for code in np.flatnonzero(counts)})

    @functools.cached_property
    def sha256(self) -> str:
        """Of the text in UTF-8, as it is here."""
        digest = hashlib.sha256()
        for piece in self.pieces():
            digest.update(piece.encode())
        return digest.hexdigest()

    def __len__(self) -> int:
        """Characters."""
        return self._length

    def __getitem__(self, part: slice) -> str:
        """A piece; whole characters, one after the other."""
        start, stop, step = part.indices(self._length)
        if step != 1:
            raise ValueError(f"Text: expected a slice of step 1, got {step}. Take every character of it.")
        with self._opened() as file:
            return self._part(file, start, stop)

    def pieces(self) -> Iterator[str]:
        """All of it, a piece at a time."""
        return (self[at : at + PIECE] for at in range(0, len(self), PIECE))

    def codes(self, starts: Sequence[int], length: int) -> np.ndarray:
        """The characters' numbers in Unicode, of pieces that are equally long: ``[len(starts), length]``.

        >>> Text(b"abcdef").codes([1, 3], 2).tolist()
        [[98, 99], [100, 101]]
        """
        with self._opened() as file:
            if not self._bare:
                codes = _codes("".join(self._part(file, start, start + length) for start in starts))
            else:
                pieces = [self._bytes(file, start, start + length) for start in starts]
                codes = np.frombuffer(b"".join(pieces), np.uint8)
        return codes.reshape(len(starts), length)

    def _opened(self) -> contextlib.AbstractContextManager[Any]:
        return io.BytesIO(self._source) if isinstance(self._source, bytes) else open(self._source, "rb")

    def _bytes(self, file: Any, start: int, stop: int) -> bytes:
        file.seek(self._first + start)
        return file.read(stop - start)

    def _part(self, file: Any, start: int, stop: int) -> str:
        if stop <= start:
            return ""
        if self._bare:
            return self._bytes(file, start, stop).decode()
        first = start // STRIDE
        begin, end = self._places[first], self._places[-(-stop // STRIDE)]
        file.seek(begin)
        return _ended(file.read(end - begin)).decode()[start - first * STRIDE : stop - first * STRIDE]

    def _counted(self, raw: bytes, bare: bool, counts: np.ndarray) -> np.ndarray:
        """The counts with those of a piece, or a complaint about it."""
        data, line = raw if bare else _ended(raw), 1 + counts[LINE]
        nul = data.find(b"\0")
        try:
            found = _bytes_counted(data) if bare else np.bincount(_codes(data.decode()))
        except UnicodeDecodeError as error:
            self._complain(data, error.start, line)
        if nul >= 0:
            self._complain(data, nul, line)
        few, more = sorted((found, counts), key=len)
        more[: len(few)] += few
        return more

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
        self._ahead: tuple[Any, np.ndarray] = (), np.zeros((0, 0), np.int32)
        known = {symbol: number for number, symbol in enumerate(vocabulary.symbols) if len(symbol) == 1}
        other = -1 if vocabulary.unk is None else vocabulary.unk
        self._complete = other >= 0 or text.counts.keys() <= known.keys()
        self._table = np.full(1 + max(map(ord, text.counts), default=0), other, np.int32)
        for symbol in text.counts.keys() & known.keys():
            self._table[ord(symbol)] = known[symbol]

    def __len__(self) -> int:
        """Characters."""
        return len(self._text)

    def __getitem__(self, part: slice) -> np.ndarray:
        """A piece."""
        start, stop, step = part.indices(len(self))
        if step != 1:
            raise ValueError(f"Numbers: expected a slice of step 1, got {step}. Take every number of it.")
        return self._numbers(self._text.codes([start], max(stop - start, 0))[0])

    def columns(self, starts: Sequence[int], length: int) -> np.ndarray:
        """Pieces side by side, ``[length, len(starts)]``, not to be written to; the last ones asked for are kept."""
        asked, found = self._ahead
        if asked != (starts, length):
            found = self._numbers(np.ascontiguousarray(self._text.codes(starts, length).T))
            found.flags.writeable = False
            self._ahead = (starts, length), found
        return found

    def _numbers(self, codes: np.ndarray) -> np.ndarray:
        numbers = self._table.take(codes)
        if not self._complete and (numbers < 0).any():
            self._vocabulary.encode(map(chr, codes.ravel().tolist()))  # which complains
        return numbers


def window(numbers: Streamed, count: int, size: int, length: int, number: int) -> np.ndarray:
    """A window of the first ``count`` numbers in contiguous columns, as `seqjax.tasks.streams` cuts them.

    Args:
      numbers: the text.
      count: how many of them are streamed.
      size: columns.
      length: ticks from window to window.
      number: of the window, from 0.

    Returns:
      ``[length + 1, size]``, not to be written to: the last row is what follows. Windows to come are read ahead.

    >>> window(Numbers(Text(b"abcdefg"), Vocabulary("abcdefg")), 6, 2, 1, 1).T.tolist()
    [[1, 2], [4, 5]]
    """
    rows = count // size
    ahead = BLOCK // (size * length) | 1  # odd: pieces of 4096 bytes would share one place in the cache
    first = number // ahead * ahead * length
    block = numbers.columns(range(first, rows * size, rows), min(ahead * length + 1, rows - first))
    return block[number * length - first :][: length + 1]


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


def _is_bare(raw: bytes) -> bool:
    """Whether every byte is a character as it stands."""
    return raw.isascii() and b"\r" not in raw


def _bytes_counted(data: bytes) -> np.ndarray:
    """How often each of 256 bytes occurs, by pairs of them: half as many look-ups."""
    pairs = np.bincount(np.frombuffer(data, np.uint16, len(data) // 2), minlength=2**16).reshape(256, 256)
    return pairs.sum(0) + pairs.sum(1) + np.bincount(np.frombuffer(data[len(data) // 2 * 2 :], np.uint8), minlength=256)


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
