"""Models: a chain of hidden states, and what each state makes likely to be observed."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from seqjax import checks
from seqjax.base import Array
from seqjax.hmm.rows import check, log_dirichlet, log_frequencies
from seqjax.products import along

MISSING = -1  # the symbol of an observation that is missing or unknown: the tick passes, without evidence


class Chain(NamedTuple):
    """A chain whose observations are their own evidence: ``xs [T, *B, N]`` are log-likelihoods, or any scores.

    Attributes:
      log_initial: ``[N]``.
      log_transition: ``[N, N]``, row i, column j: from i to j; ``[T-1, N, N]`` where it changes from step to step.

    Example:
      >>> import jax.numpy as jnp
      >>> from seqjax import hmm
      >>> chain = hmm.Chain(jnp.log(jnp.array([0.5, 0.5])), jnp.log(jnp.array([[0.9, 0.1], [0.1, 0.9]])))
      >>> hmm.viterbi(chain, jnp.array([[0.0, 2.0], [1.0, 0.0], [0.0, 2.0]])).states.tolist()
      [1, 1, 1]
    """

    log_initial: Array
    log_transition: Array

    def evidence(self, xs: Array) -> Array:
        """The scores as they are, ``[*B, N]`` a tick."""
        checks.inputs("Chain", xs, np.shape(xs)[:-1], self.log_initial.shape[0])
        return xs

    def redraw(self, key: Array) -> "Chain":
        """A random chain of this size."""
        keys = jax.random.split(key)
        return Chain(*(log_dirichlet(k, p.shape, p.dtype) for k, p in zip(keys, self)))


class HMM(NamedTuple):
    """A hidden Markov model over symbols: ln P(z_1), ln P(z_t | z_{t-1}), ln P(x_t | z_t).

    Attributes:
      log_initial: ``[N]``.
      log_transition: ``[N, N]``, row i, column j: from i to j; ``[T-1, N, N]`` where it changes from step to step.
      log_emission: ``[N, V]``.

    Observations are integers ``[T, *B]`` in 0 … V-1, or `MISSING`. Zero probabilities are -inf.

    References:
      Rabiner (1989), A tutorial on hidden Markov models and selected applications in speech recognition.
      https://doi.org/10.1109/5.18626
    """

    log_initial: Array
    log_transition: Array
    log_emission: Array

    @property
    def distributions(self) -> tuple[str, ...]:
        """Fields whose rows sum to 1, besides those of every model."""
        return ("log_emission",)

    @property
    def per_state(self) -> tuple[str, ...]:
        """Fields of one row a state."""
        return ("log_emission",)

    def evidence(self, xs: Array) -> Array:
        """ln P(x | z), ``[*B, N]`` for ``x [*B]``; 0 where x is `MISSING`, NaN where it is no symbol."""
        xs = checks.symbols("HMM", xs)
        known = (xs >= 0) & (xs < self.log_emission.shape[1])
        seen = jnp.take(self.log_emission.T, xs, axis=0, mode="clip")
        unseen = jnp.where(xs == MISSING, 0, jnp.nan).astype(seen.dtype)
        return jnp.where(known[..., None], seen, unseen[..., None])

    def check_observations(self, who: str, xs: Array, mask: Array | None) -> None:
        """Symbols are in range, as far as values are known at trace time."""
        checks.integers(who, xs)
        if isinstance(xs, jax.core.Tracer) or isinstance(mask, jax.core.Tracer):
            return
        values = np.asarray(xs)
        if mask is not None and np.shape(mask) == values.shape:
            values = values[np.asarray(mask, bool)]
        symbols = self.log_emission.shape[1]
        if values.size and (values.min() < MISSING or values.max() >= symbols):
            wrong = values[(values < MISSING) | (values >= symbols)]
            raise ValueError(
                f"{who}: expected symbols from 0 to {symbols - 1}, got {wrong[0]}. "
                f"Mark unknown symbols as hmm.MISSING ({MISSING}) or enlarge log_emission."
            )

    def emit(self, key: Array, states: Array) -> Array:
        """Symbols drawn in the states given, ``[...]``."""
        return jax.random.categorical(key, self.log_emission[states])

    def maximise(
        self, log_initial: Array, log_transition: Array, weights: Array, xs: Array, emission_counts: ArrayLike = 0.0
    ) -> "HMM":
        """The model that maximises the expected log-likelihood, ``weights [T, *B, N]`` those of the states.

        ``emission_counts``, one for all or ``[N, V]``, are added to what was seen: `Prior.emission`.
        """
        xs = checks.symbols("HMM", xs)
        seen = jax.nn.one_hot(xs, self.log_emission.shape[1], dtype=weights.dtype)  # zeros where missing
        counts = jnp.einsum("...n,...v->nv", weights, seen)
        counts = counts + jnp.asarray(emission_counts, counts.dtype)
        return HMM(log_initial, log_transition, log_frequencies(counts, self.log_emission))

    def redraw(self, key: Array) -> "HMM":
        """A random model of these sizes."""
        return random(key, *self.log_emission.shape, dtype=self.log_emission.dtype)


class GaussianHMM(NamedTuple):
    """A hidden Markov model over vectors, each state a Gaussian with a diagonal covariance.

        ln p(x | z) = -½ Σ_k ((x_k - μ_zk) / s_zk)² - Σ_k ln s_zk - d/2 ln 2π        s = exp(log_scale)

    Attributes:
      log_initial: ``[N]``.
      log_transition: ``[N, N]``, row i, column j: from i to j; ``[T-1, N, N]`` where it changes from step to step.
      mean: ``[N, d]``.
      log_scale: ``[N, d]``, logarithms of standard deviations.

    Observations are ``[T, *B, d]``; NaN marks a missing component, which carries no evidence. An infinite one is
    impossible.
    """

    log_initial: Array
    log_transition: Array
    mean: Array
    log_scale: Array

    @property
    def per_state(self) -> tuple[str, ...]:
        """Fields of one row a state."""
        return ("mean", "log_scale")

    def evidence(self, xs: Array) -> Array:
        """ln p(x | z), ``[*B, N]`` for ``x [*B, d]``."""
        checks.inputs("GaussianHMM", xs, np.shape(xs)[:-1], self.mean.shape[1])
        xs = xs[..., None, :].astype(self.mean.dtype)
        mean, log_scale = along(self.mean, xs), along(self.log_scale, xs)
        z = (jnp.where(jnp.isfinite(xs), xs, mean) - mean) * jnp.exp(-log_scale)
        density = -0.5 * z**2 - log_scale - 0.5 * math.log(2 * math.pi)
        return jnp.where(jnp.isnan(xs), 0, jnp.where(jnp.isinf(xs), -jnp.inf, density)).sum(-1)

    def check_observations(self, who: str, xs: Array, mask: Array | None) -> None:
        """What is learned from has squares that are numbers, as far as values are known at trace time."""
        if who != "fit" or isinstance(xs, jax.core.Tracer) or isinstance(mask, jax.core.Tracer):
            return
        values = np.abs(np.asarray(xs))
        if mask is not None and np.shape(mask) == values.shape[:-1]:
            values = values[np.asarray(mask, bool)]
        most = 1e-3 * float(jnp.finfo(self.mean.dtype).max) ** 0.5
        wrong = values[np.isfinite(values) & (values > most)]
        if wrong.size:
            raise ValueError(
                f"{who}: expected observations whose squares are numbers in {self.mean.dtype}, up to {most:.0e}, got "
                f"{wrong[0]:.2g}. Scale them, or mark what is missing as NaN."
            )

    def emit(self, key: Array, states: Array) -> Array:
        """Vectors drawn in the states given, ``[..., d]``."""
        noise = jax.random.normal(key, (*states.shape, self.mean.shape[1]), self.mean.dtype)
        return self.mean[states] + jnp.exp(self.log_scale[states]) * noise

    def maximise(self, log_initial: Array, log_transition: Array, weights: Array, xs: Array) -> "GaussianHMM":
        """The model that maximises the expected log-likelihood, ``weights [T, *B, N]`` those of the states.

        No standard deviation falls below a thousandth of the data's: a state that sits on one observation would
        otherwise shrink until its density is infinite.
        """
        known = jnp.isfinite(xs)  # an infinite observation has no weight
        xs = jnp.where(known, xs, 0).astype(weights.dtype)
        axes = tuple(range(xs.ndim - 1))
        present = known.astype(weights.dtype) * weights.sum(-1, keepdims=True)
        centre = (present * xs).sum(axes) / jnp.maximum(present.sum(axes), 1)
        spread = (present * (xs - along(centre, xs)) ** 2).sum(axes) / jnp.maximum(present.sum(axes), 1)
        total = jnp.einsum("...n,...d->nd", weights, known.astype(weights.dtype))
        used = total > 0
        divisor = jnp.where(used, total, 1)
        offset = jnp.where(known, xs - along(centre, xs), 0)
        mean = jnp.einsum("...n,...d->nd", weights, offset) / divisor
        offset = offset[..., None, :]
        square = jnp.where(known[..., None, :], (offset - along(mean, offset)) ** 2, 0)
        variance = (weights[..., None] * square).sum(axes) / divisor
        log_scale = 0.5 * jnp.log(jnp.maximum(variance, jnp.maximum(1e-6 * spread, jnp.finfo(xs.dtype).tiny)[None]))
        return GaussianHMM(
            log_initial,
            log_transition,
            jnp.where(used, mean + centre[None], self.mean),
            jnp.where(used, log_scale, self.log_scale),
        )

    def redraw(self, key: Array) -> "GaussianHMM":
        """A random model of these sizes."""
        return random_gaussian(key, *self.mean.shape, dtype=self.mean.dtype)


def from_probabilities(initial: ArrayLike, transition: ArrayLike, emission: ArrayLike) -> HMM:
    """An `HMM` from probabilities, with every row checked.

    Args:
      initial: ``[N]``.
      transition: ``[N, N]``, row i, column j: from i to j.
      emission: ``[N, V]``.

    Returns:
      The model, in logarithms and JAX's default float.

    Raises:
      ValueError: shapes do not agree, or a row is no distribution.

    Example:
      >>> from seqjax import hmm
      >>> model = hmm.from_probabilities([1.0, 0.0], [[0.5, 0.5], [0.0, 1.0]], [[0.9, 0.1], [0.2, 0.8]])
      >>> hmm.viterbi(model, [0, 0, 1, 1]).states.tolist()
      [0, 0, 1, 1]
    """
    dtype = jnp.zeros(()).dtype
    with np.errstate(divide="ignore", invalid="ignore"):
        logs: list = [np.log(np.asarray(p, np.float64)) for p in (initial, transition, emission)]
    model = HMM(*logs)
    check(model)
    return HMM(*(jnp.asarray(p, dtype) for p in model))


def random(key: Array, states: int, symbols: int, *, dtype: jnp.dtype | None = None) -> HMM:
    """A model whose rows are drawn uniformly from all distributions.

    Args:
      key: one JAX key.
      states: N.
      symbols: V.
      dtype: JAX's default float if None.

    Example:
      >>> import jax
      >>> from seqjax import hmm
      >>> hmm.random(jax.random.key(0), 3, 5).log_emission.shape
      (3, 5)
    """
    checks.sizes("random", states=states, symbols=symbols)
    shapes = [(states,), (states, states), (states, symbols)]
    return HMM(*(log_dirichlet(k, shape, dtype) for k, shape in zip(jax.random.split(key, 3), shapes)))


def random_gaussian(key: Array, states: int, features: int, *, dtype: jnp.dtype | None = None) -> GaussianHMM:
    """A model with means from N(0, 1), unit variances, and rows drawn uniformly from all distributions.

    Args:
      key: one JAX key.
      states: N.
      features: d.
      dtype: JAX's default float if None.
    """
    checks.sizes("random_gaussian", states=states, features=features)
    keys = jax.random.split(key, 3)
    dtype = jnp.dtype(dtype or jnp.zeros(()).dtype)
    return GaussianHMM(
        log_dirichlet(keys[0], (states,), dtype),
        log_dirichlet(keys[1], (states, states), dtype),
        jax.random.normal(keys[2], (states, features), dtype),
        jnp.zeros((states, features), dtype),
    )
