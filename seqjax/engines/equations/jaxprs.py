"""Equations as data: read, evaluated, cut out.

An equation has `primitive`, `params`, `invars` (variables or literals) and `outvars`; a variable has an `aval`. This
room is the one that touches interfaces of JAX which are public but may move (`jax.extend.core`);
`tests/test_jaxprs.py` fails loudly when one of these changes.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core
from jax.extend.core import primitives

from seqjax import symbolic
from seqjax.products import RECURRENT_INPUT
from seqjax.spread import is_explicit, varying_axes

Equation = Any
Var = Any
Aval = Any
Jaxpr = core.Jaxpr
ClosedJaxpr = core.ClosedJaxpr
Rule = Callable[[Equation, list], Sequence | None]

# Products: linear in each of two operands.
BILINEAR = (primitives.dot_general_p, primitives.conv_general_dilated_p)

float0 = jax.dtypes.float0

# Whether a primitive has a batching rule.
BATCHES = {p: True for p in vars(primitives).values() if isinstance(p, core.Primitive)}
# Foreign functions, which say themselves whether and how they are batched.
CALLING_OUT = {"pure_callback", "io_callback", "ffi_call"}
BRANCHING = {"cond", "while", "rng_bit_generator", "rng_uniform"}
# Replaced by the equations inside when an equation is copied.
TRANSPARENT = {"jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint"}


def is_product(equation: Equation) -> bool:
    """Whether an equation is linear in each of its two operands, and no pointwise one."""
    return equation.primitive in BILINEAR


def is_dot(equation: Equation) -> bool:
    """Whether an equation is a product of two arrays, summed along some of their axes."""
    return equation.primitive is primitives.dot_general_p


def kernel_places(equation: Equation) -> int:
    """How many places the kernel of a convolution has, each a matrix; 0 for what is none."""
    if equation.primitive is not primitives.conv_general_dilated_p:
        return 0
    return math.prod(equation.invars[1].aval.shape[axis] for axis in equation.params["dimension_numbers"].rhs_spec[2:])


def variable(aval: Aval) -> Var:
    """A new variable of this type."""
    return core.Var(aval)


def is_matrix_product(equation: Equation) -> bool:
    """``[*B, h] @ [h, k]``."""
    if not is_dot(equation) or equation.invars[1].aval.ndim != 2:
        return False
    (left, right), (left_batch, _) = equation.params["dimension_numbers"]
    return not left_batch and tuple(right) == (0,) and tuple(left) == (equation.invars[0].aval.ndim - 1,)


def is_sum(equation: Equation) -> bool:
    """Whether an equation is ``a + b``."""
    return equation.primitive is primitives.add_p


def is_literal(v: Var) -> bool:
    """Whether an operand is a constant written into the equation."""
    return isinstance(v, core.Literal)


def is_float(aval: Aval) -> bool:
    """Whether values of this type have a tangent."""
    return jnp.issubdtype(aval.dtype, jnp.inexact)


def nbytes(aval: Aval) -> int:
    """Bytes of one value of this type."""
    itemsize = 8 if jnp.issubdtype(aval.dtype, jax.dtypes.extended) else np.dtype(aval.dtype).itemsize
    return symbolic.entries(aval.shape) * itemsize


def trace(f: Callable, *avals: Aval) -> ClosedJaxpr:
    """The jaxpr of a flat function of arrays at these types; what it closes over appears as ``consts``."""
    return jax.make_jaxpr(f)(*avals)


def trace_with_tree(f: Callable, *avals: Aval) -> tuple[ClosedJaxpr, Any]:
    """The jaxpr of a function of arrays, and its result with types in the place of arrays."""
    return jax.make_jaxpr(f, return_shape=True)(*avals)


def element_types(xs: Sequence[jax.Array]) -> list[Aval]:
    """The types of ``x[0]``, with sharding and varying mesh axes."""
    return trace(lambda *xs: [x[0] for x in xs], *map(jax.typeof, xs)).out_avals if xs else []


def function(
    template: Jaxpr, equations: Sequence[Equation], inputs: Sequence, outputs: Sequence, rule: Rule | None = None
) -> Callable:
    """Equations as a function from a list of values to a list of values, by a rule of `interpret` if there is one."""
    jaxpr = template.replace(
        constvars=[], invars=list(inputs), outvars=list(outputs), eqns=list(equations),
        debug_info=template.debug_info.with_unknown_names(),
    )  # fmt: skip
    if rule is not None:
        return lambda values: interpret(jaxpr, (), values, rule)
    run = core.jaxpr_as_fun(ClosedJaxpr(jaxpr, ()))
    return lambda values: list(run(*values))


def evaluate(template: Jaxpr, equation: Equation, inputs: Sequence) -> list:
    """One equation's outputs at these inputs."""
    values = {v: value for v, value in zip(equation.invars, inputs) if not is_literal(v)}
    return function(template, [equation], list(values), equation.outvars)(list(values.values()))


def interpret(jaxpr: Jaxpr, constants: Sequence, values: Sequence, rule: Rule) -> list:
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


def inner(equation: Equation) -> tuple[Jaxpr, Sequence] | None:
    """The jaxpr and constants of a transparent call, None for any other equation."""
    if equation.primitive.name not in TRANSPARENT:
        return None
    jaxpr = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
    return (jaxpr.jaxpr, jaxpr.consts) if isinstance(jaxpr, ClosedJaxpr) else (jaxpr, ())


def inlined(closed: ClosedJaxpr) -> ClosedJaxpr:
    """The same jaxpr with transparent calls inlined and our marks dropped; equations are copied, nothing is traced.

    Functions with derivative rules of their own and inner loops stay whole: to inline `jax.nn.relu` would change its
    derivative at 0.
    """
    equations: list[Equation] = []
    constvars, constants = list(closed.jaxpr.constvars), list(closed.consts)

    def copy(jaxpr: Jaxpr, names: dict[Any, Any], fresh: bool) -> list[Any]:
        """Appends a jaxpr's equations; a call's may be copied twice, so their results get new variables."""

        def read(v: Any) -> Any:
            return v if is_literal(v) else names.get(v, v)

        for e in jaxpr.eqns:
            inputs = [read(v) for v in e.invars]
            call = inner(e)
            if call is not None:
                body, values = call
                own = [variable(v.aval) for v in body.constvars]
                constvars.extend(own)
                constants.extend(values)
                outputs = copy(body, dict(zip([*body.constvars, *body.invars], [*own, *inputs])), True)
                names.update(zip(e.outvars, outputs))
            elif is_mark(e):
                names[e.outvars[0]] = inputs[0]
            else:
                outvars = [variable(v.aval) for v in e.outvars] if fresh else e.outvars
                names.update(zip(e.outvars, outvars))
                equations.append(e.replace(invars=inputs, outvars=outvars))
        return [read(v) for v in jaxpr.outvars]

    outvars = copy(closed.jaxpr, {}, False)
    jaxpr = closed.jaxpr.replace(
        constvars=constvars, eqns=equations, outvars=outvars, debug_info=closed.jaxpr.debug_info.with_unknown_names()
    )
    return ClosedJaxpr(jaxpr, constants)


def is_mark(equation: Equation) -> bool:
    """Whether an equation is our mark on an h that enters products."""
    return equation.primitive.name == "name" and equation.params["name"] == RECURRENT_INPUT


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


def names(equation: Equation) -> list[str]:
    """The primitive of an equation; of a function with a derivative rule of its own, those inside."""
    body = equation.params.get("call_jaxpr") if equation.primitive.name == "custom_jvp_call" else None
    return [equation.primitive.name] if body is None else [n for e in opened(body).eqns for n in names(e)]


def count(jaxpr: Jaxpr, name: str) -> int:
    """Equations of one primitive in a jaxpr, at any depth."""
    return sum(
        (e.primitive.name == name) + sum(count(opened(sub), name) for sub in core.jaxprs_in_params(e.params))
        for e in jaxpr.eqns
    )


def tickwise(equation: Equation) -> bool:
    """Whether an equation must not be batched over ticks.

    Batched, both branches of a cond would run and a while loop as long as its slowest tick; a generator other than
    threefry would draw, split and fold other numbers; and some operations do not say how they are batched.
    """
    name = equation.primitive.name
    if name.startswith("random_") and name not in ("random_wrap", "random_unwrap"):
        kinds = [v.aval.dtype for v in [*equation.invars, *equation.outvars] if hasattr(v.aval, "dtype")]
        return any("key<" in str(kind) and "fry" not in str(kind) for kind in kinds)
    if name in CALLING_OUT and equation.params.get("vmap_method") is None:
        return True
    return name in BRANCHING or not _has_batching_rule(equation)


def _has_batching_rule(equation: Equation) -> bool:
    """Whether JAX knows how to batch an equation: its own primitives it does, any other is tried once."""
    if equation.primitive not in BATCHES:
        BATCHES[equation.primitive] = _can_be_batched(equation)
    return BATCHES[equation.primitive]


def _can_be_batched(equation: Equation) -> bool:
    shapes = [jax.ShapeDtypeStruct((2, *v.aval.shape), v.aval.dtype) for v in equation.invars]
    try:
        jax.eval_shape(jax.vmap(lambda *values: equation.primitive.bind(*values, **equation.params)), *shapes)
    except NotImplementedError:
        return False
    return True


def opened(jaxpr: Any) -> Jaxpr:
    """A jaxpr, closed or not, without its constants."""
    return jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr


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


def repeat(value: jax.Array, length: int) -> jax.Array:
    """One value for every tick, without copies where the compiler can help it."""
    return jax.vmap(lambda _: value, axis_size=length, in_axes=None)(None)
