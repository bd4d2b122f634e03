"""Layer-normalised cells: the whole summed input is normalised once a tick and example."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax import checks, initializers
from seqjax.base import Array, Cell
from seqjax.cells.states import LSTMState
from seqjax.initializers import BiasInitializer, Initializer, gate_weights
from seqjax.normalization import standardize
from seqjax.products import accumulator, preactivation


class LayerNormLSTMParams(NamedTuple):
    """``w_x [d, 4h]``, ``w_h [h, 4h]``; per unit of the summed input ``gain [4h]`` and ``b [4h]``; order i, f, g, o."""

    w_x: Array
    w_h: Array
    gain: Array
    b: Array | None


def layer_norm_lstm(
    input_size: int,
    hidden_size: int,
    *,
    epsilon: float = 1e-5,
    w_x_init: Initializer = initializers.input_weights,
    w_h_init: Initializer = initializers.recurrent_weights,
    b_init: BiasInitializer | None = initializers.forget_bias(1.0),
    dtype: jnp.dtype | None = None,
    compute_dtype: jnp.dtype | None = None,
) -> Cell[LayerNormLSTMParams, LSTMState]:
    """An LSTM whose summed input is layer-normalised each tick.

        i, f, g, o = LN(x W + h U) ⊙ gain + b
        c' = σ(f) ⊙ c + σ(i) ⊙ tanh(g)      h' = σ(o) ⊙ tanh(c')      y = h'

    The four gates are normalised separately, each over its own h units (per gate), so that scaling one gate's weights
    changes nothing; c is not normalised. Gate order i, f, g, o; the forget gate's bias starts at 1.

    Args:
      input_size: d.
      hidden_size: h.
      epsilon: added to the variance.
      w_x_init: initialiser of each gate's block of W.
      w_h_init: initialiser of each gate's block of U.
      b_init: bias initialiser; None for no bias.
      dtype: of the parameters; JAX's default float if None.
      compute_dtype: of the products' operands; ``dtype`` if None.

    Returns:
      A cell with state `LSTMState` and output h ``[*B, h]``.

    Raises:
      ValueError: a size below 1, or inputs of another size.

    References:
      Ba, Kiros and Hinton (2016), Layer normalization. https://arxiv.org/abs/1607.06450
    """
    checks.sizes("layer_norm_lstm", input_size=input_size, hidden_size=hidden_size)

    def init(key: Array) -> LayerNormLSTMParams:
        w_x, w_h, b = gate_weights(
            key,
            ("i", "f", "g", "o"),
            input_size,
            hidden_size,
            w_x_init=w_x_init,
            w_h_init=w_h_init,
            b_init=b_init,
            dtype=dtype,
        )
        return LayerNormLSTMParams(w_x, w_h, jnp.ones(4 * hidden_size, w_h.dtype), b)

    def initial_state(
        params: LayerNormLSTMParams, batch_shape: tuple[int, ...] = (), *, key: Array | None = None
    ) -> LSTMState:
        zeros = jnp.zeros((*batch_shape, hidden_size), accumulator(params.w_h.dtype))
        return LSTMState(zeros, zeros)

    def step(params: LayerNormLSTMParams, state: LSTMState, x: Array) -> tuple[LSTMState, Array]:
        h, c = state
        checks.inputs("layer_norm_lstm", x, h.shape[:-1], input_size)
        a = preactivation(x, h, params.w_x, params.w_h, None, compute_dtype)
        a = standardize(a.reshape(*a.shape[:-1], 4, hidden_size), epsilon).reshape(a.shape)
        a = a * params.gain.astype(a.dtype)
        if params.b is not None:
            a = a + params.b.astype(a.dtype)
        i, f, g, o = jnp.split(a, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return LSTMState(h, c), h

    return Cell(init, initial_state, step)
