"""Products along a chain: exponential forgetting, exploding, and what randomness does to both."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax import checks
from seqjax.base import Array
from seqjax.cells.elman import ElmanParams, elman
from seqjax.unroll import unroll


def scalar_chain(w: Array | float, length: int) -> Array:
    """dh_t/dh_0 of h_t = w h_{t-1}, for t = 0 … T, by differentiating the run: w^t.

    Args:
      w: any number or array of them.
      length: T.

    Returns:
      ``[T + 1, *w]``.

    Example:
      >>> scalar_chain(0.5, 3).tolist()
      [1.0, 0.5, 0.25, 0.125]

    References:
      Hochreiter (1991), Untersuchungen zu dynamischen neuronalen Netzen.
    """
    checks.sizes("scalar_chain", length=length)
    cell = elman(1, 1, activation=lambda a: a, b_init=None)
    w = jnp.asarray(w, jnp.result_type(float))

    def slopes(w: Array) -> Array:
        params = ElmanParams(jnp.zeros((1, 1), w.dtype), w.reshape(1, 1), None)
        xs = jnp.zeros((length, 1), w.dtype)
        run = lambda h: unroll(cell, params, h, xs)[1][:, 0]
        return jnp.append(1, jax.jvp(run, (jnp.zeros(1, w.dtype),), (jnp.ones(1, w.dtype),))[1])

    return jnp.moveaxis(jax.vmap(slopes)(w.reshape(-1)), 0, -1).reshape(length + 1, *w.shape)


class RandomProducts(NamedTuple):
    """Products of T random factors w_t ~ N(0, s²), over many draws.

    Attributes:
      second_moment: mean of (∏ w_t)²; s^{2T} in expectation, carried by ever rarer draws.
      expected_second_moment: s^{2T}.
      mean_log: mean of (1/T) ln |∏ w_t|, in nats a factor: ln s - (γ + ln 2)/2 = ln s - .635 in expectation.
      typical: the median of |∏ w_t|, which vanishes like e^{-.635 T} at s = 1 though the second moment is 1.
    """

    second_moment: Array
    expected_second_moment: Array
    mean_log: Array
    typical: Array


def random_products(key: Array, scale: float, length: int, draws: int) -> RandomProducts:
    """What becomes of a gradient multiplied by a random factor at every tick.

    Args:
      key: of the draws.
      scale: s.
      length: T.
      draws: how many products.

    Returns:
      A `RandomProducts`.

    Raises:
      ValueError: a scale that is not above 0.

    References:
      Glorot and Bengio (2010), Understanding the difficulty of training deep feedforward neural networks.
      https://proceedings.mlr.press/v9/glorot10a.html
    """
    checks.sizes("random_products", length=length, draws=draws)
    if not scale > 0:
        raise ValueError(f"random_products: expected a scale above 0, got {scale!r}. Raise it.")
    logs = jnp.log(jnp.abs(scale * jax.random.normal(key, (length, draws)))).sum(0)
    return RandomProducts(
        jnp.exp(2 * logs).mean(),
        jnp.asarray(scale ** (2 * length), logs.dtype),
        logs.mean() / length,
        jnp.exp(jnp.median(logs)),
    )
