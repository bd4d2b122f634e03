"""What a gradient keeps, in bytes a tick, before anything is compiled."""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax

from seqjax.base import PyTree
from seqjax.engines import jaxprs
from seqjax.engines.chunked import Schedule, kept
from seqjax.engines.scan import scan
from seqjax.engines.split import Split


class Costs(NamedTuple):
    """Bytes a tick, by what is kept for the gradient.

    Attributes:
      state: a, the state at one tick.
      all: r, everything the backward pass reads.
      carries: what ``memory="carries"`` keeps.
    """

    state: int
    all: int
    carries: int


def predict(prepared: Split | None, step: Callable, params: PyTree, state: PyTree, xs: PyTree) -> Costs:
    """Bytes a tick that a gradient keeps, counted from the residuals of a short chunk."""
    leaves, tree = jax.tree.flatten(state)
    inputs, inputs_tree = jax.tree.flatten(xs)
    ticks = min([4, *(x.shape[0] for x in inputs)])
    chunk_types = [jaxprs.trace(lambda x: x[:ticks], jax.typeof(x)).out_avals[0] for x in inputs]

    def bytes_a_tick(keep: str) -> int:
        def chunk(state: list, xs: list, params: PyTree) -> tuple:
            if prepared is None:
                state, xs = tree.unflatten(state), inputs_tree.unflatten(xs)
                return scan(step, params, state, xs, schedule=Schedule(ticks, keep), length=ticks, reverse=False)
            early = prepared.early(params, tree.unflatten(state))

            def run(state: list, xs: list) -> tuple[list, list]:
                recompute = keep == "carries"
                return prepared.chunk(early, state, xs, length=ticks, reverse=False, recompute=recompute)

            return kept(run, keep, in_loop=True)(state, xs)

        def residuals(*values: jax.Array) -> list:
            s, x, p = (
                values[: len(leaves)],
                values[len(leaves) : len(leaves) + len(inputs)],
                values[len(leaves) + len(inputs) :],
            )
            pullback = jax.vjp(chunk, list(s), list(x), jax.tree.unflatten(jax.tree.structure(params), p))[1]
            return jax.tree.leaves(pullback)

        flat = [*map(jax.typeof, leaves), *chunk_types, *map(jax.typeof, jax.tree.leaves(params))]
        jaxpr = jaxprs.trace(residuals, *flat).jaxpr
        given = set(jaxpr.invars)
        varying = jaxprs.dependent(jaxpr.eqns, jaxpr.invars[: len(leaves) + len(inputs)])
        found = {v for v in jaxpr.outvars if not jaxprs.is_literal(v) and v in varying and v not in given}
        return sum(jaxprs.nbytes(v.aval) for v in found if v.aval.ndim and v.aval.shape[0] == ticks) // ticks

    a = sum(jaxprs.nbytes(jax.typeof(leaf)) for leaf in leaves)
    return Costs(a, bytes_a_tick("all"), bytes_a_tick("carries"))


def total_bytes(schedule: Schedule, length: int, costs: Costs) -> int:
    """Bytes that a gradient over ``length`` ticks keeps by a schedule; twice r inside the chunk at work."""
    at_work = 2 * costs.all * min(schedule.chunk, length)
    if schedule.keep != "nothing":
        return length * (costs.all if schedule.keep == "all" else costs.carries) + at_work
    sizes = [schedule.chunk, *schedule.blocks, length]
    borders = sum(math.ceil(outer / inner) for inner, outer in itertools.pairwise(sizes))
    return borders * costs.state + at_work
