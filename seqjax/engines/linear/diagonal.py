"""States of which every number, or block of them, goes its own way: ``h' = a ∘ h + b``; the same with max for a sum.

Three forms compute the same:

- ``loop``: a tick after the other, one pass over a and b.
- ``lanes``: time cut into L stretches that run side by side. One pass gives every stretch's product of a and its
  state from nothing; a loop over stretches gives their first states; a second pass starts from these. L times fewer
  turns of a loop for reading a and b twice; every number is the one that the loop would give, but for the first states.
  No rule chooses it so far: see `way`.
- ``tree``: `jax.lax.associative_scan`, log T passes.

The derivative is another such recurrence with the same a, and its transpose runs it backwards:

    ḣ_t = a_t ḣ_{t-1} + (ȧ_t h_{t-1} + ḃ_t)        λ_t = h̄_t + a_{t+1}ᵀ λ_{t+1}        b̄ = λ        ā_t = λ_t h_{t-1}ᵀ

so that a gradient keeps a and h and nothing is differentiated through a tree.

References:
  Martin and Cundy (2018), Parallelizing linear recurrent neural nets over sequence length. https://arxiv.org/abs/1709.04057
  Blelloch (1990), Prefix sums and their applications. https://www.cs.cmu.edu/~guyb/papers/Ble93.pdf
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from seqjax.engines import memory
from seqjax.engines.equations import linear_call
from seqjax.engines.linear.algebra import MAX_PLUS, NUMBERS, Algebra, Ticks

Form = Literal["loop", "lanes", "tree"]


class How(NamedTuple):
    """A form and a direction.

    Attributes:
      form: ``"loop"``, ``"lanes"`` or ``"tree"``.
      reverse: whether time runs backwards.
      lanes: stretches of time side by side.
      named: whether the states are marked, for ``memory="carries"`` to keep.
    """

    form: Form = "loop"
    reverse: bool = False
    lanes: int = 1
    named: bool = False


def recurrence(ticks: Ticks, first: jax.Array, how: How, algebra: Algebra = NUMBERS) -> jax.Array:
    """The states after every tick, ``[T, ...]``.

    Args:
      ticks: a, b and alive, ``[T, ...]`` each.
      first: the state before the first tick.
      how: which form, which direction.
      algebra: numbers, or max-plus.
    """

    @jax.custom_jvp
    def states(a: jax.Array, b: jax.Array, first: jax.Array, alive: jax.Array | None) -> jax.Array:
        return FORMS[how.form](Ticks(a, b, alive), first, how, algebra)

    def rule(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
        a, b, first, alive = primals
        h = states(a, b, first, alive)
        h = memory.named(h) if how.named else h
        before = shifted(h, first, how.reverse)
        if alive is not None:
            before = jnp.where(alive, before, 0)
        d_a, d_b, d_first, _ = (None if isinstance(d, SymbolicZero) else d for d in tangents)
        if algebra is MAX_PLUS:
            # Of the larger one, of both by halves where they are equal: as `jax.numpy.maximum` has it.
            one = a + before
            # A tick that holds the state has b = -∞, which is no rival even to a state of -∞.
            kept = jnp.where((one > b) | (b == -jnp.inf), 1.0, jnp.where(one == b, 0.5, 0.0)).astype(h.dtype)
            new = 1 - kept if alive is None else jnp.where(alive, 1 - kept, 1)
            kept = kept if alive is None else jnp.where(alive, kept, 0)
            terms = [d if c is None else c * d for c, d in ((kept, d_a), (new, d_b)) if d is not None]
            a = kept
        else:
            terms = [] if d_a is None else [algebra.moved(d_a, before)]
            terms += [] if d_b is None else [d_b]
        moving = sum(terms[1:], terms[0]) if terms else jnp.zeros_like(b)
        d_first = jnp.zeros_like(first) if d_first is None else d_first
        return h, _linear(a, moving, d_first, alive, how, NUMBERS if algebra is MAX_PLUS else algebra)

    states.defjvp(rule, symbolic_zeros=True)
    return states(ticks.a, ticks.b, first, ticks.alive)


def shifted(h: jax.Array, first: jax.Array, reverse: bool) -> jax.Array:
    """The states before every tick, of those behind."""
    parts = [h[1:], first[None]] if reverse else [first[None], h[:-1]]
    return lax.concatenate(parts, 0)


def _linear(
    a: jax.Array, moving: jax.Array, first: jax.Array, alive: jax.Array | None, how: How, algebra: Algebra
) -> jax.Array:
    """``ḣ' = a ∘ ḣ + u`` as a linear map of u and the first ḣ, whose transpose is the same recurrence backwards."""

    def split(coefficients: list) -> tuple[jax.Array, jax.Array | None]:
        return coefficients[0], coefficients[1] if len(coefficients) > 1 else None

    # JAX transposes this: lanes multiply a's in the loop that carries b, which it would take for linear as well.
    seen = how._replace(form="loop", lanes=1) if how.form == "lanes" else how

    def plain(coefficients: list, values: list) -> list:
        a, alive = split(coefficients)
        return [recurrence(Ticks(a, values[0], alive), values[1], seen, algebra)]

    def forward(coefficients: list, values: list) -> list:
        a, alive = split(coefficients)
        return [FORMS[how.form](Ticks(a, values[0], alive), values[1], how, algebra)]

    def transpose(coefficients: list, cotangents: list) -> list:
        a, alive = split(coefficients)
        (ct,) = cotangents
        if how.form == "loop":
            return _turned(Ticks(algebra.turned(a), ct, alive), how, algebra)
        back = how._replace(reverse=not how.reverse)
        # λ_t reads a_{t+1}: each tick's factor is that of the tick it comes from.
        one = lambda x, value: lax.concatenate(
            [x[1:], jnp.full_like(x[:1], value)] if not how.reverse else [jnp.full_like(x[:1], value), x[:-1]], 0
        )
        a = algebra.turned(a)
        shifted = a if _always(a) else one(a, 0)
        later = Ticks(shifted, ct, None if alive is None else one(alive, False))
        turned = FORMS[how.form](later, jnp.zeros_like(ct[0]), back, algebra)
        end = -1 if how.reverse else 0
        first = algebra.times(a[end], turned[end])
        return [turned, first if alive is None else jnp.where(alive[end], first, 0)]

    coefficients = [a] if alive is None else [a, alive]
    return linear_call.call(linear_call.Linear(forward, transpose, plain), coefficients, [moving, first])[0]


def _always(a: jax.Array) -> bool:
    """Whether an a is the same at every tick."""
    return a.shape[0] == 1


def _loop(ticks: Ticks, first: jax.Array, how: How, algebra: Algebra) -> jax.Array:
    def body(h: jax.Array, tick: Ticks) -> tuple[jax.Array, jax.Array]:
        h = tick.after(algebra, h)
        return h, h

    return _scanned(body, first, ticks, how.reverse)[1]


def _turned(ticks: Ticks, how: How, algebra: Algebra) -> list[jax.Array]:
    """λ of every tick and of the first state, by a loop that carries aᵀ λ: no a is moved to the tick before its own."""

    def body(carried: jax.Array, tick: Ticks) -> tuple[jax.Array, jax.Array]:
        turned = carried + tick.b
        return tick.kept(algebra, tick.a, turned), turned

    first, turned = _scanned(body, jnp.zeros_like(ticks.b[0]), ticks, not how.reverse)
    return [turned, first]


def _scanned(body: Callable, first: jax.Array, ticks: Ticks, reverse: bool) -> tuple[jax.Array, jax.Array]:
    """Over ticks; an a that is the same at all of them is not among what the loop reads."""
    length = ticks.b.shape[0]
    if not _always(ticks.a):
        return memory.scan(body, first, ticks, length=length, reverse=reverse)
    always = lambda h, tick: body(h, Ticks(ticks.a[0], *tick))
    return memory.scan(always, first, (ticks.b, ticks.alive), length=length, reverse=reverse)


def _each(ticks: Ticks) -> Ticks:
    """With an a for every tick, and where the state may be cut off for each of its numbers."""
    a, b, alive = ticks
    shape = (b.shape[0], *a.shape[1:]) if alive is None else jnp.broadcast_shapes(a.shape, b.shape)
    return ticks if a.shape == shape else ticks._replace(a=jnp.broadcast_to(a, shape))


def _tree(ticks: Ticks, first: jax.Array, how: How, algebra: Algebra) -> jax.Array:
    each = _each(ticks)
    total = lax.associative_scan(lambda early, late: Ticks.then(early, algebra, late), each, reverse=how.reverse)
    return total.after(algebra, jnp.broadcast_to(first, total.b.shape))


def _lanes(ticks: Ticks, first: jax.Array, how: How, algebra: Algebra) -> jax.Array:
    """Lanes lie behind time within a stretch, ``[L, K, ...]``; a turn of the loop reads one tick of each."""
    ticks, length = _each(ticks), ticks.b.shape[0]
    lanes = min(how.lanes, length)
    size = -(-length // lanes)
    rest = lanes * size - length

    def cut(x: jax.Array, fill: jax.Array) -> jax.Array:
        more = jnp.broadcast_to(fill, (rest, *x.shape[1:]))
        x = lax.concatenate([more, x] if how.reverse else [x, more], 0) if rest else x
        return x.reshape(lanes, size, *x.shape[1:])

    cuts = Ticks(
        cut(ticks.a, algebra.one(ticks.a[:1])),
        cut(ticks.b, jnp.full_like(ticks.b[:1], algebra.nothing)),
        None if ticks.alive is None else cut(ticks.alive, jnp.ones_like(ticks.alive[:1])),
    )
    place = lambda turn: size - 1 - turn if how.reverse else turn
    at = lambda turn: jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, place(turn), 1, keepdims=False), cuts)

    def summary(turn: jax.Array, so_far: Ticks) -> Ticks:
        return so_far.then(algebra, at(turn))

    whole = lax.fori_loop(1, size, summary, at(0))
    _, starts = memory.scan(
        lambda h, stretch: (stretch.after(algebra, h), h), first, whole, length=lanes, reverse=how.reverse
    )

    def tick(turn: jax.Array, values: tuple) -> tuple:
        h, stack = values
        h = at(turn).after(algebra, h)
        return h, lax.dynamic_update_index_in_dim(stack, h, place(turn), 1)

    stack = jnp.zeros_like(cuts.b)
    _, stack = lax.fori_loop(0, size, tick, (starts, stack))
    stack = stack.reshape(lanes * size, *stack.shape[2:])
    return stack[rest:] if how.reverse else stack[:length]


FORMS = {"loop": _loop, "lanes": _lanes, "tree": _tree}
