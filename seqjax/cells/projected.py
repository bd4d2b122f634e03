"""LSTM that feeds back a projection of its output."""

from typing import NamedTuple, Unpack

from seqjax import checks, initializers
from seqjax.base import Array, Cell
from seqjax.cells.factory import GateOptions, weighted
from seqjax.cells.gated import gated_lstm
from seqjax.cells.states import LSTMState
from seqjax.initializers import Initializer
from seqjax.products import Bias
from seqjax.records import maker


class ProjectedLSTMParams(NamedTuple):
    """``w_x [d, 4h]``, ``w_h [p, 4h]``, ``b [4h]``, gates in the order i, f, g, o; ``w_p [h, p]``."""

    w_x: Array
    w_h: Array
    w_p: Array
    b: Bias


@maker
@weighted(b_init=initializers.lstm_bias)
def projected_lstm(
    input_size: int,
    hidden_size: int,
    projection_size: int,
    *,
    w_p_init: Initializer = initializers.input_weights,
    **options: Unpack[GateOptions],
) -> Cell[ProjectedLSTMParams, LSTMState]:
    """LSTM with a recurrent projection (LSTMP): a wide memory behind a narrow output.

        i, f, o = σ(x W + h U + b)      g = tanh(x W + h U + b)
        c' = f ⊙ c + i ⊙ g              h' = (o ⊙ tanh(c')) P             y = h'

    Gate order i, f, g, o as in `torch.nn.LSTM` with ``proj_size``; the projection has no bias; the forget
    gate's bias starts at 1.

    Args:
      hidden_size: h, units of the memory c.
      projection_size: p, units of h and of the output.
      w_p_init: initialiser of P ``[h, p]``.
      **options: sizes, initialisers and dtypes, see `GateOptions`; each gate's block of U is ``[p, h]``.

    Returns:
      A cell with state `LSTMState`, ``h [*B, p]`` and ``c [*B, h]``, and output h ``[*B, p]``.

    Example:
      >>> import jax, seqjax as sj
      >>> cell = sj.projected_lstm(3, 8, 2)
      >>> state = cell.initial_state(cell.init(jax.random.key(0)))
      >>> state.h.shape, state.c.shape
      ((2,), (8,))

    References:
      Sak, Senior and Beaufays (2014), Long short-term memory based recurrent neural network architectures for
      large vocabulary speech recognition. https://arxiv.org/abs/1402.1128
    """
    checks.sizes("projected_lstm", projection_size=projection_size)
    return gated_lstm(
        input_size,
        hidden_size,
        projection_size=projection_size,
        record=ProjectedLSTMParams,
        name="projected_lstm",
        w_p_init=w_p_init,
        **options,
    )
