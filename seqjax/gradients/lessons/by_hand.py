"""Backpropagation through time by hand, in barred notation: v̄ is dL/dv.

Each function runs its recurrence forwards, then walks back from the last tick to the first. Given are ȳ_t, what the
loss wants of every output, and the gradient of the last state. Activations are barred tick by tick; the parameters,
shared by all ticks and examples, collect sums. The results equal those of `jax.grad` to rounding.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax.base import Array, PyTree
from seqjax.cells.elman import ElmanParams
from seqjax.cells.lstm import LSTMParams
from seqjax.cells.states import LSTMState


class Barred(NamedTuple):
    """dL/d(params), dL/d(the state before the first tick) and dL/dxs ``[T, *B, d]``."""

    params: PyTree
    state: PyTree
    xs: Array


def elman_bptt(params: ElmanParams, h: Array, xs: Array, ys_bar: Array, h_bar: Array) -> Barred:
    """The Elman network with tanh, `seqjax.elman`.

        h_t = tanh(a_t)                     a_t = x_t W + h_{t-1} U + b       y_t = h_t
        h̄_t = ȳ_t + ā_{t+1} Uᵀ              ā_t = h̄_t ⊙ (1 - h_t²)
        W̄ = Σ_t x_tᵀ ā_t                    Ū = Σ_t h_{t-1}ᵀ ā_t              b̄ = Σ_t ā_t
        x̄_t = ā_t Wᵀ                        h̄_0 = ā_1 Uᵀ

    Args:
      params: with bias.
      h: h_0 ``[*B, h]``.
      xs: ``[T, *B, d]``.
      ys_bar: ȳ ``[T, *B, h]``.
      h_bar: the gradient of the last state, beside that of the last output ``[*B, h]``.

    Returns:
      The gradients.

    Raises:
      ValueError: params without bias, or with one in blocks.

    References:
      Werbos (1990), Backpropagation through time: what it does and how to do it.
      https://doi.org/10.1109/5.58337
    """
    w_x, w_h, b = _weights("elman_bptt", params)

    def forward(h: Array, x: Array) -> tuple[Array, tuple[Array, Array]]:
        new = jnp.tanh(x @ w_x + h @ w_h + b)
        return new, (h, new)

    def back(h_bar: Array, tick: tuple[Array, Array]) -> tuple[Array, Array]:
        y_bar, new = tick
        a_bar = (y_bar + h_bar) * (1 - new**2)
        return a_bar @ w_h.T, a_bar

    _, (before, after) = jax.lax.scan(forward, h, xs)
    h_bar, a_bar = jax.lax.scan(back, h_bar, (ys_bar, after), reverse=True)
    return Barred(_sums(xs, before, a_bar, ElmanParams), h_bar, a_bar @ w_x.T)


def linear_bptt(params: ElmanParams, h: Array, xs: Array, ys_bar: Array, h_bar: Array) -> Barred:
    """The recurrent linear layer, all five gradients: `seqjax.elman` with the identity as activation.

        a = h U + x W + b
        h̄ = ā Uᵀ      x̄ = ā Wᵀ      Ū = hᵀ ā      W̄ = xᵀ ā      b̄ = ā

    Over T ticks h_t = a_t, so that ā_t = ȳ_t + ā_{t+1} Uᵀ, and Ū, W̄ and b̄ are sums over t.

    Args:
      params: with bias.
      h: h_0 ``[*B, h]``.
      xs: ``[T, *B, d]``.
      ys_bar: ȳ ``[T, *B, h]``.
      h_bar: the gradient of the last state ``[*B, h]``.

    Returns:
      The gradients.

    Raises:
      ValueError: params without bias, or with one in blocks.
    """
    w_x, w_h, b = _weights("linear_bptt", params)

    def forward(h: Array, x: Array) -> tuple[Array, Array]:
        return h @ w_h + x @ w_x + b, h

    def back(h_bar: Array, y_bar: Array) -> tuple[Array, Array]:
        a_bar = y_bar + h_bar
        return a_bar @ w_h.T, a_bar

    _, before = jax.lax.scan(forward, h, xs)
    h_bar, a_bar = jax.lax.scan(back, h_bar, ys_bar, reverse=True)
    return Barred(_sums(xs, before, a_bar, ElmanParams), h_bar, a_bar @ w_x.T)


def lstm_bptt(params: LSTMParams, state: LSTMState, xs: Array, ys_bar: Array, state_bar: LSTMState) -> Barred:
    """Long short-term memory, `seqjax.lstm`: gates i, f, g, o, all at tick t unless written.

        h̄ = ȳ + ā_{t+1} Uᵀ                  c̄ = c̄_{t+1} ⊙ f_{t+1} + h̄ ⊙ o ⊙ (1 - tanh² c)
        ā = [c̄ ⊙ g ⊙ i(1-i),  c̄ ⊙ c_{t-1} ⊙ f(1-f),  c̄ ⊙ i ⊙ (1-g²),  h̄ ⊙ tanh c ⊙ o(1-o)]
        W̄ = Σ xᵀ ā                          Ū = Σ h_{t-1}ᵀ ā                  b̄ = Σ ā
        x̄ = ā Wᵀ                            h̄_0 = ā_1 Uᵀ                      c̄_0 = c̄_1 ⊙ f_1

    Args:
      params: with bias.
      state: (h_0, c_0), ``[*B, h]`` each.
      xs: ``[T, *B, d]``.
      ys_bar: ȳ ``[T, *B, h]``.
      state_bar: the gradient of the last state, beside that of the last output.

    Returns:
      The gradients.

    Raises:
      ValueError: params without bias, or with one in blocks.

    References:
      Hochreiter and Schmidhuber (1997), Long short-term memory. https://doi.org/10.1162/neco.1997.9.8.1735
      Graves and Schmidhuber (2005), Framewise phoneme classification (the full gradient).
      https://doi.org/10.1016/j.neunet.2005.06.042
    """
    w_x, w_h, b = _weights("lstm_bptt", params)

    def forward(state: LSTMState, x: Array) -> tuple[LSTMState, tuple]:
        h, c = state
        i, f, g, o = jnp.split(x @ w_x + h @ w_h + b, 4, axis=-1)
        i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
        new = f * c + i * g
        return LSTMState(o * jnp.tanh(new), new), (h, c, i, f, g, o, jnp.tanh(new))

    def back(bars: LSTMState, tick: tuple) -> tuple[LSTMState, Array]:
        y_bar, (_, c, i, f, g, o, tanh_c) = tick
        h_bar = y_bar + bars.h
        c_bar = bars.c + h_bar * o * (1 - tanh_c**2)
        gates = [c_bar * g * i * (1 - i), c_bar * c * f * (1 - f), c_bar * i * (1 - g**2), h_bar * tanh_c * o * (1 - o)]
        a_bar = jnp.concatenate(gates, -1)
        return LSTMState(a_bar @ w_h.T, c_bar * f), a_bar

    _, kept = jax.lax.scan(forward, state, xs)
    state_bar, a_bar = jax.lax.scan(back, state_bar, (ys_bar, kept), reverse=True)
    return Barred(_sums(xs, kept[0], a_bar, LSTMParams), state_bar, a_bar @ w_x.T)


def _weights(who: str, params: ElmanParams | LSTMParams) -> tuple[Array, Array, Array]:
    w_x, w_h, b = params
    if b is None or isinstance(b, tuple):
        raise ValueError(
            f"{who}: expected a bias of one array, got {type(b).__name__}. Make the cell with the default b_init."
        )
    return w_x, w_h, b


def _sums(xs: Array, before: Array, a_bar: Array, kind: type) -> PyTree:
    """W̄, Ū and b̄, summed over ticks and examples."""
    rows = lambda v: v.reshape(-1, v.shape[-1])
    return kind(rows(xs).T @ rows(a_bar), rows(before).T @ rows(a_bar), rows(a_bar).sum(0))
