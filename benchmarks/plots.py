"""Time and memory against length, and against each other, drawn from a benchmark's JSON lines.

python -m benchmarks.plots benchmarks/results/bptt-….jsonl
"""

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks import record

# Okabe and Ito (2008), Color universal design, for our settings; other libraries in black and grey.
OURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = "osD^vP"
THEIRS = {
    "torch": ("black", "x"),
    "scan": ("0.35", "+"),
    "flax": ("0.55", "1"),
    "haiku": ("0.55", "2"),
    "equinox": ("0.55", "3"),
    "keras": ("0.55", "4"),
}
FORMATS = ("png", "pdf")
SHAPE = ("cell", "batch", "input_size", "hidden_size", "dtype", "pass")
Row = dict[str, Any]


def draw(rows: Iterable[Row], stem: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Figures beside the records: for each pass, cell and shape, as far as its rows give one.

    Args:
      rows: of one or more runs of `benchmarks.bptt`; the last row of a candidate and shape counts.
      stem: path without an ending.
      formats: endings of the files.

    Returns:
      The paths written.
    """
    groups: dict[tuple, dict[tuple, Row]] = {}
    for row in rows:
        if "median_s" in row:
            key = tuple(row[name] for name in SHAPE)
            groups.setdefault(key, {})[row["candidate"], row["ticks"]] = row
    written = []
    for (cell, batch, size, hidden, dtype, which), members in groups.items():
        lines = by_candidate(members.values())
        title = f"{cell}, {'training step' if which == 'train' else 'forward pass'}: "
        title += f"batch {batch}, {hidden} units, " + (f"{size} inputs, " if size != hidden else "") + dtype
        title += f", on {next(iter(members.values())).get('device', 'cpu')}"
        name = f"{stem.name}-{cell}-b{batch}-h{hidden}-{dtype}-{which}"
        figures = {"frontier": frontier(lines, title)}
        if len({row["ticks"] for row in members.values()}) > 1:
            figures["time"] = against_length(lines, title, seconds, "time (s)")
            figures["tick"] = against_length(lines, title, microseconds_a_tick, "time per tick (µs)")
            figures["memory"] = against_length(lines, title, megabytes, "memory beyond weights and inputs (MB)")
        for kind, figure in figures.items():
            for ending in formats:
                path = stem.with_name(f"{name}-{kind}.{ending}")
                figure.savefig(path, dpi=200)
                written.append(path)
    return written


def by_candidate(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """A candidate's rows, short before long."""
    lines: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["ticks"]):
        lines.setdefault(row["candidate"], []).append(row)
    return lines


def seconds(row: Row) -> float:
    """Of the median round."""
    return row["median_s"]


def microseconds_a_tick(row: Row) -> float:
    """Of the median round."""
    return 1e6 * row["median_s"] / row["ticks"]


def megabytes(row: Row) -> float | None:
    """What a program allocates: XLA's temporaries and outputs; where there is no program, what was seen."""
    if row["temporary_bytes"] is not None:
        return (row["temporary_bytes"] + row["output_bytes"]) / 1e6
    return row["growth_bytes"] / 1e6 if row["growth_bytes"] else None


def against_length(lines: dict[str, list[Row]], title: str, value: Callable[[Row], float | None], label: str) -> Figure:
    """One line a candidate over the number of ticks, named at its end."""
    figure, axes = _figure(title)
    styles = _styles(lines)
    ends = {}
    for name, rows in lines.items():
        points = [(row["ticks"], y) for row in rows if (y := value(row))]
        if points:
            ticks, ys = zip(*points)
            axes.plot(ticks, ys, **styles[name])
            ends[name] = (ticks[-1], ys[-1])
    axes.set(xscale="log", yscale="log", xlabel="sequence length T (ticks)", ylabel=label)
    lengths = sorted({row["ticks"] for rows in lines.values() for row in rows})
    axes.set_xticks(lengths, [f"{ticks:,}" for ticks in lengths])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", which="minor", length=0)
    plain_numbers(axes.yaxis)
    _name_ends(figure, axes, ends, styles)
    return figure


def frontier(lines: dict[str, list[Row]], title: str) -> Figure:
    """Time over memory at the greatest length: what each candidate's speed costs, named beside its mark."""
    longest = max(rows[-1]["ticks"] for rows in lines.values())
    figure, axes = _figure(f"{title}, T = {longest:,}")
    styles = _styles(lines)
    ends = {}
    for name, rows in lines.items():
        row = rows[-1]
        if row["ticks"] == longest and (x := megabytes(row)):
            axes.plot(x, seconds(row), **styles[name] | {"markersize": 6})
            ends[name] = (x, seconds(row))
    axes.set(xscale="log", yscale="log", xlabel="memory beyond weights and inputs (MB)", ylabel="time (s)")
    axes.margins(0.12)
    plain_numbers(axes.xaxis)
    plain_numbers(axes.yaxis)
    _name_ends(figure, axes, ends, styles)
    return figure


def _figure(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.0, 3.6))
    axes = figure.add_axes((0.13, 0.14, 0.6, 0.76))
    axes.set_title(title, fontsize=9, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(which="major", linewidth=0.4, color="0.88")
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)
    axes.xaxis.label.set_size(9)
    axes.yaxis.label.set_size(9)
    return figure, axes


def _styles(lines: dict[str, list[Row]]) -> dict[str, dict[str, Any]]:
    """A colour and mark a setting of ours, open over several devices; dashes for the others, dots over several."""
    settings = list(dict.fromkeys(name.split(" ×")[0] for name in lines if name.startswith("seqjax")))
    found = {}
    for name, rows in lines.items():
        library, plain, spread = rows[0]["library"], name.split(" ×")[0], rows[0].get("devices", 1) > 1
        if library == "seqjax":
            index = settings.index(plain) % len(OURS)
            colour, marker, style, width = OURS[index], MARKERS[index], "-", 1.6
        else:
            (colour, marker), style, width = THEIRS[library], (0, (1, 1.5) if spread else (3, 1.5)), 1.0
        found[name] = {
            "color": colour,
            "marker": marker,
            "linestyle": style,
            "linewidth": width,
            "markersize": 4 if library == "seqjax" else 6,
            "markerfacecolor": "white" if spread else colour,
        }
    return found


def plain_numbers(axis: Any) -> None:
    """Few numbers without powers on a logarithmic axis."""
    low, high = axis.get_view_interval()
    wide = np.log10(high / low) > 2.5
    axis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0), numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.15g}" if value >= 1 else f"{value:.6g}"))
    axis.set_minor_formatter(NullFormatter())


def _name_ends(
    figure: Figure, axes: Axes, ends: dict[str, tuple[float, float]], styles: dict[str, dict[str, Any]]
) -> None:
    """Names beside marks in the left half; others in a column at the right, about as high as their mark."""
    figure.draw_without_rendering()
    to_axes = axes.transData + axes.transAxes.inverted()
    places = {name: to_axes.transform(point) for name, point in ends.items()}
    for column in (True, False):
        names = sorted((name for name in ends if (places[name][0] > 0.5) == column), key=lambda n: places[n][1])
        heights = spread_out([places[name][1] for name in names], 0.052, 0.0, 1.0)
        for name, height in zip(names, heights):
            colour, place = styles[name]["color"], tuple(places[name])
            line = {"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkB": 3, "relpos": (0, 0.5)}
            axes.annotate(
                name,
                place,
                (1.06 if column else place[0] + 0.05, height),
                xycoords="axes fraction",
                va="center",
                fontsize=7.5,
                color=colour,
                arrowprops=line,
            )


def spread_out(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Ascending heights moved as little as needed to be ``gap`` apart; within ``low`` and ``high`` if they fit.

    >>> [round(height, 3) for height in spread_out([0.5, 0.5, 0.9], 0.1, 0.0, 1.0)]
    [0.45, 0.55, 0.9]
    """
    groups: list[list[float]] = []  # [sum of wanted minus offset, members]: members keep one gap
    offsets = np.arange(len(wanted)) * gap
    for value, offset in zip(wanted, offsets):
        groups.append([value - offset, 1])
        while len(groups) > 1 and groups[-2][0] / groups[-2][1] >= groups[-1][0] / groups[-1][1]:
            total, count = groups.pop()
            groups[-1][0] += total
            groups[-1][1] += count
    base = [total / count for total, count in groups for _ in range(int(count))]
    heights = np.array(base) + offsets
    span = float(offsets[-1]) if len(wanted) else 0.0
    if span <= high - low:
        heights = np.clip(heights, low + offsets, high - span + offsets)
    return heights.tolist()


def main() -> None:
    """Draws again what a run has drawn, or several runs together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="JSON lines; pictures go beside the last")
    parser.add_argument("--formats", nargs="+", default=FORMATS)
    options = parser.parse_args()
    rows = [row for path in options.files for row in record.read(path)]
    for path in draw(rows, options.files[-1].with_suffix(""), options.formats):
        print(path)


if __name__ == "__main__":
    main()
