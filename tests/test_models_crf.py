"""The tagger with a conditional random field behind it, against the list of all taggings."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads
from zoo import drawn

import seqjax as sj
from seqjax import models
from seqjax.hmm import crf

T, B, TAGS = 5, 3, 3
LENGTHS = (5, 3, 1)
MASK = sj.masks.from_lengths(jnp.array(LENGTHS), T)
WORDS = jax.random.randint(jax.random.key(0), (T, B), 0, 9)
TARGETS = jax.random.randint(jax.random.key(1), (T, B), 0, TAGS)
SCORES = models.tagger(9, TAGS, embedding_size=3, hidden_size=2, cell=sj.gru)
MODEL, OBJECTIVE = models.crf_tagger(SCORES, TAGS), models.crf_objective(SCORES)


@pytest.fixture(scope="module")
def params():
    return drawn(MODEL, scale=1.0)


def taggings(params, words):
    """All taggings of one sentence and their scores, from the scores of its words."""
    es = np.asarray(jax.jit(SCORES.apply)(params.scores, SCORES.initial_state(params.scores), words)[1])
    start, transition, end = map(np.asarray, params.crf)
    paths = np.array(list(itertools.product(range(TAGS), repeat=len(words))))
    totals = start[paths[:, 0]] + end[paths[:, -1]] + es[np.arange(len(words)), paths].sum(1)
    return paths, totals + transition[paths[:, :-1], paths[:, 1:]].sum(1)


@pytest.mark.slow
def test_equals_enumeration(params):
    """-ln p(tags | words) of the batch, and the best taggings, sentence by sentence without padding."""
    state = MODEL.initial_state(params, (B,))
    _, tally = jax.jit(OBJECTIVE)(params, state, sj.Batch(WORDS, TARGETS, MASK))
    _, best = jax.jit(MODEL.apply)(params, state, WORDS, mask=MASK)
    expected = 0.0
    for b, n in enumerate(LENGTHS):
        paths, totals = taggings(params, WORDS[:n, b])
        own = totals[(paths == np.asarray(TARGETS[:n, b])).all(1)].item()
        expected += np.logaddexp.reduce(totals) - own
        np.testing.assert_array_equal(best[:n, b], paths[totals.argmax()])
        assert not best[n:, b].any()
    np.testing.assert_allclose(tally.sum, expected, rtol=1e-12)
    assert tally.count == sum(LENGTHS)
    _, alone = OBJECTIVE(params, MODEL.initial_state(params), sj.Batch(WORDS[:, 0], TARGETS[:, 0]))
    paths, totals = taggings(params, WORDS[:, 0])
    own = totals[(paths == np.asarray(TARGETS[:, 0])).all(1)].item()
    np.testing.assert_allclose(alone.mean, (np.logaddexp.reduce(totals) - own) / T, rtol=1e-12)


@pytest.mark.slow
def test_gradients_reach_network_and_field_and_no_padding(params):
    state = MODEL.initial_state(params, (B,))
    padded = sj.Batch(jnp.where(MASK, WORDS, 8), jnp.where(MASK, TARGETS, -7), MASK)
    loss = jax.jit(lambda params, batch: OBJECTIVE(params, state, batch)[1].sum)
    check_grads(lambda p: loss(p, sj.Batch(WORDS, TARGETS, MASK)), (params,), order=1, modes=["rev"], rtol=1e-6)
    given, other = (jax.grad(loss)(params, batch) for batch in (sj.Batch(WORDS, TARGETS, MASK), padded))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), given, other)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(given.crf))


@pytest.mark.slow
def test_learns_what_no_single_tick_shows():
    """Words say nothing; tags alternate from a random first one: every tick alone is at chance, all together not."""
    first = jax.random.randint(jax.random.key(5), (32,), 0, 2)
    targets = (jnp.arange(6)[:, None] + first) % 2
    batch = sj.Batch(jnp.zeros((6, 32), int), targets)
    scores = sj.serial(sj.embedding(1, 2), sj.dense(2, 2))
    objective = models.crf_objective(scores)
    model, optimizer = models.crf_tagger(scores, 2), optax.adam(0.3)
    params = model.init(jax.random.key(6))
    state = model.initial_state(params, (32,))
    step, train = sj.train_step(objective, optimizer), sj.train_state(params, optimizer)
    for _ in range(60):
        train, _, metrics = step(train, state, batch)
    np.testing.assert_allclose(metrics.loss, np.log(2) / 6, rtol=0.05)  # the first tag remains unknown
    _, tags = model.apply(train.params, state, batch.xs)
    assert (tags[1:] != tags[:-1]).all()


def test_forbidden_transitions_are_never_chosen(params):
    forbidden = params.crf.transition.at[0, 1].set(-jnp.inf).at[2, 2].set(-jnp.inf)
    barred = params._replace(crf=params.crf._replace(transition=forbidden))
    words = jax.random.randint(jax.random.key(4), (40, 6), 0, 9)
    pairs = []
    for p in (params, barred):
        tags = np.asarray(MODEL.apply(p, MODEL.initial_state(p, (6,)), words)[1])
        pairs.append(set(zip(tags[:-1].ravel().tolist(), tags[1:].ravel().tolist())))
    assert {(0, 1), (2, 2)} & pairs[0]
    assert not {(0, 1), (2, 2)} & pairs[1]


@pytest.mark.slow
def test_a_target_that_is_no_tag_is_not_counted_as_another(params):
    state = MODEL.initial_state(params, (B,))
    for wrong in (-1, TAGS):
        _, tally = OBJECTIVE(params, state, sj.Batch(WORDS, TARGETS.at[0, 0].set(wrong), MASK))
        assert np.isnan(tally.sum)
    with pytest.raises(TypeError, match="log_joint: expected integers, got float64"):
        OBJECTIVE(params, state, sj.Batch(WORDS, TARGETS.astype(float), MASK))


def test_errors(params):
    state = MODEL.initial_state(params, (B,))
    reset = jnp.zeros((T, B), bool)
    with pytest.raises(ValueError, match="crf_tagger: expected one whole sequence a column, got resets inside them"):
        MODEL.apply(params, state, WORDS, reset=reset)
    with pytest.raises(ValueError, match="crf_objective: expected one whole sequence a column, got resets"):
        OBJECTIVE(params, state, sj.Batch(WORDS, TARGETS, None, reset))
    with pytest.raises(TypeError, match="crf_tagger: expected a Layer, got Cell"):
        models.crf_tagger(sj.gru(2, 2), 2)
    with pytest.raises(TypeError, match="crf_objective: expected a Layer, got Cell"):
        models.crf_objective(sj.gru(2, 2))
    with pytest.raises(ValueError, match="crf_tagger: expected tags to be a whole number of at least 1, got 0"):
        models.crf_tagger(SCORES, 0)
    other = params._replace(crf=crf.init(jax.random.key(0), TAGS + 1))
    with pytest.raises(ValueError, match="crf: expected inputs of size 4, got 3"):
        MODEL.apply(other, state, WORDS)
