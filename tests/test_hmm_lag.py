"""Smoothing with a fixed lag against the sum over all paths of each window, as a function and as a cell."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from enumeration import MASK, TIGHT, XS, Enumeration, N, T, draw, evidence_of
from jax.test_util import check_grads

import seqjax as sj
from seqjax import hmm

pytestmark = pytest.mark.usefixtures("equal_ranks")


def by_enumeration(model, xs, lag):
    """ln p(z_t | x_1 … x_{t+L}), each tick from the list of all paths through what was seen by then."""
    args = np.asarray(model.log_initial), np.asarray(model.log_transition)
    evidence = evidence_of(model, xs)
    return np.array([Enumeration(*args, evidence[: t + lag + 1]).marginals()[t] for t in range(len(xs))])


@pytest.mark.parametrize("zeros", [False, True], ids=["dense", "zeros"])
def test_equals_enumeration(zeros):
    """Lags from none to all, masks with holes, missing symbols; both ends are the filter and the smoother."""
    model = draw(3, zeros=zeros)
    run = jax.jit(lambda model: [hmm.fixed_lag(model, XS, lag, mask=MASK) for lag in (0, 1, 2, T - 1, T + 4)])
    ends = jax.jit(lambda model: (hmm.forward(model, XS, mask=MASK), hmm.posterior(model, XS, mask=MASK)))
    found, (filtered, smoothed) = run(model), ends(model)
    for lag, result in zip((0, 1, 2, T - 1), found):
        for b in range(XS.shape[1]):
            real = MASK[:, b]
            np.testing.assert_allclose(result.log_marginals[real, b], by_enumeration(model, XS[real, b], lag), **TIGHT)
            assert not np.any(result.log_marginals[~real, b])
        np.testing.assert_allclose(result.log_likelihood, filtered.log_likelihood, **TIGHT)
    np.testing.assert_allclose(found[0].log_marginals, filtered.log_filtered, **TIGHT)
    for result in found[3:]:
        np.testing.assert_allclose(result.log_marginals, smoothed.log_marginals, **TIGHT)


def test_transitions_that_change_and_the_parallel_filter():
    """One matrix a step: the window's enumeration with the products of each step; both engines agree."""
    model, lag = draw(4), 2
    steps = jnp.log(jax.random.dirichlet(jax.random.key(0), jnp.ones(N), (T - 1, N)))
    varying = model._replace(log_transition=steps)
    xs = jnp.array([0, 3, 1, 2, 4])
    found, parallel = jax.jit(
        lambda model: [hmm.fixed_lag(model, xs, lag, engine=engine).log_marginals for engine in ("scan", "associative")]
    )(varying)
    seen = lambda t: varying._replace(log_transition=steps[: t + lag])
    expected = [
        hmm.posterior(seen(t), xs[: t + lag + 1]).log_marginals[t] for t in range(T)
    ]  # itself against enumeration in test_hmm_own
    np.testing.assert_allclose(found, jnp.stack(expected), **TIGHT)
    np.testing.assert_allclose(parallel, found, **TIGHT)


def test_the_cell_says_the_same_so_many_ticks_later():
    """A stream in two chunks with a mask; nothing is said of the first ticks."""
    model, lag = draw(3), 2
    cell = hmm.lag_cell(model, lag)
    whole = hmm.fixed_lag(model, XS, lag, mask=MASK).log_marginals

    @jax.jit
    def run(model):
        state, first = sj.unroll(cell, model, cell.initial_state(model, (3,)), XS[:2], mask=MASK[:2])
        _, second = sj.unroll(cell, model, state, XS[2:], mask=MASK[2:])
        return jnp.concatenate([first, second])

    ys = run(model)
    for b in range(3):
        real = MASK[:, b]
        said, known = np.asarray(ys)[real, b], np.asarray(whole)[real, b]
        assert not np.any(said[:lag])
        np.testing.assert_allclose(said[lag:], known[: max(len(said) - lag, 0)], **TIGHT)
    assert hmm.lag_cell(model, lag) == hmm.lag_cell(draw(9), lag) != hmm.lag_cell(model, 3)


@pytest.mark.slow
def test_gradients_and_long_sequences():
    model = draw(3)
    xs = jnp.array([0, 2, 4, 1, 1])
    loss = jax.jit(lambda model: (jnp.exp(hmm.fixed_lag(model, xs, 1).log_marginals) ** 2).sum())
    check_grads(loss, (model,), order=1, modes=["rev"], atol=1e-6, rtol=1e-6)
    single = jax.tree.map(lambda p: p.astype(jnp.float32), model)
    many = hmm.sample(single, jax.random.key(0), 10_000)[1]
    late = hmm.fixed_lag(single, many, 20).log_marginals
    np.testing.assert_allclose(np.exp(late).sum(-1), 1, atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_dynamax_infers_the_same():
    library = pytest.importorskip("dynamax.hidden_markov_model", reason="dynamax is not installed (extra peers)")
    """Theirs gives, at each tick, what is known of a window of ticks; ours is what is said of its first."""
    model, xs, lag = draw(3), jnp.array([0, 2, 4, 1, 1, 3, 0]), 2
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        given = jnp.exp(model.log_initial), jnp.exp(model.log_transition), model.evidence(xs)
        theirs = library.hmm_fixed_lag_smoother(*given, window_size=lag + 1).smoothed_probs
    found = np.exp(hmm.fixed_lag(model, xs, lag).log_marginals)
    np.testing.assert_allclose(found[:-lag], theirs[lag:, 0], rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found[-lag:], theirs[-1, 1:], rtol=1e-8, atol=1e-10)


def test_errors():
    model = draw(3)
    for lag in (-1, 1.5, True):
        with pytest.raises(ValueError, match="fixed_lag: expected lag to be a whole number of at least 0, got"):
            hmm.fixed_lag(model, XS, lag)
    with pytest.raises(ValueError, match="lag_cell: expected lag to be a whole number of at least 1, got 0"):
        hmm.lag_cell(model, 0)
    with pytest.raises(ValueError, match="fixed_lag: expected mask of shape"):
        hmm.fixed_lag(model, XS, 1, mask=MASK[:2])
