"""Products of one tick: operands in a compute dtype, sums in float32 or wider."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from seqjax import spread
from seqjax.base import Array

__all__ = [
    "Biases",
    "accumulator",
    "add_bias",
    "along",
    "bias_blocks",
    "dot",
    "head_dot",
    "head_gates",
    "preactivation",
    "recurrent_input",
]


class Biases(NamedTuple):
    """Two biases that are added, ``a + input + recurrent``: torch, Keras and cuDNN keep one beside each product.

    They say no more than one, but learn otherwise: each gets the whole gradient.
    """

    input: Array
    recurrent: Array


Bias = Array | tuple[Array | Biases | None, ...] | Biases | None

RECURRENT_INPUT = "seqjax.recurrent_input"


def accumulator(dtype: jnp.dtype) -> jnp.dtype:
    """The dtype in which products are summed and states are kept: at least float32."""
    return jnp.dtype(jnp.float32) if jnp.finfo(dtype).bits < 32 else jnp.dtype(dtype)


def dot(x: Array, w: Array, compute_dtype: jnp.dtype | None = None) -> Array:
    """``x W`` with ``x [*B, d]`` and ``W [d, k]``, both cast to ``compute_dtype`` (the dtype of W if None).

    The sum is kept in float32 or wider, so bfloat16 operands lose precision once and not at every addition.

    >>> dot(jnp.ones(4, jnp.bfloat16), jnp.ones((4, 1), jnp.float32)).dtype
    dtype('float32')
    """
    dtype = w.dtype if compute_dtype is None else jnp.dtype(compute_dtype)
    wide = accumulator(w.dtype)
    return jax.lax.dot_general(
        cast(x, dtype),
        cast(w, dtype),
        (((np.ndim(x) - 1,), (0,)), ((), ())),
        preferred_element_type=accumulator(dtype),
        out_sharding=spread.of_product(x, w),
    ).astype(wide)


def cast(x: Array, dtype: jnp.dtype) -> Array:
    """``x`` in another type of floats; complex numbers would lose a part of theirs without a word.

    Raises:
      TypeError: complex numbers, for a type that is not.

    >>> cast(jnp.arange(2), jnp.float32).dtype
    dtype('float32')
    """
    if jnp.iscomplexobj(x) and not jnp.issubdtype(dtype, jnp.complexfloating):
        raise TypeError(
            f"products: expected real numbers for a product of {dtype}, got {jnp.result_type(x)}. Give real and "
            "imaginary parts as features of their own."
        )
    return jnp.asarray(x).astype(dtype)


def head_dot(h: Array, w: Array, compute_dtype: jnp.dtype | None = None) -> Array:
    """Every head by its own weight: ``h [*B, n, k]`` and ``W [n, k, m]`` to ``[*B, n, m]``; dtypes as in `dot`.

    >>> head_dot(jnp.ones((3, 2, 4)), jnp.ones((2, 4, 5))).shape
    (3, 2, 5)
    """
    dtype = w.dtype if compute_dtype is None else jnp.dtype(compute_dtype)
    numbers = (((h.ndim - 1,), (1,)), ((h.ndim - 2,), (0,)))
    heads_first = jax.lax.dot_general(
        cast(h, dtype), cast(w, dtype), numbers, preferred_element_type=accumulator(dtype)
    )
    return jnp.moveaxis(heads_first, 0, -2).astype(accumulator(w.dtype))


def head_gates(
    x: Array, h: Array, w_x: Array, w_h: Array, b: Bias, compute_dtype: jnp.dtype | None = None
) -> tuple[list[Array], list[Array]]:
    """``x W + b`` and ``h U`` gate by gate, each ``[*B, n, k]``; W is ``[d, g n k]``, U ``[n, k, g k]``."""
    heads, size, width = w_h.shape
    a = add_bias(dot(x, w_x, compute_dtype), b)
    split = jnp.split(a, width // size, axis=-1)
    own = [block.reshape(*block.shape[:-1], heads, size) for block in split]
    return own, jnp.split(head_dot(recurrent_input(h), w_h, compute_dtype), width // size, axis=-1)


def recurrent_input(h: Array) -> Array:
    """Marks ``h`` where it enters the products of a step; the identity otherwise.

    `seqjax.recurrent_dropout` finds the mark and drops there, and nowhere on the path that copies the state.
    """
    return checkpoint_name(h, RECURRENT_INPUT)


def preactivation(x: Array, h: Array, w_x: Array, w_h: Array, b: Bias, compute_dtype: jnp.dtype | None = None) -> Array:
    """``x W + h U + b`` for all gates of a cell at once, ``h`` marked as recurrent input."""
    return add_bias(dot(x, w_x, compute_dtype) + dot(recurrent_input(h), w_h, compute_dtype), b)


def add_bias(a: Array, b: Bias) -> Array:
    """``a + b``: b is ``[kh]``, `Biases`, a tuple of one block ``[h]`` or None a gate, or None for no bias at all."""
    if b is None:
        return a
    if isinstance(b, Biases):
        return a + along(b.input, a) + along(b.recurrent, a)
    if not isinstance(b, tuple):
        return a + along(b, a)
    blocks = jnp.split(a, len(b), axis=-1)
    return jnp.concatenate([add_bias(block, own) for block, own in zip(blocks, b)], axis=-1)


def along(b: Array, a: Array) -> Array:
    """``b [k, ...]`` in the dtype of ``a [*B, k, ...]``, with axes of one for its batch.

    Written out, so that equations hold under ``jax.numpy_rank_promotion("raise")`` too.

    Example:
      >>> along(jnp.arange(3), jnp.ones((2, 3))).tolist()
      [[0.0, 1.0, 2.0]]
    """
    return jax.lax.expand_dims(b, range(a.ndim - b.ndim)).astype(a.dtype)


def bias_blocks(b: Bias, gates: int) -> tuple[Any, ...]:
    """The bias of each gate by itself, None where there is none."""
    if b is None:
        return (None,) * gates
    if isinstance(b, Biases):
        return tuple(map(Biases, *(jnp.split(each, gates, axis=-1) for each in b)))
    return b if isinstance(b, tuple) else tuple(jnp.split(b, gates, axis=-1))
