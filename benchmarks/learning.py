"""Whether cells learn what they are said to, and fail where they must: small tasks, over seeds, beside chance.

python -m benchmarks.learning --list              # the rows, their models, what is required of them
python -m benchmarks.learning parity recall       # trains what is not recorded yet, then prints the table
python -m benchmarks.learning --table             # the table of all that is recorded; trains nothing

Every update draws new sequences. What cannot be learned is as much a result as what can: a target that leaks would
look like success. The gradient row trains nothing; it asks what is left of a gradient after 10,000 ticks.
"""

import argparse
import functools
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import seqjax as sj
from benchmarks import record
from benchmarks.learning_rows import ROWS, Model, Row
from seqjax import tasks

RESULTS = record.ROOT / "benchmarks" / "results" / "learning.jsonl"
TESTED, TOGETHER = 1000, 50  # sequences that are tested; updates in one program
GRADIENTS, RINGS, TICKS = "gradients", ((0.9, 0.999), (0.0, 1.0)), 10_000


class Program(NamedTuple):
    """A model as compiled functions: parameters and optimizer by key, updates by batches, answers by inputs."""

    start: Callable
    updates: Callable
    answers: Callable


@functools.cache
def program(make: Callable[[], sj.Layer], updates: int, rate: float) -> Program:
    """Adam with the gradient clipped to 1 and a rate that rises over a twentieth, then falls to a tenth."""
    model, schedule = make(), optax.warmup_cosine_decay_schedule(0, rate, updates // 20, updates, rate / 10)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))

    def outputs(params: Any, xs: jax.Array) -> jax.Array:
        return model.apply(params, model.initial_state(params, xs.shape[1:]), xs)[1]

    def loss(params: Any, batch: tasks.Examples) -> jax.Array:
        return sj.cross_entropy(outputs(params, batch.xs), batch.targets, batch.scored).mean

    def update(train: tuple, batch: tasks.Examples) -> tuple[tuple, jax.Array]:
        params, state = train
        value, gradient = jax.value_and_grad(loss)(params, batch)
        steps, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, steps), state), value

    def start(key: jax.Array) -> tuple:
        params = model.init(key)
        return params, optimizer.init(params)

    return Program(
        jax.jit(start),
        jax.jit(functools.partial(jax.lax.scan, update)),
        jax.jit(lambda params, xs: outputs(params, xs).argmax(-1)),
    )


def share_right(run: Program, params: Any, examples: tasks.Examples) -> float:
    """Of the answers that count; one a sequence counts at its last tick."""
    found = np.asarray(run.answers(params, examples.xs))
    if examples.scored.ndim == 1:
        last = examples.mask.sum(0) - 1
        return float((found[last, np.arange(len(last))] == examples.targets).mean())
    return float((found == examples.targets)[examples.scored].mean())


def fit(row: Row, model: Model, seed: int, show: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """One training: the share of right answers on what is tested, and on what was trained."""
    run = program(model.make, row.updates, row.rate)
    train, began = run.start(jax.random.key(seed)), time.perf_counter()
    rng, others = np.random.default_rng((seed, 0)), np.random.default_rng((seed, 1))
    done = 0
    for problem, count in row.train:
        for begin in range(0, count, TOGETHER):
            drawn = [problem.draw(rng, row.batch_size) for _ in range(min(TOGETHER, count - begin))]
            train, losses = run.updates(train, tasks.Examples(*map(np.stack, zip(*drawn))))
            done += len(drawn)
            show(f"{done} updates, loss {float(losses.mean()):.4f}")
    seconds = time.perf_counter() - began
    figure, trained = (share_right(run, train[0], p.draw(others, TESTED)) for p in (row.test, row.train[0][0]))
    return {"figure": figure, "trained": trained, "loss": float(losses[-1]), "seconds": round(seconds, 1)}


def ring_of(ring: tuple[float, float]) -> sj.Cell:
    """An LRU of 64 units in float32 whose eigenvalues lie between two radii."""
    return sj.cells.lru(64, 64, r_min=ring[0], r_max=ring[1], max_phase=np.pi / 10, dtype=jnp.float32)


def gradient_norm(ring: tuple[float, float], seed: int, ticks: int = TICKS) -> float:
    """‖∂h_T/∂x_1‖₂, the largest singular value, of an LRU just made."""
    cell = ring_of(ring)
    params = cell.init(jax.random.key(seed))
    xs = jax.random.normal(jax.random.key(seed + 1), (ticks, 64), jnp.float32)
    parts = lambda h: jnp.concatenate([h.real, h.imag])

    def last(first: jax.Array) -> jax.Array:
        state = sj.unroll(cell, params, cell.initial_state(params), jnp.concatenate([first[None], xs[1:]]))[0]
        return parts(state)

    return float(jnp.linalg.norm(jax.jit(jax.jacrev(last))(xs[0]), 2))


def main(argv: Sequence[str] | None = None) -> int:
    """Trains and tells."""
    chosen = parse(argv)
    rows = {name: ROWS[name]() for name in chosen.names if name != GRADIENTS}
    if chosen.list:
        for name, row in rows.items():
            print(f"{name}: {row.task}; {row.protocol}")
            for model, about in row.models.items():
                print(f"    {model}: {about.verdict(0.0).split(':')[0] or 'told only'}")
        return 0
    known = record.read(chosen.results) if chosen.results.exists() else []
    if not chosen.table:
        measure(chosen, rows, known)
    print("\n".join(table(known, chosen.names)))
    return 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="ROW", help=f"of {', '.join((*ROWS, GRADIENTS))}; all if none")
    parser.add_argument("--models", default="", metavar="TEXT", help="only models whose name holds this")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N", help="(0 1 2)")
    parser.add_argument("--list", action="store_true", help="print the rows and end")
    parser.add_argument("--table", action="store_true", help="print the table of what is recorded and end")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE")
    chosen = parser.parse_args(argv)
    every = (*ROWS, GRADIENTS)
    for name in chosen.names:
        if name not in every:
            parser.error(f"expected rows of --list, got {name!r}. Choose among {', '.join(every)}.")
    chosen.names = chosen.names or list(every)
    return chosen


def measure(chosen: argparse.Namespace, rows: dict[str, Row], known: list[dict[str, Any]]) -> None:
    """Trains what is not recorded yet, model by model and seed by seed, and adds it to the file."""
    records = record.Records(chosen.results)

    def add(line: dict[str, Any]) -> None:
        records.write(line)
        known.append(records.rows[-1])
        print(f"{line['row']}, {line['model']}, seed {line['seed']}: {line['figure']:.4g}", flush=True)

    for name, row in rows.items():
        for kind, model in row.models.items():
            for seed in chosen.seeds:
                if chosen.models in kind and not any(r["seed"] == seed for r in of(known, name, row, kind)):
                    show = lambda text: print(f"\r{text}", end=" ", file=sys.stderr, flush=True)
                    about = {"row": name, "model": kind, "seed": seed, **row.protocol}
                    add(about | fit(row, model, seed, show if sys.stderr.isatty() else lambda text: None))
    for ring in RINGS if GRADIENTS in chosen.names else ():
        kind = name_of(ring)
        for seed in chosen.seeds:
            if not any((r["row"], r["model"], r["seed"]) == (GRADIENTS, kind, seed) for r in known):
                add({"row": GRADIENTS, "model": kind, "seed": seed, "figure": gradient_norm(ring, seed)})


def name_of(ring: tuple[float, float]) -> str:
    """A row of the gradients; the first of the rings is the one for long sequences."""
    return f"LRU, ring {ring[0]:g} to {ring[1]:g}"


def of(known: Sequence[dict[str, Any]], name: str, row: Row, model: str) -> list[dict[str, Any]]:
    """The lines of a model as it is trained now."""
    return [r for r in known if (r["row"], r["model"]) == (name, model) and row.protocol.items() <= r.items()]


def table(known: Sequence[dict[str, Any]], names: Sequence[str] = (*ROWS, GRADIENTS)) -> list[str]:
    """Markdown: a line a model that is recorded."""
    lines = [
        "| task | model | median (lowest to highest) | seeds | chance | required | published | command | minutes |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in names:
        if name == GRADIENTS:
            lines += gradients(known)
            continue
        row = ROWS[name]()
        for kind, model in row.models.items():
            found = of(known, name, row, kind)
            if not found:
                continue
            figures = sorted(r["figure"] for r in found)
            middle, minutes = statistics.median(figures), statistics.median(r["seconds"] for r in found) / 60
            spread = f" ({figures[0]:.2%} to {figures[-1]:.2%})" if len(figures) > 1 else ""
            cells = (
                row.task,
                kind,
                f"{middle:.2%}{spread}",
                str(len(found)),
                f"{row.test.chance:.1%}",
                model.verdict(middle),
                row.published,
                f"`python -m benchmarks.learning {name}`",
                f"{minutes:.1f}",
            )
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def gradients(known: Sequence[dict[str, Any]]) -> list[str]:
    """The lines of the gradients."""
    lines = []
    for kind in dict.fromkeys(r["model"] for r in known if r["row"] == GRADIENTS):
        figures = sorted(r["figure"] for r in known if (r["row"], r["model"]) == (GRADIENTS, kind))
        sound = all(0 < figure < float("inf") for figure in figures)
        required = f"neither 0 nor ∞: {'so it is' if sound else 'not so'}"
        cells = (
            f"gradient through {TICKS:,} ticks, float32: ‖∂h_T/∂x_1‖",
            f"{kind}{', the default' * (kind != name_of(RINGS[0]))}, 64 units, as made",
            f"{statistics.median(figures):.1e} ({figures[0]:.1e} to {figures[-1]:.1e})",
            str(len(figures)),
            "",
            required if kind == name_of(RINGS[0]) else "",
            "",
            f"`python -m benchmarks.learning {GRADIENTS}`",
            "",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
