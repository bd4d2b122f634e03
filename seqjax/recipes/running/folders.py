"""Folders of new runs: each is of one process alone, whoever else starts in the same second."""

import contextlib
import datetime
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seqjax.recipes.running import lock
from seqjax.recipes.running.options import BadInput, RunOptions


def new(recipe: str, options: Any) -> Path:
    """An empty folder that is this process's own: the one asked for, or one of the command and the time."""
    if options.run_dir is None:
        folder = named(recipe)
        lock.take(recipe, folder)
        return folder
    folder = Path(options.run_dir)
    with writable(recipe, folder):
        folder.mkdir(parents=True, exist_ok=True)
        refuse_taken(recipe, folder, options)
        lock.take(recipe, folder)
        refuse_taken(recipe, folder, options)  # by one that has come and gone meanwhile
    return folder


def named(recipe: str) -> Path:
    """Makes a folder of the command and the time."""
    with writable(recipe, Path("runs")):
        return own(Path("runs") / f"{recipe}-{datetime.datetime.now():%Y%m%d-%H%M%S}")


def own(stem: Path) -> Path:
    """Makes a folder of that name that nobody else has made, with a number behind it if it must be."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    for n in itertools.count(1):
        folder = stem if n == 1 else stem.with_name(f"{stem.name}-{n}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise AssertionError


def refuse_taken(recipe: str, folder: Path, options: Any) -> None:
    """Refuses a folder with files of anybody else's in it."""
    if any(path.name not in lock.NAMES for path in folder.iterdir()):
        resuming = f", or go on with that run by --resume {folder}" if isinstance(options, RunOptions) else ""
        raise BadInput(
            f"{recipe}: expected --run-dir to be new or empty, got {folder} with files in it. "
            f"Choose another folder{resuming}."
        )


@contextlib.contextmanager
def writable(recipe: str, folder: Path) -> Iterator[None]:
    """What cannot be written in this block is the folder's fault."""
    try:
        yield
    except OSError as error:
        raise BadInput(
            f"{recipe}: expected --run-dir to be a folder that can be written, got {folder} "
            f"({error.strerror}). Choose another folder."
        ) from error
