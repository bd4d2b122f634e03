"""Readers of numbers: series, pictures, piano rolls. Every complaint names the file."""

import math
from collections.abc import Sequence
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


def read_labelled_images(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Images in IDX format, and their labels from the file beside it that is named alike, as those of MNIST are.

    ``train-images-idx3-ubyte.gz`` and ``train-labels-idx1-ubyte.gz``, either packed or not.

    Returns:
      Images ``[n, height, width]`` and labels ``[n]`` of uint8.

    Raises:
      FileNotFoundError: one of the files is not there.
      ValueError: one of them is damaged, or they do not belong together.

    Example:
      >>> import tempfile
      >>> folder, two = Path(tempfile.mkdtemp()), bytes([0, 0, 0, 2])
      >>> _ = (folder / "t10k-images-idx3-ubyte").write_bytes(bytes([0, 0, 8, 3]) + 3 * two + bytes(range(8)))
      >>> _ = (folder / "t10k-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1]) + two + bytes([7, 1]))
      >>> images, labels = read_labelled_images(folder / "t10k-images-idx3-ubyte")
      >>> images[1].tolist(), labels.tolist()
      ([[4, 5], [6, 7]], [7, 1])
    """
    images = Path(path)
    plain = images.name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1")
    beside = [images.with_name(name) for name in (plain, f"{plain}.gz")]
    labels = next((other for other in beside if other.is_file()), beside[0])
    pictures, answers = read_idx(images), read_idx(labels)
    if pictures.ndim != 3 or answers.shape != pictures.shape[:1]:
        raise ValueError(
            f"{images}: expected images [n, height, width] and n labels in {labels.name}, got shapes {pictures.shape} "
            f"and {answers.shape}. Check the files."
        )
    return pictures, answers


def read_piano_rolls(
    path: str | Path, splits: Sequence[str] = ("train", "valid", "test")
) -> dict[str, list[np.ndarray]]:
    """Piano rolls from a MATLAB file with the keys ``traindata``, ``validdata``, ``testdata``.

    Args:
      path: of the file.
      splits: those to read; the file may lack the others.

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
    read: dict[str, list[np.ndarray]] = {}
    for split in splits:
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
        read[split] = [roll.astype(np.float32) for roll in rolls]
    return read
