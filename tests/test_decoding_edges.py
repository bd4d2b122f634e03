"""Decoding at its edges: wide beams, models that allow nothing, top_p of 1, layers in reverse; many symbols."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import all_but
from small_language import EOS, FIRST, LAYER, PARAMS, V, states

import seqjax as sj
from seqjax import models
from seqjax.decoding import draws
from seqjax.models.softmax import _draw, _inclusion


def constant(params, symbols):
    """The same logits after every symbol."""
    return jnp.broadcast_to(params, (*symbols.shape, *params.shape))


@pytest.mark.parametrize("width", [V + 1, 20, 300])
def test_a_beam_may_be_wider_than_the_vocabulary(width):
    """The set of beginnings grows tick by tick; one wide enough for all of them finds what scoring them all finds."""
    length = 3
    found = sj.beam_search(LAYER, PARAMS, states(), FIRST, length=length, width=width, eos=EOS)
    others = [w for w in range(V) if w != EOS]
    grid = np.array(np.meshgrid(*[others] * length, indexing="ij")).reshape(length, -1)
    texts = [(*column[:n], EOS) for n in range(length) for column in np.unique(grid[:n], axis=1).T]
    texts += [tuple(column) for column in grid.T]
    for b, first in enumerate(FIRST.tolist()):
        padded = np.array([(*text, *[0] * (length - len(text))) for text in texts]).T
        lengths = np.array([len(text) for text in texts])
        scores = models.log_probability(LAYER, PARAMS, padded, first=first, lengths=lengths)
        best = np.sort(np.asarray(scores))[::-1][:width]
        if width > V**2:  # more than the beginnings of two symbols
            np.testing.assert_allclose(found.scores[: len(best), b], best, rtol=1e-10)
            assert np.isneginf(found.scores[len(best) :, b]).all()
        else:
            np.testing.assert_allclose(found.scores[0, b], best[0], rtol=1e-10)


@pytest.mark.parametrize("after", [0, 1])
def test_a_model_that_allows_nothing_ends_with_probability_zero(after):
    """Every logit -∞, at the first tick or later: log-probabilities are -∞, never NaN."""
    table = jnp.full((3, 3), -jnp.inf).at[:after].set(0.5).at[:, 2].add(1)
    model = sj.pointwise(lambda table, symbols: table[symbols])
    found = sj.beam_search(model, table, (), jnp.array([0, 0]), length=4, width=2, prefix=jnp.array([1])[:after])
    assert np.isneginf(found.log_probs).all()
    assert np.isneginf(found.scores).all()
    drawn = sj.sample(model, table, (), jnp.array([0, 0]), length=4, prefix=jnp.array([1])[:after])
    assert np.isneginf(drawn.log_probs).all()
    assert (drawn.lengths == after).all()
    both = sj.ensemble(model, model)
    assert np.isneginf(both.step((table, table), ((), ()), jnp.array([2]))[1]).all()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_score_and_sample_agree_at_any_offset(dtype):
    logits = (jnp.arange(6.0) * 8 + 1e8).astype(dtype)
    model = sj.pointwise(constant)
    drawn = sj.sample(model, logits, (), jnp.zeros(5, int), length=3, key=jax.random.key(0), temperature=20.0)
    scored = models.log_probability(model, logits, drawn.symbols, first=0)
    np.testing.assert_allclose(drawn.log_probs, scored, rtol=1e-6)
    logits_there = jnp.broadcast_to(logits, (3, 5, 6))
    np.testing.assert_allclose(sj.cross_entropy(logits_there, drawn.symbols).sum, -scored.sum(), rtol=1e-6)


def test_a_top_p_of_one_keeps_every_symbol():
    """In float32 the sum reaches 1 before its last terms; noise that favours the last one must still find it."""
    log_probs = jnp.log(jnp.array([[1.0, 1e-5, 1e-9, 1e-12]], jnp.float32))
    noise = jnp.array([[1.0, 1.0, 1.0, 1e-30]], jnp.float32)
    assert draws.choose(log_probs, noise, jnp.float32(1), None, jnp.float32(1)).item() == 3
    assert draws.choose(log_probs, noise, jnp.float32(1), None, jnp.float32(0.999)).item() == 0
    noise = jnp.array([[1.0, 1.0, 1e-30]], jnp.float32)
    assert draws.choose(log_probs, noise, jnp.float32(1), 3, jnp.ones(1, jnp.float32)).item() == 2


REVERSED = {
    "recurrent": sj.recurrent(sj.gru(V, V), reverse=True),
    "reverse": sj.layers.reverse(sj.recurrent(sj.gru(V, V))),
    "inside": sj.serial(sj.dense(V, V), sj.residual(sj.recurrent(sj.gru(V, V), reverse=True))),
}


@pytest.mark.parametrize("name", REVERSED)
@pytest.mark.parametrize("run", ["sample", "beam_search", "free_run", "ensemble", "scheduled_sampling"])
def test_a_layer_in_reverse_is_not_decoded(name, run):
    model = sj.serial(sj.embedding(V, V), REVERSED[name])
    params = model.init(jax.random.key(0))
    state = model.initial_state(params, (2,))
    calls = {
        "sample": lambda: sj.sample(model, params, state, 0, length=2),
        "beam_search": lambda: sj.beam_search(model, params, state, 0, length=2, width=2),
        "free_run": lambda: sj.free_run(model, params, state, jnp.zeros(2, int), length=2, draw=lambda y: y.argmax(-1)),
        "ensemble": lambda: sj.ensemble(model).step((params,), (state,), jnp.zeros(2, int)),
        "scheduled_sampling": lambda: models.scheduled_sampling(
            model, params, state, jnp.zeros((3, 2), int), rate=0.5, key=jax.random.key(0)
        ),
    }
    with pytest.raises(TypeError, match=r"expected a layer that reads forwards, to be run one tick at a time, got one"):
        calls[run]()
    model.apply(params, state, jnp.zeros((3, 2), int))  # a whole chunk is another matter


def test_a_window_of_one_sees_the_present_symbol_only():
    model = models.fixed_window_model(5, 6, window=1, embedding_size=4)
    params = model.init(jax.random.key(0))
    symbols = jnp.array([[3, 1], [0, 1], [4, -1]])
    _, logits = model.apply(params, model.initial_state(params, (2,)), symbols)
    embedding, hidden, _, out = params
    x = np.where(symbols[..., None] < 0, 0, np.asarray(embedding.w)[symbols])
    wanted = np.tanh(x @ hidden.w + hidden.b) @ out.w + out.b
    np.testing.assert_allclose(logits, wanted, rtol=1e-12)


SOFTMAXES = [models.full_softmax(4, 60), models.adaptive_softmax(4, 60, (10, 30)), models.sampled_softmax(4, 60, 8)]


@pytest.mark.parametrize("softmax", all_but(SOFTMAXES, SOFTMAXES[1]), ids=repr)
def test_no_output_makes_nan_on_its_way(softmax):
    params = softmax.init(jax.random.key(0))
    hs, targets, mask = jnp.ones((3, 2, 4)), jnp.array([[0, 59], [17, 5], [31, 40]]), jnp.ones((3, 2), bool)
    with jax.debug_nans(True):
        loss = lambda p: softmax.loss(p, hs, targets, mask, jax.random.key(1)).sum
        value, slope = jax.value_and_grad(loss)(params)
        jax.block_until_ready((value, slope, softmax.log_probs(params, hs)))
    assert np.isnan(softmax.loss(params, hs, targets.at[0, 0].set(60), mask, jax.random.key(1)).sum)


@pytest.mark.parametrize("softmax", SOFTMAXES, ids=repr)
@pytest.mark.parametrize("dtype", all_but(["float16", "bfloat16", "float32"], "bfloat16"))
def test_outputs_sum_in_float32_and_keep_digits_at_an_offset(softmax, dtype):
    """Half precision rounds the operands, not the loss; a bias that all symbols share changes nothing."""
    params = jax.tree.map(lambda p: p.astype(dtype), softmax.init(jax.random.key(0)))
    hs = jnp.asarray(np.random.default_rng(0).normal(size=(500, 40, 4)), dtype)
    targets = jnp.asarray(np.random.default_rng(1).integers(0, 60, (500, 40)))
    loss = jax.jit(softmax.loss)(params, hs, targets, None, jax.random.key(1))
    exact = jax.tree.map(lambda p: p.astype(jnp.float64), (params, hs))
    wanted = jax.jit(softmax.loss)(*exact, targets, None, jax.random.key(1))
    assert loss.sum.dtype == jnp.float32
    if not repr(softmax).startswith("sampled"):  # whose draws differ between types
        np.testing.assert_allclose(loss.mean, wanted.mean, rtol=1e-3 if dtype != "float32" else 1e-5)
    if hasattr(params, "b"):
        far = params._replace(b=params.b * 0 + 2.0**13)
        near = params._replace(b=params.b * 0)
        pair = [jax.jit(softmax.loss)(p, hs, targets, None, jax.random.key(1)).mean for p in (far, near)]
        np.testing.assert_allclose(*pair, rtol=1e-2 if dtype != "float32" else 1e-4)


@pytest.mark.slow
def test_many_samples_are_distinct():
    """8,192 of 9,000 in float32, where neighbouring draws may round to one place."""
    probs = jnp.asarray(_inclusion(np.log1p(1 / np.arange(1, 9_001)), 8192), jnp.float32)
    draw = jax.jit(jax.vmap(lambda key: _draw(key, probs, 8192)[0]))
    for i in range(6):
        drawn = np.sort(draw(jax.random.split(jax.random.key(3 + i), 50)), -1)
        assert (np.diff(drawn, axis=-1) > 0).all()
