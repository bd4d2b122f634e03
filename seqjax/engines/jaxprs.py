"""Equations as data: the one module that touches interfaces of JAX which are public but may move (`jax.extend.core`).

An equation has `primitive`, `params`, `invars` (variables or literals) and `outvars`; a variable has an `aval`.
`tests/test_jaxprs.py` fails loudly when one of these changes.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core
from jax.extend.core import primitives

from seqjax.products import RECURRENT_INPUT

Equation = Any
Var = Any
Aval = Any
Rule = Callable[[Equation, list], Sequence | None]

float0 = jax.dtypes.float0

BRANCHING = {"cond", "while", "rng_bit_generator", "rng_uniform"}
# Replaced by the equations inside when an equation is copied.
TRANSPARENT = {"jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint"}


def is_literal(v: Var) -> bool:
    """Whether an operand is a constant written into the equation."""
    return isinstance(v, core.Literal)


def is_float(aval: Aval) -> bool:
    """Whether values of this type have a tangent."""
    return jnp.issubdtype(aval.dtype, jnp.inexact)


def nbytes(aval: Aval) -> int:
    """Bytes of one value of this type."""
    itemsize = 8 if jnp.issubdtype(aval.dtype, jax.dtypes.extended) else np.dtype(aval.dtype).itemsize
    return int(np.prod(aval.shape, dtype=np.int64)) * itemsize


def trace(f: Callable, *avals: Aval) -> core.ClosedJaxpr:
    """The jaxpr of a flat function of arrays at these types; what it closes over appears as ``consts``."""
    return jax.make_jaxpr(f)(*avals)


def element_type(x: jax.Array) -> Aval:
    """The type of ``x[0]``, with sharding and varying mesh axes."""
    return trace(lambda x: x[0], jax.typeof(x)).out_avals[0]


def function(template: core.Jaxpr, equations: Sequence[Equation], inputs: Sequence, outputs: Sequence) -> Callable:
    """Equations as a function from a list of values to a list of values."""
    jaxpr = template.replace(
        constvars=[], invars=list(inputs), outvars=list(outputs), eqns=list(equations),
        debug_info=template.debug_info.with_unknown_names(),
    )  # fmt: skip
    run = core.jaxpr_as_fun(core.ClosedJaxpr(jaxpr, ()))
    return lambda values: list(run(*values))


def evaluate(template: core.Jaxpr, equation: Equation, inputs: Sequence) -> list:
    """One equation's outputs at these inputs."""
    values = {v: value for v, value in zip(equation.invars, inputs) if not is_literal(v)}
    return function(template, [equation], list(values), equation.outvars)(list(values.values()))


def interpret(jaxpr: core.Jaxpr, constants: Sequence, values: Sequence, rule: Rule) -> list:
    """Evaluates equations one by one; ``rule(equation, inputs)`` may return the outputs in an equation's place."""
    environment: dict[Var, Any] = dict(zip(jaxpr.constvars, constants)) | dict(zip(jaxpr.invars, values))

    def read(v: Var) -> Any:
        return v.val if is_literal(v) else environment[v]

    for equation in jaxpr.eqns:
        inputs = [read(v) for v in equation.invars]
        outputs = rule(equation, inputs)
        environment.update(zip(equation.outvars, evaluate(jaxpr, equation, inputs) if outputs is None else outputs))
    return [literal(v) if is_literal(v) else environment[v] for v in jaxpr.outvars]


def literal(v: Var) -> jax.Array:
    """A literal's value as an array of its type."""
    return jnp.asarray(v.val, v.aval.dtype)


def inner(equation: Equation) -> tuple[core.Jaxpr, Sequence] | None:
    """The jaxpr and constants of a transparent call, None for any other equation."""
    if equation.primitive.name not in TRANSPARENT:
        return None
    jaxpr = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
    return (jaxpr.jaxpr, jaxpr.consts) if isinstance(jaxpr, core.ClosedJaxpr) else (jaxpr, ())


def inline(closed: core.ClosedJaxpr, avals: Sequence[Aval], rule: Rule = lambda equation, inputs: None):
    """The same jaxpr with transparent calls inlined, our marks dropped and ``rule`` applied to every equation.

    Functions with derivative rules of their own and inner loops stay whole: to inline `jax.nn.relu` would change its
    derivative at 0.
    """

    def copy(equation: Equation, inputs: list) -> Sequence | None:
        call = inner(equation)
        if call is not None:
            return interpret(*call, inputs, copy)
        if equation.primitive.name == "name" and equation.params["name"] == RECURRENT_INPUT:
            return inputs
        return rule(equation, inputs)

    return trace(lambda *values: interpret(closed.jaxpr, closed.consts, values, copy), *avals)


def split_concatenation(equation: Equation, inputs: list, pieces: dict) -> Sequence | None:
    """Rule: ``concat([x, h]) @ W`` becomes ``x @ W[:d] + h @ W[d:]``, so that each part can go its own way.

    ``pieces`` remembers, by identity, which values were concatenated along which axis.
    """
    primitive, params = equation.primitive, equation.params
    if primitive is primitives.concatenate_p and len(inputs) > 1:
        out = primitive.bind(*inputs, **params)
        pieces[id(out)] = (out, inputs, params["dimension"])
        return [out]
    if primitive is primitives.convert_element_type_p and id(inputs[0]) in pieces:
        _, parts, axis = pieces[id(inputs[0])]
        out = primitive.bind(*inputs, **params)
        pieces[id(out)] = (out, [primitive.bind(part, **params) for part in parts], axis)
        return [out]
    if primitive is not primitives.dot_general_p:
        return None
    contracted = params["dimension_numbers"][0]
    for side in (0, 1):
        _, parts, axis = pieces.get(id(inputs[side]), (None, None, None))
        if parts is not None and tuple(contracted[side]) == (axis,):
            widths = [part.shape[axis] for part in parts]
            weights = lax.split(inputs[1 - side], widths, axis=contracted[1 - side][0])
            pairs = zip(parts, weights) if side == 0 else zip(weights, parts)
            return [sum_in_order(primitive.bind(*pair, **params) for pair in pairs)]
    return None


def split_sum(equation: Equation, inputs: list, sums: dict, recurrent: set[Var]) -> Sequence | None:
    """Rule: ``split(x̂ + h U + b)`` becomes ``split(x̂ + b) + split(h U)``: what recurs apart from what does not.

    A loop on a CPU that reads all gates' x̂[t] at once and cuts it up is not vectorised: an LSTM's forward pass takes
    1.4 to 1.7 times as long. ``sums`` remembers, by identity, what was added; ``recurrent`` are the jaxpr's variables
    that depend on the state.
    """
    if equation.primitive is primitives.add_p and is_float(equation.outvars[0].aval):
        terms = []
        for v, value in zip(equation.invars, inputs):
            terms += sums.get(id(value), (value, [(value, not is_literal(v) and v in recurrent)]))[1]
        out = lax.add(*inputs)
        sums[id(out)] = (out, terms)
        return [out]
    if equation.primitive.name != "split" or id(inputs[0]) not in sums:
        return None
    total, terms = sums[id(inputs[0])]
    axis, sizes = equation.params["axis"], equation.params["sizes"]
    moving, fixed = [value for value, moves in terms if moves], [value for value, moves in terms if not moves]
    if not moving or not fixed or any(jnp.shape(value)[axis:] != total.shape[axis:] for value, _ in terms):
        return None
    parts = (lax.split(sum_in_order(values), sizes, axis) for values in (fixed, moving))
    return [lax.add(a, b) for a, b in zip(*parts)]


def sum_in_order(terms: Iterable[jax.Array]) -> jax.Array:
    """``((a + b) + c) + …`` without the integer zero that `sum` begins with."""
    return functools.reduce(lax.add, terms)


def used(equations: Iterable[Equation], outputs: Iterable[Var] = ()) -> list[Var]:
    """The variables that equations and outputs read but the equations do not define, in order of first use."""
    equations = list(equations)
    defined = {v for e in equations for v in e.outvars}
    reads = [v for e in equations for v in e.invars] + list(outputs)
    return list(dict.fromkeys(v for v in reads if not is_literal(v) and v not in defined))


def needed(equations: Sequence[Equation], outputs: Iterable[Var], given: Iterable[Var] = ()) -> list[Equation]:
    """The equations that outputs need when some variables are given."""
    given = set(given)
    wanted, kept = {v for v in outputs if not is_literal(v) and v not in given}, []
    for equation in reversed(equations):
        if any(v in wanted for v in equation.outvars):
            kept.append(equation)
            wanted.update(v for v in equation.invars if not is_literal(v) and v not in given)
    return kept[::-1]


def dependent(equations: Sequence[Equation], sources: Iterable[Var]) -> set[Var]:
    """The sources and every variable computed from any of them."""
    reached = set(sources)
    for equation in equations:
        if any(not is_literal(v) and v in reached for v in equation.invars):
            reached.update(equation.outvars)
    return reached


def any_equation(equation: Equation, test: Callable[[Equation], bool]) -> bool:
    """Whether an equation, or one inside it at any depth, passes a test."""
    subs = core.jaxprs_in_params(equation.params)
    return test(equation) or any(any_equation(e, test) for sub in subs for e in opened(sub).eqns)


def count(jaxpr: core.Jaxpr, name: str) -> int:
    """Equations of one primitive in a jaxpr, at any depth."""
    return sum(
        (e.primitive.name == name) + sum(count(opened(sub), name) for sub in core.jaxprs_in_params(e.params))
        for e in jaxpr.eqns
    )


def tickwise(equation: Equation) -> bool:
    """Whether an equation must not be batched over ticks.

    Batched, both branches of a cond would run and a while loop as long as its slowest tick; and a generator other than
    threefry would draw other numbers.
    """
    if equation.primitive.name == "random_bits":
        return "fry" not in str(equation.invars[0].aval.dtype)
    return equation.primitive.name in BRANCHING


def opened(jaxpr: Any) -> core.Jaxpr:
    """A jaxpr, closed or not, without its constants."""
    return jaxpr.jaxpr if isinstance(jaxpr, core.ClosedJaxpr) else jaxpr


def zeros(aval: Aval, length: int | None = None) -> jax.Array:
    """Zeros of exactly this type, sharding and varying mesh axes included; a stack of them if there is a length."""
    shape = aval.shape if length is None else (length, *aval.shape)
    sharding = None
    if is_explicit(aval):
        spec = aval.sharding.spec if length is None else jax.sharding.PartitionSpec(None, *aval.sharding.spec)
        sharding = aval.sharding.update(spec=spec)
    value = lax.full(shape, 0, aval.dtype, sharding=sharding)
    varying = varying_axes(aval)
    return lax.pcast(value, varying, to="varying") if varying else value


def is_explicit(aval: Aval) -> bool:
    """Whether shardings are part of this type."""
    return any(t == jax.sharding.AxisType.Explicit for t in getattr(aval.sharding.mesh, "axis_types", ()))


def repeat(value: jax.Array, length: int) -> jax.Array:
    """One value for every tick, without copies where the compiler can help it."""
    return jax.vmap(lambda _: value, axis_size=length, in_axes=None)(None)


def varying_axes(aval: Aval) -> tuple[str, ...]:
    """The mesh axes of an enclosing `jax.shard_map` over which a value differs."""
    kind = getattr(aval, "manual_axis_type", None)
    return tuple(kind.varying) if kind is not None else tuple(getattr(aval, "vma", ()))
