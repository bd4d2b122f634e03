"""Connectionist temporal classification against all alignments written out, in float64."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import seqjax as sj
from seqjax import losses
from seqjax.losses.placements import Places, log_sum

pytestmark = pytest.mark.usefixtures("equal_ranks")


def collapsed(path, blank):
    """Repetitions merged, then blanks dropped."""
    return tuple(symbol for symbol, _ in itertools.groupby(path) if symbol != blank)


def by_enumeration(logits, text, blank=0):
    """Loss and gradient of one sequence ``[T, v]``: a path's share of the whole is its posterior probability."""
    logits = np.asarray(logits, np.float64)
    log_probs = logits - logits.max(-1, keepdims=True)
    log_probs = log_probs - np.log(np.exp(log_probs).sum(-1, keepdims=True))
    length, size = logits.shape
    paths = [p for p in itertools.product(range(size), repeat=length) if collapsed(p, blank) == tuple(text)]
    scores = np.array([sum(log_probs[t, k] for t, k in enumerate(path)) for path in paths])
    if not np.isfinite(scores).any():
        return np.inf, np.zeros_like(logits)
    weights = np.exp(scores - scores.max())
    gradient = np.exp(log_probs)
    for path, weight in zip(paths, weights / weights.sum()):
        gradient[np.arange(length), path] -= weight
    return -(scores.max() + np.log(weights.sum())), gradient


def columns(texts):
    longest = max(1, *(len(text) for text in texts))
    symbols, said = np.full((longest, len(texts)), 9), np.arange(longest)[:, None] < [len(text) for text in texts]
    for b, text in enumerate(texts):
        symbols[: len(text), b] = text
    return sj.Labels(jnp.asarray(symbols), jnp.asarray(said))


RNG = np.random.default_rng(0)
PLAIN = RNG.normal(size=(5, 4, 4)) * 2
RULED_OUT = PLAIN.copy()
RULED_OUT[2, :, 3] = RULED_OUT[0, 1, 2] = RULED_OUT[3, 2, 0] = -np.inf
LOGITS = {"plain": PLAIN, "ruled_out": RULED_OUT, "far": PLAIN * 1e5, "offset": PLAIN + 1e5}
TEXTS = [(1, 1), (2,), (2, 1, 2), ()]
LENGTHS = np.array([5, 3, 4, 2])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("kind", LOGITS)
def test_every_sequence_and_its_gradient_by_all_alignments(kind, dtype):
    logits = jnp.asarray(LOGITS[kind], dtype)
    mask = np.arange(5)[:, None] < LENGTHS
    padded = jnp.where(mask[..., None], logits, jnp.nan)
    by_hand = [by_enumeration(logits[:n, b], text) for b, (n, text) in enumerate(zip(LENGTHS, TEXTS))]
    found = losses.ctc_losses(padded, columns(TEXTS), jnp.asarray(mask))
    tight = 1e-12 if dtype == jnp.float64 else 3e-6
    np.testing.assert_allclose(found, [loss for loss, _ in by_hand], rtol=tight, atol=tight)
    slope = jax.jit(jax.grad(lambda ys: losses.ctc_losses(ys, columns(TEXTS), jnp.asarray(mask)).sum()))(padded)
    for b, (n, (_, gradient)) in enumerate(zip(LENGTHS, by_hand)):
        np.testing.assert_allclose(slope[:n, b], gradient, atol=1e-10 if dtype == jnp.float64 else 3e-5)
        assert not slope[n:, b].any()


@pytest.mark.parametrize("blank", [0, 1, 3])
def test_any_symbol_may_be_the_blank(blank):
    others = [symbol for symbol in range(4) if symbol != blank]
    texts = [tuple(others[i - 1] for i in text) for text in TEXTS]
    found = losses.ctc_losses(PLAIN, columns(texts), blank=blank)
    by_hand = [by_enumeration(PLAIN[:, b], text, blank)[0] for b, text in enumerate(texts)]
    np.testing.assert_allclose(found, by_hand, rtol=1e-12)
    total = sj.ctc(PLAIN, columns(texts), blank=blank)
    np.testing.assert_allclose(total.sum, np.sum(by_hand), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["too_few_ticks", "ruled_out", "nothing_allowed", "no_ticks"])
def test_what_cannot_be_said_has_no_gradient(kind):
    """Infinite, or left out of sum and count; the other sequence is as if alone."""
    logits = jnp.asarray(PLAIN[:3, :2])
    labels, mask = columns([(1, 1, 1), (1, 2)]), jnp.ones((3, 2), bool)
    if kind == "ruled_out":
        logits, labels = logits.at[:, 0, 1].set(-jnp.inf), columns([(1,), (1, 2)])
    elif kind == "nothing_allowed":
        logits, labels = logits.at[1, 0].set(-jnp.inf), columns([(1,), (1, 2)])
    elif kind == "no_ticks":
        mask = mask.at[:, 0].set(False)
    alone = sj.ctc(logits[:, 1:], columns([(1, 2)]))
    assert losses.ctc_losses(logits, labels, mask)[0] == jnp.inf
    assert sj.ctc(logits, labels, mask).sum == jnp.inf
    left_out = sj.ctc(logits, labels, mask, impossible="omitted")
    np.testing.assert_allclose(left_out, alone, rtol=1e-12)
    for impossible in ("infinite", "omitted"):
        slope = jax.grad(lambda ys, how=impossible: sj.ctc(ys, labels, mask, impossible=how).sum)(logits)
        assert not slope[:, 0].any()
        np.testing.assert_allclose(
            slope[:, 1], jax.grad(lambda ys: sj.ctc(ys, columns([(1, 2)])).sum)(logits[:, 1:])[:, 0], rtol=1e-12
        )


def test_ctc_equals_optax_where_that_is_right():
    logits, texts = RNG.normal(size=(40, 3, 6)), [(1, 2, 2, 5), (3,), (4, 4, 1, 2)]
    labels = columns(texts)
    with jax.numpy_dtype_promotion("standard"):
        theirs = optax.ctc_loss(
            logits.swapaxes(0, 1), np.zeros((3, 40)), np.where(labels.mask, labels.symbols, 0).T, 1.0 - labels.mask.T
        )
    np.testing.assert_allclose(losses.ctc_losses(logits, labels), theirs, rtol=1e-6)


@pytest.mark.slow
def test_gradients_of_gradients():
    """Of the sum of two sequences, one with a symbol ruled out."""
    logits, labels = jnp.asarray(RULED_OUT[:, :1]), columns([(1, 1)])
    finite = jnp.isfinite(logits)
    loss = lambda ys: losses.ctc_losses(jnp.where(finite, ys, -jnp.inf), labels).sum()
    hessian = jax.hessian(loss)(jnp.where(finite, logits, 0))
    step = 1e-5 * jnp.eye(logits.size)[1].reshape(logits.shape)
    start = jnp.where(finite, logits, 0)
    slopes = (jax.grad(loss)(start + step) - jax.grad(loss)(start - step)) / 2e-5
    np.testing.assert_allclose(hessian.reshape(*start.shape, -1)[..., 1], slopes, atol=1e-8)


@pytest.mark.slow
def test_gradients_of_gradients_over_padding():
    """Where a sequence ends, what lies behind in time and in symbols stays out of second derivatives too."""
    logits = jnp.asarray(PLAIN[:, :1], jnp.float32) * 40
    mask, labels = (
        jnp.arange(5)[:, None] < 3,
        sj.Labels(jnp.array([[2], [1], [1]]), jnp.array([[True], [True], [False]])),
    )
    second = jax.jit(jax.hessian(lambda ys: losses.ctc_losses(ys, labels, mask).sum()))
    alone = sj.Labels(labels.symbols[:2])
    expected = jax.jit(jax.hessian(lambda ys: losses.ctc_losses(ys, alone).sum()))(logits[:3])
    found = second(logits)
    np.testing.assert_allclose(found[:3, ..., :3, :, :], expected, atol=1e-6)
    assert not found[3:].any()
    assert not found[..., 3:, :, :].any()


def test_a_masked_tick_between_real_ones_does_not_exist():
    there = np.array([0, 1, 3, 4])
    mask = jnp.asarray(np.isin(np.arange(5), there))[:, None] & jnp.ones((5, 4), bool)
    loss = lambda ys, *mask: losses.ctc_losses(ys, columns(TEXTS), *mask).sum()
    value, slope = jax.jit(jax.value_and_grad(loss))(jnp.asarray(PLAIN), mask)
    expected, steep = jax.jit(jax.value_and_grad(loss))(jnp.asarray(PLAIN[there]))
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(slope[there], steep, atol=1e-12)
    assert not slope[2].any()


def test_long_sequences_keep_their_digits():
    """Nearly all ways are of no account: in float32 as in float64, over 600 ticks that say 12 symbols."""
    rng = np.random.default_rng(2)
    logits, symbols = 3 * rng.normal(size=(600, 2, 5)), rng.integers(1, 5, (12, 2))
    value_and_grad = jax.jit(
        jax.value_and_grad(lambda ys: losses.ctc_losses(ys, sj.Labels(jnp.asarray(symbols))).sum())
    )
    (loss, slope), (exact, steep) = (value_and_grad(jnp.asarray(logits, dtype)) for dtype in (jnp.float32, jnp.float64))
    np.testing.assert_allclose(loss, exact, rtol=1e-6)
    np.testing.assert_allclose(slope, steep, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"blank": 4}, "ctc: expected a blank from 0 to 3, got 4. Give one of the outputs."),
        ({"impossible": "zero"}, "ctc: expected impossible to be one of 'infinite', 'omitted', got 'zero'"),
    ],
)
def test_bad_options_are_told(options, text):
    with pytest.raises(ValueError, match=text):
        sj.ctc(jnp.asarray(PLAIN), columns(TEXTS), **options)


def test_expectations_over_thousands_of_ticks_add_up_to_one():
    """At every tick one place is taken: rounding does not pile up in float32."""
    weights = jax.random.normal(jax.random.key(3), (3000, 2, 601), jnp.float32)
    odd = jnp.arange(601) % 2 == 1
    places = Places(jnp.broadcast_to(odd, (2, 601)), jnp.broadcast_to(jnp.arange(601) >= 599, (2, 601)))
    expected = jax.grad(lambda w: log_sum(w, places, None).sum())(weights)
    np.testing.assert_allclose(expected.sum(-1), 1, atol=2e-5)


def test_masked_ticks_anywhere_are_no_ticks():
    """Loss and gradient of a sequence with a gap and a padded end are those of its real ticks alone."""
    logits = jax.random.normal(jax.random.key(4), (14, 1, 4))
    real = jnp.array([1, 1, 0, 1, 1, 0, 0, 1, 1, 1, 1, 1, 0, 0], bool)[:, None]
    labels = sj.Labels(jnp.array([[1], [1], [3]]), jnp.ones((3, 1), bool))
    loss = lambda x, mask: sj.losses.ctc_losses(x, labels, mask).sum()
    found, slopes = jax.value_and_grad(loss)(logits, real)
    expected, apart = jax.value_and_grad(loss)(logits[real[:, 0]], None)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(slopes[real[:, 0]], apart, atol=1e-12)
    assert not slopes[~real[:, 0]].any()
