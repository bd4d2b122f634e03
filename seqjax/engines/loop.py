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
from jax import lax
from jax.extend import core
from jax.extend.core import primitives

from seqjax.engines import jaxprs
from seqjax.engines.jaxprs import Equation, Var

BILINEAR = (primitives.dot_general_p, primitives.conv_general_dilated_p)


class Deferred(NamedTuple):
    """An operand whose tangent enters for all ticks at once, through ε at the root of its sum."""

    equation: Equation
    operand: int
    root: Var

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
    """

    def __init__(
        self,
        template: core.Jaxpr,
        equations: Sequence[Equation],
        state: Sequence[Var],
        state_out: Sequence[Var],
        outputs: Sequence[Var],
        invariant: set[Var],
    ):
        """Sorts what the equations read by how often it changes."""
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
        for e in self.equations:
            if len(e.invars) != 2 or any(map(jaxprs.is_literal, e.invars)):
                continue
            outside = [i for i, v in enumerate(e.invars) if v not in inside and jaxprs.is_float(v.aval)]
            if len(outside) != 1:
                continue
            product = e.primitive in BILINEAR and e.invars[outside[0]] in invariant
            if product or e.primitive is primitives.add_p:
                yield Deferred(e, outside[0], self._root(e.outvars[0]))

    def _root(self, v: Var) -> Var:
        """Follows a value through sums that are its only use."""
        readers = [e for e in self.equations for operand in e.invars if operand is v]
        wanted = any(v is out for out in [*self.state_out, *self.outputs])
        if wanted or len(readers) != 1 or readers[0].primitive is not primitives.add_p:
            return v
        (total,) = readers[0].outvars
        same = total.aval.shape == v.aval.shape and total.aval.dtype == v.aval.dtype
        return self._root(total) if same else v

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

        n = len(self.state)
        tick = jaxprs.function(
            self.template,
            self.equations,
            [*self.invariant, *self.state, *self.x],
            [*self.state_out, *self.outputs],
        )

        def primal(invariant: Sequence, state: Sequence, xs: Sequence) -> tuple[list, list]:
            def body(s: list, x: list) -> tuple[list, list]:
                out = tick([*invariant, *s, *x])
                return out[:n], out[n:]

            return lax.scan(body, list(state), list(xs), length=length, reverse=reverse)

        if not any(jaxprs.is_float(v.aval) for v in [*self.invariant, *self.state, *self.x]):
            return primal(invariant, state, xs)
        differentiable = jax.custom_jvp(primal)

        def rule(primals: tuple, tangents: tuple) -> tuple:
            return Tangent(self, tangents, recompute).run(*primals, length=length, reverse=reverse)

        differentiable.defjvp(rule, symbolic_zeros=True)
        return differentiable(list(invariant), list(state), list(xs))
