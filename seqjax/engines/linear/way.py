"""A recurrence that is linear number by number, run as one: its coefficients for all ticks at once, then `diagonal`."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax.engines import forwards, platforms
from seqjax.engines.equations import jaxprs
from seqjax.engines.equations.jaxprs import Var
from seqjax.engines.linear.algebra import MAX_PLUS, NUMBERS, Algebra, Ticks
from seqjax.engines.linear.detect import Linear
from seqjax.engines.linear.diagonal import How, recurrence, shifted
from seqjax.engines.split.loop import Loop
from seqjax.engines.split.runner import Runner
from seqjax.engines.split.tangent import Time

Pair = tuple[jax.Array, jax.Array, jax.Array]
Coefficients = Callable[[list], Pair]


class Numbers(NamedTuple):
    """A stretch of time as one tick, ``h_T = a ∘ h_0 ⊕ b``; see `seqjax.engines.linear.devices`."""

    tropical: bool
    ticks: Ticks

    def after(self, state: Sequence[jax.Array]) -> list[jax.Array]:
        """The state behind it."""
        (first,), algebra = state, MAX_PLUS if self.tropical else NUMBERS
        return [self.ticks.after(algebra, first.astype(self.ticks.b.dtype)).astype(first.dtype)]


jax.tree_util.register_pytree_node(
    Numbers, lambda n: ((n.ticks,), n.tropical), lambda tropical, ticks: Numbers(tropical, *ticks)
)


class Diagonal(NamedTuple):
    """How to run one loop that is linear number by number."""

    found: Linear

    @property
    def said(self) -> str:
        """For `explain`."""
        return "linear, number by number" + (", in max and +" if self.found.algebra == "max-plus" else "")

    @property
    def as_ticks(self) -> bool:
        """On a CPU a tick as it stands makes its own coefficients; elsewhere its launches take the time."""
        return platforms.planned().ticks

    def run(self, loop: Loop, invariant: Sequence, state: Sequence, xs: Sequence, time: Time) -> tuple[list, list]:
        """As `seqjax.engines.split.tangent.run_loop`."""

        def as_one(values: tuple[list, list, list]) -> tuple[list, list]:
            invariant, state, xs = values
            ticks = self._ticks(loop, invariant, state[0], xs, time)
            after = recurrence(ticks, state[0].astype(ticks.b.dtype), _how(time), self._algebra)
            return outputs(loop, invariant, state, [after.astype(state[0].dtype)], xs, time)

        def by_ticks(values: tuple[list, list, list]) -> tuple[list, list]:
            return Runner().run(loop.tick(), *values, length=time.length, reverse=time.reverse)

        wide = jnp.dtype(state[0].dtype).itemsize >= 4
        run = forwards.either(by_ticks, as_one) if self.as_ticks and wide else as_one
        return run((list(invariant), list(state), list(xs)))

    def summary(self, loop: Loop, invariant: Sequence, state: Sequence, xs: Sequence, time: Time) -> Numbers:
        """Of a stretch: a from a state of one and nothing besides, b from a state of nothing."""
        (first,), algebra = state, self._algebra
        ticks = self._ticks(loop, invariant, first, xs, time)
        end = 0 if time.reverse else -1
        nothing = jnp.full_like(ticks.b, algebra.nothing)
        zeros = jaxprs.zeros(jax.typeof(ticks.b[0]))
        through = recurrence(ticks._replace(b=nothing), algebra.one(zeros), _how(time), algebra)[end]
        own = recurrence(ticks, zeros + jnp.asarray(algebra.nothing, zeros.dtype), _how(time), algebra)[end]
        alive = None if ticks.alive is None else ticks.alive.all(0)
        return Numbers(algebra is MAX_PLUS, Ticks(through, own, alive))

    @property
    def _algebra(self) -> Algebra:
        return MAX_PLUS if self.found.algebra == "max-plus" else NUMBERS

    def _ticks(self, loop: Loop, invariant: Sequence, first: jax.Array, xs: Sequence, time: Time) -> Ticks:
        """The coefficients of all ticks."""
        at = (_max_plus if self._algebra is MAX_PLUS else _numbers)(loop, invariant)
        a, b, through = jax.vmap(at, axis_size=time.length)(list(xs))
        if self._algebra is NUMBERS and _always(loop):
            a = at([jaxprs.zeros(v.aval) for v in loop.x])[0][None]
        wide = first.dtype if first.dtype.itemsize >= 4 else jnp.float32
        return Ticks(a.astype(wide), b.astype(wide), jnp.isnan(through) if self.found.cut else None)


def outputs(
    loop: Loop, invariant: Sequence, state: Sequence, after: list, xs: Sequence, time: Time
) -> tuple[list, list]:
    """The last state and the outputs per tick, of the states behind every tick."""
    last = [h[0] if time.reverse else h[-1] for h in after]
    known = dict(zip(loop.state_out, after))
    if all(v in known for v in loop.outputs):
        return last, [known[v] for v in loop.outputs]
    before, tick = [shifted(h, first, time.reverse) for h, first in zip(after, state)], loop.tick()
    of_tick = lambda h, x: tick([*invariant, *h, *x])[len(state) :]
    ys = jax.vmap(of_tick, axis_size=time.length)(before, list(xs))
    return last, [known.get(v, y) for v, y in zip(loop.outputs, ys)]


def _always(loop: Loop) -> bool:
    """Whether nothing that multiplies the state, or says whether it is looked at, comes per tick."""
    moving, timed = (jaxprs.dependent(loop.equations, some) for some in (loop.state, loop.x))
    factors = [e for e in loop.equations if e.outvars[0] in moving and e.primitive.name in ("mul", "div", "select_n")]
    return not any(v in timed and v not in moving for e in factors for v in e.invars if not jaxprs.is_literal(v))


def _how(time: Time) -> How:
    """Which form: on a CPU a loop.

    Measured on two cores, float32, value and gradient, times faster than `jax.lax.scan` by a loop and by 16 and 64
    lanes, of B × D numbers a tick: 64 (T 4,096) 1.5, 1.3, 1.6; (T 8,192) 1.17, .80, .92; (T 262,144) 1.18, .79, .85; 16
    (T 32,768) 1.3, .41, .54; 128 (T 4,096) 1.07, .89, .92. A tree is .2 to .4 everywhere.
    """
    # Elsewhere unmeasured: a loop launches kernels at every tick, a tree some log T times.
    return How("loop" if platforms.planned().ticks else "tree", time.reverse, named=time.recompute)


def _numbers(loop: Loop, invariant: Sequence) -> Coefficients:
    """a and b of ``h' = a h + b``, handed on from equation to equation; NaN where NaN would come through.

    None stands for an a of one and a b of nothing, so that in ``a ⊙ h + b`` they are the very arrays of the inputs. An
    a that several numbers of the state share has one entry for them.
    """
    (state,) = loop.state

    def at(x: list) -> Pair:
        given = dict(zip([*loop.invariant, *loop.x], [*invariant, *x]))
        nothing = jaxprs.zeros(state.aval)
        moving: dict[Var, Part] = {state: Part(None, None, nothing * jnp.nan)}

        def read(v: Var) -> jax.Array:
            return jaxprs.literal(v) if jaxprs.is_literal(v) else given[v]

        def part(v: Var) -> Part:
            if not jaxprs.is_literal(v) and v in moving:
                return moving[v]
            return Part(nothing, jnp.broadcast_to(read(v), nothing.shape), nothing)

        for e in loop.equations:
            depends = [not jaxprs.is_literal(v) and v in moving for v in e.invars]
            if not any(depends):
                given.update(zip(e.outvars, jaxprs.evaluate(loop.template, e, list(map(read, e.invars)))))
                continue
            name = e.primitive.name
            apply = lambda *inputs, e=e: jaxprs.evaluate(loop.template, e, inputs)[0]
            if name == "select_n":
                which = read(e.invars[0])
                off, on = (part(v).full(nothing) for v in e.invars[1:])
                moving[e.outvars[0]] = Part(*(jnp.where(which, y, x) for x, y in zip(off, on)))
            elif name in ("mul", "div"):
                place = depends.index(True)
                factor = read(e.invars[1 - place])
                factor = factor.reshape((1,) * nothing.ndim) if factor.ndim == 0 else factor
                times = jnp.multiply if name == "mul" else jnp.divide
                a, b, through = part(e.invars[place])
                one = factor if name == "mul" else 1 / factor
                moving[e.outvars[0]] = Part(
                    one if a is None else times(a, factor), None if b is None else times(b, factor), through
                )
            elif name in ("add", "add_any", "sub") and not all(depends):
                place = depends.index(True)
                a, b, through = part(e.invars[place])
                other = jnp.broadcast_to(read(e.invars[1 - place]), nothing.shape)
                if name == "sub":
                    other, a = (-other, a) if place == 0 else (other, -jnp.ones_like(nothing) if a is None else -a)
                    b = b if place == 0 or b is None else -b
                moving[e.outvars[0]] = Part(a, other if b is None else b + other, through)
            else:
                # Linear in all that depends on the state: a sum of two such values, a sign, a cast.
                parts = [[jnp.broadcast_to(x, nothing.shape) for x in part(v).full(nothing)] for v in e.invars]
                moving[e.outvars[0]] = Part(*(apply(*each) for each in zip(*parts)))
        return moving[loop.state_out[0]].full(nothing)

    return at


class Part(NamedTuple):
    """A value ``a h + b`` on the way from h to h'; where NaN of h would come through, NaN."""

    a: jax.Array | None
    b: jax.Array | None
    through: jax.Array

    def full(self, nothing: jax.Array) -> Pair:
        """With numbers for None."""
        return (
            jnp.ones_like(nothing) if self.a is None else self.a,
            nothing if self.b is None else self.b,
            self.through,
        )


def _max_plus(loop: Loop, invariant: Sequence) -> Coefficients:
    """a and b of ``h' = max(a + h, b)``, handed on from equation to equation; NaN where NaN would come through."""
    (state,) = loop.state

    def at(x: list) -> Pair:
        given = dict(zip([*loop.invariant, *loop.x], [*invariant, *x]))
        nothing = jaxprs.zeros(state.aval)
        moving: dict[Var, Pair] = {state: (nothing, nothing - jnp.inf, nothing * jnp.nan)}

        def read(v: Var) -> jax.Array:
            return jaxprs.literal(v) if jaxprs.is_literal(v) else given[v]

        def pair(v: Var) -> Pair:
            if not jaxprs.is_literal(v) and v in moving:
                return moving[v]
            return nothing, jnp.broadcast_to(read(v), nothing.shape), nothing

        for e in loop.equations:
            depends = [not jaxprs.is_literal(v) and v in moving for v in e.invars]
            if not any(depends):
                given.update(zip(e.outvars, jaxprs.evaluate(loop.template, e, list(map(read, e.invars)))))
            elif e.primitive.name == "max":
                (a, b, through), (_, other, _) = (pair(v) for v in (e.invars if depends[0] else e.invars[::-1]))
                moving[e.outvars[0]] = a, jnp.maximum(b, other), through
            elif e.primitive.name == "select_n":
                which = read(e.invars[0])
                sides = zip(*map(pair, e.invars[1:]))
                moving[e.outvars[0]] = tuple(jnp.where(which, on, off) for off, on in sides)  # type: ignore[assignment]
            else:
                # A sum: its other summand is added to a and to b alike.
                parts = [[pair(v)[k if d else 1] for v, d in zip(e.invars, depends)] for k in range(3)]
                made = [jaxprs.evaluate(loop.template, e, part)[0] for part in parts]
                moving[e.outvars[0]] = made[0], made[1], made[2]
        return moving[loop.state_out[0]]

    return at
