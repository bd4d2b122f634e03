"""Long short-term memory."""

from typing import NamedTuple, Unpack

from seqjax import initializers
from seqjax.base import Array, Cell
from seqjax.cells.factory import Activation, GateOptions, weighted
from seqjax.cells.gated import gated_lstm
from seqjax.cells.states import LSTMState
from seqjax.products import Bias
from seqjax.records import maker


class LSTMParams(NamedTuple):
    """``w_x [d, 4h]``, ``w_h [h, 4h]``, ``b [4h]`` or None; gates in the order i, f, g, o."""

    w_x: Array
    w_h: Array
    b: Bias


@maker
@weighted(b_init=initializers.lstm_bias)
def lstm(
    input_size: int,
    hidden_size: int,
    *,
    output_activation: Activation | None = None,
    forget_bias: float = 0.0,
    **options: Unpack[GateOptions],
) -> Cell[LSTMParams, LSTMState]:
    """Long short-term memory with a forget gate.

        i, f, o = σ(x W + h U + b)      g = tanh(x W + h U + b)
        c' = f ⊙ c + i ⊙ g              h' = o ⊙ tanh(c')            y = h'

    Gate order i, f, g, o as in torch and cuDNN; one bias; the forget gate's bias starts at 1. The candidate
    is g and the output gate o here; some texts call the candidate a or c̃.

    Args:
      output_activation: of c' where it is given out; the candidate's if None.
      forget_bias: a constant added to the forget gate's sum, no parameter, as Haiku has it.
      **options: sizes, initialisers and dtypes, see `GateOptions`.

    Returns:
      A cell with state `LSTMState` and output h ``[*B, h]``.

    Example:
      >>> import jax, seqjax as sj
      >>> cell = sj.lstm(3, 2)
      >>> params = cell.init(jax.random.key(0))
      >>> params.b.tolist()
      [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]

    References:
      Hochreiter and Schmidhuber (1997), Long short-term memory. https://doi.org/10.1162/neco.1997.9.8.1735
      Gers, Schmidhuber and Cummins (2000), Learning to forget. https://doi.org/10.1162/089976600300015015
    """
    return gated_lstm(
        input_size,
        hidden_size,
        output_activation=output_activation,
        forget_bias=forget_bias,
        record=LSTMParams,
        name="lstm",
        **options,
    )
