"""Equinox: its cells, for a batch by vmap, in the scan that its documentation tells users to write."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

import seqjax as sj
from benchmarks.problem import Problem
from benchmarks.program import Adapter

CELLS = {"lstm": "lstm", "gru": "gru"}
MODULES = {"lstm": eqx.nn.LSTMCell, "gru": eqx.nn.GRUCell}


def adapter(row: Problem) -> Adapter:
    """Matrices are ``[kh, d]``; gates are in our order."""

    def load(params: Any) -> eqx.Module:
        dtype = jnp.dtype(row.dtype)
        cell = MODULES[row.cell](row.input_size, row.hidden_size, dtype=dtype, key=jax.random.key(0))
        weights = (params.w_x.T, params.w_h.T, params.b, *params[3:])
        return eqx.tree_at(lambda module: _weights(row.cell, module), cell, weights)

    def apply(cell: Any, xs: jax.Array) -> jax.Array:
        def tick(state: Any, x: jax.Array) -> tuple[Any, jax.Array]:
            state = jax.vmap(cell)(x, state)
            return state, state[0] if row.cell == "lstm" else state

        zeros = jnp.zeros((xs.shape[1], row.hidden_size), xs.dtype)
        return jax.lax.scan(tick, (zeros, zeros) if row.cell == "lstm" else zeros, xs)[1]

    def unload(cell: Any) -> Any:
        w_x, w_h, *biases = _weights(row.cell, cell)
        return {"lstm": sj.LSTMParams, "gru": sj.GRUParams}[row.cell](w_x.T, w_h.T, *biases)

    return Adapter(load, apply, unload)


def _weights(cell: str, module: Any) -> tuple:
    both = (module.weight_ih, module.weight_hh, module.bias)
    return both if cell == "lstm" else (*both, module.bias_n)
