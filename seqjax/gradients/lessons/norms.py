"""The norm of a state far beyond the length it was trained on, with and without the norm-stabiliser."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from seqjax import checks
from seqjax.base import Array, Cell, PyTree
from seqjax.gradients.lessons.descent import descend
from seqjax.layers import dense
from seqjax.losses import cross_entropy, norm_stabiliser
from seqjax.unroll import unroll


class Norms(NamedTuple):
    """A network of next symbols on sequences longer than those it was trained on.

    Attributes:
      norm: ``[T, B]``, ‖h_t‖₂ of the cell's output.
      loss: ``[T, B]``, cross-entropy of each next symbol, in nats.
      training_loss: ``[S]``, cross-entropy of each update's batch, without the penalty.
    """

    norm: Array
    loss: Array
    training_loss: Array


@functools.partial(jax.jit, static_argnums=(0, 1), static_argnames=("symbols", "optimizer"))
def norms_beyond(
    cell: Cell,
    output_size: int,
    key: Array,
    train: Array,
    longer: Array,
    *,
    symbols: int,
    beta: float | Array,
    optimizer: optax.GradientTransformation,
) -> Norms:
    """Trains a network of next symbols on short sequences, then runs it on long ones.

        L = -log p(x_{t+1} | x_1 … x_t) + β (‖h_t‖ - ‖h_{t-1}‖)², mean over t and examples

    What the loss does not ask for on T ticks may go anywhere later; nothing in it keeps ‖h‖ from growing on.

    Args:
      cell: reads one-hot inputs ``[*B, symbols]``; its output starts at 0.
      output_size: the size of its output h.
      key: of the parameters.
      train: symbols ``[S, T + 1, B]``, a batch an update.
      longer: symbols ``[L + 1, N]``, to run on.
      symbols: v, how many there are.
      beta: β, 0 for no penalty.
      optimizer: an Optax transformation.

    Returns:
      A `Norms` over L ticks.

    Raises:
      TypeError: symbols that are not integers.

    References:
      Krueger and Memisevic (2016), Regularizing RNNs by stabilizing activations. https://arxiv.org/abs/1511.08400
    """
    checks.sizes("norms_beyond", output_size=output_size, symbols=symbols)
    checks.integers("norms_beyond", train)
    checks.integers("norms_beyond", longer)
    readout = dense(output_size, symbols)

    def run(params: PyTree, xs: Array) -> tuple[Array, Array]:
        one_hot = jax.nn.one_hot(xs, symbols)
        _, hs = unroll(cell, params[0], cell.initial_state(params[0], xs.shape[1:]), one_hot, memory="all")
        return hs, readout.apply(params[1], (), hs)[1]

    def loss(params: PyTree, batch: Array) -> tuple[Array, Array]:
        hs, logits = run(params, batch[:-1])
        nats = cross_entropy(logits, batch[1:]).mean
        return nats + jnp.asarray(beta, nats.dtype) * norm_stabiliser(hs, jnp.zeros_like(hs[0]), 1.0).mean, nats

    own, other = jax.random.split(key)
    learned = descend(loss, (cell.init(own), readout.init(other)), optimizer, train)
    hs, logits = run(learned.params, longer[:-1])
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, longer[1:])
    return Norms(jnp.linalg.norm(hs, axis=-1), nats, learned.report)
