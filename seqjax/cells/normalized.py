"""Layer-normalised cells: the whole summed input is normalised once a tick and example."""

from collections.abc import Callable
from typing import NamedTuple, Unpack

import jax.numpy as jnp

from seqjax import initializers
from seqjax.base import Array, Cell
from seqjax.cells.factory import GateOptions, WeightOptions, from_gates, weighted
from seqjax.cells.gated import gated_gru, gated_lstm
from seqjax.cells.states import LSTMState
from seqjax.cells.sums import normalize
from seqjax.products import Bias, add_bias, preactivation
from seqjax.records import maker


class LayerNormElmanParams(NamedTuple):
    """``w_x [d, h]``, ``w_h [h, h]``, ``gain [h]``, ``b [h]``."""

    w_x: Array
    w_h: Array
    gain: Array
    b: Bias


@maker
@weighted()
def layer_norm_elman(
    input_size: int,
    hidden_size: int,
    *,
    activation: Callable[[Array], Array] = jnp.tanh,
    epsilon: float = 1e-5,
    **options: Unpack[WeightOptions],
) -> Cell[LayerNormElmanParams, Array]:
    """An Elman network whose summed input is layer-normalised each tick.

        h' = φ(LN(x W + h U) ⊙ gain + b)        LN(a) = (a - mean a) / √(var a + ε)        y = h'

    Mean and variance are taken over the h units of one example at one tick. The cell does not change when W
    and U are scaled together, or when one vector is added to the weights of every unit.

    Args:
      activation: φ.
      epsilon: ε, added to the variance.
      **options: sizes, initialisers and dtypes, see `WeightOptions`.

    Returns:
      A cell with state h ``[*B, h]`` and output h.

    Example:
      >>> import jax, seqjax as sj
      >>> sj.layer_norm_elman(3, 2).init(jax.random.key(0)).gain.tolist()
      [1.0, 1.0]

    References:
      Ba, Kiros and Hinton (2016), Layer normalization. https://arxiv.org/abs/1607.06450
    """

    def params_of(w_x: Array, w_h: Array, b: Bias) -> LayerNormElmanParams:
        return LayerNormElmanParams(w_x, w_h, jnp.ones(hidden_size, w_h.dtype), b)

    def step(params: LayerNormElmanParams, h: Array, x: Array) -> tuple[Array, Array]:
        a = preactivation(x, h, params.w_x, params.w_h, None, options["compute_dtype"])
        h = activation(add_bias(normalize(a, 1, params.gain, epsilon), params.b))
        return h, h

    return from_gates("layer_norm_elman", ("h",), input_size, hidden_size, step, options, record=params_of)


class LayerNormLSTMParams(NamedTuple):
    """``w_x [d, 4h]``, ``w_h [h, 4h]``, ``gain [4h]``, ``b [4h]``; gates in the order i, f, g, o."""

    w_x: Array
    w_h: Array
    gain: Array
    b: Bias


@maker
@weighted(b_init=initializers.lstm_bias)
def layer_norm_lstm(
    input_size: int, hidden_size: int, *, epsilon: float = 1e-5, **options: Unpack[GateOptions]
) -> Cell[LayerNormLSTMParams, LSTMState]:
    """An LSTM whose summed input is layer-normalised each tick.

        i, f, g, o = LN(x W + h U) ⊙ gain + b
        c' = σ(f) ⊙ c + σ(i) ⊙ tanh(g)      h' = σ(o) ⊙ tanh(c')      y = h'

    Per gate: each of the four is normalised over its own h units, so that one gate's weights may be scaled,
    or one vector be added to those of all its units, and nothing changes. The cell state is not normalised.
    Gate order i, f, g, o; the forget gate's bias starts at 1.

    Args:
      epsilon: added to the variance.
      **options: sizes, initialisers and dtypes, see `GateOptions`.

    Returns:
      A cell with state `LSTMState` and output h ``[*B, h]``.

    Example:
      >>> import jax, seqjax as sj
      >>> sj.layer_norm_lstm(3, 2).init(jax.random.key(0)).gain.shape
      (8,)

    References:
      Ba, Kiros and Hinton (2016), Layer normalization. https://arxiv.org/abs/1607.06450
    """
    return gated_lstm(
        input_size,
        hidden_size,
        normalise="layer",
        epsilon=epsilon,
        record=LayerNormLSTMParams,
        name="layer_norm_lstm",
        **options,
    )


class LayerNormGRUParams(NamedTuple):
    """``w_x [d, 3h]``, ``w_h [h, 3h]``, ``gain [3h]``, ``b [3h]``; gates in the order r, z, n."""

    w_x: Array
    w_h: Array
    gain: Array
    b: Bias


@maker
@weighted()
def layer_norm_gru(
    input_size: int, hidden_size: int, *, epsilon: float = 1e-5, **options: Unpack[GateOptions]
) -> Cell[LayerNormGRUParams, Array]:
    """A GRU whose summed inputs are layer-normalised each tick.

        r, z = σ(LN(x W + h U) ⊙ gain + b)
        n = tanh(LN(x W + (r ⊙ h) U) ⊙ gain + b)
        h' = z ⊙ h + (1-z) ⊙ n                      y = h'

    Per gate: each of the three is normalised over its own h units. The reset acts before the recurrent
    product, as in the GRU's paper, so that the candidate too has one summed input; z copies the old state.
    Gate order r, z, n.

    Args:
      epsilon: added to the variance.
      **options: sizes, initialisers and dtypes, see `GateOptions`.

    Returns:
      A cell with state h ``[*B, h]`` and output h.

    Example:
      >>> import jax, seqjax as sj
      >>> sj.layer_norm_gru(3, 2).init(jax.random.key(0)).gain.shape
      (6,)

    References:
      Ba, Kiros and Hinton (2016), Layer normalization. https://arxiv.org/abs/1607.06450
    """
    return gated_gru(
        input_size,
        hidden_size,
        normalise="layer",
        epsilon=epsilon,
        record=LayerNormGRUParams,
        name="layer_norm_gru",
        reset="before",
        **options,
    )
