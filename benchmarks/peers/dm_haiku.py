"""Haiku: dynamic_unroll over its cores. Its GRU resets before the recurrent product."""

import functools
from typing import Any

import haiku as hk
import jax

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

    load = functools.partial(sj.interop.haiku.to_state_dict, row.make(CELLS[row.cell]))
    return Adapter(load, apply, lambda weights: sj.interop.haiku.from_state_dict(row.cell, weights)[1])
