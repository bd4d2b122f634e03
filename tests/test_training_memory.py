"""Whose memory an update reads and takes: reused buffers, parameters in two places, updates over devices in turn."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from laws import assert_close
from small_training import KEY, MODEL, OBJECTIVE, PARAMS, start

import seqjax as sj
from seqjax import buffers, devices, hmm

SHAPE = (600, 64)  # an update that takes longer than to write the next batch


def losses(refilled, spread):
    """Eight updates whose batches are one buffer filled anew, or an array each."""
    step = sj.train_step(OBJECTIVE, optax.sgd(0.1), devices=spread)
    train, state = sj.train_state(PARAMS, optax.sgd(0.1)), start(batch=64)
    rng, buffer, found = np.random.default_rng(0), np.empty(SHAPE, np.int64), []
    for _ in range(8):
        drawn = rng.integers(5, size=SHAPE)
        if refilled:
            np.copyto(buffer, drawn)
            drawn = np.asarray(memoryview(buffer))
        train, _, metrics = step(train, state, sj.Batch(drawn[:-1], drawn[1:]))
        found.append(metrics.loss)
    return np.array(found)


@pytest.mark.parametrize("spread", [None, 2])
def test_a_buffer_filled_anew_is_another_batch(spread):
    assert np.array_equal(losses(True, spread), losses(False, spread))


@pytest.mark.slow
def test_what_runs_later_is_copied_now():
    """Objectives, windows, decoding, inference: the caller's arrays may change as soon as a call has returned."""
    buffer, scores = np.zeros((600, 64), int), np.zeros((600, 64, 4))

    def changed(call):
        buffer[:], scores[:, :, 0] = 1, 1
        expected = jax.tree.map(np.array, call())
        found = call()
        buffer[:], scores[:] = 0, 0
        assert_close(found, expected, rtol=0, atol=0)

    state, batch = start(batch=64), sj.Batch(buffer[:-1], buffer[1:])
    for objective in (
        OBJECTIVE,
        sj.over_chunks(MODEL, sj.cross_entropy, 100),
        sj.truncated(MODEL, sj.cross_entropy, 599),
    ):
        changed(lambda objective=objective: objective(PARAMS, state, batch)[1].sum)
    changed(lambda: list(sj.windows(batch, 200, 250)))
    changed(lambda: list(sj.windows(batch, 599)))
    changed(lambda: sj.sample(MODEL, PARAMS, start(), 0, length=8, prefix=buffer[:6, :3]).symbols)
    changed(lambda: sj.beam_search(MODEL, PARAMS, start(), 0, length=8, width=2, prefix=buffer[:6, :3]).symbols)
    changed(lambda: sj.models.log_probability(MODEL, PARAMS, buffer, first=0))
    changed(lambda: MODEL.apply(PARAMS, state, batch.xs)[1])
    chain, potentials = hmm.random(KEY, 8, 2), hmm.crf.init(KEY, 4)
    changed(lambda: hmm.forward(chain, buffer))
    changed(lambda: hmm.viterbi(chain, buffer, mask=buffer > 0))
    changed(lambda: hmm.sample_paths(chain, KEY, buffer))
    for inference in (hmm.crf.log_partition, hmm.crf.marginals, hmm.crf.decode):
        changed(lambda inference=inference: inference(potentials, scores))
    changed(lambda: hmm.crf.loss(potentials, scores, buffer))
    changed(lambda: hmm.backtrack(scores, chain.log_transition[:4, :4]))
    cell = sj.lstm(1, 8)
    params = cell.init(KEY)
    changed(
        lambda: sj.unroll(cell, params, cell.initial_state(params, (64,)), buffer[..., None] * 1.0, mask=buffer > 0)
    )


def test_copies_are_numpys_and_all_else_is_passed_on():
    leaves = {
        "array": np.arange(3),
        "jax": jnp.arange(3),
        "key": KEY,
        "number": 2,
        "none": None,
        "view": np.arange(6)[::2],
    }
    owned = buffers.owned(leaves)
    for name in ("jax", "key", "number", "none"):
        assert owned[name] is leaves[name]
    for name in ("array", "view"):
        assert not np.shares_memory(owned[name], leaves[name])
        assert np.array_equal(owned[name], leaves[name])
    seen = []
    jax.eval_shape(lambda x: seen.append(buffers.owned(x) is x), jnp.zeros(2))
    assert seen == [True]


# Memory that is given away


def free_vector():
    """A model that is one vector, its state too: Σ (w - x)², the next state is w."""

    def objective(params, state, batch, key=None):
        error = params["w"] - batch.xs + state
        return params["w"], sj.tally(error**2)

    return objective


@pytest.mark.parametrize("as_it_is", [True, False])
def test_a_batch_or_state_that_is_a_parameter(as_it_is):
    """The parameter's own array, or another view of its memory, as XLA and `jax.device_put` make them."""
    optimizer = optax.sgd(0.1)
    step = sj.train_step(free_vector(), optimizer, divide_by=1.0)
    train = sj.train_state({"w": jnp.arange(3.0)}, optimizer)
    w = train.params["w"] if as_it_is else jax.device_put(train.params["w"], jax.devices()[0])
    train, state, _ = step(train, w, sj.Batch(w, None))
    assert_close(train.params["w"], np.arange(3.0) - 0.2 * np.arange(3.0))
    assert_close(state, np.arange(3.0))


def test_parameters_in_two_places():
    """Weights tied by being one array, and an optimizer that keeps the parameters."""
    shared = jnp.ones(2)
    train = sj.TrainState({"a": shared, "b": shared}, (), jnp.zeros((), int), jnp.zeros((), int), None)
    objective = lambda p, state, batch, key=None: (state, sj.tally((p["a"] + 2 * p["b"] - batch.xs) ** 2))
    step = sj.train_step(objective, optax.stateless(lambda g, p: jax.tree.map(lambda x: -0.1 * x, g)), divide_by=1.0)
    train, _, _ = step(train, (), sj.Batch(jnp.zeros(2), None))
    assert_close(train.params, {"a": np.full(2, 1 - 0.6), "b": np.full(2, 1 - 1.2)})


@pytest.mark.parametrize("spread", [None, 2])
def test_an_update_that_is_refused_leaves_what_it_was_given(spread):
    step = sj.train_step(OBJECTIVE, optax.adam(0.1), devices=spread)
    train, batch = sj.train_state(PARAMS, optax.adam(0.1)), sj.Batch(np.zeros((4, 2), int), np.zeros((4, 2), int))
    with pytest.raises((ValueError, TypeError)):
        step(train, start(batch=2), batch._replace(targets=np.zeros((3, 2), int)))
    train, _, metrics = step(train, start(batch=2), batch)
    assert jnp.isfinite(metrics.loss)


# Empty batches


@pytest.mark.parametrize("spread", [None, 2])
def test_a_batch_of_no_sequences_changes_nothing(spread):
    nothing = sj.Batch(np.zeros((5, 0), int), np.zeros((5, 0), int))
    model = sj.serial(sj.embedding(5, 3), sj.dropout(0.0), sj.recurrent(sj.lstm(3, 4), engine="scan"), sj.dense(4, 5))
    cut = sj.over_chunks(model, sj.cross_entropy, 2), sj.truncated(model, sj.cross_entropy, 5)
    for objective in (sj.objective(model, sj.cross_entropy), *cut):
        step = sj.train_step(objective, optax.sgd(1.0), clip=sj.clip_by_global_norm(1.0), devices=spread)
        train, state, metrics = step(sj.train_state(PARAMS, optax.sgd(1.0)), start(batch=0), nothing)
        assert_close(train.params, PARAMS, rtol=0, atol=0)
        assert (metrics.loss, metrics.tally.count, metrics.gradient_norm, bool(metrics.clipped)) == (0, 0, 0, False)
        assert {leaf.shape[0] for leaf in jax.tree.leaves(state)} == {0}


def test_windows_of_no_sequences():
    nothing = sj.Batch(np.zeros((5, 0), int), np.zeros((5, 0), int), lengths=np.zeros(0, int))
    assert [window.mask.shape for window in sj.windows(nothing, 2, 3)] == [(3, 0)] * 3


# Devices in turn


def test_an_update_over_cpus_waits_for_the_one_before(monkeypatch):
    """Of the same step or another one: when a program is started, the last one and its arguments are there."""
    pending, started = [], []
    wait = jax.block_until_ready

    def waited(tree):
        for leaf in jax.tree.leaves(tree):
            pending[:] = [result for result in pending if result is not leaf]
        return wait(tree)

    monkeypatch.setattr(jax, "block_until_ready", waited)
    mesh = devices.mesh_of(2)

    def program(x):
        started.append(list(pending))
        result = (x, (), jnp.ones(()))
        pending.append(result[-1])
        return result

    for _ in range(3):
        devices.in_turn(mesh, program, (jnp.ones(2),))
    assert started == [[], [], []]


def test_a_step_over_devices_can_be_traced():
    step = sj.train_step(OBJECTIVE, optax.sgd(0.1), devices=2)
    train = sj.train_state(PARAMS, optax.sgd(0.1))
    batch = sj.Batch(np.zeros((4, 2), int), np.zeros((4, 2), int))
    shapes = jax.eval_shape(step, train, start(batch=2), batch)
    assert shapes[2].loss.shape == ()


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_many_updates_over_devices(count, tmp_path):
    """With evaluation, sampling and checkpoints between; left to themselves, XLA's threads end in a deadlock."""
    program = Path(__file__).with_name("soak_devices.py")
    found = subprocess.run([sys.executable, program, str(count), "4000", tmp_path], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr[-2000:]
    assert "done" in found.stdout
