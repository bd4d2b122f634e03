"""A tick as few kinds of equations: calls inlined, marks dropped, what does not change along time taken out."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from jax import lax

from seqjax.engines.equations import jaxprs
from seqjax.engines.equations.jaxprs import Aval, ClosedJaxpr, Equation, Jaxpr, Var

# Functions with derivative rules of their own: behind differentiation only their values matter.
CALLS = {"custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr", "custom_vjp_call_jaxpr": "fun_jaxpr"}
NOTHING = {"name", "copy", "copy_p", "optimization_barrier", "stop_gradient", "pvary", "pcast"}
# Left inside even if nothing in it changes along time: outside it would only be a larger array.
GROWING = {"broadcast_in_dim"}
# Done to inputs and outputs for all ticks at once: no work there, but inside it would tie heads together.
RESHAPING = {"reshape", "squeeze", "transpose"}


class Canonical(NamedTuple):
    """``(after, outputs) = equations(once, state, x)``, ``once`` and ``x`` computed from what is given.

    Attributes:
      template: the jaxpr the equations come from.
      equations: a tick's.
      once: variables that never change along time.
      state: variables before a tick.
      x: variables that come per tick.
      results: variables or literals after a tick, then per tick.
      outside: computes ``once`` from the given invariants.
      inputs: computes ``x`` of one tick from the given inputs.
      outputs: for each output, computes it from the result that stands for it.
    """

    template: Jaxpr
    equations: list[Equation]
    once: list[Var]
    state: list[Var]
    x: list[Var]
    results: list[Var]
    outside: Callable[[list], list]
    inputs: Callable[[list], list]
    outputs: list[Callable[[list], list]]


def canonical(tick: Callable[[list], list], once: Sequence, state: Sequence, x: Sequence) -> Canonical:
    """Traces a flat tick, ``tick([*once, *state, *x])``, at these types."""
    avals = [*once, *state, *x]
    closed = inlined(jaxprs.trace(lambda *values: tick(list(values)), *avals), avals)
    jaxpr = closed.jaxpr
    n, m = len(once), len(state)
    given = [*jaxpr.constvars, *jaxpr.invars[:n]]
    equations = jaxprs.needed(jaxpr.eqns, jaxpr.outvars)
    fixed = set(given)
    variables = list(jaxpr.invars[n:])
    hoisted, reshaped, inside = [], [], []
    ticking = set(variables[m:])
    for e in equations:
        if e.primitive.name in RESHAPING and e.invars[0] in ticking:
            reshaped.append(e)
            ticking.update(e.outvars)
        elif e.primitive.name not in GROWING and all(jaxprs.is_literal(v) or v in fixed for v in e.invars):
            hoisted.append(e)
            fixed.update(e.outvars)
        else:
            inside.append(e)
    producer = {v: e for e in inside for v in e.outvars}
    results, outputs = list(jaxpr.outvars[:m]), []
    for out in jaxpr.outvars[m:]:
        chain: list[Equation] = []
        v = out
        while not jaxprs.is_literal(v) and v in producer and producer[v].primitive.name in RESHAPING:
            chain.insert(0, producer[v])
            v = producer[v].invars[0]
        results.append(v)
        outputs.append(jaxprs.function(jaxpr, chain, [v], [out]) if chain else lambda values: values)
    inside = jaxprs.needed(inside, results)
    reads = [v for v in jaxprs.used(inside, results) if v in fixed]
    compute = jaxprs.function(jaxpr, jaxprs.needed(hoisted, reads), given, reads)
    x_reads = [v for v in jaxprs.used(inside, results) if v in ticking]
    inputs = jaxprs.function(jaxpr, jaxprs.needed(reshaped, x_reads), variables[m:], x_reads)
    return Canonical(
        jaxpr,
        inside,
        reads,
        variables[:m],
        x_reads,
        results,
        lambda values: compute([*closed.consts, *values]),
        inputs,
        outputs,
    )


def inlined(closed: ClosedJaxpr, avals: Sequence[Aval]) -> ClosedJaxpr:
    """The jaxpr without calls and without equations that do nothing to values."""

    def rule(equation: Equation, inputs: list) -> Sequence | None:
        call = jaxprs.inner(equation)
        if call is not None:
            return jaxprs.interpret(*call, inputs, rule)
        name = equation.primitive.name
        if name in NOTHING:
            return inputs
        if name == "one_minus_square":  # newer JAX's tanh, which kernels do not know
            return [lax.sub(lax.full_like(inputs[0], 1), lax.square(inputs[0]))]
        if name in CALLS:
            inner = equation.params[CALLS[name]]
            return jaxprs.interpret(inner.jaxpr, inner.consts, inputs, rule)
        return None

    return jaxprs.trace(lambda *values: jaxprs.interpret(closed.jaxpr, closed.consts, values, rule), *avals)
