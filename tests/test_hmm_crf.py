"""The conditional random field against the sum over all taggings."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from seqjax.hmm import crf

N, T, B = 3, 5, 4
RNG = np.random.default_rng(0)
PARAMS = crf.CRFParams(*(jnp.array(RNG.normal(size=s) * 2) for s in ((N,), (N, N), (N,))))
SCORES = RNG.normal(size=(T, B, N)) * 2
TAGS = RNG.integers(0, N, (T, B))
MASK = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 1, 0], [1, 0, 0, 0]], bool)
TIGHT = {"rtol": 1e-10, "atol": 1e-10}


def score(tags, scores):
    start, transition, end = map(np.asarray, PARAMS)
    total = start[tags[0]] + end[tags[-1]] + sum(s[z] for s, z in zip(scores, tags))
    return total + sum(transition[a, b] for a, b in itertools.pairwise(tags))


def all_scores(b):
    scores = SCORES[MASK[:, b], b]
    paths = np.array(list(itertools.product(range(N), repeat=len(scores))))
    return paths, np.array([score(p, scores) for p in paths])


@jax.jit
def everything(params):
    return (
        crf.log_partition(params, SCORES, mask=MASK),
        crf.log_score(params, SCORES, TAGS, mask=MASK),
        crf.loss(params, SCORES, TAGS, mask=MASK),
        crf.marginals(params, SCORES, mask=MASK),
        crf.decode(params, SCORES, mask=MASK),
        crf.top_taggings(params, SCORES, 3, mask=MASK),
        crf.log_partition(params, SCORES, mask=MASK, engine="associative"),
    )


def test_equals_enumeration():
    partition, given, loss, marginals, best, several, parallel = everything(PARAMS)
    for b in range(B):
        real = MASK[:, b]
        paths, scores = all_scores(b)
        log_z = np.logaddexp.reduce(scores)
        np.testing.assert_allclose([partition[b], parallel[b]], log_z, **TIGHT)
        expected = score(TAGS[real, b], SCORES[real, b])
        np.testing.assert_allclose(given[b], expected, **TIGHT)
        np.testing.assert_allclose(loss[b], log_z - expected, **TIGHT)
        p = np.exp(scores - log_z)
        truth = [[p[paths[:, t] == z].sum() for z in range(N)] for t in range(real.sum())]
        np.testing.assert_allclose(np.exp(marginals[real, b]), truth, **TIGHT)
        order = np.argsort(-scores)[:3]
        np.testing.assert_array_equal(best.states[real, b], paths[order[0]])
        np.testing.assert_allclose(best.log_prob[b], scores[order[0]], **TIGHT)
        np.testing.assert_allclose(several.log_prob[b][: len(order)], scores[order], **TIGHT)
        np.testing.assert_array_equal(several.states[real, b][:, : len(order)], paths[order].T)


def test_gradients():
    loss = jax.jit(lambda params, scores: crf.loss(params, scores, TAGS, mask=MASK).sum())
    check_grads(loss, (PARAMS, jnp.array(SCORES)), order=1, modes=["fwd", "rev"], atol=1e-6, rtol=1e-6)
    padded = jnp.where(MASK[..., None], SCORES, jnp.nan)
    gradient = jax.jit(jax.grad(loss))
    pair = gradient(PARAMS, padded), gradient(PARAMS, jnp.array(SCORES))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **TIGHT), *pair)


def test_forbidden_transitions():
    """A transition of -inf never occurs in a decoding, and its gradient is zero, not NaN."""
    params = PARAMS._replace(transition=PARAMS.transition.at[0, 1].set(-jnp.inf))
    path = np.asarray(crf.decode(params, SCORES, mask=np.ones_like(MASK)).states)
    assert not ((path[:-1] == 0) & (path[1:] == 1)).any()
    tags = np.where(TAGS == 1, 2, TAGS)
    gradient = jax.grad(lambda p: crf.loss(p, SCORES, tags).sum())(params)
    assert all(np.isfinite(leaf).all() for leaf in gradient)
    assert gradient.transition[0, 1] == 0


@pytest.mark.parametrize("engine", ["scan", "associative"])
def test_expectations_that_probabilities_cannot_hold(engine):
    """In float32, a tag that nothing leads to but by e⁻¹⁵⁰, and whose score makes up for it."""
    params = PARAMS._replace(transition=PARAMS.transition.at[:, 2].add(-150))
    scores = jnp.array(SCORES).at[2, :, 2].add(150)
    gradient = jax.jit(jax.grad(lambda p, scores: crf.log_partition(p, scores, mask=MASK, engine=engine).sum(), (0, 1)))
    rounded = jax.tree.map(lambda x: x.astype(jnp.float32), (params, scores))
    pair = gradient(*rounded), gradient(params, scores)
    assert pair[1][0].transition[:, 2].sum() > 0.1
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=3e-4), *pair)


def test_impossible_taggings():
    """A tagging that a score of -inf forbids has an infinite loss and no gradient, even where all are forbidden."""
    scores, tags = SCORES[:, 0], np.zeros(T, int)
    one = PARAMS._replace(transition=PARAMS.transition.at[0, 0].set(-jnp.inf))
    for params in (one, PARAMS._replace(transition=jnp.full((N, N), -jnp.inf))):
        loss, gradient = jax.value_and_grad(lambda p: crf.loss(p, scores, tags))(params)
        assert loss == np.inf
        assert not any(np.any(leaf) for leaf in gradient)


def test_init_and_errors():
    params = crf.init(jax.random.key(0), 4, dtype=jnp.float32)
    assert [p.shape for p in params] == [(4,), (4, 4), (4,)]
    with pytest.raises(ValueError, match="crf: expected tags to be a whole number"):
        crf.init(jax.random.key(0), 0)
    with pytest.raises(ValueError, match="crf: expected inputs of size 3, got 2"):
        crf.decode(PARAMS, SCORES[..., :2])
