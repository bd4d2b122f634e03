"""The selective state space of Mamba: the input says how fast time passes, what is written and what is read."""

import math
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp

from seqjax import checks, spread
from seqjax.base import Array, Cell, Key
from seqjax.cells.channels import (
    before_softplus,
    fan_in,
    input_projection,
    log_uniform,
    over_channels,
    real,
    steps,
    wide,
)
from seqjax.cells.factory import ChannelOptions, weighted
from seqjax.cells.states import zeros
from seqjax.products import add_bias, along, dot
from seqjax.records import maker


class SelectiveParams(NamedTuple):
    """``w_x [d, h]`` or None, ``w_low [h, r]``, ``w_step [r, h]``, ``b_step [h]``, ``w_b``, ``w_c [h, s]``.

    ``log_a [h, s]``: A = -exp(log_a); ``d [h]``.
    """

    w_x: Array | None
    w_low: Array
    w_step: Array
    b_step: Array
    w_b: Array
    w_c: Array
    log_a: Array
    d: Array


@maker
@weighted()
def selective_state_space(
    input_size: int,
    hidden_size: int,
    *,
    state_size: int = 16,
    rank: int | None = None,
    step_min: float = 0.001,
    step_max: float = 0.1,
    **options: Unpack[ChannelOptions],
) -> Cell[SelectiveParams, Array]:
    """The selective state space (S6): s numbers a channel, whose coefficients come from the input.

        Δ = softplus(x W_low W_step + b_step)           B = x W_B       C = x W_C
        h' = exp(Δ A) ⊙ h + (Δ ⊙ x) Bᵀ                  y = h' C + D ⊙ x

    h is ``[h, s]``, Δ a number a channel, B and C are shared by the channels; 0 < exp(Δ A) < 1, as A = -exp(log_a).
    Where an input has another size than h, x is x W.

    An input may be a pair (x, dt): dt ``[*B]`` is the time since the last tick, in ticks, at least 0: Δ dt takes the
    place of Δ. (x, 1) is x. Decay composes, two ticks of t are one of 2 t where nothing is written; what is written is
    Δ dt to the first order, as in the paper's program. Masked ticks take no time.

    The start decides how far it remembers: A = -1, …, -s in every channel; softplus(b_step) is log-uniform between
    step_min and step_max; D = 1; the other weights are uniform in ±1/√d of their inputs.

    Args:
      hidden_size: h, channels.
      state_size: s, numbers of the state a channel.
      rank: of the product that makes Δ; h / 16, rounded up, if None.
      step_min: the smallest Δ at the start.
      step_max: the largest.
      **options: sizes, initialisers and dtypes, see `WeightOptions`.

    Returns:
      A cell with state ``[*B, h, s]`` and output y ``[*B, h]``.

    Raises:
      ValueError: a size below 1, steps that are not in order, or dt of another shape than the batch.

    Example:
      >>> import jax, seqjax as sj
      >>> cell = sj.cells.selective_state_space(8, 8, state_size=4)
      >>> params = cell.init(jax.random.key(0))
      >>> cell.initial_state(params, (2,)).shape, -jax.numpy.exp(params.log_a[0]).round()
      ((2, 8, 4), Array([-1., -2., -3., -4.], dtype=float32))

    References:
      Gu and Dao (2023), Mamba: linear-time sequence modeling with selective state spaces.
      https://arxiv.org/abs/2312.00752
    """
    checks.sizes("selective_state_space", input_size=input_size, hidden_size=hidden_size, state_size=state_size)
    low = math.ceil(hidden_size / 16) if rank is None else rank
    checks.sizes("selective_state_space", rank=low)
    steps("selective_state_space", step_min, step_max)
    compute_dtype, kind, full = options["compute_dtype"], real(options["dtype"]), wide(options["dtype"])

    def init(key: Key) -> SelectiveParams:
        x_key, low_key, w_key, step_key, b_key, c_key = jax.random.split(key, 6)
        params = SelectiveParams(
            input_projection(x_key, input_size, hidden_size, options),
            fan_in(low_key, (hidden_size, low), full),
            fan_in(w_key, (low, hidden_size), full),
            before_softplus(log_uniform(step_key, (hidden_size,), step_min, step_max, full)),
            fan_in(b_key, (hidden_size, state_size), full),
            fan_in(c_key, (hidden_size, state_size), full),
            jnp.broadcast_to(jnp.log(jnp.arange(1, state_size + 1, dtype=full)), (hidden_size, state_size)),
            jnp.ones(hidden_size, full),
        )
        return jax.tree.map(lambda p: p.astype(kind), params)

    def step(params: SelectiveParams, h: Array, u: Array, dt: Array | None) -> tuple[Array, Array]:
        delta = add_bias(dot(dot(u, params.w_low, compute_dtype), params.w_step, compute_dtype), params.b_step)
        delta = jax.nn.softplus(delta)
        delta = delta if dt is None else delta * dt
        b, c = dot(u, params.w_b, compute_dtype), dot(u, params.w_c, compute_dtype)
        a = jnp.exp(-delta[..., None] * jnp.exp(along(params.log_a, h)))
        h = a * h + (delta * u)[..., None] * b[..., None, :]
        return h, spread.einsum("...hs,...s->...h", h, c) + along(params.d, u) * u

    start = lambda params, batch: zeros((*batch, hidden_size), state_size, params.d)
    return over_channels(
        "selective_state_space", input_size, hidden_size, init, start, step, options, unit_axes=2, timed=True
    )
