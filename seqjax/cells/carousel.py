"""The constant-error carousel, the idea behind the LSTM."""

from typing import NamedTuple, Unpack

import jax.numpy as jnp

from seqjax.base import Array, Cell
from seqjax.cells.factory import WeightOptions, from_gates, weighted
from seqjax.cells.states import LSTMState, lstm_zeros
from seqjax.products import Bias, preactivation
from seqjax.records import maker


class CarouselParams(NamedTuple):
    """``w_x [d, h]``, ``w_h [h, h]``, ``b [h]`` or None."""

    w_x: Array
    w_h: Array
    b: Bias


@maker
@weighted()
def carousel(input_size: int, hidden_size: int, **options: Unpack[WeightOptions]) -> Cell[CarouselParams, LSTMState]:
    """The constant-error carousel: a state only added to, so that its gradient neither grows nor fades.

        c' = c + tanh(x W + h U + b)      h' = tanh(c')      y = h'

    With h held, ∂c'/∂c = I at every tick. It is an LSTM whose three gates are open.

    Args:
      **options: sizes, initialisers and dtypes, see `WeightOptions`.

    Returns:
      A cell with state `LSTMState` and output h ``[*B, h]``.

    Example:
      >>> import jax, seqjax as sj
      >>> cell = sj.carousel(3, 2)
      >>> sorted(cell.initial_state(cell.init(jax.random.key(0)))._fields)
      ['c', 'h']

    References:
      Hochreiter and Schmidhuber (1997), Long short-term memory, section 3.
      https://doi.org/10.1162/neco.1997.9.8.1735
    """

    def step(params: CarouselParams, state: LSTMState, x: Array) -> tuple[LSTMState, Array]:
        h, c = state
        c = c + jnp.tanh(preactivation(x, h, *params, options["compute_dtype"]))
        h = jnp.tanh(c)
        return LSTMState(h, c), h

    return from_gates(
        "carousel", ("g",), input_size, hidden_size, step, options, record=CarouselParams, state=lstm_zeros
    )
