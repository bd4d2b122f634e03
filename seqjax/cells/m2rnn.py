"""M²RNN: a matrix state with a nonlinear recurrence."""

from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp

from seqjax.base import Array, Cell, Key
from seqjax.cells.channels import real
from seqjax.cells.factory import ChannelOptions, checked, weighted
from seqjax.cells.memory import HeadDecay, blocks, decay_of, head_decay, joined, matrices, parts, read, sizes
from seqjax.products import along, dot, head_dot, recurrent_input
from seqjax.records import maker


class M2RNNParams(NamedTuple):
    """``w_x [d, 2 n k + h]``, the blocks of q, k, v; ``w_h [n, v, v]``; ``forget`` makes f; ``w [n, v]``."""

    w_x: Array
    w_h: Array
    forget: HeadDecay
    w: Array


@maker
@weighted()
def m2rnn(
    input_size: int,
    hidden_size: int,
    *,
    heads: int = 1,
    key_size: int | None = None,
    **options: Unpack[ChannelOptions],
) -> Cell[M2RNNParams, Array]:
    """A matrix that goes through tanh: each of its rows is an Elman network that writes by its part of the key.

        q = x W_q       k = x W_k       v = x W_v       f = exp(-exp(r) softplus(x w_f + b_f)), a number a head
        Z = tanh(S W + k vᵀ)
        S' = f S + (1-f) Z                          y = S'ᵀ q + w ⊙ v

    in each head by itself. The state does not enter linearly: there is one product a tick in the loop. At k = 1 it is a
    gated Elman network, h' = f h + (1-f) tanh(h W + k v).

    The start is the published one: W = I, w = 1, and f as Mamba-2's decay.

    Args:
      hidden_size: h, of the output: values of all heads.
      heads: a divisor of h.
      key_size: k, numbers of a key in one head; as many as of a value if None.
      **options: sizes, initialisers and dtypes, see `WeightOptions`.

    Returns:
      A cell with state S ``[*B, heads, k, v]``, v = h / heads, and output y ``[*B, h]``.

    Raises:
      ValueError: heads that do not divide h, or a size below 1.

    Example:
      >>> import jax, seqjax as sj
      >>> sj.cells.m2rnn(3, 8, heads=2, key_size=5).init(jax.random.key(0)).w_h.shape
      (2, 4, 4)

    References:
      Mishra et al. (2026), M²RNN: non-linear RNNs with matrix-valued states for scalable language modeling.
      https://arxiv.org/abs/2603.14360
    """
    key_size, size = sizes("m2rnn", input_size, hidden_size, heads, key_size)
    rows, compute_dtype, kind = heads * key_size, options["compute_dtype"], real(options["dtype"])

    def init(key: Key) -> M2RNNParams:
        x_key, forget_key = jax.random.split(key)
        return M2RNNParams(
            blocks(x_key, input_size, (rows, rows, hidden_size), options),
            jnp.stack([jnp.eye(size, dtype=kind)] * heads),
            head_decay(forget_key, input_size, heads, options),
            jnp.ones((heads, size), kind),
        )

    def step(params: M2RNNParams, s: Array, x: Array) -> tuple[Array, Array]:
        q, k, v = parts(dot(x, params.w_x, compute_dtype), heads, key_size, key_size, size)
        f = decay_of(params.forget, x, compute_dtype)[..., None, None]
        by_rows = jnp.moveaxis(recurrent_input(s), -2, 0)
        product = jnp.moveaxis(head_dot(by_rows, params.w_h, compute_dtype), 0, -2)
        s = f * s + (1 - f) * jnp.tanh(product + k[..., :, None] * v[..., None, :])
        return s, joined(read(q, s) + along(params.w, v) * v)

    start = lambda params, batch: matrices(batch, heads, key_size, size, params.w_x)
    return checked("m2rnn", input_size, init, start, step, unit_axes=3)
