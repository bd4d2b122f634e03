"""Capacity: how many random bits a recurrence can learn by heart."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from seqjax import checks
from seqjax.base import Array, Cell, PyTree
from seqjax.gradients.lessons.descent import descend
from seqjax.layers import dense
from seqjax.unroll import unroll


class Memorised(NamedTuple):
    """A network that was shown N random sequences with a random bit each.

    Attributes:
      right: the fraction of bits it says right, p.
      bits: N (1 - H(p)), what it knows of them; H is the entropy of a coin that falls right with probability p.
    """

    right: Array
    bits: Array


def known_bits(right: Array, count: int) -> Array:
    """N (1 + p log₂ p + (1-p) log₂ (1-p)), 0 for p up to 1/2.

    Example:
      >>> import jax.numpy as jnp
      >>> known_bits(jnp.array([0.5, 1.0, 0.89]), 100).round(1).tolist()
      [0.0, 100.0, 50.0]
    """
    p = jnp.clip(right, 0.5, 1)
    entropy = -(jax.scipy.special.xlogy(p, p) + jax.scipy.special.xlogy(1 - p, 1 - p)) / jnp.log(
        jnp.asarray(2, p.dtype)
    )
    return count * (1 - entropy)


@functools.partial(jax.jit, static_argnums=(0, 1), static_argnames=("length", "count", "steps", "optimizer"))
def memorise(
    cell: Cell,
    output_size: int,
    key: Array,
    *,
    length: int,
    count: int,
    steps: int,
    optimizer: optax.GradientTransformation,
) -> Memorised:
    """Shows a network N random sequences, a random bit each, until it knows them by heart or cannot.

        x_t ∈ {-1, +1}^d      bit ~ B(1/2)      p(bit) = σ(y_T v + c)      all N sequences in every update

    There is nothing to generalise to: every bit that is said right is stored in the parameters. Over many N, the most
    bits known is the capacity, about proportional to the number of parameters, whatever the cell, as far as it can be
    trained.

    Args:
      cell: reads inputs ``[*B, d]``; d is taken from its parameters' ``w_x``.
      output_size: the size of its output y.
      key: of parameters and data.
      length: T.
      count: N.
      steps: updates.
      optimizer: an Optax transformation.

    Returns:
      A `Memorised`.

    References:
      Collins, Sohl-Dickstein and Sussillo (2017), Capacity and trainability in recurrent neural networks.
      https://arxiv.org/abs/1611.09913
    """
    checks.sizes("memorise", output_size=output_size, length=length, count=count, steps=steps)
    readout = dense(output_size, 1)
    own, other, inputs, labels = jax.random.split(key, 4)
    params = cell.init(own), readout.init(other)
    xs = jax.random.rademacher(inputs, (length, count, params[0].w_x.shape[0]), params[0].w_x.dtype)
    bits = jax.random.bernoulli(labels, shape=(count,))

    def logits(params: PyTree) -> Array:
        _, ys = unroll(cell, params[0], cell.initial_state(params[0], (count,)), xs, engine="scan")
        return readout.apply(params[1], (), ys[-1:])[1][0, :, 0]

    def loss(params: PyTree, _: Array) -> tuple[Array, tuple]:
        scores = logits(params)
        return optax.sigmoid_binary_cross_entropy(scores, bits.astype(scores.dtype)).mean(), ()

    run = descend(loss, params, optimizer, jnp.arange(steps))
    right = ((logits(run.params) > 0) == bits).astype(xs.dtype).mean()
    return Memorised(right, known_bits(right, count))
