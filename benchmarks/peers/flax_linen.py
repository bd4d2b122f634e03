"""Flax: linen's RNN over its fastest cells."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

import seqjax as sj
from benchmarks.peers.passports import KINDS
from benchmarks.problem import Problem
from benchmarks.program import Adapter

CELLS = {"elman": "elman", "lstm": "lstm", "gru": "gru"}
MODULES = {"elman": nn.SimpleCell, "lstm": nn.OptimizedLSTMCell, "gru": nn.GRUCell}


def adapter(row: Problem) -> Adapter:
    """One matrix a gate, in a dict."""
    dtype = jnp.dtype(row.dtype)
    model = nn.RNN(MODULES[row.cell](row.hidden_size, dtype=dtype, param_dtype=dtype), time_major=True)

    def apply(weights: Any, xs: jax.Array) -> jax.Array:
        return model.apply({"params": weights}, xs)

    load = functools.partial(sj.interop.flax.to_state_dict, row.make(row.cell))
    return Adapter(load, apply, lambda weights: sj.interop.flax.from_state_dict(KINDS[row.cell], weights)[1])
