"""One tick of a loop, linearised: its values, the coefficients of its linear map, and which of them to keep."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
from jax.extend.core import primitives

from seqjax.engines import jaxprs
from seqjax.engines.jaxprs import Equation, Var
from seqjax.engines.loop import Deferred, Loop

# Pointwise equations cheap enough to repeat in the backward loop; the results of any other are kept.
REPEATED = {
    "abs", "add", "add_any", "and", "broadcast_in_dim", "clamp", "concatenate", "convert_element_type", "copy", "eq",
    "expand_dims", "ge", "gt", "integer_pow", "is_finite", "le", "lt", "max", "min", "mul", "ne", "neg", "not",
    "one_minus_square", "or", "reshape", "select_n", "sign", "slice", "split", "square", "squeeze",
    "stop_gradient", "sub", "transpose", "xor",
}  # fmt: skip


class Pattern(NamedTuple):
    """A loop and the ways in which known tangents enter it.

    Attributes:
      loop: the loop.
      deferred: operands whose tangents enter through ε, for all ticks at once.
      roots: where ε enters.
      fixed: every operand of the loop that could be deferred, by equation and place: constant in the linear tick.
      weights: invariants that are differentiated tick by tick, entering otherwise than as a deferred operand.
      inputs: per-tick inputs likewise.
      moving: the state's leaves that have tangents.
      transposed: weights of which a transposed copy is read by the backward loop.
    """

    loop: Loop
    deferred: list[Deferred]
    roots: list[Var]
    fixed: dict[tuple[int, int], Deferred]
    weights: list[Var]
    inputs: list[Var]
    moving: list[Var]
    transposed: list[Var]


def pattern_of(loop: Loop, moved: Iterable[Var]) -> Pattern:
    """Sorts the loop's operands, given which invariants and inputs have tangents that are not zero."""
    moved = list(moved)
    deferred = [d for d in loop.deferred if d.variable in moved]
    fixed = {(id(d.equation), d.operand): d for d in loop.deferred}
    elsewhere = {
        v
        for e in loop.equations
        for i, v in enumerate(e.invars)
        if (id(e), i) not in fixed and not jaxprs.is_literal(v)
    }
    return Pattern(
        loop=loop,
        deferred=deferred,
        roots=list(dict.fromkeys(d.root for d in deferred)),
        fixed=fixed,
        weights=[v for v in loop.invariant if v in moved and v in elsewhere],
        inputs=[v for v in loop.x if v in moved and v in elsewhere],
        moving=[v for v in loop.state if jaxprs.is_float(v.aval)],
        transposed=list(dict.fromkeys(d.variable for d in loop.deferred if is_matrix_product(d))),
    )


class LinearTick:
    """One tick linearised: equations for its values and coefficients, and the linear map between tangents."""

    def __init__(self, pattern: Pattern):
        """Traces the tick and chooses what to keep."""
        self.pattern, loop = pattern, pattern.loop
        n, r = len(loop.state), len(loop.outputs)
        weights_t = [_transposed_type(v.aval) for v in pattern.transposed]
        once_types = [*(v.aval for v in loop.invariant), *weights_t]
        closed = jaxprs.trace(self._flat, *once_types, *(v.aval for v in [*loop.state, *loop.x]))
        closed = jaxprs.inline(closed, closed.in_avals)
        self.jaxpr, self.constants = closed.jaxpr, list(closed.consts)
        k = len(once_types)
        variables = list(self.jaxpr.invars)
        self.once = [*self.jaxpr.constvars, *variables[:k]]
        self.before, self.x = variables[k : k + n], variables[k + n :]
        outvars = list(self.jaxpr.outvars)
        self.after, self.outputs = outvars[:n], outvars[n : n + r]
        operands, self.coefficients = outvars[n + r : n + r + self.lefts], outvars[n + r + self.lefts :]
        self.left = dict(zip(self.left_of, operands))
        self._choose(variables_of([*operands, *self.coefficients]))

    def function(self, inputs: Sequence[Var], outputs: Sequence[Var]) -> Callable:
        """The equations from these inputs to these outputs."""
        return jaxprs.function(self.jaxpr, jaxprs.needed(self.jaxpr.eqns, outputs, inputs), inputs, outputs)

    def _flat(self, *values: jax.Array) -> list:
        """Values of a tick, then the left operands of deferred products, then the linear map's coefficients."""
        t, loop = self.pattern, self.pattern.loop
        k, n = len(loop.invariant), len(loop.state)
        fixed = dict(zip(loop.invariant, values[:k]))
        values = values[k:]
        transposed = dict(zip(t.transposed, values[: len(t.transposed)]))
        values = values[len(t.transposed) :]
        state, x = dict(zip(loop.state, values[:n])), dict(zip(loop.x, values[n:]))
        fixed |= x
        self.left_of = list(dict.fromkeys(id(d.equation) for d in t.deferred if d.is_product))
        self.lefts = len(self.left_of)

        def moved(weights: list, moving: list, inputs: list, epsilon: list) -> tuple:
            environment = fixed | state
            environment |= dict(zip(t.weights, weights)) | dict(zip(t.moving, moving)) | dict(zip(t.inputs, inputs))
            shift = dict(zip(t.roots, epsilon))
            left = {}

            def rule(equation: Equation, inputs: Sequence) -> list | None:
                d = next((t.fixed[id(equation), i] for i in (0, 1) if (id(equation), i) in t.fixed), None)
                if d is None and not any(v in shift for v in equation.outvars):
                    return None
                inputs = list(inputs)
                if d is not None:
                    inputs[d.operand] = fixed[d.variable]
                    left[id(equation)] = inputs[1 - d.operand]
                outputs = jaxprs.evaluate(loop.template, equation, inputs)
                return [_inject(y, shift[v]) if v in shift else y for v, y in zip(equation.outvars, outputs)]

            names = list(environment)
            outs = [*loop.state_out, *loop.outputs]
            jaxpr = loop.template.replace(
                constvars=[], invars=names, outvars=outs, eqns=loop.equations,
                debug_info=loop.template.debug_info.with_unknown_names(),
            )  # fmt: skip
            results = jaxprs.interpret(jaxpr, [], list(environment.values()), rule)
            tangents = [y for v, y in zip(outs, results) if jaxprs.is_float(v.aval)]
            return tangents, (results, [left[e] for e in self.left_of])

        start = (
            [fixed[v] for v in t.weights],
            [state[v] for v in t.moving],
            [x[v] for v in t.inputs],
            [jaxprs.zeros(v.aval) for v in t.roots],
        )
        _, linear, (results, left) = jax.linearize(moved, *start, has_aux=True)
        flat, tree = jax.tree.flatten(start)
        pairs = [(fixed[v], transposed[v]) for v in t.transposed]
        closed = jaxprs.trace(lambda *d: jax.tree.leaves(linear(*tree.unflatten(d))), *map(jax.typeof, flat))
        closed = jaxprs.inline(closed, closed.in_avals, lambda e, inputs: _with_transposed(e, inputs, pairs))
        inner = closed.jaxpr
        self.linear = jaxprs.function(inner, inner.eqns, [*inner.constvars, *inner.invars], inner.outvars)
        return [*results, *left, *closed.consts]

    def _choose(self, wanted: list[Var]) -> None:
        """Decides what is kept per tick: the nearest values from which cheap equations give the coefficients."""
        eqns = self.jaxpr.eqns
        producer = {v: e for e in eqns for v in e.outvars}
        self.constant = set(self.once)
        for e in eqns:
            if all(jaxprs.is_literal(v) or v in self.constant for v in e.invars):
                self.constant.update(e.outvars)
        free = self.constant | set(self.x)
        kept: dict[Var, None] = {}
        size = lambda variables: sum(jaxprs.nbytes(v.aval) for v in variables)

        def sources(v: Var) -> dict[Var, None]:
            """The smallest set not kept yet from which cheap equations give ``v``."""
            if jaxprs.is_literal(v) or v in free or v in kept:
                return {}
            equation = producer.get(v)
            if equation is None or equation.primitive.name not in REPEATED:
                return {v: None}
            found: dict[Var, None] = {}
            for operand in equation.invars:
                found |= sources(operand)
            return found if size(found) <= size([v]) else {v: None}

        varying = [v for v in wanted if v not in self.constant]
        # What has one source first, so that values of several find them kept already.
        for v in sorted(varying, key=lambda v: len(_origins(v, producer, free))):
            kept |= sources(v)
        states = set(self.before)
        self.kept = [v for v in kept if v not in states]
        repeat = jaxprs.needed(eqns, varying, [*kept, *free])
        reads = jaxprs.used(repeat, varying)
        self.states_read = [v for v in self.before if v in reads]
        self.sources = [v for v in reads if v not in self.constant]
        self.fixed = [v for v in variables_of([*reads, *wanted]) if v in self.constant]
        self.varying = varying
        self._again = jaxprs.function(self.jaxpr, repeat, [*self.sources, *self.fixed], varying)

    def once_values(self, once: list) -> list:
        """Values that are the same at every tick."""
        return self.function(self.once, self.fixed)(once)

    def rebuild(self, sources: list, fixed: list) -> list:
        """The linear map's coefficients at one tick."""
        environment = dict(zip(self.varying, self._again([*sources, *fixed]))) | dict(zip(self.fixed, fixed))
        return [jaxprs.literal(v) if jaxprs.is_literal(v) else environment[v] for v in self.coefficients]

    def batched(self, v: Var, stack: dict[Var, jax.Array], fixed: list, length: int) -> jax.Array:
        """One value for all ticks at once."""
        if jaxprs.is_literal(v):
            return jaxprs.repeat(jaxprs.literal(v), length)
        if v in stack:
            return stack[v]
        if v in self.constant:
            return jaxprs.repeat(dict(zip(self.fixed, fixed))[v], length)
        f = self.function([*self.sources, *self.fixed], [v])
        return jax.vmap(lambda sources: f([*sources, *fixed])[0])([stack[s] for s in self.sources])


@jax.custom_jvp
def _inject(value: jax.Array, epsilon: jax.Array) -> jax.Array:
    """``value`` with tangent ``valuė + ε̇``."""
    return value


_inject.defjvp(lambda primals, tangents: (primals[0], tangents[0] + tangents[1]))


def is_matrix_product(d: Deferred) -> bool:
    """``[*B, h] @ [h, k]``, the form whose transposed weight is laid out for the backward loop."""
    if d.equation.primitive is not primitives.dot_general_p or d.operand != 1 or d.variable.aval.ndim != 2:
        return False
    (left, right), (left_batch, _) = d.equation.params["dimension_numbers"]
    return not left_batch and tuple(right) == (0,) and tuple(left) == (d.equation.invars[0].aval.ndim - 1,)


def _with_transposed(equation: Equation, inputs: Sequence, pairs: Sequence[tuple]) -> list | None:
    """Rule: ``ḣ @ U`` reads the transposed copy of U, so that its transpose, the backward product, reads U in rows."""
    if equation.primitive is not primitives.dot_general_p:
        return None
    (left, right), batch = equation.params["dimension_numbers"]
    for weight, weight_t in pairs:
        if inputs[1] is weight and tuple(right) == (0,):
            params = {**equation.params, "dimension_numbers": ((left, (1,)), batch)}
            return [equation.primitive.bind(inputs[0], weight_t, **params)]
    return None


def _origins(v: Var, producer: dict, free: set[Var]) -> set[Var]:
    """The values that are not cheap to repeat behind a value."""
    if jaxprs.is_literal(v) or v in free:
        return set()
    equation = producer.get(v)
    if equation is None or equation.primitive.name not in REPEATED:
        return {v}
    return set().union(*(_origins(operand, producer, free) for operand in equation.invars))


def variables_of(values: Iterable[Var]) -> list[Var]:
    """The variables among values, each once; literals left out."""
    return list(dict.fromkeys(v for v in values if not jaxprs.is_literal(v)))


def _transposed_type(aval: jaxprs.Aval) -> jaxprs.Aval:
    return jaxprs.trace(lambda w: w.T, aval).out_avals[0]
