"""Layer-normalised cells: the whole summed input is normalised once a tick and example."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax import checks, initializers
from seqjax.base import Array, Cell
from seqjax.cells.states import LSTMState, lstm_zeros, zeros
from seqjax.initializers import BiasInitializer, Initializer, gate_weights
from seqjax.normalization import standardize
from seqjax.products import Bias, add_bias, bias_blocks, dot, preactivation, recurrent_input

LSTM_GATES = ("i", "f", "g", "o")
GRU_GATES = ("r", "z", "n")


def normalize(a: Array, gates: int, gain: Array, epsilon: float) -> Array:
    """Each gate's block of ``a [*B, gates · h]`` standardised over its own units, times each unit's gain."""
    blocks = a.reshape(*a.shape[:-1], gates, -1)
    return standardize(blocks, epsilon).reshape(a.shape) * gain.astype(a.dtype)


class LayerNormElmanParams(NamedTuple):
    """``w_x [d, h]``, ``w_h [h, h]``, ``gain [h]``, ``b [h]``."""

    w_x: Array
    w_h: Array
    gain: Array
    b: Bias


def layer_norm_elman(
    input_size: int,
    hidden_size: int,
    *,
    activation: Callable[[Array], Array] = jnp.tanh,
    epsilon: float = 1e-5,
    w_x_init: Initializer = initializers.input_weights,
    w_h_init: Initializer = initializers.recurrent_weights,
    b_init: BiasInitializer | None = initializers.zero_bias,
    dtype: jnp.dtype | None = None,
    compute_dtype: jnp.dtype | None = None,
) -> Cell[LayerNormElmanParams, Array]:
    """An Elman network whose summed input is layer-normalised each tick.

        h' = φ(LN(x W + h U) ⊙ gain + b)        LN(a) = (a - mean a) / √(var a + ε)        y = h'

    Mean and variance are taken over the h units of one example at one tick. The cell does not change when W
    and U are scaled together, or when one vector is added to the weights of every unit.

    Args:
      input_size: d.
      hidden_size: h.
      activation: φ.
      epsilon: ε, added to the variance.
      w_x_init: initialiser of W ``[d, h]``.
      w_h_init: initialiser of U ``[h, h]``.
      b_init: initialiser of b ``[h]``; None for no bias.
      dtype: of the parameters; JAX's default float if None.
      compute_dtype: of the products' operands; ``dtype`` if None.

    Returns:
      A cell with state h ``[*B, h]`` and output h.

    Raises:
      ValueError: a size below 1, or inputs of another size.

    Example:
      >>> import jax, seqjax as sj
      >>> sj.layer_norm_elman(3, 2).init(jax.random.key(0)).gain.tolist()
      [1.0, 1.0]

    References:
      Ba, Kiros and Hinton (2016), Layer normalization. https://arxiv.org/abs/1607.06450
    """
    checks.sizes("layer_norm_elman", input_size=input_size, hidden_size=hidden_size)
    draw = functools.partial(gate_weights, w_x_init=w_x_init, w_h_init=w_h_init, b_init=b_init, dtype=dtype)

    def init(key: Array) -> LayerNormElmanParams:
        w_x, w_h, b = draw(key, ("h",), input_size, hidden_size)
        return LayerNormElmanParams(w_x, w_h, jnp.ones(hidden_size, w_h.dtype), b)

    def initial_state(
        params: LayerNormElmanParams, batch_shape: tuple[int, ...] = (), *, key: Array | None = None
    ) -> Array:
        return zeros(batch_shape, hidden_size, params.w_h)

    def step(params: LayerNormElmanParams, h: Array, x: Array) -> tuple[Array, Array]:
        checks.inputs("layer_norm_elman", x, h.shape[:-1], input_size)
        a = preactivation(x, h, params.w_x, params.w_h, None, compute_dtype)
        h = activation(add_bias(normalize(a, 1, params.gain, epsilon), params.b))
        return h, h

    return Cell(init, initial_state, step)


class LayerNormLSTMParams(NamedTuple):
    """``w_x [d, 4h]``, ``w_h [h, 4h]``, ``gain [4h]``, ``b [4h]``; gates in the order i, f, g, o."""

    w_x: Array
    w_h: Array
    gain: Array
    b: Bias


def layer_norm_lstm(
    input_size: int,
    hidden_size: int,
    *,
    epsilon: float = 1e-5,
    w_x_init: Initializer = initializers.input_weights,
    w_h_init: Initializer = initializers.recurrent_weights,
    b_init: BiasInitializer | None = initializers.lstm_bias,
    dtype: jnp.dtype | None = None,
    compute_dtype: jnp.dtype | None = None,
) -> Cell[LayerNormLSTMParams, LSTMState]:
    """An LSTM whose summed input is layer-normalised each tick.

        i, f, g, o = LN(x W + h U) ⊙ gain + b
        c' = σ(f) ⊙ c + σ(i) ⊙ tanh(g)      h' = σ(o) ⊙ tanh(c')      y = h'

    Per gate: each of the four is normalised over its own h units, so that one gate's weights may be scaled,
    or one vector be added to those of all its units, and nothing changes. The cell state is not normalised.
    Gate order i, f, g, o; the forget gate's bias starts at 1.

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

    Example:
      >>> import jax, seqjax as sj
      >>> sj.layer_norm_lstm(3, 2).init(jax.random.key(0)).gain.shape
      (8,)

    References:
      Ba, Kiros and Hinton (2016), Layer normalization. https://arxiv.org/abs/1607.06450
    """
    checks.sizes("layer_norm_lstm", input_size=input_size, hidden_size=hidden_size)
    draw = functools.partial(gate_weights, w_x_init=w_x_init, w_h_init=w_h_init, b_init=b_init, dtype=dtype)

    def init(key: Array) -> LayerNormLSTMParams:
        w_x, w_h, b = draw(key, LSTM_GATES, input_size, hidden_size)
        return LayerNormLSTMParams(w_x, w_h, jnp.ones(4 * hidden_size, w_h.dtype), b)

    def initial_state(
        params: LayerNormLSTMParams, batch_shape: tuple[int, ...] = (), *, key: Array | None = None
    ) -> LSTMState:
        return lstm_zeros(batch_shape, hidden_size, params.w_h)

    def step(params: LayerNormLSTMParams, state: LSTMState, x: Array) -> tuple[LSTMState, Array]:
        h, c = state
        checks.inputs("layer_norm_lstm", x, h.shape[:-1], input_size)
        a = preactivation(x, h, params.w_x, params.w_h, None, compute_dtype)
        a = add_bias(normalize(a, 4, params.gain, epsilon), params.b)
        i, f, g, o = jnp.split(a, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return LSTMState(h, c), h

    return Cell(init, initial_state, step)


class LayerNormGRUParams(NamedTuple):
    """``w_x [d, 3h]``, ``w_h [h, 3h]``, ``gain [3h]``, ``b [3h]``; gates in the order r, z, n."""

    w_x: Array
    w_h: Array
    gain: Array
    b: Bias


def layer_norm_gru(
    input_size: int,
    hidden_size: int,
    *,
    epsilon: float = 1e-5,
    w_x_init: Initializer = initializers.input_weights,
    w_h_init: Initializer = initializers.recurrent_weights,
    b_init: BiasInitializer | None = initializers.zero_bias,
    dtype: jnp.dtype | None = None,
    compute_dtype: jnp.dtype | None = None,
) -> Cell[LayerNormGRUParams, Array]:
    """A GRU whose summed inputs are layer-normalised each tick.

        r, z = σ(LN(x W + h U) ⊙ gain + b)
        n = tanh(LN(x W + (r ⊙ h) U) ⊙ gain + b)
        h' = z ⊙ h + (1-z) ⊙ n                      y = h'

    Per gate: each of the three is normalised over its own h units. The reset acts before the recurrent
    product, as in the GRU's paper, so that the candidate too has one summed input; z copies the old state.
    Gate order r, z, n.

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
      A cell with state h ``[*B, h]`` and output h.

    Raises:
      ValueError: a size below 1, or inputs of another size.

    Example:
      >>> import jax, seqjax as sj
      >>> sj.layer_norm_gru(3, 2).init(jax.random.key(0)).gain.shape
      (6,)

    References:
      Ba, Kiros and Hinton (2016), Layer normalization. https://arxiv.org/abs/1607.06450
    """
    checks.sizes("layer_norm_gru", input_size=input_size, hidden_size=hidden_size)
    draw = functools.partial(gate_weights, w_x_init=w_x_init, w_h_init=w_h_init, b_init=b_init, dtype=dtype)

    def init(key: Array) -> LayerNormGRUParams:
        w_x, w_h, b = draw(key, GRU_GATES, input_size, hidden_size)
        return LayerNormGRUParams(w_x, w_h, jnp.ones(3 * hidden_size, w_h.dtype), b)

    def initial_state(
        params: LayerNormGRUParams, batch_shape: tuple[int, ...] = (), *, key: Array | None = None
    ) -> Array:
        return zeros(batch_shape, hidden_size, params.w_h)

    def step(params: LayerNormGRUParams, h: Array, x: Array) -> tuple[Array, Array]:
        checks.inputs("layer_norm_gru", x, h.shape[:-1], input_size)
        h_in = recurrent_input(h)
        two = 2 * hidden_size
        b_r, b_z, b_n = bias_blocks(params.b, 3)
        x_rz, x_n = jnp.split(dot(x, params.w_x, compute_dtype), [two], axis=-1)
        w_rz, w_n = jnp.split(params.w_h, [two], axis=-1)
        rz = normalize(x_rz + dot(h_in, w_rz, compute_dtype), 2, params.gain[:two], epsilon)
        r, z = (jax.nn.sigmoid(add_bias(a, b)) for a, b in zip(jnp.split(rz, 2, axis=-1), (b_r, b_z)))
        n = normalize(x_n + dot(r * h_in, w_n, compute_dtype), 1, params.gain[two:], epsilon)
        h = z * h + (1 - z) * jnp.tanh(add_bias(n, b_n))
        return h, h

    return Cell(init, initial_state, step)
