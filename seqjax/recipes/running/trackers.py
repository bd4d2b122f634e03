"""Where the numbers of a run go: JSON lines always, and a dashboard beside them if one is asked for.

The lines are the run's own memory: what a dashboard shows follows from them. So a run that goes on from a checkpoint
goes on in the same log, without the steps that it forgot, and one that is asked for a dashboard late shows all of its
past.
"""

import contextlib
import importlib
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from seqjax.recipes.running import processes
from seqjax.recipes.running.files import append
from seqjax.recipes.running.options import BadInput, Track

if TYPE_CHECKING:
    from seqjax.recipes.running.run import Run

PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb"}
Records = Sequence[Mapping[str, Any]]


class Tracker(Protocol):
    """What a loop tells: numbers by name, step after step, and that it has ended."""

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Numbers that belong to a step."""

    def close(self) -> None:
        """Nothing more is coming."""


class JsonLines:
    """A line of JSON a call, at the end of a file."""

    def __init__(self, path: Path):
        """The file is made by the first line."""
        self._path = path

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Writes ``{"step": …, name: number, …}``; a number that is none is refused."""
        append(self._path, json.dumps({"step": step, **numbers}, allow_nan=False))

    def close(self) -> None:
        """Each line is whole as it is written."""


class TensorBoard:
    """Scalars in an event file: ``tensorboard --logdir FOLDER``."""

    def __init__(self, folder: Path, records: Records):
        """Writes the file anew from the records so far, and tells a TensorBoard that looks on to forget the old one."""
        from tensorboardX import SummaryWriter

        old = list(folder.glob("events.out.*"))
        for file in old:
            file.unlink()
        self._writer = SummaryWriter(str(folder), purge_step=0 if old else None, flush_secs=10)
        for step, numbers in _steps(records):
            self.log(step, numbers)

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """A scalar each."""
        for name, number in numbers.items():
            self._writer.add_scalar(name, number, step)

    def close(self) -> None:
        """Writes what is still in the queue."""
        self._writer.close()


class WandB:
    """A run of Weights & Biases, in the project ``seqjax``, kept by the id in ``wandb.id``.

    Steps only rise there. What is there already is not sent again: the run that forgot it has made the same numbers.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any], records: Records):
        """Begins the run or goes on with it, and sends the records so far that it lacks."""
        import wandb

        place = folder / "wandb.id"
        if not place.exists():
            place.write_text(secrets.token_hex(4) + "\n", "utf-8")
        self._run = wandb.init(
            project="seqjax",
            name=folder.name,
            dir=str(folder.absolute()),
            id=place.read_text("utf-8").strip(),
            resume="allow",
            reinit="create_new",  # several seeds of a set are open at once
            config=dict(config),
            allow_val_change=True,  # a run that goes on may have more steps
        )
        self._first = self._run.step if self._run.resumed else 0
        for step, numbers in _steps(records):
            self.log(step, numbers)

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """One call a record; those of the same step are put together there."""
        if step >= self._first:
            self._run.log(dict(numbers), step=step)

    def close(self) -> None:
        """Marks the run as ended, and waits until all is sent."""
        self._run.finish()


def check(who: str, track: Track | None) -> None:
    """Refuses a dashboard whose package is missing, before anything is trained."""
    if track is None:
        return
    try:
        importlib.import_module(PACKAGES[track])
    except ModuleNotFoundError as error:
        raise BadInput(
            f"{who}: expected {PACKAGES[track]} to be installed for --track {track}, got no module {error.name}. "
            "Install it by: python -m pip install 'seqjax[trackers]'"
        ) from error


@contextlib.contextmanager
def following(run: "Run") -> Iterator[Tracker]:
    """The trackers of a run as one: its JSON lines, and the dashboard that its options ask for."""
    tracker = _Both(JsonLines(run.lines), *_asked(run))
    try:
        yield tracker
    finally:
        tracker.close()


class _Both:
    def __init__(self, *trackers: Tracker):
        self._trackers = trackers

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        for tracker in self._trackers:
            tracker.log(step, numbers)

    def close(self) -> None:
        for tracker in self._trackers:
            tracker.close()


def _asked(run: "Run") -> list[Tracker]:
    recipe, options = run.config["recipe"], run.config["options"]
    track = options.get("track")
    check(recipe, track)
    if not processes.first():
        return []
    if track == "tensorboard":
        return [TensorBoard(run.folder / "tensorboard", run.metrics())]
    if track == "wandb":
        try:
            return [WandB(run.folder, {"recipe": recipe, **options}, run.metrics())]
        except Exception as error:  # no key, no network: it has many ways to say so
            raise BadInput(
                f"{recipe}: expected Weights & Biases to take a run, got {type(error).__name__}: {error}. "
                "Log in by `wandb login`, or set WANDB_MODE=offline."
            ) from error
    return []


def _steps(records: Records) -> Iterator[tuple[int, dict[str, float]]]:
    for record in records:
        yield record["step"], {name: number for name, number in record.items() if name != "step"}
