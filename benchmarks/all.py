"""Every benchmark of time, run after run, each in a process of its own: what the pages tell of.

python -m benchmarks.all                   # all, three runs of at most 115 minutes each
python -m benchmarks.all hmm ctc --runs 1  # these alone, each in its own share of that
python -m benchmarks.all --minutes 40      # of one run: every benchmark has less in proportion, in fewer rounds
python -m benchmarks.all --list            # benchmarks, their minutes and commands

Measure on a quiet machine. A benchmark that has not ended within its share is stopped; who fails is named, the rest
goes on, and the status is 1. What is done is kept beside the results: the same command goes on where it was stopped,
and with what failed. When all runs of a benchmark are there they replace, in benchmarks/results, what was measured with
the same processor and version of JAX. `python -m benchmarks.headline` makes the pages from them.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import record

RESULTS = record.ROOT / "benchmarks" / "results"
# Buffers in huge pages: without them large temporaries are faulted in 4 KB at a time, whoever needs them.
ENVIRONMENT = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


class Benchmark(NamedTuple):
    """One file of results.

    Attributes:
      minutes: that one run may take.
      seconds: of the rounds of a row, in that time.
      commands: what follows ``python -m benchmarks.``, one after the other, with ``{file}``, ``{folder}``, ``{name}``
        and ``{seconds}`` to be filled in.
    """

    minutes: float
    seconds: float
    commands: tuple[str, ...]


HMM = "--only ours dynamax hmmlearn --call-limit 5 --seconds {seconds}"  # who is never the fastest is left out
BENCHMARKS = {
    "bptt": Benchmark(19, 6, ("bptt --headline --runs 1 --no-plots --seconds {seconds} --out {folder} --name {name}",)),
    "rows_lstm": Benchmark(
        10, 10, ("bptt --rows --cells lstm --no-plots --seconds {seconds} --out {folder} --name {name}",)
    ),
    "rows_gru": Benchmark(
        10, 10, ("bptt --rows --cells gru --no-plots --seconds {seconds} --out {folder} --name {name}",)
    ),
    "limit": Benchmark(
        20,
        6,
        (
            "bptt --rows --cells lstm gru layer_norm_lstm --passes train forward --ours auto/auto split/auto scan/all "
            "--devices 1 2 --peers --no-plots --seconds {seconds} --out {folder} --name {name}",
        ),
    ),
    "engines": Benchmark(4, 0, ("engines --rounds 3 --out {file}",)),
    "charlm": Benchmark(8, 5, ("charlm --layers 1 --seconds {seconds} --out {folder} --name {name}",)),
    "decoding": Benchmark(
        5,
        6,
        (
            "decoding --batch 1 --width 0 --seconds {seconds} --out {file}",
            "decoding --vocabulary 10000 --hidden 256 --batch 1 --width 1 5 --seconds {seconds} --out {file}",
            "decoding --vocabulary 10000 --hidden 256 --batch 8 --width 0 1 5 --seconds {seconds} --out {file}",
        ),
    ),
    "hmm": Benchmark(
        6,
        4,
        (
            f"hmm --algorithms forward viterbi {HMM} --out {{file}}",
            f"hmm --algorithms em --lengths 1000 10000 {HMM} --out {{file}}",
        ),
    ),
    "crf": Benchmark(2, 5, ("crf --seconds {seconds} --out {file}",)),
    "ctc": Benchmark(2, 5, ("ctc --seconds {seconds} --out {file}",)),
    "reading": Benchmark(2, 10, ("reading --seconds {seconds} --out {file}",)),
    "parallel": Benchmark(8, 10, ("parallel --seconds {seconds} --output {file}",)),
    "interop": Benchmark(7, 6, ("interop --seconds {seconds} --out {file}",)),
    "sweep": Benchmark(12, 1.5, ("sweep --seconds {seconds} --results {file}",)),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what is not there yet; status 1 if anything failed."""
    chosen = parse(argv)
    if chosen.list:
        for name in chosen.names:
            benchmark = BENCHMARKS[name]
            print(f"{name:10} {benchmark.minutes:4g} min  {' && '.join(benchmark.commands)}")
        return 0
    share = chosen.minutes / sum(BENCHMARKS[name].minutes for name in chosen.names)
    failed = {}
    for run in range(1, chosen.runs + 1):
        for name in chosen.names:
            done = chosen.folder / f"{name}.{run}.jsonl"
            if done.exists():
                print(f"{name}, run {run}: is there", flush=True)
                continue
            began = time.monotonic()
            failure = measure(BENCHMARKS[name], share, done)
            print(f"{name}, run {run}: {failure or 'done'}, {(time.monotonic() - began) / 60:.1f} min", flush=True)
            if failure:
                failed[name, run] = failure
    for name in chosen.names:
        files = [chosen.folder / f"{name}.{run}.jsonl" for run in range(1, chosen.runs + 1)]
        if all(file.exists() for file in files):
            merge(chosen.results / f"{name}.jsonl", files)
    if not failed:
        for name in chosen.names:
            for file in chosen.folder.glob(f"{name}.*.jsonl"):
                file.unlink()
    print("\n".join(f"failed: {name}, run {run}: {why}" for (name, run), why in failed.items()) or "all done")
    return int(bool(failed))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all if none")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="(3)")
    parser.add_argument("--minutes", type=float, metavar="N", help="of one run at most; those of --list if not given")
    parser.add_argument("--list", action="store_true", help="print the benchmarks and end")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    chosen = parser.parse_args(argv)
    for name in chosen.names:
        if name not in BENCHMARKS:
            parser.error(f"expected benchmarks of {', '.join(BENCHMARKS)}, got {name!r}. Choose among them.")
    if chosen.runs < 1:
        parser.error(f"--runs: expected at least 1, got {chosen.runs}.")
    chosen.names = chosen.names or list(BENCHMARKS)
    chosen.minutes = chosen.minutes or sum(BENCHMARKS[name].minutes for name in chosen.names)
    chosen.folder = chosen.results / "unfinished" / f"jax-{record.versions()['jax']}"
    return chosen


def measure(benchmark: Benchmark, share: float, done: Path) -> str | None:
    """One run of a benchmark that ends in the file ``done``; why not, if it failed."""
    part = done.with_suffix(".part.jsonl")
    part.parent.mkdir(parents=True, exist_ok=True)
    part.unlink(missing_ok=True)
    until = time.monotonic() + 60 * share * benchmark.minutes
    fill = {"file": part, "folder": part.parent, "name": part.stem, "seconds": f"{share * benchmark.seconds:.3g}"}
    for command in benchmark.commands:
        words = [word.format(**fill) for word in command.split()]
        try:
            process = subprocess.run(
                [sys.executable, "-m", f"benchmarks.{words[0]}", *words[1:]],
                cwd=record.ROOT,
                env={**ENVIRONMENT, **os.environ},
                capture_output=True,
                text=True,
                check=False,
                timeout=max(0.0, until - time.monotonic()),
            )
        except subprocess.TimeoutExpired:
            return f"took more than its {share * benchmark.minutes:.3g} minutes"
        if process.returncode:
            said = (process.stderr.strip() or process.stdout.strip()).splitlines()
            return f"status {process.returncode}: {said[-1] if said else 'it said nothing'}"
    if not part.exists():
        return "it wrote nothing"
    part.rename(done)
    return None


def merge(results: Path, runs: Sequence[Path]) -> None:
    """Puts the rows of all runs in the place of those of the same processor and version of JAX."""
    new = [row | {"run": number} for number, file in enumerate(runs, 1) for row in record.read(file)]
    settings = {record.setting(row) for row in new}
    old = [row for row in (record.read(results) if results.exists() else []) if record.setting(row) not in settings]
    results.write_text("".join(json.dumps(row) + "\n" for row in [*old, *new]), "utf-8")


if __name__ == "__main__":
    sys.exit(main())
