"""Keras on JAX: its layers, called without state. Batch leads."""

import functools
import os
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import keras

import seqjax as sj
from benchmarks.peers.passports import KINDS, one_bias
from benchmarks.problem import Problem
from benchmarks.program import Adapter

if keras.backend.backend() != "jax":
    raise RuntimeError(f"keras: expected the backend jax, got {keras.backend.backend()}. Set KERAS_BACKEND=jax.")

CELLS = {"elman": "elman", "lstm": "lstm", "gru": "gru"}
DTYPES = ("float32", "bfloat16", "float16")
LAYERS = {"elman": keras.layers.SimpleRNN, "lstm": keras.layers.LSTM, "gru": keras.layers.GRU}


def adapter(row: Problem) -> Adapter:
    """LSTM gates in our order; GRU gates z, r, n with two biases, of which ours is the outer and c_n the inner."""
    layer = LAYERS[row.cell](row.hidden_size, return_sequences=True, dtype=row.dtype, recurrent_initializer="zeros")
    layer.build((row.batch, row.ticks, row.input_size))
    fixed = [variable.value for variable in layer.non_trainable_variables]

    def apply(weights: list, xs: jax.Array) -> jax.Array:
        return layer.stateless_call(weights, fixed, xs)[0]

    def unload(weights: list) -> Any:
        return one_bias(sj.interop.keras.from_state_dict(KINDS[row.cell], weights)[1])

    load = functools.partial(sj.interop.keras.to_state_dict, row.make(row.cell))
    return Adapter(load, apply, unload, time_axis=1)
