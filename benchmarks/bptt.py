"""Backpropagation through time against its length: time, memory and compile time, beside other libraries.

python -m benchmarks.bptt            # T from 256 to 65,536: a table a length, JSON lines, plots
python -m benchmarks.bptt --quick    # the same in three minutes on two cores
python -m benchmarks.bptt --headline # three runs of LSTM, GRU and Elman cell, for benchmarks.headline
python -m benchmarks.bptt --rows     # eight shapes of LSTM and GRU: times faster than the others, and means
python -m benchmarks.bptt --minutes 9   # what begins later is skipped by name

It runs on the device that JAX finds, and names it in titles and results; `benchmarks.gpu` asks a GPU what tells most.

All candidates start from the same weights and inputs. Their losses, outputs and gradients are compared with a
scan written from the equations before anything is timed; who differs is not timed.
"""

import argparse
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rich.console import Console

from benchmarks import limit, memory, options, plots, program, record, report, timing
from benchmarks.candidates import Candidate, Limits, Unmeasured, describe, proven
from benchmarks.problem import Problem, Result


def main(argv: Sequence[str] | None = None) -> int:
    """Measures; status 1 if any candidate's results were wrong."""
    chosen = options.parse(__doc__, argv)
    console = Console()
    options.set_up(chosen)
    records = record.Records(chosen.out / f"{chosen.name}.jsonl")
    candidates = options.candidates(chosen, console)
    rows = options.problems(chosen)
    if chosen.headline and chosen.from_run == 1:  # it tells one measurement: that of before leaves
        records.path.unlink(missing_ok=True)
    past: dict[tuple, tuple[float, float]] = {}
    end = time.monotonic() + 60 * chosen.minutes
    wrong = False
    with report.progress(console, (chosen.runs - chosen.from_run + 1) * len(rows) * len(chosen.passes)) as bar:
        for run, row, which in itertools.product(range(chosen.from_run, chosen.runs + 1), rows, chosen.passes):
            lines = measure(row, which, candidates, chosen, past, bar.say, end)
            for line in lines:
                records.write(line | {"run": run})
                wrong |= line.get("skipped", "").startswith("differs")
            bar.done(report.table(lines))
    for reference in ("torch", "other JAX", "scan", "limit"):
        for found in report.ratios(records.rows, reference):
            report.show(console, found)
    console.print(f"{records.path}", soft_wrap=True)
    if chosen.plots:
        for path in plots.draw(records.rows, records.path.with_suffix("")):
            console.print(f"{path}", soft_wrap=True)
    return int(wrong)


def measure(
    row: Problem,
    which: str,
    candidates: Iterable[Candidate],
    chosen: argparse.Namespace,
    past: dict[tuple, tuple[float, float]],
    say: Callable[[str], None],
    end: float = math.inf,
) -> list[dict[str, Any]]:
    """All candidates on one row and pass: compiled, proven equal, then timed in turns.

    ``past`` remembers what candidates took a tick, seconds and bytes, so that what would take too long or too
    much at a greater length is not begun; nor is anything behind ``end``, as `time.monotonic` has it.
    """
    program.placed.cache_clear()  # another row's inputs
    limits = Limits(chosen.memory_limit * 1e9 or 0.7 * memory.available(), chosen.call_limit)
    truths: dict[str, Result] = {}
    runners, lines = {}, []
    title = f"{row.cell} T {row.ticks:,} {which}"
    for candidate in candidates:
        if candidate.variant(row) is None:
            continue
        say(f"{title}: {candidate.name}, compiling")
        line = describe(candidate, row, which)
        lines.append(line)
        try:
            if time.monotonic() > end:
                raise Unmeasured(f"{chosen.minutes:.2g} minutes are over")
            seconds, taken = past.get(kind(line), (0, 0))
            limits.check("would take", seconds=row.ticks * seconds, taken=row.ticks * taken)
            runner, numbers = proven(candidate, row, which, limits, truths)
        except Unmeasured as reason:
            line["skipped"] = str(reason)
            continue
        runners[candidate.name] = runner.call
        line |= numbers
    timed = chosen.limit and time.monotonic() < end
    counts = sorted({line["devices"] for line in lines if line["candidate"] in runners}) if timed else []
    below: dict[int, dict[str, str]] = {}
    for count in counts:
        say(f"{title}: limit ×{count}, compiling")
        of_parts = limit.runners(row, which, count)
        below[count] = {f"limit ×{count}: {part}": part for part in of_parts}
        runners |= dict(zip(below[count], of_parts.values()))
    times = timing.interleave(
        runners,
        rounds=chosen.rounds,
        seconds=chosen.seconds,
        patience=60 if chosen.runs > 1 else math.inf,
        after_round=lambda done: say(f"{title}: round {done} of at most {chosen.rounds}"),
    )
    for line in lines:
        if (taken := times.get(line["candidate"])) is None:
            continue
        line |= report.times(taken)
        if line["devices"] in below:
            named = {part: times[name].median for name, part in below[line["devices"]].items()}
            line |= {"limit_s": limit.total(named), "limit": named}
        # Compiled programs say beforehand how much they need; for others it is taken to grow with T.
        unforeseen = line["growth_bytes"] if line["temporary_bytes"] is None else None
        past[kind(line)] = (taken.median / row.ticks, (unforeseen or 0) / row.ticks)
    return lines


def kind(line: dict[str, Any]) -> tuple:
    """What a candidate's rows of different length share."""
    return (line["candidate"], *(line.get(name) for name in report.SHAPE if name != "ticks"))


if __name__ == "__main__":
    sys.exit(main())
