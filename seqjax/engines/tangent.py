"""The derivative of a loop: one linearised tick, ε for all ticks at once, and a linear scan."""

import functools
from collections.abc import Iterable, Sequence

import jax
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import primitives

from seqjax.engines import jaxprs
from seqjax.engines.jaxprs import Var
from seqjax.engines.loop import Deferred, Loop

STATES = "seqjax.states"

# Pointwise equations cheap enough to repeat in the backward loop; the results of any other are kept.
REPEATED = {
    "abs", "add", "add_any", "and", "broadcast_in_dim", "clamp", "concatenate", "convert_element_type", "copy", "eq",
    "expand_dims", "ge", "gt", "integer_pow", "is_finite", "le", "lt", "max", "min", "mul", "ne", "neg", "not", "or",
    "one_minus_square", "reshape", "select_n", "sign", "slice", "split", "square", "squeeze", "stop_gradient", "sub", "transpose", "xor",
}  # fmt: skip


class Tangent:
    """A loop's derivative at one pattern of known and zero tangents."""

    def __init__(self, loop: Loop, tangents: tuple, recompute: bool):
        """Sorts the tangents by the way they enter."""
        d_invariant, self.d_state, d_xs = tangents
        self.loop, self.recompute = loop, recompute
        self.d_invariant = _known(loop.invariant, d_invariant)
        self.d_xs = _known(loop.x, d_xs)
        moved = {**self.d_invariant, **self.d_xs}
        self.deferred = [d for d in loop.deferred if d.variable in moved]
        self.roots = list(dict.fromkeys(d.root for d in self.deferred))
        self.fixed = {(id(d.equation), d.operand): d for d in loop.deferred}
        # What enters otherwise than as a deferred operand is differentiated tick by tick.
        elsewhere = {
            v
            for e in loop.equations
            for i, v in enumerate(e.invars)
            if (id(e), i) not in self.fixed and not jaxprs.is_literal(v)
        }
        self.weights = [v for v in self.d_invariant if v in elsewhere]
        self.inputs = [v for v in self.d_xs if v in elsewhere]
        self.moving = [v for v in loop.state if jaxprs.is_float(v.aval)]
        products = [d for d in loop.deferred if _is_matrix_product(d)]
        self.transposed = list(dict.fromkeys(d.variable for d in products))

    def run(self, invariant: list, state: list, xs: list, *, length: int, reverse: bool) -> tuple:
        """The rule of `jax.custom_jvp`: ``((last, ys), (d_last, d_ys))``."""
        loop, n = self.loop, len(self.loop.state)
        given = dict(zip(loop.invariant, invariant))
        # The backward loop contracts the other axis of U; row by row it is read faster.
        once = [*invariant, *(lax.optimization_barrier(given[v].T) for v in self.transposed)]
        tick = LinearTick(self)
        once = [*tick.constants, *once]
        fixed = tick.once_values(once)

        # The primal scan, which also stacks what the backward pass keeps.
        kept = [] if self.recompute else tick.kept
        read = tick.before if self.recompute else tick.states_read
        emit = _variables([*tick.outputs, *kept])
        after = dict(zip(tick.before, tick.after))
        emit = list(dict.fromkeys([*emit, *(b for b in read if after[b] not in emit)]))
        forward = tick.function([*tick.once, *tick.before, *tick.x], [*tick.after, *emit])

        def body(s: list, x: list) -> tuple[list, list]:
            out = forward([*once, *s, *x])
            return out[:n], out[n:]

        last, stacks = lax.scan(body, state, xs, length=length, reverse=reverse)
        if self.recompute:
            stacks = [checkpoint_name(stack, STATES) for stack in stacks]
        ys = [_stack(v, dict(zip(emit, stacks)), length) for v in tick.outputs]

        def tangent(stacks, state, xs, once, fixed, d_weights, d_state, d_xs):
            stack = dict(zip(emit, stacks)) | dict(zip(tick.x, xs))
            for b, first in zip(tick.before, state):
                if b in read and b not in stack:
                    stack[b] = _shift(first, stack[after[b]], reverse)
            if self.recompute:
                rebuild = tick.function([*tick.once, *tick.before, *tick.x], tick.kept)
                states = [stack[b] for b in tick.before]
                stack |= dict(zip(tick.kept, jax.vmap(lambda s, x: rebuild([*once, *s, *x]))(states, xs)))
            epsilon = self._epsilon(tick, stack, fixed, d_weights, d_xs, length)
            return self._linear_scan(tick, stack, fixed, epsilon, d_weights, d_state, d_xs, length, reverse)

        # With ``recompute`` the whole chunk is under a checkpoint that keeps the states; a second one would copy them.
        if not self.recompute:
            tangent = jax.checkpoint(tangent, prevent_cse=False)
        d_state = [
            jaxprs.zeros(v.aval) if isinstance(d, SymbolicZero) else d
            for v, d in zip(loop.state, self.d_state)
            if jaxprs.is_float(v.aval)
        ]
        d_last, d_ys = tangent(
            stacks, state, xs, once, fixed, list(self.d_invariant.values()), d_state, list(self.d_xs.values())
        )
        return (last, ys), (_with_float0(loop.state, last, d_last), _with_float0(loop.outputs, ys, d_ys))

    def _epsilon(self, tick, stack, fixed, d_weights, d_xs, length) -> list:
        """What the tangents of weights and summands add to every root, ``[K, ...]`` each."""
        d_invariant = dict(zip(self.d_invariant, d_weights))
        d_inputs = dict(zip(self.d_xs, d_xs))
        total: dict[Var, jax.Array] = {}
        for d in self.deferred:
            if not d.is_product:
                term = d_inputs[d.variable] if d.variable in d_inputs else _repeat(d_invariant[d.variable], length)
            else:
                left = tick.batched(tick.left[id(d.equation)], stack, fixed, length)
                weight = d_invariant[d.variable]

                def product(value: jax.Array, d: Deferred = d, weight: jax.Array = weight) -> jax.Array:
                    pair = (weight, value) if d.operand == 0 else (value, weight)
                    return jaxprs.evaluate(self.loop.template, d.equation, pair)[0]

                term = jax.vmap(product)(left)
            total[d.root] = total[d.root] + term if d.root in total else term
        return [total[r] for r in self.roots]

    def _linear_scan(self, tick, stack, fixed, epsilon, d_weights, d_state, d_xs, length, reverse):
        """``(ṡ_t, ẏ_t) = linear_t(ṡ_{t-1}, ε_t, ẋ_t)``, the coefficients rebuilt from what was kept."""
        weights = [d for v, d in zip(self.d_invariant, d_weights) if v in self.weights]
        inputs = [d for v, d in zip(self.d_xs, d_xs) if v in self.inputs]
        m = len(self.moving)

        @functools.partial(jax.checkpoint, prevent_cse=False)
        def body(s: list, per_tick: tuple) -> tuple[list, list]:
            sources, x, e = per_tick
            coefficients = tick.rebuild(sources, fixed)
            out = tick.linear([*coefficients, *weights, *s, *x, *e])
            return out[:m], out[m:]

        sources = [stack[v] for v in tick.sources]
        return lax.scan(body, d_state, (sources, inputs, epsilon), length=length, reverse=reverse)


class LinearTick:
    """One tick linearised: equations for its values and coefficients, and the linear map between tangents."""

    def __init__(self, tangent: Tangent):
        """Traces the tick and chooses what to keep."""
        self.tangent, loop = tangent, tangent.loop
        n, r = len(loop.state), len(loop.outputs)
        weights_t = [_transposed_type(v.aval) for v in tangent.transposed]
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
        self._choose(_variables([*operands, *self.coefficients]))

    def function(self, inputs: Sequence[Var], outputs: Sequence[Var]):
        """The equations from these inputs to these outputs."""
        return jaxprs.function(self.jaxpr, jaxprs.needed(self.jaxpr.eqns, outputs, inputs), inputs, outputs)

    def _flat(self, *values: jax.Array) -> list:
        """Values of a tick, then the left operands of deferred products, then the linear map's coefficients."""
        t, loop = self.tangent, self.tangent.loop
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

            def rule(equation, inputs):
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
        self.fixed = [v for v in _variables([*reads, *wanted]) if v in self.constant]
        self.varying = varying
        self._repeat = jaxprs.function(self.jaxpr, repeat, [*self.sources, *self.fixed], varying)

    def once_values(self, once: list) -> list:
        """Values that are the same at every tick."""
        return self.function(self.once, self.fixed)(once)

    def rebuild(self, sources: list, fixed: list) -> list:
        """The linear map's coefficients at one tick."""
        environment = dict(zip(self.varying, self._repeat([*sources, *fixed]))) | dict(zip(self.fixed, fixed))
        return [jaxprs.literal(v) if jaxprs.is_literal(v) else environment[v] for v in self.coefficients]

    def batched(self, v: Var, stack: dict[Var, jax.Array], fixed: list, length: int) -> jax.Array:
        """One value for all ticks at once."""
        if jaxprs.is_literal(v):
            return _repeat(jaxprs.literal(v), length)
        if v in stack:
            return stack[v]
        if v in self.constant:
            return _repeat(dict(zip(self.fixed, fixed))[v], length)
        f = self.function([*self.sources, *self.fixed], [v])
        return jax.vmap(lambda sources: f([*sources, *fixed])[0])([stack[s] for s in self.sources])


@jax.custom_jvp
def _inject(value: jax.Array, epsilon: jax.Array) -> jax.Array:
    """``value`` with tangent ``valuė + ε̇``."""
    return value


_inject.defjvp(lambda primals, tangents: (primals[0], tangents[0] + tangents[1]))


def _is_matrix_product(d: Deferred) -> bool:
    """``[*B, h] @ [h, k]``, the form whose transposed weight is laid out for the backward loop."""
    if d.equation.primitive is not primitives.dot_general_p or d.operand != 1 or d.variable.aval.ndim != 2:
        return False
    (left, right), (left_batch, _) = d.equation.params["dimension_numbers"]
    return not left_batch and tuple(right) == (0,) and tuple(left) == (d.equation.invars[0].aval.ndim - 1,)


def _origins(v: Var, producer: dict, free: set[Var]) -> set[Var]:
    """The values that are not cheap to repeat behind a value."""
    if jaxprs.is_literal(v) or v in free:
        return set()
    equation = producer.get(v)
    if equation is None or equation.primitive.name not in REPEATED:
        return {v}
    return set().union(*(_origins(operand, producer, free) for operand in equation.invars))


def _with_transposed(equation, inputs, pairs):
    """Rule: ``ḣ @ U`` reads the transposed copy of U, so that its transpose, the backward product, reads U row by row."""
    if equation.primitive is not primitives.dot_general_p:
        return None
    (left, right), batch = equation.params["dimension_numbers"]
    for weight, weight_t in pairs:
        if inputs[1] is weight and tuple(right) == (0,):
            params = {**equation.params, "dimension_numbers": ((left, (1,)), batch)}
            return [equation.primitive.bind(inputs[0], weight_t, **params)]
    return None


def _known(variables: Iterable[Var], tangents: Iterable) -> dict:
    return {
        v: d for v, d in zip(variables, tangents) if jaxprs.is_float(v.aval) and not isinstance(d, SymbolicZero)
    }  # fmt: skip


def _variables(values: Iterable[Var]) -> list[Var]:
    return list(dict.fromkeys(v for v in values if not jaxprs.is_literal(v)))


def _transposed_type(aval):
    return jaxprs.trace(lambda w: w.T, aval).out_avals[0]


def _repeat(value: jax.Array, length: int) -> jax.Array:
    return jax.vmap(lambda _: value, axis_size=length, in_axes=None)(None)


def _stack(v: Var, stacks: dict[Var, jax.Array], length: int) -> jax.Array:
    return _repeat(jaxprs.literal(v), length) if jaxprs.is_literal(v) else stacks[v]


def _shift(first: jax.Array, after: jax.Array, reverse: bool) -> jax.Array:
    """States before each tick, from the first and those after each tick."""
    parts = [after[1:], first[None]] if reverse else [first[None], after[:-1]]
    return lax.concatenate(parts, 0)


def _with_float0(variables: Sequence[Var], values: Sequence, tangents: Iterable) -> list:
    found = iter(tangents)
    return [
        next(found) if jaxprs.is_float(v.aval) else np.zeros(value.shape, jaxprs.float0)
        for v, value in zip(variables, values)
    ]
