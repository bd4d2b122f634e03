"""Files that are split already: ``--train``, ``--held-back`` and ``--test`` of every command that learns from files.

One file, ``--data``, is split by the rule of the command, and so is ``--train`` without ``--held-back``. What is held
back decides which parameters are the best; the test is measured once, with these, by `learning.learn`.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from seqjax.base import PyTree
from seqjax.recipes.running import processes
from seqjax.recipes.running.options import FileOrNone, ReadingOptions, check_left_out, check_sizes, flag
from seqjax.recipes.running.run import Run

Data = TypeVar("Data")
NAMES = ("train", "held_back", "test")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitOptions(ReadingOptions):
    """The options of every command that learns from files."""

    whole: ClassVar[str] = "data"  # the option that names one file for all
    generated: ClassVar[tuple[str, ...]] = ()  # options of what is learned from where there is no file

    train: FileOrNone = None
    """What to learn from, where files are split already; as --data, all of it is learned from if there is --held-back.
    """
    held_back: FileOrNone = None
    """What the parameters are chosen by; a part of --train if not given."""
    test: FileOrNone = None
    """What is measured once, with the parameters that were the best on what is held back."""

    def check(self, who: str) -> None:
        """Refuses files that are split and one that is not, and those that nothing is learned for."""
        super().check(who)
        check_sizes(who, self, *(name for name in NAMES if isinstance(getattr(self, name), int)))
        given, whole = files(self), getattr(self, self.whole)
        for name in ("train", self.whole):
            if isinstance(getattr(self, name), str):
                check_left_out(who, self, flag(name), *self.generated)
        if "train" in given and whole is not None:
            raise ValueError(
                f"{who}: expected {flag(self.whole)}, a file to be split, or --train, got both. Leave one of them out."
            )
        if given and "train" not in given:
            raise ValueError(
                f"{who}: expected --train with {flag(next(iter(given)))}, got none. Name the file to learn from."
            )


class Splits(NamedTuple, Generic[Data]):
    """What to learn from, what is held back or None where the command's rule says it, and the test or None."""

    train: Data
    held_back: Data | None
    test: Data | None


class Measured(NamedTuple):
    """The numbers of the test, by the names of an evaluation's, and the step of the parameters, 0 if none is chosen."""

    step: int
    numbers: Mapping[str, float | None]


def files(options: SplitOptions) -> dict[str, str]:
    """The files that are split already, by the names of the options; a number is none."""
    return {name: getattr(options, name) for name in NAMES if isinstance(getattr(options, name), str)}


def read(options: SplitOptions, of: Callable[[str], Data], default: Callable[[], Data]) -> Splits[Data]:
    """The data of each file.

    Args:
      options: of the command.
      of: reads a file.
      default: what is learned from where no file is given.

    Example:
      >>> @dataclasses.dataclass(frozen=True, kw_only=True)
      ... class Options(SplitOptions):
      ...     data: FileOrNone = None
      >>> read(Options(train="train.txt", test="test.txt"), str.upper, str)
      Splits(train='TRAIN.TXT', held_back=None, test='TEST.TXT')
      >>> read(Options(), str.upper, lambda: "a sentence by rule").train
      'a sentence by rule'
    """
    given = files(options)
    train = given.get("train", getattr(options, options.whole))
    held_back, test = (of(given[name]) if name in given else None for name in ("held_back", "test"))
    return Splits(default() if train is None else of(train), held_back, test)


def facts(options: SplitOptions) -> dict[str, str]:
    """By which a run knows its files again; none where one file is split, which the command's own facts say."""
    return {f"sha256_{name}": digest(Path(path)) for name, path in files(options).items()}


def digest(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of those in a folder."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    parts = [f"{part.relative_to(path)} {digest(part)}\n" for part in sorted(path.rglob("*")) if part.is_file()]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def measured(
    run: Run, like: PyTree, part: Callable[[PyTree], PyTree], test: Callable[[PyTree], dict[str, float]]
) -> Measured:
    """The test with the parameters, a part of a run's state, that were the best on what is held back."""
    numbers = processes.agreed(test(processes.on_one(run.restore_best(like, part))))
    return Measured(run.best_step() or 0, {name.removeprefix("validation_"): x for name, x in numbers.items()})


def tell(test: Measured, measure: str) -> dict[str, Any]:
    """Prints the test, and makes it a part of a run's result."""
    shown = {name.replace("_", " "): "none" if x is None else f"{x:.5g}" for name, x in test.numbers.items()}
    told = ", ".join(f"{name} {value}" for name, value in shown.items())
    chosen = f" with the parameters of step {test.step}, the best on what is held back" if test.step else ""
    print(f"test ({measure}){chosen}: {told}")
    return {"step": test.step, "figures": dict(test.numbers)}


def told(options: SplitOptions, default: str) -> str:
    """What is learned from, in words."""
    return files(options).get("train") or getattr(options, options.whole) or default
