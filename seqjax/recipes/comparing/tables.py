"""What runs came to, as rows: parameters, the best on what is held back, the test, updates, and what learns nothing."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from seqjax.recipes.comparing.measures import Measure
from seqjax.recipes.comparing.reading import Found, Group, spread


def by_unit(groups: Sequence[Group]) -> dict[str, list[tuple[Group, Measure]]]:
    """What is compared with what: all runs by a unit that all have, or else each by the first of its own."""
    offered = [{measure.label: measure for measure in reversed(group.first.measures)} for group in groups]
    common = [label for label in reversed(offered[0]) if all(label in measures for measures in offered)]
    found: dict[str, list[tuple[Group, Measure]]] = {}
    for group, measures in zip(groups, offered):
        label = common[0] if common else next(reversed(measures))
        found.setdefault(label, []).append((group, measures[label]))
    return found


def rows(some: Sequence[tuple[Group, Measure]]) -> list[dict[str, Any]]:
    """One for every model of every group."""
    return [
        {
            "name": group.name,
            "model": model.replace("_", " "),
            "runs": [str(run.run.folder) for run in group.runs],
            "parameters": group.first.run.parameters(field.removeprefix(measure.field.partition("*")[0])),
            "held back": spread([run.best(measure, field) for run in group.runs]),
            "test": spread([run.test(field) for run in group.runs]),
            "updates": [run.updates for run in group.runs],
            "finished": [bool(run.result) for run in group.runs],
        }
        for group, measure in some
        for model, field in group.first.models(measure).items()
    ]


def floors(some: Sequence[tuple[Group, Measure]]) -> dict[str, float]:
    """What learns nothing, by the median over runs; where it is not the same for all, with the name of the group."""
    found = {group.name: floors_of(group.runs, measure) for group, measure in some}
    told: dict[str, float] = {}
    for name in dict.fromkeys(name for each in found.values() for name in each):
        values = {group: each[name] for group, each in found.items() if name in each}
        first, *rest = values.values()
        if all(math.isclose(first, value, rel_tol=1e-6) for value in rest):
            told[name] = first
        else:
            told |= {f"{name}, {group}": value for group, value in values.items()}
    return told


def floors_of(runs: Sequence[Found], measure: Measure) -> dict[str, float]:
    """Those that all of these runs have that have ended."""
    each = [measure.floor(run.result["floors"]) for run in runs if run.result]
    medians = {name: spread([one.get(name) for one in each]) for name in (each[0] if each else ())}
    return {name: found["median"] for name, found in medians.items() if found}


def markdown(label: str, rows: Sequence[Mapping[str, Any]], floors: Mapping[str, float]) -> str:
    """A table of one unit; columns in which nothing stands are left out."""
    columns = {
        "": [row["name"] for row in rows] + [*floors],
        "model": [row["model"] for row in rows] + [""] * len(floors),
        "parameters": [f"{row['parameters']:,}" if row["parameters"] else "" for row in rows] + [""] * len(floors),
        label: [number(row["held back"]) for row in rows] + [f"{x:.4g}" for x in floors.values()],
        "test": [number(row["test"]) for row in rows] + [""] * len(floors),
        "updates": [updates(row) for row in rows] + [""] * len(floors),
    }
    kept = {head: cells for head, cells in columns.items() if any(cells)}
    widths = [max(map(len, [head, *cells])) for head, cells in kept.items()]
    lines = [[*kept], ["-" * width for width in widths], *map(list, zip(*kept.values()))]
    return "".join("| " + " | ".join(f"{cell:{w}}" for cell, w in zip(line, widths)) + " |\n" for line in lines)


def number(found: Mapping[str, Any] | None) -> str:
    """A median, with the lowest and the highest of several.

    >>> number({"each": [1.0, 2.0, 4.0], "median": 2.0, "lowest": 1.0, "highest": 4.0})
    '2 (1 to 4)'
    """
    if found is None:
        return ""
    several = f" ({found['lowest']:.4g} to {found['highest']:.4g})" if len(found["each"]) > 1 else ""
    return f"{found['median']:.4g}{several}"


def updates(row: Mapping[str, Any]) -> str:
    """How many were made, and that they are not all."""
    few, most = min(row["updates"]), max(row["updates"])
    made = f"{most:,}" if few == most else f"{few:,} to {most:,}"
    return made if all(row["finished"]) else f"{made} so far"
