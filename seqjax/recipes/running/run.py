"""The folder of a run: ``config.json``, ``metrics.jsonl``, ``checkpoints/``, ``result.json`` and figures."""

import dataclasses
import errno
import hashlib
import json
import math
import platform
import shlex
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np

import seqjax as sj
from seqjax.base import PyTree
from seqjax.recipes.running import checkpoints, config, files, folders, lock, processes, trackers
from seqjax.recipes.running.config import Options
from seqjax.recipes.running.files import tell
from seqjax.recipes.running.options import FREE, BadInput, RunOptions, bad_input, flag
from seqjax.tasks.vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True)
class Run:
    """The folder of one run, made by `create`, found by `open`, either by `start`.

    Attributes:
      folder: where it is.
      config: what ``config.json`` holds.

    Example:
      >>> import tempfile
      >>> folder = tempfile.mkdtemp() + "/first"
      >>> run = Run.create("charlm", RunOptions(run_dir=folder), {"vocabulary": "abc"})
      >>> run.log(step=1, loss=2.5)
      >>> Run.open("charlm", folder).metrics()
      [{'step': 1, 'loss': 2.5}]
    """

    folder: Path
    config: dict[str, Any]

    @classmethod
    def start(cls, recipe: str, options: RunOptions, facts: Mapping[str, Any], *, free: Collection[str] = ()) -> Self:
        """The folder of a new run, or of the run to resume if options and data are those it was made with.

        Either way no other process is in it, and none can be until this one leaves it. What the run to resume has
        beyond its newest whole checkpoint is forgotten, a damaged checkpoint is put aside.

        Args:
          recipe: its name.
          options: of this start.
          facts: about the data, by which a run knows its own again.
          free: options besides `options.FREE` that may change from start to start.

        Raises:
          BadInput: a folder in use, a run of other options or data, or one whose checkpoints are lost.
        """
        if options.resume is None:
            return cls.create(recipe, options, facts, free=free)
        trackers.check(recipe, options.track)
        lock.take(recipe, cls.open(recipe, options.resume).folder)
        run = cls.open(recipe, options.resume)
        run._refuse_others(options, facts, free)
        done, damaged = run._found()
        if options.steps < done:
            raise BadInput(f"{recipe}: expected --steps of at least the {done} made, got {options.steps}. Raise it.")
        run.metrics()
        # What cannot be gone on with has been refused; from here on files change.
        for step in damaged if processes.first() else ():
            aside = checkpoints.put_aside(run._checkpoints, step, "damaged")
            tell(
                f"{run.folder}: the checkpoint of step {step} is not as it was written. It is put aside as "
                f"{aside.name}, and the run goes on from step {done}."
            )
        processes.wait("damaged checkpoints put aside")
        if odd := config.unknown(run.config, type(options)):
            tell(f"{recipe}: options of {run.folder} that this version does not know are left alone: {', '.join(odd)}.")
        now, devices = dataclasses.asdict(options), run.config["options"].get("devices", 0)
        if devices > jax.device_count():
            tell(
                f"{run.folder}: made on {devices} devices, of which there are not so many here. It goes on with fewer."
            )
        run.config.update(config.changed(run.config, {name: now[name] for name in (*FREE, *free) if name in now}))
        run.write_config()
        run.forget_after(done)
        return run

    def _refuse_others(self, options: RunOptions, facts: Mapping[str, Any], free: Collection[str]) -> None:
        recipe, made, now = self.config["recipe"], self.options(type(options)), dataclasses.asdict(options)
        for name, value in dataclasses.asdict(made).items():
            if name not in {"resume", *FREE, *free} and now[name] != value:
                raise BadInput(
                    f"{recipe}: expected {flag(name)} {value} as in the run to resume, got {now[name]}. "
                    "Start a new run for that."
                )
        for name, value in self.config["facts"].items():
            if not alike(facts.get(name), value):
                raise BadInput(
                    f"{recipe}: expected the data of the run to resume, got other data (its {name} differs). "
                    "Put back the data, or start a new run."
                )

    def _found(self) -> tuple[int, dict[int, str]]:
        """The step of the newest whole checkpoint, and what is wrong with later ones; 0 if there never was one."""
        found = checkpoints.find(self._checkpoints, self._digest)
        if found.step is None and self._has_saved():
            none = f"expected checkpoints in {self._checkpoints}, got none. Put them back, or start a new run."
            raise BadInput(f"{self.config['recipe']}: {next(iter(found.damaged.values()), none)}")
        return found.step or 0, found.damaged

    def _has_saved(self) -> bool:
        """Whether a checkpoint was ever complete; a run of format 1 does not say it, but leaves more than a save."""
        if "format" in self.config:
            return self.config.get("saved", False)
        records = self.metrics()
        evaluations = [i for i, record in enumerate(records) if "loss" not in record]
        later = bool(evaluations) and evaluations[0] < len(records) - 1
        return later or (self.folder / "result.json").exists() or checkpoints.anything(self._checkpoints)

    @classmethod
    def create(cls, recipe: str, options: Any, facts: Mapping[str, Any], *, free: Collection[str] = ()) -> Self:
        """Makes the folder and writes ``config.json``: recipe, options, facts of the data, environment.

        The options are any dataclass with a ``run_dir``: what is not trained has no steps and is not resumed.
        """
        trackers.check(recipe, getattr(options, "track", None))
        folder = folders.new(recipe, options)
        made = {
            "recipe": recipe,
            "options": dataclasses.asdict(options),
            "facts": dict(facts),
            "environment": {
                "seqjax": sj.__version__,
                "jax": jax.__version__,
                "python": platform.python_version(),
                "machine": platform.machine(),
                "devices": [device.device_kind for device in jax.devices()],
            },
        }
        run = cls(folder, config.stamped(made, {*FREE, *free}))
        with folders.writable(recipe, folder):
            run.write_config()
        processes.wait("configuration")
        if not processes.first():  # whose own names another folder, and has another digest then
            run = cls(folder, config.read(recipe, processes.common(folder)))
            run.write_config()
        return run

    @classmethod
    def open(cls, recipe: str, folder: str | Path, *, several: bool = False) -> Self:
        """Opens a run of this recipe, or of ``several`` of them; anything else is bad input."""
        folder = Path(folder)
        return cls(folder, config.read(recipe, folder, several=several))

    def options(self, kind: type[Options]) -> Options:
        """The options of ``kind`` that it was made with, set to resume it."""
        return config.options_of(self.config, self.folder, kind)

    @property
    def lines(self) -> Path:
        """The file of its numbers."""
        return self.folder / "metrics.jsonl"

    def log(self, step: int, **numbers: float) -> None:
        """Appends a line to ``metrics.jsonl``."""
        trackers.JsonLines(self.lines).log(step, numbers)

    def metrics(self) -> list[dict[str, float]]:
        """Every record so far."""
        return self.records(self.lines.name)

    def records(self, name: str) -> list[dict[str, Any]]:
        """Every line of a file of JSON lines, each of a step; none where there is no file."""
        return files.records(self.config["recipe"], self.folder / name)

    def forget_after(self, step: int) -> None:
        """Drops the records of later steps, which a run that goes on from ``step`` writes again."""
        kept = [r for r in files.records(self.config["recipe"], self.lines, say=False) if r["step"] <= step]
        files.replace(self.lines, "".join(json.dumps(r) + "\n" for r in kept))

    def save(self, step: int, state: PyTree, value: float | None = None) -> None:
        """Writes a checkpoint, with the figure of an evaluation if there was one, lower is better.

        Those before are kept until this one is whole, ``--keep`` of them and the best beyond.

        Raises:
          OSError: it cannot be written.
        """
        if not (self.folder / config.FILE).exists():
            raise FileNotFoundError(errno.ENOENT, "the folder of the run is gone", str(self.folder))
        keep = self.config["options"].get("keep", checkpoints.KEEP)
        checkpoints.save(self._checkpoints, step, state, keep=keep, run=self._digest, value=value)
        if not self.config.get("saved"):
            self.config["saved"] = True
            self.write_config()

    def restore(self, like: PyTree) -> tuple[int, PyTree]:
        """The latest whole checkpoint: its step, and its state, of ``like``'s structure, shapes and dtypes."""
        recipe = self.config["recipe"]
        step, damaged = checkpoints.find(self._checkpoints, self._digest)
        if step is None:
            none = f"expected a checkpoint in {self._checkpoints}, got none. Start a new run."
            raise BadInput(f"{recipe}: {next(iter(damaged.values()), none)}")
        for lost in damaged:
            tell(f"{self.folder}: the checkpoint of step {lost} is not as it was written, that of step {step} is read.")
        with bad_input(recipe):
            return step, checkpoints.restore(self._checkpoints, step, like, self._digest)

    def best_step(self) -> int | None:
        """The step of the checkpoint that `restore_best` reads."""
        apart = self.folder / "best"
        return checkpoints.best(self._checkpoints, self._digest) or checkpoints.last_step(apart) or self.last_step()

    def restore_best(self, like: PyTree, part: Callable[[PyTree], PyTree]) -> PyTree:
        """A part of the checkpoint with the lowest evaluation, or of the latest where none has one.

        Runs of format 1 kept that part by itself, in the folder ``best``.
        """
        step, apart = checkpoints.best(self._checkpoints, self._digest), self.folder / "best"
        before = checkpoints.last_step(apart)
        with bad_input(self.config["recipe"]):
            if step is None and before is not None:
                return checkpoints.restore(apart, before, part(like))
            if step is not None:
                return part(checkpoints.restore(self._checkpoints, step, like, self._digest))
        return part(self.restore(like)[1])

    def last_step(self) -> int | None:
        """The step of the latest checkpoint; None before the first."""
        return checkpoints.last_step(self._checkpoints)

    def parameters(self, model: str) -> int | None:
        """How many numbers are trained, of the model of that name where there are several; None before a checkpoint."""
        return checkpoints.parameters(self._checkpoints, model)

    def resume_command(self) -> str:
        """What to type to go on."""
        return f"python -m seqjax {self.config['recipe']} --resume {shlex.quote(str(self.folder))}"

    def write_config(self) -> None:
        """Writes ``config.json`` anew."""
        files.replace(self.folder / config.FILE, json.dumps(self.config, indent=2, ensure_ascii=False) + "\n")

    def remove(self) -> None:
        """Takes back a folder in which nothing has come about."""
        for name in (config.FILE, *lock.NAMES):
            (self.folder / name).unlink(missing_ok=True)
        self.folder.rmdir()

    @property
    def _checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def _digest(self) -> str:
        return self.config.get("digest", "")


def vocabularies(**kept: Vocabulary) -> dict[str, dict[str, list[str]]]:
    """Facts of a run: what its numbers mean, so that it can be read without its data.

    >>> vocabularies(words=Vocabulary(["<unk>", "cat"]))
    {'vocabularies': {'words': ['<unk>', 'cat']}}
    """
    return {"vocabularies": {name: list(vocabulary.symbols) for name, vocabulary in kept.items()}}


def kept(run: Run, *names: str) -> list[Vocabulary] | None:
    """What `vocabularies` kept, by name; None for a run that is older than that, whose data say it."""
    found = run.config["facts"].get("vocabularies", {})
    return [Vocabulary(found[name]) for name in names] if set(names) <= found.keys() else None


def alike(fact: Any, saved: Any) -> bool:
    """Whether a fact is the one that was saved; floats up to rounding, which may differ between machines.

    >>> alike({"loss": 0.1 + 0.2}, {"loss": 0.3}), alike({"loss": 0.3001}, {"loss": 0.3}), alike((1, 2), [1, 2])
    (True, False, True)
    """
    if isinstance(saved, dict):
        return isinstance(fact, dict) and fact.keys() == saved.keys() and all(alike(fact[n], saved[n]) for n in saved)
    if isinstance(saved, list):
        return isinstance(fact, list | tuple) and len(fact) == len(saved) and all(map(alike, fact, saved))
    if isinstance(saved, float) and isinstance(fact, float):
        return math.isclose(fact, saved, rel_tol=1e-9, abs_tol=1e-12)
    return bool(fact == saved)


def digest(*data: str | np.ndarray) -> str:
    """SHA-256 of texts and arrays, by which a run knows its data again."""
    found = hashlib.sha256()
    for part in data:
        found.update(part.encode("utf-8") if isinstance(part, str) else np.ascontiguousarray(part).tobytes())
    return found.hexdigest()
