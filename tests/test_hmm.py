"""Hidden Markov models against the sum over all paths, written in NumPy."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from seqjax import hmm, masks

N, V, T = 4, 5, 5
TIGHT = {"rtol": 1e-10, "atol": 1e-10}
ENGINES = ("scan", "associative")


def lse(a, axis=None):
    with np.errstate(divide="ignore"):
        top = np.max(a, axis=axis, keepdims=True)
        top = np.where(np.isfinite(top), top, 0)
        return np.squeeze(np.log(np.exp(a - top).sum(axis, keepdims=True)) + top, axis)[()]


class Enumeration:
    """Everything about one sequence from the list of all its paths; ``evidence [T, N]`` of real ticks only."""

    def __init__(self, log_initial, log_transition, evidence):
        self.n, self.length = log_initial.size, len(evidence)
        self.paths = np.array(list(itertools.product(range(self.n), repeat=self.length)), int)
        ticks = np.arange(self.length)
        self.scores = log_initial[self.paths[:, 0]] + evidence[ticks, self.paths].sum(1)
        self.scores += log_transition[self.paths[:, :-1], self.paths[:, 1:]].sum(1)
        self.args = (log_initial, log_transition, evidence)
        self.log_likelihood = lse(self.scores)

    def marginals(self):
        return (
            np.array([[lse(self.scores[self.paths[:, t] == i]) for i in range(self.n)] for t in range(self.length)])
            - self.log_likelihood
        )

    def filtered(self):
        initial, transition, evidence = self.args
        return np.stack(
            [Enumeration(initial, transition, evidence[: t + 1]).marginals()[-1] for t in range(self.length)]
        )

    def backward(self):
        _, transition, evidence = self.args
        rows = []
        for t in range(self.length - 1):
            rest = [Enumeration(transition[i], transition, evidence[t + 1 :]).log_likelihood for i in range(self.n)]
            rows.append(rest)
        return np.array([*rows, [0.0] * self.n])

    def transitions(self):
        weight = np.exp(self.scores - self.log_likelihood)
        counts = np.zeros((self.n, self.n))
        for t in range(self.length - 1):
            np.add.at(counts, (self.paths[:, t], self.paths[:, t + 1]), weight)
        return counts

    def best(self, k):
        order = np.argsort(-self.scores, kind="stable")[:k]
        return self.paths[order], self.scores[order]


def evidence_of(model, xs):
    """ln p(x | z) in NumPy for symbols, -1 missing."""
    table = np.asarray(model.log_emission).T
    return np.where((xs >= 0)[:, None], table[np.maximum(xs, 0)], 0.0)


def draw(seed, *, zeros=False, n=N, v=V):
    rng = np.random.default_rng(seed)
    initial, transition, emission = (rng.dirichlet(np.full(k, 0.7), r) for k, r in ((n, 1), (n, n), (v, n)))
    if zeros:
        transition[np.arange(n), np.arange(n)[::-1]] = 0
        emission[0, 1] = 0
        transition /= transition.sum(1, keepdims=True)
        emission /= emission.sum(1, keepdims=True)
    return hmm.from_probabilities(initial[0], transition, emission)


XS = np.array([[0, 3, 1], [2, 2, -1], [4, 1, 1], [-1, 0, 2], [1, 4, 3]])  # -1: missing
MASK = np.array([[1, 1, 0], [1, 0, 1], [1, 0, 0], [1, 1, 1], [1, 0, 0]], bool)


@pytest.fixture(scope="module", params=[False, True], ids=["dense", "zeros"])
def model(request):
    return draw(3, zeros=request.param)


@pytest.fixture(scope="module")
def truths(model):
    args = np.asarray(model.log_initial), np.asarray(model.log_transition)
    return [Enumeration(*args, evidence_of(model, XS[MASK[:, b], b])) for b in range(3)]


@functools.partial(jax.jit, static_argnums=(0, 4))
def infer(functions, model, xs, mask, engine):
    """Several results from one compilation, which is what these tests spend their time on."""
    return [getattr(hmm, name)(model, xs, mask=mask, engine=engine) for name in functions]


@pytest.mark.parametrize("engine", ENGINES)
def test_equals_enumeration(model, truths, engine):
    """Likelihood, filtering, backward messages, smoothing, counts and best paths: masks with holes, missing symbols."""
    names = ("forward", "backward", "posterior", "expected_counts", "viterbi")
    f, b, p, c, z = infer(names, model, XS, MASK, engine)
    for i, truth in enumerate(truths):
        real = MASK[:, i]
        np.testing.assert_allclose(f.log_likelihood[i], truth.log_likelihood, **TIGHT)
        np.testing.assert_allclose(f.log_filtered[real, i], truth.filtered(), **TIGHT)
        beta = b.log_messages[real, i] + b.log_scale[real, i, None]
        np.testing.assert_allclose(beta, truth.backward(), **TIGHT)
        np.testing.assert_allclose(np.exp(b.log_messages[real, i]).sum(-1), 1, **TIGHT)
        np.testing.assert_allclose(p.log_marginals[real, i], truth.marginals(), **TIGHT)
        np.testing.assert_allclose(c.states[real, i], np.exp(truth.marginals()), **TIGHT)
        (path,), (score,) = truth.best(1)
        np.testing.assert_array_equal(z.states[real, i], path)
        np.testing.assert_allclose(z.log_prob[i], score, **TIGHT)
        for masked in (f.log_filtered, b.log_messages, b.log_scale, p.log_marginals, c.states, z.states):
            assert not np.any(np.asarray(masked)[~real, i])
    np.testing.assert_allclose(c.transition, sum(t.transitions() for t in truths), **TIGHT)
    np.testing.assert_allclose(c.initial, sum(np.exp(t.marginals()[0]) for t in truths), **TIGHT)
    np.testing.assert_allclose(c.log_likelihood, f.log_likelihood, **TIGHT)
    np.testing.assert_allclose(hmm.log_joint(model, z.states, XS, mask=MASK), z.log_prob, **TIGHT)


def test_top_paths_equal_enumeration(model, truths):
    k = 20
    found = hmm.top_paths(model, XS, k, mask=MASK)
    assert found.states.shape == (T, 3, k)
    for i, truth in enumerate(truths):
        paths, scores = truth.best(k)
        possible = np.isfinite(scores)
        rest = k - len(scores)
        log_prob = np.asarray(found.log_prob[i])
        np.testing.assert_allclose(log_prob, np.append(scores, np.full(rest, -np.inf)), **TIGHT)
        np.testing.assert_array_equal(found.states[MASK[:, i], i][:, : len(scores)][:, possible], paths[possible].T)
        assert (found.states[MASK[:, i], i][:, np.isneginf(log_prob)] == -1).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_sampled_paths_follow_the_posterior(engine):
    """40,000 draws: the frequency of every path lies within five standard errors."""
    model = draw(5, n=2)
    xs = XS[:4, 0]
    truth = Enumeration(*map(np.asarray, model[:2]), evidence_of(model, xs))
    keys = jax.random.split(jax.random.key(0), 40_000)
    states = np.asarray(jax.vmap(lambda key: hmm.sample_paths(model, key, xs, engine=engine))(keys))
    frequency = np.bincount(states @ (2 ** np.arange(4)[::-1]), minlength=16) / len(keys)
    p = np.exp(truth.scores - truth.log_likelihood)
    np.testing.assert_array_less(np.abs(frequency - p), 5 * np.sqrt(p * (1 - p) / len(keys)) + 1e-9)


def test_samples_follow_the_model():
    model = draw(6, n=3, v=4)
    states, xs = map(np.asarray, hmm.sample(model, jax.random.key(1), 4, (30_000,)))
    initial, transition, emission = (np.exp(np.asarray(p)) for p in model)
    np.testing.assert_allclose(np.bincount(states[0], minlength=3) / 30_000, initial, atol=0.015)
    moves = np.zeros((3, 3))
    np.add.at(moves, (states[:-1], states[1:]), 1)
    np.testing.assert_allclose(moves / moves.sum(1, keepdims=True), transition, atol=0.02)
    seen = np.zeros((3, 4))
    np.add.at(seen, (states, xs), 1)
    np.testing.assert_allclose(seen / seen.sum(1, keepdims=True), emission, atol=0.02)


# Several blocks of the associative engine, with a remainder, two batch axes, a sequence that ends early, long holes.
LONG = 3 * 32 + 7
RNG = np.random.default_rng(0)
LONG_XS = RNG.integers(-1, V, (LONG, 2, 2))
LONG_MASK = RNG.random((LONG, 2, 2)) > 0.3
LONG_MASK[20:90, 0, 1] = False
LONG_MASK[40:, 1, 0] = False
LONG_MASK[:, 1, 1] = False


@functools.partial(jax.jit, static_argnums=1)
def everything(model, engine):
    options = {"mask": LONG_MASK, "engine": engine}
    return (
        hmm.backward(model, LONG_XS, **options),
        hmm.posterior(model, LONG_XS, **options),
        hmm.expected_counts(model, LONG_XS, **options),
        hmm.viterbi(model, LONG_XS, **options),
        hmm.sample_paths(model, jax.random.key(4), LONG_XS, **options),
        hmm.forward(model, LONG_XS, engine=engine),  # no mask: the last block is shorter than the others
        hmm.viterbi(model, LONG_XS, engine=engine),
    )


def test_parallel_equals_sequential(model):
    results = [everything(model, engine) for engine in ENGINES]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **TIGHT), *results)


def test_parallel_gradients_equal_sequential(model):
    """Across blocks, with masks: what the linear products compute is differentiated as logarithms."""

    @functools.partial(jax.jit, static_argnums=1)
    @jax.grad
    def gradient(model, engine):
        found = hmm.forward(model, LONG_XS, mask=LONG_MASK, engine=engine)
        weights = jnp.cos(jnp.arange(found.log_filtered.size, dtype=float)).reshape(found.log_filtered.shape)
        return found.log_likelihood.sum() + (weights * jnp.exp(found.log_filtered)).sum()

    results = [gradient(model, engine) for engine in ENGINES]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **TIGHT), *results)


def test_plain_probabilities_run_where_they_are_exact(model):
    """Messages without zeros need no logarithms, whatever is masked; nor do whole blocks if the model has none."""
    dense = bool(np.isfinite(model.log_transition).all() and np.isfinite(model.log_emission).all())
    n = model.log_initial.size
    evidence = model.evidence(jnp.asarray(LONG_XS)).reshape(LONG, -1, n)
    mask = jnp.asarray(LONG_MASK).reshape(LONG, -1)
    start = jnp.broadcast_to(model.log_initial, evidence.shape[1:])
    sums, prefixes = hmm.messages._linear_sums, hmm.messages._linear_prefixes
    assert sums(start, model.log_transition, evidence, mask)[1]
    for hidden in (mask, None):
        blocks = None if hidden is None else hmm.messages.in_blocks(hidden)
        _, exact = prefixes(model.log_transition, hmm.messages.in_blocks(evidence), blocks)
        assert exact == dense


def test_potentials_need_not_sum_to_one():
    """Over any potentials the likelihood is their partition function, in both engines, through masked blocks too."""
    chain = hmm.Chain(jnp.array(RNG.normal(size=3)), jnp.array(RNG.normal(size=(3, 3)) * 3))
    scores = RNG.normal(size=(LONG, 2, 2, 3))
    short = Enumeration(*map(np.asarray, chain), scores[:5, 0, 0])
    found = hmm.forward(chain, scores[:5, 0, 0]).log_likelihood
    np.testing.assert_allclose(found, short.log_likelihood, **TIGHT)
    back = hmm.backward(chain, scores[:5, 0, 0])
    np.testing.assert_allclose(back.log_messages + back.log_scale[:, None], short.backward(), **TIGHT)

    @functools.partial(jax.jit, static_argnums=0)
    def both(engine):
        f = hmm.forward(chain, scores, mask=LONG_MASK, engine=engine)
        return f.log_likelihood, hmm.backward(chain, scores, mask=LONG_MASK, engine=engine).log_scale

    values = [both(engine) for engine in ENGINES]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **TIGHT), *values)
    assert values[0][0][1, 1] == 0


def test_batch_equals_single_sequences(model):
    whole = hmm.posterior(model, LONG_XS, mask=LONG_MASK)
    one = hmm.posterior(model, LONG_XS[:, 0, 1], mask=LONG_MASK[:, 0, 1])
    np.testing.assert_allclose(whole.log_marginals[:, 0, 1], one.log_marginals, **TIGHT)
    np.testing.assert_allclose(whole.log_likelihood[0, 1], one.log_likelihood, **TIGHT)
    mapped = jax.vmap(lambda x, m: hmm.posterior(model, x, mask=m).log_marginals, 1, 1)
    np.testing.assert_allclose(whole.log_marginals[:, 0], mapped(LONG_XS[:, 0], LONG_MASK[:, 0]), **TIGHT)


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
    chain = hmm.Chain(jnp.array(initial, jnp.float32), jnp.array(transition, jnp.float32))
    xs = jnp.array(evidence, jnp.float32)
    filtered, total = reference(*(np.asarray(p, np.float64) for p in (*chain, xs)))
    found = hmm.forward(chain, xs, engine=engine)
    assert found.log_filtered.dtype == jnp.float32
    np.testing.assert_allclose(found.log_filtered, filtered, rtol=3e-6, atol=3e-4)
    np.testing.assert_allclose(found.log_likelihood, total, rtol=1e-6)
    marginals = hmm.posterior(chain, xs, engine=engine).log_marginals
    np.testing.assert_allclose(np.exp(np.asarray(marginals)).sum(-1), 1, rtol=1e-5)
    path = hmm.viterbi(chain, xs, engine=engine)
    double = hmm.viterbi(jax.tree.map(lambda p: p.astype(jnp.float64), chain), xs.astype(jnp.float64))
    np.testing.assert_array_equal(path.states, double.states)


def test_zero_prior_in_float32_is_exact():
    """Prior (1, 0) and log-likelihoods (-250, -50): the posterior is (1, 0) and the likelihood exp(-250)."""
    chain = hmm.Chain(jnp.array([0.0, -jnp.inf], jnp.float32), jnp.zeros((2, 2), jnp.float32))
    found = hmm.forward(chain, jnp.array([[-250.0, -50.0]], jnp.float32))
    assert found.log_likelihood == -250
    assert found.log_filtered.tolist() == [[0.0, -np.inf]]


@pytest.mark.parametrize("engine", ["scan", pytest.param("associative", marks=pytest.mark.slow)])
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


@pytest.mark.parametrize("engine", ENGINES)
def test_gradients(model, engine):
    """Expected counts are the gradient; every output has the derivatives of finite differences, both modes."""
    sparse = jax.tree.map(lambda p: jnp.maximum(p, -20.0), model)  # finite differences need finite numbers
    weights = jax.random.normal(jax.random.key(0), (*XS.shape, N))

    @jax.jit
    def f(model):
        forward = hmm.forward(model, XS, mask=MASK, engine=engine)
        outputs = (
            forward.log_filtered,
            hmm.backward(model, XS, mask=MASK, engine=engine).log_messages,
            hmm.posterior(model, XS, mask=MASK, engine=engine).log_marginals,
        )
        return forward.log_likelihood.sum() + sum((weights * jnp.exp(x)).sum() for x in outputs)

    check_grads(f, (sparse,), order=1, modes=["fwd", "rev"], atol=1e-6, rtol=1e-6)
    (counts,) = infer(("expected_counts",), model, XS, MASK, engine)
    gradient = jax.jit(jax.grad(lambda m: hmm.forward(m, XS, mask=MASK, engine=engine).log_likelihood.sum()))(model)
    np.testing.assert_allclose(gradient.log_transition, counts.transition, **TIGHT)
    symbols = np.stack([counts.states[(v == XS) & MASK].sum(0) for v in range(V)], 1)
    np.testing.assert_allclose(gradient.log_emission, symbols, **TIGHT)


def test_second_derivatives():
    model = draw(9, n=3)
    gradient = jax.jit(jax.grad(lambda m: hmm.forward(m, XS[:, 0]).log_likelihood))
    check_grads(gradient, (model,), order=1, modes=["rev"], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_impossible_observations(engine):
    """Log-likelihood -inf, no NaN in any value or gradient; the possible sequence beside it is untouched."""
    model = hmm.from_probabilities([1, 0], [[0.5, 0.5], [0, 1]], [[1, 0, 0], [0, 0.5, 0.5]])
    xs = np.array([[0, 0], [1, 1], [0, 2]] + [[1, 2]] * 40)  # state 1 cannot go back to emit symbol 0

    def run(model):
        forward = hmm.forward(model, xs, engine=engine)
        if engine == "associative":
            return forward, None, None, np.array([-np.inf])
        return forward, hmm.backward(model, xs), hmm.posterior(model, xs), hmm.viterbi(model, xs).log_prob

    def loss(model):
        result = run(model)
        return sum(jnp.where(jnp.isfinite(leaf), leaf, 0).sum() for leaf in jax.tree.leaves(result)), result

    (_, (f, b, p, best)), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(model)
    for leaf in jax.tree.leaves((f, b, p, best)):
        assert not np.isnan(leaf).any()
    for leaf in jax.tree.leaves(gradient):
        assert np.isfinite(leaf).all()
    assert f.log_likelihood[0] == -np.inf
    assert best[0] == -np.inf
    np.testing.assert_allclose(f.log_likelihood[1], hmm.forward(model, xs[:, 1]).log_likelihood, **TIGHT)
    assert np.isneginf(f.log_filtered[2:, 0]).all()
    counts = hmm.expected_counts(model, xs, engine=engine)
    assert not np.any(counts.states[:, 0])
    np.testing.assert_allclose(counts.states[:, 1].sum(-1), 1, **TIGHT)


def gaussian_evidence(model, xs):
    mean, scale = np.asarray(model.mean), np.exp(np.asarray(model.log_scale))
    each = -0.5 * ((xs[:, None] - mean) / scale) ** 2 - np.log(scale) - 0.5 * np.log(2 * np.pi)
    return np.where(np.isnan(xs)[:, None], 0, each).sum(-1)


def test_gaussian_emissions():
    """Densities by hand, components that are missing (NaN), gradients without NaN."""
    rng = np.random.default_rng(4)
    model = hmm.random_gaussian(jax.random.key(0), 3, 2)
    model = model._replace(log_scale=jnp.array(rng.normal(size=(3, 2)) * 0.3))
    xs = rng.normal(size=(5, 2))
    xs[1, 0] = xs[3] = np.nan
    truth = Enumeration(*map(np.asarray, model[:2]), gaussian_evidence(model, xs))
    np.testing.assert_allclose(hmm.forward(model, xs).log_likelihood, truth.log_likelihood, **TIGHT)
    np.testing.assert_allclose(hmm.posterior(model, xs).log_marginals, truth.marginals(), **TIGHT)
    f = lambda model: hmm.forward(model, xs).log_likelihood
    check_grads(f, (model,), order=1, modes=["rev"], atol=1e-6, rtol=1e-6)
    states, ys = hmm.sample(model, jax.random.key(1), 2, (20_000,))
    chosen = np.asarray(ys)[np.asarray(states) == 1]
    np.testing.assert_allclose(chosen.mean(0), model.mean[1], atol=0.05)
    np.testing.assert_allclose(chosen.std(0), np.exp(model.log_scale[1]), rtol=0.05)


def test_no_compilation_on_a_second_call(model):
    hmm.forward(model, XS)
    before = hmm.inference._forward._cache_size()
    hmm.forward(model, XS + 0)
    assert hmm.inference._forward._cache_size() == before


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


def test_symbols_at_masked_ticks_are_not_looked_at(model):
    xs = np.where(MASK, XS, 99)
    found, expected = hmm.forward(model, xs, mask=MASK), hmm.forward(model, XS, mask=MASK)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **TIGHT), found, expected)
    lengths = jnp.array([5, 2, 0])
    right = hmm.forward(model, XS, mask=masks.from_lengths(lengths, T)).log_likelihood
    np.testing.assert_allclose(right[1], hmm.forward(model, XS[:2, 1]).log_likelihood, **TIGHT)
    assert right[2] == 0
