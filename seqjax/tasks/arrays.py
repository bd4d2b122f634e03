"""Readers of numbers: series, pictures, piano rolls. Every complaint names the file."""

import math
from pathlib import Path

import numpy as np

from seqjax.tasks.archives import TooLarge, read_bytes, room, too_large
from seqjax.tasks.matlab import read_variables
from seqjax.tasks.readers import read_lines


def read_series(path: str | Path) -> np.ndarray:
    """Numbers separated by blanks or commas, one tick a line: ``[T, d]`` of float64.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: something that is no finite number, or lines of unequal length.
    """
    rows: list[list[float]] = []
    for number, line in enumerate(read_lines(path), 1):
        try:
            row = [float(field) for field in line.replace(",", " ").split()]
        except ValueError:
            row = []
        if not row:
            raise ValueError(f"{path}, line {number}: expected numbers, got {line[:60]!r}. Repair it.")
        if not np.isfinite(row).all() or (rows and len(row) != len(rows[0])):
            raise ValueError(
                f"{path}, line {number}: expected {len((rows or [row])[0])} finite numbers, got "
                f"{line[:60]!r}. "
                "Repair it."
            )
        rows.append(row)
    return np.array(rows)


def read_idx(path: str | Path) -> np.ndarray:
    """An array of unsigned bytes in IDX format, the format of the MNIST digits.

    Returns:
      uint8, for images ``[n, height, width]``, for labels ``[n]``.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: not IDX, not of unsigned bytes, cut short, or of nothing.
    """
    data = read_bytes(path)
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != 8 or not data[3] or len(data) < 4 + 4 * data[3]:
        raise ValueError(
            f"{path}: expected an IDX file of unsigned bytes, got header {data[:4].hex()}. Check the file."
        )
    shape = tuple(np.frombuffer(data, ">u4", data[3], 4).tolist())
    start, size = 4 + 4 * data[3], math.prod(shape)
    if not size:
        raise ValueError(f"{path}: expected at least one byte, got shape {shape}. Choose another file.")
    if len(data) - start != size:
        raise ValueError(f"{path}: expected {size} bytes for shape {shape}, got {len(data) - start}. Fetch it again.")
    return np.frombuffer(data, np.uint8, size, start).reshape(shape)


def read_piano_rolls(path: str | Path) -> dict[str, list[np.ndarray]]:
    """Piano rolls from a MATLAB file with the keys ``traindata``, ``validdata``, ``testdata``.

    Returns:
      ``{"train": rolls, "valid": rolls, "test": rolls}``, a roll ``[T, keys]`` of float32 zeros and ones.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: a missing key, no roll, an empty one, or anything but zeros and ones.
    """
    data = read_bytes(path)
    try:
        content = read_variables(path, data)
    except TooLarge:
        raise
    except Exception as error:  # on a damaged file it raises whatever the bytes lead to
        raise ValueError(
            f"{path}: expected a MATLAB file of piano rolls, got another or a damaged one ({error}). Fetch it again."
        ) from error
    splits = {}
    for split in ("train", "valid", "test"):
        if f"{split}data" not in content:
            raise ValueError(f"{path}: expected the key {split}data, got {sorted(content)}. Check the file.")
        cells = content[f"{split}data"]
        if cells.dtype != object:
            raise ValueError(f"{path}: expected a cell array of rolls in {split}data, got numbers. Check the file.")
        rolls = [np.asarray(roll) for roll in np.ravel(cells)]
        if not rolls:
            raise ValueError(f"{path}: expected rolls in {split}data, got none. Check the file.")
        for i, roll in enumerate(rolls):
            numbers = roll.dtype.kind in "biuf"
            alike = roll.ndim == 2 and roll.size and roll.shape[1] == rolls[0].shape[1]
            if not numbers or not alike or not np.isin(roll, (0, 1)).all():
                found = sorted(map(str, np.unique(roll)))[:3] if numbers else [f"those of type {roll.dtype}"]
                raise ValueError(
                    f"{path}: expected roll {i} of {split}data to be [T, keys] of zeros and ones with as many keys as "
                    f"the first, got shape {roll.shape} with values such as {', '.join(found)}. Check the file."
                )
        if (size := 4 * sum(roll.size for roll in rolls)) > room(len(data)):
            raise too_large(path, len(data), f"rolls that take {size:,}")
        splits[split] = [roll.astype(np.float32) for roll in rolls]
    return splits
