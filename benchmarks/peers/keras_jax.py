"""Keras on JAX: its layers, called without state. Batch leads."""

import os
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import keras

import seqjax as sj
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

    return Adapter(lambda params: load(row.cell, params), apply, lambda weights: unload(row.cell, weights), time_axis=1)


def load(cell: str, params: Any) -> list:
    """``[kernel, recurrent_kernel, bias]``."""
    if cell != "gru":
        return [params.w_x, params.w_h, params.b]
    w_x, w_h, outer = (_swap(w) for w in params[:3])
    two = 2 * len(params.b_n)
    inner = jnp.concatenate([jnp.zeros(two, params.b_n.dtype), params.b_n])
    return [w_x, w_h, jnp.stack([outer, inner])]


def unload(cell: str, weights: list) -> Any:
    """A gradient; the inner bias of r and z, which the outer one makes superfluous, is left out."""
    w_x, w_h, b = weights
    if cell == "gru":
        return sj.GRUParams(_swap(w_x), _swap(w_h), _swap(b[0]), b[1, 2 * (b.shape[1] // 3) :])
    return {"elman": sj.ElmanParams, "lstm": sj.LSTMParams}[cell](w_x, w_h, b)


def _swap(w: jax.Array) -> jax.Array:
    first, second, third = jnp.split(w, 3, axis=-1)
    return jnp.concatenate([second, first, third], axis=-1)
