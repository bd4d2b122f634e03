"""The equations of a tick, evaluated for all ticks of a chunk with the state as a symbol; see `forms`.

Selections on one and the same condition are looked through: where a tick is absent a step runs on a stand-in for its
state, whose result is thrown away by the same condition; so the stand-in is never multiplied with anything.
"""

from collections.abc import Sequence

from seqjax.engines.equations import jaxprs
from seqjax.engines.equations.jaxprs import Equation, Var
from seqjax.engines.linear.matrix import known
from seqjax.engines.linear.matrix.forms import Form, Known, Value
from seqjax.engines.linear.matrix.known import MOVES
from seqjax.engines.linear.matrix.rules import Rules
from seqjax.engines.split.loop import Loop

# Conditions that are taken to hold, or not.
Taken = frozenset[tuple[Var, bool]]


class Reading:
    """One loop's equations.

    Attributes:
      rules: the state, and what is read of it.
    """

    def __init__(self, loop: Loop, invariant: Sequence, xs: Sequence, axes: tuple[int, int]):
        """Takes the values of a chunk.

        Args:
          loop: the equations.
          invariant: values that never change.
          xs: values per tick, ``[C, …]``.
          axes: of S, the one along which it is read, and that of what is read.
        """
        self.loop, (self.state,) = loop, loop.state
        self.rules = Rules(self.state, axes)
        self.producer = {v: e for e in loop.equations for v in e.outvars}
        self.depends = jaxprs.dependent(loop.equations, loop.state)
        given = zip([*loop.invariant, *loop.x], [*(x[None] for x in invariant), *xs])
        self.memo: dict[tuple[Var, Taken], Value] = {(v, frozenset()): Known(x) for v, x in given}

    def of(self, v: Var, taken: Taken = frozenset()) -> Value:
        """A variable's value.

        Raises:
          UnstructuredError: an equation that makes of S what has no form.
        """
        if jaxprs.is_literal(v):
            return known.literal(v)
        taken = taken if v in self.depends else frozenset()
        if (v, taken) not in self.memo:
            self.memo[v, taken] = self._made(v, taken)
        return self.memo[v, taken]

    def after(self) -> Form:
        """The state after the tick."""
        (after,) = self.loop.state_out
        return self.rules.form(self.of(after), self.rules.labels, "the new state")

    def _made(self, v: Var, taken: Taken) -> Value:
        if v is self.state:
            return Form(self.rules.labels, self.rules.one(), {}, (), None)
        e = self.producer[v]
        if e.primitive.name == "select_n" and len(e.invars) == 3 and v in self.depends:
            return self._select(e, taken)
        return self._result(e, [self.of(u, taken) for u in e.invars], v)

    def _result(self, e: Equation, values: list[Value], v: Var) -> Value:
        arrays = [value.array for value in values if isinstance(value, Known)]
        if len(arrays) == len(values):
            return known.made(self.loop.template, e, arrays, v, self.rules.shape)
        return self.rules.apply(e, values)

    def _select(self, e: Equation, taken: Taken) -> Value:
        which, off, on = e.invars
        if jaxprs.is_literal(which):
            return self.of(on if which.val else off, taken)
        condition, turned = self._condition(which)
        for value in (True, False):
            if (condition, value) in taken:
                return self.of(on if value != turned else off, taken)
        sides = [self.of(u, taken | {(condition, value != turned)}) for u, value in ((off, False), (on, True))]
        return self._result(e, [self.of(which), *sides], e.outvars[0])

    def _condition(self, v: Var) -> tuple[Var, bool]:
        """The variable that a condition is a copy of, and whether it is turned round."""
        turned = False
        while not jaxprs.is_literal(v) and v in self.producer:
            e = self.producer[v]
            if e.primitive.name == "not":
                turned = not turned
            elif e.primitive.name not in MOVES | {"copy"}:
                break
            v = e.invars[0]
        return v, turned
