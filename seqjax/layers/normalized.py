"""Normalised between layers: features (`layer_norm`, `rms_norm`) and weights (`weight_norm`)."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from seqjax import checks
from seqjax.base import Array, Layer, PyTree
from seqjax.layers import inner
from seqjax.layers.ticks import mapped
from seqjax.normalization import norm, rescale, standardize, unit
from seqjax.products import add_bias, along
from seqjax.records import maker


class LayerNormParams(NamedTuple):
    """``gain [d]``, ``b [d]``."""

    gain: Array
    b: Array


@maker
def layer_norm(
    size: int, *, groups: int = 1, epsilon: float = 1e-5, dtype: jnp.dtype | None = None
) -> Layer[LayerNormParams, tuple]:
    """Normalises the features of every tick, then scales and shifts each.

        y = (x - mean) / √(variance + ε) ⊙ gain + b      over the d features of one tick and example

    With groups, mean and variance are those of the d / groups features of each: the outputs of a cell with heads
    normalised head by head.

    Args:
      size: d.
      groups: how many, a divisor of d.
      epsilon: ε.
      dtype: of the parameters; JAX's default float if None.

    Returns:
      A layer with empty state.

    Raises:
      ValueError: a size below 1, groups that do not divide it, or inputs of another size.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> layer = sj.layer_norm(2)
      >>> layer.apply(layer.init(jax.random.key(0)), (), jnp.array([[10.0, 30.0]]))[1].round(3).tolist()
      [[-1.0, 1.0]]

    References:
      Ba, Kiros and Hinton (2016), Layer normalization. https://arxiv.org/abs/1607.06450
    """
    _check_groups("layer_norm", size, groups)

    def init(key: Array) -> LayerNormParams:
        kind = jnp.dtype(dtype or jnp.zeros(()).dtype)
        return LayerNormParams(jnp.ones(size, kind), jnp.zeros(size, kind))

    def function(params: LayerNormParams, xs: Array, key: Array | None) -> Array:
        checks.features("layer_norm", xs, size)
        return add_bias(_grouped(standardize, xs, groups, epsilon) * along(params.gain, xs), params.b)

    return mapped("layer_norm", function, init)


class RMSNormParams(NamedTuple):
    """``gain [d]``."""

    gain: Array


@maker
def rms_norm(
    size: int, *, groups: int = 1, epsilon: float = 1e-6, dtype: jnp.dtype | None = None
) -> Layer[RMSNormParams, tuple]:
    """Divides the features of every tick by their root mean square, then scales each.

        y = x / √(mean x² + ε) ⊙ gain      over the d features of one tick and example

    Unlike `layer_norm` it leaves the mean where it is. With groups, each has a root of its own.

    Args:
      size: d.
      groups: how many, a divisor of d.
      epsilon: ε.
      dtype: of the parameters; JAX's default float if None.

    Returns:
      A layer with empty state.

    Raises:
      ValueError: a size below 1, groups that do not divide it, or inputs of another size.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> layer = sj.layers.rms_norm(2)
      >>> y = layer.apply(layer.init(jax.random.key(0)), (), jnp.array([[7.0, 1.0]]))[1]
      >>> print((10 * y).round())
      [[14.  2.]]

    References:
      Zhang and Sennrich (2019), Root mean square layer normalization. https://arxiv.org/abs/1910.07467
    """
    _check_groups("rms_norm", size, groups)

    def init(key: Array) -> RMSNormParams:
        return RMSNormParams(jnp.ones(size, jnp.dtype(dtype or jnp.zeros(()).dtype)))

    def function(params: RMSNormParams, xs: Array, key: Array | None) -> Array:
        checks.features("rms_norm", xs, size)
        return _grouped(rescale, xs, groups, epsilon) * along(params.gain, xs)

    return mapped("rms_norm", function, init)


def _check_groups(who: str, size: int, groups: int) -> None:
    checks.sizes(who, size=size, groups=groups)
    if size % groups:
        raise ValueError(f"{who}: expected groups to divide size={size}, got {groups}. Change one of them.")


def _grouped(normalised: Callable[[Array, float], Array], xs: Array, groups: int, epsilon: float) -> Array:
    """Each group of features by itself."""
    if groups == 1:
        return normalised(xs, epsilon)
    return normalised(xs.reshape(*xs.shape[:-1], groups, xs.shape[-1] // groups), epsilon).reshape(xs.shape)


class WeightNormParams(NamedTuple):
    """The parameters of the layer, whose ``w`` gives directions only, and ``gain [k]``, the lengths."""

    layer: PyTree
    gain: Array


@maker
def weight_norm(layer: Layer) -> Layer[WeightNormParams, PyTree]:
    """A layer whose weights are learned as length times direction.

        w_j = gain_j · v_j / ‖v_j‖        v_j: all weights that lead to output j

    At the start gain_j = ‖v_j‖, so that the outputs are those of the layer alone. A direction of zero gives weights
    of zero.

    Args:
      layer: any whose parameters are a NamedTuple with weights ``w [..., k]``, outputs last: `seqjax.dense`,
        `seqjax.causal_conv`.

    Returns:
      A layer with the same state and outputs.

    Raises:
      TypeError: something else than a layer, or one without such parameters.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> layer = sj.weight_norm(sj.dense(3, 2))
      >>> params = layer.init(jax.random.key(0))._replace(gain=jnp.array([5.0, 1.0]))
      >>> _, ys = layer.apply(params, (), jnp.eye(3))
      >>> jnp.linalg.norm(ys, axis=0).round(3).tolist()
      [5.0, 1.0]

    References:
      Salimans and Kingma (2016), Weight normalization: a simple reparameterization to accelerate training of deep
      neural networks. https://arxiv.org/abs/1602.07868
    """
    checks.instance("weight_norm", layer, Layer, "Wrap a cell in recurrent(cell).")

    def init(key: Array) -> WeightNormParams:
        params = layer.init(key)
        if not hasattr(params, "w"):
            raise TypeError(
                f"weight_norm: expected a layer with weights w, got parameters of type {type(params).__name__}. "
                "Normalise dense or causal_conv layers one by one."
            )
        lengths = norm(params.w, _inputs(params.w))
        return WeightNormParams(params, jnp.where(lengths > 0, lengths, 1).astype(params.w.dtype))

    def initial_state(
        params: WeightNormParams, batch_shape: tuple[int, ...] = (), *, key: Array | None = None
    ) -> PyTree:
        return layer.initial_state(params.layer, batch_shape, key=key)

    def apply(
        params: WeightNormParams,
        state: PyTree,
        xs: Array,
        *,
        mask: Array | None = None,
        lengths: Array | None = None,
        reset: Array | None = None,
        key: Array | None = None,
    ) -> tuple[PyTree, Array]:
        v = params.layer.w
        directions = unit(v, _inputs(v))
        plain = params.layer._replace(w=(directions * along(params.gain, directions)).astype(v.dtype))
        return inner.run(layer, plain, state, xs, mask=mask, lengths=lengths, reset=reset, key=key)

    return Layer(init, initial_state, apply)


def _inputs(w: Array) -> tuple[int, ...]:
    """All axes but the last, that of the outputs."""
    return tuple(range(w.ndim - 1))
