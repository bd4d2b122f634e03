"""Tables on the terminal: one for each row measured, and ratios to the others over all rows."""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.timing import Timing

OTHERS = ("flax", "haiku", "equinox", "keras")
SHAPE = ("cell", "layers", "ticks", "batch", "input_size", "hidden_size", "dtype", "pass")


class Bar:
    """A progress bar that tables are printed above of; on a file or a pipe, the tables alone."""

    def __init__(self, bar: Progress) -> None:
        """With one task added to it."""
        self.bar, self.task = bar, bar.task_ids[0]

    def say(self, now: str) -> None:
        """What is being done."""
        self.bar.update(self.task, now=now)

    def done(self, table: Table) -> None:
        """One step further, and its table."""
        self.bar.advance(self.task)
        show(self.bar.console, table)


@contextlib.contextmanager
def progress(console: Console, steps: int) -> Iterator[Bar]:
    """A bar of so many steps."""
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[now]}", markup=False),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        bar.add_task("", total=steps, now="")
        yield Bar(bar)


def shape(row: dict[str, Any]) -> tuple:
    """What rows must share to be compared."""
    return tuple(row.get(name) for name in SHAPE)


def times(taken: Timing) -> dict[str, Any]:
    """What a record keeps of a timing."""
    lower, upper = taken.quartiles
    return {
        "median_s": taken.median,
        "lower_quartile_s": lower,
        "upper_quartile_s": upper,
        "least_s": taken.least,
        "rounds": len(taken.seconds),
    }


def measured(rows: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The rows of one shape that have a time, by candidate."""
    return {row["candidate"]: row for row in rows if "median_s" in row}


def best_other(rows: dict[str, dict[str, Any]], devices: int) -> float | None:
    """Seconds of the fastest other JAX library over as many devices; None where none was."""
    times = [row["median_s"] for row in rows.values() if row["library"] in OTHERS and row["devices"] == devices]
    return min(times, default=None)


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """All candidates of one shape: time, memory, compilation, error."""
    first = rows[0]
    title = (
        f"{first['cell']} {first['pass']}: T {first['ticks']:,}, B {first['batch']}, "
        f"d {first['input_size']}, h {first['hidden_size']}, {first['dtype']}, on {first['device']}"
    )
    found = blank(title)
    found.add_column("")
    for name in ("ms", "quartiles", "µs/tick", "×torch", "×JAX", "×limit", "temp MB", "seen MB", "compile s", "error"):
        found.add_column(name, justify="right", no_wrap=True)
    found.add_column("how")
    by_name = measured(rows)
    torch = by_name.get("torch", {}).get("median_s")
    for row in rows:
        if "median_s" not in row:
            found.add_row(row["candidate"], *[""] * 10, f"skipped: {row['skipped']}", style="dim")
            continue
        median = row["median_s"]
        found.add_row(
            row["candidate"],
            f"{1e3 * median:,.2f}",
            f"{1e3 * row['lower_quartile_s']:,.2f}–{1e3 * row['upper_quartile_s']:,.2f}",
            f"{1e6 * median / row['ticks']:,.2f}",
            _ratio(torch, median),
            _ratio(best_other(by_name, row["devices"]), median),
            _ratio(median, row["limit_s"]) if "limit_s" in row else "",
            _megabytes(row["temporary_bytes"]),
            _megabytes(row["growth_bytes"]),
            "" if row["compile_s"] is None else f"{row['trace_s'] + row['compile_s']:.2f}",
            f"{row['error']:.0e}",
            row["variant"] if row["variant"] != row["cell"] else plan(row["plan"]),
        )
    return found


def blank(title: str) -> Table:
    """A table without lines."""
    return Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)


def plan(chosen: dict[str, Any] | None) -> str:
    """Engine and schedule in few words."""
    if chosen is None:
        return ""
    nested = f" in {len(chosen['blocks'])} blocks" if chosen["blocks"] else ""
    return f"{chosen['engine']}, chunk {chosen['chunk']}{nested}, keeps {chosen['keep']}"


def ratios(rows: Sequence[dict[str, Any]], reference: str) -> list[Table]:
    """How many times faster than a reference every candidate of ours is, a table for each cell and pass.

    The reference is a library, over as many devices as ours where it was spread, or ``"other JAX"``: the fastest of
    the other JAX libraries over as many devices as ours. Of ``"limit"``, see `benchmarks.limit`, ours are a multiple.
    Torch uses all cores by threads and stands beside any. Where a batch cannot be spread, one device stands in for
    both.
    """
    groups: dict[tuple, list] = {}
    for row in rows:
        groups.setdefault(shape(row), []).append(row)
    found = []
    for kind in dict.fromkeys((*key[:2], *key[-2:]) for key in groups):
        members = {key: group for key, group in groups.items() if (*key[:2], *key[-2:]) == kind}
        ours = [row["candidate"] for rows in members.values() for row in rows if row["library"] == "seqjax"]
        cell, layers, dtype, which = kind
        title = f"{cell}{f', {layers} layers' if layers else ''}, {dtype}, {which}: "
        title += "times the limit" if reference == "limit" else f"times faster than {reference}"
        speeds = {
            name: {key: speed_up(measured(group), name, reference) for key, group in members.items()}
            for name in dict.fromkeys(ours)
        }
        if any(value for values in speeds.values() for value in values.values()):
            found.append(_ratios(title, speeds, worst=max if reference == "limit" else min))
    return found


def speed_up(rows: dict[str, dict[str, Any]], candidate: str, reference: str) -> float | None:
    """Of one candidate over a reference on one shape."""
    row = rows.get(candidate) or rows.get(f"{candidate.split(' ×')[0]} ×1")
    if row is None:
        return None
    if reference == "limit":
        return row["median_s"] / row["limit_s"] if "limit_s" in row else None
    name = reference if reference == "torch" else f"{reference} ×{row['devices']}"
    base = best_other(rows, row["devices"]) if reference == "other JAX" else rows.get(name, {}).get("median_s")
    return None if base is None else base / row["median_s"]


def geometric_mean(values: Sequence[float]) -> float:
    """The mean on a logarithmic scale."""
    return math.exp(sum(map(math.log, values)) / len(values))


def show(console: Console, found: Table) -> None:
    """Prints a table as wide as it is: a terminal breaks its lines, a file keeps them."""
    usual = console.width
    console.width = max(usual, console.measure(found, options=console.options.update(width=1000)).maximum)
    console.print(found, "", soft_wrap=True)
    console.width = usual


def _ratios(title: str, speeds: dict[str, dict[tuple, float | None]], worst: Callable = min) -> Table:
    found = blank(title)
    found.add_column("T, B, h")
    for key in next(iter(speeds.values())):
        _, _, ticks, batch, _, hidden, _, _ = key
        found.add_column(f"{ticks},{batch},{hidden}", justify="right")
    found.add_column("geometric mean", justify="right", style="bold")
    found.add_column("maximum" if worst is max else "minimum", justify="right", style="bold")
    for name, values in speeds.items():
        there = [value for value in values.values() if value is not None]
        summary = (geometric_mean(there), worst(there)) if there else (None, None)
        found.add_row(name, *map(_times, (*values.values(), *summary)))
    return found


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _ratio(reference: float | None, median: float) -> str:
    return _times(reference / median if reference else None)


def _megabytes(value: int | None) -> str:
    return "" if value is None else f"{value / 1e6:,.1f}"
