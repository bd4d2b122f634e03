"""Training: the step against plain Optax, clipping, randomness, devices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from laws import B, T, assert_close, no_compiles
from small_training import BATCH, FULL, KEY, MASK, OBJECTIVE, PARAMS, RNG, V, language_model, mean_loss, norm, start

import seqjax as sj


def test_step_equals_plain_optax():
    """Three steps with Adam behind a clip: parameters, loss, norm before the clip, and the clip rate."""
    optimizer, threshold = optax.adam(0.1), 0.33
    step = sj.train_step(OBJECTIVE, optimizer, clip=sj.clip_by_global_norm(threshold))
    train, state = sj.train_state(PARAMS, optimizer), start()
    params, opt_state = PARAMS, optimizer.init(PARAMS)
    clipped, slope = 0, jax.jit(jax.value_and_grad(mean_loss))

    @jax.jit
    def update(gradient, opt_state, params):
        with jax.numpy_dtype_promotion("standard"):
            updates, opt_state = optimizer.update(gradient, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    for n in range(3):
        value, gradient = jax.tree.map(np.asarray, slope(params, FULL, state))
        train, _, metrics = step(train, state, FULL)
        assert_close((metrics.loss, metrics.gradient_norm), (value, norm(gradient)))
        assert metrics.tally.count == MASK.sum()
        clipped += norm(gradient) > threshold
        assert bool(metrics.clipped) == (norm(gradient) > threshold)
        assert metrics.clip_rate == pytest.approx(clipped / (n + 1))
        if norm(gradient) > threshold:
            factor = threshold / norm(gradient)
            gradient = jax.tree.map(lambda g, factor=factor: factor * g, gradient)
        params, opt_state = update(gradient, opt_state, params)
        assert_close(train.params, params, rtol=1e-8, atol=1e-10)
    assert 0 < clipped < 3, "the threshold should be crossed in some steps only"
    assert train.step == 3


def test_a_sum_over_time_and_mean_over_sequences():
    """Zaremba's scale: T times the mean over ticks, for the loss and its gradient."""
    objective = OBJECTIVE
    runs = []
    for divide_by in ("count", B):
        step = sj.train_step(objective, optax.sgd(1.0), divide_by=divide_by, donate=False)
        train, _, metrics = step(sj.train_state(PARAMS, optax.sgd(1.0)), start(), BATCH)
        moved = jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), PARAMS, train.params)
        runs.append((metrics.loss, metrics.gradient_norm, moved))
    assert_close(runs[1], jax.tree.map(lambda x: T * np.asarray(x), runs[0]))


def test_nothing_real_changes_nothing():
    step = sj.train_step(OBJECTIVE, optax.sgd(1.0))
    nothing = BATCH._replace(mask=jnp.zeros((T, B), bool))
    train, _, metrics = step(sj.train_state(PARAMS, optax.sgd(1.0)), start(), nothing)
    assert_close(train.params, PARAMS, rtol=0, atol=0)
    assert metrics.loss == 0


GRADIENT = {"a": jnp.array([[3.0, -1.0], [0.5, 2.0]]), "b": jnp.array([-4.0, 0.1])}


def clipped_by(clip, gradient=GRADIENT, params=None):
    params = jax.tree.map(jnp.ones_like, gradient) if params is None else params
    return clip.update(gradient, clip.init(params), params)[0]


@pytest.mark.parametrize("clip", [sj.clip_by_global_norm, optax.clip_by_global_norm])
def test_clip_by_global_norm(clip):
    """G ← η g/‖g‖ if ‖g‖ > η, else g, unchanged to the bit."""
    size = norm(GRADIENT)
    assert_close(clipped_by(clip(1.5)), jax.tree.map(lambda g: 1.5 * g / size, GRADIENT))
    assert_close(clipped_by(clip(size * (1 + 1e-12))), GRADIENT, rtol=0, atol=0)


def test_clip_at_the_threshold_is_unchanged_to_the_bit():
    rng = np.random.default_rng(0)
    for _ in range(50):
        gradient = jnp.array(rng.normal(size=3), jnp.float32)
        clip = sj.clip_by_global_norm(float(optax.tree.norm(gradient)))
        assert np.array_equal(clipped_by(clip, gradient), gradient)


def test_clip_by_value_and_adaptive_are_reported():
    """Both are Optax's; the step says whether they changed the gradient, and its norm before."""
    gradient = jax.jit(jax.grad(mean_loss))(PARAMS, BATCH, start())
    largest = max(float(jnp.abs(g).max()) for g in jax.tree.leaves(gradient))

    def stepped(clip):
        step = sj.train_step(OBJECTIVE, optax.sgd(1.0), clip=clip)
        train, _, metrics = step(sj.train_state(PARAMS, optax.sgd(1.0)), start(), BATCH)
        assert_close(metrics.gradient_norm, norm(gradient))
        return jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), PARAMS, train.params), bool(metrics.clipped)

    moved, clipped = stepped(optax.clip(largest / 2))
    assert clipped
    assert_close(moved, jax.tree.map(lambda g: np.clip(g, -largest / 2, largest / 2), gradient))
    moved, clipped = stepped(optax.clip(largest))
    assert not clipped
    assert_close(moved, gradient)
    # Brock et al. (2021): each unit's gradient has at most .01 times the norm of its weights
    moved, clipped = stepped(optax.adaptive_grad_clip(0.01))
    assert clipped
    g, w = np.asarray(gradient[3].w), np.asarray(PARAMS[3].w)
    assert_close(moved[3].w, g * np.minimum(1, 0.01 * np.sqrt((w**2).sum(0)) / np.sqrt((g**2).sum(0))))


def test_donation_keeps_what_the_caller_owns():
    step = sj.train_step(OBJECTIVE, optax.adam(0.1))
    train, state = sj.train_state(PARAMS, optax.adam(0.1), key=KEY), start()
    after, _, _ = step(train, state, BATCH)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(train.params))
    for kept in (PARAMS, state, KEY, after):
        assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(kept))
    again = sj.train_step(OBJECTIVE, optax.adam(0.1), donate=False)
    again(after, state, BATCH)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(after))


def test_second_step_compiles_nothing():
    for devices in (None, 1):
        step = sj.train_step(OBJECTIVE, optax.adam(0.1), devices=devices)
        train, state = sj.train_state(PARAMS, optax.adam(0.1), key=KEY), start()
        train, state, _ = step(train, state, BATCH)
        train, state, _ = step(train, state, BATCH)
        with no_compiles():
            step(train, state, BATCH)


def test_devices_share_the_batch():
    """Two host devices against one: the counts of real ticks differ between the halves."""
    mask = jnp.concatenate([MASK[:, :2], MASK[:, :1], jnp.ones((T, 1), bool)], axis=1)
    wide = sj.Batch(RNG.integers(0, V, (T, 4)), RNG.integers(0, V, (T, 4)), mask)
    optimizer, objective = optax.adam(0.1), OBJECTIVE
    runs = []
    for devices in (None, 2):
        step = sj.train_step(objective, optimizer, clip=sj.clip_by_global_norm(0.1), devices=devices)
        train, state = sj.train_state(PARAMS, optimizer), start(batch=4)
        for _ in range(2):
            train, state, metrics = step(train, state, wide)
        runs.append((train, state, metrics))
    assert len(runs[1][1][2].h.sharding.device_set) == 2
    assert_close(runs[0], runs[1], rtol=1e-9, atol=1e-11)


def test_devices_draw_apart():
    model = language_model(sj.gru(3, 4), dropout=0.5)
    params = jax.jit(model.init)(KEY)
    same = sj.Batch(np.zeros((T, 2), int), np.zeros((T, 2), int))
    seen = []

    def loss(ys, targets, mask):
        jax.debug.callback(lambda y: seen.append(np.asarray(y)), ys)
        return sj.cross_entropy(ys, targets, mask)

    step = sj.train_step(sj.objective(model, loss), optax.sgd(0.0), devices=2)
    step(sj.train_state(params, optax.sgd(0.0), key=KEY), start(model, params, 2), same)
    jax.effects_barrier()
    assert len(seen) == 2
    assert np.abs(seen[0] - seen[1]).max() > 1e-3


# Randomness


def test_keys_draw_and_their_absence_does_not():
    """The step's key changes with the step; what the state brings along is redrawn only if asked."""
    model = language_model(sj.zoneout(sj.lstm(3, 4), 0.5), dropout=0.5)
    params = jax.jit(model.init)(KEY)
    state, noisy = start(model, params), start(model, params, key=KEY)

    def sums(model, redraw, state, keys):
        objective = jax.jit(sj.objective(model, sj.cross_entropy, redraw=redraw))
        return [float(objective(params, state, BATCH, key)[1].sum) for key in keys]

    a, b = jax.random.split(KEY)
    assert len(set(sums(model, True, state, [None, None]))) == 1
    assert len(set(sums(model, True, noisy, [a, a, b]))) == 2
    quiet = language_model(sj.zoneout(sj.lstm(3, 4), 0.5))
    assert len(set(sums(quiet, True, noisy, [a, b]))) == 2
    assert len(set(sums(quiet, False, noisy, [a, b]))) == 1
    step = sj.train_step(sj.objective(model, sj.cross_entropy), optax.sgd(0.0))
    train = sj.train_state(params, optax.sgd(0.0), key=KEY)
    train, _, first = step(train, noisy, BATCH)
    _, _, second = step(train, noisy, BATCH)
    assert first.loss != second.loss
