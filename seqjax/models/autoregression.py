"""A network that corrects a line: what least squares can say of the next values is not left to be learned."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from seqjax import checks
from seqjax.base import Array, Layer, PyTree
from seqjax.fixing import stays
from seqjax.layers import inner
from seqjax.layers.conv import ConvParams, ConvState, causal_conv
from seqjax.products import along
from seqjax.records import maker


class CorrectedParams(NamedTuple):
    """The line ``w [p, d, d]``, ``b [d]`` and the ``scale [d]`` of its errors, which stay; and the network's."""

    line: ConvParams
    scale: Array
    network: PyTree


class CorrectedState(NamedTuple):
    """The last values, and the network's state."""

    line: ConvState
    network: PyTree


@maker
def corrected(size: int, order: int, network: Layer) -> Layer[CorrectedParams, CorrectedState]:
    """The next values of a series by a linear autoregression, corrected by a network in units of its errors.

        x̂_{t+1} = Σ_{j=0..p-1} x_{t-j} A_j + b + s ⊙ network(x)_t      x = 0 before the first tick

    A, b and s are `fitted` and stay; before that the line says that nothing changes, and s is 1. A smooth series is
    linear but for a thousandth, which a network that has to say all of it does not find: its own error is larger.

    Args:
      size: d, values a tick.
      order: p, ticks that the line sees.
      network: ``[T, *B, d]`` to ``[T, *B, d]``.

    Returns:
      A layer ``[T, *B, d]`` to ``[T, *B, d]``. Its first p - 1 outputs see zeros: leave them out of the loss.

    Raises:
      ValueError: a size below 1, or an order below 2.

    Example:
      >>> import jax, jax.numpy as jnp, numpy as np, seqjax as sj
      >>> network = sj.serial(sj.recurrent(sj.gru(1, 4)), sj.dense(4, 1))
      >>> model = sj.models.corrected(1, 2, network)
      >>> xs = np.sin(np.arange(50.0))[:, None]  # x_{t+1} = 2 cos(1) x_t - x_{t-1}
      >>> params = sj.models.fitted(model.init(jax.random.key(0)), xs)
      >>> [round(float(w), 2) for w in params.line.w.ravel()], bool(params.scale[0] < 1e-6)
      ([1.08, -1.0], True)
    """
    checks.sizes("corrected", size=size)
    line = causal_conv(size, size, width=order)

    def init(key: Array) -> CorrectedParams:
        taps = line.init(key)
        same = taps._replace(w=jnp.zeros_like(taps.w).at[0].set(jnp.eye(size, dtype=taps.w.dtype)))
        return CorrectedParams(stays(same), stays(jnp.ones(size, taps.w.dtype)), network.init(key))

    def initial_state(
        params: CorrectedParams, batch_shape: tuple[int, ...] = (), *, key: Array | None = None
    ) -> CorrectedState:
        before = line.initial_state(params.line, batch_shape)
        return CorrectedState(before, network.initial_state(params.network, batch_shape, key=key))

    def apply(
        params: CorrectedParams,
        state: CorrectedState,
        xs: Array,
        *,
        mask: Array | None = None,
        lengths: Array | None = None,
        reset: Array | None = None,
        key: Array | None = None,
    ) -> tuple[CorrectedState, Array]:
        given = {"mask": mask, "lengths": lengths, "reset": reset}
        taps, ahead = line.apply(params.line, state.line, xs, **given)
        net, ys = inner.run(network, params.network, state.network, xs, **given, key=key)
        return CorrectedState(taps, net), ahead + along(params.scale, ys) * ys

    return Layer(init, initial_state, apply)


def fitted(params: CorrectedParams, series: np.ndarray, *, noise: float = 0.0) -> CorrectedParams:
    """The parameters of `corrected` with A and b by least squares, and s the standard deviation of what is left.

        min Σ_t ‖x_{t+1} - Σ_j x_{t-j} A_j - b‖² + n σ² Σ_j ‖A_j‖²

    which is the fit expected with noise of standard deviation σ on what is read. Without any the weights of a smooth
    series are large and of both signs: they magnify the errors of forecasts that are read again.

    Args:
      params: of `corrected`.
      series: ``[T, d]``.
      noise: σ, in the units of the series.

    Returns:
      The same with another line and scale.

    Raises:
      ValueError: a series of another size, or of no more ticks than the order.

    Example:
      >>> import jax, numpy as np, seqjax as sj
      >>> params = corrected(1, 2, sj.dense(1, 1)).init(jax.random.key(0))
      >>> doubling = 2.0 ** np.arange(6)[:, None]
      >>> line = fitted(params, doubling).line
      >>> round(float(doubling[-1, 0] * line.w[0, 0, 0] + doubling[-2, 0] * line.w[1, 0, 0] + line.b[0]), 3)
      64.0
    """
    order, size, _ = params.line.w.shape
    if np.ndim(series) != 2 or series.shape[1] != size or len(series) <= order:
        raise ValueError(
            f"fitted: expected a series [T, {size}] of more than {order} ticks, got shape {np.shape(series)}. "
            "Give the series that it is to learn from."
        )
    values = np.asarray(series, np.float64)
    rows = np.lib.stride_tricks.sliding_window_view(values[:-1], order, axis=0).reshape(len(values) - order, -1)
    targets, mean = values[order:], rows.mean(0)
    shrink = noise * np.sqrt(len(rows)) * np.eye(rows.shape[1])
    left = np.concatenate([rows - mean, shrink])
    right = np.concatenate([targets - targets.mean(0), np.zeros((len(shrink), size))])
    weights = np.linalg.lstsq(left, right, rcond=None)[0]
    b = targets.mean(0) - mean @ weights
    scale = (targets - rows @ weights - b).std(0)
    # rows are [d, p], the oldest tick first; taps are [p, d, d], the newest first
    taps = weights.reshape(size, order, size).transpose(1, 0, 2)[::-1]
    dtype = params.line.w.dtype
    line = params.line._replace(w=jnp.asarray(taps, dtype), b=jnp.asarray(b, dtype))
    return params._replace(line=line, scale=jnp.asarray(np.maximum(scale, np.finfo(dtype).eps), dtype))
