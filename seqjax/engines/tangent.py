"""The derivative of a loop: one linearised tick, ε for all ticks at once, and a linear scan."""

import functools
from collections.abc import Iterable, Sequence

import jax
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.custom_derivatives import SymbolicZero

from seqjax.engines import jaxprs
from seqjax.engines.jaxprs import Var
from seqjax.engines.linearize import LinearTick, pattern_of, variables_of
from seqjax.engines.loop import Deferred, Loop

STATES = "seqjax.states"


class Tangent:
    """A loop's derivative at one pattern of known and zero tangents."""

    def __init__(self, loop: Loop, tangents: tuple, recompute: bool):
        """Sorts the tangents by the way they enter."""
        d_invariant, self.d_state, d_xs = tangents
        self.loop, self.recompute = loop, recompute
        self.d_invariant = _known(loop.invariant, d_invariant)
        self.d_xs = _known(loop.x, d_xs)
        self.pattern = pattern_of(loop, [*self.d_invariant, *self.d_xs])

    def run(self, invariant: list, state: list, xs: list, *, length: int, reverse: bool) -> tuple:
        """The rule of `jax.custom_jvp`: ``((last, ys), (d_last, d_ys))``."""
        loop, n = self.loop, len(self.loop.state)
        given = dict(zip(loop.invariant, invariant))
        # The backward loop contracts the other axis of U; row by row it is read faster.
        once = [*invariant, *(lax.optimization_barrier(given[v].T) for v in self.pattern.transposed)]
        tick = LinearTick(self.pattern)
        once = [*tick.constants, *once]
        fixed = tick.once_values(once)

        # The primal scan, which also stacks what the backward pass keeps.
        kept = [] if self.recompute else tick.kept
        read = tick.before if self.recompute else tick.states_read
        emit = variables_of([*tick.outputs, *kept])
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
                every = lax.map if loop.tickwise else lambda f, at: jax.vmap(f)(at)
                stack |= dict(zip(tick.kept, every(lambda at: rebuild([*once, *at[0], *at[1]]), (states, xs))))
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

    def _epsilon(self, tick: LinearTick, stack: dict, fixed: list, d_weights: list, d_xs: list, length: int) -> list:
        """What the tangents of weights and summands add to every root, ``[K, ...]`` each."""
        d_invariant = dict(zip(self.d_invariant, d_weights))
        d_inputs = dict(zip(self.d_xs, d_xs))
        total: dict[Var, jax.Array] = {}
        for d in self.pattern.deferred:
            if not d.is_product:
                term = (
                    d_inputs[d.variable] if d.variable in d_inputs else jaxprs.repeat(d_invariant[d.variable], length)
                )
            else:
                left = tick.batched(tick.left[id(d.equation)], stack, fixed, length)
                weight = d_invariant[d.variable]

                def product(value: jax.Array, d: Deferred = d, weight: jax.Array = weight) -> jax.Array:
                    pair = (weight, value) if d.operand == 0 else (value, weight)
                    return jaxprs.evaluate(self.loop.template, d.equation, pair)[0]

                term = jax.vmap(product)(left)
            total[d.root] = total[d.root] + term if d.root in total else term
        return [total[r] for r in self.pattern.roots]

    def _linear_scan(
        self, tick: LinearTick, stack: dict, fixed: list, epsilon: list, d_weights: list, d_state: list, d_xs: list,
        length: int, reverse: bool,
    ) -> tuple[list, list]:  # fmt: skip
        """``(ṡ_t, ẏ_t) = linear_t(ṡ_{t-1}, ε_t, ẋ_t)``, the coefficients rebuilt from what was kept."""
        weights = [d for v, d in zip(self.d_invariant, d_weights) if v in self.pattern.weights]
        inputs = [d for v, d in zip(self.d_xs, d_xs) if v in self.pattern.inputs]
        m = len(self.pattern.moving)

        @functools.partial(jax.checkpoint, prevent_cse=False)
        def body(s: list, per_tick: tuple) -> tuple[list, list]:
            sources, x, e = per_tick
            coefficients = tick.rebuild(sources, fixed)
            out = tick.linear([*coefficients, *weights, *s, *x, *e])
            return out[:m], out[m:]

        sources = [stack[v] for v in tick.sources]
        return lax.scan(body, d_state, (sources, inputs, epsilon), length=length, reverse=reverse)


def _known(variables: Iterable[Var], tangents: Iterable) -> dict:
    return {
        v: d for v, d in zip(variables, tangents) if jaxprs.is_float(v.aval) and not isinstance(d, SymbolicZero)
    }  # fmt: skip


def _stack(v: Var, stacks: dict[Var, jax.Array], length: int) -> jax.Array:
    return jaxprs.repeat(jaxprs.literal(v), length) if jaxprs.is_literal(v) else stacks[v]


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
