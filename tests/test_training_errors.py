"""What training says of bad input."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_training import BATCH, MASK, MODEL, OBJECTIVE, PARAMS, start

import seqjax as sj


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
        r"a first batch axis that 2 devices can share equally, axis 0 of state\[2\].h, got shape \(3, 4\)",
    ),
    "devices_without_time": (
        lambda: step_of(devices=2)(
            sj.train_state(PARAMS, optax.sgd(1.0)), (), sj.Batch(np.zeros((4, 2), int), np.zeros((2, 6), int))
        ),
        ValueError,
        r"axis 1 of batch\.targets, got shape \(2, 6\) where others have .* give what has no time an axis",
    ),
    "step_state": (
        lambda: step_of()(sj.train_state(PARAMS, optax.sgd(1.0)), BATCH, start()),
        TypeError,
        r"train_step: expected a state, got a Batch in its place. The order is \(train, state, batch\)",
    ),
    "step_train": (
        lambda: step_of()(start(), sj.train_state(PARAMS, optax.sgd(1.0)), BATCH),
        TypeError,
        r"train_step: expected a TrainState, got tuple. Make it with train_state\(params, optimizer\). The order is",
    ),
    "step_params": (
        lambda: step_of(devices=3 - 2)(PARAMS, start(), BATCH),
        TypeError,
        "train_step: expected a TrainState, got tuple",
    ),
    "step_batch": (
        lambda: step_of()(sj.train_state(PARAMS, optax.sgd(1.0)), start(), sj.train_state(PARAMS, optax.sgd(1.0))),
        TypeError,
        "train_step: expected a batch, got a TrainState in its place",
    ),
    "objective_swapped": (
        lambda: OBJECTIVE(start(), PARAMS, BATCH),
        TypeError,
        r"objective: expected parameters of serial, EmbeddingParams at params\[0\], got tuple. Draw them with",
    ),
    "over_chunks_swapped": (
        lambda: sj.over_chunks(MODEL, sj.cross_entropy, 2)(start(), PARAMS, BATCH),
        TypeError,
        "over_chunks: expected parameters of serial",
    ),
    "truncated_swapped": (
        lambda: sj.truncated(MODEL, sj.cross_entropy, 7)(PARAMS, BATCH, start()),
        TypeError,
        r"truncated: expected state, got a Batch in its place. The order is \(params, state, batch, key\)",
    ),
    "state_in_train": (
        lambda: step_of()(sj.train_state(start(), optax.sgd(1.0)), start(), BATCH),
        TypeError,
        "objective: expected parameters of serial",
    ),
    "donated": (
        lambda: twice(step_of()),
        ValueError,
        "train_step: expected train with its arrays, got one whose memory an earlier step took.* Go on with what the",
    ),
    "donated_devices": (
        lambda: twice(step_of(devices=1)),
        ValueError,
        "train_step: expected train with its arrays, got one whose memory an earlier step took",
    ),
}


def twice(step):
    train = sj.train_state(PARAMS, optax.sgd(1.0))
    step(train, start(), BATCH)
    step(train, start(), BATCH)


@pytest.mark.parametrize("name", ERRORS)
def test_bad_input_is_told(name):
    call, kind, text = ERRORS[name]
    with pytest.raises(kind, match=text):
        call()
