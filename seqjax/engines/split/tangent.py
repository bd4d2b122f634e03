"""A loop run, and its derivative: one linearised tick, ε for all ticks at once, and a linear scan."""

from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero, zero_from_primal

from seqjax import spread
from seqjax.engines import memory
from seqjax.engines.equations import jaxprs
from seqjax.engines.equations.jaxprs import Aval, Equation, Var
from seqjax.engines.split.keep import Kept, kept_of, variables_of
from seqjax.engines.split.linearize import LinearTick, Moving, linearize, moving_operands
from seqjax.engines.split.loop import Deferred, Loop
from seqjax.engines.split.rows import are_one_axis, as_rows
from seqjax.engines.split.runner import Runner


class Time(NamedTuple):
    """How many ticks, in which direction, and whether the backward pass recomputes activations from the states."""

    length: int
    reverse: bool
    recompute: bool


class Tangents(NamedTuple):
    """Tangents that are known not to be zero: of invariants and inputs by variable, of the state's floats in order."""

    invariant: dict[Var, jax.Array]
    state: list[jax.Array]
    x: dict[Var, jax.Array]


def run_loop(
    loop: Loop, runner: Runner, invariant: Sequence, state: Sequence, xs: Sequence, time: Time
) -> tuple[list, list]:
    """Runs a loop; returns the last state and the outputs per tick."""
    tick = loop.tick()

    def primal(invariant: Sequence, state: Sequence, xs: Sequence) -> tuple[list, list]:
        return runner.run(tick, invariant, state, xs, length=time.length, reverse=time.reverse)

    if not any(jaxprs.is_float(v.aval) for v in [*loop.invariant, *loop.state, *loop.x]):
        return primal(invariant, state, xs)
    differentiable = jax.custom_jvp(primal)
    made: dict[tuple, tuple[LinearTick, Kept]] = {}  # a scan asks twice for the rule of what is inside

    def rule(primals: tuple, tangents: tuple) -> tuple:
        d_invariant, d_state, d_xs = tangents
        known = Tangents(
            _known(loop.invariant, d_invariant),
            [
                jaxprs.zeros(v.aval) if isinstance(d, SymbolicZero) else d
                for v, d in zip(loop.state, d_state)
                if jaxprs.is_float(v.aval)
            ],
            _known(loop.x, d_xs),
        )
        invariant, state, xs = primals
        return _run_with_derivative(loop, runner, invariant, state, xs, known, time, made)

    differentiable.defjvp(rule, symbolic_zeros=True)
    return differentiable(list(invariant), list(state), list(xs))


def _run_with_derivative(
    loop: Loop, runner: Runner, invariant: list, state: list, xs: list, tangents: Tangents, time: Time, made: dict
) -> tuple:
    """The rule of `jax.custom_jvp`: ``((last, ys), (d_last, d_ys))``; ``made`` keeps linearised ticks by what moves."""
    moved = (*tangents.invariant, *tangents.x)
    moving = moving_operands(loop, moved)
    given = dict(zip(loop.invariant, invariant))
    # The backward loop contracts the other axis of U; row by row it is read faster: on a CPU `h @ U` (B 8, h 128) takes
    # 9.7 µs, and with U's other axis contracted 15.6.
    transposed = [lax.optimization_barrier(given[v].T) for v in moving.transposed]
    if moved not in made:
        tick = linearize(loop, moving, [jax.typeof(u) for u in transposed])
        made[moved] = tick, kept_of(tick)
    tick, kept = made[moved]
    once = [*tick.constants, *invariant, *transposed]
    fixed = kept.once(once)

    # The primal scan, which also stacks what the backward pass keeps.
    stacked, read = ([], tick.before) if time.recompute else (kept.stacked, kept.states)
    after = dict(zip(tick.before, tick.after))
    emit = variables_of([*tick.outputs, *stacked])
    emit = list(dict.fromkeys([*emit, *(b for b in read if after[b] not in emit)]))
    everything = [*tick.once, *tick.before, *tick.x]
    forward = tick.function(everything, [*tick.after, *emit])
    last, stacks = runner.run(forward, once, state, xs, length=time.length, reverse=time.reverse)
    if time.recompute:
        stacks = [memory.named(stack) for stack in stacks]
    by_variable = dict(zip(emit, stacks))
    literal = lambda v: jaxprs.repeat(jaxprs.literal(v), time.length)
    ys = [literal(v) if jaxprs.is_literal(v) else by_variable[v] for v in tick.outputs]

    def tangent(stacks: list, state: list, xs: list, once: list, fixed: list, tangents: list) -> tuple[list, list]:
        d = Tangents(dict(zip(d_invariant, tangents[0])), tangents[1], dict(zip(d_xs, tangents[2])))
        stack = dict(zip(emit, stacks)) | dict(zip(tick.x, xs))
        for b, first in zip(tick.before, state):
            if b in read and b not in stack:
                stack[b] = _shift(first, stack[after[b]], time.reverse)
        if time.recompute:
            rebuild = tick.function(everything, kept.stacked)
            states = [stack[b] for b in tick.before]
            every = lax.map if loop.tickwise else lambda f, at: jax.vmap(f)(at)
            stack |= dict(zip(kept.stacked, every(lambda at: rebuild([*once, *at[0], *at[1]]), (states, xs))))
        epsilon = _epsilon(loop, moving, kept, stack, fixed, d, time.length)
        weights = [d.invariant[v] for v in moving.weights]
        inputs = [d.x[v] for v in moving.inputs]
        sources = [stack[v] for v in kept.sources]
        return runner.linear(
            kept.rebuild, tick.linear, fixed, sources, (weights, d.state, inputs, epsilon),
            length=time.length, reverse=time.reverse,
        )  # fmt: skip

    d_invariant, d_xs = list(tangents.invariant), list(tangents.x)
    # With ``recompute`` the whole chunk is under a checkpoint that keeps the states; a second one would copy them.
    if not time.recompute:
        tangent = jax.checkpoint(tangent, prevent_cse=False)
    values = [list(tangents.invariant.values()), tangents.state, list(tangents.x.values())]
    d_last, d_ys = tangent(stacks, state, xs, once, fixed, values)
    return (last, ys), (_with_float0(loop.state, last, d_last), _with_float0(loop.outputs, ys, d_ys))


def _epsilon(
    loop: Loop, moving: Moving, kept: Kept, stack: dict, fixed: list, tangents: Tangents, length: int
) -> list[jax.Array]:
    """What the tangents of weights and summands add to every root, ``[K, ...]`` each."""
    known = tangents.x | {v: jaxprs.repeat(d, length) for v, d in tangents.invariant.items()}
    total: dict[Var, jax.Array] = {}
    pieces: dict[Var, dict[int, jax.Array]] = {}
    cuts: dict[Var, Equation] = {}
    for d in moving.deferred:
        if d.is_product:
            left = kept.batched(kept.tick.left[d.equation], stack, fixed, length)
            term = _product(loop, d, left, tangents.invariant[d.variable])
        else:
            term = known[d.variable]
        if d.piece is None:
            _add(total, d.root, term, d.root.aval)
        else:
            cuts[d.root] = d.piece.split
            out = d.piece.split.outvars[d.piece.place]
            _add(pieces.setdefault(d.root, {}), d.piece.place, term, out.aval)
    for root, terms in pieces.items():
        outs = cuts[root].outvars
        parts = [terms[i] if i in terms else jaxprs.zeros(v.aval, length) for i, v in enumerate(outs)]
        _add(total, root, lax.concatenate(parts, 1 + cuts[root].params["axis"]), root.aval)
    return [total[r] for r in moving.roots]


def _product(loop: Loop, d: Deferred, left: jax.Array, weight: jax.Array) -> jax.Array:
    """A product's tangent by its weight, for all ticks at once."""

    def one(value: jax.Array) -> jax.Array:
        pair = (weight, value) if d.operand == 0 else (value, weight)
        return jaxprs.evaluate(loop.template, d.equation, pair)[0]

    rows = d.operand == 1 and are_one_axis(d.equation)
    return as_rows(one, left) if rows else jax.vmap(one)(left)


def _add(sums: dict, key: Hashable, term: jax.Array, aval: Aval) -> None:
    """Adds a stack of terms, repeated along axes where they have one entry and the sum has several."""
    if term.shape[1:] != aval.shape:
        term = jnp.broadcast_to(term, (term.shape[0], *aval.shape))
    term = spread.exactly(term, aval, in_front=1)
    sums[key] = sums[key] + term if key in sums else term


def _known(variables: Iterable[Var], tangents: Iterable) -> dict[Var, jax.Array]:
    return {
        v: d for v, d in zip(variables, tangents) if jaxprs.is_float(v.aval) and not isinstance(d, SymbolicZero)
    }  # fmt: skip


def _shift(first: jax.Array, after: jax.Array, reverse: bool) -> jax.Array:
    """States before each tick, from the first and those after each tick."""
    parts = [after[1:], first[None]] if reverse else [first[None], after[:-1]]
    return lax.concatenate(parts, 0)


def _with_float0(variables: Sequence[Var], values: Sequence, tangents: Iterable) -> list:
    found = iter(tangents)
    return [
        next(found) if jaxprs.is_float(v.aval) else zero_from_primal(value, symbolic_zeros=True)
        for v, value in zip(variables, values)
    ]
