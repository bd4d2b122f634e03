"""Draws a stored figure again from its numbers: ``python -m seqjax.recipes.pictures RUN/loss.json --figures pdf``."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from seqjax.recipes.running import drawing
from seqjax.recipes.running.options import BadInput, Figures


@dataclasses.dataclass(frozen=True)
class Options:
    """Draws a figure again from the numbers that a run has kept beside it."""

    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """In a run's folder, loss.json for example."""
    figures: Figures = "png"
    """What it is drawn as."""


def main(argv: Sequence[str] | None = None) -> int:
    """Draws the figure that the command line names; status 0, or one sentence on stderr and 2."""
    options = tyro.cli(Options, prog="python -m seqjax.recipes.pictures", args=argv)
    try:
        print(drawing.draw(Path(options.file), options.figures))
    except BadInput as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
