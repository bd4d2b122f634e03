"""Draws stored figures again from their numbers: ``python -m seqjax.recipes.pictures RUN/loss.json --figures pdf``."""

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
    """Draws figures again from the numbers that a run has kept beside them."""

    files: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE …")]
    """JSON files of a run's folder, loss.json for example."""
    figures: Figures = "png"
    """What they are drawn as."""


def main(argv: Sequence[str] | None = None) -> int:
    """Draws what the command line names; status 0, or one sentence on stderr and 2."""
    options = tyro.cli(Options, prog="python -m seqjax.recipes.pictures", args=argv)
    for name in options.files:
        try:
            print(drawing.draw(Path(name), options.figures))
        except BadInput as error:
            print(error, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
