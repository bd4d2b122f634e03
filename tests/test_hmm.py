"""Hidden Markov models against the sum over all paths, written in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from enumeration import ENGINES, MASK, TIGHT, XS, Enumeration, N, T, V, draw, evidence_of
from jax.test_util import check_grads
from marks import quick

from seqjax import hmm

pytestmark = pytest.mark.usefixtures("equal_ranks")


@pytest.fixture(scope="module", params=[False, True], ids=["dense", "zeros"])
def model(request):
    return draw(3, zeros=request.param)


@pytest.fixture(scope="module")
def truths(model):
    args = np.asarray(model.log_initial), np.asarray(model.log_transition)
    return [Enumeration(*args, evidence_of(model, XS[MASK[:, b], b])) for b in range(3)]


def arrays(tree):
    return jax.tree.map(np.asarray, tree)


@functools.partial(jax.jit, static_argnums=(0, 4))
def results(functions, model, xs, mask, engine):
    return [getattr(hmm, name)(model, xs, mask=mask, engine=engine) for name in functions]


def infer(*args):
    """Several results from one compilation, which is what these tests spend their time on."""
    return arrays(results(*args))


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
            assert not np.any(masked[~real, i])
    np.testing.assert_allclose(c.transition, sum(t.transitions() for t in truths), **TIGHT)
    np.testing.assert_allclose(c.initial, sum(np.exp(t.marginals()[0]) for t in truths), **TIGHT)
    np.testing.assert_allclose(c.log_likelihood, f.log_likelihood, **TIGHT)
    np.testing.assert_allclose(hmm.log_joint(model, z.states, XS, mask=MASK), z.log_prob, **TIGHT)


@functools.partial(jax.jit, static_argnums=3)
def small(model, xs, mask, engine):
    options = {"mask": mask, "engine": engine}
    found = [function(model, xs, **options) for function in (hmm.forward, hmm.posterior, hmm.viterbi)]
    return *found, hmm.forward(model, xs[:1, 0], engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("states", quick([1, 2, 5], 1, 2))
def test_every_small_size_equals_enumeration(states, engine):
    """T from 1 to 5 and N of 1, 2 and 5 (4 is above): likelihood, filtering, smoothing, best path, right padding."""
    model = draw(10 + states, n=states)
    lengths = np.arange(1, 6)
    mask = np.arange(T)[:, None] < lengths
    xs = np.random.default_rng(states).integers(-1, V, (T, 5))
    f, p, z, one = arrays(small(model, xs, mask, engine))
    for i, length in enumerate(lengths):
        truth = Enumeration(*map(np.asarray, model[:2]), evidence_of(model, xs[:length, i]))
        np.testing.assert_allclose(f.log_likelihood[i], truth.log_likelihood, **TIGHT)
        np.testing.assert_allclose(f.log_filtered[:length, i], truth.filtered(), **TIGHT)
        np.testing.assert_allclose(p.log_marginals[:length, i], truth.marginals(), **TIGHT)
        (path,), (score,) = truth.best(1)
        np.testing.assert_allclose(z.log_prob[i], score, **TIGHT)
        np.testing.assert_array_equal(z.states[:length, i], path)
    np.testing.assert_allclose(one.log_likelihood, f.log_likelihood[0], **TIGHT)


def test_top_paths_equal_enumeration(model, truths):
    k = 20
    found = arrays(hmm.top_paths(model, XS, k, mask=MASK))
    assert found.states.shape == (T, 3, k)
    for i, truth in enumerate(truths):
        paths, scores = truth.best(k)
        possible = np.isfinite(scores)
        rest = k - len(scores)
        log_prob = found.log_prob[i]
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
        hmm.expected_counts(model, LONG_XS, **options),  # what the posterior says is among them
        hmm.viterbi(model, LONG_XS, **options),
        hmm.sample_paths(model, jax.random.key(4), LONG_XS, **options),
        hmm.forward(model, LONG_XS, engine=engine),  # no mask: the last block is shorter than the others
        hmm.viterbi(model, LONG_XS, engine=engine),
    )


@pytest.mark.slow
def test_parallel_equals_sequential(model):
    results = [everything(model, engine) for engine in ENGINES]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **TIGHT), *results)


@functools.partial(jax.jit, static_argnums=1)
@jax.grad
def long_gradient(model, engine):
    found = hmm.forward(model, LONG_XS, mask=LONG_MASK, engine=engine)
    weights = jnp.cos(jnp.arange(found.log_filtered.size, dtype=float)).reshape(found.log_filtered.shape)
    return found.log_likelihood.sum() + (weights * jnp.exp(found.log_filtered)).sum()


def test_parallel_gradients_equal_sequential(model):
    """Across blocks, with masks: what the linear products compute is differentiated as logarithms."""
    results = [long_gradient(model, engine) for engine in ENGINES]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **TIGHT), *results)


def test_plain_probabilities_run_where_they_are_exact(model):
    """Messages without zeros need no logarithms, whatever is masked; nor do whole blocks if the model has none."""
    dense = bool(np.isfinite(model.log_transition).all() and np.isfinite(model.log_emission).all())
    plain, with_mask, without = exact(model)
    assert plain
    assert with_mask == without == dense


@jax.jit
def exact(model):
    """Whether plain probabilities are exact: of messages, of whole blocks with a mask, and without one."""
    evidence = model.evidence(jnp.asarray(LONG_XS)).reshape(LONG, -1, model.log_initial.size)
    mask = jnp.asarray(LONG_MASK).reshape(LONG, -1)
    start = jnp.broadcast_to(model.log_initial, evidence.shape[1:])
    blocks = hmm.messages.in_blocks(evidence)
    prefixes = [
        hmm.messages._linear_prefixes(model.log_transition, blocks, hidden)[1]
        for hidden in (hmm.messages.in_blocks(mask), None)
    ]
    return hmm.messages._linear_sums(start, model.log_transition, evidence, mask)[1], *prefixes


@pytest.mark.slow
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


@jax.jit
def one_by_one(model):
    whole = hmm.posterior(model, LONG_XS, mask=LONG_MASK)
    one = hmm.posterior(model, LONG_XS[:, 0, 1], mask=LONG_MASK[:, 0, 1])
    mapped = jax.vmap(lambda x, m: hmm.posterior(model, x, mask=m).log_marginals, 1, 1)
    return whole, one, mapped(LONG_XS[:, 0], LONG_MASK[:, 0])


def test_batch_equals_single_sequences(model):
    whole, one, mapped = arrays(one_by_one(model))
    np.testing.assert_allclose(whole.log_marginals[:, 0, 1], one.log_marginals, **TIGHT)
    np.testing.assert_allclose(whole.log_likelihood[0, 1], one.log_likelihood, **TIGHT)
    np.testing.assert_allclose(whole.log_marginals[:, 0], mapped, **TIGHT)


@functools.partial(jax.jit, static_argnums=1)
def weighed(model, engine):
    """A number that every result bears on."""
    forward = hmm.forward(model, XS, mask=MASK, engine=engine)
    outputs = (
        forward.log_filtered,
        hmm.backward(model, XS, mask=MASK, engine=engine).log_messages,
        hmm.posterior(model, XS, mask=MASK, engine=engine).log_marginals,
    )
    weights = np.random.default_rng(0).normal(size=(*XS.shape, N))
    return forward.log_likelihood.sum() + sum((weights * jnp.exp(x)).sum() for x in outputs)


@functools.partial(jax.jit, static_argnums=1)
def counts_and_gradient(model, engine):
    likelihood = lambda m: hmm.forward(m, XS, mask=MASK, engine=engine).log_likelihood.sum()
    return hmm.expected_counts(model, XS, mask=MASK, engine=engine), jax.grad(likelihood)(model)


@pytest.mark.parametrize("engine", quick(ENGINES, "scan"))
def test_gradients(model, engine):
    """Expected counts are the gradient; every output has the derivatives of finite differences, both modes."""
    sparse = jax.tree.map(lambda p: jnp.maximum(p, -20.0), model)  # finite differences need finite numbers
    check_grads(lambda m: weighed(m, engine), (sparse,), order=1, modes=["fwd", "rev"], atol=1e-6, rtol=1e-6)
    counts, gradient = arrays(counts_and_gradient(model, engine))
    np.testing.assert_allclose(gradient.log_transition, counts.transition, **TIGHT)
    symbols = np.stack([counts.states[(v == XS) & MASK].sum(0) for v in range(V)], 1)
    np.testing.assert_allclose(gradient.log_emission, symbols, **TIGHT)


def test_second_derivatives():
    model = draw(9, n=3)
    gradient = jax.jit(jax.grad(lambda m: hmm.forward(m, XS[:, 0]).log_likelihood))
    check_grads(gradient, (model,), order=1, modes=["rev"], atol=1e-6, rtol=1e-6)


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
    f = jax.jit(lambda model: hmm.forward(model, xs).log_likelihood)
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
