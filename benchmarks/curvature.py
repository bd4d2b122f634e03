"""Hessian-free learning on characters beside Adam and plain gradient descent, each for as long.

taskset -c 1 python -m benchmarks.curvature --text DATA/tinyshakespeare/input.txt   # trains, records, prints the table
python -m benchmarks.curvature --cell lstm --seeds 0    # another recurrence; Python's own library without --text
python -m benchmarks.curvature --table                  # the table of all that is recorded

One layer reads windows from anywhere in the text, each without a past, and says every next character; the last tenth of
the text is held back, and read in such windows too. Time is that of the processor, spent on updates: compiling and
measuring are not in it, nor is other work on the machine. All ways take turns of some seconds. Run it on one core, as
above, or threads count twice: some four minutes a seed.

- Hessian-free: ∇L and ρ of 512 windows, at most 30 products with G of 128 of them, anew every update (Kiros 2013);
  damping, and where the search begins, as in `seqjax.curvature.hessian_free_step`. Nothing has a rate.
- Adam: 32 windows an update, gradients clipped to a norm of 1, at each of three rates.
- Gradient descent, the control: Hessian-free learning's own batches, a step along -∇L in place of its own, at each of
  three rates.

Of Adam and of gradient descent the rate counts that is the best in the end on what is held back, by the median of
seeds. Floors are models that count single characters and pairs.

References:
  Martens and Sutskever (2011), Learning recurrent neural networks with Hessian-free optimization.
  https://icml.cc/2011/papers/532_icmlpaper.pdf
  Kiros (2013), Training neural networks with stochastic Hessian-free optimization. https://arxiv.org/abs/1301.3641
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from matplotlib.figure import Figure

import seqjax as sj
from benchmarks import record
from seqjax import curvature
from seqjax.base import Array, PyTree
from seqjax.recipes.language.ngrams import ngram_nats
from seqjax.recipes.language.text import standard_library
from seqjax.recipes.pictures.curves import curves
from seqjax.tasks.texts import read_text
from seqjax.tasks.vocabulary import Vocabulary

RESULTS = record.ROOT / "benchmarks" / "results" / "curvature.jsonl"
CELLS = {"elman": sj.elman, "lstm": sj.lstm}
NAMES = {"elman": "Elman", "lstm": "LSTM"}
NEWTON, ADAM, DESCENT = "Hessian-free", "Adam", "gradient descent"
RATES: dict[str, tuple[float | None, ...]] = {NEWTON: (None,), ADAM: (1e-3, 2e-3, 4e-3), DESCENT: (0.5, 1.0, 2.0)}
EMBEDDING, ITERATIONS = 64, 30
TURN, LOOKS = 2.5, 10  # seconds of a turn; looks at what is held back
SHAPE = ("text", "cell", "units", "ticks", "seconds")
Row = dict[str, Any]


class Way(NamedTuple):
    """How to learn.

    Attributes:
      batch_size: windows an update.
      begin: ``(params) -> state``.
      update: ``(params, state, rate, batch) -> (params, state)``, compiled.
    """

    batch_size: int
    begin: Callable[[PyTree], PyTree]
    update: Callable[..., tuple[PyTree, PyTree]]


def main(argv: Sequence[str] | None = None) -> int:
    """Trains, records, and tells."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, metavar="FILE", help="Python's own standard library if not given")
    parser.add_argument("--cell", choices=[*CELLS], default="elman")
    parser.add_argument("--units", type=int, default=128)
    parser.add_argument("--ticks", type=int, default=64, help="characters of a window")
    parser.add_argument("--batch-size", type=int, default=32, help="windows of an update by Adam")
    parser.add_argument("--whole", type=int, default=512, help="those of the two other ways")
    parser.add_argument("--part", type=int, default=128, help="those of them that products read")
    parser.add_argument("--seconds", type=float, default=25.0, help="of the processor, for every way and rate")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--table", action="store_true", help="print the table of what is recorded and end")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE")
    chosen = parser.parse_args(argv)
    records = record.Records(chosen.results)
    for seed in [] if chosen.table else chosen.seeds:
        for row in contest(chosen, seed):
            records.write(row)
    print("\n".join(table(record.read(chosen.results))))
    return 0


def contest(chosen: argparse.Namespace, seed: int) -> list[Row]:
    """All ways and rates by turns: a row each."""
    text = standard_library() if chosen.text is None else read_text(str(chosen.text))
    vocabulary = Vocabulary.build([text], specials=())
    train, held_back = np.split(vocabulary.encode(text), [int(0.9 * len(text))])
    symbols = len(vocabulary)
    unigrams, bigrams = ngram_nats(train, held_back, symbols, 2)
    recurrence = sj.recurrent(CELLS[chosen.cell](EMBEDDING, chosen.units))
    model = sj.serial(sj.embedding(symbols, EMBEDDING), recurrence, sj.dense(chosen.units, symbols))
    look = measured(model, held_back, chosen.ticks)
    draw = lambda size, number: windows(train, chosen.ticks, size, (seed, number))
    learners = {
        (name, rate): Learner(way, rate, model.init(jax.random.key(seed)), draw)
        for name, way in ways(model, chosen.batch_size, chosen.whole, chosen.part).items()
        for rate in RATES[name]
    }
    turns = max(LOOKS, round(chosen.seconds / TURN))
    for number in range(1, turns + 1):
        for learner in learners.values():
            learner.turn(chosen.seconds * number / turns)
            if number * LOOKS // turns > (number - 1) * LOOKS // turns:
                learner.curve.append((round(learner.spent, 3), look(learner.params)))
    about = {
        "text": "standard library" if chosen.text is None else chosen.text.parent.name or chosen.text.stem,
        "characters": len(text),
        "floors": {"characters counted": unigrams, "pairs counted": bigrams},
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(model.init(jax.random.key(seed)))),
        **{name: getattr(chosen, name) for name in ("cell", "units", "ticks", "seconds", "whole", "part")},
    }
    return [
        {
            **about,
            "way": name,
            "rate": rate,
            "batch_size": learner.way.batch_size,
            "seed": seed,
            "nats": learner.curve[-1][1],
            "updates": learner.updates,
            "curve": learner.curve,
        }
        for (name, rate), learner in learners.items()
    ]


class Learner:
    """One way at one rate, while it learns."""

    def __init__(self, way: Way, rate: float | None, params: PyTree, draw: Callable[[int, int], sj.Batch]) -> None:
        """Before the first update; all is compiled."""
        self.way, self.rate, self.draw = way, np.float32(rate or 0), draw
        self.params, self.state = params, way.begin(params)
        self.spent, self.updates = 0.0, 0
        self.curve: list[tuple[float, float]] = []
        jax.block_until_ready(way.update(params, self.state, self.rate, draw(way.batch_size, 0)))

    def turn(self, until: float) -> None:
        """Updates until so many seconds are spent in all."""
        while self.spent < until:
            began = time.process_time()
            batch = self.draw(self.way.batch_size, self.updates)
            given = self.params, self.state, self.rate, batch
            self.params, self.state = jax.block_until_ready(self.way.update(*given))
            self.spent += time.process_time() - began
            self.updates += 1


def ways(model: sj.Layer, batch_size: int, whole: int, part: int) -> dict[str, Way]:
    """By name."""
    adam, plain = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam()), optax.identity()

    def newton(params: PyTree, state: PyTree, rate: Array, batch: sj.Batch) -> tuple[PyTree, PyTree]:
        some = sj.Batch(batch.xs[:, :part], batch.targets[:, :part])
        of_whole, of_part = ((lambda params, b=b: (logits(model, params, b.xs), ())) for b in (batch, some))
        loss, loss_of_part = ((lambda z, b=b: sj.cross_entropy(z, b.targets).mean) for b in (batch, some))
        bent = of_part, loss_of_part
        params, state, _ = curvature.hessian_free_step(
            of_whole, loss, params, state, curvature=bent, iterations=ITERATIONS
        )
        return params, state

    return {
        NEWTON: Way(whole, curvature.hessian_free, jax.jit(newton)),
        ADAM: first_order(model, adam, batch_size),
        DESCENT: first_order(model, plain, whole),
    }


def first_order(model: sj.Layer, optimizer: optax.GradientTransformation, batch_size: int) -> Way:
    """θ - rate · what an optimizer makes of ∇L."""

    def update(params: PyTree, state: PyTree, rate: Array, batch: sj.Batch) -> tuple[PyTree, PyTree]:
        gradient = jax.grad(lambda params: nats(model, params, batch))(params)
        steps, state = optimizer.update(gradient, state)
        return jax.tree.map(lambda p, s: p - rate * s, params, steps), state

    return Way(batch_size, optimizer.init, jax.jit(update))


def logits(model: sj.Layer, params: PyTree, xs: Array) -> Array:
    """Of every next character, from a state that has read nothing."""
    return model.apply(params, model.initial_state(params, xs.shape[1:]), xs)[1]


def nats(model: sj.Layer, params: PyTree, batch: sj.Batch) -> Array:
    """A character."""
    return sj.cross_entropy(logits(model, params, batch.xs), batch.targets).mean


def windows(numbers: np.ndarray, ticks: int, size: int, seed: Sequence[int]) -> sj.Batch:
    """From anywhere in a text."""
    starts = np.random.default_rng(seed).integers(0, len(numbers) - ticks, size)
    read = numbers[starts + np.arange(ticks + 1)[:, None]]
    return sj.Batch(read[:-1], read[1:])


def measured(model: sj.Layer, numbers: np.ndarray, ticks: int) -> Callable[[PyTree], float]:
    """A function of the parameters: nats a character of a text cut into windows, the last of which is whole, too."""
    count = (len(numbers) - 1) // ticks
    xs, targets = (numbers[at : at + count * ticks].reshape(count, ticks).T for at in (0, 1))
    look = jax.jit(lambda params: nats(model, params, sj.Batch(xs, targets)))
    return lambda params: float(look(params))


def best(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each way at the rate that is the best in the median of its seeds."""
    found: dict[str, dict[float | None, list[Row]]] = {}
    for row in rows:
        found.setdefault(row["way"], {}).setdefault(row["rate"], []).append(row)
    median = lambda runs: statistics.median(row["nats"] for row in runs)
    return {name: min(rates.values(), key=median) for name, rates in found.items()}


def groups(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows of one text, model and time."""
    found: dict[tuple, list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in SHAPE), []).append(row)
    return list(found.values())


def table(rows: Sequence[Row]) -> list[str]:
    """Markdown: a line a way, for each text, model and time."""
    lines = [
        "| text, model | way | rate | nats a character, held back (lowest to highest) | seeds | windows an update "
        "| updates | after a tenth, a fifth and half of the time |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for members in groups(rows):
        first = members[0]
        model = f"{NAMES[first['cell']]}, {first['units']} units, {first['parameters']:,} parameters"
        told = f"{first['text']}, {first['ticks']} characters a window; {model}; {first['seconds']:g} s"
        for name, runs in best(members).items():
            rates = [row["rate"] for row in members if row["way"] == name and row["seed"] == runs[0]["seed"]]
            rate = f"{runs[0]['rate']:g} of {', '.join(f'{r:g}' for r in rates)}" if runs[0]["rate"] else ""
            figures = sorted(row["nats"] for row in runs)
            course = [statistics.median(row["curve"][at][1] for row in runs) for at in (0, 1, LOOKS // 2 - 1)]
            part = f", {first['part']} for products" if name == NEWTON else ""
            cells = (
                told,
                name,
                rate,
                f"{statistics.median(figures):.3f} ({figures[0]:.3f} to {figures[-1]:.3f})",
                str(len(runs)),
                f"{runs[0]['batch_size']}{part}",
                f"{statistics.median(row['updates'] for row in runs):,.0f}",
                ", ".join(f"{value:.3f}" for value in course),
            )
            lines.append(f"| {' | '.join(cells)} |")
        for name, level in first["floors"].items():
            lines.append(f"| {told} | {name} | | {level:.3f} | | | | |")
    return lines


def draw(rows: Sequence[Row]) -> Figure:
    """The medians against seconds, of the first text, model and time."""
    first = groups(rows)[0]
    lines = {}
    for name, runs in best(first).items():
        points = np.median([row["curve"] for row in runs], 0).T
        lines[name if runs[0]["rate"] is None else f"{name}, rate {runs[0]['rate']:g}"] = tuple(points.tolist())
    levels = {name: level for name, level in first[0]["floors"].items() if name.startswith("pairs")}
    return curves(lines, levels, x_label="seconds of the processor", y_label="nats a character (held back)")


if __name__ == "__main__":
    raise SystemExit(main())
