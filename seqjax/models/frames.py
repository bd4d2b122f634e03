"""Models of frames and values: what comes next in a piano roll, a pose, a series."""

import jax

from seqjax import checks
from seqjax.base import Array, Layer
from seqjax.cells.lstm import lstm
from seqjax.layers.affine import dense
from seqjax.layers.compose import residual, serial
from seqjax.models.body import MakeCell, deep
from seqjax.products import accumulator
from seqjax.records import maker


@maker
def next_frame_model(
    size: int, hidden_size: int, *, cell: MakeCell = lstm, layers: int = 1, dropout: float = 0.0
) -> Layer:
    """The next frame of yes-or-no features, such as the keys of a piano, each given all frames so far.

        p(x_{t+1, j} = 1 | x_1 … x_t) = σ(h_t W + b)_j

    Train it with `seqjax.multi_label_cross_entropy`; let it play with `seqjax.free_run` and `draw_keys`.

    Args:
      size: features a frame.
      hidden_size: units a layer.
      cell: ``(input_size, hidden_size) -> Cell``.
      layers: recurrent layers.
      dropout: rate between layers.

    Returns:
      A layer ``[T, *B, size]`` to logits ``[T, *B, size]``.

    Raises:
      ValueError: a size below 1 or a rate outside [0, 1).

    References:
      Boulanger-Lewandowski, Bengio and Vincent (2012), Modeling temporal dependencies in high-dimensional
      sequences. https://arxiv.org/abs/1206.6392
    """
    checks.sizes("next_frame_model", size=size)
    return serial(deep(size, hidden_size, cell=cell, layers=layers, rate=dropout), dense(hidden_size, size))


def draw_keys(key: Array, logits: Array) -> Array:
    """A frame of zeros and ones drawn from logits, each feature by itself, for `seqjax.free_run`."""
    logits = logits.astype(accumulator(logits.dtype))  # a probability in bfloat16 is a multiple of 1/128
    return jax.random.bernoulli(key, jax.nn.sigmoid(logits))


@maker
def forecaster(size: int, hidden_size: int, *, cell: MakeCell = lstm, layers: int = 1, dropout: float = 0.0) -> Layer:
    """The next values of a series, as a change of the present ones.

        x̂_{t+1} = x_t + h_t W + b

    Train it with `seqjax.mean_squared_error`; `seqjax.free_run` forecasts as far as wanted.

    Args:
      size: values a tick.
      hidden_size: units a layer.
      cell: ``(input_size, hidden_size) -> Cell``.
      layers: recurrent layers.
      dropout: rate between layers.

    Returns:
      A layer ``[T, *B, size]`` to ``[T, *B, size]``.

    Raises:
      ValueError: a size below 1 or a rate outside [0, 1).

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> model = sj.models.forecaster(1, 8)
      >>> params = model.init(jax.random.key(0))
      >>> state, ys = model.apply(params, model.initial_state(params), jnp.ones((20, 1)))
      >>> state, future = sj.free_run(model, params, state, ys[-1], length=10)
      >>> future.shape
      (10, 1)
    """
    checks.sizes("forecaster", size=size)
    return residual(serial(deep(size, hidden_size, cell=cell, layers=layers, rate=dropout), dense(hidden_size, size)))
