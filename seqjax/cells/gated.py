"""Pass-through gating and the constant-error carousel: the ideas behind GRU and LSTM."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax import checks, initializers
from seqjax.base import Array, Cell
from seqjax.cells.states import LSTMState, lstm_zeros, zeros
from seqjax.initializers import BiasInitializer, Initializer, gate_weights
from seqjax.products import Bias, preactivation


class PassThroughParams(NamedTuple):
    """``w_x [d, 2h]``, ``w_h [h, 2h]``, ``b [2h]``; the candidate n, then the gate z."""

    w_x: Array
    w_h: Array
    b: Bias


def pass_through(
    input_size: int,
    hidden_size: int,
    *,
    activation: Callable[[Array], Array] = jax.nn.relu,
    w_x_init: Initializer = initializers.input_weights,
    w_h_init: Initializer = initializers.recurrent_weights,
    b_init: BiasInitializer | None = initializers.zero_bias,
    dtype: jnp.dtype | None = None,
    compute_dtype: jnp.dtype | None = None,
) -> Cell[PassThroughParams, Array]:
    """A recurrent layer with a gate that lets the old state pass through: a GRU without its reset gate.

        n = φ(x W + h U + b)        z = σ(x W_z + h U_z + b_z)
        h' = z ⊙ h + (1-z) ⊙ n      y = h'

    At z = 1 the state is held exactly, at z = 0 the unit is an Elman unit. Gate order n, z.

    Args:
      input_size: d.
      hidden_size: h.
      activation: φ of the candidate.
      w_x_init: initialiser of each block of W.
      w_h_init: initialiser of each block of U.
      b_init: bias initialiser, e.g. `initializers.chrono` for a gate that starts by holding; None for no
        bias.
      dtype: of the parameters; JAX's default float if None.
      compute_dtype: of the products' operands; ``dtype`` if None.

    Returns:
      A cell with state h ``[*B, h]`` and output h.

    Raises:
      ValueError: a size below 1, or inputs of another size.

    Example:
      >>> import jax, seqjax as sj
      >>> sj.pass_through(3, 2).init(jax.random.key(0)).w_h.shape
      (2, 4)

    References:
      Zhou, Wu, Zhang and Zhou (2016), Minimal gated unit for recurrent neural networks (the same unit with a
      reset by its one gate). https://arxiv.org/abs/1603.09420
    """
    checks.sizes("pass_through", input_size=input_size, hidden_size=hidden_size)
    draw = functools.partial(gate_weights, w_x_init=w_x_init, w_h_init=w_h_init, b_init=b_init, dtype=dtype)

    def init(key: Array) -> PassThroughParams:
        return PassThroughParams(*draw(key, ("n", "z"), input_size, hidden_size))

    def initial_state(
        params: PassThroughParams, batch_shape: tuple[int, ...] = (), *, key: Array | None = None
    ) -> Array:
        return zeros(batch_shape, hidden_size, params.w_h)

    def step(params: PassThroughParams, h: Array, x: Array) -> tuple[Array, Array]:
        checks.inputs("pass_through", x, h.shape[:-1], input_size)
        n, z = jnp.split(preactivation(x, h, *params, compute_dtype), 2, axis=-1)
        z = jax.nn.sigmoid(z)
        h = z * h + (1 - z) * activation(n)
        return h, h

    return Cell(init, initial_state, step)


class CarouselParams(NamedTuple):
    """``w_x [d, h]``, ``w_h [h, h]``, ``b [h]`` or None."""

    w_x: Array
    w_h: Array
    b: Bias


def carousel(
    input_size: int,
    hidden_size: int,
    *,
    w_x_init: Initializer = initializers.input_weights,
    w_h_init: Initializer = initializers.recurrent_weights,
    b_init: BiasInitializer | None = initializers.zero_bias,
    dtype: jnp.dtype | None = None,
    compute_dtype: jnp.dtype | None = None,
) -> Cell[CarouselParams, LSTMState]:
    """The constant-error carousel: a state only added to, so that its gradient neither grows nor fades.

        c' = c + tanh(x W + h U + b)      h' = tanh(c')      y = h'

    With h held, ∂c'/∂c = I at every tick. It is an LSTM whose three gates are open.

    Args:
      input_size: d.
      hidden_size: h.
      w_x_init: initialiser of W ``[d, h]``.
      w_h_init: initialiser of U ``[h, h]``.
      b_init: initialiser of b ``[h]``; None for no bias.
      dtype: of the parameters; JAX's default float if None.
      compute_dtype: of the products' operands; ``dtype`` if None.

    Returns:
      A cell with state `LSTMState` and output h ``[*B, h]``.

    Raises:
      ValueError: a size below 1, or inputs of another size.

    Example:
      >>> import jax, seqjax as sj
      >>> cell = sj.carousel(3, 2)
      >>> sorted(cell.initial_state(cell.init(jax.random.key(0)))._fields)
      ['c', 'h']

    References:
      Hochreiter and Schmidhuber (1997), Long short-term memory, section 3.
      https://doi.org/10.1162/neco.1997.9.8.1735
    """
    checks.sizes("carousel", input_size=input_size, hidden_size=hidden_size)
    draw = functools.partial(gate_weights, w_x_init=w_x_init, w_h_init=w_h_init, b_init=b_init, dtype=dtype)

    def init(key: Array) -> CarouselParams:
        return CarouselParams(*draw(key, ("g",), input_size, hidden_size))

    def initial_state(
        params: CarouselParams, batch_shape: tuple[int, ...] = (), *, key: Array | None = None
    ) -> LSTMState:
        return lstm_zeros(batch_shape, hidden_size, params.w_h)

    def step(params: CarouselParams, state: LSTMState, x: Array) -> tuple[LSTMState, Array]:
        h, c = state
        checks.inputs("carousel", x, h.shape[:-1], input_size)
        c = c + jnp.tanh(preactivation(x, h, *params, compute_dtype))
        h = jnp.tanh(c)
        return LSTMState(h, c), h

    return Cell(init, initial_state, step)
