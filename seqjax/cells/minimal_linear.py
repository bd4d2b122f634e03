"""minGRU and minLSTM: gates that see the input only, so that the state enters linearly."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Unpack

import jax
import jax.numpy as jnp

from seqjax import checks, initializers
from seqjax.base import Array, Cell, Key
from seqjax.cells.channels import fan_in
from seqjax.cells.factory import InputOptions, checked, weighted
from seqjax.cells.states import zeros
from seqjax.initializers import gate_weights
from seqjax.products import Bias, add_bias, dot
from seqjax.records import maker


class InputGateParams(NamedTuple):
    """``w_x [d, kh]``, ``b [kh]`` or None; k gates side by side."""

    w_x: Array
    b: Bias


@maker
@weighted(w_x_init=fan_in)
def mingru(
    input_size: int,
    hidden_size: int,
    *,
    candidate: Literal["linear", "positive"] = "linear",
    **options: Unpack[InputOptions],
) -> Cell[InputGateParams, Array]:
    """The minimal GRU: an average that moves as far as the input says.

        u = σ(x W + b)      n = g(x W + b)
        h' = (1-u) ⊙ h + u ⊙ n                  y = h'

    g(a) = a, or with ``candidate="positive"`` g(a) = a + 1/2 where a ≥ 0 and σ(a) below: then h stays positive and the
    recurrence can be computed in logarithms. u is the paper's z, n its h̃; gate order u, n.

    The start decides whether it learns. W is that of the paper's linear layers, uniform in ±1/√d; at b = 0 half of the
    memory is gone after a tick, and a step back in time is a factor of 1/2 for the gradient. Over long distances give
    b_init such as `seqjax.initializers.chrono`, which knows u.

    Args:
      candidate: ``"linear"`` or ``"positive"``, what g is.
      **options: sizes, initialisers and dtypes, see `WeightOptions`.

    Returns:
      A cell with state h ``[*B, h]`` and output h.

    Raises:
      ValueError: a size below 1 or an unknown candidate.

    Example:
      >>> import jax, seqjax as sj
      >>> sj.cells.mingru(3, 4).init(jax.random.key(0)).w_x.shape
      (3, 8)

    References:
      Feng et al. (2024), Were RNNs all we needed? https://arxiv.org/abs/2410.01201
    """
    g = _candidate("mingru", candidate)

    def step(params: InputGateParams, h: Array, x: Array) -> tuple[Array, Array]:
        u, n = _gates(params, x, 2, options["compute_dtype"])
        u = jax.nn.sigmoid(u)
        h = (1 - u) * h + u * g(n)
        return h, h

    return _cell("mingru", ("u", "n"), input_size, hidden_size, step, options)


@maker
@weighted(w_x_init=fan_in, b_init=initializers.lstm_bias)
def minlstm(
    input_size: int,
    hidden_size: int,
    *,
    candidate: Literal["linear", "positive"] = "linear",
    **options: Unpack[InputOptions],
) -> Cell[InputGateParams, Array]:
    """The minimal LSTM: what is let in and what is kept are shares of one.

        i, f = σ(x W + b)       n = g(x W + b)
        h' = f / (f+i) ⊙ h + i / (f+i) ⊙ n      y = h'

    g as in `mingru`; n is the paper's h̃; gate order i, f, n. f / (f+i) is computed as σ(ln f - ln i), which holds
    where both gates are shut.

    The start decides whether it learns: W as in `mingru`; the forget gate's bias starts at 1, as the paper raises it,
    so that a little more than half is kept. Over long distances use `seqjax.initializers.chrono`.

    Args:
      candidate: ``"linear"`` or ``"positive"``, what g is.
      **options: sizes, initialisers and dtypes, see `WeightOptions`.

    Returns:
      A cell with state h ``[*B, h]`` and output h.

    Raises:
      ValueError: a size below 1 or an unknown candidate.

    Example:
      >>> import jax, seqjax as sj
      >>> sj.cells.minlstm(3, 2).init(jax.random.key(0)).b.tolist()
      [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]

    References:
      Feng et al. (2024), Were RNNs all we needed? https://arxiv.org/abs/2410.01201
    """
    g = _candidate("minlstm", candidate)

    def step(params: InputGateParams, h: Array, x: Array) -> tuple[Array, Array]:
        i, f, n = _gates(params, x, 3, options["compute_dtype"])
        ratio = jax.nn.log_sigmoid(f) - jax.nn.log_sigmoid(i)
        h = jax.nn.sigmoid(ratio) * h + jax.nn.sigmoid(-ratio) * g(n)
        return h, h

    return _cell("minlstm", ("i", "f", "n"), input_size, hidden_size, step, options)


def _candidate(who: str, candidate: str) -> Callable[[Array], Array]:
    checks.choice(who, "candidate", candidate, ("linear", "positive"))
    if candidate == "linear":
        return lambda a: a
    return lambda a: jnp.where(a >= 0, a + 0.5, jax.nn.sigmoid(a))


def _gates(params: InputGateParams, x: Array, count: int, compute_dtype: jnp.dtype | None) -> list[Array]:
    return jnp.split(add_bias(dot(x, params.w_x, compute_dtype), params.b), count, axis=-1)


def _cell(
    who: str,
    gates: tuple[str, ...],
    input_size: int,
    hidden_size: int,
    step: Callable[[InputGateParams, Array, Array], tuple[Array, Array]],
    options: InputOptions,
) -> Cell[InputGateParams, Array]:
    checks.sizes(who, input_size=input_size, hidden_size=hidden_size)
    draws: dict[str, Any] = {name: value for name, value in options.items() if name in ("w_x_init", "b_init", "dtype")}

    def init(key: Key) -> InputGateParams:
        no_u = jax.nn.initializers.zeros
        w_x, _, b = gate_weights(key, gates, input_size, hidden_size, recurrent_size=1, w_h_init=no_u, **draws)
        return InputGateParams(w_x, b)

    return checked(who, input_size, init, lambda params, batch: zeros(batch, hidden_size, params.w_x), step)
