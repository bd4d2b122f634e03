"""What environment settings do to training steps: each in processes of its own, in turns.

python -m benchmarks.flags            # three shapes, three turns
python -m benchmarks.flags --quick    # one shape, one turn

They are read when a process starts or XLA is loaded: no program can set them for itself afterwards.
"""

import argparse
import datetime
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import options, peers, record, report

SETTINGS: dict[str, dict[str, str]] = {
    "none": {},
    "huge pages": {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"},
    "fused loops": {"XLA_FLAGS": "--xla_backend_extra_options=xla_cpu_small_while_loop_byte_threshold=1000000000"},
    "one Eigen thread": {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"},
}
SETTINGS["huge pages, fused loops"] = SETTINGS["huge pages"] | SETTINGS["fused loops"]
SHAPES = ((1024, 1, 128), (1024, 8, 128), (16384, 8, 128))


def main(argv: Sequence[str] | None = None) -> int:
    """Measures; status 1 if a setting was refused."""
    chosen = parse(argv)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the processes need it, not this one
    console = Console()
    records = record.Records(chosen.out / f"{chosen.name}.jsonl")
    refused = {}
    with report.progress(console, chosen.turns * len(chosen.settings)) as bar, tempfile.TemporaryDirectory() as folder:
        for turn in range(chosen.turns):
            for name in chosen.settings:
                bar.say(f"turn {turn + 1}: {name}")
                path = Path(folder) / f"{turn}-{len(records.rows)}.jsonl"
                failure = run(SETTINGS[name], path, chosen)
                if failure is not None:
                    refused[name] = failure
                    console.print(f"{name}: {failure}", markup=False)
                for row in record.read(path) if path.exists() else ():
                    records.write(row | {"benchmark": "flags", "flags": name, "turn": turn})
                bar.bar.advance(bar.task)
    for found in tables(records.rows, [name for name in chosen.settings if name not in refused]):
        report.show(console, found)
    console.print(f"{records.path}", soft_wrap=True)
    return int(bool(refused))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one shape, one turn")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS), metavar="NAME")
    parser.add_argument("--shapes", nargs="+", type=options.shape, metavar="T,B,h", help=f"{SHAPES}")
    parser.add_argument("--cells", nargs="+", default=["lstm"], metavar="CELL")
    parser.add_argument("--ours", nargs="+", default=["auto/auto", "split/carries"], metavar="ENGINE/MEMORY")
    parser.add_argument("--peers", nargs="*", choices=peers.LIBRARIES, default=["scan", "flax", "torch"])
    parser.add_argument("--turns", type=int, help="processes for each setting (3)")
    parser.add_argument("--rounds", type=int, default=10, help="steps timed in each process (10)")
    parser.add_argument("--out", type=Path, default=options.RESULTS, metavar="DIR")
    parser.add_argument("--name", default=f"flags-{datetime.datetime.now():%Y%m%d-%H%M%S}")
    chosen = parser.parse_args(argv)
    chosen.shapes = chosen.shapes or (SHAPES[1:2] if chosen.quick else SHAPES)
    chosen.turns = chosen.turns or (1 if chosen.quick else 3)
    return chosen


def run(setting: Mapping[str, str], path: Path, chosen: argparse.Namespace) -> str | None:
    """One process of `benchmarks.bptt` that writes ``path``; the last line of its complaint if it failed."""
    words = ["--shapes", *(",".join(map(str, shape)) for shape in chosen.shapes), "--passes", "train"]
    words += ["--cells", *chosen.cells, "--ours", *chosen.ours, "--peers", *chosen.peers]
    words += ["--rounds", str(chosen.rounds), "--seconds", "30"]
    words += ["--out", str(path.parent), "--name", path.stem, "--no-plots"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.bptt", *words],
        cwd=record.ROOT,
        env=environment(os.environ, setting),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return None
    return (done.stderr.strip() or done.stdout.strip() or f"status {done.returncode}").splitlines()[-1]


def environment(now: Mapping[str, str], setting: Mapping[str, str]) -> dict[str, str]:
    """The environment with a setting, flags added to those that are there.

    >>> environment({"XLA_FLAGS": "--a"}, {"XLA_FLAGS": "--b", "C": "1"})
    {'XLA_FLAGS': '--a --b', 'C': '1'}
    """
    flags = " ".join(filter(None, (now.get("XLA_FLAGS"), setting.get("XLA_FLAGS"))))
    return {**now, **setting, **({"XLA_FLAGS": flags} if flags else {})}


def tables(rows: Sequence[dict[str, Any]], settings: Sequence[str]) -> list[Table]:
    """For each shape, the milliseconds of every candidate, and how many times faster a setting makes it."""
    shapes = dict.fromkeys(report.shape(row) for row in rows)
    found = []
    for key in shapes:
        members = [row for row in rows if report.shape(row) == key and "median_s" in row]
        if not members:
            continue
        cell, ticks, batch, hidden = (members[0][name] for name in ("cell", "ticks", "batch", "hidden_size"))
        table = report.blank(f"{cell} training step: T {ticks:,}, B {batch}, h {hidden}: ms (times faster)")
        table.add_column("")
        for setting in settings:
            table.add_column(setting, justify="right")
        for candidate in dict.fromkeys(row["candidate"] for row in members):
            medians = {
                setting: [
                    row["median_s"] for row in members if (row["candidate"], row["flags"]) == (candidate, setting)
                ]
                for setting in settings
            }
            values = {name: statistics.median(times) for name, times in medians.items() if times}
            table.add_row(candidate, *(_cell(values, setting) for setting in settings))
        found.append(table)
    return found


def _cell(values: dict[str, float], setting: str) -> str:
    if setting not in values:
        return ""
    faster = f" ({values['none'] / values[setting]:.2f})" if "none" in values and setting != "none" else ""
    return f"{1e3 * values[setting]:,.2f}{faster}"


if __name__ == "__main__":
    sys.exit(main())
