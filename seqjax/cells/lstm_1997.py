"""Long short-term memory as first published: no forget gate."""

from typing import NamedTuple, Unpack

from seqjax.base import Array, Cell
from seqjax.cells.factory import GateOptions, weighted
from seqjax.cells.gated import gated_lstm
from seqjax.cells.states import LSTMState
from seqjax.products import Bias
from seqjax.records import maker


class LSTM1997Params(NamedTuple):
    """``w_x [d, 3h]``, ``w_h [h, 3h]``, ``b [3h]``; gates in the order i, g, o."""

    w_x: Array
    w_h: Array
    b: Bias


@maker
@weighted()
def lstm_1997(input_size: int, hidden_size: int, **options: Unpack[GateOptions]) -> Cell[LSTM1997Params, LSTMState]:
    """The original LSTM: an input and an output gate around a carousel that never forgets.

        i, o = σ(x W + h U + b)      g = tanh(x W + h U + b)
        c' = c + i ⊙ g               h' = o ⊙ tanh(c')               y = h'

    Gate order i, g, o; no forget gate, so no forget bias. The paper squashes with 4σ - 2 and 2σ - 1 where
    tanh stands here, and cuts its gradient off at the gates; here the gradient is the exact one. The paper
    also starts output gates with negative biases (its "abuse problem"): pass such a ``b_init``.

    Args:
      **options: sizes, initialisers and dtypes, see `GateOptions`.

    Returns:
      A cell with state `LSTMState` and output h ``[*B, h]``.

    Example:
      >>> import jax, seqjax as sj
      >>> sj.lstm_1997(3, 2).init(jax.random.key(0)).w_x.shape
      (3, 6)

    References:
      Hochreiter and Schmidhuber (1997), Long short-term memory. https://doi.org/10.1162/neco.1997.9.8.1735
    """
    return gated_lstm(input_size, hidden_size, forget=False, record=LSTM1997Params, name="lstm_1997", **options)
