"""Depth instead of time: the Jacobian of a plain and of a residual stack."""

import jax
import jax.numpy as jnp

from seqjax import checks
from seqjax.base import Array
from seqjax.gradients import backward


def depth_stretch(key: Array, size: int, depth: int, *, scale: float = 1.0, residual: bool = False) -> Array:
    """How far dx_l/dx_0 stretches and shrinks, for every depth l of a random network.

        plain       x_l = F_l(x_{l-1})                 J_l = F_l'
        residual    x_l = x_{l-1} + F_l(x_{l-1})       J_l = I + F_l'         F_l(x) = tanh(x W_l)

    The entries of W_l are drawn from N(0, scale²/size), x_0 from N(0, 1). The product is kept at size 1 on the way
    and its logarithm beside it, so that any depth can be seen.

    Args:
      key: draws x_0 and all W_l.
      size: n.
      depth: L.
      scale: of the weights.
      residual: whether F is added to its input.

    Returns:
      ``[L, n]``, the natural logarithms of the singular values of dx_l/dx_0, largest first. Those far below the
      largest, by more than the digits of a float, are not resolved.

    Raises:
      ValueError: a scale that is not above 0.

    Example:
      >>> import jax, seqjax as sj
      >>> logs = sj.gradients.lessons.depth_stretch(jax.random.key(0), 8, 50, scale=0.5)
      >>> bool(logs[-1, 0] < -20)
      True

    References:
      He et al. (2016), Identity mappings in deep residual networks. https://arxiv.org/abs/1603.05027
    """
    checks.sizes("depth_stretch", size=size, depth=depth)
    if not scale > 0:
        raise ValueError(f"depth_stretch: expected a scale above 0, got {scale!r}. Raise it.")
    first, rest = jax.random.split(key)
    x = jax.random.normal(first, (size,))

    def layer(carry: tuple, key: Array) -> tuple[tuple, Array]:
        x, product, log = carry
        w = jax.random.normal(key, (size, size), x.dtype) * scale / size**0.5
        f = lambda x: (x if residual else 0) + jnp.tanh(x @ w)
        product = jax.jacfwd(f)(x) @ product
        norm = backward.norm([product], 0)
        product, log = product / norm, log + jnp.log(norm)
        return (f(x), product, log), log + jnp.log(jnp.linalg.svd(product, compute_uv=False))

    start = (x, jnp.eye(size, dtype=x.dtype), jnp.zeros((), x.dtype))
    return jax.lax.scan(layer, start, jax.random.split(rest, depth))[1]
