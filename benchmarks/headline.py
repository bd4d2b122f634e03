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
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence

from matplotlib.figure import Figure
from PIL import Image

from benchmarks import curvature as by_curvature
from benchmarks import kept, length_table, limit_table, normalisation, path_table, recipes, record, versions
from benchmarks import learning as learned
from benchmarks import timed as by_the_clock
from benchmarks import vocabularies as large
from benchmarks.paths import best_peer
from benchmarks.tables import Row, by, key, megabytes, over, span, speed_ups, table, told
from benchmarks.versions import Read

RESULTS = record.ROOT / "benchmarks" / "results"
BESIDE = ("flax", "equinox", "torch")
PAGES = (
    "README.md",
    "docs/performance.md",
    "docs/parallel.md",
    "docs/results.md",
    *(f"docs/coming_from_{name}.md" for name in BESIDE),
)


def rows(name: str) -> list[Row]:
    """What a file of results holds; nothing where none is there yet."""
    path = RESULTS / f"{name}.jsonl"
    return record.read(path) if path.exists() else []


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
    devices = [max(row["devices"] for row in members if key(row) == "seqjax auto") for members in groups]
    alone = [speed_ups(members, 1, others) for members in groups]
    all_cores = [speed_ups(members, count, ("torch",)) for members, count in zip(groups, devices)]
    beside_one, beside_all = ([statistics.median(runs) for runs in found if runs] for found in (alone, all_cores))
    return f"{words} {span(beside_one)}" if beside_one else "", f"torch {span(beside_all)}" if beside_all else ""


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


def least() -> str:
    """The table of `benchmarks.kept`."""
    return kept.table()


def slower() -> str:
    """What `benchmarks.versions` finds."""
    lines, compared = versions.slower(TIMED, rows)
    if not compared:
        return "No row has been measured with two versions of JAX on one processor."
    words = f"Slower by more than a tenth: {'; '.join(compared)}."
    listed = table(["what", "jax", "newer", "times as long"], lines)
    return f"{words}\n\n<details><summary>Which</summary>\n\n{listed}\n\n</details>" if lines else words


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
    "bptt": (length_table.compared, ["bptt"]),
    "engines": (engines, ["engines"]),
    "steps": (steps, ["charlm", "rows_lstm", "rows_gru", "decoding", "hmm"]),
    "parallel": (parallel, ["parallel"]),
    "hot": (hot, path_table.FILES),
    "limits": (limit_table.limits, ["limit"]),
    "choices": (limit_table.choices, ["limit"]),
}
MEASURED |= {name: (functools.partial(length_table.beside, name), ["bptt"]) for name in BESIDE}
TIMED = ("bptt", "rows_lstm", "rows_gru", "engines", *path_table.FILES, "parallel", "interop", "sweep")
# These tell of the processor measured most often, docs/performance.md of the others.
FRONT = ("bptt", "engines", *BESIDE)
ELSEWHERE = ("bptt", "engines")
PARTS: dict[str, Callable[[], str]] = {
    name + more: functools.partial(versions.everywhere, part, files, lambda name: rows(name), which)
    for name, (part, files) in MEASURED.items()
    for more, which in [("", slice(1 if name in FRONT else None)), ("_elsewhere", slice(1, None))]
    if not more or name in ELSEWHERE
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


PICTURES: dict[str, Callable[[Sequence[Row]], Figure]] = {
    "bptt": length_table.pictured,
    "curvature": by_curvature.draw,
    "normalisation": normalisation.draw,
}


if __name__ == "__main__":
    sys.exit(main())
