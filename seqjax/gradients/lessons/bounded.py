"""A state that stays bounded while its derivative does not: tanh holds the one, and nothing holds the other."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax import checks
from seqjax.base import Array
from seqjax.cells.elman import ElmanParams, elman
from seqjax.gradients import backward
from seqjax.gradients.vectors import push


class Bounded(NamedTuple):
    """A run of T ticks, forwards, and its derivative.

    Attributes:
      norm: ``[T + 1]``, ‖h_t‖₂, at most √n.
      log_jacobian: ``[T + 1]``, ln ‖dh_t/dh_0‖₂ (largest singular value), in nats.
    """

    norm: Array
    log_jacobian: Array


def bounded_run(key: Array, size: int, length: int, gain: float) -> Bounded:
    """Runs a tanh network without input, and multiplies up its Jacobians on the way.

        h_t = tanh(h_{t-1} U)      U_ij ~ N(0, gain²/n)      ‖h_t‖ ≤ √n      dh_t/dh_0 = ∏ diag(1 - h²) Uᵀ

    The product is kept at size 1 and its logarithm beside it, so that any length can be seen.

    Args:
      key: of U and of h_0, whose entries are uniform in -1 … 1.
      size: n.
      length: T.
      gain: of the weights; above 1 a large network is chaotic.

    Returns:
      A `Bounded`.

    Raises:
      ValueError: a gain that is not above 0.

    Example:
      >>> import jax
      >>> run = bounded_run(jax.random.key(0), 64, 100, 3.0)
      >>> bool(run.norm.max() < 8), bool(run.log_jacobian[-1] > 20)
      (True, True)

    References:
      Sompolinsky, Crisanti and Sommers (1988), Chaos in random neural networks.
      https://doi.org/10.1103/PhysRevLett.61.259
    """
    checks.sizes("bounded_run", size=size, length=length)
    if not gain > 0:
        raise ValueError(f"bounded_run: expected a gain above 0, got {gain!r}. Raise it.")
    weights, start = jax.random.split(key)
    w_h = gain * jax.random.normal(weights, (size, size)) / size**0.5
    h = jax.random.uniform(start, (size,), w_h.dtype, -1, 1)
    cell, params = elman(1, size, b_init=None), ElmanParams(jnp.zeros((1, size), w_h.dtype), w_h, None)

    def tick(carry: tuple, x: Array) -> tuple[tuple, tuple[Array, Array]]:
        h, columns, log = carry
        h, columns = push(lambda h: cell.step(params, h, x)[0], h, columns)
        stretch = backward.norm([columns], 0)
        columns, log = columns / stretch, log + jnp.log(stretch)
        return (h, columns, log), (jnp.linalg.norm(h), log + jnp.log(jnp.linalg.norm(columns, 2)))

    begin = (h, jnp.eye(size, dtype=h.dtype), jnp.zeros((), h.dtype))
    _, (norms, logs) = jax.lax.scan(tick, begin, jnp.zeros((length, 1), h.dtype))
    return Bounded(jnp.append(jnp.linalg.norm(h), norms), jnp.append(0, logs))
