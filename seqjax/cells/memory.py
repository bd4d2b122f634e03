"""What cells share whose state is a matrix S ``[*B, heads, k, v]``: keys write values into it, queries read them.

Everything that meets S comes from the input; the state's path is pointwise but for products with a key or query.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax import checks, spread
from seqjax.base import Array, Key
from seqjax.cells.channels import before_softplus, fan_in, log_uniform, real, wide
from seqjax.cells.factory import ChannelOptions
from seqjax.products import accumulator, add_bias, along, dot


class HeadDecay(NamedTuple):
    """``w [d, n]``, ``b``, ``log_rate [n]``: a = exp(-exp(log_rate) softplus(x w + b)), a number a head."""

    w: Array
    b: Array
    log_rate: Array


def sizes(who: str, input_size: int, hidden_size: int, heads: int, key_size: int | None) -> tuple[int, int]:
    """Numbers of a key and of a value, in one head."""
    checks.sizes(who, input_size=input_size)
    checks.heads(who, hidden_size, heads)
    if key_size is not None:
        checks.sizes(who, key_size=key_size)
    value = hidden_size // heads
    return (value if key_size is None else key_size), value


def blocks(key: Key, input_size: int, widths: tuple[int, ...], options: ChannelOptions) -> Array:
    """W ``[d, Σ widths]``, each block by a draw of its own."""
    full = wide(options["dtype"])
    keys = jax.random.split(key, len(widths))
    drawn = [options["w_x_init"](k, (input_size, width), full) for k, width in zip(keys, widths)]
    return jnp.concatenate(drawn, axis=1).astype(real(options["dtype"]))


def parts(a: Array, heads: int, *widths: int) -> list[Array]:
    """``[*B, heads Σ widths]`` as one ``[*B, heads, width]`` for each width, all heads of one side by side."""
    borders = [heads * sum(widths[: i + 1]) for i in range(len(widths) - 1)]
    return [part.reshape(*part.shape[:-1], heads, part.shape[-1] // heads) for part in jnp.split(a, borders, axis=-1)]


def matrices(batch_shape: tuple[int, ...], heads: int, key: int, value: int, w: Array) -> Array:
    """A state of zeros ``[*B, heads, k, v]``."""
    return jnp.zeros((*batch_shape, heads, key, value), accumulator(w.dtype))


def read(q: Array, s: Array) -> Array:
    """qᵀ S for each head: ``[*B, heads, k]`` and ``[*B, heads, k, v]`` to ``[*B, heads, v]``."""
    return spread.einsum("...k,...kv->...v", q, s)


def joined(y: Array) -> Array:
    """``[*B, heads, v]`` as ``[*B, heads v]``."""
    return y.reshape(*y.shape[:-2], math.prod(y.shape[-2:]))


def head_decay(key: Key, input_size: int, heads: int, options: ChannelOptions) -> HeadDecay:
    """As Mamba-2 starts: rates uniform in (1, 16), softplus(b) log-uniform in (0.001, 0.1)."""
    full, kind = wide(options["dtype"]), real(options["dtype"])
    w_key, b_key, rate_key = jax.random.split(key, 3)
    drawn = HeadDecay(
        fan_in(w_key, (input_size, heads), full),
        before_softplus(log_uniform(b_key, (heads,), 0.001, 0.1, full)),
        jnp.log(jax.random.uniform(rate_key, (heads,), full, 1, 16)),
    )
    return jax.tree.map(lambda p: p.astype(kind), drawn)


def decay_of(params: HeadDecay, x: Array, compute_dtype: jnp.dtype | None) -> Array:
    """a ``[*B, n]``."""
    passed = jax.nn.softplus(add_bias(dot(x, params.w, compute_dtype), params.b))
    return jnp.exp(-jnp.exp(along(params.log_rate, passed)) * passed)
