"""Learning by expectation maximisation."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax import checks
from seqjax.base import Array, PyTree
from seqjax.hmm.inference import expected_counts, forward
from seqjax.hmm.models import check, log_frequencies
from seqjax.hmm.observations import Engine, Model, inferred, prepare


class Fit(NamedTuple):
    """The model after the last step, and ``log_likelihood [steps + 1]`` of all data before each step and at the end."""

    model: Model
    log_likelihood: Array


def fit(model: Model, xs: PyTree, *, mask: Array | None = None, steps: int = 100, engine: Engine = "scan") -> Fit:
    """Expectation maximisation (Baum and Welch): each step raises the likelihood of the observations, or keeps it.

        E: counts = ∂ ln p(xs) / ∂ log-parameters        M: every row of the model ∝ its counts

    A state or row that is never used keeps its parameters. Probabilities of zero stay zero, so the structure of a
    model (left to right, say) survives. Sequences pool; one that the model makes impossible counts nothing.

    Args:
      model: where to start; `seqjax.hmm.random` draws one. From uniform rows all states stay alike.
      xs: observations ``[T, *B, ...]``, missing ones marked as in the model.
      mask: ``[T, *B]``, True at real ticks; `seqjax.masks.from_lengths` makes it from lengths.
      steps: how many.
      engine: ``"scan"`` or ``"associative"``.

    Returns:
      The model and the log-likelihoods.

    Raises:
      ValueError: the model's rows are no distributions, or what `seqjax.hmm.forward` raises.
      TypeError: a model without ``maximise``.

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
            f"fit: expected a model with emissions to learn, got {type(model).__name__}. Use HMM or GaussianHMM, or "
            "train by gradient on forward(normalise(model), xs).log_likelihood."
        )
    check(model)
    return inferred("fit", _fit, model, xs, mask, steps, engine)


@functools.partial(jax.jit, static_argnames=("steps", "engine"))
def _fit(model: PyTree, xs: PyTree, mask: Array | None, steps: int, engine: Engine) -> Fit:
    xs, _, mask = prepare("fit", model, xs, mask, engine)

    def step(model: PyTree, _: None) -> tuple[PyTree, Array]:
        counts = expected_counts(model, xs, mask=mask, engine=engine)
        new = model.maximise(
            log_frequencies(counts.initial, model.log_initial),
            log_frequencies(counts.transition, model.log_transition),
            counts.states,
            xs,
        )
        return new, counts.log_likelihood.sum()

    model, before = jax.lax.scan(step, model, length=steps)
    last = forward(model, xs, mask=mask, engine=engine).log_likelihood.sum()
    return Fit(model, jnp.append(before, last))
