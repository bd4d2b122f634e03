"""Losses against NumPy and PyTorch, their masks, and how they add up."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import MASKS, B, T, assert_close

import seqjax as sj

pytestmark = pytest.mark.usefixtures("equal_ranks")

V = 5
MASK = MASKS["holes"]
RNG = np.random.default_rng(0)
LOGITS = jnp.array(RNG.normal(size=(T, B, V)) * 3)
LABELS = jnp.array(RNG.integers(0, V, (T, B)))
TARGETS = jnp.array(RNG.random((T, B, V)))


def by_hand_cross_entropy(logits, labels):
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return -np.log(np.take_along_axis(p, np.asarray(labels)[..., None], -1)[..., 0])


def by_hand_multi_label(logits, targets):
    p = 1 / (1 + np.exp(-logits))
    return -(targets * np.log(p) + (1 - targets) * np.log(1 - p)).sum(-1)


LOSSES = {
    "cross_entropy": (sj.cross_entropy, by_hand_cross_entropy, LABELS),
    "mean_squared_error": (sj.mean_squared_error, lambda p, t: ((p - t) ** 2).mean(-1), TARGETS),
    "multi_label_cross_entropy": (sj.multi_label_cross_entropy, by_hand_multi_label, TARGETS),
}


@pytest.mark.parametrize("name", LOSSES)
def test_loss_by_hand(name):
    loss, by_hand, targets = LOSSES[name]
    losses = by_hand(np.asarray(LOGITS), np.asarray(targets))
    assert_close(loss(LOGITS, targets), sj.Tally(losses.sum(), np.array(T * B)))
    assert_close(loss(LOGITS, targets, MASK), sj.Tally(losses[MASK].sum(), np.array(MASK.sum())))
    assert_close(loss(LOGITS, targets, MASK).mean, losses[MASK].mean())


@pytest.mark.parametrize("name", LOSSES)
def test_masked_ticks_are_never_looked_at(name):
    """NaN outputs and impossible targets behind the mask change neither value nor gradient."""
    loss, _, targets = LOSSES[name]
    bad = jnp.where(MASK[..., None], LOGITS, jnp.nan)
    mask, other = (MASK, -100) if targets is LABELS else (MASK[..., None], jnp.nan)
    bad_targets = jnp.where(mask, targets, other)
    gradient = jax.jit(jax.value_and_grad(lambda y, t: loss(y, t, MASK).mean))
    value, slope = gradient(bad, bad_targets)
    good_value, good_slope = gradient(LOGITS, targets)
    assert_close((value, slope), (good_value, good_slope))
    assert not slope[~MASK].any()


@pytest.mark.parametrize("name", LOSSES)
def test_tallies_of_chunks_add_up(name):
    loss, _, targets = LOSSES[name]
    parts = [loss(LOGITS[part], targets[part], MASK[part]) for part in (slice(3), slice(3, None))]
    assert_close(jax.tree.map(jnp.add, *parts), loss(LOGITS, targets, MASK))


def test_tallies_add_as_sums_and_counts():
    """Not as tuples, which would be joined."""
    one, two = sj.Tally(jnp.array(6.0), jnp.array(4)), sj.Tally(jnp.array(1.0), jnp.array(3))
    assert_close(one + two, sj.Tally(jnp.array(7.0), jnp.array(7)))
    assert_close(sum([one, two, two]), sj.Tally(jnp.array(8.0), jnp.array(10)))
    assert sum([one]) is one
    for other in (1, (1.0, 2), None):
        with pytest.raises(TypeError, match=r"Tally: expected a Tally, got .*\. Add tallies only"):
            one + other


def test_losses_equal_torch():
    torch = pytest.importorskip("torch")
    logits = torch.tensor(np.asarray(LOGITS), requires_grad=True)
    flat = torch.where(torch.tensor(np.asarray(MASK)), torch.tensor(np.asarray(LABELS)), -100).flatten()
    theirs = torch.nn.functional.cross_entropy(logits.reshape(-1, V), flat, ignore_index=-100)
    theirs.backward()
    value, gradient = jax.value_and_grad(lambda y: sj.cross_entropy(y, LABELS, MASK).mean)(LOGITS)
    assert_close((value, gradient), (theirs.detach().numpy(), logits.grad.numpy()))
    theirs = torch.nn.functional.binary_cross_entropy_with_logits(
        logits.detach(), torch.tensor(np.asarray(TARGETS)), reduction="none"
    )
    assert_close(sj.multi_label_cross_entropy(LOGITS, TARGETS).sum, theirs.sum().numpy())


def test_large_logits_stay_finite():
    logits = jnp.array([[1e4, -1e4]])
    assert sj.cross_entropy(logits, jnp.array([1])).sum == 2e4
    assert sj.multi_label_cross_entropy(logits, jnp.array([[0, 1]])).sum == 2e4


def test_labels_that_do_not_exist_are_loud():
    for label in (-1, V):
        assert jnp.isnan(sj.cross_entropy(LOGITS, LABELS.at[0, 0].set(label)).sum)


def test_nothing_counted_means_zero():
    nothing = sj.cross_entropy(LOGITS, LABELS, jnp.zeros((T, B), bool))
    assert nothing.mean == 0
    assert nothing.count == 0


def test_sums_are_kept_in_float32():
    logits = jnp.zeros((T, 1000, 2), jnp.bfloat16)
    tally = sj.cross_entropy(logits, jnp.zeros((T, 1000), int))
    assert tally.sum.dtype == jnp.float32
    assert_close(tally.mean, np.float32(np.log(2)), rtol=1e-6, atol=0)


def test_bits_per_character():
    """A uniform guess among 2^n symbols costs n bits; words share their bits among their letters."""
    nats = sj.cross_entropy(jnp.zeros((T, B, 8)), LABELS).mean
    assert_close(sj.bits_per_character(nats), jnp.array(3.0))
    assert sj.bits_per_character(np.log(2) * 10, characters=4) == 2.5


def test_norm_stabiliser_by_hand():
    """Norms 5 | 13, 13, 10: β/3 (8² + 0² + 3²)."""
    hs = jnp.array([[5.0, 12.0], [12.0, 5.0], [6.0, 8.0]])
    tally = sj.norm_stabiliser(hs, jnp.array([3.0, 4.0]), beta=50.0)
    assert_close(tally.mean, jnp.array(50 / 3 * (64 + 0 + 9)))
    assert tally.count == 3


def test_norm_stabiliser_at_real_ticks_only():
    """Holes and padding leave value and gradient of the real ticks alone; chunks compose."""
    rng = np.random.default_rng(1)
    hs, h_0 = jnp.array(rng.normal(size=(T, B, 4))), jnp.array(rng.normal(size=(B, 4)))
    bad, mask = jnp.where(MASK[..., None], hs, jnp.nan), np.asarray(MASK)

    def by_hand(hs, h_0):
        total = 0
        for b in range(B):
            norms = [jnp.linalg.norm(h) for h in (h_0[b], *hs[mask[:, b], b])]
            total += sum((after - before) ** 2 for before, after in itertools.pairwise(norms))
        return 0.5 * total / mask.sum().astype(float)

    ours = jax.jit(jax.value_and_grad(lambda hs, h_0: sj.norm_stabiliser(hs, h_0, 0.5, MASK).mean, (0, 1)))(bad, h_0)
    assert_close(ours, jax.jit(jax.value_and_grad(by_hand, (0, 1)))(hs, h_0))

    whole = sj.norm_stabiliser(hs, h_0, 0.5)
    parts = sj.norm_stabiliser(hs[:3], h_0, 0.5), sj.norm_stabiliser(hs[3:], hs[2], 0.5)
    assert_close(jax.tree.map(jnp.add, *parts), whole)


def test_norm_stabiliser_has_a_gradient_at_zero():
    hs = jnp.zeros((3, 2)).at[1].set(1.0)
    gradient = jax.grad(lambda hs: sj.norm_stabiliser(hs, jnp.zeros(2), 1.0).mean)(hs)
    assert_close(gradient, jnp.zeros((3, 2)).at[1].set(4 / 3))


def collapsed(path):
    """Repetitions merged, then blanks dropped."""
    return tuple(x for x, _ in itertools.groupby(path) if x)


def test_ctc_sums_over_all_paths():
    """Ragged ticks and symbols, NaN in the padding, a symbol said twice; the gradient is finite there."""
    rng = np.random.default_rng(0)
    lengths, texts = np.array([5, 3, 4]), [(1, 1), (2,), (2, 1, 2)]
    logits = rng.normal(size=(5, 3, 3))
    total = 0.0
    for b, (length, text) in enumerate(zip(lengths, texts)):
        log_probs = logits[:, b] - np.log(np.exp(logits[:, b]).sum(-1, keepdims=True))
        paths = [p for p in itertools.product(range(3), repeat=length) if collapsed(p) == text]
        total -= np.log(sum(np.exp(sum(log_probs[t, k] for t, k in enumerate(path))) for path in paths))
    mask = np.arange(5)[:, None] < lengths
    symbols, said = np.full((3, 3), 9), np.arange(3)[:, None] < [len(text) for text in texts]
    for b, text in enumerate(texts):
        symbols[: len(text), b] = text
    bad = jnp.asarray(np.where(mask[..., None], logits, np.nan))
    found = jax.jit(lambda ys: sj.ctc(ys, sj.Labels(jnp.asarray(symbols), jnp.asarray(said)), jnp.asarray(mask)))
    np.testing.assert_allclose(found(bad).sum, total, rtol=1e-10)
    assert found(bad).count == 6
    gradient = np.asarray(jax.jit(jax.grad(lambda ys: found(ys).sum))(bad))
    assert np.isfinite(gradient).all()
    assert not gradient[~mask].any()
    two_axes = sj.ctc(bad[:, None], sj.Labels(symbols[:, None], said[:, None]), mask[:, None])
    np.testing.assert_allclose(two_axes.sum, total, rtol=1e-10)


@pytest.mark.parametrize("symbol", [0, 3, -1])
def test_ctc_of_no_symbol_is_nan(symbol):
    """The blank is not said, and what the model cannot say is no impossible sequence but a mistake."""
    logits, said = jnp.zeros((4, 2, 3)), jnp.array([[True, True], [True, False]])
    assert np.isfinite(sj.ctc(logits, sj.Labels(jnp.array([[1, 2], [2, symbol]]), said)).sum)
    assert np.isnan(sj.ctc(logits, sj.Labels(jnp.array([[1, 2], [symbol, 0]]), said)).sum)


ERRORS = {
    "float_labels": (
        lambda: sj.cross_entropy(LOGITS, TARGETS[..., 0]),
        TypeError,
        "cross_entropy: expected integers, got",
    ),
    "integer_logits": (
        lambda: sj.cross_entropy(LABELS[..., None], LABELS),
        TypeError,
        "cross_entropy: expected floats, got",
    ),
    "labels_shape": (
        lambda: sj.cross_entropy(LOGITS, LABELS[:, 0]),
        ValueError,
        r"cross_entropy: expected labels of shape \(7, 3\) like logits without the last axis, got",
    ),
    "targets_shape": (
        lambda: sj.mean_squared_error(LOGITS[..., :1], TARGETS[..., 0]),
        ValueError,
        r"mean_squared_error: expected targets of shape \(7, 3, 1\) like outputs, got \(7, 3\)",
    ),
    "multi_label_shape": (
        lambda: sj.multi_label_cross_entropy(LOGITS, LABELS),
        ValueError,
        r"multi_label_cross_entropy: expected targets of shape \(7, 3, 5\) like outputs, got \(7, 3\)",
    ),
    "ctc_type": (
        lambda: sj.ctc(LOGITS, sj.Labels(TARGETS[..., 0])),
        TypeError,
        "ctc: expected integers",
    ),
    "ctc_shape": (
        lambda: sj.ctc(LOGITS, sj.Labels(LABELS[:, :2])),
        ValueError,
        r"ctc: expected symbols without their first axis of shape \(3,\)",
    ),
    "ctc_mask": (
        lambda: sj.ctc(LOGITS, sj.Labels(LABELS), LABELS),
        TypeError,
        "ctc: expected mask of bool",
    ),
    "mask_type": (
        lambda: sj.cross_entropy(LOGITS, LABELS, LABELS),
        TypeError,
        "cross_entropy: expected mask of bool",
    ),
    "mask_shape": (
        lambda: sj.mean_squared_error(LOGITS, TARGETS, MASK.T),
        ValueError,
        r"mean_squared_error: expected mask \[T, \*batch\] like the leading.* got \(3, 7\)",
    ),
    "norms": (
        lambda: sj.norm_stabiliser(LOGITS, LOGITS, 1.0),
        ValueError,
        r"norm_stabiliser: expected h_0 of shape \(3, 5\) like hs without the first axis, got \(7, 3, 5\)",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_bad_input_is_told(name):
    call, kind, text = ERRORS[name]
    with pytest.raises(kind, match=text):
        call()
