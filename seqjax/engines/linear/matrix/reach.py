"""Which equations belong to a matrix state: those of its cycle, what makes its updates, and what reads it.

An update k vᵀ is as large as the state and does not depend on it, a read qᵀ S does not lie on the cycle: sorted by
cycles alone, the one would be made for all ticks in front of the loop and the other behind it, of ``[T, m, n]`` each.
"""

import itertools
import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

from seqjax import symbolic
from seqjax.engines.equations import jaxprs
from seqjax.engines.equations.jaxprs import Equation, Var
from seqjax.engines.linear.matrix.forms import UnstructuredError
from seqjax.engines.linear.matrix.known import MOVES
from seqjax.engines.linear.matrix.way import Matrix, along
from seqjax.engines.split.distribute import Reach, Recurrence, TracedStep
from seqjax.engines.split.loop import loop_of

SHAPED = MOVES | {
    "add", "add_any", "convert_element_type", "copy", "div", "dot_general", "mul", "neg", "not", "reduce_sum",
    "select_n", "sub",
}  # fmt: skip


class Found(NamedTuple):
    """A matrix state, what belongs to it, and how it is run."""

    reach: Reach
    way: Matrix


def matrix_state(tick: TracedStep, recurrence: Recurrence) -> Found | str:
    """A recurrence as a matrix state, or why it is none."""
    if len(recurrence.leaves) != 1:
        return f"a cycle through {len(recurrence.leaves)} leaves of the state"
    state = tick.state[recurrence.leaves[0]]
    if not all(map(symbolic.known, state.aval.shape)):
        return f"{state.aval.str_short()}: sizes that are no numbers"
    wide = [i for i, n in enumerate(state.aval.shape) if n > 1]
    if len(wide) < 2 or not jaxprs.is_float(state.aval):
        return f"{state.aval.str_short()} is no matrix"
    try:
        reach = _reach(tick, recurrence, state)
    except UnstructuredError as error:
        return str(error)
    equations = _sorted(tick, [*recurrence.equations, *reach.copied, *reach.readers])
    after = tick.state_out[recurrence.leaves[0]]
    outputs = _outputs(tick, equations, reach.copied, state)
    varying = jaxprs.dependent(tick.jaxpr.eqns, [*tick.state, *tick.x])
    fixed = {v for e in tick.jaxpr.eqns for v in e.outvars} | set(tick.params)
    loop = loop_of(tick.jaxpr, equations, [state], [after], outputs, fixed - varying)
    reasons = []
    for axes in sorted(itertools.permutations(wide, 2), key=lambda pair: (-max(pair), -min(pair), pair[0])):
        try:
            return Found(reach, along(loop, axes))
        except UnstructuredError as error:
            reasons.append(str(error))
    return reasons[0]


def _reach(tick: TracedStep, recurrence: Recurrence, state: Var) -> Reach:
    size = math.prod(state.aval.shape)
    large = lambda v: math.prod(v.aval.shape) >= size
    producer = {v: e for e in tick.jaxpr.eqns for v in e.outvars}
    own = set(recurrence.equations)
    matrices = {state, *(v for e in recurrence.equations for v in e.outvars if large(v))}
    readers: dict[Equation, None] = {}
    for e in tick.jaxpr.eqns:
        if e in own or not any(not jaxprs.is_literal(v) and v in matrices for v in e.invars):
            continue
        if e.primitive.name not in SHAPED:
            raise UnstructuredError(f"{e.primitive.name} {e.outvars[0].aval.str_short()} of the state at every tick")
        readers[e] = None
        matrices.update(v for v in e.outvars if large(v))
    others = [v for k, v in enumerate(tick.state_out) if k not in recurrence.leaves]
    for v in [*tick.y, *others]:
        if not jaxprs.is_literal(v) and v in matrices:
            raise UnstructuredError(f"{v.aval.str_short()}: the state at every tick is asked for")
    copied: dict[Equation, None] = {}
    todo = [v for e in [*own, *readers] for v in _large_or_conditions(e, large)]
    while todo:
        v = todo.pop()
        made = producer.get(v)
        if made is None or made in own or made in readers or made in copied:
            continue
        # Of conditions what only turns or repeats them: two choices by one condition are to be known as such.
        if made.primitive.name in (SHAPED if large(v) else MOVES | {"not"}):
            copied[made] = None
            todo.extend(_large_or_conditions(made, large if large(v) else lambda u: True))
    return Reach(_sorted(tick, copied), list(readers))


def _large_or_conditions(e: Equation, large: Callable[[Var], bool]) -> list[Var]:
    """What of an equation's operands is as large as the state, or says which of two is taken."""
    operands = [v for v in e.invars if not jaxprs.is_literal(v)]
    return [v for v in operands if large(v) or (e.primitive.name == "select_n" and v is e.invars[0])]


def _outputs(tick: TracedStep, equations: list[Equation], copied: list[Equation], state: Var) -> list[Var]:
    """What others read of a loop's equations."""
    inside = set(equations)
    made = {v for e in equations if e not in set(copied) for v in e.outvars}
    outside = [v for e in tick.jaxpr.eqns if e not in inside for v in e.invars]
    read = [v for v in [*outside, *tick.y, *tick.state_out] if not jaxprs.is_literal(v) and v in made]
    size = math.prod(state.aval.shape)
    return [v for v in dict.fromkeys(read) if math.prod(v.aval.shape) < size]


def _sorted(tick: TracedStep, equations: Iterable[Equation]) -> list[Equation]:
    order = {e: i for i, e in enumerate(tick.jaxpr.eqns)}
    return sorted(equations, key=order.__getitem__)
