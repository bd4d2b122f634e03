"""Smoothing with a fixed lag: each hidden state once a few more observations have been seen."""

import functools
from numbers import Integral
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax import checks, masks
from seqjax.base import Array, Cell, PyTree
from seqjax.hmm import varying
from seqjax.hmm.cells import belief_propagation, sizes_of
from seqjax.hmm.inference import Posterior, filtered, incoming
from seqjax.hmm.messages import before, divided, preceded, sum_product
from seqjax.hmm.observations import Engine, Model, inferred, prepare
from seqjax.records import maker


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
    log_filtered, log_likelihood = filtered(chain, incoming(chain, engine), engine)
    back = jnp.swapaxes(varying.entering(log_a, evidence.ndim - 2) if log_a.ndim > 2 else log_a, -1, -2)
    flipped = None if mask is None else mask[::-1]
    followed = preceded(evidence.shape[:-1], flipped)[::-1, ..., None]

    def further(ahead: Array, _: None) -> tuple[Array, None]:
        left = sum_product((evidence + ahead)[..., None, :], back)[..., 0, :]
        return jnp.where(followed, before(left[::-1], flipped)[::-1], 0), None

    ahead, _ = jax.lax.scan(further, jnp.zeros_like(evidence), length=min(lag, len(evidence) - 1))
    marginals = divided(log_filtered + ahead)
    return Posterior(marginals if mask is None else masks.zero(mask, marginals), log_likelihood)


class LagState(NamedTuple):
    """What a smoother that lags behind carries, L ticks of it, oldest first.

    Attributes:
      predicted: ``[*B, N]``, ln p(z_t | x_1 … x_{t-1}).
      filtered: ``[*B, L, N]``, of the last L ticks.
      evidence: ``[*B, L, N]``, of the last L ticks.
      ticks: ``[*B]``, how many there were.
    """

    predicted: Array
    filtered: Array
    evidence: Array
    ticks: Array


def lag_cell(model: Model, lag: int) -> Cell[Model, LagState]:
    """Smoothing with a fixed lag as a cell, for streams: at tick t it says what is known by then of tick t - L.

        y_t = ln p(z_{t-L} | x_1 … x_t)        0 at the first L ticks

    Unrolled it equals `fixed_lag`, L ticks later; what it says nothing of any more are the last L ticks of a sequence.

    Args:
      model: its kind and sizes are read, not its values, as in `seqjax.hmm.cell`.
      lag: L, a whole number of at least 1; `seqjax.hmm.cell` is the one without a lag.

    Returns:
      A cell with state `LagState` and output ``[*B, N]``.

    Raises:
      ValueError: a lag below 1, or transitions that change from step to step.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> from seqjax import hmm
      >>> model = hmm.random(jax.random.key(0), 3, 5)
      >>> late = hmm.lag_cell(model, 2)
      >>> xs = jnp.array([0, 4, 2, 1])
      >>> _, ys = sj.unroll(late, model, late.initial_state(model), xs)
      >>> bool(jnp.allclose(ys[2:], hmm.fixed_lag(model, xs, 2).log_marginals[:2], atol=1e-5))
      True
    """
    checks.sizes("lag_cell", lag=lag)
    return late_belief_propagation(sizes_of(model), lag)


@maker
def late_belief_propagation(sizes: Model, lag: int) -> Cell[Model, LagState]:
    """`lag_cell` for every model of these sizes."""
    alone = belief_propagation(sizes)

    def initial_state(model: Model, batch_shape: tuple[int, ...] = (), *, key: Array | None = None) -> LagState:
        first = alone.initial_state(model, batch_shape)
        filtered, evidence = (jnp.zeros((*batch_shape, lag, first.shape[-1]), first.dtype) for _ in range(2))
        return LagState(first, filtered, evidence, jnp.zeros(batch_shape, jnp.int32))

    def step(model: Model, state: LagState, x: PyTree) -> tuple[LagState, Array]:
        predicted, y = alone.step(model, state.predicted, x)
        seen = model.evidence(x).astype(state.evidence.dtype)
        evidence = jnp.concatenate([state.evidence[..., 1:, :], seen[..., None, :]], axis=-2)

        def back(ahead: Array, e: Array) -> tuple[Array, None]:
            return sum_product((e + ahead)[..., None, :], model.log_transition.T)[..., 0, :], None

        ahead, _ = jax.lax.scan(back, jnp.zeros_like(seen), jnp.moveaxis(evidence, -2, 0), reverse=True)
        late = divided(state.filtered[..., 0, :] + ahead)
        late = masks.zero(state.ticks >= lag, late)
        filtered = jnp.concatenate([state.filtered[..., 1:, :], y[..., None, :]], axis=-2)
        return LagState(predicted, filtered, evidence, state.ticks + 1), late

    return Cell(alone.init, initial_state, step)
