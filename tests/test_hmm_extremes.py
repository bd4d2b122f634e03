"""Hidden Markov models where numbers end: underflow, 100,000 ticks in float32, impossible sequences, bad input."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from enumeration import ENGINES, MASK, TIGHT, XS, N, T, draw, lse
from marks import quick

import seqjax as sj
from seqjax import hmm, masks


def reference(log_initial, log_transition, evidence):
    """Filtered log-probabilities and log-likelihood in float64 logarithms, a tick at a time."""
    p, total, rows = log_initial, 0.0, []
    for e in evidence:
        f = p + e
        c = lse(f)
        rows.append(f - c)
        total += c
        p = lse(rows[-1][:, None] + log_transition, 0)
    return np.array(rows), total


@functools.partial(jax.jit, static_argnums=2)
def in_two_precisions(narrow, wide, engine):
    *chain, xs = narrow
    chain, options = hmm.Chain(*chain), {"engine": engine}
    marginals = hmm.posterior(chain, xs, **options).log_marginals
    exact = hmm.viterbi(hmm.Chain(*wide[:2]), wide[2])
    return hmm.forward(chain, xs, **options), marginals, hmm.viterbi(chain, xs, **options), exact


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", ["rare evidence", "rare prior", "rare transitions", "left to right", "zero prior"])
def test_float32_where_probabilities_underflow(case, engine):
    """Feasible paths of log-probability -250 and less count fully, though exp(-250) is zero in float32."""
    rng = np.random.default_rng(1)
    n, length = 4, 70
    initial, transition = np.log(rng.dirichlet(np.ones(n))), np.log(rng.dirichlet(np.ones(n), n))
    evidence = rng.normal(size=(length, n))
    if case == "rare evidence":
        evidence *= 150
    elif case == "rare prior":
        initial = np.array([0.0, -250.0, -120.0, -400.0])
        evidence[:4] = [-300, -20, -600, 0]
    elif case == "rare transitions":
        transition = np.where(np.eye(n, dtype=bool), 0.0, -250.0)
        evidence[30:] += [0, 0, 40, 0]
    elif case == "left to right":
        transition = np.where(np.eye(n) + np.eye(n, k=1) > 0, np.log(0.5), -np.inf)
        transition[-1, -1] = 0
        initial = np.array([0.0, -np.inf, -np.inf, -np.inf])
        evidence = -0.5 * (rng.normal(size=(length, 1)) + 25 * np.array([1, 0, 3, 2])) ** 2
    else:  # the likeliest state by evidence has prior probability zero
        initial = np.array([0.0, -np.inf, -np.inf, -np.inf])
        transition = np.where(np.eye(n, dtype=bool), 0.0, -np.inf)
        evidence[0] = [-250, -50, 0, 0]
    narrow = [np.asarray(p, np.float32) for p in (initial, transition, evidence)]
    wide = [np.asarray(p, np.float64) for p in narrow]
    filtered, total = reference(*wide)
    found, marginals, path, double = in_two_precisions(narrow, wide, engine)
    assert found.log_filtered.dtype == jnp.float32
    np.testing.assert_allclose(found.log_filtered, filtered, rtol=3e-6, atol=3e-4)
    np.testing.assert_allclose(found.log_likelihood, total, rtol=1e-6)
    np.testing.assert_allclose(np.exp(np.asarray(marginals)).sum(-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(path.states, double.states)


def test_zero_prior_in_float32_is_exact():
    """Prior (1, 0) and log-likelihoods (-250, -50): the posterior is (1, 0) and the likelihood exp(-250)."""
    chain = hmm.Chain(jnp.array([0.0, -jnp.inf], jnp.float32), jnp.zeros((2, 2), jnp.float32))
    found = hmm.forward(chain, jnp.array([[-250.0, -50.0]], jnp.float32))
    assert found.log_likelihood == -250
    assert found.log_filtered.tolist() == [[0.0, -np.inf]]


@pytest.mark.parametrize("engine", quick(ENGINES, "scan"))
def test_float32_over_100_000_ticks(engine):
    model = draw(8)
    _, xs = hmm.sample(model, jax.random.key(2), 100_000)
    single = jax.tree.map(lambda p: p.astype(jnp.float32), model)
    double = jax.tree.map(lambda p: p.astype(jnp.float64), single)
    found, exact = hmm.forward(single, xs, engine=engine), hmm.forward(double, xs)
    np.testing.assert_allclose(found.log_likelihood, exact.log_likelihood, rtol=1e-6)
    np.testing.assert_allclose(np.exp(found.log_filtered), np.exp(exact.log_filtered), atol=2e-6)
    path = hmm.viterbi(single, xs, engine=engine)
    assert hmm.log_joint(double, path.states, xs) >= hmm.viterbi(double, xs).log_prob - 1e-3
    if engine == "scan":
        found, exact = hmm.expected_counts(single, xs), hmm.expected_counts(double, xs)
        np.testing.assert_allclose(found.transition, exact.transition, rtol=5e-5)
        np.testing.assert_allclose(found.states, exact.states, atol=1e-5)


IMPOSSIBLE = hmm.from_probabilities([1, 0], [[0.5, 0.5], [0, 1]], [[1, 0, 0], [0, 0.5, 0.5]])
# State 1 cannot go back to emit symbol 0; the sequence beside it is possible. More ticks than a block.
IMPOSSIBLE_XS = np.array([[0, 0], [1, 1], [0, 2]] + [[1, 2]] * 40)


@pytest.mark.parametrize("engine", ENGINES)
def test_impossible_observations(engine):
    """Log-likelihood -inf; the possible sequence beside it is untouched and the other counts nothing."""
    xs = IMPOSSIBLE_XS

    @jax.jit
    def run(model):
        likelihood = lambda m: hmm.forward(m, xs, engine=engine).log_likelihood.sum()
        found = [f(model, xs, engine=engine) for f in (hmm.forward, hmm.viterbi, hmm.expected_counts)]
        return *found, hmm.forward(model, xs[:, 1]), jax.grad(likelihood)(model)

    found, best, counts, alone, gradient = jax.tree.map(np.asarray, run(IMPOSSIBLE))
    assert found.log_likelihood[0] == -np.inf
    assert np.isneginf(found.log_filtered[2:, 0]).all()
    np.testing.assert_allclose(found.log_likelihood[1], alone.log_likelihood, **TIGHT)
    np.testing.assert_allclose(found.log_filtered[:, 1], alone.log_filtered, **TIGHT)
    assert best.log_prob[0] == -np.inf
    assert not np.any(counts.states[:, 0])
    np.testing.assert_allclose(counts.states[:, 1].sum(-1), 1, **TIGHT)
    np.testing.assert_allclose(gradient.log_transition, counts.transition, **TIGHT)


def unrolled(cell, model):
    return sj.unroll(cell, model, cell.initial_state(model, (2,)), jnp.asarray(IMPOSSIBLE_XS))


EVERYTHING = {
    "forward": lambda m, **e: hmm.forward(m, IMPOSSIBLE_XS, **e),
    "backward": lambda m, **e: hmm.backward(m, IMPOSSIBLE_XS, **e),
    "posterior": lambda m, **e: hmm.posterior(m, IMPOSSIBLE_XS, **e),
    "expected_counts": lambda m, **e: hmm.expected_counts(m, IMPOSSIBLE_XS, **e),
    "viterbi": lambda m, **e: hmm.viterbi(m, IMPOSSIBLE_XS, **e).log_prob,
    "top_paths": lambda m: hmm.top_paths(m, IMPOSSIBLE_XS, 3).log_prob,
    "log_joint": lambda m: hmm.log_joint(m, np.zeros_like(IMPOSSIBLE_XS), IMPOSSIBLE_XS),
    "cell": lambda m: unrolled(hmm.cell(m), m),
    "viterbi_cell": lambda m: unrolled(hmm.viterbi_cell(m), m),
    "belief_cell": lambda m: unrolled(hmm.belief_cell(m), m),
}


@pytest.mark.slow
@pytest.mark.parametrize("engine", quick(ENGINES, "scan"))
def test_nothing_impossible_is_nan(engine):
    """Neither a value nor a gradient of any function, whether its infinite values matter or not; in float32."""
    parallel = ("forward", "backward", "posterior", "expected_counts", "viterbi")
    functions = {k: f for k, f in EVERYTHING.items() if engine == "scan" or k in parallel}

    @jax.jit
    def run(model):
        call = lambda m: {k: f(m, **({"engine": engine} if k in parallel else {})) for k, f in functions.items()}
        found, pull = jax.vjp(call, model)
        both = jax.tree.map(lambda y: jnp.stack([jnp.ones_like(y), jnp.isfinite(y).astype(y.dtype)]), found)
        return found, jax.vmap(pull)(both)[0]

    found, gradient = run(jax.tree.map(lambda p: p.astype(jnp.float32), IMPOSSIBLE))
    for name, leaves in found.items():
        assert not any(np.isnan(leaf).any() for leaf in jax.tree.leaves(leaves)), name
    assert all(np.isfinite(leaf).all() for leaf in gradient)


def test_infinite_vectors_are_impossible():
    """Log-likelihood -inf, gradients of zero, and no weight in learning: what else is in the sequence is nothing."""
    model = hmm.random_gaussian(jax.random.key(0), 2, 2)
    xs = np.random.default_rng(0).normal(size=(6, 2, 2))
    xs[3, 0, 1] = np.inf
    value, gradient = jax.jit(jax.value_and_grad(lambda m: hmm.forward(m, xs[:, 0]).log_likelihood))(model)
    assert value == -np.inf
    assert not any(np.any(leaf) for leaf in gradient)
    other = xs.copy()
    other[:3, 0] += 7
    fitted = [hmm.fit(model, x, steps=2).model for x in (xs, other)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **TIGHT), *fitted)


ERRORS = {
    "rows": (
        lambda: hmm.from_probabilities([0.5, 0.4], np.eye(2), np.eye(2)),
        ValueError,
        r"HMM: expected initial to sum to 1, got 0.9. Normalise",
    ),
    "row number": (
        lambda: hmm.from_probabilities([0.5, 0.5], [[1, 0], [0.5, 0.6]], np.eye(2)),
        ValueError,
        r"expected transition\[1\] to sum to 1, got 1.1",
    ),
    "negative": (
        lambda: hmm.from_probabilities([1.5, -0.5], np.eye(2), np.eye(2)),
        ValueError,
        "expected initial to sum to 1, got nan",
    ),
    "shapes": (
        lambda: hmm.from_probabilities([0.5, 0.5], np.eye(3), np.eye(2)),
        ValueError,
        r"got log_transition of shape \(3, 3\) with log_initial of shape \(2,\)",
    ),
    "fit rows": (
        lambda: hmm.fit(draw(0)._replace(log_initial=jnp.zeros(N)), XS, steps=1),
        ValueError,
        "HMM: expected initial to sum to 1, got 4",
    ),
    "range": (
        lambda: hmm.forward(draw(0), [0, 7]),
        ValueError,
        r"forward: expected symbols from 0 to 4, got 7. Mark unknown symbols as hmm.MISSING \(-1\)",
    ),
    "negative symbol": (lambda: hmm.viterbi(draw(0), [0, -2]), ValueError, "viterbi: expected symbols from 0 to 4"),
    "float symbols": (lambda: hmm.forward(draw(0), np.ones(3)), TypeError, "forward: expected integers, got float64"),
    "engine": (lambda: hmm.forward(draw(0), XS, engine="fast"), ValueError, "forward: expected engine to be one of"),
    "no ticks": (lambda: hmm.forward(draw(0), XS[:0]), ValueError, "expected observations of at least one tick"),
    "mask type": (lambda: hmm.forward(draw(0), XS, mask=MASK * 1), TypeError, "forward: expected mask of bool"),
    "mask shape": (
        lambda: hmm.forward(draw(0), XS, mask=MASK[:, :2]),
        ValueError,
        r"forward: expected mask of shape \(5, 3\) like the observations, got \(5, 2\)",
    ),
    "states": (lambda: hmm.log_joint(draw(0), XS[:2], XS), ValueError, r"log_joint: expected states of shape \(5, 3\)"),
    "k": (lambda: hmm.top_paths(draw(0), XS, 0), ValueError, "top_paths: expected k to be a whole number"),
    "steps": (lambda: hmm.fit(draw(0), XS, steps=0), ValueError, "fit: expected steps to be a whole number"),
    "fit chain": (
        lambda: hmm.fit(hmm.Chain(jnp.zeros(1), jnp.zeros((1, 1))), np.zeros((2, 1)), steps=1),
        TypeError,
        "fit: expected a model with emissions to learn, got Chain",
    ),
    "sample chain": (
        lambda: hmm.sample(hmm.Chain(jnp.zeros(1), jnp.zeros((1, 1))), jax.random.key(0), 3),
        TypeError,
        "sample: expected a model that draws observations, got Chain",
    ),
    "sizes": (lambda: hmm.random(jax.random.key(0), 0, 2), ValueError, "random: expected states to be a whole number"),
    "vector size": (
        lambda: hmm.forward(hmm.random_gaussian(jax.random.key(0), 2, 3), np.zeros((4, 2))),
        ValueError,
        "GaussianHMM: expected inputs of size 3, got 2",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    call, kind, message = ERRORS[case]
    with pytest.raises(kind, match=message):
        call()


def test_symbols_out_of_range_under_jit_are_nan():
    """Where values are not known in time for an error, they are at least not silently another symbol."""
    result = jax.jit(lambda xs: hmm.forward(draw(0), xs).log_likelihood)(jnp.array([0, 9]))
    assert np.isnan(result)


def test_symbols_at_masked_ticks_are_not_looked_at():
    model = draw(3)
    xs = np.where(MASK, XS, 99)
    found, expected = hmm.forward(model, xs, mask=MASK), hmm.forward(model, XS, mask=MASK)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **TIGHT), found, expected)
    lengths = jnp.array([5, 2, 0])
    right = hmm.forward(model, XS, mask=masks.from_lengths(lengths, T)).log_likelihood
    np.testing.assert_allclose(right[1], hmm.forward(model, XS[:2, 1]).log_likelihood, **TIGHT)
    assert right[2] == 0
