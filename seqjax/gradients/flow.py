"""Where the gradient of a recurrence goes: one call, any cell, a real batch."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import base, checks
from seqjax.base import Array, Cell, PyTree
from seqjax.buffers import owning
from seqjax.engines.plan import EngineName
from seqjax.gradients import backward
from seqjax.gradients.jacobians import step_jacobians
from seqjax.gradients.saturation import Saturation, with_saturation
from seqjax.gradients.vectors import split, state_size
from seqjax.transforms.replay import change_state
from seqjax.unroll import checked, unroll


class Flow(NamedTuple):
    """Where the gradient goes, tick by tick and example by example.

    Attributes:
      loss_gradient: ``[T, *B]``, ‖dL/ds_t‖₂ over the whole state of an example, through the output of tick t and all
        that comes later; in units of the loss per unit of state. 0 at masked ticks.
      log_stretch: ``[T, *B]``, ln of the factor by which ds_T/ds_t stretches a random direction, in root mean
        square: ln ‖ds_T/ds_t‖_F / √n, in nats; 0 at the last tick, -inf at masked ticks and before a reset. The
        logarithm, for 1.1^10000 is no float.
      memory_length: ``[*B]`` of int, the effective memory in real ticks: how many there are from the earliest tick
        whose stretch is above 1/e up to the last. A unit that forgets by w a tick has 1 + ⌊-1 / ln w⌋.
      saturation: a `Saturation` of ``[T, *B]`` for every σ and tanh of the step, by name; 0 at masked ticks.
      singular_values: ``[S, *B, n]``, those of ∂s_t/∂s_{t-1} at the S ticks asked for, largest first.
    """

    loss_gradient: Array
    log_stretch: Array
    memory_length: Array
    saturation: dict[str, Saturation]
    singular_values: Array


@owning
def flow(
    cell: Cell,
    params: PyTree,
    state: PyTree,
    xs: PyTree,
    loss: Callable[[PyTree], Array],
    mask: Array | None = None,
    *,
    reset: Array | None = None,
    length: int | None = None,
    singular_values_at: Sequence[int] = (),
    probes: int = 4,
    key: Array | None = None,
    engine: EngineName = "auto",
    memory: str | int = "sqrt",
) -> Flow:
    """Where the gradient of a recurrence goes: norms, stretch, memory, saturation.

        ‖dL/ds_t‖      ‖ds_T/ds_t‖_F² / n ≈ (1/k) Σ_i ‖v_iᵀ ds_T/ds_t‖²      v_i random, orthonormal

    n is the number of floats in a state. One backward pass gives the gradients of the loss, one with k vectors the
    stretch, exact where k = n. Only norms leave the passes, no state's gradient is ever stored, and with
    ``memory="sqrt"`` the passes keep about 2 √T states.

    Under `jax.jit`, or eagerly with one ``loss`` function kept, a second call compiles nothing.

    Args:
      cell: any cell.
      params: its parameters.
      state: the state before the first tick.
      xs: inputs ``[T, *B, ...]``.
      loss: ``(ys) -> scalar`` of the outputs ``[T, *B, ...]``; a readout and targets may be closed over. A mean over
        the batch divides each example's gradient by the batch size; take the sum to see each by itself.
      mask: ``[T, *B]``, True at real ticks. Outputs of others are zero.
      reset: ``[T, *B]``, True at the first tick of a segment.
      length: T, where ``xs`` is None.
      singular_values_at: ticks, counted from 0, at which to take the step's singular values: n² floats each.
      probes: k, at most n.
      key: draws the probes; without one they are fixed.
      engine: as in `seqjax.unroll`.
      memory: as in `seqjax.unroll`.

    Returns:
      A `Flow`.

    Raises:
      ValueError: more probes than the state has floats, a tick out of range, a loss that is not a scalar, or shapes
        that do not agree.

    Example:
      A unit that halves its state: gradients fall by 2 a tick.

      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> cell = sj.elman(1, 1, activation=lambda a: a, b_init=None)
      >>> params = sj.ElmanParams(jnp.ones((1, 1)), jnp.full((1, 1), 0.5), None)
      >>> last = lambda ys: ys[-1, 0]
      >>> report = sj.gradients.flow(cell, params, cell.initial_state(params), jnp.ones((4, 1)), last, probes=1)
      >>> report.loss_gradient.tolist(), report.memory_length.item()
      ([0.125, 0.25, 0.5, 1.0], 2)

    References:
      Bengio, Simard and Frasconi (1994), Learning long-term dependencies with gradient descent is difficult.
      https://doi.org/10.1109/72.279181
      Hutchinson (1990), A stochastic estimator of the trace of the influence matrix.
      https://doi.org/10.1080/03610919008812866
    """
    problem = checked(cell, params, state, xs, mask=mask, reset=reset, length=length)
    mask, reset, length = problem.mask, problem.reset, problem.length
    checks.sizes("flow", probes=probes)
    size = state_size(state, len(base.batch_shape(cell, params, state) or ()))
    if probes > size:
        raise ValueError(f"flow: expected at most {size} probes, as many as the state has floats, got {probes}.")
    key = jax.random.key(0) if key is None else key
    options = (probes, length, engine, memory)
    report = _flow(cell, loss, options, params, state, xs, mask, reset, key)
    jacobians = step_jacobians(cell, params, state, xs, singular_values_at, mask=mask, reset=reset, length=length)
    return report._replace(singular_values=jnp.linalg.svd(jacobians, compute_uv=False))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _flow(
    cell: Cell,
    loss: Callable,
    options: tuple,
    params: PyTree,
    state: PyTree,
    xs: PyTree,
    mask: Array | None,
    reset: Array | None,
    key: Array,
) -> Flow:
    probes, length, engine, memory = options
    batch = base.batch_shape(cell, params, state) or ()
    dtype = jnp.result_type(*backward.floats(state))
    zeros = jnp.zeros((length, *batch), dtype)
    real = jnp.ones((length, *batch), bool) if mask is None else mask
    run = functools.partial(unroll, mask=mask, reset=reset, length=length, engine=engine, memory=memory)

    def loss_of(z: Array) -> Array:
        value = loss(run(_watched(cell, _norms), params, state, (xs, z))[1])
        checks.shapes("flow", "loss(ys)", np.shape(value), "a scalar, the sum or mean over the batch", ())
        return value

    def last(z: Array) -> list:
        return backward.floats(run(_watched(cell, _logs), params, state, (xs, z))[0])

    ends, pull = jax.vjp(last, zeros)
    (logs,) = jax.vmap(pull)(_probes(ends, len(batch), probes, key))
    # Each pass sends unit vectors back, tick after tick; their logarithms add up to that of the whole product.
    log_norms = jax.lax.cumsum(jnp.where(real, logs, 0), axis=1, reverse=True)
    log_mean = (jax.nn.logsumexp(2 * log_norms, axis=0) - jnp.log(jnp.asarray(probes, dtype))) / 2
    log_stretch = jnp.where(real, log_mean, -jnp.inf)

    kept = jnp.cumsum(log_stretch > -1, axis=0) > 0
    memory_length = (kept & real).sum(0)
    saturation = run(with_saturation(cell), params, state, xs)[1][1]
    return Flow(jax.grad(loss_of)(zeros), log_stretch, memory_length, saturation, jnp.zeros(()))


def _watched(cell: Cell, rule: Callable) -> Cell:
    """A cell with input ``(x, z)`` whose new state, before the output reads it, goes backwards through a rule."""

    def step(params: PyTree, state: PyTree, x: tuple[PyTree, Array]) -> tuple[PyTree, PyTree]:
        x, z = x
        watch = lambda leaves: backward.identity(functools.partial(rule, z.ndim), leaves, z)
        return change_state(cell.step, params, state, x, lambda new: backward.change_floats(watch, new))

    return Cell(cell.init, cell.initial_state, step)


def _norms(batch_axes: int, bars: list) -> tuple[list, Array]:
    """The gradient as it is; its norm is reported."""
    return bars, backward.norm(bars, batch_axes)


def _logs(batch_axes: int, bars: list) -> tuple[list, Array]:
    """The gradient as a unit vector; the logarithm of its norm is reported."""
    norm = backward.norm(bars, batch_axes)
    factor = 1 / jnp.where(norm > 0, norm, 1)
    return [backward.scale(factor, bar) for bar in bars], jnp.log(norm)


def _probes(leaves: list, batch_axes: int, count: int, key: Array) -> list:
    """``[count, *leaf]`` each: orthonormal vectors over one example's leaves, the same for all examples."""
    batch, dtype = leaves[0].shape[:batch_axes], jnp.result_type(*leaves)
    n = state_size(leaves, batch_axes)
    vectors = jnp.linalg.qr(jax.random.normal(key, (n, count), dtype))[0].T
    return split(jnp.broadcast_to(vectors.reshape(count, *[1] * batch_axes, n), (count, *batch, n)), leaves)
