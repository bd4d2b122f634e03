"""One loop as data: the recurrent part of a tick, and which of its operands are deferred to ε.

The derivative of a recurrence is a linear recurrence. In ``z = x̂ + h U + b`` only ``ḣ U`` runs along time; what the
tangents of x̂, U and b contribute to ż is known for all ticks at once:

    ż_t = ḣ_{t-1} U + ε_t        ε = hs U̇ + x̂̇ + ḃ      (one batched product)

So the tangent is: batched ε, then a linear scan (`seqjax.engines.split.tangent`). JAX transposes that into split
backpropagation through time: one product a tick in the backward loop, Ū = Σ_t h_{t-1}ᵀ z̄_t as one product behind it.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from seqjax.engines.equations import jaxprs
from seqjax.engines.equations.jaxprs import Equation, Jaxpr, Var


class Piece(NamedTuple):
    """One result of an equation that splits a value: ``place`` says which."""

    split: Equation
    place: int


class Deferred(NamedTuple):
    """An operand whose tangent enters for all ticks at once, through ε at the root of its sum.

    Attributes:
      equation: the product or sum.
      operand: which of its operands.
      root: where ε enters.
      piece: where the tangent is that of a piece of the root only: which.
    """

    equation: Equation
    operand: int
    root: Var
    piece: Piece | None

    @property
    def variable(self) -> Var:
        """The operand."""
        return self.equation.invars[self.operand]

    @property
    def is_product(self) -> bool:
        """Whether the operand is a weight of a product, rather than a summand."""
        return jaxprs.is_product(self.equation)


class Loop(NamedTuple):
    """Equations that recur.

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

    template: Jaxpr
    equations: list[Equation]
    state: list[Var]
    state_out: list[Var]
    outputs: list[Var]
    invariant: list[Var]
    x: list[Var]
    deferred: list[Deferred]
    tickwise: bool

    @property
    def runs(self) -> bool:
        """Whether there is anything to run along time."""
        return bool(self.equations or self.state)

    def tick(self) -> Callable[[list], list]:
        """One tick as a flat function of invariants, state and inputs."""
        inputs = [*self.invariant, *self.state, *self.x]
        return jaxprs.function(self.template, self.equations, inputs, [*self.state_out, *self.outputs])


def loop_of(
    template: Jaxpr,
    equations: Sequence[Equation],
    state: Sequence[Var],
    state_out: Sequence[Var],
    outputs: Sequence[Var],
    invariant: set[Var],
) -> Loop:
    """Sorts what equations read by how often it changes; ``invariant`` holds what never does."""
    reads = jaxprs.used(equations, [*state_out, *outputs])
    own = [v for v in reads if v in invariant]
    return Loop(
        template=template,
        equations=list(equations),
        state=list(state),
        state_out=list(state_out),
        outputs=list(outputs),
        invariant=own,
        x=[v for v in reads if v not in invariant and v not in set(state)],
        deferred=_deferred(equations, set(state), [*state_out, *outputs], set(own)),
        tickwise=any(jaxprs.any_equation(e, jaxprs.tickwise) for e in equations),
    )


def _deferred(
    equations: Sequence[Equation], state: set[Var], wanted: Sequence[Var], invariant: set[Var]
) -> list[Deferred]:
    """Weights in products, and summands from outside the loop.

    Summands that are broadcast are left in it where nothing else makes their root's ε, which is larger than they are.
    """
    readers = _only_readers(equations, wanted)
    inside = {v for e in equations for v in e.outvars} | state
    pieces = _pieces(equations, readers)
    found: list[Deferred] = []
    for e in equations:
        if len(e.invars) != 2 or any(map(jaxprs.is_literal, e.invars)):
            continue
        outside = [i for i, v in enumerate(e.invars) if v not in inside and jaxprs.is_float(v.aval)]
        if len(outside) != 1:
            continue
        product = jaxprs.is_product(e) and e.invars[outside[0]] in invariant
        if product or jaxprs.is_sum(e):
            root = _root(e.outvars[0], readers)
            found.append(Deferred(e, outside[0], *pieces.get(root, (root, None))))
    worth = {d.root for d in found if d.is_product or d.variable.aval.shape == d.equation.outvars[0].aval.shape}
    return [d for d in found if d.root in worth]


def _pieces(equations: Sequence[Equation], readers: dict[Var, Equation]) -> dict[Var, tuple[Var, Piece]]:
    """Sums over a piece of a product, as that piece: so one ε serves ``x̂_i + split(h U)_i`` for all gates i."""
    products = {v for e in equations if jaxprs.is_product(e) for v in e.outvars}
    found: dict[Var, tuple[Var, Piece]] = {}
    for e in equations:
        if e.primitive.name == "split" and e.invars[0] in products and e.invars[0] in readers:
            for i, v in enumerate(e.outvars):
                found.setdefault(_root(v, readers), (e.invars[0], Piece(e, i)))
    return found


def _only_readers(equations: Sequence[Equation], wanted: Sequence[Var]) -> dict[Var, Equation]:
    """The equation that reads a value, for each value that is read once and that no one else wants."""
    once: dict[Var, Equation] = {}
    often = {v for v in wanted if not jaxprs.is_literal(v)}
    for e in equations:
        for v in e.invars:
            if not jaxprs.is_literal(v):
                often |= {v} & once.keys()
                once[v] = e
    return {v: e for v, e in once.items() if v not in often}


def _root(v: Var, readers: dict[Var, Equation]) -> Var:
    """Follows a value through sums that are its only use."""
    reader = readers.get(v)
    if reader is None or not jaxprs.is_sum(reader):
        return v
    (total,) = reader.outvars
    same = total.aval.shape == v.aval.shape and total.aval.dtype == v.aval.dtype
    return _root(total, readers) if same else v


def bytes_of(variables: Iterable[Var]) -> int:
    """Of each variable once."""
    return sum(jaxprs.nbytes(v.aval) for v in {v for v in variables if not jaxprs.is_literal(v)})
