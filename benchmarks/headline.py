"""The figures and tables of README.md and docs, made from the results that are kept.

python -m benchmarks.headline            # writes them anew; --check only says which are stale (status 1)
python -m benchmarks.bptt --headline     # measures the first of them anew, on a quiet machine: 40 minutes

A part between two marks ``<!-- made by … -->`` and ``<!-- end -->`` belongs to this script; so do docs/bptt.png,
docs/curvature.png and docs/normalisation.png. Like is compared with like: JAX libraries over as many devices as ours;
torch, whose threads use every core, beside ours on every core. Where a measurement was made several times, a figure is
the median of its runs, and a band goes from the lowest run to the highest.
"""

import argparse
import functools
import hashlib
import math
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from matplotlib.figure import Figure
from PIL import Image

import seqjax as sj
from benchmarks import curvature as by_curvature
from benchmarks import kept, normalisation, path_table, plots, recipes, record, versions
from benchmarks import learning as learned
from benchmarks import timed as by_the_clock
from benchmarks import vocabularies as large
from benchmarks.paths import best_peer
from benchmarks.versions import Read
from seqjax.recipes.running import devices as spreading

RESULTS = record.ROOT / "benchmarks" / "results"
BESIDE = ("flax", "equinox", "torch")
PAGES = (
    "README.md",
    "docs/performance.md",
    "docs/parallel.md",
    "docs/results.md",
    *(f"docs/coming_from_{name}.md" for name in BESIDE),
)
NAMES = {"lstm": "LSTM", "gru": "GRU", "elman": "Elman"}
PASSES = {"train": "training", "forward": "forward"}
Row = dict[str, Any]
Runs = list[float]


def rows(name: str) -> list[Row]:
    """What a file of results holds; nothing where none is there yet."""
    path = RESULTS / f"{name}.jsonl"
    return record.read(path) if path.exists() else []


def key(row: Row) -> str:
    """A candidate's name without its devices."""
    return row["candidate"].split(" ×")[0]


def label(name: str, devices: int) -> str:
    """As in the figure: torch has threads, no devices."""
    return f"{name} (all cores)" if name == "torch" else f"{name} ×{devices}"


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


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *lines))


def by(found: Iterable[Row], *names: str) -> dict[tuple, list[Row]]:
    """Rows grouped by some of their parts."""
    groups: dict[tuple, list[Row]] = {}
    for row in found:
        groups.setdefault(tuple(row.get(name) for name in names), []).append(row)
    return groups


def bptt(read: Read) -> tuple[str, str]:
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


def over(runs: int) -> str:
    """How figures come from so many runs."""
    return "one run" if runs == 1 else f"{runs} runs: the median, in brackets the lowest and the highest"


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


def megabytes(size: float) -> str:
    """In MB or GB."""
    return f"{size / 1e9:.1f} GB" if size > 1e9 else f"{size / 1e6:.0f} MB"


def engines(read: Read) -> tuple[str, str]:
    """Time and temporaries by engine, and a tick against T."""
    groups = by(read("engines"), "what")
    lines = [
        [what.replace(" ", ", "), told([row["of_scan"] for row in runs]), f"{runs[0]['megabytes']:.3g} MB"]
        for (what,), runs in groups.items()
        if "of_scan" in runs[0]
    ]
    ticks = {
        what: statistics.median(row["microseconds_a_tick"] for row in runs)
        for (what,), runs in groups.items()
        if "microseconds_a_tick" in runs[0]
    }
    (first, least), *_, (last, most) = ticks.items()
    tick = f"A tick takes {least:.1f} µs at {first} and {most:.1f} µs at {last} (1 × 64 units)."
    return table(["engine, memory", "time, plain scan = 1", "the compiler's temporaries"], lines) + f"\n\n{tick}", ""


def steps(read: Read) -> tuple[str, str]:
    """Training steps, writing and inference: from the lowest to the highest ratio over all rows."""
    lines = []
    for (hidden,), members in by(read("charlm"), "hidden_size").items():
        groups = by(members, "batch", "ticks").values()
        lines.append(
            [
                f"character model, a step of training (1 × {hidden} LSTM; 8, 32, 64 windows of 128 and 1,024)",
                "`python -m benchmarks.charlm --layers 1`",
                *both(groups, ("flax",), "Flax"),
            ]
        )
    for name, cell in (("rows_lstm", "LSTM"), ("rows_gru", "GRU")):
        groups = by(read(name), "ticks", "batch", "hidden_size")
        if not groups:
            continue
        shapes = f"{len(groups)} shapes to {max(b for _, b, _ in groups)} × {max(h for *_, h in groups)} units"
        words = f"--rows --cells {cell.lower()} --devices 1 2"
        lines.append(
            [
                f"{cell} by itself, a step of training, {shapes}",
                f"`python -m benchmarks.bptt {words}`",
                *both(groups.values(), ("flax", "equinox"), "the faster of Flax and Equinox"),
            ]
        )
    writing = [row for row in read("decoding") if not row["width"] and row["batch"] == 1]
    models = by(writing, "vocabulary_size", "hidden_size")
    shapes = "; ".join(f"{symbols:,} × {units}" for symbols, units in models)
    loops = [statistics.median(row["times_the_python_loop"] for row in runs) for runs in models.values()]
    if models:
        lines.append(
            [
                f"writing a symbol at a time, one text (symbols × units: {shapes})",
                "`python -m benchmarks.decoding --batch 1 --width 0`",
                f"a Python loop over the same jitted step {'; '.join(f'{loop:.2g}' for loop in loops)}",
                "",
            ]
        )
    for (algorithm,), members in by(read("hmm"), "algorithm").items():
        ratios = [
            statistics.median(peer[1] / row["seconds"]["ours"] for row in runs if (peer := best_peer(row["seconds"])))
            for runs in by(members, "states", "length").values()
            if all("ours" in row["seconds"] and best_peer(row["seconds"]) for row in runs)
        ]
        if not ratios:
            continue
        lengths = sorted({row["length"] for row in members})
        words = {"forward": "filter", "viterbi": "best path", "em": "a fit of five steps"}[algorithm]
        lines.append(
            [
                f"hidden Markov model, {words}, 16 and 128 states, {lengths[0]:,} to {lengths[-1]:,} ticks",
                "`python -m benchmarks.hmm`",
                f"the faster of dynamax and hmmlearn {span(ratios)}",
                "",
            ]
        )
    return table(["what", "command", "times as fast, one device each", "all cores each"], lines), ""


def both(groups: Iterable[Sequence[Row]], others: Sequence[str], words: str) -> tuple[str, str]:
    """JAX libraries on one device each; torch on all cores, where the batch cannot be spread beside one device."""
    groups = list(groups)
    alone = [ratio for members in groups for ratio in speed_ups(members, 1, others)]
    all_cores = []
    for members in groups:
        devices = max(row["devices"] for row in members if key(row) == "seqjax auto")
        all_cores += speed_ups(members, devices, ("torch",))
    return f"{words} {span(alone)}" if alone else "", f"torch {span(all_cores)}" if all_cores else ""


def results() -> str:
    """The table of `benchmarks.recipes`."""
    chosen = recipes.parse(["--table"])
    return "\n".join(recipes.table(chosen.protocols, rows("recipes")))


def learning() -> str:
    """The table of `benchmarks.learning`."""
    return "\n".join(learned.table(rows("learning")))


RECURRENCES = {
    "head": "matrix, a decay a head, 4 heads of {n} × {n}",
    "channel": "matrix, a decay a row, 4 heads of {n} × {n}",
    "delta": "delta rule, 4 heads of {n} × {n}",
    "diagonal": "number by number, {n} units",
}


def parallel(read: Read) -> tuple[str, str]:
    """One line a recurrence and length of `benchmarks.parallel`."""
    found, names = read("parallel"), ("lax.scan", "ours", "ours, sqrt")
    others = sorted({row["candidate"] for row in found} - set(names))
    lines = []
    for (step, length, batch, units), members in by(found, "step", "length", "batch", "units").items():
        at = {row["candidate"]: row for row in members}
        here = [at.get(name) for name in names]
        times = [
            told([row["times"] for row in members if row["candidate"] == name and "times" in row])
            for name in (*names[1:], *others)
        ]
        sizes = [megabytes(row["temporaries"]) if row else "" for row in here]
        compiled = [f"{row['compile']:.1f}" if row else "" for row in here[:2]]
        words = RECURRENCES[step].format(n=units)
        lines.append([words, f"{length:,}", str(batch), *times, " / ".join(filter(None, sizes)), " / ".join(compiled)])
    head = ["recurrence", "T", "B", "ours", '`memory="sqrt"`', *others, "temporaries: scan / ours / sqrt", "compile, s"]
    rounds = min(row["rounds"] for row in found if "rounds" in row)
    return table(head, lines), f"; medians of {rounds} rounds or more"


def hot(read: Read) -> tuple[str, str]:
    """The table of `benchmarks.path_table`."""
    lines, runs = path_table.lines(read)
    head = ["path", "ours: ms", "the fastest other way: times ours", "× limit", "memory, MB: ours / theirs"]
    return table(head, lines), f"; {over(runs)}"


def limits(read: Read) -> tuple[str, str]:
    """Times the limit of `benchmarks.limit`: a line a cell, pass, engine and number of devices; a column a shape."""
    found = [row for row in read("limit") if "limit_s" in row]
    lines = []
    for (cell, which), members in by(found, "cell", "pass").items():
        for name, devices in (("seqjax auto", 1), ("seqjax auto", 2), ("seqjax scan/all", 1)):
            chosen = [row for row in members if key(row) == name and row["devices"] in (devices, alone(row))]
            ratios: dict[Any, Runs] = {}
            for row in chosen:
                ratios.setdefault(shape_of(row), []).append(row["median_s"] / row["limit_s"])
            at = {shape: statistics.median(ratio) for shape, ratio in ratios.items()}
            words = f"{cell.replace('_', ' ')}, {PASSES[which]}, {'scan' if 'scan' in name else 'auto'} ×{devices}"
            mean = statistics.geometric_mean(at.values())
            cells = (f"{at[shape]:.2f}" if shape in at else "" for shape in shapes_of(found))
            lines.append([words, *cells, f"{mean:.2f}"])
    head = ["cell, pass, engine × devices", *shape_heads(found), "mean"]
    return table(head, lines), f"; {of_shapes(found)}; geometric means"


def choices(read: Read) -> tuple[str, str]:
    """What is chosen over the best of what can be: a line a cell and pass, a column a shape."""
    found = read("limit")
    lines = []
    for (cell, which), members in by(found, "cell", "pass").items():
        line = [f"{cell.replace('_', ' ')}, {PASSES[which]}"]
        for shape in shapes_of(found):
            here = [row for row in members if shape_of(row) == shape]
            count = spread_over(cell, shape)
            best: dict[int, float] = {}
            for row in (row for row in here if key(row) != "seqjax auto"):
                best[row.get("run", 1)] = min(best.get(row.get("run", 1), math.inf), row["median_s"])
            mine = seconds(here, "seqjax auto", count)
            line.append(f"{statistics.median(mine[run] / best[run] for run in mine):.2f}")
        lines.append(line)
    return table(["cell, pass", *shape_heads(found)], lines), f"; {of_shapes(found)}"


def spread_over(cell: str, shape: tuple[int, int, int]) -> int:
    """On how many of two devices a command trains such a model."""
    _, batch, hidden = shape
    params = jax.eval_shape(getattr(sj, cell)(hidden, hidden, dtype=jnp.float32).init, jax.random.key(0))
    return spreading.best(2, batch, params)


def alone(row: Row) -> int:
    """One sequence is never spread: the devices of its rows, otherwise none."""
    return 1 if row["batch"] == 1 else 0


def shape_of(row: Row) -> tuple[int, int, int]:
    """T, B and h."""
    return row["ticks"], row["batch"], row["hidden_size"]


def shapes_of(found: Sequence[Row]) -> list[tuple[int, int, int]]:
    """Of all rows, in their order."""
    return list(dict.fromkeys(map(shape_of, found)))


def shape_heads(found: Sequence[Row]) -> list[str]:
    """A column's head each."""
    return [", ".join(f"{n:,}" for n in shape) for shape in shapes_of(found)]


def of_shapes(found: Sequence[Row]) -> str:
    """What the numbers are, in words."""
    runs = [len({row.get("run", 1) for row in members}) for members in by(found, "cell", "pass").values()]
    over_runs = "one run" if max(runs) == 1 else f"medians of {' or '.join(map(str, sorted({*runs})))} runs"
    return f"T, B, h in the head; medians of {min(row['rounds'] for row in found)} rounds or more, {over_runs}"


def least() -> str:
    """The table of `benchmarks.kept`."""
    return kept.table()


def slower() -> str:
    """What `benchmarks.versions` finds."""
    lines, compared = versions.slower(TIMED, rows)
    if not compared:
        return "No row has been measured with two versions of JAX on one processor."
    words = f"Slower by more than a tenth: {'; '.join(compared)}."
    return f"{words}\n\n{table(['what', 'jax', 'newer', 'times as long'], lines)}" if lines else words


def timed() -> str:
    """The table of `benchmarks.timed`."""
    return "\n".join(by_the_clock.table(rows("timed")))


def vocabularies() -> str:
    """The table of `benchmarks.vocabularies`."""
    return "\n".join(large.table(rows("vocabularies")))


def curvature() -> str:
    """The table of `benchmarks.curvature`."""
    return "\n".join(by_curvature.table(rows("curvature")))


def normalised() -> str:
    """The table of `benchmarks.normalisation`."""
    return "\n".join(normalisation.table(rows("normalisation")))


MEASURED: dict[str, tuple[Callable[[Read], tuple[str, str]], Sequence[str]]] = {
    "bptt": (bptt, ["bptt"]),
    "engines": (engines, ["engines"]),
    "steps": (steps, ["charlm", "rows_lstm", "rows_gru", "decoding", "hmm"]),
    "parallel": (parallel, ["parallel"]),
    "hot": (hot, path_table.FILES),
    "limits": (limits, ["limit"]),
    "choices": (choices, ["limit"]),
}
MEASURED |= {name: (functools.partial(beside, name), ["bptt"]) for name in BESIDE}
TIMED = ("bptt", "rows_lstm", "rows_gru", "engines", *path_table.FILES, "parallel", "interop", "sweep")
PARTS: dict[str, Callable[[], str]] = {
    name: functools.partial(versions.everywhere, part, files, lambda name: rows(name))
    for name, (part, files) in MEASURED.items()
}
PARTS |= {
    "slower": slower,
    "least": least,
    "results": results,
    "learning": learning,
    "timed": timed,
    "vocabularies": vocabularies,
}
PARTS |= {"curvature": curvature, "normalised": normalised}
PART = re.compile(r"(<!-- made by python -m benchmarks\.headline: (\w+) -->\n\n)(.*?)(\n\n<!-- end -->)", re.DOTALL)


def page(text: str) -> str:
    """A page with its parts made anew."""
    return PART.sub(lambda found: found[1] + PARTS[found[2]]() + found[4], text)


def digest(name: str) -> str:
    """Of the results that a picture shows, which it names."""
    return hashlib.sha256((RESULTS / f"{name}.jsonl").read_bytes()).hexdigest()


def stale() -> list[str]:
    """Pages and pictures that do not say what the results do."""
    found = [name for name in PAGES if (text := (record.ROOT / name).read_text("utf-8")) != page(text)]
    return found + [f"docs/{name}.png" for name in PICTURES if shown(name) != digest(name)]


def shown(name: str) -> str | None:
    """The digest of the results that a picture was made from."""
    path = record.ROOT / "docs" / f"{name}.png"
    if not path.exists():
        return None
    with Image.open(path) as picture:
        return picture.info.get("Description")


def main(argv: Sequence[str] | None = None) -> int:
    """Writes, or with --check only compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 if anything is stale")
    chosen = parser.parse_args(argv)
    found = stale()
    print("\n".join(found) or "everything says what the results do")
    if chosen.check:
        return int(bool(found))
    for name in PAGES:
        path = record.ROOT / name
        path.write_text(page(path.read_text("utf-8")), "utf-8")
    for name, figure in PICTURES.items():
        path = record.ROOT / "docs" / f"{name}.png"
        figure(rows(name)).savefig(path, dpi=160, metadata={"Description": digest(name)})
    return 0


def pictured(found: Sequence[Row]) -> Figure:
    """The first setting that is told."""
    first = versions.settings(found)[0]
    return draw([row for row in found if record.setting(row) == first])


def draw(found: Sequence[Row]) -> Figure:
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


PICTURES: dict[str, Callable[[Sequence[Row]], Figure]] = {
    "bptt": pictured,
    "curvature": by_curvature.draw,
    "normalisation": normalisation.draw,
}


if __name__ == "__main__":
    sys.exit(main())
