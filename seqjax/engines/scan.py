"""The plain engine: `jax.lax.scan` over the step, differentiated by JAX. Every other engine is compared with it."""

from collections.abc import Callable
from typing import Any

import jax

from seqjax.base import PyTree
from seqjax.engines.chunked import Schedule, run


def scan(
    step: Callable,
    params: PyTree,
    state: PyTree,
    xs: PyTree,
    *,
    schedule: Schedule,
    length: int,
    reverse: bool,
) -> tuple[PyTree, PyTree]:
    """Runs ``step`` over time; with ``keep="carries"`` its gradient recomputes every tick from the state before it."""

    def body(state: PyTree, x: PyTree) -> tuple[PyTree, PyTree]:
        return step(params, state, x)

    if schedule.keep == "carries":
        body = jax.checkpoint(body, prevent_cse=False)
    if schedule.keep != "nothing":
        return jax.lax.scan(body, state, xs, length=length, reverse=reverse)
    leaves, tree = jax.tree.flatten(state)
    inputs, inputs_tree = jax.tree.flatten(xs)
    y_tree: Any = None

    def chunk(state: list, xs: list, *, length: int) -> tuple[list, list]:
        nonlocal y_tree
        state, ys = jax.lax.scan(body, tree.unflatten(state), inputs_tree.unflatten(xs), length=length, reverse=reverse)
        ys, y_tree = jax.tree.flatten(ys)
        return jax.tree.leaves(state), ys

    state, ys = run(chunk, leaves, inputs, schedule, length=length, reverse=reverse)
    return tree.unflatten(state), y_tree.unflatten(ys)
