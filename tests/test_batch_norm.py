"""Batch normalisation of input products: beside NumPy, over padding, devices, and with statistics that stay."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from laws import assert_close
from marks import quick

import seqjax as sj
from seqjax import layers, training

RNG = np.random.default_rng(0)
T, B, D, H = 6, 4, 3, 5
XS = RNG.normal(size=(T, B, D)) * [1.0, 3.0, 0.2] + [0.0, 40.0, -1.0]
LENGTHS = np.array([6, 2, 4, 1])
MASK = np.arange(T)[:, None] < LENGTHS
CELLS = {
    "elman": lambda: sj.elman(D, H),
    "lstm": lambda: sj.lstm(D, H),
    "gru": lambda: sj.gru(D, H),
    "gru_before": lambda: sj.gru(D, H, reset="before", b_init=None),
    "peephole": lambda: sj.cells.peephole_lstm(D, H),
}
pytestmark = pytest.mark.usefixtures("equal_ranks")


def drawn(layer):
    """Gains and biases off their start."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda p: p + 0.3 * rng.normal(size=p.shape), layer.init(jax.random.key(0)))


def elman(params, xs, mask, mean, variance, epsilon=1e-5):
    """The outputs of the network as the paper writes it: â is normalised, h U is not."""
    cell, h, ys = params.cell, np.zeros((xs.shape[1], H)), []
    for x, real in zip(xs, mask):
        a = (np.where(real[:, None], x, 0) @ cell.w_x - mean) / np.sqrt(variance + epsilon) * params.gain
        new = np.tanh(a + h @ cell.w_h + cell.b)
        h = np.where(real[:, None], new, h)
        ys.append(np.where(real[:, None], new, 0))
    return np.stack(ys)


@pytest.mark.parametrize("padded", [False, True])
def test_as_the_paper_writes_it(padded):
    layer = layers.input_batch_norm(CELLS["elman"]())
    params, mask = drawn(layer), MASK if padded else np.ones((T, B), bool)
    a = XS[mask] @ np.asarray(params.cell.w_x)
    xs = np.where(mask[..., None], XS, np.nan)
    given = {"mask": jnp.array(mask)} if padded else {}
    state, ys = layer.apply(params, layer.initial_state(params, (B,)), xs, **given)
    expected = elman(jax.tree.map(np.asarray, params), xs, mask, a.mean(0), a.var(0))
    np.testing.assert_allclose(ys, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(state.statistics.variance[1], a.var(0), rtol=1e-9)
    np.testing.assert_allclose(state.statistics.mean[2], XS[mask].mean(0), rtol=1e-12)
    assert np.all(np.asarray(state.ticks) == mask.sum())


@pytest.mark.parametrize("name", quick(CELLS, "elman", "gru_before"))
def test_any_cell_by_its_products(name):
    """The cell itself, on the identity in place of W and on normalised products in place of x."""
    layer = layers.input_batch_norm(CELLS[name]())
    params = drawn(layer)
    _, ys = layer.apply(params, layer.initial_state(params, (B,)), XS)
    a = XS @ np.asarray(params.cell.w_x)
    normal = (a - a.mean((0, 1))) / np.sqrt(a.var((0, 1)) + 1e-5) * np.asarray(params.gain)
    make = {"elman": sj.elman, "lstm": sj.lstm, "gru": sj.gru, "peephole": sj.cells.peephole_lstm}
    wide = a.shape[-1]
    cell = sj.gru(wide, H, reset="before", b_init=None) if name == "gru_before" else make[name](wide, H)
    plain = params.cell._replace(w_x=jnp.eye(wide))
    _, expected = sj.unroll(cell, plain, cell.initial_state(plain, (B,)), normal)
    assert_close(ys, expected)


def test_lengths_are_the_mask_and_padding_has_no_gradient():
    layer = layers.input_batch_norm(CELLS["elman"]())
    params, xs = drawn(layer), np.where(MASK[..., None], XS, np.nan)

    def loss(params, xs, **ticks):
        _, ys = layer.apply(params, layer.initial_state(params, (B,)), xs, **ticks)
        return (ys**2).sum()

    found = [jax.grad(loss, (0, 1))(params, xs, **ticks) for ticks in ({"mask": MASK}, {"lengths": LENGTHS})]
    assert_close(*found)
    assert not np.asarray(found[0][1])[~MASK].any()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


def test_gradients_go_through_the_statistics():
    layer = layers.input_batch_norm(CELLS["elman"]())
    params = drawn(layer)

    def loss(params, xs):
        _, ys = layer.apply(params, layer.initial_state(params, (B,)), xs, mask=MASK)
        return (ys * jnp.arange(1.0 * T * B * H).reshape(T, B, H)).sum()

    jax.test_util.check_grads(loss, (params, jnp.array(XS)), 1, modes=["rev"])
    scaled = params._replace(cell=params.cell._replace(w_x=7 * params.cell.w_x))
    assert abs(loss(scaled, XS) - loss(params, XS)) < 1e-3 * abs(loss(params, XS))  # but for ε


def test_statistics_of_several_batches_are_those_of_all_their_ticks():
    layer = layers.input_batch_norm(CELLS["elman"]())
    params, ticks = drawn(layer), []
    state = layer.initial_state(params, (B,))
    for number, mask in enumerate((MASK, MASK[::-1], np.ones_like(MASK))):
        xs = XS + 5 * number
        state, _ = layer.apply(params, state, xs, mask=jnp.array(mask))
        ticks.append(xs[mask])
    x = np.concatenate(ticks)
    measured = layers.with_statistics(params, state).statistics
    np.testing.assert_allclose(measured.mean, x.mean(0), rtol=1e-10)
    np.testing.assert_allclose(measured.variance, (x @ np.asarray(params.cell.w_x)).var(0), rtol=1e-9)


@pytest.mark.slow
def test_examples_are_mixed_until_the_statistics_stay():
    """With its batch's statistics the layer mixes examples and ticks, with given ones it does not."""
    model = sj.serial(layers.input_batch_norm(CELLS["lstm"]()), layers.input_batch_norm(sj.gru(H, 2)))
    params = drawn(model)
    state, ys = model.apply(params, model.initial_state(params, (B,)), XS)

    def alone(params, b, ticks=slice(None)):
        return model.apply(params, model.initial_state(params), XS[ticks, b])[1]

    assert np.abs(np.asarray(alone(params, 1) - ys[:, 1])).max() > 0.05
    assert np.abs(np.asarray(alone(params, 1, slice(3)) - alone(params, 1)[:3])).max() > 0.01
    fixed = layers.with_statistics(params, state)
    for b in range(B):
        assert_close(alone(fixed, b), ys[:, b])
    assert_close(alone(fixed, 1, slice(3)), ys[:3, 1])
    after, _ = model.apply(fixed, state, 9 * XS)
    assert_close([part.statistics for part in after], [part.statistics for part in state])


def test_a_reset_leaves_the_statistics_and_restarts_the_cell():
    layer = layers.input_batch_norm(CELLS["elman"]())
    params, fresh = drawn(layer), layer.initial_state(drawn(layer), (B,))
    reset = np.zeros((T, B), bool)
    reset[0] = True
    old, _ = layer.apply(params, fresh, XS + 1)
    state, ys = layer.apply(params, old, XS, reset=reset)
    assert_close((state.cell, ys), (layer.apply(params, fresh, XS)[0].cell, layer.apply(params, fresh, XS)[1]))
    assert state.ticks[0] == 2 * T * B


def test_devices_sum_their_statistics():
    """An update over two devices is that of one."""
    model = sj.serial(layers.input_batch_norm(CELLS["lstm"]()), sj.dense(H, 2))
    batch = sj.Batch(jnp.array(XS), jnp.array(RNG.integers(0, 2, (T, B))), jnp.array(MASK))
    found = []
    for devices in (None, 2):
        params = drawn(model)
        update = sj.train_step(sj.objective(model, sj.cross_entropy), optax.sgd(0.5), devices=devices, donate=False)
        train = training.train_state(params, optax.sgd(0.5))
        train, state, metrics = update(train, model.initial_state(params, (B,)), batch)
        found.append(jax.device_get((train.params, state[0].statistics, metrics.loss)))
    assert_close(*found)


def rounded(x):
    return np.asarray(jnp.asarray(x, jnp.float32).astype(jnp.bfloat16).astype(jnp.float32), np.float64)


def test_mixed_precision_rounds_what_is_left_when_the_mean_is_gone():
    """Statistics are of float32; products of x - mean, not of x, whose 400 hide its changes in bfloat16."""
    layer = layers.input_batch_norm(sj.elman(D, H))
    mixed = sj.mixed_precision(layer)
    assert mixed != layer
    xs = np.asarray(XS + np.array([0.0, 360.0, 0.0]), np.float32)
    params = jax.tree.map(lambda p: p.astype(jnp.float32), drawn(layer))
    state, ys = mixed.apply(params, mixed.initial_state(params, (B,)), xs, mask=MASK)
    a = xs[MASK].astype(np.float64) @ np.asarray(params.cell.w_x, np.float64)
    np.testing.assert_allclose(state.statistics.variance[0], a.var(0), rtol=1e-4)
    np.testing.assert_allclose(state.statistics.mean[0], xs[MASK].mean(0, np.float64), rtol=1e-6)
    cell, h = jax.tree.map(np.asarray, params.cell), np.zeros((B, H))
    w = rounded(cell.w_x * np.asarray(params.gain / jnp.sqrt(state.statistics.variance[0] + 1e-5)))
    for x, y, real in zip(xs, ys, MASK):
        new = np.tanh(rounded(x - np.asarray(state.statistics.mean[0])) @ w + rounded(h) @ rounded(cell.w_h) + cell.b)
        np.testing.assert_allclose(y, np.where(real[:, None], new, 0), rtol=4e-3, atol=4e-3)  # one step of bf16(h)
        h = np.where(real[:, None], new, h)
    plain = layer.apply(params, layer.initial_state(params, (B,)), xs, mask=MASK)[1]
    assert 1e-4 < np.abs(np.asarray(ys - plain)).max() < 0.03
    assert {leaf.dtype for leaf in jax.tree.leaves((state, ys))} == {np.dtype("float32")}


def test_mixed_precision_learns_and_is_evaluated_by_its_statistics():
    """Parameters, gradients and statistics of float32; with the statistics put in, every example is by itself."""
    model = sj.mixed_precision(sj.serial(layers.input_batch_norm(sj.lstm(D, H)), sj.dense(H, 2)))
    params = jax.tree.map(lambda p: p.astype(jnp.float32), drawn(model))
    batch = sj.Batch(jnp.array(XS, jnp.float32), jnp.array(XS[..., 1] > 40, int), jnp.array(MASK))
    update = sj.train_step(sj.objective(model, sj.cross_entropy), optax.sgd(0.5), donate=False)
    train, losses = training.train_state(params, optax.sgd(0.5)), []
    for _ in range(30):
        train, state, metrics = update(train, model.initial_state(params, (B,)), batch)
        losses.append(float(metrics.loss))
    assert losses[-1] < 0.7 * losses[0]
    assert {leaf.dtype for leaf in jax.tree.leaves((train.params, state))} == {np.dtype("float32")}
    state, ys = model.apply(train.params, model.initial_state(params, (B,)), batch.xs)
    fixed = layers.with_statistics(train.params, state)
    for b in range(B):
        _, alone = model.apply(fixed, model.initial_state(params), batch.xs[:, b])
        np.testing.assert_allclose(alone, ys[:, b], rtol=2e-2, atol=2e-2)


def test_what_is_refused():
    with pytest.raises(TypeError, match="expected a cell with weights w_x, got parameters of type tuple"):
        layers.input_batch_norm(sj.stack(sj.elman(2, 2), sj.elman(2, 2))).init(jax.random.key(0))
    layer = layers.input_batch_norm(CELLS["elman"]())
    params = layer.init(jax.random.key(0))
    state = layer.initial_state(params, (B,))
    with pytest.raises(TypeError, match="input_batch_norm: expected floats"):
        layer.apply(params, state, np.ones((T, B, D), int))
    with pytest.raises(ValueError, match="with_statistics: expected a state that has read inputs, got a new one"):
        layers.with_statistics(params, state)
    with pytest.raises(ValueError, match="got none for one of its normalised layers"):
        layers.with_statistics((params, params), (state._replace(ticks=jnp.ones(B)),))
    with pytest.raises(ValueError, match="got one of more normalised layers"):
        layers.with_statistics((params,), (state._replace(ticks=jnp.ones(B)),) * 2)
    sessions = sj.Sessions(layer, params, 2)
    slot = sessions.put()
    with pytest.raises(TypeError, match="input_batch_norm: expected parameters with the statistics of training, to be"):
        sessions.step(XS[:2, :1], [slot])
