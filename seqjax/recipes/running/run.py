"""The folder of a run: ``config.json``, ``metrics.jsonl``, ``checkpoints/``, ``result.json`` and figures."""

import dataclasses
import datetime
import hashlib
import json
import math
import os
import platform
import shlex
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, get_args, get_origin, get_type_hints

import jax
import numpy as np

import seqjax as sj
from seqjax.base import PyTree
from seqjax.recipes.running import checkpoints, trackers
from seqjax.recipes.running.options import FREE, LATER, LATER_OF, BadInput, RunOptions, bad_input, flag
from seqjax.tasks.vocabulary import Vocabulary

Options = TypeVar("Options", bound=RunOptions)


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

        Args:
          recipe: its name.
          options: of this start.
          facts: about the data, by which a run knows its own again.
          free: options besides the steps and the devices that may change from start to start.

        Raises:
          BadInput: a folder in use, or a run of other options or data.
        """
        if options.resume is None:
            return cls.create(recipe, options, facts)
        trackers.check(recipe, options.track)
        run = cls.open(recipe, options.resume)
        made, now = run.options(type(options)), dataclasses.asdict(options)
        for name, value in dataclasses.asdict(made).items():
            if name not in {"resume", *FREE, *free} and now[name] != value:
                raise BadInput(
                    f"{recipe}: expected {flag(name)} {value} as in the run to resume, got {now[name]}. "
                    "Start a new run for that."
                )
        for name, value in run.config["facts"].items():
            if not alike(facts.get(name), value):
                raise BadInput(
                    f"{recipe}: expected the data of the run to resume, got other data (its {name} differs). "
                    "Put back the data, or start a new run."
                )
        done = run.last_step() or 0
        if options.steps < done:
            raise BadInput(f"{recipe}: expected --steps of at least the {done} made, got {options.steps}. Raise it.")
        run.metrics()  # what cannot be gone on with is refused before anything is written
        if done:
            with bad_input(recipe):
                checkpoints.check(run._checkpoints, done)
        run.config["options"].update({name: now[name] for name in (*FREE, *free)})
        run.write_config()
        return run

    @classmethod
    def create(cls, recipe: str, options: Any, facts: Mapping[str, Any]) -> Self:
        """Makes the folder and writes ``config.json``: recipe, options, facts of the data, environment.

        The options are any dataclass with a ``run_dir``: what is not trained has no steps and is not resumed.
        """
        trackers.check(recipe, getattr(options, "track", None))
        folder = Path(options.run_dir or f"runs/{recipe}-{datetime.datetime.now():%Y%m%d-%H%M%S}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            taken = any(folder.iterdir())
        except OSError as error:
            raise BadInput(
                f"{recipe}: expected --run-dir to be a folder that can be written, got {folder} "
                f"({error.strerror}). Choose another folder."
            ) from error
        if taken:
            resuming = f", or go on with that run by --resume {folder}" if isinstance(options, RunOptions) else ""
            raise BadInput(
                f"{recipe}: expected --run-dir to be new or empty, got {folder} with files in it. "
                f"Choose another folder{resuming}."
            )
        config = {
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
        run = cls(folder, config)
        run.write_config()
        return run

    @classmethod
    def open(cls, recipe: str, folder: str | Path, *, several: bool = False) -> Self:
        """Opens a run of this recipe, or of ``several`` seeds; anything else is bad input."""
        folder = Path(folder)
        wanted = f"{recipe}: expected {folder} to be the folder of a {recipe} run"
        remedy = f"Name a folder that `python -m seqjax {recipe}` made."
        try:
            config = json.loads((folder / "config.json").read_text("utf-8"))
        except OSError as error:
            raise BadInput(f"{wanted}, got no readable config.json in it ({error.strerror}). {remedy}") from error
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{wanted}, got a config.json that is not JSON. {remedy}") from error
        whole = isinstance(config, dict) and all(isinstance(config.get(part), dict) for part in ("options", "facts"))
        if not whole or config.get("recipe") != recipe:
            got = f"a run of {config['recipe']}" if whole and "recipe" in config else "another kind of config.json"
            raise BadInput(f"{wanted}, got {got}. {remedy}")
        if not several and config["options"].get("seeds"):
            raise BadInput(f"{wanted}, got that of several seeds. Name one of the runs in it.")
        return cls(folder, config)

    def options(self, kind: type[Options], *, part: bool = False) -> Options:
        """The options it was made with, set to resume it; if ``part``, those of them that ``kind`` has.

        An option that is younger than the run has its default.
        """
        later = LATER | LATER_OF.get(self.config["recipe"], frozenset())
        younger = {field.name: field.default for field in dataclasses.fields(kind) if field.name in later}
        saved = younger | self.config["options"] | {"resume": str(self.folder), "run_dir": None}
        names = {field.name for field in dataclasses.fields(kind)}
        if part:
            saved = {name: value for name, value in saved.items() if name in names}
        if saved.keys() != names:
            odd = ", ".join(sorted(saved.keys() ^ names))
            raise BadInput(
                f"{self.config['recipe']}: expected the options of this version in "
                f"{self.folder / 'config.json'}, got a difference in {odd}. "
                "Use the version of seqjax that made the run."
            )
        for name, hint in get_type_hints(kind).items():
            if not _fits(saved[name], hint):
                raise BadInput(
                    f"{self.config['recipe']}: expected {name} in {self.folder / 'config.json'} as the run wrote it, "
                    f"got {saved[name]!r}. Put back the file, or start a new run."
                )
        given: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in saved.items()}
        options = kind(**given)
        with bad_input(f"{self.folder / 'config.json'}"):
            options.check(self.config["recipe"])
        return options

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
        path = self.folder / name
        try:
            lines = path.read_text("utf-8").split("\n") if path.exists() else []
            found = [json.loads(line) for line in lines if line]
        except (ValueError, RecursionError):
            found = [None]
        if not all(isinstance(record, dict) and isinstance(record.get("step"), int) for record in found):
            raise BadInput(
                f"{self.config['recipe']}: expected {path} to hold one JSON object with a step a line, got another "
                "line. Remove or mend it."
            )
        return found

    def forget_after(self, step: int) -> None:
        """Drops the records of later steps, which a run that goes on from ``step`` writes again."""
        kept = [record for record in self.metrics() if record["step"] <= step]
        _replace(self.lines, "".join(json.dumps(r) + "\n" for r in kept))

    def save(self, step: int, state: PyTree) -> None:
        """Writes a checkpoint; the one before is kept until this one is whole."""
        checkpoints.save(self._checkpoints, step, state)

    def restore(self, like: PyTree) -> tuple[int, PyTree]:
        """The latest checkpoint: its step, and its state, of ``like``'s structure, shapes and dtypes."""
        step = self.last_step()
        if step is None:
            raise BadInput(
                f"{self.config['recipe']}: expected a checkpoint in {self._checkpoints}, got none. Start a new run."
            )
        with bad_input(self.config["recipe"]):
            return step, checkpoints.restore(self._checkpoints, step, like)

    def last_step(self) -> int | None:
        """The step of the latest checkpoint; None before the first."""
        return checkpoints.last_step(self._checkpoints)

    def resume_command(self) -> str:
        """What to type to go on."""
        return f"python -m seqjax {self.config['recipe']} --resume {shlex.quote(str(self.folder))}"

    def write_config(self) -> None:
        """Writes ``config.json`` anew."""
        _replace(self.folder / "config.json", json.dumps(self.config, indent=2, ensure_ascii=False) + "\n")

    def restore_best(self, like: PyTree) -> PyTree | None:
        """The parameters that early stopping kept; None where it was not asked for."""
        step = checkpoints.last_step(self.best)
        if step is None:
            return None
        with bad_input(self.config["recipe"]):
            return checkpoints.restore(self.best, step, like)

    @property
    def best(self) -> Path:
        """Where early stopping keeps the best parameters."""
        return self.folder / "best"

    @property
    def _checkpoints(self) -> Path:
        return self.folder / "checkpoints"


def vocabularies(**kept: Vocabulary) -> dict[str, dict[str, list[str]]]:
    """Facts of a run: what its numbers mean, so that it can be read without its data.

    >>> vocabularies(words=Vocabulary(["<unk>", "cat"]))
    {'vocabularies': {'words': ['<unk>', 'cat']}}
    """
    return {"vocabularies": {name: list(vocabulary.symbols) for name, vocabulary in kept.items()}}


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


def _replace(path: Path, text: str) -> None:
    """Writes a file anew, all of it or nothing."""
    new = path.with_name(path.name + ".new")
    new.write_text(text, "utf-8")
    os.replace(new, path)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value read from JSON is of an option's type."""
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is tuple:
        return isinstance(value, list | tuple) and all(_fits(one, get_args(hint)[0]) for one in value)
    if get_args(hint):
        return any(_fits(value, one) for one in get_args(hint))
    return type(value) is hint or (hint is float and type(value) is int)
