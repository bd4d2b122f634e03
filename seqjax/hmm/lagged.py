"""Smoothing with a fixed lag: each hidden state once a few more observations have been seen."""

import functools
from numbers import Integral

import jax
import jax.numpy as jnp

from seqjax import masks
from seqjax.base import Array, PyTree
from seqjax.hmm import varying
from seqjax.hmm.inference import Posterior, filtered, incoming
from seqjax.hmm.messages import before, divided, preceded, sum_product
from seqjax.hmm.observations import Engine, Model, inferred, prepare


def fixed_lag(model: Model, xs: PyTree, lag: int, *, mask: Array | None = None, engine: Engine = "scan") -> Posterior:
    """Smoothing with a fixed lag: what the observations up to L ticks on say about each hidden state.

        ln p(z_t | x_1 … x_{t+L}) = ln α_t + ln β_t^L - ln Σ
        β_t^k(i) = Σ_j P(j | i) · p(x_{t+1} | j) · β_{t+1}^{k-1}(j)        β_t^0 = 1, β_T^k = 1

    Lag 0 is filtering, a lag of T - 1 or more smoothing. All ticks are computed side by side, the lag one after the
    other: L products a tick.

    Args:
      model: the model.
      xs: observations, as in `seqjax.hmm.forward`.
      lag: L, a whole number of at least 0.
      mask: ``[T, *B]``, True at real ticks; L real ticks are waited for.
      engine: ``"scan"`` or ``"associative"``, of the filter.

    Returns:
      Posterior log-probabilities, zero at masked ticks, and the log-likelihood of all observations.

    Raises:
      ValueError: a lag below 0, or what `seqjax.hmm.forward` refuses.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from seqjax import hmm
      >>> model = hmm.random(jax.random.key(0), 3, 5)
      >>> xs = jnp.array([0, 4, 2, 1])
      >>> late = hmm.fixed_lag(model, xs, 1).log_marginals
      >>> bool(jnp.allclose(late[1], hmm.posterior(model, xs[:3]).log_marginals[1], atol=1e-5))
      True

    References:
      Anderson and Moore (1979), Optimal filtering, chapter 7 (fixed-lag smoothing).
    """
    if not isinstance(lag, Integral) or isinstance(lag, bool) or lag < 0:
        raise ValueError(f"fixed_lag: expected lag to be a whole number of at least 0, got {lag!r}. 0 is filtering.")
    return inferred("fixed_lag", _fixed_lag, model, xs, mask, int(lag), engine)


@functools.partial(jax.jit, static_argnums=(3, 4))
def _fixed_lag(model: Model, xs: PyTree, mask: Array | None, lag: int, engine: Engine) -> Posterior:
    chain = prepare("fixed_lag", model, xs, mask, engine)
    log_a, evidence = chain.log_transition, chain.evidence
    log_filtered, log_likelihood = filtered(incoming(chain, engine), evidence, mask)
    back = jnp.swapaxes(varying.entering(log_a, evidence.ndim - 2) if log_a.ndim > 2 else log_a, -1, -2)
    flipped = None if mask is None else mask[::-1]
    followed = preceded(evidence.shape[:-1], flipped)[::-1, ..., None]

    def further(ahead: Array, _: None) -> tuple[Array, None]:
        left = sum_product((evidence + ahead)[..., None, :], back)[..., 0, :]
        return jnp.where(followed, before(left[::-1], flipped)[::-1], 0), None

    ahead, _ = jax.lax.scan(further, jnp.zeros_like(evidence), length=min(lag, len(evidence) - 1))
    marginals = divided(log_filtered + ahead)
    return Posterior(marginals if mask is None else masks.zero(mask, marginals), log_likelihood)
