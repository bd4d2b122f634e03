"""A recurrence that is linear in blocks of its state: ``h' = A h + b`` with A of at most 16 × 16, then `diagonal`.

A is what the tick's equations make of the n unit vectors of a block, where nothing is added: all of time and all blocks
at once. Along axes of the state where nothing multiplies that varies, A is made and kept once, along time too:

    h' = h U + x               A = Uᵀ, once
    h' = R(θ_t) h, each head   A [T, B, heads, 2, 2]
    x' = x + v, v' = v - k x'  A of two leaves, once

b is the tick of a state of zeros. What is not a number in a block reaches all of its numbers; a reset cuts off a block.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from seqjax.engines import platforms
from seqjax.engines.equations import jaxprs
from seqjax.engines.linear.algebra import Algebra, Ticks, blocks
from seqjax.engines.linear.block import Block
from seqjax.engines.linear.detect import Linear
from seqjax.engines.linear.diagonal import How, recurrence
from seqjax.engines.linear.factor import Parts
from seqjax.engines.linear.way import outputs
from seqjax.engines.split.loop import Loop
from seqjax.engines.split.tangent import Time

# Ticks whose A and b are made at once, and the largest blocks for a tree. Measured on two cores, float32, 512 ticks,
# times as fast as `jax.lax.scan` of the step, forwards and value with gradient, by chunks of 8, 32, 128 and 512 ticks:
# 512 blocks of 4 × 4 of the input .44, .48, .38, .16 and .85, .99, .58, .38; 32 of 16 × 16 .32, .47, .44, .08 and .45,
# .35, .30, .26; 4,096 oscillators of two leaves .14, .16, .28, .04 and 1.07, 1.21, .81, .38; 1,024 rotations .53, .88,
# .95, .73 and .49, .46, .46, .46; one 16 × 16 for a batch of 32 about 1 and 1.1. So ``"auto"`` leaves them to ticks.
TICKS, SMALL = 32, 4


class Products(NamedTuple):
    """A stretch of time as one tick, ``h_T = P h_0 + e``; see `seqjax.engines.linear.devices`."""

    block: Block
    ticks: Ticks

    def after(self, state: Sequence[jax.Array]) -> list[jax.Array]:
        """The state behind it."""
        place = self.block.place
        first = jnp.expand_dims(self.block.enter([leaf.astype(self.ticks.b.dtype) for leaf in state]), place + 1)
        after = self.ticks.after(algebra(self.block), first).squeeze(place + 1)
        return [leaf.astype(state[0].dtype) for leaf in self.block.leave(after)]


jax.tree_util.register_pytree_node(
    Products, lambda p: ((p.ticks,), p.block), lambda block, ticks: Products(block, *ticks)
)


class Dense(NamedTuple):
    """How to run one loop that is linear in blocks."""

    found: Linear

    @property
    def block(self) -> Block:
        """Where they lie."""
        assert self.found.block is not None
        return self.found.block

    @property
    def said(self) -> str:
        """For `explain`."""
        return f"linear, in dense blocks of {self.block.numbers}"

    @property
    def as_ticks(self) -> bool:
        """Only who asks for blocks has them."""
        return False

    def run(self, loop: Loop, invariant: Sequence, state: Sequence, xs: Sequence, time: Time) -> tuple[list, list]:
        """As `seqjax.engines.split.tangent.run_loop`."""
        ticks, block = self._ticks(loop, invariant, xs, time), self.block
        first = jnp.expand_dims(block.enter([leaf.astype(ticks.b.dtype) for leaf in state]), block.place + 1)
        h = recurrence(ticks, first, how(block, time), algebra(block)).squeeze(block.place + 2)
        after = [leaf.astype(state[0].dtype) for leaf in jax.vmap(block.leave)(h)]
        return outputs(loop, invariant, state, after, xs, time)

    def summary(self, loop: Loop, invariant: Sequence, state: Sequence, xs: Sequence, time: Time) -> Products:
        """Of a stretch: P from the n unit vectors with nothing added, e from zeros, as columns of one recurrence."""
        (a, b, alive), block = self._ticks(loop, invariant, xs, time), self.block
        n, column = block.numbers, block.place + 1
        zero = jnp.zeros_like(b[0])
        one = algebra(block).one(jnp.repeat(zero, n, column))
        first = lax.concatenate([one, zero], column)
        ticks = Ticks(a, lax.concatenate([jnp.repeat(jnp.zeros_like(b), n, column + 1), b], column + 1), alive)
        alike = How("loop", time.reverse, named=time.recompute)
        end = recurrence(ticks, first, alike, algebra(block))[0 if time.reverse else -1]
        through, own = lax.split(end, [n, 1], column)
        return Products(block, Ticks(through, own, None if alive is None else alive.all(0)))

    def _ticks(self, loop: Loop, invariant: Sequence, xs: Sequence, time: Time) -> Ticks:
        """The coefficients of all ticks, ``A [T, *O, n, n, *O]`` and ``b [T, *O, n, 1, *O]``."""
        block, parts = self.block, Parts.of(loop, self.block)
        place = block.place
        like = block.enter([jaxprs.zeros(v.aval) for v in loop.state])
        wide = like.dtype if like.dtype.itemsize >= 4 else jnp.float32
        zero = parts.narrow(like)

        def factor(x: list) -> tuple[jax.Array, jax.Array | None]:
            push = parts.factor(invariant, x)
            units = algebra(block).one(jnp.repeat(jnp.expand_dims(zero, place + 1), block.numbers, place + 1))
            columns = jax.vmap(push, in_axes=place + 1, out_axes=place + 1)(units)
            through = push(zero * jnp.nan) if self.found.cut else None
            alive = None if through is None else jnp.isnan(through).any(place, keepdims=True)
            return columns.astype(wide), None if alive is None else jnp.expand_dims(alive, place + 1)

        added = lambda x: jnp.expand_dims(parts.added(invariant, x).astype(wide), place + 1)
        b = jax.vmap(added, axis_size=time.length)(list(xs))
        if parts.always:
            a, alive = jax.tree.map(lambda each: each[None], factor([jaxprs.zeros(v.aval) for v in loop.x]))
        else:
            a, alive = jax.vmap(factor, axis_size=time.length)(list(xs))
        return Ticks(a, b, None if alive is None else jnp.broadcast_to(alive, (time.length, *alive.shape[1:])))


def algebra(block: Block) -> Algebra:
    """That of blocks where they lie in the state."""
    return blocks(len(block.others) - block.place)


def how(block: Block, time: Time) -> How:
    """Which form: on a CPU a loop, as a tree's products are n times as many.

    Elsewhere unmeasured: a loop launches kernels at every tick.
    """
    tree = not platforms.planned().ticks and block.numbers <= SMALL
    return How("tree" if tree else "loop", time.reverse, named=time.recompute)
