"""A figure and a table of any runs."""

import json
import statistics
from collections.abc import Sequence
from typing import Any, Literal

from seqjax.recipes.comparing import reading, tables
from seqjax.recipes.comparing.measures import Measure
from seqjax.recipes.comparing.reading import Group
from seqjax.recipes.running import drawing, files
from seqjax.recipes.running.run import Run

Against = Literal["updates", "seconds"]
X_LABELS = {"updates": "updates", "seconds": "training (seconds)"}


def compare(whole: Run, found: Sequence[reading.Found], against: Against = "updates") -> None:
    """Writes ``table.md``, ``table.json`` and the figure ``curves`` into a folder, and prints the table.

    Args:
      whole: whose folder it is.
      found: the runs, from `reading.read`.
      against: what the curves are drawn against.
    """
    units = tables.by_unit(reading.groups(found))
    told, kept, panels = [], [], []
    for label, some in units.items():
        rows, floors = tables.rows(some), tables.floors(some)
        axis = some[0][1].axis
        told.append(tables.markdown(axis, rows, floors))
        kept.append({"measure": label, "rows": rows, "floors": floors})
        lines = [line for group, measure in some for line in curves(group, measure, against)]
        panels.append({"y_label": axis, "log": some[0][1].log, "lines": lines, "levels": floors})
    files.replace(whole.folder / "table.md", "\n".join(told))
    files.replace(whole.folder / "table.json", json.dumps(kept, indent=2, ensure_ascii=False) + "\n")
    picture = drawing.save(whole, "curves", "compared", panels=panels, x_label=X_LABELS[against])
    print("\n" + "\n".join(told))
    print(f"run folder {whole.folder}, table {whole.folder / 'table.md'}, curves {picture}")


def curves(group: Group, measure: Measure, against: Against) -> list[dict[str, Any]]:
    """What is drawn of each model of a group, at the updates that all its runs have come to."""
    found = []
    for model, field in group.first.models(measure).items():
        each = [run.curve(field, against) for run in group.runs]
        steps = sorted(set.intersection(*map(set, each)))
        x = [statistics.median([curve[step][0] for curve in each]) for step in steps]
        found.append(
            {
                "name": group.name,
                "model": model.replace("_", " "),
                "x": x,
                "y": [[c[step][1] for step in steps] for c in each],
            }
        )
    return found
