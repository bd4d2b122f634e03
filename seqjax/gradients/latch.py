"""The latch: how likely a recurrence is to learn to keep one bit, the longer it must keep it."""

import functools

import jax
import jax.numpy as jnp
import optax

from seqjax import checks
from seqjax.base import Array, Cell, PyTree
from seqjax.layers.dense import dense
from seqjax.unroll import unroll


@functools.partial(jax.jit, static_argnums=(0, 1, 3), static_argnames=("optimizer", "runs", "steps", "batch"))
def latch_probability(
    cell: Cell,
    output_size: int,
    key: Array,
    length: int,
    *,
    optimizer: optax.GradientTransformation,
    runs: int = 20,
    steps: int = 300,
    batch: int = 32,
    noise: float = 0.2,
) -> Array:
    """The fraction of training runs that learn to store one bit for T ticks.

        x_1 = ±1, the class      x_t ~ N(0, noise²) after that      p(class) = σ(y_T v + c)

    Every run has its own initial parameters and its own data, drawn anew at every step; a run has learned if it
    names at least 95 of 100 classes. The inputs must move the state at the first tick and leave it alone later, which
    a tanh unit does by holding its state in saturation, where its gradient vanishes.

    Args:
      cell: reads inputs ``[*B, 1]``.
      output_size: the size of its output y.
      key: of parameters and data.
      length: T.
      optimizer: an Optax transformation.
      runs: how many networks, trained side by side.
      steps: updates a network.
      batch: examples an update.
      noise: standard deviation of the inputs after the first.

    Returns:
      A number from 0 to 1.

    References:
      Bengio, Simard and Frasconi (1994), Learning long-term dependencies with gradient descent is difficult.
      https://doi.org/10.1109/72.279181
    """
    checks.sizes("latch_probability", output_size=output_size, length=length, runs=runs, steps=steps, batch=batch)
    readout = dense(output_size, 1)

    def draw(key: Array, count: int) -> tuple[Array, Array]:
        bits, rest = jax.random.split(key)
        labels = jax.random.bernoulli(bits, shape=(count,))
        xs = noise * jax.random.normal(rest, (length, count, 1))
        return xs.at[0, :, 0].set(jnp.where(labels, 1, -1).astype(xs.dtype)), labels

    def logits(params: PyTree, xs: Array) -> Array:
        state = cell.initial_state(params[0], xs.shape[1:2])
        _, ys = unroll(cell, params[0], state, xs, memory="all")
        return readout.apply(params[1], (), ys[-1:])[1][0, :, 0]

    def loss(params: PyTree, xs: Array, labels: Array) -> Array:
        scores = logits(params, xs)
        return optax.sigmoid_binary_cross_entropy(scores, labels.astype(scores.dtype)).mean()

    def one(key: Array) -> Array:
        own, other, data, test = jax.random.split(key, 4)
        params = cell.init(own), readout.init(other)

        def update(carry: tuple, key: Array) -> tuple[tuple, None]:
            params, state = carry
            gradient = jax.grad(loss)(params, *draw(key, batch))
            with jax.numpy_dtype_promotion("standard"):  # Optax counts on it
                updates, state = optimizer.update(gradient, state, params)
                return (optax.apply_updates(params, updates), state), None

        (params, _), _ = jax.lax.scan(update, (params, optimizer.init(params)), jax.random.split(data, steps))
        xs, labels = draw(test, 100)
        return ((logits(params, xs) > 0) == labels).sum() >= 95

    return jax.vmap(one)(jax.random.split(key, runs)).mean()
