"""Runs beside each other: the learning curves of all in one figure, and what they came to in one table.

Runs that differ in the seed alone are one line, with their spread; what else differs between configurations is the
legend. Numbers of different units have panels of their own.
"""

import dataclasses

import tyro

from seqjax.recipes.comparing import comparison, reading
from seqjax.recipes.comparing.comparison import Against
from seqjax.recipes.running.options import BadInput, DrawingOptions, Folder, FolderOrNone
from seqjax.recipes.running.run import Run


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(DrawingOptions):
    """Lays the learning curves of runs over each other, and tells what they came to in a table."""

    runs: tyro.conf.Positional[tuple[Folder, ...]]
    """Folders of runs, finished or not, of several seeds, of comparisons, or of all of these."""
    against: Against = "updates"
    """What the curves are drawn against."""
    run_dir: FolderOrNone = None
    """New folder for figure and table; runs/compare-DATE-TIME if not given."""


def main(options: Options) -> None:
    """``python -m seqjax compare RUN RUN …``."""
    if not options.runs:
        raise BadInput("compare: expected the folders of runs, got none. Name them.")
    found = reading.read("compare", options.runs)
    comparison.compare(Run.create("compare", options, {}), found, options.against)
