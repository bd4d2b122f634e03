"""A layer and a loss as one function of parameters, state and data: what is trained and evaluated."""

from collections.abc import Callable
from typing import NamedTuple

import jax

from seqjax import base, checks
from seqjax.base import Array, Layer, PyTree, is_noise
from seqjax.losses import Tally

Loss = Callable[[PyTree, PyTree, Array | None], Tally]
Objective = Callable[..., tuple[PyTree, Tally]]


class Batch(NamedTuple):
    """A chunk of data, time first: inputs, targets, where it is real, where segments begin."""

    xs: PyTree
    targets: PyTree
    mask: PyTree = None
    reset: PyTree = None


def objective(layer: Layer, loss: Loss, *, redraw: bool = True) -> Objective:
    """The loss of a layer's outputs on a batch, as a function.

        state', tally = objective(params, state, batch, key=None)

    `seqjax.over_chunks` and `seqjax.truncated` make functions of the same form; anything of that form can be
    trained by `seqjax.train_step`, and evaluated by adding up tallies. The state that goes in is data: a
    learned initial state is trained where a reset starts from it, so mark the first tick.

    Args:
      layer: the model.
      loss: ``(ys, targets, mask) -> Tally``, such as `seqjax.cross_entropy`.
      redraw: with a key, draw the noise of the state anew at each call; False keeps what the state carries,
        so that a sequence cut into windows has one mask from end to end.

    Returns:
      ``(params, state, batch, key=None) -> (state, Tally)``. The key is used for what is random in the
      layer: without one nothing is, save the noise that the state brings along.

    Raises:
      TypeError: something else than a layer, or a loss that returns no `Tally`.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> model = sj.serial(sj.embedding(5, 8), sj.recurrent(sj.gru(8, 8)), sj.dense(8, 5))
      >>> params = model.init(jax.random.key(0))
      >>> symbols = jnp.arange(12).reshape(6, 2) % 5
      >>> batch = sj.Batch(symbols[:-1], symbols[1:])
      >>> evaluate = sj.objective(model, sj.cross_entropy)
      >>> state, tally = evaluate(params, model.initial_state(params, (2,)), batch)
      >>> tally.count.item()
      10
    """
    checks.instance("objective", layer, Layer, "Wrap a cell in recurrent(cell).")

    def run(params: PyTree, state: PyTree, batch: Batch, key: Array | None = None) -> tuple[PyTree, Tally]:
        state, key = begin(layer, params, state, key, redraw)
        return chunk(layer, loss, params, state, batch, key)

    return run


def chunk(
    layer: Layer, loss: Loss, params: PyTree, state: PyTree, batch: Batch, key: Array | None
) -> tuple[PyTree, Tally]:
    """One chunk through the layer and its loss."""
    state, ys = layer.apply(params, state, batch.xs, mask=batch.mask, reset=batch.reset, key=key)
    return state, counted(loss(ys, batch.targets, batch.mask))


def counted(result: Tally) -> Tally:
    """The loss's result, if it is a sum and a count."""
    checks.instance("objective", result, Tally, "Return Tally(sum, count) from the loss, as seqjax.tally does.")
    return result


def begin(layer: Layer, params: PyTree, state: PyTree, key: Array | None, redraw: bool) -> tuple[PyTree, Array | None]:
    """The state with new noise, where it has any, and the key that is left for ``apply``."""
    if key is None:
        return state, None
    noise_key, key = jax.random.split(key)
    leaves = jax.tree.leaves(state, is_leaf=is_noise)
    if redraw and any(is_noise(leaf) and jax.tree.leaves(leaf) for leaf in leaves):
        state = base.redraw(layer, params, state, noise_key)
    return state, key


def ticks(batch: Batch, start: int, stop: int | None = None) -> Batch:
    """The ticks ``start`` to ``stop`` of a batch."""
    return jax.tree.map(lambda leaf: leaf[start:stop], batch)
