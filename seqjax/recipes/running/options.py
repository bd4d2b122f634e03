"""What a person can ask of a recipe, and how it is refused: options, their checks, bad input."""

import contextlib
import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import tyro

from seqjax import checks

Folder = Annotated[str, tyro.conf.arg(metavar="FOLDER")]
File = Annotated[str, tyro.conf.arg(metavar="FILE")]
FolderOrNone = Annotated[str | None, tyro.conf.arg(metavar="FOLDER")]
FileOrNone = Annotated[str | None, tyro.conf.arg(metavar="FILE")]
DataFile = Annotated[str | None, tyro.conf.arg(metavar="FILE", aliases=("--data",))]  # by a name of its own
TextOrNone = Annotated[str | None, tyro.conf.arg(metavar="TEXT")]
Track = Literal["tensorboard", "wandb"]
Figures = Literal["png", "pdf", "svg"]
FolderOrFile = Annotated[str | None, tyro.conf.arg(metavar="FOLDER|FILE")]


# Options that any start of a run may change: they do not say what is computed.
FREE = frozenset({"steps", "devices", "processes", "track", "keep", "checkpoint_every", "largest", "figures", "test"})


def younger(default: Any, *, before: Any) -> Any:
    """The field of an option that changes what is done by default: runs older than the option did ``before``."""
    return dataclasses.field(default=default, metadata={"before": before})


class BadInput(ValueError):
    """Something the person gave cannot be used: the door prints it as it is and ends with exit status 2."""


class Ended(Exception):
    """A run that had begun could not go on: the door prints it as it is and ends with exit status 1."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """The option of every command that reads files."""

    largest: float = 1.0
    """Gigabytes that an archive may unpack to; four times its own size if that is more."""

    def check(self, who: str) -> None:
        """Raises ValueError at the first option that cannot be used; a command adds checks of its own."""
        check_positive(who, self, "largest")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DrawingOptions(ReadingOptions):
    """The option of every command that draws."""

    figures: Figures = "png"
    """What the figures are drawn as; the numbers behind NAME.png are NAME.json."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions(DrawingOptions):
    """The options of every recipe that goes on from a checkpoint; each sets its own default for the steps.

    Attributes:
      of_task: by the name of a --task, what it does in place of the defaults, where no value is given.
    """

    of_task: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    seed: int = 0
    """Decides every random draw: parameters, dropout, generated text."""
    steps: int = 1000
    """Parameter updates in all, those before a --resume included."""
    run_dir: FolderOrNone = None
    """New folder for the run's files; runs/RECIPE-DATE-TIME if not given."""
    track: Track | None = None
    """A dashboard beside the JSON lines: TensorBoard, in the run's folder tensorboard, or Weights & Biases, in the
    project seqjax."""
    keep: int = 2
    """Checkpoints to keep, the newest ones; the two best by evaluation stay beyond them."""
    checkpoint_every: Annotated[str | None, tyro.conf.arg(metavar="UPDATES|TIME")] = None
    """Checkpoints besides those at evaluations: every so many updates, 200, or seconds, minutes or hours, 90s, 10m or
    2h."""
    resume: FolderOrNone = None
    """Go on with the run in this folder, with its own options; more steps, other devices, another dashboard, other
    checkpoints, other figures may be given."""

    def check(self, who: str) -> None:
        """Refuses what no run can use."""
        super().check(who)
        check_sizes(who, self, "steps")
        check_seed(who, self.seed)
        if self.keep < 2:
            raise ValueError(
                f"{who}: expected --keep of at least 2, so that one is left where the other is damaged, got "
                f"{self.keep}. Raise it."
            )
        interval(who, self.checkpoint_every)
        if self.resume is not None and self.run_dir is not None:
            raise ValueError(f"{who}: expected --run-dir or --resume, got both. A resumed run stays in its folder.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SharedOptions(RunOptions):
    """The options of every recipe whose batches devices and processes share."""

    devices: int = 0
    """Devices that share each batch; 0 for all cores of a CPU, but one where recurrent weights exceed 6 MB, and one
    accelerator elsewhere."""
    processes: int = 1
    """Processes that share each batch, started on this machine; 0 for those that Slurm or Kubernetes started."""

    def check(self, who: str) -> None:
        """Refuses numbers below 0."""
        super().check(who)
        check_not_negative(who, self, "devices", "processes")


class Interval(NamedTuple):
    """From checkpoint to checkpoint; infinite where not asked for."""

    updates: float = math.inf
    seconds: float = math.inf


def interval(who: str, asked: str | None) -> Interval:
    """What ``--checkpoint-every`` asks for.

    >>> interval("charlm", "200"), interval("charlm", "10m")
    (Interval(updates=200, seconds=inf), Interval(updates=inf, seconds=600))
    """
    if asked is None:
        return Interval()
    read = re.fullmatch(r"0*([1-9][0-9]*)([smh]?)", asked)
    if read is None:
        raise ValueError(
            f"{who}: expected --checkpoint-every as a number of updates, 200, or a time, 90s, 10m or 2h, got "
            f"{asked!r}. Correct it."
        )
    number, unit = int(read[1]), read[2]
    return Interval(seconds=number * {"s": 1, "m": 60, "h": 3600}[unit]) if unit else Interval(updates=number)


def check_sizes(who: str, options: object, *names: str) -> None:
    """Every named option is a whole number of at least 1."""
    checks.sizes(who, **{flag(name): getattr(options, name) for name in names})


def check_rates(who: str, options: object, *names: str) -> None:
    """Every named option is a rate in [0, 1)."""
    for name in names:
        value = getattr(options, name)
        if not 0 <= value < 1:
            raise ValueError(
                f"{who}: expected {flag(name)} of at least 0 and below 1, got {value!r}. "
                f"Set {flag(name)} 0 to switch it off."
            )


def check_positive(who: str, options: object, *names: str) -> None:
    """Every named option is a finite number above 0."""
    for name in names:
        value = getattr(options, name)
        if not 0 < value < float("inf"):
            raise ValueError(f"{who}: expected {flag(name)} above 0 and finite, got {value!r}. Set {flag(name)}.")


def check_not_negative(who: str, options: object, *names: str) -> None:
    """Every named option is a finite number of at least 0."""
    for name in names:
        value = getattr(options, name)
        if not 0 <= value < float("inf"):
            raise ValueError(f"{who}: expected {flag(name)} of at least 0 and finite, got {value!r}. Set {flag(name)}.")


def check_left_out(who: str, options: object, because: str, *names: str) -> None:
    """Every named option has its default, for another one decides what it would."""
    defaults = {field.name: field.default for field in dataclasses.fields(options)}  # type: ignore[arg-type]
    for name in names:
        if getattr(options, name) != defaults[name]:
            raise ValueError(f"{who}: expected no {flag(name)} with {because}, got both. Leave one of them out.")


def check_seed(who: str, seed: int) -> None:
    """A number that makes a key of its own: `jax.random.key` keeps 32 bits."""
    if not 0 <= seed < 2**32:
        raise ValueError(f"{who}: expected --seed from 0 to 2³² - 1, got {seed}. Choose another one.")


def flag(name: str) -> str:
    """The command-line spelling of an option.

    >>> flag("batch_size")
    '--batch-size'
    """
    return "--" + name.replace("_", "-")


@contextlib.contextmanager
def told_by(who: str, by: str) -> Iterator[None]:
    """Complaints of recipe ``by`` about a run that recipe ``who`` reads are told by the one that was called."""
    try:
        yield
    except BadInput as error:
        raise BadInput(f"{who}: {str(error).removeprefix(f'{by}: ')}") from error


@contextlib.contextmanager
def bad_input(who: str) -> Iterator[None]:
    """Complaints raised in this block are about what the person gave: they become `BadInput`."""
    try:
        yield
    except BadInput:
        raise
    except (ValueError, TypeError, OSError) as error:
        raise BadInput(f"{who}: {str(error).removeprefix(f'{who}: ')}") from error
