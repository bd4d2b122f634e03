"""``(I - N)⁻¹`` for N strictly below its diagonal, by halving.

    I - N = [I - A, 0; -X, I - D]       (I - N)⁻¹ = [a, 0; d X a, d]        a = (I - A)⁻¹, d = (I - D)⁻¹

All diagonal blocks of one size at once, from single entries up: products of matrices, which JAX can differentiate.

`jax.lax.linalg.triangular_solve` is not used: on a CPU with two cores it stands still for ever in a loop under
`jax.jit` (jaxlib 0.10.2).
"""

import jax
import jax.numpy as jnp
from jax import lax

from seqjax.engines.linear.matrix.decay import SMALL


def inverse(n: jax.Array, precision: lax.PrecisionLike = None) -> jax.Array:
    """``(I - N)⁻¹`` of N ``[*B, C, C]``, C a power of two.

    >>> inverse(jnp.array([[0.0, 0.0], [3.0, 0.0]])).tolist()
    [[1.0, 0.0], [3.0, 1.0]]
    """
    length = n.shape[-1]
    batch = n.shape[:-2]
    found = jnp.ones_like(n[..., :1])[..., None]
    size = 1
    while size < length:
        count = length // (2 * size)
        # The blocks below the diagonal, by a sum over all of a row of blocks: a gather's transpose would be a scatter.
        mine = jnp.eye(count, dtype=n.dtype).reshape(count, 1, count, 1)
        # An axis at a time, as explicit shardings want it.
        late = n.reshape(*batch, count, 2, size, length)[..., 1, :, :].reshape(*batch, count, size, count, 2, size)
        late = late[..., 0, :]
        below = jnp.where(mine > 0, late, 0).sum(-2)
        early, later = found[..., 0::2, :, :], found[..., 1::2, :, :]
        new = _product(_product(later, below, precision), early, precision)
        upper = lax.concatenate([early, jnp.zeros_like(early)], early.ndim - 1)
        found = lax.concatenate([upper, lax.concatenate([new, later], early.ndim - 1)], early.ndim - 2)
        size *= 2
    return found[..., 0, :, :]


def _product(x: jax.Array, y: jax.Array, precision: lax.PrecisionLike) -> jax.Array:
    if x.shape[-1] < SMALL:
        return (x[..., :, :, None] * y[..., None, :, :]).sum(-2)
    return jnp.matmul(x, y, precision=precision)
