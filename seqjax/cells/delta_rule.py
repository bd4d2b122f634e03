"""The delta rule: a write replaces what the key stood for."""

from typing import NamedTuple, Unpack

import jax

from seqjax.base import Array, Cell, Key
from seqjax.cells.channels import fan_in, real, wide
from seqjax.cells.factory import ChannelOptions, checked, weighted
from seqjax.cells.memory import HeadDecay, blocks, decay_of, head_decay, joined, matrices, parts, read, sizes
from seqjax.normalization import unit
from seqjax.products import dot
from seqjax.records import maker


class DeltaRuleParams(NamedTuple):
    """``w_x [d, 2 n k + h]``, the blocks of q, k, v; ``w_beta [d, n]``; ``decay`` of a gated one, else None."""

    w_x: Array
    w_beta: Array
    decay: HeadDecay | None


@maker
@weighted()
def delta_rule(
    input_size: int,
    hidden_size: int,
    *,
    heads: int = 1,
    gated: bool = False,
    beta: float = 1.0,
    key_size: int | None = None,
    **options: Unpack[ChannelOptions],
) -> Cell[DeltaRuleParams, Array]:
    """A matrix that is corrected: what the key reads moves towards the value by a share of the difference.

        q = x W_q / ‖x W_q‖     k = x W_k / ‖x W_k‖     v = x W_v       b = β σ(x w_β), a number a head
        S' = S - b k (kᵀS - vᵀ)                     y = qᵀ S'
        S' = a (S - b k kᵀS) + b k vᵀ               gated, a = exp(-exp(r) softplus(x w + c)), a number a head

    At b = 1 the key reads v afterwards, whatever it read before. Along k the state is multiplied by 1 - b, which is
    positive up to β = 1; with β = 2 it may turn its sign, and the cell can learn parity.

    Args:
      hidden_size: h, of the output: values of all heads.
      heads: a divisor of h.
      gated: whether the matrix decays besides.
      beta: β, the largest b, above 0 and up to 2.
      key_size: k, numbers of a key in one head; as many as of a value if None.
      **options: sizes, initialisers and dtypes, see `WeightOptions`.

    Returns:
      A cell with state S ``[*B, heads, k, v]``, v = h / heads, and output y ``[*B, h]``.

    Raises:
      ValueError: heads that do not divide h, a size below 1, or β out of bounds.

    Example:
      >>> import jax, seqjax as sj
      >>> sj.cells.delta_rule(3, 8, heads=2, beta=2).init(jax.random.key(0)).w_beta.shape
      (3, 2)

    References:
      Schlag, Irie and Schmidhuber (2021), Linear transformers are secretly fast weight programmers.
      https://arxiv.org/abs/2102.11174
      Yang et al. (2024), Parallelizing linear transformers with the delta rule. https://arxiv.org/abs/2406.06484
      Yang, Kautz and Hatamizadeh (2024), Gated delta networks. https://arxiv.org/abs/2412.06464
      Grazzi et al. (2024), Unlocking state-tracking in linear RNNs through negative eigenvalues.
      https://arxiv.org/abs/2411.12537
    """
    key_size, size = sizes("delta_rule", input_size, hidden_size, heads, key_size)
    if not 0 < beta <= 2:
        raise ValueError(f"delta_rule: expected beta above 0 and up to 2, got {beta!r}. Use 1, or 2 for parity.")
    rows, compute_dtype = heads * key_size, options["compute_dtype"]

    def init(key: Key) -> DeltaRuleParams:
        x_key, beta_key, decay_key = jax.random.split(key, 3)
        return DeltaRuleParams(
            blocks(x_key, input_size, (rows, rows, hidden_size), options),
            fan_in(beta_key, (input_size, heads), wide(options["dtype"])).astype(real(options["dtype"])),
            head_decay(decay_key, input_size, heads, options) if gated else None,
        )

    def step(params: DeltaRuleParams, s: Array, x: Array) -> tuple[Array, Array]:
        q, k, v = parts(dot(x, params.w_x, compute_dtype), heads, key_size, key_size, size)
        q, k = unit(q), unit(k)
        b = beta * jax.nn.sigmoid(dot(x, params.w_beta, compute_dtype))
        if params.decay is not None:
            s = decay_of(params.decay, x, compute_dtype)[..., None, None] * s
        s = s + (b[..., None] * k)[..., :, None] * (v - read(k, s))[..., None, :]
        return s, joined(read(q, s))

    start = lambda params, batch: matrices(batch, heads, key_size, size, params.w_x)
    return checked("delta_rule", input_size, init, start, step, unit_axes=3)
