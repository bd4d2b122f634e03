"""The split engine: a distributed tick, run a chunk of ticks at a time.

Within a chunk of K ticks, work that depends on inputs only runs as one batch before the loop, work that only feeds
outputs as one batch behind it, and each recurrence is a loop of its own. So nothing of size [T, B, 4h] need exist.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
from jax import lax

from seqjax import symbolic
from seqjax.base import PyTree
from seqjax.engines import costs, memory
from seqjax.engines.base import Costs, LoopReport, Problem, Work
from seqjax.engines.equations import jaxprs
from seqjax.engines.equations.jaxprs import Equation, Var
from seqjax.engines.memory import Schedule, divisor
from seqjax.engines.split.distribute import CHEAP, Program, Stage, distribute, traced
from seqjax.engines.split.loop import Loop, loop_of
from seqjax.engines.split.runner import Runner
from seqjax.engines.split.tangent import Time, run_loop

# Equations that only move or reshape; `explain` leaves them out.
MOVES = {"broadcast_in_dim", "reshape", "squeeze", "expand_dims", "slice", "split", "transpose", "concatenate"}


class Part(NamedTuple):
    """One stage, ready to run: its batched equations, what of them is wanted later, its loop and how that is run."""

    stage: Stage
    batched: list[Equation]
    outputs: list[Var]
    loop: Loop
    runner: Runner


def prepare(problem: Problem) -> "Split":
    """Work in its place: what depends on inputs only is done in front of the loop, what only feeds outputs behind it.

    Independent recurrences become loops of their own, and weight gradients leave the backward loop.

    Raises:
      UnsupportedError: the step has effects.
    """
    return Split(problem)


class Split:
    """A step, traced and distributed at the types of its arguments."""

    name = "split"
    keeps = ("all", "carries", "nothing")

    def __init__(self, problem: Problem, runner_of: Callable[[Loop], Runner] = lambda loop: Runner()):
        """Traces and distributes the step; ``runner_of`` says how each loop is run.

        Raises:
          UnsupportedError: the step has effects.
        """
        self.why: tuple[str, ...] = ()
        self.length, self.reverse = problem.length, problem.reverse
        step, self.params, self.state, self.xs = problem.wrapped()
        self.program = distribute(traced(step, self.params, self.state, self.xs))
        tick = self.program.tick
        self.order = {e: i for i, e in enumerate(tick.jaxpr.eqns)}
        self.cheap = {v: e for e in self.order if e.primitive.name in CHEAP for v in e.outvars}
        self.early, self.late = _early_and_late(self.program)
        self.parts = [self._part(i, runner_of) for i in range(len(self.program.stages))]

    def _part(self, index: int, runner_of: Callable[[Loop], Runner]) -> Part:
        """A stage, with what it must hand on to later ones."""
        program, tick = self.program, self.program.tick
        stage = program.stages[index]
        out = lambda leaves: {v for k in leaves for v in [tick.state_out[k]] if not jaxprs.is_literal(v)}
        # The state behind the last tick is returned anyway; wanted per tick is only what is read per tick.
        wanted = {v for v in tick.y if not jaxprs.is_literal(v)} | out(stage.delays)
        for later in program.stages[index + 1 :]:
            wanted.update(jaxprs.used(self._with_cheap([*later.batched, *later.looped])))
            wanted |= out([*later.loop, *later.delays])
        state, state_out = ([leaves[k] for k in stage.loop] for leaves in (tick.state, tick.state_out))
        looped = self._with_cheap(stage.looped, state_out)
        batched = self._with_cheap(stage.batched)
        own = set(jaxprs.used(looped, state_out))
        made = [*(v for e in stage.looped for v in e.outvars), *state]
        outputs = [v for v in dict.fromkeys(made) if v in wanted]
        loop = loop_of(tick.jaxpr, looped, state, state_out, outputs, program.invariant)
        return Part(stage, batched, [v for e in batched for v in e.outvars if v in wanted | own], loop, runner_of(loop))

    def _with_cheap(self, equations: Sequence[Equation], outputs: Sequence[Var] = ()) -> list[Equation]:
        """The equations and the cheap ones they read from elsewhere, in their old order."""
        chosen = set(equations)
        todo = jaxprs.used(equations, outputs)
        while todo:
            v = todo.pop()
            producer = self.cheap.get(v)
            if producer is not None and v not in self.program.invariant and producer not in chosen:
                chosen.add(producer)
                todo.extend(u for u in producer.invars if not jaxprs.is_literal(u))
        return sorted(chosen, key=self.order.__getitem__)

    def run(self, schedule: Schedule) -> tuple[PyTree, PyTree]:
        """Runs the step by a schedule."""
        once = self._once(self.params, self.state)
        leaves, tree = jax.tree.flatten(self.state)

        def chunk(state: list, xs: list, *, length: int) -> tuple[list, list]:
            return self._chunk(once, state, xs, Time(length, self.reverse, schedule.keep == "carries"))

        state, ys = memory.run(
            chunk, leaves, jax.tree.leaves(self.xs), schedule, length=self.length, reverse=self.reverse
        )
        return tree.unflatten(state), self.program.tick.y_tree.unflatten(ys)

    def chunk(self, length: int) -> int:
        """Ticks whose batched work is large enough for a product and small enough for a cache."""
        if any(part.runner.all_at_once for part in self.parts) or not symbolic.known(length):
            return length
        if self.late:
            # A chunk's gradient is rounded once to the narrow type of the cast weights: many chunks, small roundings.
            return divisor(length, 32)
        # Half a megabyte of batched values, at least 8 ticks. Measured, an LSTM's training step on one core in ms with
        # chunks of 8, 32, 64, 128 ticks and all of T (B, h: batched values a tick): 16, 128 (32 KB): 36.9, 41.4, 42.9,
        # 47.0, 47.7 for 256 ticks; 16, 256 (64 KB): 130, 137, 149, 153, 155 for 256; 4, 128 (8 KB): 42.0, 37.8, 38.0,
        # 40.7, 49.1 for 1,024.
        batched_bytes = sum(jaxprs.nbytes(v.aval) for part in self.parts for v in part.outputs)
        return divisor(length, max(8, 2**19 // max(batched_bytes, 1)))

    def tick_bytes(self) -> int:
        """All that the equations make at a tick."""
        made = [v for e in self.order for v in e.outvars if v not in self.program.invariant]
        return sum(jaxprs.nbytes(v.aval) for v in made)

    def costs(self) -> Costs:
        """Counted from a short chunk."""

        def run(params: PyTree, state: PyTree, xs: PyTree, *, length: int, keep: str) -> tuple[PyTree, PyTree]:
            once = self._once(params, state)
            chunk = lambda state, xs: self._chunk(once, state, xs, Time(length, False, keep == "carries"))
            return memory.kept(chunk, keep, in_loop=True)(jax.tree.leaves(state), jax.tree.leaves(xs))

        return costs.kept_bytes(run, self.params, self.state, self.xs)

    def work(self) -> Work:
        """The stages, as counts of primitives."""
        before, loops, behind = [], [], {}
        for index, part in enumerate(self.parts):
            if not part.loop.runs:
                behind = _counted(part.batched)
                continue
            before.append(_counted(part.batched))
            deferred = (d.variable.aval.str_short() for d in part.loop.deferred if d.is_product)
            loops.append(
                LoopReport(
                    stage=index,
                    state=tuple(v.aval.str_short() for v in part.loop.state),
                    products=sum(map(jaxprs.is_dot, part.stage.looped)),
                    equations=len(part.stage.looped),
                    deferred=tuple(dict.fromkeys(deferred)),
                )
            )
        return Work(_counted(self.program.once), tuple(before), tuple(loops), behind)

    def _once(self, params: PyTree, state: PyTree) -> dict[Var, jax.Array]:
        """What is the same at every tick, computed once."""
        tick, leaves = self.program.tick, jax.tree.leaves(state)
        variables = [*tick.params, *(tick.state[k] for k in self.program.constant_state)]
        given = [*tick.constants, *jax.tree.leaves(params), *(leaves[k] for k in self.program.constant_state)]
        return self._more(dict(zip(variables, given)), self.early)

    def _more(self, once: dict[Var, jax.Array], equations: list[Equation]) -> dict[Var, jax.Array]:
        """With what equations make of it."""
        made = [v for e in equations for v in e.outvars]
        run = jaxprs.function(self.program.tick.jaxpr, equations, list(once), made)
        return once | dict(zip(made, run(list(once.values()))))

    def _chunk(
        self, once: dict[Var, jax.Array], state: list, xs: list, time: Time
    ) -> tuple[list[jax.Array], list[jax.Array]]:
        """Runs a chunk of ticks; flat lists in and out."""
        tick, new = self.program.tick, list(state)
        values = ChunkValues(self._more(once, self.late), dict(zip(tick.x, xs)), self.program, time.length)
        for part in self.parts:
            values.compute(part.batched, part.outputs)
            if part.loop.runs:
                loop, before = part.loop, [state[k] for k in part.stage.loop]
                invariant, x = [values.once[v] for v in loop.invariant], [values.stack[v] for v in loop.x]
                last, ys = run_loop(loop, part.runner, invariant, before, x, time)
                values.stack.update(zip(loop.outputs, ys))
                for k, value in zip(part.stage.loop, last):
                    new[k] = value
            for k in part.stage.delays:
                after = self._read(values, tick.state_out[k])
                new[k] = after[0] if time.reverse else after[-1]
                first = state[k][None]
                values.stack[tick.state[k]] = lax.concatenate(
                    [after[1:], first] if time.reverse else [first, after[:-1]], 0
                )
        return new, [self._read(values, v) for v in tick.y]

    def _read(self, values: "ChunkValues", v: Var) -> jax.Array:
        """A value for every tick; a cheap one that no stage kept is computed here."""
        if not jaxprs.is_literal(v) and v not in values.stack and v not in values.once:
            values.compute(self._with_cheap([], [v]), [v])
        return values.read(v)


class ChunkValues(NamedTuple):
    """What is known while a chunk runs: ``once``, the same at every tick, and ``stack``, ``[K, ...]`` per tick."""

    once: dict[Var, jax.Array]
    stack: dict[Var, jax.Array]
    program: Program
    length: int

    def read(self, v: Var) -> jax.Array:
        """A value for every tick."""
        if jaxprs.is_literal(v):
            return jaxprs.repeat(jaxprs.literal(v), self.length)
        return jaxprs.repeat(self.once[v], self.length) if v in self.once else self.stack[v]

    def compute(self, equations: list[Equation], outputs: list[Var]) -> None:
        """Runs equations for all ticks at once."""
        if not outputs:
            return
        equations = jaxprs.needed(equations, outputs)
        reads = jaxprs.used(equations, outputs)
        fixed, varying = [v for v in reads if v in self.once], [v for v in reads if v not in self.once]
        run = jaxprs.function(self.program.tick.jaxpr, equations, [*fixed, *varying], outputs)
        values = [self.once[v] for v in fixed]
        mapped = jax.vmap(lambda per_tick: run([*values, *per_tick]), axis_size=self.length)
        self.stack.update(zip(outputs, mapped([self.stack[v] for v in varying])))


def _early_and_late(program: Program) -> tuple[list[Equation], list[Equation]]:
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


def _counted(equations: Iterable[Equation]) -> dict[str, int]:
    """Primitives by count, without those that only move or reshape."""
    names = (name for e in equations for name in jaxprs.names(e))
    return dict(Counter(name for name in names if name not in MOVES))
