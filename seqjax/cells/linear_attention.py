"""Linear attention: a matrix of what keys stand for, with the decays of the literature."""

from typing import Literal, NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import checks
from seqjax.base import Array, Cell, Key
from seqjax.cells.channels import fan_in, real, wide
from seqjax.cells.factory import ChannelOptions, checked, weighted
from seqjax.cells.memory import HeadDecay, blocks, decay_of, head_decay, joined, matrices, parts, read, sizes
from seqjax.products import add_bias, along, dot
from seqjax.records import maker

RANK, TEMPERATURE = 16, 16  # of a decay a channel, as in Yang et al.


class ChannelDecay(NamedTuple):
    """``w_low [d, 16]``, ``w [16, n k]``, ``b [n k]``: a = σ(x w_low w + b)^(1/16), a number a row of S."""

    w_low: Array
    w: Array
    b: Array


class LinearAttentionParams(NamedTuple):
    """``w_x [d, 2 n k + h]``, the blocks of q, k, v; ``decay`` where it comes from the input, else None."""

    w_x: Array
    decay: HeadDecay | ChannelDecay | None


@maker
@weighted()
def linear_attention(
    input_size: int,
    hidden_size: int,
    *,
    heads: int = 1,
    decay: Literal["head", "input", "channel"] | None = None,
    key_size: int | None = None,
    **options: Unpack[ChannelOptions],
) -> Cell[LinearAttentionParams, Array]:
    """Linear attention: each key adds its value to a matrix, each query reads it.

        q = x W_q       k = x W_k / √k       v = x W_v
        S' = a ⊙ S + k vᵀ                    y = qᵀ S'

    in each head by itself, so that y_t = Σ_s (q_t · k_s) v_s Π a, over s ≤ t and the decays between s and t. What a is:

    - None: 1, nothing is forgotten (Katharopoulos et al.). Their feature map and normaliser are left out, as in the
      works below; `seqjax.cells.mlstm` has a normaliser.
    - ``"head"``: 1 - 2^(-5-j) in head j = 0, 1, …, no parameter (retention, Sun et al.; no rotation of q and k).
    - ``"input"``: exp(-exp(r) softplus(x w + b)), a number a head (as in Mamba-2, Dao and Gu).
    - ``"channel"``: σ(x w_low w + b)^(1/16), a number a row of S (gated linear attention, Yang et al.).

    Normalisation, gating and the projection of y belong to the block around the cell.

    Args:
      hidden_size: h, of the output: values of all heads.
      heads: a divisor of h.
      decay: None, ``"head"``, ``"input"`` or ``"channel"``.
      key_size: k, numbers of a key in one head; as many as of a value if None.
      **options: sizes, initialisers and dtypes, see `WeightOptions`.

    Returns:
      A cell with state S ``[*B, heads, k, v]``, v = h / heads, and output y ``[*B, h]``.

    Raises:
      ValueError: heads that do not divide h, a size below 1, or an unknown decay.

    Example:
      >>> import jax, seqjax as sj
      >>> cell = sj.cells.linear_attention(3, 8, heads=2, decay="input")
      >>> cell.initial_state(cell.init(jax.random.key(0)), (5,)).shape
      (5, 2, 4, 4)

    References:
      Katharopoulos et al. (2020), Transformers are RNNs. https://arxiv.org/abs/2006.16236
      Sun et al. (2023), Retentive network. https://arxiv.org/abs/2307.08621
      Yang et al. (2023), Gated linear attention transformers with hardware-efficient training.
      https://arxiv.org/abs/2312.06635
      Dao and Gu (2024), Transformers are SSMs. https://arxiv.org/abs/2405.21060
    """
    key_size, size = sizes("linear_attention", input_size, hidden_size, heads, key_size)
    checks.choice("linear_attention", "decay", decay, (None, "head", "input", "channel"))
    rows, compute_dtype = heads * key_size, options["compute_dtype"]
    fixed = 1 - 2.0 ** (-5 - np.arange(heads))

    def init(key: Key) -> LinearAttentionParams:
        x_key, decay_key = jax.random.split(key)
        own: HeadDecay | ChannelDecay | None = None
        if decay == "input":
            own = head_decay(decay_key, input_size, heads, options)
        elif decay == "channel":
            full, kind = wide(options["dtype"]), real(options["dtype"])
            low_key, w_key = jax.random.split(decay_key)
            w_low, w = fan_in(low_key, (input_size, RANK), full), fan_in(w_key, (RANK, rows), full)
            own = ChannelDecay(w_low.astype(kind), w.astype(kind), jnp.zeros(rows, kind))
        return LinearAttentionParams(blocks(x_key, input_size, (rows, rows, hidden_size), options), own)

    def kept(own: HeadDecay | ChannelDecay | None, x: Array, s: Array) -> Array:
        """a S."""
        if decay == "head":
            return along(jnp.asarray(fixed[:, None, None], s.dtype), s) * s
        if isinstance(own, HeadDecay):
            return decay_of(own, x, compute_dtype)[..., None, None] * s
        if isinstance(own, ChannelDecay):
            a = add_bias(dot(dot(x, own.w_low, compute_dtype), own.w, compute_dtype), own.b)
            return jnp.exp(parts(jax.nn.log_sigmoid(a) / TEMPERATURE, heads, key_size)[0])[..., None] * s
        return s

    def step(params: LinearAttentionParams, s: Array, x: Array) -> tuple[Array, Array]:
        q, k, v = parts(dot(x, params.w_x, compute_dtype), heads, key_size, key_size, size)
        k = k * key_size**-0.5
        s = kept(params.decay, x, s) + k[..., :, None] * v[..., None, :]
        return s, joined(read(q, s))

    start = lambda params, batch: matrices(batch, heads, key_size, size, params.w_x)
    return checked("linear_attention", input_size, init, start, step, unit_axes=3)
