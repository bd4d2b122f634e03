"""What the tables of a page have in common: candidates by name, their times run by run, medians and their spans."""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

NAMES = {"lstm": "LSTM", "gru": "GRU", "elman": "Elman"}
PASSES = {"train": "training", "forward": "forward"}
Row = dict[str, Any]
Runs = list[float]


def key(row: Row) -> str:
    """A candidate's name without its devices."""
    return row["candidate"].split(" ×")[0]


def seconds(found: Iterable[Row], name: str, devices: int) -> dict[Any, float]:
    """Of a candidate, by run."""
    return {
        row.get("run", 1): row["median_s"]
        for row in found
        if key(row) == name and (row["devices"] == devices or name == "torch") and "median_s" in row
    }


def speed_ups(found: Sequence[Row], devices: int, others: Sequence[str], ours: str = "seqjax auto") -> Runs:
    """Times as fast as the fastest of the others, run by run; none where one of them was not measured so."""
    mine, theirs = seconds(found, ours, devices), [seconds(found, name, devices) for name in others]
    theirs = [taken for taken in theirs if taken]
    return [min(taken[run] for taken in theirs) / mine[run] for run in mine if theirs and all(run in t for t in theirs)]


def told(values: Runs, show: str = "{:.2f}") -> str:
    """The median, and the lowest and highest of several."""
    if not values:
        return ""
    band = f" ({show.format(min(values))} to {show.format(max(values))})" if len(values) > 1 else ""
    return show.format(statistics.median(values)) + band


def span(values: Iterable[float]) -> str:
    """From the lowest to the highest."""
    values = sorted(values)
    return f"{values[0]:.2f} to {values[-1]:.2f}"


def over(runs: int) -> str:
    """How figures come from so many runs."""
    return "one run" if runs == 1 else f"{runs} runs: the median, in brackets the lowest and the highest"


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *lines))


def by(found: Iterable[Row], *names: str) -> dict[tuple, list[Row]]:
    """Rows grouped by some of their parts."""
    groups: dict[tuple, list[Row]] = {}
    for row in found:
        groups.setdefault(tuple(row.get(name) for name in names), []).append(row)
    return groups


def megabytes(size: float) -> str:
    """In MB or GB."""
    return f"{size / 1e9:.1f} GB" if size > 1e9 else f"{size / 1e6:.0f} MB"
