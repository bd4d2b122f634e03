"""One process at a time in the folder of a run.

The lock is the system's own, on the file ``.lock``: it ends with the process that has it, however that ends. Beside it
``.lock.json`` says whose it is, so that a second process can say who is there, and that of a process that was killed is
found by the next one. Who only reads a run, to sample from it, takes no lock.
"""

import contextlib
import datetime
import json
import os
import platform
import shlex
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from seqjax.recipes.running.files import replace, tell
from seqjax.recipes.running.options import BadInput

LOCK, OWNER = ".lock", ".lock.json"
NAMES = frozenset({LOCK, OWNER})

_held: dict[Path, tuple[FileLock, int]] = {}  # with the thread that took it
_inside = threading.local()


def take(who: str, folder: Path) -> None:
    """Takes a run's folder for this thread, until `kept` ends or the process does; once more is no matter.

    Raises:
      BadInput: another process is in it, or nothing can be written there.
    """
    place = folder.resolve()
    if place in _held and _held[place][1] == threading.get_ident():
        return
    lock, owner = FileLock(str(place / LOCK), timeout=0), place / OWNER
    try:
        lock.acquire()
        before = _owner(owner)
        replace(owner, json.dumps(_self()))
    except Timeout as error:
        raise BadInput(
            f"{who}: expected {folder} to itself, got {_owner(owner) or 'another process'} in it. Wait until that has "
            "ended, or end it."
        ) from error
    except OSError as error:
        lock.release()
        raise BadInput(
            f"{who}: expected a folder that can be written, got {folder} ({error.strerror or error}). Free it, or copy "
            "it to another place."
        ) from error
    if before:
        tell(f"{who}: {before}, which was in {folder}, is gone: its lock is taken.")
    _held[place] = lock, threading.get_ident()


def give_back(folder: Path) -> None:
    """Leaves a folder that was taken."""
    lock, _ = _held.pop(folder.resolve())
    with contextlib.suppress(OSError):  # the folder may be gone
        (folder / OWNER).unlink()
    lock.release()


def give_all_back() -> None:
    """Leaves every folder, as the process ends."""
    for folder in [*_held]:
        give_back(folder)


@contextlib.contextmanager
def kept(taken: list[Path] | None = None) -> Iterator[None]:
    """Folders that this thread takes inside are given back at the end of the outermost, and fill ``taken`` then."""
    if getattr(_inside, "one", False):
        yield
        return
    mine = lambda: [folder for folder, (_, thread) in _held.items() if thread == threading.get_ident()]
    before, _inside.one = set(mine()), True
    try:
        yield
    finally:
        _inside.one = False
        for folder in mine():
            if folder not in before:
                give_back(folder)
                if taken is not None:
                    taken.append(folder)


def _self() -> dict[str, str | int]:
    now = datetime.datetime.now().isoformat(sep=" ", timespec="seconds")
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return {"process": os.getpid(), "machine": platform.node(), "command": command, "since": now}


def _owner(path: Path) -> str | None:
    """Who it says has the lock."""
    try:
        said = json.loads(path.read_text("utf-8"))
        return f"process {said['process']} of {said['machine']} since {said['since']} ({said['command']})"
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
