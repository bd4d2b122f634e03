"""Loop distribution: one tick's equations sorted into work before, inside and behind the loops.

Equations and carried leaves are the nodes of a graph; a leaf is an edge from its new value to its old one. Strongly
connected components are the recurrences proper: everything else can be done for many ticks at once. The components
in topological order give a program of stages; at each stage first batched work, then the loop of all recurrences of
that stage, then carried leaves that only delay a value.
"""

import graphlib
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from seqjax.base import PyTree
from seqjax.engines.base import UnsupportedError
from seqjax.engines.equations import jaxprs
from seqjax.engines.equations.jaxprs import Equation, Jaxpr, Var
from seqjax.engines.equations.rewrite import rewritten

# Recomputed where they are read, so that a mask of shape [B] is not kept as [T, B, h].
CHEAP = {"broadcast_in_dim", "reshape", "squeeze", "expand_dims", "convert_element_type"}


class TracedStep(NamedTuple):
    """One tick as equations: ``state_out, y = equations(params, state, x)``."""

    jaxpr: Jaxpr
    constants: list
    params: list[Var]
    state: list[Var]
    x: list[Var]
    state_out: list[Var]
    y: list[Var]
    y_tree: Any


class Recurrence(NamedTuple):
    """A cycle of equations, and the leaves of the state it goes through, as their indices.

    Attributes:
      equations: of the cycle, and those that `Reach` adds.
      leaves: of the state.
      copied: equations of work in front of the loop that are done within it.
    """

    equations: list[Equation]
    leaves: list[int]
    copied: list[Equation]


class Reach(NamedTuple):
    """Equations outside a cycle that belong to its loop.

    Attributes:
      copied: done within the loop whether or not also in front of it.
      readers: moved into the loop from behind it.
    """

    copied: list[Equation]
    readers: list[Equation]


class Stage(NamedTuple):
    """Batched equations, then loops, then delays, leaves of the state by their indices.

    Attributes:
      batched: equations for many ticks at once.
      looped: all recurrences of the stage that run as one.
      alone: recurrences that are run each in a way of its own.
      delays: leaves that only delay a value.
    """

    batched: list[Equation]
    looped: Recurrence
    alone: list[Recurrence]
    delays: list[int]

    @property
    def recurrences(self) -> list[Recurrence]:
        """All that loops."""
        return [self.looped, *self.alone]


class Program(NamedTuple):
    """A tick, the variables that never change along time, and the stages of the rest."""

    tick: TracedStep
    once: list[Equation]
    constant_state: list[int]
    invariant: set[Var]
    stages: list[Stage]


def traced(step: Callable, params: PyTree, state: PyTree, xs: PyTree) -> TracedStep:
    """Traces ``step``, once, at the types of its arguments, ``xs`` having a leading axis of time.

    Raises:
      UnsupportedError: the step has effects.
    """
    (flat_params, params_tree), (flat_state, state_tree), (flat_xs, xs_tree) = map(
        jax.tree.flatten, (params, state, xs)
    )
    n, m = len(flat_params), len(flat_state)

    def flat(*values: jax.Array) -> tuple[list, PyTree]:
        params, state, x = values[:n], values[n : n + m], values[n + m :]
        new, y = step(params_tree.unflatten(params), state_tree.unflatten(state), xs_tree.unflatten(x))
        return jax.tree.leaves(new), y

    avals = [*map(jax.typeof, [*flat_params, *flat_state]), *jaxprs.element_types(flat_xs)]
    raw, (_, y) = jaxprs.trace_with_tree(flat, *avals)
    if raw.jaxpr.effects:
        raise UnsupportedError("the step has effects")
    ticks = flat_xs[0].shape[0] if flat_xs else None
    closed = rewritten(jaxprs.inlined(raw), params=n, state=m, ticks=ticks)
    jaxpr = closed.jaxpr.replace(eqns=jaxprs.needed(closed.jaxpr.eqns, closed.jaxpr.outvars))
    variables = list(jaxpr.invars)
    return TracedStep(
        jaxpr=jaxpr,
        constants=list(closed.consts),
        params=[*jaxpr.constvars, *variables[:n]],
        state=variables[n : n + m],
        x=variables[n + m :],
        state_out=list(jaxpr.outvars[:m]),
        y=list(jaxpr.outvars[m:]),
        y_tree=jax.tree.structure(y),
    )


def distribute(
    tick: TracedStep,
    alone: Callable[[TracedStep, Recurrence], bool] = lambda *_: False,
    reach: Callable[[TracedStep, Recurrence], Reach | None] = lambda *_: None,
) -> Program:
    """Sorts a tick's equations into stages.

    Args:
      tick: the equations.
      alone: which recurrences are not to be joined with others.
      reach: what belongs to a recurrence besides; left where it was if that makes a circle.
    """
    equations, leaves = tick.jaxpr.eqns, len(tick.state)
    n = len(equations)
    producer = {v: i for i, e in enumerate(equations) for v in e.outvars}
    producer.update({v: n + k for k, v in enumerate(tick.state)})

    def sources(variables: list[Var]) -> list[int]:
        return [producer[v] for v in variables if not jaxprs.is_literal(v) and v in producer]

    reads = [sources(e.invars) for e in equations] + [sources([v]) for v in tick.state_out]
    component = _components(reads)
    members = _members(component)
    copied: dict[int, list[Equation]] = {}

    def recurrence(nodes: list[int]) -> Recurrence:
        nodes = sorted(nodes)
        own = [e for m in nodes for e in copied.get(m, ())]
        return Recurrence([equations[m] for m in nodes if m < n], [m - n for m in nodes if m >= n], own)

    order = _order(component, reads)
    assert order is not None, "cycles of equations lie within a component"
    for c, nodes in members.items():
        found = reach(tick, recurrence(nodes)) if len(nodes) > 1 else None
        if found is None:
            continue
        readers = [producer[e.outvars[0]] for e in found.readers]
        joined = np.where(np.isin(np.arange(n + leaves), readers), c, component)
        new = _order(joined, reads)
        if new is not None and all(len(members[component[m]]) == 1 for m in readers):
            component, order, copied[nodes[0]] = joined, new, found.copied
    members = _members(component)

    invariant = set(tick.params)
    stage: dict[int, int] = {}
    kind: dict[int, str] = {}
    for c in order:
        nodes = members[c]
        node = nodes[0]
        outside = {r for m in nodes for r in reads[m] if component[r] != c}
        own_kind = _kind(tick, nodes, invariant)
        if own_kind == "once":
            invariant.update(equations[node].outvars if node < n else [tick.state[node - n]])
        own_stage = max((stage[r] + _behind(kind[r], own_kind) for r in outside if kind[r] != "once"), default=0)
        for m in nodes:
            stage[m], kind[m] = own_stage, own_kind

    own = [nodes for nodes in members.values() if len(nodes) > 1 and alone(tick, recurrence(nodes))]
    apart = {m for nodes in own for m in nodes}

    def pick(kind_wanted: str, s: int) -> list[int]:
        return [m for m in range(n + leaves) if kind[m] == kind_wanted and stage[m] == s and m not in apart]

    stages = [
        Stage(
            batched=recurrence(pick("batched", s)).equations,
            looped=recurrence(pick("loop", s)),
            alone=[recurrence(nodes) for nodes in own if stage[nodes[0]] == s],
            delays=recurrence(pick("delay", s)).leaves,
        )
        for s in range(max(stage.values(), default=0) + 1)
    ]
    return Program(
        tick=tick,
        once=[e for i, e in enumerate(equations) if kind[i] == "once"],
        constant_state=[k for k in range(leaves) if kind[n + k] == "once"],
        invariant=invariant,
        stages=stages,
    )


def early_and_late(program: Program) -> tuple[list[Equation], list[Equation]]:
    """Splits the invariant equations: a cast to fewer bits, and all behind it, is repeated in every chunk.

    Its tangent is then summed over chunks in the wide type.
    """
    late: dict[Equation, None] = {}
    narrow: set[Var] = set()
    for e in program.once:
        casts = e.primitive.name == "convert_element_type" and _narrows(e)
        if casts or any(not jaxprs.is_literal(v) and v in narrow for v in e.invars):
            late[e] = None
            narrow.update(e.outvars)
    return [e for e in program.once if e not in late], list(late)


def _narrows(equation: Equation) -> bool:
    before, after = equation.invars[0].aval, equation.outvars[0].aval
    floats = jaxprs.is_float(before) and jaxprs.is_float(after)
    return floats and after.dtype.itemsize < before.dtype.itemsize


def _behind(before: str, after: str) -> bool:
    """Whether a node must wait for the next stage: within one, batched work comes first, the loop, then delays."""
    return before == "delay" or (before == "loop" and after != "delay")


def _components(reads: list[list[int]]) -> np.ndarray:
    """The strongly connected component of every node."""
    size = len(reads)
    rows = [r for node, rs in enumerate(reads) for r in rs]
    columns = [node for node, rs in enumerate(reads) for _ in rs]
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(size, size))
    return connected_components(graph, connection="strong")[1]


def _members(component: np.ndarray) -> dict[int, list[int]]:
    """The nodes of every component."""
    members = defaultdict(list)
    for node, c in enumerate(component.tolist()):
        members[c].append(node)
    return members


def _order(component: np.ndarray, reads: list[list[int]]) -> list[int] | None:
    """The components, each behind those that it reads; None if there is a circle of them."""
    after: dict[int, set[int]] = defaultdict(set)
    of = component.tolist()
    for node, sources in enumerate(reads):
        after[of[node]] |= {of[r] for r in sources} - {of[node]}
    try:
        return list(graphlib.TopologicalSorter(after).static_order())
    except graphlib.CycleError:
        return None


def _kind(tick: TracedStep, nodes: list[int], invariant: set[Var]) -> str:
    """``once``, ``batched``, ``loop`` or ``delay``."""
    n = len(tick.jaxpr.eqns)
    if len(nodes) > 1:
        return "loop"
    (node,) = nodes
    if node >= n:
        unchanged = tick.state_out[node - n] is tick.state[node - n]
        return "once" if unchanged else "delay"
    equation = tick.jaxpr.eqns[node]
    if all(jaxprs.is_literal(v) or v in invariant for v in equation.invars):
        return "once"
    return "loop" if jaxprs.any_equation(equation, jaxprs.tickwise) else "batched"
