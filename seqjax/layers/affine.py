"""The affine map, and the residual block of two of them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn.initializers import zeros

from seqjax import checks, initializers
from seqjax.base import Array, Layer
from seqjax.initializers import Initializer
from seqjax.layers.compose import residual, serial
from seqjax.layers.ticks import mapped
from seqjax.products import add_bias, dot
from seqjax.records import maker


class DenseParams(NamedTuple):
    """``w [d, k]``, ``b [k]`` or None."""

    w: Array
    b: Array | None


@maker
def dense(
    input_size: int,
    output_size: int,
    *,
    activation: Callable[[Array], Array] | None = None,
    w_init: Initializer = initializers.input_weights,
    b_init: Initializer | None = zeros,
    dtype: jnp.dtype | None = None,
    compute_dtype: jnp.dtype | None = None,
) -> Layer[DenseParams, tuple]:
    """One layer of units at every tick.

        y = φ(x W + b)

    Args:
      input_size: d.
      output_size: k.
      activation: φ; the identity if None.
      w_init: initialiser of W ``[d, k]``.
      b_init: initialiser of b ``[k]``; None for no bias.
      dtype: of the parameters; JAX's default float if None.
      compute_dtype: of the product's operands; ``dtype`` if None.

    Returns:
      A layer with empty state, ``[T, *B, d]`` to ``[T, *B, k]``.

    Raises:
      ValueError: a size below 1, or inputs of another size.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> layer = sj.dense(3, 2)
      >>> state, ys = layer.apply(layer.init(jax.random.key(0)), (), jnp.ones((5, 3)))
      >>> ys.shape
      (5, 2)
    """
    checks.sizes("dense", input_size=input_size, output_size=output_size)

    def init(key: Array) -> DenseParams:
        w_key, b_key = jax.random.split(key)
        kind = jnp.dtype(dtype or jnp.zeros(()).dtype)
        b = None if b_init is None else b_init(b_key, (output_size,), kind)
        return DenseParams(w_init(w_key, (input_size, output_size), kind), b)

    def function(params: DenseParams, xs: Array, key: Array | None) -> Array:
        checks.features("dense", xs, input_size)
        a = add_bias(dot(xs, params.w, compute_dtype), params.b)
        return a if activation is None else activation(a)

    return mapped("dense", function, init)


@maker
def feed_forward(
    size: int,
    hidden_size: int,
    *,
    activation: Callable[[Array], Array] = jax.nn.relu,
    w_init: Initializer = initializers.input_weights,
    dtype: jnp.dtype | None = None,
    compute_dtype: jnp.dtype | None = None,
) -> Layer:
    """The residual block of a feed-forward stack.

        z = x W₁ + b₁      a = φ(z)      v = x + a W₂

    W₂ = 0 makes it the identity. Its Jacobian, with rows for outputs, is I + (W₁ diag(φ'(z)) W₂)ᵀ.

    Args:
      size: d, of input and output.
      hidden_size: of z.
      activation: φ.
      w_init: initialiser of W₁ and W₂.
      dtype: of the parameters; JAX's default float if None.
      compute_dtype: of the products' operands; ``dtype`` if None.

    Returns:
      A layer with params ``(DenseParams(W₁, b₁), DenseParams(W₂, None))``.

    Raises:
      ValueError: a size below 1, or inputs of another size.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> layer = sj.feed_forward(3, 8)
      >>> layer.apply(layer.init(jax.random.key(0)), ((), ()), jnp.ones((5, 3)))[1].shape
      (5, 3)

    References:
      He et al. (2016), Deep residual learning for image recognition. https://arxiv.org/abs/1512.03385
    """
    checks.sizes("feed_forward", size=size, hidden_size=hidden_size)
    shared: dict[str, Any] = {"w_init": w_init, "dtype": dtype, "compute_dtype": compute_dtype}
    return residual(
        serial(
            dense(size, hidden_size, activation=activation, **shared),
            dense(hidden_size, size, b_init=None, **shared),
        )
    )
