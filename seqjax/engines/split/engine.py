"""The split engine: a distributed tick, run a chunk of ticks at a time.

Within a chunk of K ticks, work that depends on inputs only runs as one batch before the loop, work that only feeds
outputs as one batch behind it, and each recurrence is a loop of its own. So nothing of size [T, B, 4h] need exist.
"""

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import jax
from jax import lax

from seqjax import symbolic
from seqjax.base import PyTree
from seqjax.engines import costs, forwards, memory
from seqjax.engines.base import Costs, LoopReport, Problem, Work
from seqjax.engines.equations import jaxprs
from seqjax.engines.equations.jaxprs import Equation, Var
from seqjax.engines.memory import Schedule, divisor
from seqjax.engines.split.chunk import MOST_KEPT, at_work, stacked, ticks_a_chunk
from seqjax.engines.split.distribute import (
    CHEAP,
    Reach,
    Recurrence,
    TracedStep,
    distribute,
    early_and_late,
    traced,
)
from seqjax.engines.split.forward import by_ticks, ticks_instead
from seqjax.engines.split.loop import Loop, loop_of
from seqjax.engines.split.readout import readout
from seqjax.engines.split.runner import Runner
from seqjax.engines.split.tangent import Time
from seqjax.engines.split.values import ChunkValues
from seqjax.engines.split.way import Part, Placed, Scanned, Way

# Equations that only move or reshape; `explain` leaves them out.
MOVES = {"broadcast_in_dim", "reshape", "squeeze", "expand_dims", "slice", "split", "transpose", "concatenate"}


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
    keeps: tuple[str, ...] = ("all", "carries", "nothing")

    def __init__(
        self,
        problem: Problem,
        runner_of: Callable[[Loop], Runner] = lambda loop: Runner(),
        way_of: Callable[[TracedStep, Recurrence], Way | None] = lambda *_: None,
        reach: Callable[[TracedStep, Recurrence], Reach | None] = readout,
        *,
        or_ticks: bool = False,
    ):
        """Traces and distributes the step.

        Args:
          problem: what to run.
          runner_of: how the ticks of each loop are run.
          way_of: the way of a recurrence that is run otherwise than tick by tick; None for one that is not.
          reach: what belongs to a recurrence besides its cycle.
          or_ticks: whether a forward pass may be run tick by tick, where that is faster.

        Raises:
          UnsupportedError: the step has effects.
        """
        self.length, self.reverse = problem.length, problem.reverse
        step, self.params, self.state, self.xs = problem.wrapped()
        tick = traced(step, self.params, self.state, self.xs)
        ways: dict[int, Way] = {}

        def alone(tick: TracedStep, recurrence: Recurrence) -> bool:
            way = way_of(tick, recurrence)
            if way is not None:
                ways[recurrence.leaves[0]] = way
            return way is not None

        self.program = distribute(tick, alone, reach)
        self.order = {e: i for i, e in enumerate(tick.jaxpr.eqns)}
        self.cheap = {v: e for e in self.order if e.primitive.name in CHEAP for v in e.outvars}
        self.early, self.late = early_and_late(self.program)
        self.parts = [self._part(i, runner_of, ways) for i in range(len(self.program.stages))]
        loops = [placed for part in self.parts for placed in part.loops]
        plain = or_ticks and all(way.as_ticks for _, _, way in loops)
        self.forwards = ticks_instead(self.program, self.parts, [loop for loop, _, _ in loops]) if plain else ""
        self.why: tuple[str, ...] = (self.forwards,) if self.forwards else ()

    def _part(self, index: int, runner_of: Callable[[Loop], Runner], ways: dict[int, Way]) -> Part:
        """A stage, with what it must hand on to later ones."""
        program, tick = self.program, self.program.tick
        stage = program.stages[index]
        out = lambda leaves: {v for k in leaves for v in [tick.state_out[k]] if not jaxprs.is_literal(v)}
        # The state behind the last tick is returned anyway; wanted per tick is only what is read per tick.
        wanted = {v for v in tick.y if not jaxprs.is_literal(v)} | out(stage.delays)
        for later in program.stages[index + 1 :]:
            later_loops = [e for r in later.recurrences for e in [*r.equations, *r.copied]]
            wanted.update(jaxprs.used(self._with_cheap([*later.batched, *later_loops])))
            wanted |= out([*(k for r in later.recurrences for k in r.leaves), *later.delays])
        batched = self._with_cheap(stage.batched)
        loops, own = [], set()
        for recurrence in stage.recurrences:
            state, state_out = ([leaves[k] for k in recurrence.leaves] for leaves in (tick.state, tick.state_out))
            looped = self._with_cheap([*recurrence.equations, *recurrence.copied], state_out)
            own.update(jaxprs.used(looped, state_out))
            made = [*(v for e in recurrence.equations for v in e.outvars), *state]
            outputs = [v for v in dict.fromkeys(made) if v in wanted]
            loop = loop_of(tick.jaxpr, looped, state, state_out, outputs, program.invariant)
            if loop.runs:
                way = ways[recurrence.leaves[0]] if recurrence in stage.alone else Scanned(runner_of(loop))
                loops.append(Placed(loop, recurrence, way))
        return Part(stage, batched, [v for e in batched for v in e.outvars if v in wanted | own], loops)

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

        def chunks(schedule: Schedule, values: tuple[list, list, list]) -> tuple[list, list]:
            fixed, state, xs = values
            once = self._once(fixed, state)

            def chunk(state: list, xs: list, *, length: int) -> tuple[list, list]:
                return self._chunk(once, state, xs, Time(length, self.reverse, schedule.keep == "carries"))

            return memory.run(chunk, state, xs, schedule, length=self.length, reverse=self.reverse)

        def ticks(values: tuple[list, list, list]) -> tuple[list, list]:
            fixed, state, xs = values
            once = self._more(self._once(fixed, state), self.late)
            return by_ticks(self.program, once, state, xs, length=self.length, reverse=self.reverse)

        run: Callable[[tuple], tuple[list, list]] = functools.partial(chunks, schedule)
        if self.forwards:
            run = forwards.either(ticks, run)
        elif schedule.chunk_forwards not in (0, schedule.chunk):
            run = forwards.either(functools.partial(chunks, Schedule(schedule.chunk_forwards, "all")), run)
        fixed = [*self.program.tick.constants, *jax.tree.leaves(self.params)]
        state, ys = run((fixed, jax.tree.leaves(self.state), jax.tree.leaves(self.xs)))
        return jax.tree.structure(self.state).unflatten(state), self.program.tick.y_tree.unflatten(ys)

    def chunk(self, length: int, *, keep: str = "carries", forwards: bool = False) -> int:
        """Ticks whose batched work is large enough for a product and small enough for a cache."""
        ways = [placed.way for part in self.parts for placed in part.loops]
        if any(isinstance(way, Scanned) and way.runner.all_at_once for way in ways) or not symbolic.known(length):
            return length
        if self.late:
            # A chunk's gradient is rounded once to the narrow type of the cast weights: many chunks, small roundings.
            return divisor(length, 32)
        if keep == "all" and not forwards and self._mostly_kept:
            return length
        # Of linear recurrences nothing counts: T 262,144, 256 units, a training step would take 1.5 times as long.
        scanned = [loop for part in self.parts for loop, _, way in part.loops if isinstance(way, Scanned)]
        return divisor(length, ticks_a_chunk(self.parts, scanned, length, forwards=forwards))

    def tick_bytes(self) -> int:
        """All that the equations make at a tick."""
        made = [v for e in self.order for v in e.outvars if v not in self.program.invariant]
        return sum(jaxprs.nbytes(v.aval) for v in made)

    @functools.cached_property
    def _mostly_kept(self) -> bool:
        """Whether a chunk would do little but copy what a gradient keeps."""
        loops = [placed.loop for part in self.parts for placed in part.loops]
        if not all(isinstance(way, Scanned) for part in self.parts for _, _, way in part.loops):
            return False
        least = MOST_KEPT * stacked(self.parts, loops)
        # The gradient is traced only where much is made; of cells with layer norm a tick makes 9 times what is stacked.
        return 2 * least <= self.tick_bytes() and least <= self._kept.all

    def costs(self) -> Costs:
        """What a gradient keeps, and what is at work beside it."""
        loops = [placed.loop for part in self.parts for placed in part.loops]
        work = at_work(loops, self._kept)
        if self._mostly_kept:
            work["all"] = 2 * stacked(self.parts, loops)
        return self._kept._replace(at_work=work)

    @functools.cached_property
    def _kept(self) -> Costs:
        """What a gradient keeps, counted from a short chunk."""

        def run(params: PyTree, state: PyTree, xs: PyTree, *, length: int, keep: str) -> tuple[PyTree, PyTree]:
            once = self._once([*self.program.tick.constants, *jax.tree.leaves(params)], jax.tree.leaves(state))
            chunk = lambda state, xs: self._chunk(once, state, xs, Time(length, False, keep == "carries"))
            return memory.kept(chunk, keep, in_loop=True)(jax.tree.leaves(state), jax.tree.leaves(xs))

        return costs.kept_bytes(run, self.params, self.state, self.xs)

    def work(self) -> Work:
        """The stages, as counts of primitives."""
        before, loops, behind = [], [], {}
        for index, part in enumerate(self.parts):
            if not part.loops:
                behind = _counted(part.batched)
                continue
            before.append(_counted(part.batched))
            for loop, recurrence, way in part.loops:
                deferred = (d.variable.aval.str_short() for d in loop.deferred if d.is_product)
                loops.append(
                    LoopReport(
                        stage=index,
                        state=tuple(v.aval.str_short() for v in loop.state),
                        products=sum(map(jaxprs.is_dot, recurrence.equations)),
                        equations=len(recurrence.equations),
                        deferred=() if way.said else tuple(dict.fromkeys(deferred)),
                        way=way.said,
                    )
                )
        return Work(_counted(self.program.once), tuple(before), tuple(loops), behind)

    def _once(self, fixed: list, state: list) -> dict[Var, jax.Array]:
        """What is the same at every tick, computed once."""
        tick, never = self.program.tick, self.program.constant_state
        variables = [*tick.params, *(tick.state[k] for k in never)]
        given = [*fixed, *(state[k] for k in never)]
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
            for placed in part.loops:
                loop, leaves = placed.loop, placed.recurrence.leaves
                invariant, x = [values.once[v] for v in loop.invariant], [values.stack[v] for v in loop.x]
                last, ys = self.loop(placed, invariant, [state[k] for k in leaves], x, time)
                values.stack.update(zip(loop.outputs, ys))
                for k, value in zip(leaves, last):
                    new[k] = value
            for k in part.stage.delays:
                new[k], before = self.delay(state[k], self._read(values, tick.state_out[k]), time)
                values.stack[tick.state[k]] = before
        return new, [self._read(values, v) for v in tick.y]

    def loop(self, placed: Placed, invariant: Sequence, state: Sequence, xs: Sequence, time: Time) -> tuple[list, list]:
        """One loop, in its way: the last state and the outputs per tick."""
        return placed.way.run(placed.loop, invariant, state, xs, time)

    def delay(self, first: jax.Array, after: jax.Array, time: Time) -> tuple[jax.Array, jax.Array]:
        """A leaf that only delays a value: the last of its values, and those before every tick."""
        first = first[None]
        before = [after[1:], first] if time.reverse else [first, after[:-1]]
        return after[0] if time.reverse else after[-1], lax.concatenate(before, 0)

    def _read(self, values: ChunkValues, v: Var) -> jax.Array:
        """A value for every tick; a cheap one that no stage kept is computed here."""
        if not jaxprs.is_literal(v) and v not in values.stack and v not in values.once:
            values.compute(self._with_cheap([], [v]), [v])
        return values.read(v)


def _counted(equations: Iterable[Equation]) -> dict[str, int]:
    """Primitives by count, without those that only move or reshape."""
    names = (name for e in equations for name in jaxprs.names(e))
    return dict(Counter(name for name in names if name not in MOVES))
