"""Does normalisation make a recurrent network learn in fewer updates? Three LSTMs on the same batches.

python -m benchmarks.normalisation            # plain, layer norm, batch norm of the input products; the table
python -m benchmarks.normalisation --updates 60 --units 32 --seeds 0 --results FILE --figure FILE
python -m benchmarks.normalisation --range 1  # pictures scaled before
python -m benchmarks.normalisation --table    # the table of all that is recorded

The networks read noisy pictures of a printed digit column by column, brightness from 0 to 255 as a scanner gives it
(--range), and name the digit. Layer norm is taken over the units of every tick (`seqjax.layer_norm_lstm`), batch norm
over all ticks of a batch and of the input products alone (`seqjax.layers.input_batch_norm`; Laurent et al. 2016), which
is evaluated with the statistics of some batches of training. A row: cross-entropy on held-back pictures and the share
of right answers, median over seeds, at a quarter of the updates and at the end. The figure: the median of the
cross-entropy against updates.

References:
  Laurent, Pereyra, Brakel, Zhang and Bengio (2016), Batch normalized recurrent neural networks.
  https://arxiv.org/abs/1510.01378
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

import seqjax as sj
from benchmarks import record
from seqjax import layers, models, tasks
from seqjax.base import Array, PyTree
from seqjax.objectives import Objective
from seqjax.recipes.pictures.curves import curves
from seqjax.tasks.digits import NAMES

RESULTS = record.ROOT / "benchmarks" / "results" / "normalisation.jsonl"
BATCH, HELD_BACK, MEASURED, EVALUATIONS = 64, 1000, 1024, 20
BATCH_NORM = "batch norm of inputs"
SHAPE = ("updates", "units", "range", "learning_rate")
Row = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Trains, records, and tells."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--range", type=float, default=255.0, help="brightness of white")
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--table", action="store_true", help="print the table of what is recorded and end")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw the learning curves, too")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE")
    chosen = parser.parse_args(argv)
    records = record.Records(chosen.results)
    size = pictures(0, 1, chosen.range)[0].shape[-1]
    about = {name: getattr(chosen, name) for name in SHAPE}
    for seed in [] if chosen.table else chosen.seeds:
        for name, recurrence in networks(size, chosen.units).items():
            model = classifier(recurrence, chosen.units)
            curve = course(model, seed, chosen.updates, chosen.range, chosen.learning_rate)
            _, nats, right = curve[-1]
            records.write({**about, "network": name, "seed": seed, "nats": nats, "right": right, "curve": curve})
    found = record.read(chosen.results)
    print("\n".join(table(found)))
    if chosen.figure is not None:
        draw(found).savefig(chosen.figure, dpi=200)
    return 0


def groups(rows: Sequence[Row]) -> dict[tuple, dict[str, np.ndarray]]:
    """Of each setting, by network: ``[seeds, points, 3]`` of updates, nats and the share of right answers."""
    found: dict[tuple, dict[str, list]] = {}
    for row in rows:
        networks = found.setdefault(tuple(row[name] for name in SHAPE), {})
        networks.setdefault(row["network"], []).append(row["curve"])
    return {shape: {name: np.array(curves) for name, curves in networks.items()} for shape, networks in found.items()}


def table(rows: Sequence[Row]) -> list[str]:
    """Markdown: a line a network, for each setting."""
    lines = [
        "| LSTM | brightness | updates | nats, held back (lowest to highest) | right (lowest to highest) | seeds "
        "| after a quarter of the updates |",
        "|---|---|---|---|---|---|---|",
    ]
    for shape, networks in groups(rows).items():
        for name, runs in networks.items():
            updates = runs[0, -1, 0]
            _, quarter, early = np.median(runs, 0)[np.searchsorted(runs[0, :, 0], updates / 4)]
            nats, right = runs[:, -1, 1], runs[:, -1, 2]
            cells = (
                name,
                f"0 to {shape[SHAPE.index('range')]:g}",
                f"{updates:,.0f}",
                f"{np.median(nats):.4f} ({nats.min():.4f} to {nats.max():.4f})",
                f"{np.median(right):.1%} ({right.min():.1%} to {right.max():.1%})",
                str(len(runs)),
                f"{quarter:.4f}, {early:.1%}",
            )
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def draw(rows: Sequence[Row]) -> Figure:
    """The medians of the cross-entropy against updates, of the first setting."""
    first = next(iter(groups(rows).values()))
    lines = {name: tuple(np.median(runs, 0).T[:2].tolist()) for name, runs in first.items()}
    levels = {"chance": float(np.log(len(NAMES)))}
    return curves(lines, levels, x_label="updates", y_label="cross-entropy (nats, held back)", y_scale="log")


def networks(size: int, units: int) -> dict[str, sj.Layer]:
    """The recurrences by what is normalised."""
    return {
        "plain": sj.recurrent(sj.lstm(size, units)),
        "layer norm": sj.recurrent(sj.layer_norm_lstm(size, units)),
        BATCH_NORM: layers.input_batch_norm(sj.lstm(size, units)),
    }


def classifier(recurrence: sj.Layer, units: int) -> sj.Layer:
    """The answer is read of the last output."""
    return models.classifier(recurrence, units, len(NAMES))


def pictures(seed: int, count: int, white: float) -> tuple[Array, Array]:
    """Columns of pixels ``[T, B, height]`` and the digits ``[B]``."""
    strips = tasks.digit_strips(np.random.default_rng(seed), count, shortest=1, longest=1, noise=0.3)
    digits = np.array([NAMES.index(caption[0]) for caption in strips.captions])
    return jnp.array(white * np.moveaxis(strips.images, 2, 0)), jnp.array(digits)


def course(
    model: sj.Layer, seed: int, updates: int, white: float, learning_rate: float
) -> list[tuple[int, float, float]]:
    """Updates made, held-back nats and the share of right answers, from the start to the end."""
    params, optimizer = model.init(jax.random.key(seed)), optax.adam(learning_rate)
    train, state = sj.train_state(params, optimizer), model.initial_state(params, (BATCH,))
    update = sj.train_step(objective(model), optimizer, clip=sj.clip_by_global_norm(1.0))
    (xs, digits), (more, _) = pictures(2**31 + seed, HELD_BACK, white), pictures(2**30 + seed, MEASURED, white)
    look, points = jax.jit(lambda params: figures(model, evaluated(model, params, more), xs, digits)), []
    every = max(1, updates // EVALUATIONS)
    for step in range(updates + 1):
        if step % every == 0 or step == updates:
            points.append((step, *map(float, look(train.params))))
        if step < updates:
            columns, answers = pictures(updates * seed + step, BATCH, white)
            train, _, _ = update(train, state, sj.Batch(columns, answers[None]))
    return points


def objective(model: sj.Layer) -> Objective:
    """Cross-entropy of one answer a picture, which has an axis of time in front."""
    return sj.objective(model, lambda ys, answers, mask: models.one_answer(sj.cross_entropy)(ys, answers[0], mask))


def evaluated(model: sj.Layer, params: PyTree, xs: Array) -> PyTree:
    """The parameters by which a model is evaluated: with the statistics of these inputs, if it goes by any."""
    state, _ = model.apply(params, model.initial_state(params, xs.shape[1:2]), xs)
    return layers.with_statistics(params, state)


def figures(model: sj.Layer, params: PyTree, xs: Array, digits: Array) -> tuple[Array, Array]:
    """Mean nats, and the share of right answers."""
    _, ys = model.apply(params, model.initial_state(params, digits.shape), xs)
    nats = -jax.nn.log_softmax(ys)[jnp.arange(len(digits)), digits]
    return nats.mean(), (ys.argmax(-1) == digits).mean()


if __name__ == "__main__":
    raise SystemExit(main())
