"""Training: the step against plain Optax, clipping, truncated backpropagation, chunks, devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from laws import MASKS, RESET, B, T, assert_close, no_compiles
from zoo import perturbed

import seqjax as sj

V = 5
KEY = jax.random.key(0)
MASK = MASKS["holes"]


def language_model(cell, dropout=0.0):
    return sj.serial(sj.embedding(V, 3), sj.dropout(dropout), sj.recurrent(cell), sj.dense(4, V))


MODEL = language_model(sj.lstm(3, 4))
PARAMS = jax.jit(lambda key: perturbed(MODEL.init(key), jax.random.key(1)))(KEY)
RNG = np.random.default_rng(0)
BATCH = sj.Batch(RNG.integers(0, V, (T, B)), RNG.integers(0, V, (T, B)))
OBJECTIVE = sj.objective(MODEL, sj.cross_entropy)
FULL = BATCH._replace(mask=MASK, reset=RESET)


def start(model=MODEL, params=PARAMS, batch=B, key=None):
    return model.initial_state(params, (batch,), key=key)


def mean_loss(params, batch, state):
    """The mean loss written without the library's losses and objectives."""
    _, logits = MODEL.apply(params, state, batch.xs, mask=batch.mask, reset=batch.reset)
    picked = jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.asarray(batch.targets)[..., None], -1)[..., 0]
    mask = jnp.ones((T, B), bool) if batch.mask is None else batch.mask
    return -jnp.where(mask, picked, 0).sum() / mask.sum().astype(float)


def norm(tree):
    return np.sqrt(sum((np.asarray(leaf) ** 2).sum() for leaf in jax.tree.leaves(tree)))


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
    assert len(set(sums(model, True, state, [a, a, b]))) == 2
    quiet = language_model(sj.zoneout(sj.lstm(3, 4), 0.5))
    assert len(set(sums(quiet, True, noisy, [a, b]))) == 2
    assert len(set(sums(quiet, False, noisy, [a, b]))) == 1
    step = sj.train_step(sj.objective(model, sj.cross_entropy), optax.sgd(0.0))
    train = sj.train_state(params, optax.sgd(0.0), key=KEY)
    train, _, first = step(train, noisy, BATCH)
    _, _, second = step(train, noisy, BATCH)
    assert first.loss != second.loss


# Truncated backpropagation through time


def streams():
    """Inputs, targets, mask and reset of two scalar sequences."""
    rng = np.random.default_rng(1)
    mask = rng.random((T, 2)) > 0.2
    reset = np.zeros((T, 2), bool)
    reset[4, 0] = reset[2, 1] = True
    return sj.Batch(rng.normal(size=(T, 2, 1)), rng.normal(size=(T, 2, 1)), mask, reset)


def slow_truncated(theta, stream, h, k1, k2, rate):
    """BPTT(k1, k2) of h' = tanh(w x + u h + b), L = (h - target)², one sequence and one tick at a time.

    The derivative dh/dθ goes forward beside h, and is set to zero where a gradient no longer reaches.
    """
    h = list(h)
    counts = []
    for n in range(-(-T // k1)):
        new = range(n * k1 + max(k1 - k2, 0), min((n + 1) * k1, T))
        w, u, b = theta
        total, gradient, count = 0.0, np.zeros(3), 0
        for e in range(2):
            s, d = h[e], np.zeros(3)
            for t in range(n * k1 - max(k2 - k1, 0), (n + 1) * k1):
                if t == n * k1 + k1 - k2 and k2 < k1:
                    d = np.zeros(3)
                if 0 <= t < T:
                    if stream.reset[t, e]:
                        s, d = 0.0, np.zeros(3)
                    if stream.mask[t, e]:
                        x = stream.xs[t, e, 0]
                        after = np.tanh(w * x + u * s + b)
                        d = (1 - after**2) * (np.array([x, s, 1.0]) + u * d)
                        s = after
                        if t in new:
                            error = s - stream.targets[t, e, 0]
                            total, gradient, count = total + error**2, gradient + 2 * error * d, count + 1
                if t == n * k1 - max(k2 - k1, 0) + k1 - 1:
                    h[e] = s
        counts.append(count)
        theta = theta - rate * gradient / max(count, 1)
    return theta, h, counts


@pytest.mark.parametrize(("k1", "k2"), [(1, 1), (3, 3), (2, 5), (1, T), (T, T), (4, 2), (10, 10), (2, 20)])
def test_truncated_equals_a_slow_forward_computation(k1, k2):
    """Updates after every window, resets, masks, ragged ends; parameters, state and counts."""
    layer = sj.recurrent(sj.elman(1, 1))
    theta, h, rate = np.array([0.7, -1.3, 0.2]), [0.3, -0.4], 0.5
    params = sj.ElmanParams(*(jnp.array(v).reshape(s) for v, s in zip(theta, [(1, 1), (1, 1), (1,)])))
    stream = streams()
    objective = sj.truncated(layer, sj.mean_squared_error, k1, k2)
    step = sj.train_step(objective, optax.sgd(rate))
    train, state = sj.train_state(params, optax.sgd(rate)), jnp.array(h)[:, None]
    counts = []
    for window in sj.windows(stream, k1, k2):
        train, state, metrics = step(train, state, window)
        counts.append(int(metrics.tally.count))
    expected, h, expected_counts = slow_truncated(theta, stream, h, k1, k2, rate)
    assert counts == expected_counts
    if k2 >= k1:
        assert sum(counts) == stream.mask.sum()
    assert_close(np.concatenate([np.ravel(p) for p in train.params]), expected)
    assert_close(np.asarray(state)[:, 0], np.array(h))


def slope_of(objective):
    @jax.jit
    def gradient(params, state, window):
        def f(params):
            after, tally = objective(params, state, window)
            return tally.sum, (after, tally)

        return jax.value_and_grad(f, has_aux=True)(params)

    return gradient


slope_of_the_whole = slope_of(OBJECTIVE)


@pytest.mark.parametrize(("k1", "k2"), [(1, T), (3, 9), (T, T), (10, 10)])
def test_windows_that_reach_the_beginning_add_up_to_full_backpropagation(k1, k2):
    """At fixed parameters, the state carried: value, count and gradient of the whole, for a whole language model."""
    gradient = slope_of(sj.truncated(MODEL, sj.cross_entropy, k1, k2))
    mask = np.array(MASK)
    mask[:, 2] = True
    batch = FULL._replace(mask=mask)
    state, parts = start(), []
    for window in sj.windows(batch, k1, k2):
        (value, (state, tally)), slope = gradient(PARAMS, state, window)
        parts.append(jax.tree.map(np.asarray, (value, tally.count, slope)))
    (_, (after, whole)), slope = slope_of_the_whole(PARAMS, start(), batch)
    assert_close(jax.tree.map(lambda *x: sum(x), *parts), (whole.sum, whole.count, slope))
    if k2 == k1:
        assert_close(state, after)


def test_no_gradient_crosses_windows():
    """Differentiated as a whole, windows give the sum of their gradients, nothing to the first state."""
    window_objective = sj.truncated(MODEL, sj.cross_entropy, 3)

    def total(objective, cut):
        def f(params, state):
            tallies = []
            for window in sj.windows(BATCH, 3):
                state, tally = objective(params, cut(state), window)
                tallies.append(tally.sum)
            return sum(tallies)

        return jax.jit(jax.grad(f, (0, 1)))(PARAMS, start())

    of_params, of_state = total(window_objective, lambda state: state)
    assert not any(leaf.any() for leaf in jax.tree.leaves(of_state))
    assert_close(of_params, total(OBJECTIVE, jax.lax.stop_gradient)[0])


def test_windows_of_numpy_and_jax_and_under_scan():
    """The same windows from either kind of array; a scan over stacked windows is the loop."""
    ours = list(sj.windows(FULL._replace(mask=None), 3, 5))
    theirs = list(sj.windows(jax.tree.map(jnp.asarray, FULL._replace(mask=None)), 3, 5))
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a, b, rtol=0, atol=0)
    assert [w.xs.shape for w in ours] == [(5, B)] * 3
    assert next(sj.windows(BATCH._replace(xs=BATCH.xs[:6], targets=BATCH.targets[:6]), 3)).mask is None

    optimizer = optax.adam(0.1)
    step = sj.train_step(sj.truncated(MODEL, sj.cross_entropy, 3, 5), optimizer)
    train, state = sj.train_state(PARAMS, optimizer), start()
    stacked = jax.tree.map(lambda *x: np.stack(x), *ours)

    def tick(carry, window):
        *carry, metrics = step(*carry, window)
        return tuple(carry), metrics.loss

    (scanned, _), metrics = jax.lax.scan(tick, (train, state), stacked)
    losses = []
    for window in ours:
        train, state, one = step(train, state, window)
        losses.append(one.loss)
    assert_close((scanned.params, metrics), (train.params, np.stack(losses)))


# Chunks


ZONEOUT = language_model(sj.zoneout(sj.lstm(3, 4), 0.3))


@functools.cache
def slope_in_chunks(size):
    """Value, state, tally, and gradients of parameters and state; over the whole where there is no size."""
    make = sj.objective if size is None else functools.partial(sj.over_chunks, size=size)
    objective, state = make(ZONEOUT, sj.cross_entropy), start(ZONEOUT, key=KEY)
    moving, noise = state[2]

    def f(params, moving):
        after, tally = objective(params, (*state[:2], (moving, noise), state[3]), FULL)
        return tally.sum + jnp.sin(after[2][0].c).sum(), (after, tally)

    return jax.jit(jax.value_and_grad(f, (0, 1), has_aux=True))(PARAMS, moving)


@pytest.mark.parametrize("size", [3, 20])
def test_chunks_equal_the_whole(size):
    """Value, count, state and gradients of parameters and state; noise, masks, resets, odd T."""
    assert_close(slope_in_chunks(size), slope_in_chunks(None), rtol=1e-12, atol=1e-12)


def test_chunks_redraw_as_the_whole_does():
    """The state's noise is drawn before the first chunk: whole and chunks see the same."""
    model = ZONEOUT
    state, key = start(model, key=KEY), jax.random.key(7)
    whole, chunked, keeping = map(
        jax.jit,
        [
            sj.objective(model, sj.cross_entropy),
            sj.over_chunks(model, sj.cross_entropy, 3),
            sj.over_chunks(model, sj.cross_entropy, 3, redraw=False),
        ],
    )
    assert_close(chunked(PARAMS, state, FULL, key), whole(PARAMS, state, FULL, key))
    assert_close(keeping(PARAMS, state, FULL, key), whole(PARAMS, state, FULL))


def test_chunks_draw_dropout_once_for_value_and_gradient():
    """The chunk that is run again for its gradient drops what it dropped before, and no two chunks alike."""
    model = language_model(sj.lstm(3, 4), dropout=0.5)
    objective = sj.over_chunks(model, sj.cross_entropy, 2)
    direction = jax.tree.map(lambda p: np.random.default_rng(p.size).normal(size=p.shape), PARAMS)

    @jax.jit
    @jax.value_and_grad
    def f(epsilon):
        return objective(jax.tree.map(lambda p, d: p + epsilon * d, PARAMS, direction), start(), BATCH, KEY)[1].sum

    assert_close(f(0.0)[1], (f(1e-5)[0] - f(-1e-5)[0]) / 2e-5, rtol=1e-8, atol=1e-8)
    layer = sj.dropout(0.5)
    first = lambda ys, targets, mask: sj.Tally((ys * targets).sum(), jnp.array(1))
    weights = jnp.array(2.0) ** jnp.arange(8.0)[:, None]
    kept = sj.over_chunks(layer, first, 4)((), (), sj.Batch(jnp.ones((8, 1)), weights), KEY)[1].sum / 2
    bits = int(kept)
    assert bits % 16 != bits // 16


def test_chunks_never_hold_all_logits():
    """Compiler temporaries of the gradient grow by states, not by logits."""
    vocabulary = 512
    model = sj.serial(sj.embedding(vocabulary, 8), sj.recurrent(sj.gru(8, 8)), sj.dense(8, vocabulary))
    params = jax.eval_shape(model.init, KEY)

    def bytes_of(objective, length):
        state = jax.eval_shape(lambda p: model.initial_state(p, (2,)), params)
        symbols = jax.ShapeDtypeStruct((length, 2), jnp.int32)
        gradient = jax.grad(lambda p, s, b: objective(p, s, b)[1].sum)
        compiled = jax.jit(gradient).lower(params, state, sj.Batch(symbols, symbols)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    a_tick = 2 * vocabulary * 8
    whole = sj.objective(model, sj.cross_entropy)
    assert bytes_of(whole, 2048) - bytes_of(whole, 512) > 1536 * a_tick
    chunked = sj.over_chunks(model, sj.cross_entropy, 64)
    assert bytes_of(chunked, 2048) - bytes_of(chunked, 512) < 0.03 * 1536 * a_tick
    assert bytes_of(chunked, 2048) < 6 * 64 * a_tick


def step_of(**options):
    return sj.train_step(OBJECTIVE, optax.sgd(1.0), **options)


ERRORS = {
    "objective_cell": (
        lambda: sj.objective(sj.lstm(2, 2), sj.cross_entropy),
        TypeError,
        "objective: expected a Layer, got Cell",
    ),
    "objective_loss": (
        lambda: sj.objective(MODEL, lambda ys, targets, mask: ys.sum())(PARAMS, start(), BATCH),
        TypeError,
        "objective: expected a Tally, got .*Return Tally",
    ),
    "chunk_size": (
        lambda: sj.over_chunks(MODEL, sj.cross_entropy, 0),
        ValueError,
        "over_chunks: expected size to be a whole",
    ),
    "chunk_layer": (
        lambda: sj.over_chunks(sj.lstm(2, 2), sj.cross_entropy, 2),
        TypeError,
        "over_chunks: expected a Layer, got Cell",
    ),
    "chunk_lengths": (
        lambda: sj.over_chunks(MODEL, sj.cross_entropy, 2)(PARAMS, start(), BATCH._replace(targets=BATCH.targets[1:])),
        ValueError,
        r"over_chunks: expected leaves with one number of ticks.* got .xs 7, .targets 6. Put time first",
    ),
    "chunk_state": (
        lambda: sj.over_chunks(
            sj.dense(2, 2)._replace(apply=lambda p, s, xs, **_: (jnp.zeros(2), xs)), sj.mean_squared_error, 2
        )((), (), sj.Batch(jnp.zeros((4, 2)), jnp.zeros((4, 2)))),
        TypeError,
        "over_chunks: expected step to return a state of structure",
    ),
    "truncated_k1": (
        lambda: sj.truncated(MODEL, sj.cross_entropy, 0),
        ValueError,
        "truncated: expected k1 to be a whole number",
    ),
    "truncated_k2": (
        lambda: sj.truncated(MODEL, sj.cross_entropy, 1, -1),
        ValueError,
        "truncated: expected k2 to be a whole number",
    ),
    "truncated_layer": (
        lambda: sj.truncated(sj.lstm(2, 2), sj.cross_entropy, 1),
        TypeError,
        "truncated: expected a Layer",
    ),
    "truncated_window": (
        lambda: sj.truncated(MODEL, sj.cross_entropy, 2, 3)(PARAMS, start(), BATCH),
        ValueError,
        "truncated: expected a window of 3 ticks for k1=2 and k2=3, got 7. Cut the batch with windows",
    ),
    "windows_k1": (
        lambda: next(sj.windows(BATCH, 1.5)),
        ValueError,
        "windows: expected k1 to be a whole number",
    ),
    "windows_lengths": (
        lambda: next(sj.windows(BATCH._replace(mask=MASK[1:]), 2)),
        ValueError,
        "windows: expected leaves with one",
    ),
    "divide_by": (
        lambda: step_of(divide_by="ticks"),
        ValueError,
        "train_step: expected divide_by 'count' or a number above 0, got 'ticks'",
    ),
    "divide_by_zero": (
        lambda: step_of(divide_by=0),
        ValueError,
        "train_step: expected divide_by 'count' or a number above 0, got 0",
    ),
    "clip_state": (
        lambda: step_of(clip=optax.ema(0.9))(sj.train_state(PARAMS, optax.sgd(1.0)), start(), BATCH),
        ValueError,
        "train_step: expected a clip without state, got one that keeps EmaState. Chain it",
    ),
    "threshold": (
        lambda: sj.clip_by_global_norm(0),
        ValueError,
        "clip_by_global_norm: expected a threshold above 0, got 0",
    ),
    "devices_many": (
        lambda: step_of(devices=100),
        ValueError,
        "train_step: expected at most 2 devices, got devices=100. On a CPU",
    ),
    "devices_none": (
        lambda: step_of(devices=0),
        ValueError,
        "train_step: expected devices to be a whole number of at least 1",
    ),
    "devices_odd": (
        lambda: step_of(devices=2)(sj.train_state(PARAMS, optax.sgd(1.0)), start(), BATCH),
        ValueError,
        r"train_step: expected a first batch axis that 2 devices can share equally, got shape \(3, 4\)",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_bad_input_is_told(name):
    call, kind, text = ERRORS[name]
    with pytest.raises(kind, match=text):
        call()
