"""The gated recurrent unit, in its two variants."""

from typing import Literal, NamedTuple, Unpack

import jax
import jax.numpy as jnp

from seqjax.base import Array, Cell
from seqjax.cells.factory import GateOptions, weighted
from seqjax.cells.gated import gated_gru
from seqjax.products import Bias, Biases
from seqjax.records import maker


class GRUParams(NamedTuple):
    """``w_x [d, 3h]``, ``w_h [h, 3h]``, ``b [3h]`` or None; gates in the order r, z, n.

    ``b_n [h]`` is c_n, the candidate's bias inside the reset; None where the variant has none.
    """

    w_x: Array
    w_h: Array
    b: Bias
    b_n: Array | None


@maker
@weighted()
def gru(
    input_size: int,
    hidden_size: int,
    *,
    reset: Literal["after", "before"] = "after",
    inner_bias: bool | None = None,
    **options: Unpack[GateOptions],
) -> Cell[GRUParams, Array]:
    """The gated recurrent unit: z copies the old state, r decides how much of it the candidate sees.

        r, z = σ(x W + h U + b)
        n = tanh(x Wₙ + bₙ + r ⊙ (h Uₙ + cₙ))      reset after the recurrent product (torch, cuDNN)
        n = tanh(x Wₙ + bₙ + (r ⊙ h) Uₙ)           reset before it (the paper; no cₙ)
        h' = z ⊙ h + (1-z) ⊙ n                     y = h'

    Other texts write h' = (1-z) ⊙ h + z ⊙ n: their z is 1-z here. `swap_update_gate` maps one's parameters to
    the other's. Gate order r, z, n as in torch.

    Args:
      reset: ``"after"`` or ``"before"`` the recurrent product of the candidate.
      inner_bias: whether there is a cₙ; if None, where reset is after the product and there is a bias at all.
        Without it the cell has 3h(d+h+1) parameters, with it h more.
      **options: sizes, initialisers and dtypes, see `GateOptions`.

    Returns:
      A cell with state h ``[*B, h]`` and output h.

    Raises:
      ValueError: an unknown ``reset``, or an inner bias with reset before the product.

    Example:
      >>> import jax, seqjax as sj
      >>> sj.gru(3, 2).init(jax.random.key(0)).w_h.shape
      (2, 6)

    References:
      Cho et al. (2014), Learning phrase representations using RNN encoder-decoder.
      https://arxiv.org/abs/1406.1078
    """
    return gated_gru(
        input_size, hidden_size, reset=reset, inner_bias=inner_bias, record=GRUParams, name="gru", **options
    )


def swap_update_gate(params: GRUParams) -> GRUParams:
    """Parameters of h' = (1-z) ⊙ h + z ⊙ n as parameters of h' = z ⊙ h + (1-z) ⊙ n, and back.

    1 - σ(a) = σ(-a), so the update gate's weights and bias change sign.
    """

    def flip(w: Array) -> Array:
        r, z, n = jnp.split(w, 3, axis=-1)
        return jnp.concatenate([r, -z, n], axis=-1)

    b = params.b
    if isinstance(b, Biases):
        b = Biases(*map(flip, b))
    elif isinstance(b, tuple):
        r, z, n = b
        b = (r, jax.tree.map(jnp.negative, z), n)
    elif b is not None:
        b = flip(b)
    return params._replace(w_x=flip(params.w_x), w_h=flip(params.w_h), b=b)
