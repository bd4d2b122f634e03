"""Every result of the recipes, over seeds: commands run one by one, written down, told as a Markdown table.

python -m benchmarks.recipes --list                        # the protocols, their commands, how long each takes
python -m benchmarks.recipes parity halves --seeds 0 1 2   # runs what is not recorded yet, then prints their table
python -m benchmarks.recipes --data FOLDER                 # all for a CPU; without --data those that need no file
python -m benchmarks.recipes --table                       # the table of all that is recorded; runs nothing

A protocol is a table of recipes.toml. A run is the command that a reader would type, in a process of its own; what it
came to is read from its folder. A protocol whose command has changed is run anew, and its old rows are not told.
"""

import argparse
import dataclasses
import datetime
import json
import math
import os
import statistics
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import record

HERE = record.ROOT / "benchmarks"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Protocol:
    """One row of the table; recipes.toml says what its parts are."""

    task: str
    command: str
    figure: str
    minutes: float
    show: str = "{:.2%}"
    beside: dict[str, str | tuple[str, str]] = dataclasses.field(default_factory=dict)
    at_least: float | None = None
    at_most: float | None = None
    published: str = ""
    seeded: bool = True
    trained: bool = True
    gpu: bool = False

    @property
    def files(self) -> list[str]:
        """Those it needs, by their names in the folder of public data."""
        return [word.removeprefix("DATA/") for word in self.command.split() if word.startswith("DATA/")]

    def arguments(self, data: Path | None) -> list[str]:
        """What follows ``python -m seqjax``, but for seed and folder."""
        return [str(data / w.removeprefix("DATA/")) if data and "DATA/" in w else w for w in self.command.split()]

    def number(self, figure: float | None) -> float:
        """A figure; one that a run never came to is worse than any."""
        return figure if figure is not None else -math.inf if self.at_most is None else math.inf

    def verdict(self, median: float) -> str:
        """What is required, and whether a figure is that."""
        bound = self.at_least if self.at_most is None else self.at_most
        if bound is None or math.isinf(bound):
            return ""
        met = median >= bound if self.at_most is None else median <= bound
        words = "at least" if self.at_most is None else "at most"
        return f"{words} {self.show.format(bound)}: {'reached' if met else 'not reached'}"


def protocols(steps: int | None = None) -> dict[str, Protocol]:
    """All of them, with so many updates instead of their own if a number is given."""
    found = {}
    for name, parts in tomllib.loads((HERE / "recipes.toml").read_text("utf-8")).items():
        found[name] = Protocol(**parts)
        if steps is not None and found[name].trained:
            found[name] = dataclasses.replace(found[name], command=f"{found[name].command} --steps {steps}")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Runs and tells; status 1 if any run failed."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the runs need memory on the same accelerator
    os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")  # what is found compiled takes no time
    chosen = parse(argv)
    if chosen.list:
        for name, protocol in chosen.protocols.items():
            print(f"{name:22}{protocol.minutes:4g} min  {protocol.command}")
        return 0
    known = record.read(chosen.results) if chosen.results.exists() else []
    try:
        failed = not chosen.table and measure(chosen, known)
    except KeyboardInterrupt:
        print("stopped; what is recorded stays, the same command goes on", file=sys.stderr)
        return 130
    print("\n".join(table(chosen.protocols, known)))
    return int(failed)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options, with the protocols that they choose."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="PROTOCOL", help="all for a CPU if none is named; see --list")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N", help="(0 1 2)")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="of public files (SEQJAX_DATA)")
    parser.add_argument("--gpu", action="store_true", help="those for an accelerator instead, if none is named")
    parser.add_argument("--steps", type=int, metavar="N", help="so many updates instead, to try a protocol")
    parser.add_argument("--list", action="store_true", help="print the protocols and end")
    parser.add_argument("--table", action="store_true", help="print the table of what is recorded and end")
    parser.add_argument("--results", type=Path, default=HERE / "results" / "recipes.jsonl", metavar="FILE")
    parser.add_argument("--runs", type=Path, default=record.ROOT / "runs" / "recipes", metavar="FOLDER")
    chosen = parser.parse_args(argv)
    found = protocols(chosen.steps)
    for name in chosen.names:
        if name not in found:
            parser.error(f"expected protocols of --list, got {name!r}. Choose among {', '.join(found)}.")
    if chosen.data is None and os.environ.get("SEQJAX_DATA"):
        chosen.data = Path(os.environ["SEQJAX_DATA"])
    every = [name for name, protocol in found.items() if chosen.list or chosen.table or protocol.gpu == chosen.gpu]
    chosen.protocols = {name: found[name] for name in chosen.names or every}
    return chosen


def measure(chosen: argparse.Namespace, known: list[dict[str, Any]]) -> bool:
    """Makes the runs that are not recorded yet, seed by seed, and adds their rows; whether any failed."""
    records, failed = record.Records(chosen.results), False
    wanted = [
        (name, protocol, seed)
        for seed in chosen.seeds
        for name, protocol in chosen.protocols.items()
        if protocol.seeded or seed == chosen.seeds[0]
    ]
    for number, (name, protocol, seed) in enumerate(wanted, 1):
        print(f"{number}/{len(wanted)} {name}, seed {seed} (about {protocol.minutes:g} min): ", end="", flush=True)
        missing = [file for file in protocol.files if chosen.data is None or not (chosen.data / file).exists()]
        if any(row["seed"] == seed for row in of(name, protocol, known)):
            print("recorded already")
        elif missing:
            print(f"left out, it needs {', '.join(missing)} in --data FOLDER")
        else:
            row = {"protocol": name, "command": protocol.command, "seed": seed} | run(name, protocol, seed, chosen)
            print(
                row.get("failed") or f"{tell(protocol.number(row['figure']), protocol.show)}, {row['wall_s']:.0f} s",
                flush=True,
            )
            failed |= "failed" in row
            if "failed" not in row:
                records.write(row)
                known.append(records.rows[-1])
    return failed


def run(name: str, protocol: Protocol, seed: int, chosen: argparse.Namespace) -> dict[str, Any]:
    """One run, in a process and a folder of its own: what it came to, or how it ``failed``."""
    folder = chosen.runs.absolute() / f"{name}-{seed}-{datetime.datetime.now():%Y%m%d-%H%M%S-%f}"
    command = [*protocol.arguments(chosen.data and chosen.data.absolute()), "--run-dir", str(folder)]
    command += ["--seed", str(seed)] if protocol.seeded else []
    start = time.perf_counter()
    done = executed([sys.executable, "-m", "seqjax", *command])
    wall = round(time.perf_counter() - start, 1)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [""]
        return {"failed": f"failed with status {done.returncode}: {said[-1]}"}
    result = json.loads((folder / "result.json").read_text("utf-8"))
    return {"figure": result["figures"][protocol.figure], "wall_s": wall, **result, "run": folder.name}


def executed(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """The process when it has ended."""
    return subprocess.run(command, cwd=record.ROOT, capture_output=True, text=True, check=False)


def of(name: str, protocol: Protocol, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a protocol as it is now."""
    return [row for row in rows if (row["protocol"], row["command"]) == (name, protocol.command)]


def table(chosen: dict[str, Protocol], rows: Sequence[dict[str, Any]]) -> list[str]:
    """Markdown: a line a protocol that has runs."""
    lines = [
        "| task | command | median (lowest to highest) | seeds | chance, floors, controls | required | published "
        "| minutes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, protocol in chosen.items():
        runs = of(name, protocol, rows)
        if not runs:
            continue
        figures = sorted(protocol.number(row["figure"]) for row in runs)
        spread = f" ({tell(figures[0], protocol.show)} to {tell(figures[-1], protocol.show)})"
        middle = statistics.median(figures)
        beside = []
        for words, key in protocol.beside.items():
            key, show = (key, protocol.show) if isinstance(key, str) else key
            values = [protocol.number((row["figures"] | row["floors"])[key]) for row in runs]
            beside.append(f"{words} {tell(statistics.median(values), show)}")
        minutes = statistics.median(row["wall_s"] for row in runs) / 60
        cells = (
            protocol.task,
            f"`{protocol.command}`",
            tell(middle, protocol.show) + (spread if len(runs) > 1 else ""),
            str(len(runs)),
            "; ".join(beside),
            protocol.verdict(middle),
            protocol.published,
            f"{minutes:.1f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def tell(figure: float, show: str) -> str:
    """A figure in words."""
    return "never" if math.isinf(figure) else show.format(figure)


if __name__ == "__main__":
    sys.exit(main())
