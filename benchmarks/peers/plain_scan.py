"""The scan a person writes by hand from the textbook, and, checkpointed in chunks, the truth for all others."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.problem import CELLS as ALL
from benchmarks.problem import Problem
from benchmarks.program import Adapter

CELLS = {name: name for name in ALL}


def elman(params: Any, h: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Elman: h' = tanh(x W + h U + b)."""
    h = jnp.tanh(x @ params.w_x + h @ params.w_h + params.b)
    return h, h


def lstm(params: Any, state: tuple, x: jax.Array) -> tuple[tuple, jax.Array]:
    """LSTM: c' = σ(f) c + σ(i) tanh(g), h' = σ(o) tanh(c')."""
    h, c = state
    i, f, g, o = jnp.split(x @ params.w_x + h @ params.w_h + params.b, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h, c), h


def gru(params: Any, h: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """GRU, reset after: n = tanh(a_n + r (h U_n + c_n)), h' = z h + (1-z) n."""
    a_r, a_z, a_n = jnp.split(x @ params.w_x + params.b, 3, axis=-1)
    u_r, u_z, u_n = jnp.split(h @ params.w_h, 3, axis=-1)
    r, z = jax.nn.sigmoid(a_r + u_r), jax.nn.sigmoid(a_z + u_z)
    h = z * h + (1 - z) * jnp.tanh(a_n + r * (u_n + params.b_n))
    return h, h


def gru_before(params: Any, h: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """GRU, reset before: n = tanh(a_n + (r h) U_n), h' = z h + (1-z) n."""
    a_r, a_z, a_n = jnp.split(x @ params.w_x + params.b, 3, axis=-1)
    u_r, u_z, u_n = jnp.split(params.w_h, 3, axis=-1)
    r, z = jax.nn.sigmoid(a_r + h @ u_r), jax.nn.sigmoid(a_z + h @ u_z)
    h = z * h + (1 - z) * jnp.tanh(a_n + (r * h) @ u_n)
    return h, h


STEPS: dict[str, Callable] = {"elman": elman, "lstm": lstm, "gru": gru, "gru_before": gru_before}


def adapter(row: Problem) -> Adapter:
    """The scan; a cell without equations above runs its own step."""
    return Adapter(lambda params: params, functools.partial(_apply, row), lambda gradient: gradient)


def truth(row: Problem, cell: str) -> Adapter:
    """The scan for any length: about √T ticks at a time, run again for the gradient."""
    chunk = max(k for k in range(1, math.isqrt(row.ticks) + 1) if row.ticks % k == 0)

    def apply(params: Any, xs: jax.Array) -> jax.Array:
        step, state = _step(row._replace(cell=cell, dtype=row.wide), params, xs)

        @jax.checkpoint
        def several(state: Any, xs: jax.Array) -> tuple[Any, jax.Array]:
            return jax.lax.scan(step, state, xs)

        _, ys = jax.lax.scan(several, state, xs.reshape(-1, chunk, *xs.shape[1:]))
        return ys.reshape(row.ticks, *ys.shape[2:])

    return Adapter(lambda params: params, apply, lambda gradient: gradient)


def _apply(row: Problem, params: Any, xs: jax.Array) -> jax.Array:
    step, state = _step(row, params, xs)
    return jax.lax.scan(step, state, xs)[1]


def _step(row: Problem, params: Any, xs: jax.Array) -> tuple[Callable, Any]:
    if row.cell not in STEPS:
        cell = row.make(row.cell, dtype=jnp.dtype(row.dtype))
        return functools.partial(cell.step, params), cell.initial_state(params, xs.shape[1:-1])
    zeros = jnp.zeros((*xs.shape[1:-1], row.hidden_size), xs.dtype)
    state = (zeros, zeros) if row.cell == "lstm" else zeros
    return functools.partial(STEPS[row.cell], params), state
