"""Equinox: its cells, for a batch by vmap, in the scan that its documentation tells users to write."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

import seqjax as sj
from benchmarks.problem import Problem
from benchmarks.program import Adapter

CELLS = {"lstm": "lstm", "gru": "gru"}


def adapter(row: Problem) -> Adapter:
    """Matrices are ``[kh, d]``; gates are in our order."""

    def apply(cell: Any, xs: jax.Array) -> jax.Array:
        def tick(state: Any, x: jax.Array) -> tuple[Any, jax.Array]:
            state = jax.vmap(cell)(x, state)
            return state, state[0] if row.cell == "lstm" else state

        zeros = jnp.zeros((xs.shape[1], row.hidden_size), xs.dtype)
        return jax.lax.scan(tick, (zeros, zeros) if row.cell == "lstm" else zeros, xs)[1]

    load = functools.partial(sj.interop.equinox.to_module, row.make(row.cell))
    return Adapter(load, apply, lambda cell: sj.interop.equinox.from_module(cell)[1])
