"""Haiku: dynamic_unroll over its cores. Its GRU resets before the recurrent product."""

from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp

import seqjax as sj
from benchmarks.problem import Problem
from benchmarks.program import Adapter

CELLS = {"lstm": "lstm", "gru": "gru_before"}
CORES = {"lstm": hk.LSTM, "gru": hk.GRU}


def adapter(row: Problem) -> Adapter:
    """Gates i, g, f + 1, o over ``[x, h]`` together; or z, r, n with z for 1 - z."""

    def run(xs: jax.Array) -> jax.Array:
        core = CORES[row.cell](row.hidden_size)
        state = jax.tree.map(lambda s: s.astype(xs.dtype), core.initial_state(xs.shape[1]))
        return hk.dynamic_unroll(core, xs, state)[0]

    transformed = hk.without_apply_rng(hk.transform(run))

    def apply(weights: Any, xs: jax.Array) -> jax.Array:
        return transformed.apply(weights, xs)

    if row.cell == "lstm":
        return Adapter(load_lstm, apply, lambda weights: unload_lstm(row.input_size, weights))
    return Adapter(load_gru, apply, unload_gru)


def load_lstm(params: Any) -> dict:
    """The forget gate's constant 1 is taken out of its bias."""
    both = jnp.concatenate([params.w_x, params.w_h])
    i, f, g, o = jnp.split(params.b, 4)
    return {"lstm/linear": {"w": _swap(both, "ifgo", "igfo"), "b": jnp.concatenate([i, g, f - 1, o])}}


def unload_lstm(input_size: int, weights: Any) -> sj.LSTMParams:
    """A gradient: the constant does not matter."""
    linear = weights["lstm/linear"]
    both, b = (_swap(linear[name], "igfo", "ifgo") for name in "wb")
    return sj.LSTMParams(both[:input_size], both[input_size:], b)


def load_gru(params: Any) -> dict:
    """Update gate first, and turned round."""
    w_i, w_h, b = (_swap(w, "rzn", "zrn") for w in sj.swap_update_gate(params)[:3])
    return {"gru": {"w_i": w_i, "w_h": w_h, "b": b}}


def unload_gru(weights: Any) -> sj.GRUParams:
    """Back; turning the gate round is its own inverse and linear, so it fits gradients too."""
    w_x, w_h, b = (_swap(weights["gru"][name], "zrn", "rzn") for name in ("w_i", "w_h", "b"))
    return sj.swap_update_gate(sj.GRUParams(w_x, w_h, b, None))


def _swap(w: jax.Array, given: str, wanted: str) -> jax.Array:
    blocks = dict(zip(given, jnp.split(w, len(given), axis=-1)))
    return jnp.concatenate([blocks[gate] for gate in wanted], axis=-1)
