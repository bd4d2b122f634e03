"""MATLAB's files of version 5, as far as they hold numbers and cells: no array is larger than the bytes that are there.

References:
  The MathWorks, MAT-File Format. https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf
"""

import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seqjax.tasks.archives import room, too_large

NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
MATRIX, COMPRESSED, CELL = 14, 15, 1
TAG = 8  # bytes: no element has fewer


class Element(NamedTuple):
    """A piece of a file: what it is, its bytes, and where the next one begins."""

    kind: int
    data: memoryview
    end: int


def read_variables(path: str | Path, data: bytes) -> dict[str, np.ndarray]:
    """The variables of a file by name; cells are arrays of objects, what is neither number nor cell an empty object.

    Args:
      path: what complaints call it, and how large it is.
      data: its bytes.

    Raises:
      TooLarge: compressed elements unpack to more than they may, or numbers take more in the type they have here.
      Exception: whatever damaged bytes lead to; nothing is allocated that they only claim.
    """
    marks = {b"IM": "<", b"MI": ">"}
    if len(data) < 128 or data[126:128] not in marks or data[124:126] not in (b"\x00\x01", b"\x01\x00"):
        raise ValueError("no header of version 5")
    order, at, left, variables = marks[data[126:128]], 128, room(len(data)), {}
    spent = 0

    def take(size: int) -> None:
        nonlocal spent
        spent += size
        if spent > room(len(data)):
            raise too_large(path, len(data), f"numbers that take {spent:,}")

    while at < len(data):
        kind, content, at = _element(memoryview(data), at, order, packed=True)
        if kind == COMPRESSED:
            unpacker = zlib.decompressobj()
            whole = unpacker.decompress(content, left)
            if unpacker.unconsumed_tail or not unpacker.eof:
                if len(whole) >= left:
                    raise too_large(path, len(data), "one that goes on")
                raise ValueError("a compressed element that ends early")
            left -= len(whole)
            kind, content, _ = _element(memoryview(whole), 0, order)
        if kind == MATRIX:
            name, matrix = _matrix(content, order, take)
            variables[name] = matrix
    return variables


def _element(data: memoryview, at: int, order: str, packed: bool = False) -> Element:
    """The element that begins there; small ones have their bytes in the tag, others are filled up to eights."""
    first, size = np.frombuffer(data[at : at + TAG], f"{order}u4").tolist()
    kind, small = first & 0xFFFF, first >> 16
    begin, size = (at + 4, small) if small else (at + TAG, size)
    if begin + size > len(data) or small > 4:
        raise ValueError(f"an element of {size:,} bytes where {len(data) - begin:,} are left")
    end = at + TAG if small else begin + size
    filled = end if packed and kind == COMPRESSED else -(-end // TAG) * TAG
    return Element(kind, data[begin : begin + size], filled)


def _matrix(data: memoryview, order: str, take: Callable[[int], None]) -> tuple[str, np.ndarray]:
    flags = _element(data, 0, order)
    sizes = _element(data, flags.end, order)
    title = _element(data, sizes.end, order)
    kind = int(np.frombuffer(flags.data[:4], f"{order}u4")[0]) & 0xFF
    shape, at = tuple(_numbers(sizes, order).tolist()), title.end
    count, left = math.prod(shape), len(data) - at
    name = bytes(title.data).decode("latin-1")
    if min(shape) < 0:
        raise ValueError(f"an array of shape {shape}")
    if kind == CELL:
        if count * TAG > left:
            raise ValueError(f"{count:,} cells in {left:,} bytes")
        cells = np.empty(count, object)
        for i in range(count):
            _, content, at = _element(data, at, order)
            cells[i] = _matrix(content, order, take)[1] if len(content) else np.zeros((0, 0))
        return name, cells.reshape(shape, order="F")
    if kind not in CLASSES:
        return name, np.empty((), object)
    found = _numbers(_element(data, at, order), order)
    if len(found) != count:
        raise ValueError(f"an array of shape {shape} with {len(found):,} numbers")
    take(count * np.dtype(CLASSES[kind]).itemsize)
    return name, found.astype(CLASSES[kind]).reshape(shape, order="F")


def _numbers(element: Element, order: str) -> np.ndarray:
    return np.frombuffer(element.data, order + NUMBERS[element.kind])
