"""Backpropagation through time against its length: the tables and the figure of `benchmarks.bptt`."""

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.figure import Figure

from benchmarks import plots, record, versions
from benchmarks.tables import NAMES, PASSES, Row, by, key, megabytes, over, span, speed_ups, table, told
from benchmarks.versions import Read


def compared(read: Read) -> tuple[str, str]:
    """One line a cell, pass and comparison; a column a length."""
    found = read("bptt")
    lengths = sorted({row["ticks"] for row in found})
    all_devices = max(row["devices"] for row in found)
    groups = by(found, "cell", "pass")
    lines, medians = [], {which: [] for which in PASSES}
    for (cell, which), members in groups.items():
        at = {ticks: [row for row in members if row["ticks"] == ticks] for ticks in lengths}
        for devices, others, words in (
            (1, ("flax", "equinox"), "one device each: times as fast as the faster of Flax and Equinox"),
            (all_devices, ("flax", "equinox"), "all cores each: times as fast as the faster of Flax and Equinox"),
            (all_devices, ("torch",), "all cores each: times as fast as torch"),
        ):
            ratios = [speed_ups(at[ticks], devices, others) for ticks in lengths]
            cells = [told(values) for values in ratios]
            if "flax" in others:
                medians[which] += [statistics.median(values) for values in ratios if values]
            if any(cells):
                lines.append([f"{NAMES[cell]}, {PASSES[which]}, {words}", *cells])
    at = by((row for row in found if (row["cell"], row["pass"], row["devices"]) == ("lstm", "train", 1)), "ticks")
    for name, words in (("seqjax auto", "seqjax"), ("seqjax split/sqrt", '`memory="sqrt"`'), ("flax", "Flax")):
        cells = [
            next((megabytes(row["temporary_bytes"]) for row in at[ticks,] if key(row) == name), "") for ticks in lengths
        ]
        lines.append([f"LSTM, training, one device: temporaries, {words}", *cells])
    counts = {ticks: len({row.get("run", 1) for row in members}) for (ticks,), members in by(found, "ticks").items()}
    runs, fewer = max(counts.values()), [f"{ticks:,}" for ticks, n in counts.items() if n < max(counts.values())]
    how = f"; {over(runs)}" + f"; of T = {' and '.join(fewer)} fewer" * bool(fewer)
    ours = [f"a {PASSES[which]} pass {span(values)} times" for which, values in medians.items() if values]
    short = f"Over all rows {' and '.join(ours)} as fast as the faster of Flax and Equinox."
    return f"{short}\n\n{table(['T', *(f'{ticks:,}' for ticks in lengths)], lines)}", how


def beside(name: str, read: Read) -> tuple[str, str]:
    """One library alone, on the page for those who come from it: a line a gated cell, pass and number of devices."""
    found = read("bptt")
    lengths, all_devices = sorted({row["ticks"] for row in found}), max(row["devices"] for row in found)
    lines = []
    gated = [row for row in found if row["cell"] in ("lstm", "gru")]
    for (cell, which), members in by(gated, "cell", "pass").items():
        for devices, words in ((1, "one device each"), (all_devices, "all cores each")):
            at = {ticks: [row for row in members if row["ticks"] == ticks] for ticks in lengths}
            cells = [told(speed_ups(at[ticks], devices, (name,))) for ticks in lengths]
            if any(cells) and not (name == "torch" and devices < all_devices):
                lines.append([f"{NAMES[cell]}, {PASSES[which]}, {words}", *cells])
    return table(["T", *(f"{ticks:,}" for ticks in lengths)], lines), ""


def pictured(found: Sequence[Row]) -> Figure:
    """The setting that was measured most often."""
    first = versions.told_of(found)[0]
    return figure([row for row in found if record.setting(row) == first])


def figure(found: Sequence[Row]) -> Figure:
    """A panel a cell and pass, time a tick; memory and compile time of the LSTM's training step."""
    first, groups = found[0], by(found, "cell", "pass")
    panels: list[tuple[str, Sequence[Row], Callable[[Row], float | None], str]] = [
        (f"{NAMES[cell]}, {PASSES[which]}", members, plots.microseconds_a_tick, "time per tick (µs)")
        for (cell, which), members in groups.items()
    ]
    lstm = groups["lstm", "train"]
    panels.append(("LSTM, training: memory", lstm, plots.megabytes, "beyond weights and inputs (MB)"))
    panels.append(("LSTM, training: compilation", lstm, compilation, "tracing and XLA (s)"))
    columns = 2 if len(panels) == 4 else 3
    count = -(-len(panels) // columns)
    figure = Figure(figsize=(3.4 * columns, 0.9 + 2.7 * count), layout="constrained")
    names = dict.fromkeys((key(row), row["devices"]) for row in found if "median_s" in row)
    settings = list(dict.fromkeys(name for name, _ in names if name.startswith("seqjax")))
    handles, lengths = {}, sorted({row["ticks"] for row in found})
    for axes, (title, members, value, y_label) in zip(figure.subplots(count, columns, squeeze=False).flat, panels):
        for name, devices in names:
            mine = [row for row in members if (key(row), row["devices"]) == (name, devices) and "median_s" in row]
            points = {
                ticks: [y for row in group if (y := value(row)) is not None]
                for (ticks,), group in sorted(by(mine, "ticks").items())
            }
            points = {ticks: ys for ticks, ys in points.items() if ys}
            if not points:
                continue
            style = look(name, devices, settings)
            middle = [statistics.median(ys) for ys in points.values()]
            (handles[label(name, devices)],) = axes.plot(list(points), middle, **style)
            low, high = ([end(ys) for ys in points.values()] for end in (min, max))
            axes.fill_between(list(points), low, high, color=style["color"], alpha=0.15, linewidth=0)
        axes.set(xscale="log", yscale="log", xlabel="sequence length T (ticks)", ylabel=y_label)
        axes.set_xticks(lengths, [f"{ticks:,}" for ticks in lengths])
        axes.set_xticks([], minor=True)
        plots.plain_numbers(axes.yaxis)
        axes.set_title(title, fontsize="medium", loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(which="major", linewidth=0.4, color="0.88")
    for axes in figure.axes[len(panels) :]:
        axes.set_visible(False)
    about = f"{first['machine']['processor']}, {first['machine']['cores']} cores, {first['dtype']}, "
    about += f"batch {first['batch']}, {first['hidden_size']} units; ×1: one device, ×N: the batch over N host devices"
    figure.suptitle(about, fontsize="medium")
    figure.legend(handles.values(), handles.keys(), ncols=5, frameon=False, loc="outside lower center")
    return figure


def compilation(row: Row) -> float | None:
    """Seconds, of what is compiled."""
    return None if row["compile_s"] is None else row["trace_s"] + row["compile_s"]


def look(name: str, devices: int, settings: Sequence[str]) -> dict[str, Any]:
    """Ours in colours, others in greys; one device with a full mark, several with an open one."""
    style: dict[str, Any] = {"linestyle": "-" if devices == 1 else "--", "markersize": 4.5, "linewidth": 1.4}
    if name in settings:
        index = settings.index(name)
        style |= {"color": plots.OURS[index], "marker": plots.MARKERS[index]}
    else:
        style |= {
            "color": plots.THEIRS[name][0],
            "marker": {"torch": "X", "flax": "v"}.get(name, "^"),
            "linewidth": 1.0,
        }
    return style | {"markerfacecolor": "white" if devices > 1 else style["color"]}


def label(name: str, devices: int) -> str:
    """As in the figure: torch has threads, no devices."""
    return f"{name} (all cores)" if name == "torch" else f"{name} ×{devices}"
