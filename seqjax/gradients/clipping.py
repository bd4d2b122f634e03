"""Clipping inside time: the gradient of the state is bounded at every tick of the backward pass."""

from typing import Literal, NamedTuple

import jax.numpy as jnp

from seqjax import base, checks
from seqjax.base import Array, Cell, Params, PyTree, State
from seqjax.gradients import backward
from seqjax.records import maker

Kind = Literal["norm", "value"]
KINDS = ("norm", "value")


class ClipStatistics(NamedTuple):
    """What clipping inside time met, over real ticks.

    Attributes:
      rate: the fraction of ticks at which the gradient was above the threshold.
      mean: the mean size of the gradient before clipping.
      largest: the largest size before clipping.
    """

    rate: Array
    mean: Array
    largest: Array


@maker
def clip_state_gradient(cell: Cell[Params, State], threshold: float, *, by: Kind = "norm") -> Cell[Params, State]:
    """A cell whose gradient is bounded on its way from each tick to the one before.

        by norm      s̄_{t-1} ← η s̄_{t-1} / ‖s̄_{t-1}‖ if ‖s̄_{t-1}‖ > η, else unchanged to the bit
        by value     s̄_{t-1} ← min(max(s̄_{t-1}, -η), η), every entry by itself

    s̄_{t-1} is what tick t hands back, over all leaves of one example's state together; what the output of tick
    t-1 itself adds comes after and is not clipped. Values do not change. Clipping the gradient of the parameters
    (`seqjax.clip_by_global_norm`, Optax) bounds the sum over ticks once it exists; this keeps one exploding tick
    from drowning the others. The two compose: one is in the cell, the other in the optimizer.

    Args:
      cell: any cell.
      threshold: η.
      by: ``"norm"`` or ``"value"``.

    Returns:
      A cell with the cell's params, state and inputs.

    Raises:
      ValueError: a threshold that is not above 0, or an unknown kind.

    Example:
      A state doubled at each of four ticks: 2⁴ = 16 without clipping.

      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> double = sj.Cell(lambda key: (), lambda params, batch_shape=(), *, key=None: jnp.zeros((*batch_shape, 1)),
      ...                  lambda params, s, x: (2 * s, 2 * s))
      >>> def last(s, cell):
      ...     return sj.unroll(cell, (), s, None, length=4)[0][0]
      >>> jax.grad(last)(jnp.ones(1), double).item()
      16.0
      >>> jax.grad(last)(jnp.ones(1), sj.gradients.clip_state_gradient(double, 3.0)).item()
      3.0

    References:
      Graves (2013), Generating sequences with recurrent neural networks, section 2.1 (by value, LSTM).
      https://arxiv.org/abs/1308.0850
      Pascanu, Mikolov and Bengio (2013), On the difficulty of training recurrent neural networks.
      https://arxiv.org/abs/1211.5063
    """
    checks.choice("clip_state_gradient", "by", by, KINDS)
    if not threshold > 0:
        raise ValueError(f"clip_state_gradient: expected a threshold above 0, got {threshold!r}. Raise it.")
    threshold = float(threshold)

    def step(params: PyTree, state: PyTree, x: PyTree) -> tuple[PyTree, PyTree]:
        batch_axes = len(base.batch_shape(cell, params, state) or ())

        def rule(bars: list) -> tuple[list, None]:
            if by == "value":
                return [jnp.clip(bar, -threshold, threshold) for bar in bars], None
            norm = backward.norm(bars, batch_axes)
            factor = jnp.where(norm > threshold, threshold / jnp.maximum(norm, threshold), 1)
            return [backward.scale(factor, bar) for bar in bars], None

        state = backward.change_floats(lambda leaves: backward.identity(rule, leaves), state)
        return cell.step(params, state, x)

    return Cell(cell.init, cell.initial_state, step)


@maker
def watch_state_gradient(cell: Cell[Params, State], *, by: Kind = "norm") -> Cell[Params, State]:
    """A cell that reports the size of the gradient each tick hands to the one before, through a gradient.

        input (x, z)      y does not depend on z      "dL/dz_t" = ‖s̄_{t-1}‖₂ or max |s̄_{t-1}|

    z is ``[T, *B]`` of zeros; differentiate with respect to it beside the parameters, and the sizes come out of
    the same backward pass. ``clip_state_gradient(watch_state_gradient(cell), η)`` reports sizes before clipping,
    ``watch_state_gradient(clip_state_gradient(cell, η))`` after.

    Args:
      cell: any cell.
      by: ``"norm"`` or ``"value"``: what is reported.

    Returns:
      A cell with the cell's params and state, whose input is ``(x, z)``.

    Raises:
      ValueError: an unknown kind.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> cell = sj.gru(3, 4)
      >>> params = cell.init(jax.random.key(0))
      >>> safe = sj.gradients.clip_state_gradient(sj.gradients.watch_state_gradient(cell), 0.1)
      >>> def loss(params, z):
      ...     return sj.unroll(safe, params, cell.initial_state(params, (2,)), (jnp.ones((5, 2, 3)), z))[1].sum()
      >>> gradient, norms = jax.grad(loss, argnums=(0, 1))(params, jnp.zeros((5, 2)))
      >>> sj.gradients.clip_statistics(norms, 0.1).rate.item()
      1.0
    """
    checks.choice("watch_state_gradient", "by", by, KINDS)
    size = backward.norm if by == "norm" else backward.largest

    def step(params: PyTree, state: PyTree, x: tuple[PyTree, Array]) -> tuple[PyTree, PyTree]:
        x, z = x

        def rule(bars: list) -> tuple[list, Array]:
            return bars, size(bars, z.ndim).astype(z.dtype)

        state = backward.change_floats(lambda leaves: backward.identity(rule, leaves, z), state)
        return cell.step(params, state, x)

    return Cell(cell.init, cell.initial_state, step)


def clip_statistics(sizes: Array, threshold: float, mask: Array | None = None) -> ClipStatistics:
    """How often and how far gradients were above a threshold.

    Args:
      sizes: ``[T, *B]`` from `watch_state_gradient`, before clipping.
      threshold: η.
      mask: ``[T, *B]``, True at real ticks.

    Returns:
      A `ClipStatistics`; zeros where no tick is real.

    Raises:
      ValueError: a threshold that is not above 0, or a mask of another shape.
    """
    if not threshold > 0:
        raise ValueError(f"clip_statistics: expected a threshold above 0, got {threshold!r}. Raise it.")
    mask = checks.ticks("clip_statistics", "mask", mask, sizes)
    if mask is not None:
        checks.shapes("clip_statistics", "mask", mask.shape, "the sizes", sizes.shape)
    real = jnp.ones(sizes.shape, bool) if mask is None else mask
    count = jnp.maximum(real.sum(), 1).astype(sizes.dtype)
    kept = jnp.where(real, sizes, 0)
    return ClipStatistics((kept > threshold).sum().astype(sizes.dtype) / count, kept.sum() / count, kept.max())
