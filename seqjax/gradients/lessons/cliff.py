"""The cliff: why a gradient step beside a wall of the loss throws the parameters away, and clipping does not."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax import checks
from seqjax.base import Array
from seqjax.cells.elman import ElmanParams, elman
from seqjax.training import clip_by_global_norm
from seqjax.unroll import unroll

UNIT = elman(1, 1, activation=jax.nn.sigmoid)


class Point(NamedTuple):
    """A place in the plane of the recurrent weight and the bias."""

    w: Array
    b: Array


def cliff_loss(point: Point, *, start: float = 0.5, target: float = 0.7, length: int = 50) -> Array:
    """The loss of a single sigmoid unit after T ticks without input.

        h_t = σ(w h_{t-1} + b)      L = (h_T - target)²

    Args:
      point: w and b, of any shape.
      start: h_0.
      target: wanted of h_T.
      length: T.

    Returns:
      The loss of the shape of w.

    References:
      Pascanu, Mikolov and Bengio (2013), On the difficulty of training recurrent neural networks, section 2.3.
      https://arxiv.org/abs/1211.5063
    """
    checks.sizes("cliff_loss", length=length)

    def of(w: Array, b: Array) -> Array:
        params = ElmanParams(jnp.zeros((1, 1), w.dtype), w.reshape(1, 1), b.reshape(1))
        h = jnp.full(1, start, w.dtype)
        last, _ = unroll(UNIT, params, h, jnp.zeros((length, 1), w.dtype))
        return (last[0] - target) ** 2

    w, b = map(jnp.asarray, point)
    checks.shapes("cliff_loss", "b", b.shape, "w", w.shape)
    return jax.vmap(of)(w.reshape(-1), b.reshape(-1)).reshape(w.shape)


def cliff_descent(
    point: Point,
    rate: float,
    steps: int,
    clip: float | None = None,
    *,
    start: float = 0.5,
    target: float = 0.7,
    length: int = 50,
) -> tuple[Point, Array]:
    """Gradient descent on `cliff_loss`, with or without clipping.

        g ← η g / ‖g‖ if ‖g‖ > η      (w, b) ← (w, b) - rate · g

    Args:
      point: where to begin, two scalars.
      rate: the learning rate.
      steps: how many.
      clip: η; None for none.
      start: h_0.
      target: wanted of h_T.
      length: T.

    Returns:
      The path ``[steps + 1]``, its beginning included, and its losses ``[steps + 1]``.
    """
    checks.sizes("cliff_descent", steps=steps)
    clipping = None if clip is None else clip_by_global_norm(clip)

    def step(point: Point, _: None) -> tuple[Point, tuple[Point, Array]]:
        loss, gradient = jax.value_and_grad(lambda p: cliff_loss(p, start=start, target=target, length=length))(point)
        if clipping is not None:
            gradient, _ = clipping.update(gradient, clipping.init(point))
        return Point(*(p - rate * g for p, g in zip(point, gradient))), (point, loss)

    point = Point(*(jnp.asarray(p, jnp.result_type(float)) for p in point))
    _, (path, losses) = jax.lax.scan(step, point, None, length=steps + 1)
    return path, losses
