"""The split engine: a distributed tick, run a chunk of ticks at a time.

Within a chunk of K ticks, work that depends on inputs only runs as one batch before the loop, work that only feeds
outputs as one batch behind it, and each recurrence is a loop of its own. So nothing of size [T, B, 4h] need exist.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import lax
from jax.extend import core

from seqjax.base import PyTree
from seqjax.engines import jaxprs
from seqjax.engines.chunked import Schedule, run
from seqjax.engines.distribute import CHEAP, Program, distribute, trace_tick
from seqjax.engines.jaxprs import Equation, Var
from seqjax.engines.loop import Loop
from seqjax.engines.ticks import Ticks


class Split:
    """A step prepared for the split engine at the types of its arguments."""

    def __init__(self, step: Callable, params: PyTree, state: PyTree, xs: PyTree, ticks: Ticks | None = None):
        """Traces and distributes the step; ``ticks`` runs its loops, by plain scans if it is None.

        Raises:
          UnsupportedError: the step has effects.
        """
        self.ticks = ticks or Ticks()
        self.program = distribute(trace_tick(step, params, state, xs))
        tick = self.program.tick
        self.equations: list[Equation] = list(tick.jaxpr.eqns)
        self.order = {id(e): i for i, e in enumerate(self.equations)}
        self.cheap = {v: e for e in self.equations if e.primitive.name in CHEAP for v in e.outvars}
        early, self.late = _early(self.program)
        self.early_values = [v for e in early for v in e.outvars]
        given = [*tick.params, *(tick.state[k] for k in self.program.constant_state)]
        self.run_early = jaxprs.function(tick.jaxpr, early, given, self.early_values)
        self.parts = [self._part(i) for i in range(len(self.program.stages))]
        made = [v for e in self.equations for v in e.outvars if v not in self.program.invariant]
        self.tick_bytes = sum(jaxprs.nbytes(v.aval) for v in made)
        self.batched_bytes = sum(jaxprs.nbytes(v.aval) for _, (_, outputs), _ in self.parts for v in outputs)

    def _part(self, index: int) -> tuple:
        """One stage's batched equations, loop and delays, with what each must hand on."""
        program, tick = self.program, self.program.tick
        stage = program.stages[index]
        later = {v for v in [*tick.y, *tick.state_out] if not jaxprs.is_literal(v)}
        for s in program.stages[index + 1 :]:
            later.update(jaxprs.used(self._with_cheap([*s.batched, *s.looped])))
            later.update(v for k in s.loop for v in [tick.state_out[k]] if not jaxprs.is_literal(v))
        looped = self._with_cheap(stage.looped, [tick.state_out[k] for k in stage.loop])
        own = set(jaxprs.used(looped, [tick.state_out[k] for k in stage.loop]))
        batched = self._with_cheap(stage.batched)
        batch_outputs = [v for e in batched for v in e.outvars if v in later | own]
        state = [tick.state[k] for k in stage.loop]
        made = [*(v for e in stage.looped for v in e.outvars), *state]
        # The state behind the last tick is returned anyway; only what is read per tick is an output.
        per_tick = {v for v in tick.y if not jaxprs.is_literal(v)}
        for s in program.stages[index + 1 :]:
            per_tick.update(jaxprs.used(self._with_cheap([*s.batched, *s.looped])))
            per_tick.update(v for k in [*s.loop, *s.delays] for v in [tick.state_out[k]] if not jaxprs.is_literal(v))
        per_tick.update(tick.state_out[k] for k in stage.delays if not jaxprs.is_literal(tick.state_out[k]))
        loop = Loop(
            tick.jaxpr, looped, state, [tick.state_out[k] for k in stage.loop],
            [v for v in dict.fromkeys(made) if v in per_tick], program.invariant, self.ticks,
        )  # fmt: skip
        return stage, (batched, batch_outputs), loop

    def _with_cheap(self, equations: Sequence[Equation], outputs: Sequence[Var] = ()) -> list[Equation]:
        """The equations and the cheap ones they read from elsewhere, in their old order."""
        chosen = {id(e): e for e in equations}
        todo = jaxprs.used(equations, outputs)
        while todo:
            v = todo.pop()
            producer = self.cheap.get(v)
            if producer is not None and v not in self.program.invariant and id(producer) not in chosen:
                chosen[id(producer)] = producer
                todo.extend(u for u in producer.invars if not jaxprs.is_literal(u))
        return sorted(chosen.values(), key=lambda e: self.order[id(e)])

    def early(self, params: PyTree, state: PyTree) -> list:
        """What is the same at every tick, computed once."""
        leaves = jax.tree.leaves(state)
        tick = self.program.tick
        given = [*tick.constants, *jax.tree.leaves(params), *(leaves[k] for k in self.program.constant_state)]
        return [*given, *self.run_early(given)]

    def chunk(self, early: list, state: list, xs: list, *, length: int, reverse: bool, recompute: bool) -> tuple:
        """Runs ``length`` ticks; flat lists in and out."""
        tick = self.program.tick
        given = [*tick.params, *(tick.state[k] for k in self.program.constant_state), *self.early_values]
        run_late = jaxprs.function(tick.jaxpr, self.late, given, [v for e in self.late for v in e.outvars])
        once = dict(zip(given, early)) | dict(zip((v for e in self.late for v in e.outvars), run_late(early)))
        stack = dict(zip(tick.x, xs))
        new = list(state)

        def read(v: Var) -> jax.Array:
            if jaxprs.is_literal(v):
                return jaxprs.repeat(jaxprs.literal(v), length)
            return jaxprs.repeat(once[v], length) if v in once else stack[v]

        def run_batched(equations: list[Equation], outputs: list[Var]) -> None:
            equations = jaxprs.needed(equations, outputs)
            reads = jaxprs.used(equations, outputs)
            fixed, varying = [v for v in reads if v in once], [v for v in reads if v not in once]
            run = jaxprs.function(tick.jaxpr, equations, [*fixed, *varying], outputs)
            values = [once[v] for v in fixed]
            mapped = jax.vmap(lambda per_tick: run([*values, *per_tick]), axis_size=length)
            stack.update(zip(outputs, mapped([stack[v] for v in varying])))

        for stage, (batched, outputs), loop in self.parts:
            if outputs:
                run_batched(batched, outputs)
            if stage.loop or stage.looped:
                last, ys = loop.run(
                    [once[v] for v in loop.invariant],
                    [state[k] for k in stage.loop],
                    [stack[v] for v in loop.x],
                    length=length,
                    reverse=reverse,
                    recompute=recompute,
                )
                stack.update(zip(loop.outputs, ys))
                for k, value in zip(stage.loop, last):
                    new[k] = value
            for k in stage.delays:
                self._ensure(tick.state_out[k], stack, once, run_batched)
                values = read(tick.state_out[k])
                new[k] = values[0] if reverse else values[-1]
                first = state[k][None]
                stack[tick.state[k]] = lax.concatenate([values[1:], first] if reverse else [first, values[:-1]], 0)
        for v in tick.y:
            self._ensure(v, stack, once, run_batched)
        return new, [read(v) for v in tick.y]

    def _ensure(self, v: Var, stack: dict, once: dict, run_batched: Callable) -> None:
        """Computes a cheap value that no stage kept."""
        if not jaxprs.is_literal(v) and v not in stack and v not in once:
            run_batched(self._with_cheap([], [v]), [v])


def _early(program: Program) -> tuple[list[Equation], list[Equation]]:
    """Splits the invariant equations: a cast to fewer bits, and all behind it, is repeated in every chunk.

    Its tangent is then summed over chunks in the wide type.
    """
    late: list[Equation] = []
    narrow: set[Var] = set()
    for e in program.once:
        casts = e.primitive.name == "convert_element_type" and _narrows(e)
        if casts or any(not jaxprs.is_literal(v) and v in narrow for v in e.invars):
            late.append(e)
            narrow.update(e.outvars)
    behind = {id(e) for e in late}
    return [e for e in program.once if id(e) not in behind], late


def _narrows(equation: core.JaxprEqn) -> bool:
    before: Any = equation.invars[0].aval
    after: Any = equation.outvars[0].aval
    floats = jaxprs.is_float(before) and jaxprs.is_float(after)
    return floats and after.dtype.itemsize < before.dtype.itemsize


def split(
    prepared: Split,
    params: PyTree,
    state: PyTree,
    xs: PyTree,
    *,
    schedule: Schedule,
    length: int,
    reverse: bool,
) -> tuple[PyTree, PyTree]:
    """Runs a prepared step by a schedule."""
    early = prepared.early(params, state)
    leaves, tree = jax.tree.flatten(state)

    def chunk(state: list, xs: list, *, length: int) -> tuple[list, list]:
        recompute = schedule.keep == "carries"
        return prepared.chunk(early, state, xs, length=length, reverse=reverse, recompute=recompute)

    state, ys = run(chunk, leaves, jax.tree.leaves(xs), schedule, length=length, reverse=reverse)
    return tree.unflatten(state), prepared.program.tick.y_tree.unflatten(ys)
