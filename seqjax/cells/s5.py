"""S5: a linear differential equation with complex modes, held over each tick."""

from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import checks
from seqjax.base import Array, Cell, Key
from seqjax.cells.channels import (
    complex_zeros,
    input_projection,
    log_uniform,
    over_channels,
    real,
    real_part,
    steps,
    wide,
)
from seqjax.cells.factory import ChannelOptions, weighted
from seqjax.products import along, dot
from seqjax.records import maker


class S5Params(NamedTuple):
    """``w_x [d, h]`` or None, ``log_decay, frequency, log_step [s]``, ``b_* [h, s]``, ``c_* [s, h]``, ``d [h]``.

    Λ = -exp(log_decay) + i frequency, Δ = exp(log_step), B = b_real + i b_imag, C = c_real + i c_imag.
    """

    w_x: Array | None
    log_decay: Array
    frequency: Array
    log_step: Array
    b_real: Array
    b_imag: Array
    c_real: Array
    c_imag: Array
    d: Array


@maker
@weighted()
def s5(
    input_size: int,
    hidden_size: int,
    *,
    state_size: int | None = None,
    blocks: int = 1,
    step_min: float = 0.001,
    step_max: float = 0.1,
    **options: Unpack[ChannelOptions],
) -> Cell[S5Params, Array]:
    """The simplified state-space layer: dh/dt = Λ ⊙ h + x B, with x held still over each tick.

        a = exp(Δ Λ)
        h' = a ⊙ h + (a-1)/Λ ⊙ (x B)            y = 2 Re(h' C) + D ⊙ x

    Λ, h, B and C are complex, Δ is learned, a number for each of the s modes; |a| < 1, as Re Λ = -exp(log_decay). Each
    mode stands for itself and its conjugate, hence the 2. Where an input has another size than h, x is x W.

    An input may be a pair (x, dt): dt ``[*B]`` is the time since the last tick, in ticks, at least 0, over which x was
    held: Δ dt takes the place of Δ. (x, 1) is x, and (x, s) before (x, t) is (x, s + t). Masked ticks take no time.

    The start decides how far it remembers: Λ are the eigenvalues of the normal part of HiPPO-LegS, those with positive
    frequency of ``blocks`` matrices of 2 s / blocks rows, B and C are drawn in its eigenvectors; Δ is log-uniform
    between step_min and step_max.

    Args:
      hidden_size: h, of the output.
      state_size: s, complex numbers of the state; h if None.
      blocks: how many matrices, a divisor of s.
      step_min: the smallest Δ at the start.
      step_max: the largest.
      **options: sizes, initialisers and dtypes, see `WeightOptions`.

    Returns:
      A cell with a complex state ``[*B, s]`` and output y ``[*B, h]``.

    Raises:
      ValueError: a size below 1, blocks that do not divide s, steps that are not in order, or dt of another shape than
        the batch.

    Example:
      >>> import jax, seqjax as sj
      >>> cell = sj.cells.s5(8, 8, state_size=4)
      >>> print(cell.init(jax.random.key(0)).frequency.round(1))
      [19.9  5.4  2.   0.4]

    References:
      Smith, Warrington and Linderman (2022), Simplified state space layers for sequence modeling.
      https://arxiv.org/abs/2208.04933
    """
    size = hidden_size if state_size is None else state_size
    checks.sizes("s5", input_size=input_size, hidden_size=hidden_size, state_size=size, blocks=blocks)
    if size % blocks:
        raise ValueError(f"s5: expected blocks to divide state_size={size}, got {blocks}. Change one of them.")
    steps("s5", step_min, step_max)
    compute_dtype, kind, full = options["compute_dtype"], real(options["dtype"]), wide(options["dtype"])

    def init(key: Key) -> S5Params:
        x_key, b_key, c_key, d_key, step_key = jax.random.split(key, 5)
        eigenvalues, vectors = legs(size // blocks)
        half, rows = size // blocks, 2 * size // blocks
        v_real, v_imag = jnp.asarray(vectors.real, full), jnp.asarray(vectors.imag, full)
        b = jax.random.normal(b_key, (hidden_size, blocks, rows), full) * hidden_size**-0.5
        c_re, c_im = jax.random.normal(c_key, (2, blocks, rows, hidden_size), full) * (4 * size) ** -0.5
        into = lambda v: jnp.einsum("cjr,rs->cjs", b, v).reshape(hidden_size, size)
        out = lambda c, v: jnp.einsum("jrh,rs->jsh", c, v).reshape(blocks * half, hidden_size)
        params = S5Params(
            input_projection(x_key, input_size, hidden_size, options),
            jnp.full(size, np.log(0.5), full),
            jnp.tile(jnp.asarray(eigenvalues, full), blocks),
            jnp.log(log_uniform(step_key, (size,), step_min, step_max, full)),
            into(v_real),
            into(-v_imag),
            out(c_re, v_real) - out(c_im, v_imag),
            out(c_re, v_imag) + out(c_im, v_real),
            jax.random.normal(d_key, (hidden_size,), full),
        )
        return jax.tree.map(lambda p: p.astype(kind), params)

    def step(params: S5Params, h: Array, u: Array, dt: Array | None) -> tuple[Array, Array]:
        held = jnp.exp(along(params.log_step, u))
        held = held if dt is None else held * dt
        decay, frequency = -jnp.exp(along(params.log_decay, u)), along(params.frequency, u)
        exponent = jax.lax.complex(held * decay, held * frequency)
        b = jax.lax.complex(dot(u, params.b_real, compute_dtype), dot(u, params.b_imag, compute_dtype))
        h = jnp.exp(exponent) * h + jnp.expm1(exponent) / jax.lax.complex(decay, frequency) * b
        return h, 2 * real_part(h, params.c_real, params.c_imag, compute_dtype) + along(params.d, u) * u

    start = lambda params, batch: complex_zeros((*batch, size), params.log_step)
    return over_channels("s5", input_size, hidden_size, init, start, step, options, timed=True)


def legs(size: int) -> tuple[np.ndarray, np.ndarray]:
    """The normal part of HiPPO-LegS of 2 s rows: its s positive frequencies, falling, their eigenvectors ``[2s, s]``.

    The matrix is -1/2 on the diagonal and √((n + 1/2)(m + 1/2)) off it, with a minus below: -1/2 plus what is skew, so
    that every eigenvalue has the real part -1/2.
    """
    p = np.sqrt(np.arange(2 * size) + 0.5)
    skew = np.triu(np.outer(p, p), 1)
    frequencies, vectors = np.linalg.eigh(-1j * (skew - skew.T))
    return frequencies[: size - 1 : -1], vectors[:, : size - 1 : -1]
