"""Learning by expectation maximisation."""

import functools
import inspect
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from seqjax import checks
from seqjax.base import Array, PyTree
from seqjax.hmm.inference import expected_counts, forward
from seqjax.hmm.observations import Engine, Model, inferred, prepare, transitions
from seqjax.hmm.rows import check, log_frequencies
from seqjax.products import accumulator


class Fit(NamedTuple):
    """The model after the last step, and ``log_likelihood [steps + 1]`` of all data before each step and at the end."""

    model: Model
    log_likelihood: Array


class Prior(NamedTuple):
    """Pseudo-counts: what was seen before there were data, added to what is counted.

    ∝ ∏ P^count: a Dirichlet prior with parameters 1 + count on each row, of which `fit` then finds the mode. One number
    for all, or an array of the rows' shape; a count above zero gives a probability to what had none.

    Attributes:
      initial: starts in each state.
      transition: steps from i to j.
      emission: symbols seen in each state; for models whose ``maximise`` takes ``emission_counts``, as `HMM`'s.
    """

    initial: ArrayLike = 0.0
    transition: ArrayLike = 0.0
    emission: ArrayLike | None = None


def fit(
    model: Model,
    xs: PyTree,
    *,
    mask: Array | None = None,
    steps: int = 100,
    engine: Engine = "scan",
    prior: Prior | None = None,
) -> Fit:
    """Expectation maximisation (Baum and Welch): each step raises the likelihood of the observations, or keeps it.

        E: counts = ∂ ln p(xs) / ∂ log-parameters        M: every row of the model ∝ its counts

    A state or row that is never used keeps its parameters. Probabilities of zero stay zero, so the structure of a
    model (left to right, say) survives. Sequences pool; one that the model makes impossible counts nothing.

    A model of your own needs ``evidence(xs)`` and ``maximise(log_initial, log_transition, weights, xs)``, which returns
    the model that is best where each state's share of each tick is ``weights [T, *B, N]``. Its first two arguments are
    what the counts say; where ``log_transition`` is a method, the second is ln P(z_{t+1} | z_t, xs), one a step. With a
    prior the likelihood times it rises, not the likelihood alone.

    Args:
      model: where to start; `seqjax.hmm.random` draws one. From uniform rows all states stay alike.
      xs: observations ``[T, *B, ...]``, missing ones marked as in the model.
      mask: ``[T, *B]``, True at real ticks; `seqjax.masks.from_lengths` makes it from lengths.
      steps: how many.
      engine: ``"scan"`` or ``"associative"``.
      prior: pseudo-counts; None for none.

    Returns:
      The model and the log-likelihoods.

    Raises:
      ValueError: the model's rows are no distributions, or what `seqjax.hmm.forward` raises; a prior on transitions
        that are a method.
      TypeError: a model without ``maximise``, or without what a prior on emissions needs.

    Example:
      >>> import jax
      >>> from seqjax import hmm
      >>> truth, start = (hmm.random(jax.random.key(i), 2, 4) for i in (0, 1))
      >>> _, xs = hmm.sample(truth, jax.random.key(2), 50, (20,))
      >>> log_likelihood = hmm.fit(start, xs, steps=5).log_likelihood
      >>> bool((log_likelihood[1:] > log_likelihood[:-1]).all())
      True

    References:
      Baum, Petrie, Soules and Weiss (1970), A maximization technique occurring in the statistical analysis of
      probabilistic functions of Markov chains. https://doi.org/10.1214/aoms/1177697196
    """
    checks.sizes("fit", steps=steps)
    if not hasattr(model, "maximise"):
        raise TypeError(
            f"fit: expected a model with emissions to learn, got {type(model).__name__}. Use HMM or GaussianHMM, "
            "give it maximise(log_initial, log_transition, weights, xs), or "
            "train by gradient on forward(normalise(model), xs).log_likelihood."
        )
    check(model)
    prior = Prior() if prior is None else prior
    checks.instance("fit", prior, Prior, "Write prior=hmm.Prior(transition=1.0).")
    if prior.emission is not None and "emission_counts" not in inspect.signature(model.maximise).parameters:
        raise TypeError(
            f"fit: expected a model whose maximise takes emission_counts, got {type(model).__name__}. Leave "
            "Prior.emission out, or add the counts in maximise."
        )
    if callable(model.log_transition) and not (isinstance(prior.transition, float | int) and prior.transition == 0):
        raise ValueError(
            "fit: expected transitions in a field, to which pseudo-counts can be added, got a method. Leave "
            "Prior.transition out, and put the prior into maximise."
        )
    return inferred("fit", _fit, model, xs, mask, steps, engine, prior)


@functools.partial(jax.jit, static_argnames=("steps", "engine"))
def _fit(model: PyTree, xs: PyTree, mask: Array | None, steps: int, engine: Engine, prior: Prior) -> Fit:
    given, model = model, jax.tree.map(_wide, model)
    chain = prepare("fit", model, xs, mask, engine)
    options = {} if prior.emission is None else {"emission_counts": prior.emission}

    def step(model: PyTree, _: None) -> tuple[PyTree, Array]:
        counts = expected_counts(model, chain.xs, mask=mask, engine=engine)
        log_a = transitions("fit", model, chain.xs, chain.evidence.shape)
        more = jnp.asarray(prior.transition, counts.transition.dtype), jnp.asarray(prior.initial, counts.initial.dtype)
        new = model.maximise(
            log_frequencies(counts.initial + more[1], model.log_initial),
            log_frequencies(counts.transition + more[0], log_a),
            counts.states,
            chain.xs,
            **options,
        )
        return jax.tree.map(lambda new, old: new.astype(old.dtype), new, model), counts.log_likelihood.sum()

    model, before = jax.lax.scan(step, model, length=steps)
    last = forward(model, chain.xs, mask=mask, engine=engine).log_likelihood.sum()
    return Fit(jax.tree.map(lambda new, old: new.astype(old.dtype), model, given), jnp.append(before, last))


def _wide(p: Array) -> Array:
    """At least float32: what one step changes is less than half precision can hold."""
    p = jnp.asarray(p)
    return p.astype(accumulator(p.dtype)) if jnp.issubdtype(p.dtype, jnp.floating) else p
