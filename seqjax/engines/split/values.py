"""What is known while a chunk of ticks runs."""

from typing import NamedTuple

import jax

from seqjax.engines.equations import jaxprs
from seqjax.engines.equations.jaxprs import Equation, Var
from seqjax.engines.split.distribute import Program


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
