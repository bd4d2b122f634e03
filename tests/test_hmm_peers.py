"""Hidden Markov models beside hmmlearn and dynamax, on random models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import quick

from seqjax import hmm

pytestmark = pytest.mark.filterwarnings("default")  # theirs are not ours to mend
N, V, D, T = 5, 7, 2, 60
SEEDS = (0, 1)
CLOSE = {"rtol": 1e-8, "atol": 1e-8}


@pytest.fixture(autouse=True)
def as_other_libraries_expect():
    with jax.numpy_dtype_promotion("standard"):
        yield


def symbols(seed):
    """A random model and data from it."""
    key, sample_key = jax.random.split(jax.random.key(seed))
    model = hmm.random(key, N, V)
    return model, np.asarray(hmm.sample(model, sample_key, T)[1])


def vectors(seed):
    key, scale_key, sample_key = jax.random.split(jax.random.key(seed), 3)
    model = hmm.random_gaussian(key, N, D)
    model = model._replace(log_scale=0.3 * jax.random.normal(scale_key, (N, D)))
    return model, np.asarray(hmm.sample(model, sample_key, T)[1])


KINDS = {"symbols": symbols, "vectors": vectors}


def in_hmmlearn(model, **options):
    """The same model there; ``options`` of its EM."""
    library = pytest.importorskip("hmmlearn.hmm", reason="hmmlearn is not installed (extra peers)")
    if isinstance(model, hmm.HMM):
        other = library.CategoricalHMM(N, init_params="", **options)
        other.emissionprob_, other.n_features = np.exp(model.log_emission), V
    else:
        # No priors on means and variances: plain maximum likelihood, as here.
        plain = {"means_weight": 0, "covars_prior": 0, "covars_weight": 0, "min_covar": 0}
        other = library.GaussianHMM(N, "diag", init_params="", **plain, **options)
        other.n_features = D
        other.means_, other.covars_ = np.asarray(model.mean), np.exp(2 * np.asarray(model.log_scale))
    other.startprob_, other.transmat_ = np.exp(model.log_initial), np.exp(model.log_transition)
    return other


def assert_as_good(model, xs, path):
    """Their path is ours, or one of the same probability: moves that come in another order can tie."""
    found = hmm.viterbi(model, xs)
    np.testing.assert_allclose(hmm.log_joint(model, path, xs), found.log_prob, **CLOSE)
    if isinstance(model, hmm.GaussianHMM):
        np.testing.assert_array_equal(found.states, path)


@pytest.mark.parametrize("seed", quick(SEEDS, 0))
@pytest.mark.parametrize("kind", KINDS)
def test_hmmlearn_infers_the_same(kind, seed):
    """Likelihood, smoothed probabilities, the best path and its probability."""
    model, xs = KINDS[kind](seed)
    other, data = in_hmmlearn(model), xs if kind == "vectors" else xs[:, None]
    posterior = hmm.posterior(model, xs)
    log_likelihood, smoothed = other.score_samples(data)
    np.testing.assert_allclose(posterior.log_likelihood, log_likelihood, **CLOSE)
    np.testing.assert_allclose(np.exp(posterior.log_marginals), smoothed, **CLOSE)
    log_prob, path = other.decode(data, algorithm="viterbi")
    np.testing.assert_allclose(hmm.viterbi(model, xs).log_prob, log_prob, **CLOSE)
    assert_as_good(model, xs, path)


@pytest.mark.parametrize("kind", KINDS)
def test_hmmlearn_learns_the_same(kind):
    """Three steps of EM on two sequences of different lengths, from the same random start."""
    _, xs = KINDS[kind](0)
    start, _ = KINDS[kind](9)
    lengths = np.array([T - 23, 23])
    other = in_hmmlearn(start, n_iter=3, tol=-np.inf)
    other.fit(xs if kind == "vectors" else xs[:, None], lengths)
    blank = np.zeros((T - 46, *xs.shape[1:]), xs.dtype)
    pair = np.stack([xs[: lengths[0]], np.concatenate([xs[lengths[0] :], blank])], 1)
    mask = jnp.asarray(np.arange(lengths[0])[:, None] < lengths)
    fitted = hmm.fit(start, pair, mask=mask, steps=3)
    np.testing.assert_allclose(fitted.log_likelihood[:3], list(other.monitor_.history), rtol=1e-7)
    model = fitted.model
    np.testing.assert_allclose(np.exp(model.log_initial), other.startprob_, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(np.exp(model.log_transition), other.transmat_, rtol=1e-5, atol=1e-8)
    if kind == "symbols":
        np.testing.assert_allclose(np.exp(model.log_emission), other.emissionprob_, rtol=1e-5, atol=1e-8)
    else:
        np.testing.assert_allclose(model.mean, other.means_, rtol=1e-5, atol=1e-8)
        variances = np.diagonal(other.covars_, axis1=1, axis2=2)
        np.testing.assert_allclose(np.exp(2 * model.log_scale), variances, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("seed", quick(SEEDS, 0))
@pytest.mark.parametrize("kind", quick(KINDS, "symbols"))
def test_dynamax_infers_the_same(kind, seed):
    """Filtering, smoothing, transitions, the best path; its parallel filter beside our parallel engine."""
    library = pytest.importorskip("dynamax.hidden_markov_model", reason="dynamax is not installed (extra peers)")
    model, xs = KINDS[kind](seed)
    given = jnp.exp(model.log_initial), jnp.exp(model.log_transition), model.evidence(jnp.asarray(xs))
    theirs = library.hmm_two_filter_smoother(*given)
    filtered, posterior = hmm.forward(model, xs), hmm.posterior(model, xs)
    np.testing.assert_allclose(filtered.log_likelihood, theirs.marginal_loglik, **CLOSE)
    np.testing.assert_allclose(np.exp(filtered.log_filtered), theirs.filtered_probs, **CLOSE)
    np.testing.assert_allclose(np.exp(posterior.log_marginals), theirs.smoothed_probs, **CLOSE)
    counts = hmm.expected_counts(model, xs)
    pairs = library.hmm_smoother(*given).trans_probs  # summed over ticks
    np.testing.assert_allclose(counts.transition, pairs, **CLOSE)
    assert_as_good(model, xs, library.hmm_posterior_mode(*given))
    parallel = library.parallel_hmm_filter(*given)
    ours = hmm.forward(model, xs, engine="associative")
    np.testing.assert_allclose(ours.log_likelihood, parallel.marginal_loglik, **CLOSE)
    np.testing.assert_allclose(np.exp(ours.log_filtered), parallel.filtered_probs, **CLOSE)
