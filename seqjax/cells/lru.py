"""The linear recurrent unit: complex eigenvalues on a ring, and nothing between two states but they."""

import math
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp

from seqjax import checks
from seqjax.base import Array, Cell, Key
from seqjax.cells.channels import complex_zeros, input_projection, interval, over_channels, real, real_part, root, wide
from seqjax.cells.factory import ChannelOptions, weighted
from seqjax.products import along, dot
from seqjax.records import maker


class LRUParams(NamedTuple):
    """``w_x [d, h]`` or None, ``nu``, ``theta [s]``, ``b_* [h, s]``, ``c_* [s, h]``, ``d [h]``; s complex numbers.

    B = b_real + i b_imag, C = c_real + i c_imag; ``log_gamma [s]`` or None.
    """

    w_x: Array | None
    nu: Array
    theta: Array
    log_gamma: Array | None
    b_real: Array
    b_imag: Array
    c_real: Array
    c_imag: Array
    d: Array


@maker
@weighted()
def lru(
    input_size: int,
    hidden_size: int,
    *,
    state_size: int | None = None,
    r_min: float = 0.0,
    r_max: float = 1.0,
    max_phase: float = 2 * math.pi,
    learned_gamma: bool = False,
    **options: Unpack[ChannelOptions],
) -> Cell[LRUParams, Array]:
    """The linear recurrent unit.

        a = exp(-exp(ν) + i exp(θ))             γ = √(1 - |a|²)
        h' = a ⊙ h + γ ⊙ (x B)                  y = Re(h' C) + D ⊙ x

    a, h, B and C are complex; |a| < 1 whatever ν. Where an input has another size than h, x is x W. With
    ``learned_gamma`` γ = exp(log γ) is a parameter that starts at √(1 - |a|²), as in the paper's program.

    An input may be a pair (x, dt): dt ``[*B]`` is the time since the last tick, in ticks, at least 0. Then a^dt takes
    the place of a: the state moves on for dt, and x comes in as a pulse. (x, 1) is x, and (0, s) before (x, t) is
    (x, s + t). Masked ticks take no time.

    The start decides how far it remembers: a is uniform on the ring r_min ≤ |a| ≤ r_max, its angle uniform up to
    max_phase. For long sequences take r_min = 0.9, r_max = 0.999 and a small max_phase, such as π/10.

    Args:
      hidden_size: h, of the output.
      state_size: s, complex numbers of the state; h if None.
      r_min: inner radius of the ring.
      r_max: its outer radius.
      max_phase: largest angle, at most 2π.
      learned_gamma: whether γ is a parameter.
      **options: sizes, initialisers and dtypes, see `WeightOptions`.

    Returns:
      A cell with a complex state ``[*B, s]`` and output y ``[*B, h]``.

    Raises:
      ValueError: a size below 1, radii or an angle out of bounds, or dt of another shape than the batch.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> cell = sj.cells.lru(3, 8, r_min=0.9, r_max=0.99)
      >>> params = cell.init(jax.random.key(0))
      >>> state = cell.initial_state(params, (2,))
      >>> xs, dt = jnp.ones((5, 2, 3)), jnp.full((5, 2), 0.5)
      >>> state, ys = sj.unroll(cell, params, state, (xs, dt))
      >>> state.dtype, ys.shape
      (dtype('complex64'), (5, 2, 8))

    References:
      Orvieto et al. (2023), Resurrecting recurrent neural networks for long sequences.
      https://arxiv.org/abs/2303.06349
    """
    size = hidden_size if state_size is None else state_size
    checks.sizes("lru", input_size=input_size, hidden_size=hidden_size, state_size=size)
    interval("lru", "r_min < r_max", r_min, r_max, 1)
    interval("lru", "0 < max_phase", 0, max_phase, 2 * math.pi)
    compute_dtype, kind, full = options["compute_dtype"], real(options["dtype"]), wide(options["dtype"])

    def init(key: Key) -> LRUParams:
        x_key, r_key, phase_key, b_key, c_key, d_key = jax.random.split(key, 6)
        tiny = jnp.finfo(full).tiny
        # 1 - |a|², uniform too: |a|² itself rounds to 1 on the outer edge.
        gap = 1 - r_max**2 + (r_max**2 - r_min**2) * jax.random.uniform(r_key, (size,), full, tiny, 1)
        theta = jnp.log(max_phase * jax.random.uniform(phase_key, (size,), full, tiny, 1))
        b_real, b_imag = jax.random.normal(b_key, (2, hidden_size, size), full) / math.sqrt(2 * hidden_size)
        c_real, c_imag = jax.random.normal(c_key, (2, size, hidden_size), full) / math.sqrt(size)
        params = LRUParams(
            input_projection(x_key, input_size, hidden_size, options),
            jnp.log(-jnp.log1p(-gap) / 2),
            theta,
            jnp.log(gap) / 2 if learned_gamma else None,
            b_real,
            b_imag,
            c_real,
            c_imag,
            jax.random.normal(d_key, (hidden_size,), full),
        )
        return jax.tree.map(lambda p: p.astype(kind), params)

    def step(params: LRUParams, h: Array, u: Array, dt: Array | None) -> tuple[Array, Array]:
        rate, angle = jnp.exp(along(params.nu, u)), jnp.exp(along(params.theta, u))
        gamma = root(-jnp.expm1(-2 * rate)) if params.log_gamma is None else jnp.exp(along(params.log_gamma, u))
        if dt is not None:
            rate, angle = rate * dt, angle * dt
        a = jnp.exp(jax.lax.complex(-rate, angle))
        b = [gamma * dot(u, w, compute_dtype) for w in (params.b_real, params.b_imag)]
        h = a * h + jax.lax.complex(*b)
        return h, real_part(h, params.c_real, params.c_imag, compute_dtype) + along(params.d, u) * u

    start = lambda params, batch: complex_zeros((*batch, size), params.nu)
    return over_channels("lru", input_size, hidden_size, init, start, step, options, timed=True)
