"""Products in bfloat16, everything else in float32; and parameters in float16 under Adam."""

import contextlib
import dataclasses
import importlib
import json
import pickle
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from commands import optimised
from jax.extend import core
from laws import assert_close
from marks import quick

import seqjax as sj
from seqjax import reservoir, tasks
from seqjax.__main__ import COMMANDS, main
from seqjax.naming import named
from seqjax.recipes import reservoir as echo
from seqjax.recipes.running import lock
from seqjax.recipes.running.run import Run

RNG = np.random.default_rng(0)
RUNS = Path(__file__).with_name("runs")
RECIPES = {json.loads(path.read_text("utf-8"))["recipe"] for path in RUNS.glob("*/config.json")}
NAMES = sorted(RECIPES - {"hmm-learn"})  # which learns without gradients
XS = np.asarray(RNG.normal(size=(5, 2, 3)), np.float32)


def rounded(x):
    return np.asarray(jnp.asarray(x).astype(jnp.bfloat16).astype(jnp.float32), np.float64)


def low(module):
    return module, sj.mixed_precision(module)


def single(params):
    return jax.tree.map(lambda p: p.astype(jnp.float32), params)


def test_products_are_of_rounded_numbers_and_sums_are_not_rounded():
    """The textbook's Elman network and readout, written out: bias, activation and state in float32."""
    model, mixed = low(sj.serial(sj.recurrent(sj.elman(3, 4)), sj.dense(4, 2)))
    params = single(model.init(jax.random.key(0)))
    params = jax.tree.map(lambda p: p + jnp.asarray(RNG.normal(size=p.shape), p.dtype) / 3, params)
    state, ys = mixed.apply(params, mixed.initial_state(params, (2,)), XS)
    h, (cell, readout) = np.zeros((2, 4)), jax.tree.map(np.asarray, params)
    for x, y in zip(XS, ys):
        h = np.tanh(rounded(x) @ rounded(cell.w_x) + rounded(h) @ rounded(cell.w_h) + cell.b)
        assert_close(
            y, rounded(h) @ rounded(readout.w) + readout.b, rtol=2e-3, atol=2e-3
        )  # one step of bf16(h) at most
    assert_close(state[0], h, rtol=1e-3, atol=1e-3)
    _, exact = model.apply(params, model.initial_state(params, (2,)), XS)
    assert np.abs(np.asarray(exact - ys)).max() > 1e-4


MODELS = {
    "language model": sj.models.language_model(7, 8, layers=2, dropout=0.1),
    "blocks": sj.models.language_model(7, 8, block=sj.models.griffin_block),
    "transformed": sj.serial(
        sj.embedding(7, 3),
        sj.bidirectional(sj.zoneout(sj.lstm(3, 4), 0.1), sj.residual(sj.gru(3, 3))),
        sj.residual(sj.dense(7, 7)),
    ),
    "writes": sj.models.encoder_decoder(7, 7, 4, cell=lambda d, h: sj.gru(d, h)),
    "output": sj.models.sampled_softmax(4, 9, 3),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_model_is_the_same_but_for_its_products(name):
    """Equal to itself made again, unlike the one in float32; parameters and names are that one's."""
    model, mixed = low(MODELS[name])
    assert mixed == sj.mixed_precision(MODELS[name])
    assert mixed != model
    assert repr(mixed) == f"mixed_precision({model!r})"
    params = model.init(jax.random.key(0))
    assert_close(mixed.init(jax.random.key(0)), params, rtol=0, atol=0)
    assert list(named(mixed, params)) == list(named(model, params))
    assert sj.mixed_precision(model, "float32") is model


def operands(jaxpr):
    """The types of every product's operands and result, in loops and calls too."""
    for e in jaxpr.eqns:
        if e.primitive.name == "dot_general":
            yield tuple(v.aval.dtype.name for v in (*e.invars, *e.outvars))
        for inside in core.jaxprs_in_params(e.params):
            yield from operands(getattr(inside, "jaxpr", inside))


def test_no_product_is_left_out():
    """Forwards both operands are bfloat16; backwards one is, beside the gradient of a sum in float32."""
    mixed = sj.mixed_precision(MODELS["language model"])
    params = single(mixed.init(jax.random.key(0)))
    symbols = RNG.integers(0, 7, (5, 2))
    loss, batch = sj.objective(mixed, sj.cross_entropy), sj.Batch(symbols, symbols)
    state = mixed.initial_state(params, (2,))
    value = lambda params: loss(params, state, batch)[1].sum
    assert set(operands(jax.make_jaxpr(value)(params).jaxpr)) == {("bfloat16", "bfloat16", "float32")}
    slope = jax.make_jaxpr(jax.grad(value))(params)
    assert ("float32", "float32", "float32") not in set(operands(slope.jaxpr))
    assert {leaf.dtype for leaf in (*slope.out_avals, *jax.tree.leaves(state))} == {jnp.dtype(jnp.float32)}
    assert pickle.loads(pickle.dumps(mixed)) == mixed


def test_what_was_told_another_type_keeps_it():
    kept = sj.mixed_precision(sj.serial(sj.dense(3, 4, compute_dtype=jnp.float32), sj.dense(4, 2)))
    params = single(kept.init(jax.random.key(0)))
    _, ys = kept.apply(params, ((), ()), XS)
    first, second = jax.tree.map(np.asarray, params)
    assert_close(ys, rounded(XS @ first.w + first.b) @ rounded(second.w) + second.b, rtol=1e-5, atol=1e-5)


def test_what_cannot_be_told_is_refused():
    with pytest.raises(ValueError, match=r"mixed_precision: expected a model with products, got dropout\(0.5\)"):
        sj.mixed_precision(sj.dropout(0.5))
    with pytest.raises(TypeError, match="mixed_precision: expected a model that a maker made, got Cell"):
        sj.mixed_precision(sj.Cell(*sj.gru(3, 4)[:2], lambda params, state, x: (state, x)))
    with pytest.raises(ValueError, match="mixed_precision: expected products to be one of 'float32', 'bfloat16'"):
        sj.mixed_precision(sj.dense(3, 4), "float16")


OPTIMIZERS = {
    "adam": optax.adam,
    "rmsprop": optax.rmsprop,
    "averaging": lambda rate: sj.averaging(optax.adam(rate)),
}


@pytest.mark.parametrize("name", quick(OPTIMIZERS, "adam"))
def test_parameters_of_float16_learn_under_adam(name):
    """Its ε of 1e-8 is 0 in float16, and two updates made NaN of everything; the first tick's gradients are zero."""
    found = {}
    for kind in (jnp.float16, jnp.float32):
        model = sj.serial(sj.recurrent(sj.lstm(2, 4)), sj.dense(4, 1))
        params = jax.tree.map(lambda p: p.astype(kind), model.init(jax.random.key(0)))  # noqa: B023
        optimizer = OPTIMIZERS[name](1e-2)
        step = sj.train_step(sj.objective(model, sj.mean_squared_error), optimizer)
        train, state = sj.train_state(params, optimizer), model.initial_state(params, (2,))
        batch = sj.Batch(jnp.ones((5, 2, 2), kind), jnp.ones((5, 2, 1), kind))
        for _ in range(20):
            train, _, metrics = step(train, state, batch)
        assert {leaf.dtype for leaf in jax.tree.leaves(train.params)} == {jnp.dtype(kind)}
        assert metrics.skipped == 0
        found[kind] = float(metrics.loss)
    assert found[jnp.float16] == pytest.approx(found[jnp.float32], rel=0.03)


@pytest.fixture
def single_precision(patch):
    jax.config.update("jax_enable_x64", False)
    yield
    jax.config.update("jax_enable_x64", True)


@pytest.mark.parametrize("name", quick([*NAMES, "automaton"], "charlm"))
def test_every_command_that_trains_has_the_option(name, monkeypatch, tmp_path, single_precision):
    """The program of its first update multiplies in bfloat16 where it is asked to, and nowhere else."""
    for text in ("text.txt", "series.txt"):
        shutil.copy(RUNS / text, tmp_path)
    monkeypatch.chdir(tmp_path)
    recipe = importlib.import_module(COMMANDS[name])
    stored = recipe.Options() if name == "automaton" else Run.open(name, RUNS / name).options(recipe.Options)
    for products in ("float32", "bfloat16"):
        options = dataclasses.replace(stored, resume=None, devices=1, products=products, run_dir=products)
        with lock.kept(), contextlib.closing(recipe.main.course(options)) as course:
            update = next(course)
            program = jax.make_jaxpr(update.step)(*update.given)
        assert ("bf16" in str(program)) == (products == "bfloat16")


def test_reservoirs_have_it_and_hidden_markov_models_say_why_not(single_precision, capsys):
    series = np.tanh(tasks.mackey_glass(401) - 1)[:, None].astype(np.float32)
    error = {}
    for products in ("float32", "bfloat16"):
        cell = echo.reservoir_of(echo.Options(units=60, products=products))
        error[products] = float(reservoir.fit(cell, cell.init(jax.random.key(0)), series[:-1], series[1:]).error[0])
    assert 2 * error["float32"] < error["bfloat16"] < 1e-3  # of a variance of 0.05
    assert main(["reservoir", "--connections", "3", "--products", "bfloat16"]) == 2
    assert "reservoir: expected no --products with --connections, got both" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["hmm-tag", "--help"])
    assert "There is no --products: " in capsys.readouterr().out


@pytest.mark.slow
def test_a_character_model_loses_nothing(tmp_path):
    """Within .02 nats of float32 on held-back text, the mean of three seeds."""
    loss = {}
    for products in ("float32", "bfloat16"):
        folder = tmp_path / products
        words = "charlm --seeds 0 1 2 --steps 200 --hidden-size 64 --embedding-size 32 --batch-size 32 --window 32"
        optimised(*words.split(), "--products", products, "--run-dir", str(folder))
        results = [json.loads((folder / f"seed-{seed}" / "result.json").read_text()) for seed in (0, 1, 2)]
        loss[products] = [result["figures"]["validation_loss"] for result in results]
        configs = [json.loads((folder / f"seed-{seed}" / "config.json").read_text()) for seed in (0, 1, 2)]
        assert {config["options"]["products"] for config in configs} == {products}
    print(loss)
    assert loss["float32"] != loss["bfloat16"]
    assert np.mean(loss["float32"]) < 2.4, "it has learnt something"
    assert np.mean(loss["bfloat16"]) == pytest.approx(np.mean(loss["float32"]), abs=0.02)
