"""LSTM whose states are pictures and whose products are convolutions."""

import itertools
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import checks, initializers
from seqjax.base import Array, Cell, Key
from seqjax.cells.factory import WeightOptions, weighted
from seqjax.cells.states import LSTMState
from seqjax.initializers import Initializer
from seqjax.products import Bias, accumulator, add_bias, along, dot, recurrent_input
from seqjax.records import maker

GATES = ("i", "f", "g", "o")


class ConvLSTMParams(NamedTuple):
    """``w_x [*kernel, d, 4h]``, ``w_h [*kernel, h, 4h]``, ``b [4h]``; gates in the order i, f, g, o.

    ``w_c [*shape, 3h]``: the peepholes of i, f, o, one for every place, or None.
    """

    w_x: Array
    w_h: Array
    w_c: Array | None
    b: Bias


@maker
@weighted(b_init=initializers.lstm_bias)
def conv_lstm(
    input_size: int,
    hidden_size: int,
    shape: tuple[int, ...],
    kernel_size: int | tuple[int, ...] = 3,
    *,
    peepholes: bool = False,
    w_c_init: Initializer = jax.nn.initializers.zeros,
    **options: Unpack[WeightOptions],
) -> Cell[ConvLSTMParams, LSTMState]:
    """Long short-term memory over pictures, lines or volumes: each unit sees its neighbourhood.

        i, f, o = σ(x ∗ W + h ∗ U + b)      g = tanh(x ∗ W + h ∗ U + b)
        c' = f ⊙ c + i ⊙ g                  h' = o ⊙ tanh(c')                y = h'

    ∗ is a convolution over the places of ``shape``, zeros around them, which keeps their number (``"SAME"``). With
    ``peepholes`` i and f also see c ⊙ P, o sees c' ⊙ P, P a number for each place and unit. Gate order i, f, g, o,
    peephole order i, f, o; the forget gate's bias starts at 1.

    Args:
      input_size: d, channels of an input.
      hidden_size: h, channels of a state.
      shape: places along each axis: ``(height, width)`` of pictures; one axis or three are as good.
      kernel_size: how many places a convolution sees along each axis.
      peepholes: whether the gates see c, as they do in the paper.
      w_c_init: initialiser of each gate's peepholes ``[*shape, h]``.
      **options: sizes, initialisers and dtypes, see `WeightOptions`; initialisers of W and U draw
        ``[*kernel, d, h]`` and ``[*kernel, h, h]`` for each gate.

    Returns:
      A cell with inputs ``[*B, *shape, d]``, state `LSTMState` of ``[*B, *shape, h]`` and output h.

    Raises:
      ValueError: a size below 1, a kernel of other axes than the shape, or inputs of another shape.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> cell = sj.cells.conv_lstm(1, 4, shape=(8, 8))
      >>> params = cell.init(jax.random.key(0))
      >>> video = jnp.ones((5, 2, 8, 8, 1))
      >>> state, ys = sj.unroll(cell, params, cell.initial_state(params, (2,)), video)
      >>> ys.shape
      (5, 2, 8, 8, 4)

    References:
      Shi et al. (2015), Convolutional LSTM network: a machine learning approach for precipitation nowcasting.
      https://arxiv.org/abs/1506.04214
    """
    checks.sizes("conv_lstm", input_size=input_size, hidden_size=hidden_size)
    shape, kernel = _axes(shape, kernel_size)
    compute_dtype, b_init = options["compute_dtype"], options["b_init"]
    kind = jnp.dtype(options["dtype"] or jnp.zeros(()).dtype)

    def blocks(init: Initializer, key: Key, block: tuple[int, ...], count: int) -> Array:
        drawn = [init(k, block, accumulator(kind)) for k in jax.random.split(key, count)]
        return jnp.concatenate(drawn, axis=-1).astype(kind)

    def init(key: Key) -> ConvLSTMParams:
        x_key, h_key, c_key, b_key = jax.random.split(key, 4)
        return ConvLSTMParams(
            blocks(options["w_x_init"], x_key, (*kernel, input_size, hidden_size), len(GATES)),
            blocks(options["w_h_init"], h_key, (*kernel, hidden_size, hidden_size), len(GATES)),
            blocks(w_c_init, c_key, (*shape, hidden_size), 3) if peepholes else None,
            None if b_init is None else b_init(b_key, GATES, hidden_size, kind),
        )

    def initial_state(
        params: ConvLSTMParams, batch_shape: tuple[int, ...] = (), *, key: Key | None = None
    ) -> LSTMState:
        size = (*batch_shape, *shape, hidden_size)
        return LSTMState(*(jnp.zeros(size, accumulator(params.w_h.dtype)) for _ in range(2)))

    def step(params: ConvLSTMParams, state: LSTMState, x: Array) -> tuple[LSTMState, Array]:
        h, c = state
        _check_inputs(x, h.shape[: h.ndim - 1 - len(shape)], shape, input_size)
        a = _convolved(x, params.w_x, compute_dtype) + _convolved(recurrent_input(h), params.w_h, compute_dtype)
        i, f, g, o = jnp.split(add_bias(a, params.b), len(GATES), axis=-1)
        if params.w_c is not None:
            p_i, p_f, p_o = jnp.split(along(params.w_c, a), 3, axis=-1)
            i, f = i + c * p_i, f + c * p_f
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        if params.w_c is not None:
            o = o + c * p_o
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return LSTMState(h, c), h

    return Cell(init, initial_state, step)


def _convolved(x: Array, w: Array, compute_dtype: jnp.dtype | None) -> Array:
    """``x [*B, *shape, d]`` with ``w [*kernel, d, m]``: one product with what each place sees, ``[*B, *shape, k d]``.

    Its gradient is a product too, which a CPU runs an order of magnitude faster than the gradient of XLA's convolution.
    """
    x = jnp.asarray(x)
    *kernel, d, m = w.shape
    axes = x.ndim - 1 - len(kernel)
    batch, shape = x.shape[:axes], x.shape[axes:-1]
    around = [(0, 0)] * axes + [((size - 1) // 2, size // 2) for size in kernel] + [(0, 0)]
    padded = jnp.pad(x, around)
    seen = [
        padded[(..., *(slice(t, t + size) for t, size in zip(tap, shape)), slice(None))]
        for tap in itertools.product(*map(range, kernel))
    ]
    # Stacked, not joined: the product of a joint is split into products of its parts by an engine.
    return dot(jnp.stack(seen, -2).reshape(*batch, *shape, len(seen) * d), w.reshape(len(seen) * d, m), compute_dtype)


def _axes(shape: Any, kernel_size: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The sizes along each axis of the places, and of the kernel."""
    shape = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    kernel = tuple(kernel_size) if isinstance(kernel_size, tuple | list) else (kernel_size,) * len(shape)
    checks.sizes("conv_lstm", **{f"shape[{axis}]": size for axis, size in enumerate(shape)})
    checks.sizes("conv_lstm", **{f"kernel_size[{axis}]": size for axis, size in enumerate(kernel)})
    if not shape or len(kernel) != len(shape):
        raise ValueError(
            f"conv_lstm: expected a shape of at least one axis and a kernel_size for each, got shape={shape} and "
            f"kernel_size={kernel}. Give one number for all axes, or one each."
        )
    return shape, kernel


def _check_inputs(x: Array, batch: tuple[int, ...], places: tuple[int, ...], size: int) -> None:
    """One tick's input is ``[*B, *places, size]`` and agrees with the batch axes of the state."""
    got = np.shape(x)
    checks.inputs("conv_lstm", x, got[:-1], size)
    axes = len(got) - 1 - len(places)
    if axes < 0 or got[axes:-1] != places:
        raise ValueError(
            f"conv_lstm: expected inputs of {places} places, got {got[max(axes, 0) : -1]} (one tick has shape {got}). "
            "Set shape, or add the missing axes."
        )
    if got[:axes] != batch:
        raise ValueError(
            f"conv_lstm: expected inputs of batch shape {batch} like the state, got {got[:axes]} (one tick has shape "
            f"{got}). Make the state with initial_state(params, {got[:axes]})."
        )
