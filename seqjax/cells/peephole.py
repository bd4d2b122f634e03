"""LSTM whose gates look at the cell state."""

from typing import Literal, NamedTuple, Unpack

import jax

from seqjax import checks, initializers
from seqjax.base import Array, Cell
from seqjax.cells.factory import GateOptions, weighted
from seqjax.cells.gated import gated_lstm
from seqjax.cells.states import LSTMState
from seqjax.initializers import Initializer
from seqjax.products import Bias
from seqjax.records import maker


class PeepholeLSTMParams(NamedTuple):
    """``w_x [d, 4h]``, ``w_h [h, 4h]``, ``b [4h]``; gates in the order i, f, g, o.

    ``w_c`` holds the peepholes of i, f, o in this order: ``[3h]`` if diagonal, ``[h, 3h]`` if full.
    """

    w_x: Array
    w_h: Array
    w_c: Array
    b: Bias


@maker
@weighted(b_init=initializers.lstm_bias)
def peephole_lstm(
    input_size: int,
    hidden_size: int,
    *,
    peepholes: Literal["diagonal", "full"] = "diagonal",
    w_c_init: Initializer = jax.nn.initializers.zeros,
    **options: Unpack[GateOptions],
) -> Cell[PeepholeLSTMParams, LSTMState]:
    """Long short-term memory with peepholes: i and f also see c, o also sees c'.

        i, f = σ(x W + h U + c ⋆ P + b)      g = tanh(x W + h U + b)
        c' = f ⊙ c + i ⊙ g
        o = σ(x W + h U + c' ⋆ P + b)        h' = o ⊙ tanh(c')               y = h'

        c ⋆ P = c ⊙ p      diagonal: each unit's gates see its own cell (Gers; the ONNX ``LSTM`` operator)
        c ⋆ P = c P        full: each gate sees every cell (Graves' equations read as matrices)

    Gate order i, f, g, o, peephole order i, f, o (ONNX keeps i, o, f); the forget gate's bias starts at 1 and
    the peepholes at 0, so that an untrained cell equals `seqjax.lstm`.

    Args:
      peepholes: ``"diagonal"`` or ``"full"``.
      w_c_init: initialiser of each gate's block of P, ``[h]`` if diagonal, ``[h, h]`` if full.
      **options: sizes, initialisers and dtypes, see `GateOptions`.

    Returns:
      A cell with state `LSTMState` and output h ``[*B, h]``.

    Raises:
      ValueError: unknown ``peepholes``.

    Example:
      >>> import jax, seqjax as sj
      >>> sj.peephole_lstm(3, 2).init(jax.random.key(0)).w_c.shape
      (6,)
      >>> sj.peephole_lstm(3, 2, peepholes="full").init(jax.random.key(0)).w_c.shape
      (2, 6)

    References:
      Gers, Schraudolph and Schmidhuber (2002), Learning precise timing with LSTM recurrent networks.
      https://www.jmlr.org/papers/v3/gers02a.html
      Graves (2013), Generating sequences with recurrent neural networks. https://arxiv.org/abs/1308.0850
    """
    checks.choice("peephole_lstm", "peepholes", peepholes, ("diagonal", "full"))
    return gated_lstm(
        input_size,
        hidden_size,
        peepholes=peepholes,
        record=PeepholeLSTMParams,
        name="peephole_lstm",
        w_c_init=w_c_init,
        **options,
    )
