"""Figures of several processors and versions of JAX: each named, and what a newer version made slower."""

import itertools
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks import paths, record

Row = dict[str, Any]
Read = Callable[[str], Sequence[Row]]
SLOWER = 1.1
# What tells rows of a file apart.
SIZES = (
    *("algorithm", "step", "what", "cell", "kind", "pass", "layers", "states", "tags", "outputs"),
    *("symbols", "vocabulary_size", "characters", "width", "heads", "ticks", "length", "batch", "input_size"),
    *("hidden_size", "units", "dtype"),
)


def version(jax: str) -> tuple[int, ...]:
    """To be compared.

    >>> version("0.10.2") < version("0.12.0.1")
    True
    """
    return tuple(int(part) for part in jax.split(".") if part.isdigit())


def settings(rows: Sequence[Row]) -> list[record.Setting]:
    """Processors and versions of JAX of rows, older versions first."""
    return sorted({record.setting(row) for row in rows}, key=lambda s: (s.processor, s.cores, version(s.jax)))


def told_of(rows: Sequence[Row]) -> list[record.Setting]:
    """Of every processor the version of JAX measured most often, in runs, then in rows; what is so most often first."""
    often = {s: [row.get("run", 1) for row in rows if record.setting(row) == s] for s in settings(rows)}
    found = sorted(often, key=lambda s: (max(often[s]), len(often[s])), reverse=True)
    best: dict[tuple[str, int], record.Setting] = {}
    for setting in found:
        best.setdefault((setting.processor, setting.cores), setting)
    return list(best.values())


def everywhere(
    part: Callable[[Read], tuple[str, str]], names: Sequence[str], rows: Read, which: slice = slice(None)
) -> str:
    """A part of a page for every processor that its files were measured on; the setting stands below it.

    Args:
      part: from rows by file, all of one setting: what it tells, and what follows the setting's name.
      names: of its files.
      rows: what they hold.
      which: of the processors, the one measured most often first.
    """
    files = {name: rows(name) for name in names}
    told = []
    for setting in told_of([row for found in files.values() for row in found])[which]:
        at = {name: [row for row in found if record.setting(row) == setting] for name, found in files.items()}
        text, how = part(at.__getitem__)
        told.append(f"{text}\n\n{setting}{how}.")
    return "\n\n".join(told) or "Measured on one processor so far."


def seconds(row: Row) -> Iterator[tuple[str, float]]:
    """Names of what a row says of ours, and seconds, or what stands for them."""
    if "times_scan" in row:
        yield "", row["times_scan"] * row["scan_ms"] / 1e3
    elif "microseconds_a_tick" in row:
        yield "", row["microseconds_a_tick"] / 1e6
    elif isinstance(row.get("ours"), Mapping):
        yield row["library"], row["ours"]["median_s"]
    elif isinstance(row.get("seconds"), Mapping):
        yield from ((name, s) for name, s in row["seconds"].items() if paths.is_ours(name))
    elif "median_s" in row and row["library"] == "seqjax":
        yield row["candidate"], row["median_s"]
    elif paths.is_ours(row.get("candidate", "")) and "seconds" in row:
        yield row["candidate"], row["seconds"]
    elif "of_scan" in row and not row["what"].startswith("scan"):
        yield "", row["seconds"]


def medians(name: str, rows: Sequence[Row]) -> dict[str, float]:
    """Seconds of ours by what is run, over runs."""
    taken: dict[str, list[float]] = {}
    for row in rows:
        sizes = [f"{size} {row[size]}" for size in SIZES if row.get(size) is not None]
        for ours, s in seconds(row):
            taken.setdefault(", ".join([f"{name}:", *sizes, *filter(None, [ours])]).replace(":,", ":"), []).append(s)
    return {what: statistics.median(values) for what, values in taken.items()}


def slower(names: Sequence[str], rows: Read) -> tuple[list[list[str]], list[str]]:
    """Lines of rows that a newer version of JAX makes slower, the slowest first, and who was compared."""
    lines, compared = [], []
    files = {name: rows(name) for name in names}
    found = settings([row for each in files.values() for row in each])
    for old, new in itertools.pairwise(found):
        if (old.processor, old.cores) != (new.processor, new.cores):
            continue
        count, worse = 0, []
        for name, each in files.items():
            before, after = (medians(name, [row for row in each if record.setting(row) == s]) for s in (old, new))
            both = {what: after[what] / before[what] for what in before if what in after}
            count += len(both)
            worse += [(ratio, what) for what, ratio in both.items() if ratio > SLOWER]
        if count:
            compared.append(f"{len(worse)} of {count} rows with jax {new.jax} beside {old.jax} ({old.processor})")
            lines += [[what, old.jax, new.jax, f"{ratio:.2f}"] for ratio, what in sorted(worse, reverse=True)]
    return lines, compared
