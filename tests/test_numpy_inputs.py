"""NumPy's own dtypes, int64 and float64, where JAX has 32 bits: no warning, and the values of a JAX array."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from laws import assert_close
from marks import all_but

import seqjax as sj
from seqjax import hmm

T = 5
LAYERS = {
    "embedding": sj.embedding(5, 4),
    "one_hot": sj.pointwise(lambda _, x: jax.nn.one_hot(x, 5)),
    "reverse": sj.layers.reverse(sj.embedding(5, 4)),
    "memoryless": sj.recurrent(sj.stack(sj.memoryless(lambda w, x: w[x], lambda key: jnp.ones((5, 3))), sj.gru(3, 4))),
    "layer_norm": sj.layer_norm(5),
    "lstm": sj.recurrent(sj.lstm(5, 4)),
    "conv": sj.causal_conv(5, 2, width=2),
    "attention": sj.layers.windowed_attention(5, 1, 3, rotary=False),
}
FLOATS = ("layer_norm", "lstm", "conv", "attention")
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def as_most_users_run_it():
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.parametrize("batch", all_but([(), (2,)], ()), ids=["single", "batch"])
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name, batch):
    """With a mask, lengths or nothing; eagerly, and as constants of a jitted function."""
    layer = LAYERS[name]
    params = layer.init(jax.random.key(0))
    state = layer.initial_state(params, batch)
    xs = RNG.normal(size=(T, *batch, 5)) if name in FLOATS else RNG.integers(0, 5, (T, *batch))
    assert xs.dtype.itemsize == 8
    mask = np.arange(T).reshape(T, *[1] * len(batch)) < np.full(batch, 3)
    for ticks in ({}, {"mask": mask}, {"lengths": np.full(batch, 3)}):
        expected = layer.apply(params, state, jnp.asarray(xs), **ticks)
        assert_close(layer.apply(params, state, xs, **ticks), expected, rtol=1e-6, atol=1e-6)
        assert_close(jax.jit(lambda p: layer.apply(p, state, xs, **ticks))(params), expected, rtol=1e-6, atol=1e-6)  # noqa: B023


@pytest.mark.parametrize("batch", [(), (2,)], ids=["single", "batch"])
def test_masks(batch):
    """Of states too, which a user may count in NumPy's integers."""
    mask = np.arange(T).reshape(T, *[1] * len(batch)) < np.full(batch, 3)
    xs = RNG.integers(0, 5, (T, *batch))
    x, state = sj.masks.first_pair(mask, xs, np.full(batch, 7))
    np.testing.assert_array_equal(x, xs[0])
    np.testing.assert_array_equal(state, np.full(batch, 7))
    x, state = sj.masks.first_pair(mask, xs * 0.5, np.full(batch, 0.5), reverse=True)
    np.testing.assert_array_equal(x, xs[2] * 0.5)
    np.testing.assert_array_equal(sj.masks.reverse(xs, mask=mask)[:3], xs[2::-1])
    np.testing.assert_array_equal(sj.masks.hold(mask, xs)[3:], np.stack([xs[2]] * 2))
    assert not sj.masks.zero(mask, xs)[3:].any()


@pytest.mark.slow
def test_targets_and_observations():
    """Losses, a step of training on a Batch of NumPy arrays, and inference."""
    xs, mask = RNG.integers(0, 5, (T, 2)), np.arange(T)[:, None] < np.array([5, 3])
    logits = RNG.normal(size=(T, 2, 5))
    for m in (None, mask):
        np.testing.assert_allclose(
            sj.cross_entropy(logits, xs, m).sum, sj.cross_entropy(jnp.asarray(logits), jnp.asarray(xs), m).sum
        )
        assert sj.multi_label_cross_entropy(logits, (logits > 0).astype(int), m).sum > 0
        assert sj.mean_squared_error(logits, logits + 1, m).mean == pytest.approx(1, rel=1e-6)
        assert sj.ctc(logits, sj.Labels(np.ones((2, 2), int)), m).count == 4
    model = hmm.random(jax.random.key(0), 3, 5)
    for infer in (hmm.posterior, hmm.viterbi):
        assert_close(infer(model, xs, mask=mask), infer(model, jnp.asarray(xs), mask=mask))
    model = sj.serial(sj.embedding(5, 4), sj.recurrent(sj.gru(4, 4)), sj.dense(4, 5))
    params = model.init(jax.random.key(0))
    step = sj.train_step(sj.objective(model, sj.cross_entropy), optax.sgd(0.1))
    for ticks in ({"mask": mask}, {"lengths": np.array([5, 3])}):
        train = sj.train_state(params, optax.sgd(0.1))
        assert step(train, model.initial_state(params, (2,)), sj.Batch(xs, xs, **ticks))[2].tally.count == 8
