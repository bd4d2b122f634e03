"""The derivative of a loop: one linearised tick, ε for all ticks at once, and a linear scan."""

from collections.abc import Hashable, Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.custom_derivatives import SymbolicZero

from seqjax.engines import jaxprs
from seqjax.engines.jaxprs import Var
from seqjax.engines.linearize import LinearTick, is_matrix_product, pattern_of, variables_of
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
        loop = self.loop
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
        last, stacks = loop.ticks.run(forward, once, state, xs, length=length, reverse=reverse)
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
        known = dict(zip(self.d_xs, d_xs)) | {v: jaxprs.repeat(d, length) for v, d in zip(self.d_invariant, d_weights)}
        weights = dict(zip(self.d_invariant, d_weights))
        total: dict[Var, jax.Array] = {}
        pieces: dict[Var, dict[int, jax.Array]] = {}
        cuts = {}
        for d in self.pattern.deferred:
            if d.is_product:
                term = self._product(
                    d, tick.batched(tick.left[id(d.equation)], stack, fixed, length), weights[d.variable]
                )
            else:
                term = known[d.variable]
            if d.piece is None:
                _add(total, d.root, term, d.root.aval)
            else:
                cuts[d.root], i = d.piece
                _add(pieces.setdefault(d.root, {}), i, term, cuts[d.root].outvars[i].aval)
        for root, terms in pieces.items():
            parts = [terms[i] if i in terms else jaxprs.zeros(v.aval, length) for i, v in enumerate(cuts[root].outvars)]
            _add(total, root, lax.concatenate(parts, 1 + cuts[root].params["axis"]), root.aval)
        return [total[r] for r in self.pattern.roots]

    def _product(self, d: Deferred, left: jax.Array, weight: jax.Array) -> jax.Array:
        """A product's tangent by its weight, for all ticks at once."""

        def one(value: jax.Array) -> jax.Array:
            pair = (weight, value) if d.operand == 0 else (value, weight)
            return jaxprs.evaluate(self.loop.template, d.equation, pair)[0]

        # Ticks and batch as one axis: XLA on a CPU transposes the stacked gradients where a product contracts two
        # (an LSTM's training step, T 256, B 32, h 128: 64 ms instead of 71). Elsewhere the batch stays an axis of its
        # own, which the compiler can shard.
        one_batch_axis = left.ndim == 3 and is_matrix_product(d)
        if one_batch_axis and jax.default_backend() == "cpu" and not jaxprs.is_explicit(jax.typeof(left)):
            return one(left.reshape(-1, left.shape[-1])).reshape(*left.shape[:-1], -1)
        return jax.vmap(one)(left)

    def _linear_scan(
        self, tick: LinearTick, stack: dict, fixed: list, epsilon: list, d_weights: list, d_state: list, d_xs: list,
        length: int, reverse: bool,
    ) -> tuple[list, list]:  # fmt: skip
        """``(ṡ_t, ẏ_t) = linear_t(ṡ_{t-1}, ε_t, ẋ_t)``, the coefficients rebuilt from what was kept."""
        weights = [d for v, d in zip(self.d_invariant, d_weights) if v in self.pattern.weights]
        inputs = [d for v, d in zip(self.d_xs, d_xs) if v in self.pattern.inputs]
        sources, moving = [stack[v] for v in tick.sources], (weights, d_state, inputs, epsilon)
        return self.loop.ticks.linear(
            tick.rebuild, tick.linear, fixed, sources, moving, length=length, reverse=reverse
        )  # fmt: skip


def _add(sums: dict, key: Hashable, term: jax.Array, aval: jaxprs.Aval) -> None:
    """Adds a stack of terms, repeated along axes where they have one entry and the sum has several."""
    if term.shape[1:] != aval.shape:
        term = jnp.broadcast_to(term, (term.shape[0], *aval.shape))
    sums[key] = sums[key] + term if key in sums else term


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
