"""The latch: how likely a recurrence is to learn to keep one bit, the longer it must keep it."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from seqjax import checks
from seqjax.base import Array, Cell, PyTree
from seqjax.gradients.lessons.descent import descend
from seqjax.layers import dense
from seqjax.unroll import unroll

TEST = 100
ENOUGH = 95


class Latch(NamedTuple):
    """A network trained on the latch.

    Attributes:
      params: of the cell and of its readout.
      loss: ``[steps]``, in nats an example.
      accuracy: the fraction of 100 new sequences whose class it names.
    """

    params: tuple[PyTree, PyTree]
    loss: Array
    accuracy: Array


@functools.partial(jax.jit, static_argnames=("cell", "output_size", "length", "optimizer", "steps", "batch"))
def train_latch(
    cell: Cell,
    output_size: int,
    key: Array,
    length: int,
    *,
    optimizer: optax.GradientTransformation,
    steps: int = 300,
    batch: int = 32,
    noise: float = 0.2,
) -> Latch:
    """Trains a network to store one bit for T ticks.

        x_1 = ±1, the class      x_t ~ N(0, noise²) after that      p(class) = σ(y_T v + c)

    Data are drawn anew at every update. The inputs must move the state at the first tick and leave it alone later,
    which a tanh unit does by holding its state in saturation, where its gradient vanishes.

    Args:
      cell: reads inputs ``[*B, 1]``.
      output_size: the size of its output y.
      key: of parameters and data.
      length: T.
      optimizer: an Optax transformation.
      steps: updates.
      batch: examples an update.
      noise: standard deviation of the inputs after the first.

    Returns:
      A `Latch`.

    References:
      Bengio, Simard and Frasconi (1994), Learning long-term dependencies with gradient descent is difficult.
      https://doi.org/10.1109/72.279181
    """
    checks.sizes("train_latch", output_size=output_size, length=length, steps=steps, batch=batch)
    return _train(cell, output_size, key, length, length, optimizer, steps, batch, noise)


def _train(
    cell: Cell,
    output_size: int,
    key: Array,
    length: Array | int,
    longest: int,
    optimizer: optax.GradientTransformation,
    steps: int,
    batch: int,
    noise: float,
) -> Latch:
    """`train_latch` on sequences of ``longest`` ticks, of which the network is asked after ``length``."""
    readout = dense(output_size, 1)

    def draw(key: Array, count: int) -> tuple[Array, Array]:
        bits, rest = jax.random.split(key)
        labels = jax.random.bernoulli(bits, shape=(count,))
        xs = noise * jax.random.normal(rest, (longest, count, 1))
        return xs.at[0, :, 0].set(jnp.where(labels, 1, -1).astype(xs.dtype)), labels

    def logits(params: PyTree, xs: Array) -> Array:
        state = cell.initial_state(params[0], xs.shape[1:2])
        _, ys = unroll(cell, params[0], state, xs, engine="scan")
        return readout.apply(params[1], (), ys[length - 1][None])[1][0, :, 0]

    def loss(params: PyTree, key: Array) -> tuple[Array, tuple]:
        xs, labels = draw(key, batch)
        scores = logits(params, xs)
        return optax.sigmoid_binary_cross_entropy(scores, labels.astype(scores.dtype)).mean(), ()

    own, other, data, test = jax.random.split(key, 4)
    run = descend(loss, (cell.init(own), readout.init(other)), optimizer, jax.random.split(data, steps))
    xs, labels = draw(test, TEST)
    right = (logits(run.params, xs) > 0) == labels
    return Latch(run.params, run.loss, right.sum().astype(xs.dtype) / TEST)


def wilson(share: float, runs: int, deviations: float = 1.96) -> tuple[float, float]:
    """The interval in which a probability lies, of which a share of so many runs was seen: Wilson's.

        (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n)

    Args:
      share: p, the fraction seen.
      runs: n.
      deviations: z; 1.96 covers 95 %.

    Returns:
      Its ends, within 0 … 1.

    Example:
      >>> low, high = wilson(1.0, 20)
      >>> round(low, 3), round(high, 3)
      (0.839, 1.0)

    References:
      Wilson (1927), Probable inference, the law of succession, and statistical inference.
      https://doi.org/10.1080/01621459.1927.10502953
    """
    checks.sizes("wilson", runs=runs)
    square = deviations**2 / runs
    half = deviations * (share * (1 - share) / runs + square / (4 * runs)) ** 0.5
    middle = share + square / 2
    return max(0.0, (middle - half) / (1 + square)), min(1.0, (middle + half) / (1 + square))


def latch_probability(
    cell: Cell,
    output_size: int,
    key: Array,
    length: int | Sequence[int],
    *,
    optimizer: optax.GradientTransformation,
    runs: int = 20,
    steps: int = 300,
    batch: int = 32,
    noise: float = 0.2,
) -> Array:
    """The fraction of training runs that learn to store one bit for T ticks.

    `train_latch` from many initial parameters, side by side; a run has learned if it names at least 95 of 100
    classes. Of several lengths all are one program, on sequences of the longest: of the others the network is asked
    before their end, and what comes later has no gradient.

    Args:
      cell: as in `train_latch`.
      output_size: the size of its output.
      key: of all runs.
      length: T, or K of them.
      optimizer: an Optax transformation.
      runs: how many networks, of each length.
      steps: updates a network.
      batch: examples an update.
      noise: standard deviation of the inputs after the first.

    Returns:
      A number from 0 to 1, or ``[K]``.

    References:
      Bengio, Simard and Frasconi (1994), Learning long-term dependencies with gradient descent is difficult.
      https://doi.org/10.1109/72.279181
    """
    checks.sizes("latch_probability", runs=runs, output_size=output_size, steps=steps, batch=batch)
    lengths = np.atleast_1d(length)
    for one in lengths:
        checks.sizes("latch_probability", length=int(one))
    keys = jax.random.split(key, runs * len(lengths))
    fixed = (int(lengths.max()), optimizer, steps, batch)
    accuracy = _accuracies(cell, output_size, fixed, keys, jnp.asarray(lengths.repeat(runs)), noise)
    shares = (accuracy > (ENOUGH - 0.5) / TEST).astype(accuracy.dtype).reshape(len(lengths), runs).mean(1)
    return shares if np.ndim(length) else shares[0]


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _accuracies(cell: Cell, output_size: int, fixed: tuple, keys: Array, lengths: Array, noise: float) -> Array:
    longest, optimizer, steps, batch = fixed

    def accuracy(key: Array, length: Array) -> Array:
        return _train(cell, output_size, key, length, longest, optimizer, steps, batch, noise).accuracy

    return jax.vmap(accuracy)(keys, lengths)
