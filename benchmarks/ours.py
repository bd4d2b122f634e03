"""seqjax, by engine and memory setting."""

from typing import Any

import jax
import jax.numpy as jnp

import seqjax as sj
from benchmarks.problem import Problem
from benchmarks.program import Adapter


def adapter(row: Problem, engine: str, memory: str | int) -> Adapter:
    """`seqjax.unroll` with these settings."""
    cell = row.make(row.cell, dtype=jnp.dtype(row.dtype))

    def apply(params: Any, xs: jax.Array) -> jax.Array:
        state = cell.initial_state(params, xs.shape[1:-1])
        return sj.unroll(cell, params, state, xs, engine=engine, memory=memory)[1]

    return Adapter(lambda params: params, apply, lambda gradient: gradient)


def plan(row: Problem, engine: str, memory: str | int, devices: int) -> dict[str, Any]:
    """What these settings come to for one device's share: engine, chunk, what is kept, predicted bytes."""
    cell = row.make(row.cell, dtype=jnp.dtype(row.dtype))
    share = (row.batch // devices,)
    params = jax.eval_shape(cell.init, jax.random.key(0))
    state = jax.eval_shape(lambda params: cell.initial_state(params, share), params)
    xs = jax.ShapeDtypeStruct((row.ticks, *share, row.input_size), jnp.dtype(row.dtype))
    found = sj.explain(cell, params, state, xs, engine=engine, memory=memory)
    return {
        "engine": found.engine,
        "chunk": found.chunk,
        "keep": found.keep,
        "blocks": found.blocks,
        "predicted_bytes": devices * found.total_bytes,
        "why": found.why,
    }
