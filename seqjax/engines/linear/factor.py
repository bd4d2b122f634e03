"""A tick's equations in two parts: what they make of the blocks of a state alone, and what they make without it.

Of the first nothing is made along axes of the state where all that multiplies is the same, such as those of a batch in
``h U``: the same equations run there with one entry.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax import lax

from seqjax import spread
from seqjax.engines.equations import jaxprs
from seqjax.engines.equations.jaxprs import Equation, Var
from seqjax.engines.linear.block import Block, Factors
from seqjax.engines.linear.confined import Axes, confined, size
from seqjax.engines.linear.matrix.known import same_but_ones
from seqjax.engines.split.loop import Loop


class Parts(NamedTuple):
    """A tick that is linear in blocks, ``h' = A h + b``, as A and b.

    Attributes:
      loop: the tick.
      block: where blocks lie.
      axes: of all values that depend on the state.
      same: of the axes of `Block.others` those along which A is the same.
      always: whether it is the same at all ticks.
    """

    loop: Loop
    block: Block
    axes: dict[Var, Axes]
    same: frozenset[int | None]
    always: bool

    @classmethod
    def of(cls, loop: Loop, block: Block) -> "Parts":
        """Looks at what multiplies."""
        axes = confined(loop.equations, loop.state, loop.state_out, block)
        timed = jaxprs.dependent(loop.equations, loop.x)
        thin = _thin(loop.equations, axes)
        factors = [pair for e in loop.equations if e.outvars[0] in axes for pair in _factors(e, axes).items()]
        varying = {
            label for v, own in factors for i, each in enumerate(own) if i not in thin.get(v, ()) for label, _ in each
        }
        # With shardings in its type an axis cannot be cut to one entry.
        wide = [k for k, n in enumerate(block.others) if n > 1]
        alike = () if any(spread.is_explicit(v.aval) for v in loop.state) else wide
        return cls(loop, block, axes, frozenset(alike) - varying, not any(v in timed for v, _ in factors))

    def narrow(self, blocks: jax.Array) -> jax.Array:
        """Blocks with one entry along axes where A is the same."""
        for k in range(len(self.block.others)):
            axis = k + (k >= self.block.place)
            blocks = lax.slice_in_dim(blocks, 0, 1, axis=axis) if k in self.same else blocks
        return blocks

    def _known(self, invariant: Sequence, x: Sequence) -> dict[Var, jax.Array]:
        """What does not depend on the state at one tick."""
        loop = self.loop
        given = dict(zip([*loop.invariant, *loop.x], [*invariant, *x]))
        for e in loop.equations:
            if e.outvars[0] not in self.axes:
                values = [jaxprs.literal(v) if jaxprs.is_literal(v) else given[v] for v in e.invars]
                given.update(zip(e.outvars, jaxprs.evaluate(loop.template, e, values)))
        return given

    @property
    def _equations(self) -> list[Equation]:
        return [e for e in self.loop.equations if e.outvars[0] in self.axes]

    def added(self, invariant: Sequence, x: Sequence) -> jax.Array:
        """b at one tick, ``[*O, n, *O]``: what is made of zeros is None until something is added."""
        given, made = self._known(invariant, x), dict.fromkeys(self.loop.state)

        def read(v: Var) -> jax.Array:
            if jaxprs.is_literal(v):
                return jaxprs.literal(v)
            value = made[v] if v in made else given[v]
            return jaxprs.zeros(v.aval) if value is None else value

        for e in self._equations:
            operands = [(i, v, not jaxprs.is_literal(v) and v in made) for i, v in enumerate(e.invars)]
            if any(made[v] is not None if moves else not _scales(e, i) for i, v, moves in operands):
                made.update(zip(e.outvars, jaxprs.evaluate(self.loop.template, e, list(map(read, e.invars)))))
            else:
                made.update(dict.fromkeys(e.outvars))
        return self.block.enter(list(map(read, self.loop.state_out)))

    def factor(self, invariant: Sequence, x: Sequence) -> Callable[[jax.Array], jax.Array]:
        """``A h`` of narrow blocks at one tick."""
        given = self._known(invariant, x)

        def push(blocks: jax.Array) -> jax.Array:
            made = dict(zip(self.loop.state, self.block.leave(blocks)))
            for e in self._equations:
                made.update(zip(e.outvars, self._apply(e, given, made)))
            return self.block.enter([made[v] for v in self.loop.state_out])

        return push

    def _apply(self, e: Equation, given: dict, made: dict) -> list[jax.Array]:
        """One equation, of zeros for what it adds."""
        factors, out = _factors(e, self.axes), self.axes[e.outvars[0]]

        def read(i: int, v: Var) -> jax.Array:
            if not jaxprs.is_literal(v) and v in made:
                return made[v]
            if _scales(e, i):
                return jaxprs.literal(v) if jaxprs.is_literal(v) else self._narrowed(given[v], factors[v])
            axes = out if len(out) == v.aval.ndim else [f for i, f in enumerate(out) if i != e.params.get("axis")]
            shape = tuple(n // self._cut(f) if n > 1 else n for n, f in zip(v.aval.shape, axes))
            return jaxprs.zeros(v.aval.update(shape=shape))

        outs = e.primitive.bind(*(read(i, v) for i, v in enumerate(e.invars)), **self._params(e))
        return list(outs) if e.primitive.multiple_results else [outs]

    def _cut(self, factors: Factors) -> int:
        """How many times fewer entries a narrow axis has."""
        return math.prod(n for label, n in factors if label in self.same)

    def _narrowed(self, x: jax.Array, axes: Sequence[Factors]) -> jax.Array:
        """A value's first entries along axes where it is the same."""
        if all(self._cut(factors) == 1 for factors in axes):
            return x
        parts = [factor for factors in axes for factor in factors]
        x = x.reshape([n for _, n in parts])
        x = lax.slice(x, [0] * x.ndim, [1 if label in self.same else n for label, n in parts])
        return x.reshape([size(factors) // self._cut(factors) for factors in axes])

    def _params(self, e: Equation) -> dict[str, Any]:
        """An equation's sizes, of narrow axes."""
        narrow = [tuple(size(f) // self._cut(f) for f in self.axes[v]) for v in e.outvars]
        name, params = e.primitive.name, dict(e.params)
        if name == "broadcast_in_dim":
            params["shape"] = narrow[0]
        elif name == "reshape":
            params["new_sizes"] = narrow[0]
        elif name == "split":
            params["sizes"] = tuple(shape[params["axis"]] for shape in narrow)
        elif name == "slice":
            strides = params["strides"] or (1,) * len(narrow[0])
            cuts = [self._cut(f) for f in self.axes[e.invars[0]]]
            # Of the outer part of an axis by whole rows, of its inner part by strides.
            starts = [start // k if d == 1 else start for start, d, k in zip(params["start_indices"], strides, cuts)]
            limits = [start + (n - 1) * d + 1 for start, n, d in zip(starts, narrow[0], strides)]
            params |= {"start_indices": tuple(starts), "limit_indices": tuple(limits)}
        return params


def _scales(e: Equation, operand: int) -> bool:
    """Whether an operand multiplies the others or chooses among them, rather than being added or joined to them."""
    return e.primitive.name in ("mul", "div", "dot_general") or (e.primitive.name == "select_n" and operand == 0)


def _factors(e: Equation, axes: dict[Var, Axes]) -> dict[Var, Sequence[Factors]]:
    """What multiplies or chooses what depends on the state, and what its axes are made of."""
    if e.primitive.name == "dot_general":
        _, batch = e.params["dimension_numbers"]
        side = 0 if e.invars[0] not in axes else 1
        places = dict(zip(batch[side], batch[1 - side]))
        own = axes[e.invars[1 - side]]
        return {e.invars[side]: [own[places[i]] if i in places else () for i in range(e.invars[side].aval.ndim)]}
    scaling = [v for i, v in enumerate(e.invars) if _scales(e, i)]
    known = [v for v in scaling if not jaxprs.is_literal(v) and v not in axes]
    out = axes[e.outvars[0]]
    return {v: [f if n == size(f) else () for n, f in zip(v.aval.shape, out)] for v in known}


def _thin(equations: Sequence[Equation], axes: dict[Var, Axes]) -> dict[Var, set[int]]:
    """Of values that do not depend on the state, axes along which they are the same."""
    thin: dict[Var, set[int]] = {}
    for e in equations:
        if e.outvars[0] in axes or len(e.invars) != 1:
            continue
        (source,), out, name = e.invars, e.outvars[0], e.primitive.name
        before, after = source.aval.shape, out.aval.shape
        own = set() if jaxprs.is_literal(source) else thin.get(source, set())
        if name == "broadcast_in_dim":
            places = e.params["broadcast_dimensions"]
            kept = {place for i, place in enumerate(places) if before[i] == after[place] and i not in own}
            thin[out] = set(range(len(after))) - kept
        elif name in ("reshape", "squeeze", "expand_dims"):
            sources = same_but_ones(before, after) or []
            thin[out] = {i for i, place in enumerate(sources) if place is None or place in own}
        elif name in ("convert_element_type", "copy", "not"):
            thin[out] = own
    return thin
