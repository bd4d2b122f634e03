"""Weights that stay whatever the optimizer does, parameters that have no gradient, and the norm that clips."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from laws import assert_close

import seqjax as sj
from seqjax.fixing import stays

RESERVOIR = sj.echo_state(1, 6)
SPARSE = sj.sparse_echo_state(6, 5, connections=2)
BY_HAND = sj.Cell(lambda key: {"inner": SPARSE.init(key)}, None, None)
ON_HOST = sj.pointwise(lambda p, x: x * p, lambda key: jnp.full(5, float(np.asarray(jax.random.key_data(key))[0])))
SCALED = sj.elman(5, 5, w_h_init=sj.initializers.spectral_radius(0.9))
KEY = jax.random.key(0)


def weights(*where):
    return [f"{place}.{name}" for place in where for name in ("w_x", "w_h", "b")]


def lines(model):
    """Which leaves are fixed, by path."""
    params = model.init(KEY)
    found = sj.fixed(model, params)
    assert jax.tree.structure(found) == jax.tree.structure(params)
    return [jax.tree_util.keystr(path) for path, still in jax.tree_util.tree_flatten_with_path(found)[0] if still]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (RESERVOIR, weights("")),
        (sj.echo_state(1, 6, trainable=True), []),
        (sj.lstm(2, 3), []),
        (sj.stack(RESERVOIR, sj.residual(sj.gru(6, 6)), SPARSE), weights("[0]", "[2]")),
        (sj.serial(sj.recurrent(RESERVOIR), sj.dense(6, 1)), weights("[0]")),
        (sj.zoneout(RESERVOIR, 0.1), weights("")),
        (sj.learned_initial_state(RESERVOIR), weights(".cell")),
        (sj.bidirectional(sj.gru(1, 6), RESERVOIR), weights(".backward")),
        (sj.stack(sj.gru(1, 6), BY_HAND), weights("[1]['inner']")),
        (sj.serial(sj.recurrent(sj.echo_state(1, 5)), sj.recurrent(SCALED)), weights("[0]")),
        (sj.serial(sj.recurrent(sj.echo_state(1, 5)), ON_HOST), weights("[0]")),
    ],
)
def test_fixed_is_found_wherever_the_cell_is(model, expected):
    assert lines(model) == expected


def test_fixed_fits_parameters_with_what_a_sequence_brings_along():
    cell = sj.attend(sj.echo_state(6, 4), 4, 5, 6)
    params = cell.init(KEY)
    params = params._replace(memory=sj.Memory(jnp.ones((7, 5)), jnp.ones(7, bool)))
    found = sj.fixed(cell, params)
    assert jax.tree.leaves(found.cell) == [True] * 3
    assert sum(jax.tree.leaves(found)) == 3


OPTIMIZERS = {
    "adamw": optax.adamw(1e-2, weight_decay=0.5),
    "noisy_sgd": optax.noisy_sgd(1e-2, key=jax.random.key(1)),
    "lamb": optax.lamb(1e-2, weight_decay=0.5),
    "averaging": sj.averaging(optax.adamw(1e-2, weight_decay=0.5)),
}


@pytest.mark.parametrize("spread", [None, 2])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_fixed_weights_do_not_move(name, spread):
    optimizer, model = OPTIMIZERS[name], sj.serial(sj.recurrent(RESERVOIR), sj.dense(6, 1))
    params, waves = model.init(KEY), jnp.sin(jnp.arange(33.0) / 3)[:, None, None] * jnp.ones((2, 1))
    batch, state = sj.Batch(waves[:-1], waves[1:]), model.initial_state(params, (2,))
    objectives = [sj.objective(model, sj.mean_squared_error)]
    if spread is None:
        objectives += [sj.over_chunks(model, sj.mean_squared_error, 5), sj.truncated(model, sj.mean_squared_error, 32)]
    for objective in objectives:
        step, train = sj.train_step(objective, optimizer, devices=spread), sj.train_state(params, optimizer)
        for _ in range(3):
            train, _, _ = step(train, state, batch)
        seen = [train.params] + ([sj.averaged(train.opt_state)] if name == "averaging" else [])
        for found in seen:
            assert_close(found[0], params[0], rtol=0, atol=0)
            assert not np.array_equal(found[1].w, params[1].w)


@pytest.mark.slow
def test_fixed_in_models_and_their_objectives():
    scores = sj.serial(sj.recurrent(sj.echo_state(3, 4)), sj.dense(4, 2))
    model, objective = sj.models.crf_tagger(scores, 2), sj.models.crf_objective(scores)
    params, xs = model.init(KEY), jnp.ones((5, 2, 3))
    once, batches = sj.Batch(xs, jnp.zeros((5, 2), int)), sj.Batch(xs[None], jnp.zeros((1, 5, 2), int))
    state = model.initial_state(params, (2,))
    stacked = jax.tree.map(lambda leaf: leaf[None], state)
    for loss, start, batch in ((objective, state, once), (sj.models.accumulated(objective), stacked, batches)):
        optimizer = optax.adamw(1e-2, weight_decay=0.5)
        train, _, _ = sj.train_step(loss, optimizer)(sj.train_state(params, optimizer), start, batch)
        assert_close(train.params.scores[0], params.scores[0], rtol=0, atol=0)
        assert not np.array_equal(train.params.scores[1].w, params.scores[1].w)


def line(params, state, batch, key=None):
    return state, sj.tally((params["w"] * batch.xs + params["b"] - batch.targets) ** 2)


LINE = sj.Batch(jnp.arange(4.0), 3 * jnp.arange(4.0) + 1)


def test_fixed_is_given_to_an_objective_of_ones_own():
    """Its gradient is neither applied nor counted in the norm."""
    params = {"w": jnp.ones(()), "b": jnp.ones(())}
    step = sj.train_step(line, optax.adamw(0.1, weight_decay=0.5), fixed={"w": False, "b": True})
    train, _, metrics = step(sj.train_state(params, optax.adamw(0.1, weight_decay=0.5)), (), LINE)
    assert train.params["b"] == 1
    assert train.params["w"] > 1
    assert_close(metrics.gradient_norm, abs(np.mean(2 * (np.arange(4) - 3 * np.arange(4)) * np.arange(4))))


@pytest.mark.parametrize(
    ("fixed", "kind", "text"),
    [
        ({"w": 1.0, "b": True}, TypeError, "train_step: expected fixed to be a tree of bool, got float in it. Make it"),
        ([True, True], ValueError, "train_step: expected fixed like the parameters .* Make it with seqjax.fixed"),
    ],
)
def test_fixed_of_another_form(fixed, kind, text):
    train = sj.train_state({"w": jnp.ones(()), "b": jnp.ones(())}, optax.sgd(0.1))
    with pytest.raises(kind, match=text):
        sj.train_step(line, optax.sgd(0.1), fixed=fixed)(train, (), LINE)


def test_a_mark_of_ones_own():
    shift = sj.pointwise(lambda params, x: x + params, lambda key: stays(jnp.ones(3)))
    assert lines(sj.serial(sj.dense(3, 3), shift)) == ["[1]"]


@pytest.mark.parametrize("spread", [None, 2])
def test_leaves_without_a_gradient_stay(spread):
    """Integers, flags and keys among the parameters, which weight decay leaves alone too."""
    params = {"w": jnp.ones(()), "b": jnp.ones(()), "n": jnp.arange(3), "flag": jnp.array(True), "key": KEY}
    batch = jax.tree.map(lambda x: jnp.stack([x, x], 1), LINE)
    optimizer = sj.averaging(optax.adamw(0.1, weight_decay=0.5))
    step = sj.train_step(line, optimizer, clip=sj.clip_by_global_norm(1.0), devices=spread)
    alone = sj.train_state({name: params[name] for name in "wb"}, optimizer)
    train = sj.train_state(params, optimizer)
    for _ in range(2):
        train, _, metrics = step(train, (), batch)
        alone, _, expected = step(alone, (), batch)
    assert_close((train.params["w"], train.params["b"], metrics), (alone.params["w"], alone.params["b"], expected))
    assert train.params["n"].tolist() == [0, 1, 2]
    assert train.params["flag"]
    assert train.params["key"] == params["key"]


# The norm


def size(tree):
    return np.sqrt(sum((np.asarray(leaf, np.float64) ** 2).sum() for leaf in jax.tree.leaves(tree)))


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (jnp.float16, 300.0),
        (jnp.float16, 6e4),
        (jnp.bfloat16, 1e20),
        (jnp.bfloat16, 3e38),
        (jnp.float32, 7.0),
        (jnp.float32, 1e20),
        (jnp.float32, 3.4e38),
        (jnp.float64, 1e200),
        (jnp.float64, 1.7e308),
    ],
)
def test_a_finite_gradient_is_clipped_whatever_its_square(dtype, value):
    gradient = {"a": jnp.full((3,), value, dtype), "b": jnp.full((2, 2), -value, dtype)}
    found = sj.clip_by_global_norm(1.0).update(gradient, optax.EmptyState())[0]
    assert found["a"].dtype == dtype
    assert size(found) == pytest.approx(1, rel=2 * float(jnp.finfo(dtype).eps))
    assert_close(np.asarray(found["a"], float), -np.asarray(found["b"], float).ravel()[:3], rtol=0, atol=0)


def test_a_mixed_gradient_is_clipped_by_one_norm():
    gradient = {"a": jnp.array([3e4, -4e4], jnp.float16), "b": jnp.array([1e5], jnp.float32)}
    found = sj.clip_by_global_norm(2.0).update(gradient, optax.EmptyState())[0]
    expected = jax.tree.map(lambda g: 2 * np.asarray(g, float) / size(gradient), gradient)
    assert_close(jax.tree.map(lambda g: np.asarray(g, float), found), expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_a_gradient_that_is_not_finite_is_nan(bad):
    """Never zero: it is seen in the parameters, and in the norm."""
    gradient = {"a": jnp.array([1.0, bad], jnp.float32), "b": jnp.ones(2, jnp.float16)}
    found = sj.clip_by_global_norm(1.0).update(gradient, optax.EmptyState())[0]
    assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(found))


@pytest.mark.parametrize("value", [0.0, 1e-30, 1e-45, 0.7])
def test_a_gradient_below_the_threshold_is_unchanged_to_the_bit(value):
    gradient = {"a": jnp.full((2,), value, jnp.float32)}
    found = sj.clip_by_global_norm(1.0).update(gradient, optax.EmptyState())[0]
    assert np.array_equal(np.asarray(found["a"]).view(np.int32), np.asarray(gradient["a"]).view(np.int32))


def test_a_mean_over_more_ticks_than_float16_counts():
    params = {"w": jnp.ones((), jnp.float16), "b": jnp.zeros((), jnp.float16)}
    xs = jnp.full(70_000, 0.01, jnp.float16)
    step = sj.train_step(line, optax.sgd(1.0))
    train, _, metrics = step(sj.train_state(params, optax.sgd(1.0)), (), sj.Batch(xs, jnp.zeros_like(xs)))
    assert train.params["w"].dtype == jnp.float16
    assert float(metrics.gradient_norm) == pytest.approx(np.hypot(2 * 0.01 * 0.01, 2 * 0.01), rel=0.02)
