"""The hot paths as a table: ours beside the fastest other way of each, the limit, and the memory of both."""

import functools
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from benchmarks import paths
from benchmarks.tables import Row, told


class Figures(NamedTuple):
    """Of one run: seconds of ours, of the others by name, and of the limit; bytes by name; symbols gone through."""

    ours: float
    others: dict[str, float]
    limit: float | None
    bytes: dict[str, int | None]
    symbols: int = 0


def of_row(row: Row, name: str) -> Figures:
    """A row that holds all contenders."""
    others = {peer: s for peer, s in row["seconds"].items() if not paths.is_ours(peer)}
    held = row.get("growth_bytes" if name == "reading" else "temporary_bytes", {})
    symbols = row.get("characters", 0) or (row["length"] * row["batch"] if name == "decoding" else 0)
    return Figures(row["seconds"][ours(name)], others, row.get("limit_s"), held, symbols)


def ours(name: str) -> str:
    """What our contender is called in a file."""
    return "compiled" if name == "decoding" else "ours"


def decoding(row: Row) -> str:
    """What is written."""
    way = {0: "drawn symbols", 1: "the likeliest symbols"}.get(row["width"], f"a beam of {row['width']}")
    size = f"LSTM of {row['hidden_size']} units, {row['vocabulary_size']:,} symbols"
    return f"decoding, {way}: {size}, {row['length']} ticks of {row['batch']}"


def hmm(row: Row) -> str:
    """The algorithm and its sizes."""
    way = {"forward": "filter", "viterbi": "Viterbi", "em": "EM"}[row["algorithm"]]
    return f"hidden Markov model, {way}: {row['states']} states, {row['length']:,} ticks"


def crf(row: Row) -> str:
    """Sizes."""
    return f"random field, loss and gradient: {row['tags']} tags, {row['batch']} × {row['length']:,} ticks"


def ctc(row: Row) -> str:
    """Sizes."""
    size = f"{row['outputs']:,} outputs, {row['batch']} × {row['length']} ticks, {row['symbols']} symbols"
    return f"temporal classification, loss and gradient: {size}"


def reading(row: Row) -> str:
    """Sizes, and how fast."""
    return f"reading and batching: {row['characters']:,} characters in {row['batch']} streams"


TITLES: dict[str, Callable[[Row], str]] = {
    "decoding": decoding,
    "hmm": hmm,
    "crf": crf,
    "ctc": ctc,
    "reading": reading,
}
shown = functools.partial(told, show="{:.3g}")
FILES = (*TITLES, "charlm")
UPDATE = {"cell": "lstm", "layers": 1, "hidden_size": 256, "batch": 64, "ticks": 128}  # of the recipe as it comes


def figures(read: Callable[[str], Sequence[Row]]) -> Iterator[tuple[str, Figures]]:
    """What every row is called, and its figures; a row of several runs comes several times."""
    for name, title in TITLES.items():
        for row in read(name):
            if ours(name) in row.get("seconds", {}):
                yield title(row), of_row(row, name)
    updates: dict[int, dict[str, Row]] = {}
    for row in read("charlm"):
        if UPDATE.items() <= row.items() and "median_s" in row:
            updates.setdefault(row.get("run", 1), {})[row["candidate"]] = row
    for members in updates.values():
        peers = {name: row["median_s"] for name, row in members.items() if row["library"] != "seqjax"}
        for row in members.values():
            if row["library"] == "seqjax":
                one = row["devices"] == 1
                beside = {peer: s for peer, s in peers.items() if (peer != "torch") == one}
                title = f"an update of `charlm` as it comes, {'one device' if one else 'all cores'}"
                symbols = row["batch"] * row["ticks"]
                yield title, Figures(row["median_s"], beside, row.get("limit_s"), {}, symbols)


def lines(read: Callable[[str], Sequence[Row]]) -> tuple[list[list[str]], int]:
    """A line a row, and the most runs of one."""
    groups: dict[str, list[Figures]] = {}
    for title, found in figures(read):
        groups.setdefault(title, []).append(found)
    told = [[title, *cells(runs)] for title, runs in groups.items()]
    return told, max(map(len, groups.values()), default=0)


def cells(runs: Sequence[Figures]) -> list[str]:
    """Medians over the runs, and from the lowest to the highest."""
    limits = [run.ours / run.limit for run in runs if run.limit]
    everywhere = [name for name in runs[0].others if all(name in run.others for run in runs)]
    best = min(everywhere, key=lambda name: statistics.median(run.others[name] for run in runs), default=None)
    beside = f"{best} {shown([run.others[best] / run.ours for run in runs])}" if best else ""
    sizes = [runs[-1].bytes.get(name) for name in ("ours", best)]
    memory = " / ".join(f"{size / 1e6:,.1f}" for size in sizes if size is not None) if sizes[0] is not None else ""
    speed = runs[0].symbols / statistics.median(run.ours for run in runs)
    fast = f"; {float(f'{speed:.3g}'):,.0f} symbols a second" if speed else ""
    return [shown([1e3 * run.ours for run in runs]) + fast, beside, shown(limits), memory]
