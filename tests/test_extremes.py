"""Losses, norms and sums at the ends of a number's range, against NumPy in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import all_but

import seqjax as sj
from seqjax import losses, normalization

RNG = np.random.default_rng(0)
ROUNDING = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 2e-6, "float64": 1e-13}
SCALES = {
    "float16": (1e-3, 1.0, 1e4),
    "bfloat16": (1e-35, 1e-19, 1.0, 1e19, 1e38),
    "float32": (1e-30, 1e-19, 1.0, 1e19, 1e38),
    "float64": (1e-100, 1.0, 1e200, 1e308),
}
RANGES = [(dtype, scale) for dtype in SCALES for scale in SCALES[dtype]]


def at(dtype, scale, shape):
    """Numbers of that size in that type, and the same in float64, over the scale."""
    x = jnp.asarray(RNG.uniform(-1, 1, shape) * scale, dtype)
    return x, np.asarray(x, np.float64) / scale


@pytest.mark.parametrize("offset", [1e5, 1e8, -1e8])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cross_entropy_keeps_its_digits_at_any_offset(dtype, offset):
    logits = jnp.asarray(RNG.integers(-64, 64, (6, 9)) * 8.0 + offset, dtype)
    labels = jnp.asarray(RNG.integers(0, 9, 6))
    x = np.asarray(logits, np.float64) - offset
    each = np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1)) + x.max(-1) - x[np.arange(6), labels]
    np.testing.assert_allclose(sj.cross_entropy(logits, labels).sum, each.sum(), rtol=ROUNDING[dtype])
    scores = np.asarray(jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], -1))
    np.testing.assert_allclose(sj.cross_entropy(logits, labels).sum, -scores.sum(), rtol=ROUNDING[dtype])


def test_cross_entropy_of_what_a_model_rules_out_is_infinite():
    logits = jnp.array([[0.0, -jnp.inf, 0.0], [-jnp.inf] * 3])
    assert sj.cross_entropy(logits[:1], jnp.array([0])).sum == np.log(2)
    for row in (0, 1):
        assert sj.cross_entropy(logits[row : row + 1], jnp.array([1])).sum == jnp.inf
    slope = jax.grad(lambda y: sj.cross_entropy(y, jnp.array([0, 1])).sum)(logits)
    np.testing.assert_allclose(slope[0], [-0.5, 0, 0.5])
    assert np.isfinite(slope).all()


def standardised(x, epsilon):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon)


@pytest.mark.parametrize(("dtype", "scale"), RANGES)
def test_layer_norm_over_the_whole_range(dtype, scale):
    layer = sj.layer_norm(5, dtype=jnp.dtype(dtype))
    params = layer.init(jax.random.key(0))
    x, exact = at(dtype, scale, (3, 5))
    weights = jnp.asarray(RNG.normal(size=(3, 5)), dtype)
    ys = lambda x: layer.apply(params, (), x)[1]
    found, slope = jax.jit(lambda x: (ys(x), jax.vjp(ys, x)[1](weights)[0]))(x)
    with np.errstate(over="ignore"):
        epsilon = np.minimum(1e-5 / np.float64(scale) / scale, 1e300)
    wanted = standardised(exact, epsilon)
    loose = ROUNDING[dtype] * max(1e-300, np.abs(wanted).max())
    np.testing.assert_allclose(np.asarray(found, np.float64), wanted, atol=5 * loose)
    assert np.isfinite(np.asarray(slope, np.float64)).all()
    if 1e-19 <= scale <= 1e19:
        by_hand = _slope_by_hand(jnp.asarray(exact), epsilon, np.asarray(weights, np.float64))
        slope = np.asarray(slope, np.float64) * scale
        np.testing.assert_allclose(slope, by_hand, atol=20 * ROUNDING[dtype] * np.abs(by_hand).max())


def _standardised(x, epsilon):
    x = x - x.mean(-1, keepdims=True)
    return x / jnp.sqrt((x**2).mean(-1, keepdims=True) + epsilon)


@jax.jit
def _slope_by_hand(x, epsilon, weights):
    return jax.vjp(lambda x: _standardised(x, epsilon), x)[1](weights)[0]


@pytest.mark.parametrize("value", [0.0, 3.0, 1e30])
def test_layer_norm_of_equal_features_is_zero(value):
    x = jnp.full((2, 4), value, jnp.float32)
    found, pull = jax.vjp(normalization.standardize, x)
    assert not found.any()
    assert np.isfinite(pull(jnp.ones_like(x))[0]).all()


@pytest.mark.parametrize(
    "make", all_but([sj.layer_norm_elman, sj.layer_norm_lstm, sj.layer_norm_gru], sj.layer_norm_lstm)
)
@pytest.mark.parametrize("scale", all_but([1e-15, 1e15, 1e30], 1e15))
def test_layer_normalised_cells_do_not_see_the_size_of_their_inputs(make, scale):
    """From a state of zeros, with an ε that does not matter beside the inputs."""
    cell = make(3, 4, epsilon=0.0, dtype=jnp.float32)
    params = cell.init(jax.random.key(0))
    state = cell.initial_state(params, (2,))
    x = jnp.asarray(RNG.normal(size=(2, 3)), jnp.float32)

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def tick(params, x):
        y = cell.step(params, state, x)[1]
        return y.sum(), y

    ((_, here), _), ((_, there), slope) = (tick(params, x * np.float32(s)) for s in (1, scale))
    np.testing.assert_allclose(there, here, atol=2e-5)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))


@pytest.mark.parametrize(("dtype", "scale"), RANGES)
def test_weight_norm_over_the_whole_range(dtype, scale):
    layer = sj.weight_norm(sj.dense(6, 4, dtype=jnp.dtype(dtype)))
    params = layer.init(jax.random.key(0))
    v, exact = at(dtype, scale, (6, 4))
    v, exact = v.at[:, 2].set(0), exact * [1, 1, 0, 1]  # one direction of zero beside the others
    gain = jnp.asarray([2.0, 1.0, 1.0, 0.5], dtype)
    params = params._replace(layer=params.layer._replace(w=v), gain=gain)
    ys = lambda params: layer.apply(params, (), jnp.eye(6, dtype=dtype))[1]
    lengths = np.sqrt((exact**2).sum(0))
    wanted = np.asarray(gain, np.float64) * exact / np.where(lengths > 0, lengths, 1)
    found, slope = jax.jit(lambda params: (ys(params), jax.grad(lambda params: (ys(params) ** 3).sum())(params)))(
        params
    )
    np.testing.assert_allclose(np.asarray(found, np.float64), wanted, atol=2 * ROUNDING[dtype])
    if scale > 1e-30:
        assert all(np.isfinite(np.asarray(leaf, np.float64)).all() for leaf in jax.tree.leaves(slope))


@pytest.mark.parametrize(
    ("dtype", "scale"), [("bfloat16", 1e19), ("float32", 1e-30), ("float32", 3e19), ("float64", 1e160)]
)
def test_the_norm_stabiliser_compares_norms_of_any_size(dtype, scale):
    """States that turn without growing cost next to nothing, and none of it is NaN."""
    hs, h_0 = (jnp.asarray(np.array(x) * scale, dtype) for x in ([[4.0, 3.0], [0.0, 5.0]], [3.0, 4.0]))
    found, slope = jax.value_and_grad(lambda hs: sj.norm_stabiliser(hs, h_0, 1.0).sum)(hs)
    assert found <= (2 * scale * float(jnp.finfo(dtype).eps)) ** 2 * 100
    assert np.isfinite(np.asarray(slope, np.float64)).all()
    size = normalization.norm(hs[0].astype(jnp.float64))
    np.testing.assert_allclose(np.float64(size) / scale, 5, rtol=1e-2)


def test_norms_and_their_gradients():
    v = jnp.asarray(RNG.normal(size=(4, 3)))
    np.testing.assert_allclose(normalization.norm(v), np.linalg.norm(v, axis=-1), rtol=1e-14)
    np.testing.assert_allclose(
        jax.grad(lambda v: normalization.norm(v * 1e-200).sum())(v) * 1e200,
        v / np.linalg.norm(v, axis=-1, keepdims=True),
        rtol=1e-12,
    )


@pytest.mark.parametrize("dtype", all_but(["float16", "bfloat16"], "bfloat16"))
def test_sums_over_time_are_kept_in_float32(dtype):
    half = jnp.full((4000, 40), 0.5, dtype)
    assert sj.tally(half).sum == 80_000
    assert sj.tally(half, jnp.ones((4000, 40), bool)).mean == 0.5
    each = [sj.tally(half[:1])] * 4000
    assert sum(each).mean == 0.5
    assert sj.tally(jnp.arange(5)).sum == 10
    for loss in (sj.mean_squared_error, sj.multi_label_cross_entropy):
        assert loss(half[..., None], half[..., None]).sum.dtype == jnp.float32
    total = sj.norm_stabiliser(half, jnp.zeros(40, dtype), 1.0)
    np.testing.assert_allclose(total.sum, 10, rtol=1e-3)
    assert (
        losses.ctc_losses(half[..., None] * jnp.ones(3, dtype), sj.Labels(jnp.ones((1, 40), int))).dtype == jnp.float32
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_classifier_pools_in_float32(dtype):
    """The mean of 4,000 ticks, in chunks of one and at once, of numbers whose sum float16 cannot hold."""
    model = sj.models.classifier(sj.pointwise(lambda params, xs: xs), 2, 2, pool="mean")
    params = jax.tree.map(lambda p: p.astype(dtype), model.init(jax.random.key(0)))
    xs = jnp.full((4000, 2), 100.5, dtype).at[::2].set(0.5)
    state = model.initial_state(params)
    at_once, _ = jax.jit(model.apply)(params, state, xs)
    bit_by_bit, _ = jax.lax.scan(lambda s, x: (model.apply(params, s, x[None])[0], None), state, xs)
    for after in (at_once, bit_by_bit):
        np.testing.assert_allclose(after.pooled, (float(xs[0, 0]) + float(xs[1, 0])) / 2, rtol=1e-4)


def test_a_conditional_random_field_keeps_its_digits_at_any_offset():
    scores = jnp.asarray(RNG.integers(-8, 8, (5, 3)) * 8.0, jnp.float32)
    params = sj.hmm.crf.init(jax.random.key(0), 3, dtype=jnp.float32)
    loss = jax.jit(lambda scores: sj.hmm.crf.loss(params, scores, jnp.array([0, 2, 1, 1, 0])))
    here, there = (loss(scores + jnp.float32(offset)) for offset in (0, 1e8))
    np.testing.assert_allclose(there, here, rtol=1e-6)


@pytest.mark.parametrize(("dtype", "scale"), RANGES)
def test_rms_norm_over_the_whole_range(dtype, scale):
    x, exact = at(dtype, scale, (3, 5))
    with np.errstate(over="ignore"):
        epsilon = np.minimum(1e-6 / np.float64(scale) / scale, 1e300)
    wanted = exact / np.sqrt((exact**2).mean(-1, keepdims=True) + epsilon)
    found, pull = jax.vjp(normalization.rescale, x)
    loose = ROUNDING[dtype] * max(1e-300, np.abs(wanted).max())
    np.testing.assert_allclose(np.asarray(found, np.float64), wanted, atol=5 * loose)
    assert np.isfinite(np.asarray(pull(jnp.ones_like(x))[0], np.float64)).all()
