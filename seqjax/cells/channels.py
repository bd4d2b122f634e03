"""What cells share that are linear in a state of numbers, h' = a ⊙ h + b with a and b of the input alone.

Such a cell has a channel for each number of its input: u ⊙ x means u ⊙ (x W) where the sizes differ. Those that come
from a differential equation also read how much time has passed.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import checks
from seqjax.base import Array, Cell, Key
from seqjax.cells.factory import ChannelOptions, P
from seqjax.products import accumulator, cast, dot

fan_in = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # U(-1/√d, 1/√d), as of torch.nn.Linear


def real(dtype: Any) -> jnp.dtype:
    """The dtype of the parameters."""
    return jnp.dtype(dtype or jnp.zeros(()).dtype)


def wide(dtype: Any) -> jnp.dtype:
    """The dtype in which parameters are drawn and states are kept."""
    return accumulator(real(dtype))


def complex_zeros(shape: tuple[int, ...], w: Array) -> Array:
    """A complex state of zeros, its parts in the dtype in which products with ``w`` are summed."""
    return jnp.zeros(shape, f"complex{2 * jnp.finfo(accumulator(w.dtype)).bits}")


def root(gap: Array) -> Array:
    """√gap, with gradient zero where gap = 0: there a has rounded to 1, and what depends on it stands still."""
    return jnp.where(gap > 0, jnp.sqrt(jnp.where(gap > 0, gap, 1)), 0)


def real_part(h: Array, c_real: Array, c_imag: Array, compute_dtype: jnp.dtype | None) -> Array:
    """Re(h C) of complex h and C = c_real + i c_imag."""
    return dot(h.real, c_real, compute_dtype) - dot(h.imag, c_imag, compute_dtype)


def log_uniform(key: Key, shape: tuple[int, ...], low: float, high: float, dtype: jnp.dtype) -> Array:
    """exp of what is uniform between ln low and ln high."""
    return jnp.exp(jax.random.uniform(key, shape, dtype, math.log(low), math.log(high)))


def before_softplus(value: Array) -> Array:
    """b with softplus(b) = value."""
    return value + jnp.log(-jnp.expm1(-value))


def interval(who: str, names: str, low: float, high: float, most: float = math.inf) -> None:
    """Two numbers in order, at least 0."""
    if not 0 <= low < high <= most:
        raise ValueError(f"{who}: expected 0 ≤ {names} ≤ {most}, got {low} and {high}. Correct them.")


def steps(who: str, low: float, high: float) -> None:
    """Bounds of Δ, which are positive."""
    if not 0 < low < high:
        raise ValueError(f"{who}: expected 0 < step_min < step_max, got {low} and {high}. Correct them.")


def input_projection(key: Key, input_size: int, hidden_size: int, options: ChannelOptions) -> Array | None:
    """W ``[d, h]``; None where an input has as many numbers as there are channels."""
    if input_size == hidden_size:
        return None
    return options["w_x_init"](key, (input_size, hidden_size), wide(options["dtype"])).astype(real(options["dtype"]))


def over_channels(
    who: str,
    input_size: int,
    hidden_size: int,
    init: Callable[[Key], P],
    start: Callable[[P, tuple[int, ...]], Array],
    step: Callable[[P, Array, Array, Array | None], tuple[Array, Array]],
    options: ChannelOptions,
    *,
    unit_axes: int = 1,
    timed: bool = False,
) -> Cell[P, Array]:
    """A cell of ``step(params, state, u, dt)`` with u = x W ``[*B, h]``, or x itself where params have no ``w_x``.

    Args:
      who: its name in errors.
      input_size: d.
      hidden_size: h.
      init: draws the parameters.
      start: makes the state before the first tick.
      step: the recurrence; dt is ``[*B, 1]``, or None where inputs come without time.
      options: the shared keywords.
      unit_axes: how many axes of the state are not of the batch.
      timed: whether inputs may be pairs (x, dt).

    Returns:
      The cell.
    """
    checks.sizes(who, input_size=input_size, hidden_size=hidden_size)

    def initial_state(params: P, batch_shape: tuple[int, ...] = (), *, key: Key | None = None) -> Array:
        return start(params, batch_shape)

    def checked_step(params: Any, state: Array, x: Any) -> tuple[Array, Array]:
        dt = None
        if timed and isinstance(x, tuple):
            x, dt = _pair(who, x)
        checks.inputs(who, x, state.shape[:-unit_axes], input_size)
        kept = jnp.finfo(state.dtype).dtype
        u = cast(x, kept) if params.w_x is None else dot(x, params.w_x, options["compute_dtype"])
        return step(params, state, u, None if dt is None else cast(dt, kept)[..., None])

    return Cell(init, initial_state, checked_step)


def _pair(who: str, x: Any) -> tuple[Array, Array]:
    """x ``[*B, d]`` and the time that has passed since the last tick, ``[*B]``."""
    if len(x) != 2:
        raise ValueError(f"{who}: expected inputs x, or a pair (x, dt), got {len(x)} parts. Leave out the others.")
    x, dt = x
    if np.shape(dt) != np.shape(x)[:-1]:
        raise ValueError(
            f"{who}: expected dt of the inputs' batch shape {np.shape(x)[:-1]}, got {np.shape(dt)}. "
            "Give one time step to each input, without a feature axis."
        )
    return x, dt
