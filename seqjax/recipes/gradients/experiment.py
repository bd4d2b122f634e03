"""What all experiments share: their options, and a report that is printed and kept."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from seqjax.recipes.running import drawing, files
from seqjax.recipes.running.options import Figures, FolderOrNone, check_positive, check_seed, check_sizes
from seqjax.recipes.running.run import Run


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExperimentOptions:
    """The options of every experiment."""

    figures: Figures = "png"
    """What the figures are drawn as; the numbers behind NAME.png are NAME.json."""
    small: bool = False
    """Sizes that take seconds: it runs, and says little."""
    run_dir: FolderOrNone = None
    """New folder for figures, their numbers and the report; runs/gradients-DATE-TIME if not given."""

    exact: ClassVar[bool] = True  # computed in float64

    def check(self, who: str) -> None:
        """Raises ValueError at the first option that cannot be used; an experiment adds checks of its own."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DrawnOptions(ExperimentOptions):
    """The options of an experiment on something drawn at random."""

    seed: int = 0
    """Decides every random draw."""

    def check(self, who: str) -> None:
        """Refuses a seed out of range."""
        super().check(who)
        check_seed(who, self.seed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearningOptions(ExperimentOptions):
    """The options of an experiment that trains."""

    steps: int = 1000
    """Parameter updates of each network."""
    learning_rate: float = 3e-3
    """Of Adam."""

    exact: ClassVar[bool] = False

    def check(self, who: str) -> None:
        """Refuses no updates at all."""
        super().check(who)
        check_sizes(who, self, "steps")
        check_positive(who, self, "learning_rate")


@dataclasses.dataclass
class Report:
    """What an experiment says, tables in Markdown; at its end ``report.md`` in the run's folder holds it."""

    run: Run
    said: list[str] = dataclasses.field(default_factory=list)
    figures: list[Path] = dataclasses.field(default_factory=list)

    @classmethod
    def begin(cls, name: str, options: ExperimentOptions) -> "Report":
        """Makes the run's folder."""
        return cls(Run.create("gradients", options, {"experiment": name}))

    def say(self, text: str) -> None:
        """A paragraph."""
        print(text + "\n")
        self.said.append(text + "\n")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Rows of text under a head, columns of equal width.

        >>> Report(None).table(["w", "slope"], [["1/2", "-0.693"]])
        | w   | slope  |
        |-----|--------|
        | 1/2 | -0.693 |
        <BLANKLINE>
        """
        widths = [max(map(len, column)) for column in zip(head, *rows)]
        line = lambda cells: "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths)) + " |"
        rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
        self.say("\n".join([line(head), rule, *map(line, rows)]))

    def draw(self, name: str, kind: str, /, **numbers: Any) -> None:
        """A figure of the kind, and the numbers behind it."""
        self.figures.append(drawing.save(self.run, name, kind, **numbers))

    def end(self) -> None:
        """Writes the report, and says where everything is."""
        shown = [f"![{path.stem}]({path.name})\n" for path in self.figures]
        files.replace(self.run.folder / "report.md", "\n".join([*self.said, *shown]))
        print(f"run folder {self.run.folder}: report.md, {', '.join(path.name for path in self.figures)}")
