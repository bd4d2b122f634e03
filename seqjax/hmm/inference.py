"""Belief propagation: what observations say about hidden states."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax import masks
from seqjax.base import Array, PyTree
from seqjax.hmm import messages, varying
from seqjax.hmm.messages import divided
from seqjax.hmm.observations import Engine, Model, Prepared, inferred, prepare
from seqjax.logarithms import finite, logsumexp
from seqjax.products import along


class Forward(NamedTuple):
    """``log_filtered [T, *B, N]``: ln p(z_t | x_1 … x_t); ``log_likelihood [*B]``: ln p(x_1 … x_T)."""

    log_filtered: Array
    log_likelihood: Array


class Backward(NamedTuple):
    """``log_messages [T, *B, N]``, each divided by its sum, and ``log_scale [T, *B]``, the logarithm of that sum.

    ln p(x_{t+1} … x_T | z_t) is ``log_messages + log_scale[..., None]``; apart, both stay exact in float32 however
    long the sequence.
    """

    log_messages: Array
    log_scale: Array


class Posterior(NamedTuple):
    """``log_marginals [T, *B, N]``: ln p(z_t | x_1 … x_T); ``log_likelihood [*B]``."""

    log_marginals: Array
    log_likelihood: Array


class Counts(NamedTuple):
    """How often each thing is expected to have happened, given the observations.

    Attributes:
      initial: ``[N]``, sequences that start in a state.
      transition: ``[N, N]``, steps from i to j; one a step, of their shape, where transitions change.
      states: ``[T, *B, N]``, p(z_t | x_1 … x_T).
      log_likelihood: ``[*B]``.
    """

    initial: Array
    transition: Array
    states: Array
    log_likelihood: Array


def forward(model: Model, xs: PyTree, *, mask: Array | None = None, engine: Engine = "scan") -> Forward:
    """Filtering: what each prefix of the observations says about its last hidden state.

        α_t(j) ∝ Σ_i α_{t-1}(i) P(j | i) · p(x_t | j)        ln p(x) = Σ_t ln (the constants divided out)

    Args:
      model: the model.
      xs: observations, time leading: what ``model.evidence`` reads.
      mask: ``[T, *B]``, True at real ticks. A masked tick does not exist: the chain does not move, the output is zero.
        An observation that is missing at a tick that exists is another thing: `MISSING`, or NaN.
      engine: ``"scan"``, or ``"associative"``, parallel in time: some N times the work, at a depth of
        O(log T) instead of T.

    Returns:
      Filtered log-probabilities and the log-likelihood. Observations that the model makes impossible have
      log-likelihood -inf, filtered log-probabilities -inf from there on, and gradients of zero.

    Raises:
      ValueError: shapes do not agree, an unknown engine, or symbols out of range.
      TypeError: a mask of another type than bool, or symbols that are not integers.

    Example:
      "John hit the ball": of the words (ball, hit, John, the) each tag (determiner, noun, verb) makes some likely.

      >>> from seqjax import hmm
      >>> tagger = hmm.from_probabilities(
      ...     [1 / 3, 1 / 3, 1 / 3],
      ...     [[0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.8, 0.1, 0.1]],
      ...     [[0.01, 0.01, 0.01, 0.97], [0.49, 0.01, 0.49, 0.01], [0.01, 0.97, 0.01, 0.01]],
      ... )
      >>> result = hmm.forward(tagger, [2, 1, 3, 0])
      >>> result.log_filtered.argmax(-1).tolist()
      [1, 2, 0, 1]
      >>> round(float(jax.numpy.exp(result.log_likelihood)), 6)
      0.03898

    References:
      Rabiner (1989), A tutorial on hidden Markov models and selected applications in speech recognition.
      https://doi.org/10.1109/5.18626
      Särkkä and García-Fernández (2021), Temporal parallelization of Bayesian smoothers.
      https://arxiv.org/abs/1905.13002
    """
    return inferred("forward", _forward, model, xs, mask, engine)


def backward(model: Model, xs: PyTree, *, mask: Array | None = None, engine: Engine = "scan") -> Backward:
    """What the rest of the observations says about each hidden state.

        β_t(i) = Σ_j P(j | i) · p(x_{t+1} | j) · β_{t+1}(j)        β_T = 1

    Args:
      model: the model.
      xs: observations, as in `forward`.
      mask: ``[T, *B]``, True at real ticks.
      engine: ``"scan"`` or ``"associative"``.

    Returns:
      The messages and their scale, zero at masked ticks.
    """
    return inferred("backward", _backward, model, xs, mask, engine)


def posterior(model: Model, xs: PyTree, *, mask: Array | None = None, engine: Engine = "scan") -> Posterior:
    """Smoothing: what all observations say about each hidden state, α_t(i) β_t(i) / p(x).

    Args:
      model: the model.
      xs: observations, as in `forward`.
      mask: ``[T, *B]``, True at real ticks.
      engine: ``"scan"`` or ``"associative"``.

    Returns:
      Posterior log-probabilities, zero at masked ticks, and the log-likelihood.
    """
    return inferred("posterior", _posterior, model, xs, mask, engine)


def expected_counts(model: Model, xs: PyTree, *, mask: Array | None = None, engine: Engine = "scan") -> Counts:
    """Expected numbers of starts, transitions and visits, which are the gradient of the log-likelihood.

        ∂ ln p(x) / ∂ ln P(j | i) = Σ_t p(z_t = i, z_{t+1} = j | x)

    Args:
      model: the model.
      xs: observations, as in `forward`.
      mask: ``[T, *B]``, True at real ticks.
      engine: ``"scan"`` or ``"associative"``.

    Returns:
      The counts, summed over sequences; a sequence that is impossible counts nothing.
    """
    return inferred("expected_counts", _expected_counts, model, xs, mask, engine)


def incoming(chain: Prepared, engine: Engine, *, best: bool = False, reverse: bool = False) -> Array:
    """The messages ``[T, *B, N]`` before each tick's evidence, from the future in reverse."""
    log_a, evidence, mask = chain[1:4]
    length, *batch, n = evidence.shape
    start = jnp.zeros_like(chain.log_initial) if reverse else chain.log_initial
    if log_a.ndim > 2:
        a = varying.entering(log_a, len(batch))
        return varying.run(start, a, evidence, mask, best=best, engine=engine, reverse=reverse)
    found = messages.run(
        jnp.broadcast_to(start, (evidence[0].size // n, n)),
        log_a.T if reverse else log_a,
        evidence.reshape(length, -1, n),
        None if mask is None else mask.reshape(length, -1),
        best=best,
        engine=engine,
        reverse=reverse,
    )
    return found.reshape(length, *batch, n)


def filtered(p: Array, evidence: Array, mask: Array | None) -> Forward:
    """`forward` from the messages."""
    f = p + evidence
    log_filtered = divided(f)
    log_likelihood = (logsumexp(f) if mask is None else jnp.where(mask, logsumexp(f), 0)).sum(0)
    impossible = log_likelihood == -jnp.inf
    log_likelihood = jnp.where(impossible, -jnp.inf, log_likelihood)  # no gradient where impossible
    return Forward(log_filtered if mask is None else masks.zero(mask, log_filtered), log_likelihood)


@functools.partial(jax.jit, static_argnames="engine")
def _forward(model: Model, xs: PyTree, mask: Array | None, engine: Engine) -> Forward:
    chain = prepare("forward", model, xs, mask, engine)
    return filtered(incoming(chain, engine), chain.evidence, mask)


@functools.partial(jax.jit, static_argnames="engine")
def _backward(model: Model, xs: PyTree, mask: Array | None, engine: Engine) -> Backward:
    chain = prepare("backward", model, xs, mask, engine)
    p = incoming(chain, engine, reverse=True)
    gains = logsumexp(p + chain.evidence)
    gains = gains if mask is None else jnp.where(mask, gains, 0)
    later = jnp.concatenate([gains[1:], jnp.zeros_like(gains[:1])])
    log_scale = logsumexp(p) + jax.lax.cumsum(later, axis=0, reverse=True)
    result = Backward(divided(p), log_scale)
    return result if mask is None else masks.zero(mask, result)


@functools.partial(jax.jit, static_argnames="engine")
def _posterior(model: Model, xs: PyTree, mask: Array | None, engine: Engine) -> Posterior:
    chain = prepare("posterior", model, xs, mask, engine)
    log_filtered, log_likelihood = filtered(incoming(chain, engine), chain.evidence, mask)
    marginals = divided(log_filtered + incoming(chain, engine, reverse=True))
    return Posterior(marginals if mask is None else masks.zero(mask, marginals), log_likelihood)


@functools.partial(jax.jit, static_argnames="engine")
def _expected_counts(model: Model, xs: PyTree, mask: Array | None, engine: Engine) -> Counts:
    chain = prepare("expected_counts", model, xs, mask, engine)
    evidence = chain.evidence
    p = incoming(chain, engine)
    log_filtered, log_likelihood = filtered(p, evidence, mask)
    ahead = incoming(chain, engine, reverse=True)
    states = jnp.exp(divided(log_filtered + ahead))
    entered = messages.preceded(states.shape[:-1], mask)
    if mask is not None:
        states, entered = masks.zero(mask, states), entered & mask
    real = jnp.ones_like(entered) if mask is None else mask
    initial = masks.zero(real & ~entered, states).reshape(-1, states.shape[-1]).sum(0)
    # p(z_{t-1} = i, z_t = j | x) = exp(f_i + ln A_ij + (e + β)_j) / Σ
    arrived = evidence + ahead - finite(logsumexp(p + evidence + ahead))[..., None]
    arrived = jnp.where(entered[..., None], arrived, -jnp.inf)
    left, right = messages.before(log_filtered, mask), arrived
    if chain.log_transition.ndim > 2:
        a = varying.entering(chain.log_transition, evidence.ndim - 2)
        each = jnp.exp(left[..., :, None] + a + right[..., None, :])[1:]
        shared = tuple(range(1, evidence.ndim - 1)) if chain.log_transition.ndim < each.ndim else ()
        transition = each.sum(shared)
    else:
        left, right = (x.reshape(x.shape[0], states[0].size // states.shape[-1], x.shape[-1]) for x in (left, right))
        transition = _pair_counts(left, right, chain.log_transition, engine)
    return Counts(initial, transition, states, log_likelihood)


def _pair_counts(left: Array, right: Array, log_a: Array, engine: Engine) -> Array:
    """Σ exp(left_i + ln A_ij + right_j) over ticks and rows, ``[N, N]``; left and right ``[T, R, N]``."""
    if engine == "associative":
        left, right = messages.in_blocks(left), messages.in_blocks(right, -jnp.inf)

    def step(counts: Array, tick: tuple[Array, Array]) -> tuple[Array, None]:
        f, g = tick
        each = jnp.exp(f[..., :, None] + along(log_a, f[..., None]) + g[..., None, :])
        return counts + each.sum(tuple(range(each.ndim - 2))), None

    n = log_a.shape[0]
    return jax.lax.scan(step, jnp.zeros((n, n), left.dtype), (left, right))[0]
