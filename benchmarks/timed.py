"""What is learned in so many minutes of one core: models that take turns, each at the rate that its time asks for.

taskset -c 1 python -m benchmarks.timed characters --models minGRU LSTM    # trains, records, prints the table
python -m benchmarks.timed pixels --minutes 2 --tune                       # tries: what is held back is left alone
python -m benchmarks.timed --table                                         # the table of all that is recorded

Time is that of the processor, spent on updates: compiling and measuring are not in it, nor is other work on the
machine. Turns of some seconds give every model the same machine. The learning rate rises over a twentieth of a model's
time, then falls to a tenth along a cosine, so that each ends its schedule when its time ends. Needs a folder of public
data, --data or SEQJAX_DATA; run it on one core, as above, or threads count twice.
"""

import argparse
import math
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from benchmarks import record
from benchmarks.timed_rows import ROWS, Model, Row

RESULTS = record.ROOT / "benchmarks" / "results" / "timed.jsonl"
TURN, LOOKS = 10.0, 5  # seconds of a turn; looks at what is held back


class Training:
    """One model while it trains."""

    def __init__(self, model: Model, seed: int) -> None:
        """Before the first update; all is compiled."""
        self.model, self.seed, self.spent, self.updates = model, seed, 0.0, 0
        self.optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())
        self.losses: list[float] = []
        self.curve: list[dict[str, float]] = []
        self.advance = jax.jit(self._advance)
        self._start()
        self._update(0.0)
        self._start()

    def _start(self) -> None:
        self.params = self.model.layer.init(jax.random.key(self.seed))
        self.moments = self.optimizer.init(self.params)
        self.empty = self.memory = self.model.layer.initial_state(self.params, (self.model.batch_size,))
        self.updates, self.losses = 0, []

    def _advance(self, params: Any, moments: Any, memory: Any, batch: Any, rate: jax.Array) -> tuple:
        def loss(params: Any) -> tuple[jax.Array, Any]:
            after, tally = self.model.objective(params, memory, batch, None)
            return tally.mean, after

        (value, after), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        steps, moments = self.optimizer.update(gradient, moments)
        return jax.tree.map(lambda p, s: p - rate * s, params, steps), moments, after, value

    def _update(self, share: float) -> None:
        memory = self.memory if self.model.goes_on(self.updates) else self.empty
        batch = self.model.batch_of(self.updates, self.seed)
        rate = np.float32(self.model.rate * schedule(share))
        self.params, self.moments, self.memory, loss = self.advance(self.params, self.moments, memory, batch, rate)
        self.losses.append(float(loss))
        self.updates += 1

    def turn(self, until: float, budget: float) -> None:
        """Updates until so many seconds are spent in all, of the budget that the rate follows."""
        while self.spent < until:
            began = time.process_time()
            self._update(self.spent / budget)
            self.spent += time.process_time() - began

    def look(self, whole: bool) -> None:
        """A point of the curve: the figure, on all that is held back or a part of it, and the loss since the last."""
        figure = self.model.figure(self.params, not whole)
        point = {"minutes": round(self.spent / 60, 2), "updates": self.updates, "figure": figure}
        self.curve.append(point | {"loss": statistics.fmean(self.losses)})
        self.losses = []


def schedule(share: float) -> float:
    """Of the highest rate, at a share of the time.

    >>> [round(schedule(share), 3) for share in (0, 0.025, 0.05, 0.525, 1)]
    [0.0, 0.5, 1.0, 0.55, 0.1]
    """
    if share < 0.05:
        return share / 0.05
    return 0.55 + 0.45 * math.cos(math.pi * min(1.0, (share - 0.05) / 0.95))


def contest(models: dict[str, Model], seed: int, minutes: float, looks: int = LOOKS) -> dict[str, dict[str, Any]]:
    """All of them by turns; by name what each came to."""
    budget = 60 * minutes
    trainings = {name: Training(model, seed) for name, model in models.items()}
    turns = max(looks, round(budget / TURN))
    for number in range(1, turns + 1):
        for name, training in trainings.items():
            training.turn(budget * number / turns, budget)
            if number * looks // turns > (number - 1) * looks // turns:
                training.look(number == turns)
                print(f"{name}, seed {seed}: {training.curve[-1]}", flush=True)
    return {
        name: {
            "figure": training.curve[-1]["figure"],
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(training.params)),
            "updates": training.updates,
            "curve": training.curve,
        }
        for name, training in trainings.items()
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Trains and tells."""
    chosen = parse(argv)
    known = record.read(chosen.results) if chosen.results.exists() else []
    if chosen.table:
        print("\n".join(table(known)))
        return 0
    records = record.Records(chosen.results)
    for name in chosen.names:
        minutes = chosen.minutes or ROWS[name].minutes
        made = ROWS[name].models(chosen.data, chosen.tune)
        models = {kind: make() for kind, make in made.items() if any(text in kind for text in chosen.models or [""])}
        if not models:
            print(f"{name}: expected models of {', '.join(made)}, got {' '.join(chosen.models)}.", file=sys.stderr)
            return 2
        for seed in chosen.seeds:
            for kind, found in contest(models, seed, minutes, 1 if chosen.tune else LOOKS).items():
                if not chosen.tune:
                    records.write({"row": name, "model": kind, "seed": seed, "minutes": minutes} | found)
                    known.append(records.rows[-1])
    print("\n".join(table(known)))
    return 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; all if none")
    parser.add_argument("--models", nargs="+", metavar="TEXT", help="only models whose name holds one of these")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="N", help="(0)")
    parser.add_argument("--minutes", type=float, metavar="N", help="for each model, instead of the row's")
    parser.add_argument("--tune", action="store_true", help="measure on a part of the training data; records nothing")
    parser.add_argument("--table", action="store_true", help="print the table of what is recorded and end")
    parser.add_argument("--data", type=Path, default=os.environ.get("SEQJAX_DATA"), metavar="FOLDER")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE")
    chosen = parser.parse_args(argv)
    for name in chosen.names:
        if name not in ROWS:
            parser.error(f"expected rows of {', '.join(ROWS)}, got {name!r}. Choose among them.")
    if chosen.data is None and not chosen.table:
        parser.error("expected a folder of public data, got none. Give --data FOLDER or set SEQJAX_DATA.")
    chosen.data = chosen.data and Path(chosen.data)
    chosen.names = chosen.names or list(ROWS)
    return chosen


def table(known: Sequence[dict[str, Any]]) -> list[str]:
    """Markdown: a line a model and time that is recorded."""
    lines = [
        "| task | model | minutes of one core | figure (lowest to highest) | seeds | after each fifth of the time "
        "| required | published | command |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in ROWS.items():
        mine = [r for r in known if r["row"] == name]
        groups: dict[tuple[str, float], list[dict[str, Any]]] = {}
        for r in mine:
            groups.setdefault((r["model"], r["minutes"]), []).append(r)
        medians = {key: statistics.median(r["figure"] for r in found) for key, found in groups.items()}
        for (kind, minutes), found in groups.items():
            figures = sorted(r["figure"] for r in found)
            spread = f" ({row.show.format(figures[0])} to {row.show.format(figures[-1])})" if len(figures) > 1 else ""
            others = [m for (k, n), m in medians.items() if n == minutes and not k.startswith(row.about)]
            words = " ".join(dict.fromkeys(k.split(",")[0] for k, n in medians if n == minutes))
            command = f"python -m benchmarks.timed {name} --minutes {minutes:g} --models {words}"
            cells = (
                row.task,
                f"{kind}, {found[0]['parameters']:,} parameters",
                f"{minutes:g}",
                row.show.format(medians[kind, minutes]) + spread,
                str(len(found)),
                ", ".join(row.show.format(point["figure"]) for point in found[0]["curve"]),
                verdict(row, medians[kind, minutes], others) if kind.startswith(row.about) else "",
                row.published,
                f"`{command}`",
            )
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def verdict(row: Row, figure: float, others: Sequence[float]) -> str:
    """What is required of a figure, beside the others too, and whether it is that."""
    said = []
    if row.at_least is not None:
        met = figure >= row.at_least
        said.append(f"at least {row.show.format(row.at_least)}: {'reached' if met else 'not reached'}")
    if row.at_most is not None:
        met = figure <= row.at_most
        said.append(f"at most {row.show.format(row.at_most)}: {'reached' if met else 'not reached'}")
    if row.within is not None and others:
        met = figure - min(others) <= row.within
        said.append(f"within {row.within:g} of the others: {'reached' if met else 'not reached'}")
    return "; ".join(said)


if __name__ == "__main__":
    sys.exit(main())
