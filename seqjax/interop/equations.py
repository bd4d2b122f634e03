"""A function in the equations that exporters know: no calls, no rules of differentiation, no marks, loops forwards.

Exporters read JAX's equations one by one. Traced here, before an exporter puts functions of its own in the place of
JAX's, a function is written out in fewer kinds of them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from seqjax.base import Array
from seqjax.engines.equations import jaxprs
from seqjax.engines.equations.jaxprs import ClosedJaxpr, Equation

# Calls that are what their body is, where nothing is differentiated.
CALLS = {*jaxprs.TRANSPARENT, "custom_jvp_call", "custom_vjp_call"}
# Equations that hand on what they are given.
MARKS = {"name", "optimization_barrier"}


def _expm1(x: Array) -> Array:
    return lax.tanh(x / 2) * (lax.exp(x) + 1)


def _log1p(x: Array) -> Array:
    """By how much 1 + x is rounded, its logarithm is wrong in proportion (Goldberg, 1991, theorem 4)."""
    full = 1 + x
    step = full - 1
    near = lax.select(step == 0, x, lax.log(full) * (x / lax.select(step == 0, jnp.ones_like(x), step)))
    return lax.select(lax.abs(x) < 1, near, lax.log(full))


# Exporters write exp(x) − 1 and log(1 + x), which have no digits near 0.
NEAR_ZERO = {"expm1": _expm1, "log1p": _log1p}


def written_out(f: Callable, types: Sequence[jax.ShapeDtypeStruct]) -> ClosedJaxpr:
    """A function of arrays, and to a list of them, as a jaxpr of plain equations."""
    traced = jax.make_jaxpr(f)(*types)
    plain = jax.make_jaxpr(lambda *values: _run(traced, values))(*types)
    return plain.replace(jaxpr=plain.jaxpr.replace(eqns=jaxprs.needed(plain.jaxpr.eqns, plain.jaxpr.outvars)))


def names(closed: ClosedJaxpr) -> set[str]:
    """The primitives in a jaxpr, at any depth."""
    found: list[str] = []

    def note(equation: Equation) -> bool:
        found.append(equation.primitive.name)
        return False

    for equation in closed.jaxpr.eqns:
        jaxprs.any_equation(equation, note)
    return set(found)


def evaluated(closed: ClosedJaxpr, values: Sequence) -> list:
    """The jaxpr as a function, equation by equation."""
    return jaxprs.interpret(closed.jaxpr, closed.consts, values, lambda equation, inputs: None)


def _run(body: Any, values: Sequence) -> list:
    constants = body.consts if isinstance(body, ClosedJaxpr) else ()
    return jaxprs.interpret(jaxprs.opened(body), constants, values, _rule)


def _rule(e: Equation, inputs: list) -> list | None:
    """The outputs of an equation in plainer ones; None where it is plain."""
    name, params = e.primitive.name, e.params
    if name in CALLS:
        return _run(params["jaxpr"] if "jaxpr" in params else params["call_jaxpr"], inputs)
    if name in MARKS:
        return inputs
    if name == "seqjax_linear":
        count, types = params["count"], [v.aval for v in e.invars]
        return _run(jaxprs.trace(lambda *v: params["linear"].forward(list(v[:count]), list(v[count:])), *types), inputs)
    if name in NEAR_ZERO:
        return [NEAR_ZERO[name](inputs[0])]
    if name == "rem" and jnp.issubdtype(e.invars[0].aval.dtype, jnp.integer):
        whole = lax.mul(lax.div(*inputs), inputs[1])
        return [lax.sub(inputs[0], whole)]
    if name == "pad" and all(low >= 0 and high >= 0 and not inner for low, high, inner in params["padding_config"]):
        return [_padded(inputs[0], inputs[1], params["padding_config"])]
    if name == "cond":
        branches = [lambda *v, branch=branch: _run(branch, v) for branch in params["branches"]]
        return lax.switch(inputs[0], branches, *inputs[1:])
    if name == "while":
        return _while(e, inputs)
    return _scan(e, inputs) if name == "scan" else None


def _padded(x: Array, value: Array, config: Sequence[tuple[int, int, int]]) -> Array:
    """Joined to what it is padded with: jax2onnx pads no array with a size that is a symbol."""
    for axis, sides in enumerate(config):
        low, high = (jnp.broadcast_to(value, (*x.shape[:axis], side, *x.shape[axis + 1 :])) for side in sides[:2])
        x = lax.concatenate([part for part in (low, x, high) if part.shape[axis]], axis)
    return x


def _while(e: Equation, inputs: list) -> list:
    n, m = e.params["cond_nconsts"], e.params["body_nconsts"]
    ends, fixed, state = inputs[:n], inputs[n : n + m], inputs[n + m :]
    goes_on = lambda state: _run(e.params["cond_jaxpr"], [*ends, *state])[0]
    return lax.while_loop(goes_on, lambda state: _run(e.params["body_jaxpr"], [*fixed, *state]), state)


def _scan(e: Equation, inputs: list) -> list:
    """Forwards, its outputs with an axis of 1 in front of each tick's.

    jax2onnx has no loop backwards, and takes the first axis of a tick's output for the number of ticks where it is a
    number above 1: what is then added to the outputs is padded to it.
    """
    p, tick = e.params, jaxprs.opened(e.params["jaxpr"])
    alike = lambda outer, inner: sum(a.aval.ndim == b.aval.ndim for a, b in zip(outer, inner))
    states = alike(e.outvars, tick.outvars)
    m = alike(e.invars, tick.invars)  # what is fixed, then the state; inputs have an axis of time more
    n = m - states
    fixed, state, xs = inputs[:n], inputs[n:m], inputs[m:]

    def turned(x: Array) -> Array:
        return lax.rev(x, (0,)) if p["reverse"] else x

    def body(state: list, x: list) -> tuple[list, list]:
        out = _run(p["jaxpr"], [*fixed, *state, *x])
        return out[:states], [y[None] for y in out[states:]]

    length = None if xs else p["length"]
    state, ys = lax.scan(body, state, [turned(x) for x in xs], length=length)
    return [*state, *(turned(lax.squeeze(y, (1,))) for y in ys)]
