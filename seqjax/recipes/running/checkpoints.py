"""Checkpoints, written, kept and read by orbax; a damaged one or one of another run is refused before it is read.

``STEP/`` is what orbax's `CheckpointManager` writes, whole or not at all; it keeps the newest ones and the two best by
evaluation. ``STEP/entry.json`` comes last and holds a digest of the files, the types of the arrays, the run they are of
and the evaluation's figure. Nothing here deletes what it cannot read: that is put aside under another name.

In runs of format 1 the arrays lie in ``STEP/`` itself, and the entry is ``STEP.json`` beside it.
"""

import contextlib
import functools
import hashlib
import json
import logging
import math
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from seqjax.base import Array, PyTree
from seqjax.recipes.running import processes
from seqjax.recipes.running.files import replace

ENTRY, STATE = "entry.json", "state"
KEEP = 2  # of the newest, so that one is left where the other is damaged
BEST = 2  # by evaluation: the second is the best of a run that falls back behind the first
SKIPPED = ".train.skipped"  # a count that older checkpoints lack; none of their updates was left out


class Older(NamedTuple):
    """A train state of such a checkpoint."""

    params: PyTree
    opt_state: PyTree
    step: Array
    clipped: Array
    key: Array | None


class Found(NamedTuple):
    """What a folder of checkpoints holds: the newest whole one or None, and why newer ones are not."""

    step: int | None
    damaged: dict[int, str]


def save(
    folder: Path, step: int, state: PyTree, *, keep: int = KEEP, run: str = "", value: float | None = None
) -> None:
    """Writes the checkpoint of a step; older ones than those to keep are removed once it is there.

    Args:
      folder: of the checkpoints.
      step: its number.
      state: a tree of arrays.
      keep: how many of the newest stay.
      run: a digest of what it is a checkpoint of.
      value: of an evaluation, lower is better: the two best stay.

    Raises:
      OSError: it cannot be written; those before are as they were.
    """
    import orbax.checkpoint as ocp
    from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

    folder, state, mine = processes.common(folder), processes.shared(state), processes.first()
    value, place = math.inf if value is None else value, folder / str(step)
    earlier = put_aside(folder, step, "earlier") if mine and place.exists() else None
    processes.wait("place of a checkpoint")
    figure = lambda metrics: metrics["value"]
    best = BestN(get_metric_fn=figure, reverse=True, n=BEST, keep_checkpoints_without_metrics=False)
    options = ocp.CheckpointManagerOptions(
        preservation_policy=AnyPreservationPolicy([LatestN(keep), best]),
        best_fn=figure,
        best_mode="min",
        enable_async_checkpointing=False,
        cleanup_tmp_directories=True,
    )
    old = [path for path in folder.glob("*.json") if path.with_suffix("").is_dir()]
    with _writing(place), ocp.CheckpointManager(folder.absolute(), options=options) as manager:
        arguments = ocp.args.Composite(**{STATE: ocp.args.StandardSave(state)})
        manager.save(step, args=arguments, metrics={"value": value}, force=True)
    if mine:
        entry = {"step": step, "run": run, "value": value, "arrays": _arrays(state)}
        replace(place / ENTRY, json.dumps(entry | {"digest": _digest(place, entry)}))
        for path in old:
            if not path.with_suffix("").exists():
                path.unlink()
        if earlier is not None:
            shutil.rmtree(earlier, ignore_errors=True)
    processes.wait("entry of a checkpoint")


def last_step(folder: Path) -> int | None:
    """The step of the latest checkpoint that has its entry; None before the first."""
    folder = processes.common(folder)
    return max((step for step in _steps(folder) if _entry_of(folder, step).exists()), default=None)


def find(folder: Path, run: str = "") -> Found:
    """The newest whole checkpoint of a run, and what is wrong with newer ones."""
    folder, damaged = processes.common(folder), {}
    step: int | None
    for step in sorted(_steps(folder), reverse=True):
        try:
            check(folder, step, run)
        except ValueError as error:
            damaged[step] = str(error)
        else:
            break
    else:
        step = None
    processes.wait("looking for a checkpoint")  # before one of them changes what the others look at
    return Found(step, damaged)


def best(folder: Path, run: str = "") -> int | None:
    """The step of the whole checkpoint with the lowest evaluation; None where none has one."""
    folder, values = processes.common(folder), {}
    for step in _steps(folder):
        try:
            value = check(folder, step, run).get("value", math.inf)
        except ValueError:
            continue
        if value < math.inf:
            values[step] = value
    return min(values, key=lambda step: (values[step], step), default=None)


def check(folder: Path, step: int, run: str = "") -> dict[str, Any]:
    """A checkpoint's entry: ``arrays``, their types, and ``value``.

    Raises:
      ValueError: it is damaged, or of another run.
    """
    folder = processes.common(folder)
    files, path = (folder / str(step)).absolute(), _entry_of(folder, step)
    new, got = path.name == ENTRY, "a damaged one"
    try:
        entry = json.loads(path.read_text("utf-8"))
        rest = {name: value for name, value in entry.items() if name != "digest"} if new else None
        whole = isinstance(entry["arrays"], dict) and entry["digest"] == _digest(files, rest)
        whole = whole and (not new or entry["step"] == step)
    except FileNotFoundError:
        whole, got = False, f"one without its {path.name}"
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        whole = False
    if not whole:
        raise ValueError(f"expected the checkpoint {files} as it was written, got {got}. Put back its files.")
    if new and run and entry["run"] != run:
        raise ValueError(
            f"expected the checkpoint {files} to be of the run in config.json, got that of another. Put back "
            "config.json or the checkpoint."
        )
    return entry


def restore(folder: Path, step: int, like: PyTree, run: str = "") -> PyTree:
    """The state of a checkpoint, with the structure, shapes and dtypes of ``like``.

    Raises:
      ValueError: it is damaged, of another run, or its arrays are not those of ``like``.
    """
    import orbax.checkpoint as ocp

    folder, like = processes.common(folder), processes.shared(like)
    files, arrays, expected = (folder / str(step)).absolute(), check(folder, step, run)["arrays"], _arrays(like)
    if SKIPPED in expected and SKIPPED not in arrays:
        older = restore(folder, step, like._replace(train=Older(*like.train[:5])), run)
        return older._replace(train=like.train._replace(**older.train._asdict()))
    for name in expected | arrays:
        wanted, found = expected.get(name, "none"), arrays.get(name, "none")
        if wanted != found:
            raise ValueError(
                f"expected the checkpoint {files} to be of this model with {name} {wanted}, got {found}. "
                "Use the options it was trained with."
            )
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(files / STATE if (files / STATE).exists() else files, like)


def forms(folder: Path) -> dict[str, str]:
    """Types and shapes of the arrays in the latest checkpoint, such as ``float32[8,32]``; none before the first."""
    step = last_step(folder)
    return {} if step is None else json.loads(_entry_of(folder, step).read_text("utf-8"))["arrays"]


def parameters(folder: Path, model: str) -> int | None:
    """How many numbers are trained, of the model of that name where there are several; None before the first."""
    found = {name: form for name, form in forms(folder).items() if ".train.params" in name}
    named = {name: form for name, form in found.items() if name.startswith(f".train.params[{model!r}]")}
    sizes = [form.partition("[")[2].rstrip("]") for form in (named or found).values()]
    return sum(math.prod(map(int, filter(None, size.split(",")))) for size in sizes) if sizes else None


def put_aside(folder: Path, step: int, why: str) -> Path:
    """Renames a checkpoint, so that nothing counts it among the others; nothing of it is lost."""
    folder = processes.common(folder)
    for path in (folder / str(step), folder / f"{step}.json"):
        names = (path.with_name(f"{path.name}.{why}{n or ''}") for n in range(10**6))
        aside = next(name for name in names if not name.exists())
        if path.exists():
            os.replace(path, aside)
        if path.name == str(step):
            first = aside
    return first


def anything(folder: Path) -> bool:
    """Whether there is anything but what a save that was cut off leaves."""
    folder = processes.common(folder)
    return folder.exists() and any("orbax-checkpoint-tmp" not in path.name for path in folder.iterdir())


@contextlib.contextmanager
def _writing(place: Path) -> Iterator[None]:
    """What orbax cannot write is one error of the system; its threads log theirs, and leave what they began."""
    _let_late_writes_be()
    log = logging.getLogger("absl")
    before, log.disabled = log.disabled, True
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        for path in place.parent.glob(f"{place.name}.orbax-checkpoint-tmp*"):
            shutil.rmtree(path, ignore_errors=True)
        number = re.search(r"os_error_code='(\d+)'", str(error))
        if isinstance(error, OSError) or number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(place)) from error
    finally:
        log.disabled = before


@functools.cache
def _let_late_writes_be() -> None:
    """Where one write fails, those that end while orbax gives up find its event loop closed, which nobody need read."""
    usual = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if (type(unraisable.exc_value), str(unraisable.exc_value)) != (RuntimeError, "Event loop is closed"):
            usual(unraisable)

    sys.unraisablehook = hook


def _steps(folder: Path) -> set[int]:
    names = (path.name if path.is_dir() else path.name.removesuffix(".json") for path in folder.glob("*"))
    return {int(name) for name in names if name.isdecimal()}


def _entry_of(folder: Path, step: int) -> Path:
    beside, inside = folder / f"{step}.json", folder / str(step) / ENTRY
    old = beside.exists() or not (inside.exists() or inside.with_name(STATE).exists())
    return beside if old else inside


def _digest(folder: Path, entry: Mapping[str, Any] | None) -> str:
    """SHA-256 over the names and contents of all files, which orbax itself does not look at, and over the entry."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if entry is None or path != folder / ENTRY:
            digest.update(f"{path.relative_to(folder)} {path.stat().st_size}\n".encode())
            digest.update(path.read_bytes())
    if entry is not None:
        digest.update(json.dumps(entry, sort_keys=True).encode())
    return digest.hexdigest()


def _arrays(state: PyTree) -> dict[str, str]:
    leaves = jax.tree_util.tree_flatten_with_path(state)[0]
    return {jax.tree_util.keystr(path): jax.typeof(leaf).str_short() for path, leaf in leaves}
