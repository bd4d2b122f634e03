"""Does normalisation make a recurrent network learn in fewer updates? Three LSTMs on the same batches.

python -m benchmarks.normalisation            # plain, layer norm, batch norm of the input products; a figure
python -m benchmarks.normalisation --updates 60 --units 32 --seeds 0

The networks read noisy pictures of a printed digit column by column, brightness from 0 to 255 as a scanner gives it
(--range), and name the digit. Layer norm is taken over the units of every tick (`seqjax.layer_norm_lstm`), batch norm
over all ticks of a batch and of the input products alone (`seqjax.layers.input_batch_norm`; Laurent et al. 2016), which
is evaluated with the statistics of some batches of training. A row: cross-entropy on held-back pictures and the share
of right answers, median over seeds, at a quarter of the updates and at the end. The figure: the median of the
cross-entropy against updates. Printed, not recorded.

References:
  Laurent, Pereyra, Brakel, Zhang and Bengio (2016), Batch normalized recurrent neural networks.
  https://arxiv.org/abs/1510.01378
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import seqjax as sj
from seqjax import layers, models, tasks
from seqjax.base import Array, PyTree
from seqjax.objectives import Objective
from seqjax.recipes.pictures.curves import curves
from seqjax.tasks.digits import NAMES

BATCH, HELD_BACK, MEASURED, EVALUATIONS = 64, 1000, 1024, 20
BATCH_NORM = "batch norm of inputs"


def main(argv: Sequence[str] | None = None) -> int:
    """Trains, prints a row a network, and draws their learning curves."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.normalisation", description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--range", type=float, default=255.0, help="brightness of white")
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--figure", type=Path, default=Path("normalisation.png"))
    chosen = parser.parse_args(argv)
    size = pictures(0, 1, chosen.range)[0].shape[-1]
    at, lines = [], {}
    print(f"{'':24}{'nats':>18}{'right':>18}\n{'updates':24}" + 2 * f"{chosen.updates // 4:>9}{chosen.updates:>9}")
    for name, recurrence in networks(size, chosen.units).items():
        model = classifier(recurrence, chosen.units)
        runs = [course(model, seed, chosen.updates, chosen.range, chosen.learning_rate) for seed in chosen.seeds]
        at = [update for update, *_ in runs[0]]
        nats, right = (np.median([[point[i] for point in run] for run in runs], 0) for i in (1, 2))
        quarter = int(np.searchsorted(at, chosen.updates // 4))
        lines[name] = (at, nats.tolist())
        print(f"{name:24}{nats[quarter]:9.4f}{nats[-1]:9.4f}{right[quarter]:9.1%}{right[-1]:9.1%}")
    levels = {"chance": float(np.log(len(NAMES)))}
    labels = {"x_label": "updates", "y_label": "cross-entropy (nats, held back)", "y_scale": "log"}
    curves(lines, levels, **labels).savefig(chosen.figure, dpi=200)
    print(f"figure {chosen.figure}")
    return 0


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
