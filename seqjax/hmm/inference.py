"""Belief propagation: what observations say about hidden states."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax import masks
from seqjax.base import Array, PyTree
from seqjax.hmm import likelihood, messages, varying
from seqjax.hmm.messages import divided
from seqjax.hmm.observations import Engine, Model, Prepared, inferred, prepare
from seqjax.logarithms import logsumexp


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
    start = jnp.zeros_like(chain.log_initial) if reverse else chain.log_initial
    if log_a.ndim > 2:
        a = varying.entering(log_a, evidence.ndim - 2)
        return varying.run(start, a, evidence, mask, best=best, engine=engine, reverse=reverse)
    rows = in_rows(evidence)
    found = messages.run(
        jnp.broadcast_to(start, rows.shape[1:]),
        log_a.T if reverse else log_a,
        rows,
        None if mask is None else mask.reshape(rows.shape[:-1]),
        best=best,
        engine=engine,
        reverse=reverse,
    )
    return found.reshape(evidence.shape)


def in_rows(x: Array) -> Array:
    """``[T, *B, N]`` as ``[T, R, N]``."""
    return x.reshape(x.shape[0], x[0].size // x.shape[-1], x.shape[-1])


def filtered(chain: Prepared, p: Array, engine: Engine) -> Forward:
    """`forward` from the messages."""
    log_filtered = divided(p + chain.evidence)
    log_filtered = log_filtered if chain.mask is None else masks.zero(chain.mask, log_filtered)
    return Forward(log_filtered, log_likelihood(chain, p, engine))


def log_likelihood(chain: Prepared, p: Array, engine: Engine) -> Array:
    """ln p(x) ``[*B]`` from the messages; without a gradient where it is impossible."""
    log_a, evidence, mask = chain[1:4]
    if log_a.ndim > 2:
        total = likelihood.over_ticks(p, evidence, mask)
        return jnp.where(total == -jnp.inf, -jnp.inf, total)
    p, evidence = in_rows(p), in_rows(evidence)
    start = jnp.broadcast_to(chain.log_initial, p.shape[1:])
    mask = None if mask is None else mask.reshape(p.shape[:-1])
    return likelihood.log_likelihood(engine, start, log_a, evidence, mask, p).reshape(chain.evidence.shape[1:-1])


@functools.partial(jax.jit, static_argnames="engine")
def _forward(model: Model, xs: PyTree, mask: Array | None, engine: Engine) -> Forward:
    chain = prepare("forward", model, xs, mask, engine)
    return filtered(chain, incoming(chain, engine), engine)


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
    log_filtered, total = filtered(chain, incoming(chain, engine), engine)
    marginals = divided(log_filtered + incoming(chain, engine, reverse=True))
    return Posterior(marginals if mask is None else masks.zero(mask, marginals), total)


@functools.partial(jax.jit, static_argnames="engine")
def _expected_counts(model: Model, xs: PyTree, mask: Array | None, engine: Engine) -> Counts:
    chain = prepare("expected_counts", model, xs, mask, engine)
    evidence = chain.evidence
    p = incoming(chain, engine)
    ahead = incoming(chain, engine, reverse=True)
    states, left, right = likelihood.expected(p, evidence, ahead, mask)
    entered = messages.preceded(states.shape[:-1], mask)
    initial = masks.zero(~entered, states).reshape(-1, states.shape[-1]).sum(0)
    if chain.log_transition.ndim > 2:
        a = varying.entering(chain.log_transition, evidence.ndim - 2)
        each = jnp.exp(left[..., :, None] + a + right[..., None, :])[1:]
        shared = tuple(range(1, evidence.ndim - 1)) if chain.log_transition.ndim < each.ndim else ()
        transition = each.sum(shared)
    else:
        left, right = (in_rows(x) for x in (left, right))
        of_all = lambda x: likelihood.of_pairs(left, chain.log_transition, right, x, engine).sum()
        transition = jax.grad(of_all)(jnp.zeros_like(chain.log_transition))
    return Counts(initial, transition, states, log_likelihood(chain, p, engine))
