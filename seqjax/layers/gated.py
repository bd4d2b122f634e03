"""Units with a gate each, at every tick: a gated MLP, and features that gate themselves."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn.initializers import zeros

from seqjax import checks, initializers
from seqjax.base import Array, Layer
from seqjax.initializers import Initializer
from seqjax.layers.affine import DenseParams
from seqjax.layers.ticks import mapped
from seqjax.products import add_bias, dot
from seqjax.records import maker

Activation = Callable[[Array], Array]


class GatedParams(NamedTuple):
    """``w_x [d, 2h]``: gate, value; ``w_out [h, d]``."""

    w_x: Array
    w_out: Array


@maker
def gated_mlp(
    size: int,
    hidden_size: int,
    *,
    activation: Activation = jax.nn.gelu,
    w_init: Initializer = initializers.input_weights,
    dtype: jnp.dtype | None = None,
    compute_dtype: jnp.dtype | None = None,
) -> Layer[GatedParams, tuple]:
    """Two layers of units at every tick, the hidden ones times a gate each.

        y = (φ(x W_g) ⊙ x W_v) W_o

    With φ = gelu it is GeGLU, with `jax.nn.silu` SwiGLU, with `jax.nn.sigmoid` the gated linear unit.

    Args:
      size: d, of input and output.
      hidden_size: h, of gates and values.
      activation: φ.
      w_init: initialiser of the weights.
      dtype: of the parameters; JAX's default float if None.
      compute_dtype: of the products' operands; ``dtype`` if None.

    Returns:
      A layer with empty state, ``[T, *B, d]`` to ``[T, *B, d]``.

    Raises:
      ValueError: a size below 1, or inputs of another size.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> layer = sj.layers.gated_mlp(4, 12, activation=jax.nn.silu)
      >>> layer.apply(layer.init(jax.random.key(0)), (), jnp.ones((5, 4)))[1].shape
      (5, 4)

    References:
      Dauphin et al. (2017), Language modeling with gated convolutional networks. https://arxiv.org/abs/1612.08083
      Shazeer (2020), GLU variants improve transformer. https://arxiv.org/abs/2002.05202
    """
    checks.sizes("gated_mlp", size=size, hidden_size=hidden_size)

    def init(key: Array) -> GatedParams:
        x_key, out_key = jax.random.split(key)
        kind = jnp.dtype(dtype or jnp.zeros(()).dtype)
        return GatedParams(
            w_init(x_key, (size, 2 * hidden_size), kind),
            w_init(out_key, (hidden_size, size), kind),
        )

    def function(params: GatedParams, xs: Array, key: Array | None) -> Array:
        checks.features("gated_mlp", xs, size)
        gate, value = jnp.split(dot(xs, params.w_x, compute_dtype), 2, axis=-1)
        return dot(activation(gate) * value, params.w_out, compute_dtype)

    return mapped("gated_mlp", function, init)


@maker
def self_gate(
    size: int,
    *,
    activation: Activation = jax.nn.sigmoid,
    w_init: Initializer = initializers.input_weights,
    b_init: Initializer | None = zeros,
    dtype: jnp.dtype | None = None,
    compute_dtype: jnp.dtype | None = None,
) -> Layer[DenseParams, tuple]:
    """Features that say how much of themselves goes on.

        y = x ⊙ φ(x W + b)

    Args:
      size: d, of input and output.
      activation: φ.
      w_init: initialiser of W ``[d, d]``.
      b_init: initialiser of b ``[d]``; None for no bias.
      dtype: of the parameters; JAX's default float if None.
      compute_dtype: of the product's operands; ``dtype`` if None.

    Returns:
      A layer with empty state, ``[T, *B, d]`` to ``[T, *B, d]``.

    Raises:
      ValueError: a size below 1, or inputs of another size.

    Example:
      >>> import jax.numpy as jnp, seqjax as sj
      >>> params = sj.layers.DenseParams(w=jnp.zeros((2, 2)), b=jnp.zeros(2))
      >>> sj.layers.self_gate(2).apply(params, (), jnp.array([[2.0, 4.0]]))[1].tolist()
      [[1.0, 2.0]]

    References:
      Smith, Warrington and Linderman (2022), Simplified state space layers for sequence modeling.
      https://arxiv.org/abs/2208.04933
    """
    checks.sizes("self_gate", size=size)

    def init(key: Array) -> DenseParams:
        w_key, b_key = jax.random.split(key)
        kind = jnp.dtype(dtype or jnp.zeros(()).dtype)
        return DenseParams(w_init(w_key, (size, size), kind), None if b_init is None else b_init(b_key, (size,), kind))

    def function(params: DenseParams, xs: Array, key: Array | None) -> Array:
        checks.features("self_gate", xs, size)
        a = add_bias(dot(xs, params.w, compute_dtype), params.b)
        return xs.astype(a.dtype) * activation(a)

    return mapped("self_gate", function, init)
