"""One tick of a loop, linearised: its values, the coefficients of its linear map, and the map. Pure functions."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax

from seqjax.engines.equations import jaxprs
from seqjax.engines.equations.jaxprs import Aval, ClosedJaxpr, Equation, Jaxpr, Var
from seqjax.engines.split.loop import Deferred, Loop


class Moving(NamedTuple):
    """The operands of a loop that have tangents, by the way these enter.

    Attributes:
      deferred: operands whose tangents enter through ε, for all ticks at once.
      roots: where ε enters.
      weights: invariants that are differentiated tick by tick, entering otherwise than as a deferred operand.
      inputs: per-tick inputs likewise.
      state: the state's leaves that have tangents.
      transposed: weights of which a transposed copy is read by the backward loop.
    """

    deferred: list[Deferred]
    roots: list[Var]
    weights: list[Var]
    inputs: list[Var]
    state: list[Var]
    transposed: list[Var]


def moving_operands(loop: Loop, moved: Iterable[Var]) -> Moving:
    """Sorts a loop's operands, given which invariants and inputs have tangents that are not zero."""
    moved = list(moved)
    deferred = [d for d in loop.deferred if d.variable in moved]
    deferrable = {(d.equation, d.operand) for d in loop.deferred}
    elsewhere = {
        v
        for e in loop.equations
        for i, v in enumerate(e.invars)
        if (e, i) not in deferrable and not jaxprs.is_literal(v)
    }
    return Moving(
        deferred=deferred,
        roots=list(dict.fromkeys(d.root for d in deferred)),
        weights=[v for v in loop.invariant if v in moved and v in elsewhere],
        inputs=[v for v in loop.x if v in moved and v in elsewhere],
        state=[v for v in loop.state if jaxprs.is_float(v.aval)],
        transposed=list(dict.fromkeys(d.variable for d in loop.deferred if reads_weight_in_columns(d))),
    )


class LinearTick(NamedTuple):
    """One tick linearised: ``(after, outputs, left, coefficients) = jaxpr(once, before, x)``, and the linear map.

    Attributes:
      jaxpr: values of the tick and coefficients of its linear map.
      constants: values of the first of ``once``.
      once: variables that never change along time: constants, invariants, transposed weights.
      before: variables of the state before the tick, and ``after`` behind it.
      x: variables that come per tick.
      outputs: variables wanted per tick.
      left: by the equation of a deferred product, its other operand.
      coefficients: of the linear map.
      linear: the linear map, ``[*coefficients, *weights, *state, *inputs, *ε]`` to tangents of ``after`` and outputs.
    """

    jaxpr: Jaxpr
    constants: list
    once: list[Var]
    before: list[Var]
    after: list[Var]
    x: list[Var]
    outputs: list[Var]
    left: dict[Equation, Var]
    coefficients: list[Var]
    linear: Callable[[list], list]

    def function(self, inputs: Sequence[Var], outputs: Sequence[Var]) -> Callable[[list], list]:
        """The equations from these inputs to these outputs."""
        return jaxprs.function(self.jaxpr, jaxprs.needed(self.jaxpr.eqns, outputs, inputs), inputs, outputs)


def linearize(loop: Loop, moving: Moving, transposed: Sequence[Aval]) -> LinearTick:
    """Linearises a tick; ``transposed`` are the types of the transposed weights."""
    left_of = list(dict.fromkeys(d.equation for d in moving.deferred if d.is_product))
    start_types = [v.aval for v in [*moving.weights, *moving.state, *moving.inputs, *moving.roots]]
    counts = [len(part) for part in (moving.weights, moving.state, moving.inputs, moving.roots)]

    def values(*given: jax.Array) -> tuple[list, list, Callable]:
        """Values of the tick, left operands of its deferred products, and the linear map, whose leaves are arrays."""
        invariant, rest = given[: len(loop.invariant)], given[len(loop.invariant) + len(transposed) :]
        environment = dict(zip([*loop.invariant, *loop.state, *loop.x], [*invariant, *rest]))
        tangents = [environment[v] for v in [*moving.weights, *moving.state, *moving.inputs]]
        epsilon = [jaxprs.zeros(v.aval) for v in moving.roots]
        _, linear, (results, left) = jax.linearize(
            lambda at: _moved(loop, moving, left_of, environment, _parts(at, counts)),
            [*tangents, *epsilon], has_aux=True,
        )  # fmt: skip
        return results, left, linear

    once = [*(v.aval for v in loop.invariant), *transposed]
    closed, (_, left, linear) = jaxprs.trace_with_tree(values, *once, *(v.aval for v in [*loop.state, *loop.x]))
    closed = jaxprs.inlined(closed)
    jaxpr, k, n, r = closed.jaxpr, len(once), len(loop.state), len(loop.outputs)
    invars, outvars = list(jaxpr.invars), list(jaxpr.outvars)
    coefficients = outvars[n + r + len(left) :]
    by_weight = {invars[loop.invariant.index(v)]: invars[len(loop.invariant) + i]
                 for i, v in enumerate(moving.transposed)}  # fmt: skip
    coefficients, run = _linear_map(linear, coefficients, by_weight, start_types)
    return LinearTick(
        jaxpr=jaxpr,
        constants=list(closed.consts),
        once=[*jaxpr.constvars, *invars[:k]],
        before=invars[k : k + n],
        after=outvars[:n],
        x=invars[k + n :],
        outputs=outvars[n : n + r],
        left=dict(zip(left_of, outvars[n + r :])),
        coefficients=coefficients,
        linear=run,
    )


def _parts(values: Sequence, counts: Sequence[int]) -> list[list]:
    rest = iter(values)
    return [[next(rest) for _ in range(count)] for count in counts]


def _moved(
    loop: Loop, moving: Moving, left_of: Sequence[Equation], fixed: dict, at: Sequence[list]
) -> tuple[list, tuple[list, list]]:
    """A tick as a function of what moves: its float results; with them all results, and left operands."""
    weights, state, inputs, epsilon = at
    moved = dict(zip([*moving.weights, *moving.state, *moving.inputs], [*weights, *state, *inputs]))
    environment = {v: moved.get(v, fixed[v]) for v in [*loop.invariant, *loop.state, *loop.x]}
    shift = dict(zip(moving.roots, epsilon))
    deferrable = {d.equation: d for d in loop.deferred}
    left: dict[Equation, jax.Array] = {}

    def rule(equation: Equation, inputs: list) -> list | None:
        d = deferrable.get(equation)
        if d is None and not any(v in shift for v in equation.outvars):
            return None
        if d is not None:
            inputs = list(inputs)
            inputs[d.operand] = fixed[d.variable]
            left[equation] = inputs[1 - d.operand]
        outputs = jaxprs.evaluate(loop.template, equation, inputs)
        return [_inject(y, shift[v]) if v in shift else y for v, y in zip(equation.outvars, outputs)]

    outs = [*loop.state_out, *loop.outputs]
    jaxpr = loop.template.replace(
        constvars=[], invars=list(environment), outvars=outs, eqns=loop.equations,
        debug_info=loop.template.debug_info.with_unknown_names(),
    )  # fmt: skip
    results = jaxprs.interpret(jaxpr, [], list(environment.values()), rule)
    floats = [y for v, y in zip(outs, results) if jaxprs.is_float(v.aval)]
    return floats, (results, [left[e] for e in left_of])


def _linear_map(
    linear: Any, coefficients: Sequence[Var], transposed: dict[Var, Var], moving: Sequence[Aval]
) -> tuple[list[Var], Callable[[list], list]]:
    """The map as a flat function, and the coefficients that it reads."""
    structure, count = jax.tree.structure(linear), len(coefficients)

    def flat(*values: jax.Array) -> list:
        return jax.tree.leaves(structure.unflatten(values[:count])(list(values[count:])))

    closed = jaxprs.inlined(jaxprs.trace(flat, *jax.tree.leaves(linear), *moving))
    equations, read = _with_transposed(closed, dict(zip(closed.jaxpr.invars, coefficients)), transposed)
    reads = set(jaxprs.used(equations, closed.jaxpr.outvars))
    used = {inside: outside for inside, outside in read.items() if inside in reads}
    inputs = [*closed.jaxpr.constvars, *used, *closed.jaxpr.invars[count:]]
    run = jaxprs.function(closed.jaxpr, equations, inputs, closed.jaxpr.outvars)
    return list(used.values()), lambda values: run([*closed.consts, *values])


def _with_transposed(
    closed: ClosedJaxpr, coefficients: dict[Var, Var], transposed: dict[Var, Var]
) -> tuple[list[Equation], dict[Var, Var]]:
    """``ḣ @ U`` reads the transposed copy of U, so that its transpose, the backward product, reads U in rows.

    Args:
      closed: the linear map.
      coefficients: by its own variable, each coefficient's in the tick.
      transposed: by a weight's variable in the tick, its transposed copy's.

    Returns:
      The equations, and the coefficients that they read instead.
    """
    copies: dict[Var, Var] = {}
    equations = []
    for e in jaxprs.needed(closed.jaxpr.eqns, closed.jaxpr.outvars):
        weight = coefficients.get(e.invars[1]) if jaxprs.is_dot(e) and not jaxprs.is_literal(e.invars[1]) else None
        (left, right), batch = e.params["dimension_numbers"] if weight in transposed else (((), ()), ())
        if weight in transposed and tuple(right) == (0,):
            copy = copies.setdefault(weight, jaxprs.variable(transposed[weight].aval))
            e = e.replace(invars=[e.invars[0], copy], params=e.params | {"dimension_numbers": ((left, (1,)), batch)})
        equations.append(e)
    return equations, coefficients | {copy: transposed[weight] for weight, copy in copies.items()}


@jax.custom_jvp
def _inject(value: jax.Array, epsilon: jax.Array) -> jax.Array:
    """``value`` with tangent ``valuė + ε̇``."""
    return value


_inject.defjvp(lambda primals, tangents: (primals[0], tangents[0] + tangents[1]))


def reads_weight_in_columns(d: Deferred) -> bool:
    """Whether the operand is the U of ``[*B, h] @ U``, whose transposed copy is laid out for the backward loop."""
    return d.operand == 1 and jaxprs.is_matrix_product(d.equation)
