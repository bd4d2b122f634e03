"""One loop of the split engine: the recurrent part of a tick, scanned, with a derivative that is split.

The derivative of a recurrence is a linear recurrence. In ``z = x̂ + h U + b`` only ``ḣ U`` runs along time; what the
tangents of x̂, U and b contribute to ż is known for all ticks at once:

    ż_t = ḣ_{t-1} U + ε_t        ε = hs U̇ + x̂̇ + ḃ      (one batched product)

So the tangent is: batched ε, then a linear scan (`seqjax.engines.tangent`). JAX transposes that into split
backpropagation through time: one product a tick in the backward loop, Ū = Σ_t h_{t-1}ᵀ z̄_t as one product behind it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
from jax.extend import core
from jax.extend.core import primitives

from seqjax.engines import jaxprs
from seqjax.engines.jaxprs import Equation, Var
from seqjax.engines.ticks import Tick, Ticks

BILINEAR = (primitives.dot_general_p, primitives.conv_general_dilated_p)


class Deferred(NamedTuple):
    """An operand whose tangent enters for all ticks at once, through ε at the root of its sum.

    Attributes:
      equation: the product or sum.
      operand: which of its operands.
      root: where ε enters.
      piece: where the tangent is that of a piece of the root only: the equation that splits the root, and which piece.
    """

    equation: Equation
    operand: int
    root: Var
    piece: tuple[Equation, int] | None

    @property
    def variable(self) -> Var:
        """The operand."""
        return self.equation.invars[self.operand]

    @property
    def is_product(self) -> bool:
        """Whether the operand is a weight of a product, rather than a summand."""
        return self.equation.primitive in BILINEAR


class Loop:
    """Equations that recur, over a chunk of ticks.

    Attributes:
      template: the jaxpr the equations come from.
      equations: the recurrent part of a tick.
      state: variables of the state before a tick, and ``state_out`` after it.
      outputs: variables wanted per tick.
      invariant: variables read that never change along time.
      x: variables read that come per tick.
      deferred: operands whose tangents leave the loop.
      tickwise: whether some equation must not be batched over ticks.
      ticks: how ticks are run.
    """

    def __init__(
        self,
        template: core.Jaxpr,
        equations: Sequence[Equation],
        state: Sequence[Var],
        state_out: Sequence[Var],
        outputs: Sequence[Var],
        invariant: set[Var],
        ticks: Ticks,
    ):
        """Sorts what the equations read by how often it changes."""
        self.ticks = ticks
        self.template, self.equations = template, list(equations)
        self.state, self.state_out, self.outputs = list(state), list(state_out), list(outputs)
        reads = jaxprs.used(equations, [*state_out, *outputs])
        self.invariant = [v for v in reads if v in invariant]
        self.x = [v for v in reads if v not in invariant and v not in set(state)]
        self.deferred = list(self._defer())
        self.tickwise = any(jaxprs.any_equation(e, jaxprs.tickwise) for e in self.equations)

    def _defer(self):
        """Weights in products, and summands from outside the loop."""
        inside = {v for e in self.equations for v in e.outvars} | set(self.state)
        invariant = set(self.invariant)
        pieces = self._pieces()
        for e in self.equations:
            if len(e.invars) != 2 or any(map(jaxprs.is_literal, e.invars)):
                continue
            outside = [i for i, v in enumerate(e.invars) if v not in inside and jaxprs.is_float(v.aval)]
            if len(outside) != 1:
                continue
            product = e.primitive in BILINEAR and e.invars[outside[0]] in invariant
            if product or e.primitive is primitives.add_p:
                root = self._root(e.outvars[0])
                yield Deferred(e, outside[0], *pieces.get(root, (root, None)))

    def _pieces(self) -> dict[Var, tuple[Var, tuple[Equation, int]]]:
        """Sums over a piece of a product, as that piece: so one ε serves ``x̂_i + split(h U)_i`` for all gates i."""
        products = {v for e in self.equations if e.primitive in BILINEAR for v in e.outvars}
        found: dict[Var, tuple[Var, tuple[Equation, int]]] = {}
        for e in self.equations:
            if e.primitive.name == "split" and e.invars[0] in products and self._only_reader(e.invars[0]):
                for i, v in enumerate(e.outvars):
                    found.setdefault(self._root(v), (e.invars[0], (e, i)))
        return found

    def _only_reader(self, v: Var) -> Equation | None:
        """The equation that reads a value, if there is one and no one else wants it."""
        readers = [e for e in self.equations for operand in e.invars if operand is v]
        wanted = any(v is out for out in [*self.state_out, *self.outputs])
        return readers[0] if len(readers) == 1 and not wanted else None

    def _root(self, v: Var) -> Var:
        """Follows a value through sums that are its only use."""
        reader = self._only_reader(v)
        if reader is None or reader.primitive is not primitives.add_p:
            return v
        (total,) = reader.outvars
        same = total.aval.shape == v.aval.shape and total.aval.dtype == v.aval.dtype
        return self._root(total) if same else v

    def tick(self) -> Tick:
        """One tick as a flat function of invariants, state and inputs."""
        inputs = [*self.invariant, *self.state, *self.x]
        return jaxprs.function(self.template, self.equations, inputs, [*self.state_out, *self.outputs])

    def run(
        self,
        invariant: Sequence,
        state: Sequence,
        xs: Sequence,
        *,
        length: int,
        reverse: bool,
        recompute: bool,
    ) -> tuple[list, list]:
        """Runs the loop; returns the last state and the outputs per tick.

        With ``recompute`` the backward pass keeps the states only and recomputes activations in one batch.
        """
        from seqjax.engines.tangent import Tangent

        tick = self.tick()

        def primal(invariant: Sequence, state: Sequence, xs: Sequence) -> tuple[list, list]:
            return self.ticks.run(tick, invariant, state, xs, length=length, reverse=reverse)

        if not any(jaxprs.is_float(v.aval) for v in [*self.invariant, *self.state, *self.x]):
            return primal(invariant, state, xs)
        differentiable = jax.custom_jvp(primal)

        def rule(primals: tuple, tangents: tuple) -> tuple:
            return Tangent(self, tangents, recompute).run(*primals, length=length, reverse=reverse)

        differentiable.defjvp(rule, symbolic_zeros=True)
        return differentiable(list(invariant), list(state), list(xs))
