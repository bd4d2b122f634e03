"""Checkpoints, written and read by orbax; a damaged one or one of another model is refused before it is read.

``STEP/`` is what orbax writes; ``STEP.json`` beside it comes last, says that it is whole, and holds a digest
of its files and the types of its arrays.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path

import jax

from seqjax.base import PyTree


def save(folder: Path, step: int, state: PyTree) -> None:
    """Writes the checkpoint of a step, then removes older ones: there is a whole one at any time."""
    import orbax.checkpoint as ocp

    files = (folder / str(step)).absolute()
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(files, state, force=True)
    entry = folder / f"{step}.json"
    entry.with_suffix(".new").write_text(json.dumps({"digest": _digest(files), "arrays": _arrays(state)}), "utf-8")
    os.replace(entry.with_suffix(".new"), entry)
    for path in folder.iterdir():
        if path not in (entry, folder / str(step)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def last_step(folder: Path) -> int | None:
    """The step of the latest whole checkpoint; None before the first."""
    return max((int(path.stem) for path in folder.glob("*.json") if path.stem.isdecimal()), default=None)


def check(folder: Path, step: int) -> dict[str, str]:
    """The types of a checkpoint's arrays.

    Raises:
      ValueError: it is damaged.
    """
    files, entry = (folder / str(step)).absolute(), folder / f"{step}.json"
    try:
        record = json.loads(entry.read_text("utf-8"))
        whole = record["digest"] == _digest(files) and isinstance(record["arrays"], dict)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        whole = False
    if not whole:
        raise ValueError(f"expected the checkpoint {files} as it was written, got a damaged one. Put back its files.")
    return record["arrays"]


def restore(folder: Path, step: int, like: PyTree) -> PyTree:
    """The state of a checkpoint, with the structure, shapes and dtypes of ``like``.

    Raises:
      ValueError: it is damaged, or its arrays are not those of ``like``.
    """
    import orbax.checkpoint as ocp

    files, arrays, expected = (folder / str(step)).absolute(), check(folder, step), _arrays(like)
    for name in expected | arrays:
        wanted, found = expected.get(name, "none"), arrays.get(name, "none")
        if wanted != found:
            raise ValueError(
                f"expected the checkpoint {files} to be of this model with {name} {wanted}, got {found}. "
                "Use the options it was trained with."
            )
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(files, like)


def _digest(folder: Path) -> str:
    """SHA-256 over the names and contents of all files: the format itself does not notice a flipped bit."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder)} {path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _arrays(state: PyTree) -> dict[str, str]:
    leaves = jax.tree_util.tree_flatten_with_path(state)[0]
    return {jax.tree_util.keystr(path): jax.typeof(leaf).str_short() for path, leaf in leaves}
