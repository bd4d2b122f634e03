"""Summed inputs of gates: ``x W + h U + b``, layer-normalised, or with a reset gate before the last one's."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from seqjax.base import Array
from seqjax.normalization import standardize
from seqjax.products import add_bias, along, bias_blocks, dot, recurrent_input


def normalize(a: Array, gates: int, gain: Array, epsilon: float) -> Array:
    """Each gate's block of ``a [*B, gates · h]`` standardised over its own units, times each unit's gain."""
    blocks = a.reshape(*a.shape[:-1], gates, a.shape[-1] // gates)
    return standardize(blocks, epsilon).reshape(a.shape) * along(gain, a)


def through_reset(
    params: Any,
    h: Array,
    x: Array,
    gates: int,
    compute_dtype: jnp.dtype | None,
    *,
    after: bool = False,
    epsilon: float | None = None,
) -> tuple[list[Array], Callable[[Array], Array]]:
    """Sums of all gates but the last, and the last one's, the candidate's, as a function of the reset gate r.

        s_k = x W_k + h U_k + b_k        s_n(r) = x W_n + (r ⊙ h) U_n + b_n        r acts before the product
                                         s_n(r) = x W_n + r ⊙ (h U_n + c_n) + b_n  or after it
        s = LN(s - b) ⊙ gain + b         with an epsilon

    Args:
      params: with ``w_x [d, kh]``, ``w_h [h, kh]`` and ``b``; ``gain [kh]`` with an epsilon, ``b_n`` with ``after``.
      h: the state ``[*B, h]``.
      x: the input ``[*B, d]``.
      gates: k.
      compute_dtype: of the products' operands.
      after: where r acts.
      epsilon: of the normalisation; None for none.

    Returns:
      A list of k - 1 sums, and the function.
    """
    h_in = recurrent_input(h)
    first = (gates - 1) * h.shape[-1]
    a = dot(x, params.w_x, compute_dtype)
    if after:
        *others, u_last = jnp.split(dot(h_in, params.w_h, compute_dtype), gates, axis=-1)
        recurrent = lambda r: r * add_bias(u_last, params.b_n)
    else:
        w, w_last = jnp.split(params.w_h, [first], axis=-1)
        u = dot(h_in, w, compute_dtype)
        recurrent = lambda r: dot(r * h_in, w_last, compute_dtype)

    if epsilon is None:
        *own, own_last = jnp.split(add_bias(a, params.b), gates, axis=-1)
        others = others if after else jnp.split(u, gates - 1, axis=-1)
        return [s + k for s, k in zip(own, others)], lambda r: own_last + recurrent(r)

    a, a_last = jnp.split(a, [first], axis=-1)
    u = jnp.concatenate(others, axis=-1) if after else u
    gain, gain_last = params.gain[:first], params.gain[first:]
    *biases, b_last = bias_blocks(params.b, gates)
    normal = jnp.split(normalize(a + u, gates - 1, gain, epsilon), gates - 1, axis=-1)
    sums = [add_bias(s, b) for s, b in zip(normal, biases)]
    return sums, lambda r: add_bias(normalize(a_last + recurrent(r), 1, gain_last, epsilon), b_last)
