"""The sum over all paths of a chain, whose derivatives are what is expected of them.

    ∂ ln p(x) / ∂ e_t(j) = p(z_t = j | x)          ∂ ln p(x) / ∂ ln A_ij = Σ_t p(z_{t-1} = i, z_t = j | x)

Two passes of messages give both, in place of a derivative of every tick.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import masks
from seqjax.base import Array
from seqjax.hmm.messages import before, divided, in_blocks, preceded, run
from seqjax.logarithms import finite, logsumexp
from seqjax.products import along


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def log_likelihood(
    engine: str, start: Array, log_a: Array, evidence: Array, mask: Array | None, entering: Array
) -> Array:
    """Σ_t ln Σ_j exp(p_t + e_t) over real ticks ``[R]``, with what the paths expect as its derivative.

    Args:
      engine: of the messages that the derivative takes.
      start: ``[R, N]``.
      log_a: ``[N, N]``.
      evidence: ``[T, R, N]``.
      mask: ``[T, R]`` or None.
      entering: p ``[T, R, N]``, the messages of that chain: no variable of their own.
    """
    return over_ticks(entering, evidence, mask)


def over_ticks(p: Array, evidence: Array, mask: Array | None) -> Array:
    """Σ_t ln Σ_j exp(p_t + e_t) ``[*B]`` over real ticks."""
    totals = logsumexp(p + evidence)
    return (totals if mask is None else jnp.where(mask, totals, 0)).sum(0)


@log_likelihood.defjvp
def _log_likelihood_jvp(engine: str, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    start, log_a, evidence, mask, p = primals
    d_start, d_log_a, d_evidence, _, _ = tangents
    ahead = run(jnp.zeros_like(start), log_a.T, evidence, mask, best=False, engine=engine, reverse=True)
    states, left, right = expected(p, evidence, ahead, mask)
    first = masks.zero(~preceded(states.shape[:-1], mask), states).sum(0)
    change = (states * d_evidence).sum((0, -1)) + (first * d_start).sum(-1)
    return log_likelihood(engine, *primals), change + of_pairs(left, log_a, right, d_log_a, engine)


def expected(p: Array, evidence: Array, ahead: Array, mask: Array | None) -> tuple[Array, Array, Array]:
    """p(z_t | x) ``[T, *B, N]``, and both sides of p(z_{t-1} = i, z_t = j | x) = exp(left_i + ln A_ij + right_j).

    Of a masked tick, and of an impossible sequence, nothing is expected.
    """
    f = p + evidence
    arrived = evidence + ahead - finite(logsumexp(f + ahead))[..., None]
    states, entered = jnp.exp(p + arrived), preceded(f.shape[:-1], mask)
    if mask is not None:
        states, entered = masks.zero(mask, states), entered & mask
    return states, before(divided(f), mask), jnp.where(entered[..., None], arrived, -jnp.inf)


def of_pairs(left: Array, log_a: Array, right: Array, x: Array, engine: str) -> Array:
    """Σ_t Σ_ij exp(left_i + ln A_ij + right_j) x_ij ``[R]`` for left and right ``[T, R, N]``: linear in x ``[N, N]``.

    As a product of matrices it is exact while no factor on the right is so large that it brings back what underflow
    took from the left, where none exceeds 1; otherwise logarithms are added first.
    """
    top = finite(log_a.max())
    small = jnp.finfo(left.dtype)
    exact = (right + top < np.log(small.eps) - np.log(small.tiny)).all()

    def product(x: Array) -> Array:
        left_a = jnp.matmul(jnp.exp(left), jnp.exp(log_a - top) * x, precision=jax.lax.Precision.HIGHEST)
        return (left_a * jnp.exp(right + top)).sum((0, -1))

    def logarithms(x: Array) -> Array:
        @functools.partial(jax.checkpoint, prevent_cse=False)
        def step(total: Array, tick: tuple[Array, Array]) -> tuple[Array, None]:
            f, g = tick
            each = jnp.exp(f[..., :, None] + along(log_a, f[..., None]) + g[..., None, :])
            return total + (each * along(x, f[..., None])).sum((-2, -1)), None

        parts = (in_blocks(left), in_blocks(right, -jnp.inf)) if engine == "associative" else (left, right)
        total = jax.lax.scan(step, jnp.zeros_like(parts[0][0, ..., 0]), parts)[0]
        return total.sum(0) if engine == "associative" else total

    return jax.lax.cond(exact, product, logarithms, x)
