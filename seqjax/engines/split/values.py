"""What is known while a chunk of ticks runs."""

import functools
import itertools
from typing import NamedTuple

import jax

from seqjax.engines.equations import jaxprs
from seqjax.engines.equations.jaxprs import Equation, Var
from seqjax.engines.split import repeated
from seqjax.engines.split.distribute import Program
from seqjax.engines.split.rows import are_one_axis, as_rows


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
        pieces = [(rows, list(piece)) for rows, piece in itertools.groupby(equations, self._by_rows)]
        for i, (rows, piece) in enumerate(pieces):
            later = jaxprs.used([e for _, piece in pieces[i + 1 :] for e in piece], outputs)
            made = {v for e in piece for v in e.outvars}
            if rows:
                self.stack.update((e.outvars[0], self._product(e)) for e in piece)
            else:
                self._map(piece, [v for v in later if v in made])
        self._map([], [v for v in outputs if v not in self.stack])

    def _by_rows(self, equation: Equation) -> bool:
        """Whether an equation is a product with a weight, best done as one product of matrices."""
        return are_one_axis(equation) and equation.invars[0] not in self.once and equation.invars[1] in self.once

    def _product(self, equation: Equation) -> jax.Array:
        """Such a product for all ticks."""

        # Under a checkpoint: the gradient keeps the ticks' values as they are, not a copy of them as rows.
        @functools.partial(jax.checkpoint, prevent_cse=False)
        def product(stack: jax.Array, weight: jax.Array) -> jax.Array:
            one = lambda rows: jaxprs.evaluate(self.program.tick.jaxpr, equation, [rows, weight])[0]
            return as_rows(one, stack)

        return product(self.stack[equation.invars[0]], self.once[equation.invars[1]])

    def _map(self, equations: list[Equation], outputs: list[Var]) -> None:
        """Equations, tick by tick."""
        reads = jaxprs.used(equations, outputs)
        fixed, varying = [v for v in reads if v in self.once], [v for v in reads if v not in self.once]
        rule = repeated.rule(equations, varying)
        run = jaxprs.function(self.program.tick.jaxpr, equations, [*fixed, *varying], outputs, rule)
        values = [self.once[v] for v in fixed]
        mapped = jax.vmap(lambda per_tick: run([*values, *per_tick]), axis_size=self.length)
        self.stack.update(zip(outputs, mapped([self.stack[v] for v in varying])))
