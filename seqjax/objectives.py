"""A layer and a loss as one function of parameters, state and data: what is trained and evaluated."""

import functools
import inspect
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax import base, checks, masks
from seqjax.base import Array, Layer, PyTree, is_noise
from seqjax.buffers import owned
from seqjax.fixing import fixed
from seqjax.layers import inner
from seqjax.losses import Tally
from seqjax.losses.penalties import Penalty
from seqjax.records import maker

Loss = Callable[[PyTree, PyTree, Array | None], Tally]
Objective = Callable[..., tuple[PyTree, Tally]]


class Batch(NamedTuple):
    """A chunk of data, time first: inputs, targets, where it is real, where segments begin.

    Attributes:
      xs: ``[T, *B, ...]``.
      targets: what the loss compares with.
      mask: ``[T, *B]`` of bool, True at real ticks.
      reset: ``[T, *B]`` of bool, True at the first tick of a segment.
      lengths: ``[*B]`` of integers, how many ticks of a right-padded sequence are real, in place of a mask: the model
        gets them as they are, for kernels that need right padding, the loss the mask that they stand for.
    """

    xs: PyTree
    targets: PyTree
    mask: PyTree = None
    reset: PyTree = None
    lengths: PyTree = None


@maker
def objective(layer: Layer, loss: Loss, *, redraw: bool = True, penalty: Penalty | None = None) -> Objective:
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
      penalty: R, ``params -> scalar``, such as `seqjax.losses.l2`, which `seqjax.train_step` adds once an update to
        what is descended. The tally is without it, so that training and evaluation report the same thing.

    Returns:
      ``(params, state, batch, key=None) -> (state, Tally)``. The key is used for what is random in the
      layer: without one nothing is, save the noise that the state brings along.

    Raises:
      TypeError: something else than a layer, or a loss that returns no `Tally`.
      ValueError: a key beside a state whose noise was not drawn: ``initial_state(params, batch_shape, key=key)``.

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

    @trains(lambda params: fixed(layer, params))
    def run(params: PyTree, state: PyTree, batch: Batch, key: Array | None = None) -> tuple[PyTree, Tally]:
        in_order("objective", layer, params, state, batch)
        state, key = begin("objective", layer, params, state, key, redraw)
        return chunk(layer, loss, params, state, batch, key)

    inspect.unwrap(run).penalty = penalty
    return run


def trains(stays: Callable[[PyTree], PyTree]) -> Callable[[Objective], Objective]:
    """Makes an objective of a function: with NumPy arrays of its own, and knowing which parameters stay.

    Args:
      stays: ``params -> tree of bool``, such as `seqjax.fixed` of the model.

    Returns:
      A decorator of ``(params, state, batch, key=None) -> (state, Tally)``.
    """

    def decorate(run: Objective) -> Objective:
        @functools.wraps(run)
        def objective(params: PyTree, state: PyTree, batch: Batch, key: Array | None = None) -> tuple[PyTree, Tally]:
            return run(*owned((params, state, batch)), key)

        run.fixed = stays  # type: ignore[attr-defined]
        return objective

    return decorate


def fixed_by(objective: Objective, params: PyTree) -> PyTree:
    """Which parameters an objective says stay as they are; none if it says nothing."""
    stays = getattr(inspect.unwrap(objective), "fixed", None)
    return jax.tree.map(lambda _: False, params) if stays is None else stays(params)


def penalty_by(objective: Objective) -> Penalty | None:
    """The penalty that an objective says is added to it; None if it says nothing."""
    return getattr(inspect.unwrap(objective), "penalty", None)


def chunk(
    layer: Layer, loss: Loss, params: PyTree, state: PyTree, batch: Batch, key: Array | None
) -> tuple[PyTree, Tally]:
    """One chunk through the layer and its loss."""
    state, ys = applied(layer, params, state, batch, key)
    return state, counted(loss(ys, batch.targets, real_ticks(batch, batch.xs)))


def applied(layer: Layer, params: PyTree, state: PyTree, batch: Batch, key: Array | None) -> tuple[PyTree, PyTree]:
    """One chunk through the layer."""
    ticks = {"mask": batch.mask, "lengths": batch.lengths, "reset": batch.reset}
    return inner.run(layer, params, state, batch.xs, **ticks, key=key)


def real_ticks(batch: Batch, xs: PyTree) -> Array | None:
    """The batch's mask, or that of its lengths along the time of ``xs``."""
    return masks.given("Batch", batch.mask, batch.lengths, xs)


def in_order(who: str, layer: Layer, params: PyTree, state: PyTree, batch: Batch) -> None:
    """Arguments in the order (params, state, batch)."""
    for name, value in (("params", params), ("state", state)):
        if isinstance(value, Batch):
            raise TypeError(
                f"{who}: expected {name}, got a Batch in its place. The order is (params, state, batch, key)."
            )
    checks.params_of(who, layer, params)


def counted(result: Tally) -> Tally:
    """The loss's result, if it is a sum and a count."""
    checks.instance("objective", result, Tally, "Return Tally(sum, count) from the loss, as seqjax.tally does.")
    return result


def begin(
    who: str, layer: Layer, params: PyTree, state: PyTree, key: Array | None, redraw: bool
) -> tuple[PyTree, Array | None]:
    """The state with new noise, where it has any, and the key that is left for ``apply``."""
    if key is None:
        return state, None
    noisy(who, state)
    noise_key, key = jax.random.split(key)
    return base.redraw(layer, params, state, noise_key) if redraw else state, key


def noisy(who: str, state: PyTree) -> None:
    """Where there is a key, no noise of the state is off: it was drawn as the state was made."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(state, is_leaf=is_noise)[0]:
        if is_noise(leaf) and not jax.tree.leaves(leaf):
            raise ValueError(
                f"{who}: expected a state with its noise drawn, as a key asks for noise, got {leaf} at "
                f"state{jax.tree_util.keystr(path)}. Make it with initial_state(params, batch_shape, key=key), or give "
                "no key to the objective or train_state."
            )


def ticks(batch: Batch, start: int, stop: int | None = None) -> Batch:
    """The ticks ``start`` to ``stop`` of a batch, and how many of its lengths fall there."""
    piece = jax.tree.map(lambda leaf: leaf[start:stop], batch._replace(lengths=None))
    if batch.lengths is None:
        return piece
    size = checks.length("ticks", piece)
    return piece._replace(lengths=jnp.clip(jnp.asarray(batch.lengths) - start, 0, size))


def length(who: str, batch: Batch) -> int:
    """T of a batch."""
    return checks.length(who, batch._replace(lengths=None))
