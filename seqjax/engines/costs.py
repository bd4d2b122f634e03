"""What a gradient keeps, in bytes a tick, before anything is compiled."""

import functools
import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax import symbolic
from seqjax.base import PyTree
from seqjax.engines.base import Costs
from seqjax.engines.equations import jaxprs
from seqjax.engines.memory import Schedule

# Ticks of the chunk whose residuals are counted: more than one, so that what is kept per tick can be told by its axis.
TICKS = 4


def kept_bytes(run: Callable[..., tuple[PyTree, PyTree]], params: PyTree, state: PyTree, xs: PyTree) -> Costs:
    """Bytes a tick that a gradient keeps, counted from the residuals of a short chunk.

    Args:
      run: ``(params, state, xs, length=…, keep=…) -> (state, ys)`` runs a chunk that keeps ``"all"`` or ``"carries"``.
      params: of the step.
      state: of the step.
      xs: of the step, for all ticks.
    """
    lengths = [x.shape[0] for x in jax.tree.leaves(xs)]
    ticks = min([TICKS, *filter(symbolic.known, lengths)])

    def cut(x: jax.Array) -> jax.Array:
        return x[:ticks] if symbolic.known(x.shape[0]) else jnp.broadcast_to(x[0], (ticks, *x.shape[1:]))

    short = jax.eval_shape(lambda xs: jax.tree.map(cut, xs), xs)
    (moving, tree), (fixed, params_tree) = jax.tree.flatten((state, short)), jax.tree.flatten(params)
    types = [*map(jax.typeof, [*jax.tree.leaves(state), *jax.tree.leaves(short), *fixed])]

    def bytes_a_tick(keep: str) -> int:
        def residuals(*values: jax.Array) -> list:
            state, xs = tree.unflatten(values[: len(moving)])
            params = params_tree.unflatten(values[len(moving) :])
            call = lambda params, state, xs: run(params, state, xs, length=ticks, keep=keep)
            return jax.tree.leaves(jax.vjp(call, params, state, xs)[1])

        jaxpr = jaxprs.trace(residuals, *types).jaxpr
        given = set(jaxpr.invars)
        varying = jaxprs.dependent(jaxpr.eqns, jaxpr.invars[: len(moving)])
        found = {v for v in jaxpr.outvars if not jaxprs.is_literal(v) and v in varying and v not in given}
        return sum(jaxprs.nbytes(v.aval) for v in found if v.aval.ndim and v.aval.shape[0] == ticks) // ticks

    try:
        everything = bytes_a_tick("all")
    except (NotImplementedError, TypeError, ValueError):
        jax.eval_shape(functools.partial(run, length=ticks, keep="all"), params, state, short)
        return Costs(state_bytes(state), 0, 0)  # a step that runs, and has no derivative to keep anything for
    ys = jax.eval_shape(functools.partial(run, length=ticks, keep="all"), params, state, short)[1]
    try:
        carries = bytes_a_tick("carries")
    except NotImplementedError:  # a step with effects, which JAX does not run twice
        carries = everything
    gradients = sum(jaxprs.nbytes(t) for t in types[len(moving) :] if jaxprs.is_float(t))
    inputs = state_bytes(short) // ticks
    return Costs(state_bytes(state), everything, carries, state_bytes(ys) // ticks, gradients, inputs)


def state_bytes(state: PyTree) -> int:
    """Bytes of a tree of arrays, or of their types."""
    return sum(jaxprs.nbytes(jax.typeof(leaf)) for leaf in jax.tree.leaves(state))


class Predicted(NamedTuple):
    """Bytes that value and gradient take beside parameters, inputs and results.

    Attributes:
      kept: for the gradient, by the schedule; with the inputs once more where chunks leave ticks over.
      outputs: the outputs of all ticks, and as many cotangents of theirs.
      at_work: what chunks at work and the parameters' gradients take above the outputs, which are gone when the
        cotangents are there.
    """

    kept: int
    outputs: int
    at_work: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.kept + self.outputs + self.at_work


def predicted(schedule: Schedule, length: int, costs: Costs) -> Predicted:
    """What a gradient over ``length`` ticks takes by a schedule.

        kept + T y + max(T y, K w + g)                          what is kept is read
        kept + T y + max(T y, K w + 2 N y + n g)                chunks run again

    as a chunk of K ticks at work takes w a tick; blocks of N ticks in all that run again have outputs and cotangents of
    their own. Gradients of a chunk are there once, n = 1, and twice where ticks or nested blocks add up their own.
    Where ticks are left over, inputs are cut, T x more; they are first in the backward pass, while all outputs are
    there, and a short chunk of L of them that runs again takes L (r + x + 2 y).
    """
    ys, chunk, again = length * costs.outputs, min(schedule.chunk, length), schedule.keep == "nothing"
    left_over = length % chunk if again and chunk != length else 0
    sums = 2 if again and (costs.tickwise or schedule.blocks) else 1
    work = chunk * costs.at_work.get(schedule.keep, 0) + sums * costs.gradients
    first = left_over * (costs.all + costs.inputs + 2 * costs.outputs)
    if again:
        sizes = [schedule.chunk, *schedule.blocks, length]
        kept = costs.state * sum(math.ceil(outer / inner) for inner, outer in itertools.pairwise(sizes))
        work += 2 * costs.outputs * sum(schedule.blocks)
    else:
        kept = length * (costs.all if schedule.keep == "all" else costs.carries)
    cut = length * costs.inputs if any(length % size for size in (chunk, *schedule.blocks)) else 0
    above = max(0, work - ys, first) if symbolic.known(work, ys) else work  # of symbols it is not known which is more
    return Predicted(kept + cut, 2 * ys, above)
