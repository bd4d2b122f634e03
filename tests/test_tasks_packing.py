"""Next-step batches and packed windows against what they are made of."""

import functools

import jax
import numpy as np
import pytest
from laws import assert_close
from marks import quick

import seqjax as sj
from seqjax import tasks

RNG = np.random.default_rng(0)
TEXTS = [RNG.integers(1, 6, n) for n in (4, 9, 2, 6, 13, 3, 5)]
MODEL = sj.serial(sj.embedding(6, 3), sj.recurrent(sj.gru(3, 4)), sj.dense(4, 6))
PARAMS = MODEL.init(jax.random.key(0))


@functools.cache
def one_by_one():
    """The loss of every text by itself."""
    loss = sj.objective(MODEL, sj.cross_entropy)
    return sum(loss(PARAMS, MODEL.initial_state(PARAMS), sj.Batch(text[:-1], text[1:]))[1] for text in TEXTS)


@pytest.mark.slow
def test_next_step_trains_on_what_comes_next():
    batch = tasks.next_step(*tasks.pad(TEXTS))
    assert batch.mask is None
    assert batch.lengths.tolist() == [len(text) - 1 for text in TEXTS]
    loss = sj.objective(MODEL, sj.cross_entropy)
    assert_close(loss(PARAMS, MODEL.initial_state(PARAMS, (len(TEXTS),)), batch)[1], one_by_one())
    columns = tasks.streams(np.arange(20), 2)
    batch = tasks.next_step(columns)
    assert np.array_equal(batch.xs + 1, batch.targets)
    assert batch.lengths is None
    assert np.shares_memory(batch.xs, columns)
    assert tasks.next_step(columns, [0, 10]).lengths.tolist() == [0, 9]


@pytest.mark.parametrize("size", quick([1, 2, 3, 9], 2, 9))  # fewer columns than texts, and more of them
@pytest.mark.parametrize("length", [1, 4, 50])
def test_packed_windows_hold_every_tick_once(size, length):
    """The loss over all windows, the state handed on, is that of the texts one by one."""
    windows = tasks.packed(TEXTS, length=length, size=size)
    assert {window.xs.shape for window in windows} == {(length, size)}
    assert sum(window.mask.sum() for window in windows) == sum(len(text) - 1 for text in TEXTS)
    assert sum(window.reset.sum() for window in windows) == len(TEXTS)
    if length == 1:
        return
    loss = jax.jit(sj.objective(MODEL, sj.cross_entropy))
    state, total = MODEL.initial_state(PARAMS, (size,)), []
    for window in windows:
        state, tally = loss(PARAMS, state, window)
        total.append(tally)
    assert_close(sum(total), one_by_one())


def test_packed_pairs_keep_their_targets():
    xs = [RNG.normal(size=(n, 2)).astype(np.float32) for n in (3, 1, 5)]
    windows = tasks.packed(xs, [x.sum(-1) > 0 for x in xs], length=3, size=2)
    for window in windows:
        assert window.xs.dtype == np.float32
        assert window.targets.dtype == bool
        assert np.array_equal((window.xs.sum(-1) > 0)[window.mask], window.targets[window.mask])
    assert not windows[-1].xs[~windows[-1].mask].any()
    assert isinstance(windows[0].xs, np.ndarray)


ERRORS = {
    "short": (lambda: tasks.next_step(np.ones(1)), "next_step: expected values .* of at least two ticks, got shape"),
    "scalar": (lambda: tasks.next_step(np.ones(())), "next_step: expected values"),
    "lengths": (lambda: tasks.next_step(np.ones((3, 2)), [1, 4]), "next_step: expected lengths from 0 to the 3 ticks"),
    "shape": (lambda: tasks.next_step(np.ones((3, 2)), [1]), r"next_step: expected lengths of shape \(2,\)"),
    "none": (lambda: tasks.packed([], length=3, size=2), "packed: expected sequences of at least two ticks, got none"),
    "one_tick": (
        lambda: tasks.packed([np.ones(3), np.ones(1)], length=3, size=2),
        r"packed: expected sequences of at least two ticks, got shorter ones at \[1\]. Leave them out",
    ),
    "targets": (
        lambda: tasks.packed([np.ones(3)], [np.ones(2)], length=3, size=2),
        r"packed: expected one target a tick, got inputs of lengths \[3\] … and targets of lengths \[2\] …. Align them",
    ),
    "size": (lambda: tasks.packed([np.ones(3)], length=3, size=0), "packed: expected size to be a whole number"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_bad_input_is_told(name):
    call, text = ERRORS[name]
    with pytest.raises(ValueError, match=text):
        call()
