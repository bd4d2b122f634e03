"""Readouts that are much smaller than what they read, which stay in the loop: the mean of many units, one row of them.

Behind the loop they would be one piece of work for all ticks, but all that they read would be written for it, and in a
backward pass as much of cotangents. Products gain more from being done at once than that costs.
"""

from seqjax import symbolic
from seqjax.engines.equations import jaxprs
from seqjax.engines.equations.jaxprs import Equation
from seqjax.engines.split.distribute import Reach, Recurrence, TracedStep
from seqjax.engines.split.loop import bytes_of

# What is handed on, in bytes a tick, from which on a readout is looked at, and how many times smaller it is then.
# Measured on two cores, float32, 512 ticks, a training step beside `jax.lax.scan`'s, behind the loop and in it: one of
# 512 neighbours on a ring 1.23 and 1.03; the sum of a matrix of 32 × 32 1.17
# and 1.03; the mean of 4,096 units .78 and .61; one of 128 units .56 and .45.
LARGE, SMALLER = 4096, 4


def readout(tick: TracedStep, recurrence: Recurrence) -> Reach | None:
    """The equations behind a recurrence that are done in its loop; None if it hands on little, or they no less."""
    equations = tick.jaxpr.eqns
    moved = jaxprs.dependent(equations, tick.state)
    own = set(recurrence.equations)
    made = {v for e in own for v in e.outvars} | {tick.state[k] for k in recurrence.leaves}
    readers: dict[Equation, None] = {}
    reached = set(made)
    for e in equations:
        reads = {v for v in e.invars if not jaxprs.is_literal(v) and v in moved}
        if e not in own and reads and reads <= reached and not _heavy(e):
            readers[e] = None
            reached.update(e.outvars)
    if not readers:
        return None
    wanted = [v for k, v in enumerate(tick.state_out) if k not in recurrence.leaves] + tick.y
    handed = lambda inside: bytes_of(
        v for v in jaxprs.used([e for e in equations if e not in inside], wanted) if v in reached
    )
    before, after = handed(own), handed(own | readers.keys())
    if not symbolic.known(before + after) or before < LARGE or before < SMALLER * after:
        return None
    return Reach([], list(readers))


def _heavy(equation: Equation) -> bool:
    return jaxprs.any_equation(equation, lambda e: jaxprs.is_product(e) or jaxprs.tickwise(e))
