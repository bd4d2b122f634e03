"""Time in chunks: the same schedules of keeping and recomputing for every engine.

With K ticks a chunk, a bytes of state and r bytes of residuals a tick, a gradient over T ticks keeps

    all        T r                      everything the backward pass reads
    carries    T a + K r                states; activations are recomputed a chunk at a time, as one batch
    sqrt       (T/K) a + K r            states at chunk borders; each chunk runs again, K ≈ √(T a / r)
    log        n L a + K r, T = K n^L   states at borders of L nested blocks, n a block; L + 1 extra runs

References:
  Griewank and Walther (2000), Algorithm 799: Revolve. https://doi.org/10.1145/347837.347846
  Gruslys et al. (2016), Memory-efficient backpropagation through time. https://arxiv.org/abs/1606.03401
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name, checkpoint_policies

from seqjax import symbolic
from seqjax.base import PyTree

# The name under which a loop marks its states, for ``memory="carries"`` to keep.
STATES = "seqjax.states"

# Chunks or smaller blocks a block of ``memory="log"``. With n a block and N chunks, n ln N / ln n states are kept and
# ln N / ln n runs added: 3.8 ln N states with 8, where 2.7 ln N are the least (n = e), for half the extra runs.
FAN = 8

Chunk = Callable[..., tuple[list, list]]


class Schedule(NamedTuple):
    """How long a chunk is, what its gradient keeps, and how chunks nest.

    Attributes:
      chunk: K, ticks.
      keep: ``"all"``, ``"carries"`` or ``"nothing"`` inside a chunk.
      blocks: ticks a block where chunks nest, each a multiple of the one before; empty for one row of chunks.
      chunk_forwards: ticks of a chunk where nothing is differentiated; 0 for as many.
    """

    chunk: int
    keep: str
    blocks: tuple[int, ...] = ()
    chunk_forwards: int = 0


def run(chunk: Chunk, state: list, xs: list, schedule: Schedule, *, length: int, reverse: bool) -> tuple[list, list]:
    """Runs ``chunk(state, xs, length=…) -> (state, ys)`` over all of time by a schedule; flat lists in and out."""
    if length <= schedule.chunk:
        return chunk(state, xs, length=length)
    sizes = [size for size in (schedule.chunk, *schedule.blocks) if size < length]
    return _blocks(chunk, state, xs, schedule.keep, sizes, length, reverse)


def _blocks(
    chunk: Chunk, state: list, xs: list, keep: str, sizes: list[int], length: int, reverse: bool
) -> tuple[list, list]:
    """As many blocks of the last size as fit, by a scan, then the rest in smaller ones."""
    *smaller, size = sizes
    count, rest = divmod(length, size)
    start = rest if reverse else 0
    main = [x[start : start + count * size].reshape(count, size, *x.shape[1:]) for x in xs]

    def block(state: list, xs: list, length: int = size) -> tuple[list, list]:
        if not smaller:
            return chunk(state, xs, length=length)
        return _blocks(chunk, state, xs, keep, smaller, length, reverse)

    state, ys = lax.scan(kept(block, keep, in_loop=True), state, main, length=count, reverse=reverse)
    ys = [y.reshape(count * size, *y.shape[2:]) for y in ys]
    if not rest:
        return state, ys
    left = [x[:rest] if reverse else x[count * size :] for x in xs]
    if smaller and rest > smaller[0]:
        sizes = [size for size in smaller if size < rest]
        state, more = _blocks(chunk, state, left, keep, sizes, rest, reverse)
    else:
        state, more = kept(functools.partial(chunk, length=rest), keep, in_loop=False)(state, left)
    return state, [lax.concatenate([b, a] if reverse else [a, b], 0) for a, b in zip(ys, more)]


def scan(body: Callable, state: PyTree, xs: PyTree, *, length: int, reverse: bool) -> tuple[PyTree, PyTree]:
    """`jax.lax.scan`, which reads a length that is a symbol of `jax.export` off its inputs only."""
    if symbolic.known(length):
        return lax.scan(body, state, xs, length=length, reverse=reverse)
    if jax.tree.leaves(xs):
        return lax.scan(body, state, xs, reverse=reverse)
    return lax.scan(lambda state, _: body(state, xs), state, jnp.arange(length), reverse=reverse)


def kept(f: Callable, keep: str, *, in_loop: bool) -> Callable:
    """``f`` with only what ``keep`` names stored for its gradient."""
    if keep == "all":
        return f
    policy = checkpoint_policies.save_only_these_names(STATES) if keep == "carries" else None
    return jax.checkpoint(f, policy=policy, prevent_cse=not in_loop)


def named(states: jax.Array) -> jax.Array:
    """Marked as states, for a checkpoint to keep; JAX keeps no complex number by its name, but its two parts."""
    if jnp.iscomplexobj(states):
        return lax.complex(checkpoint_name(states.real, STATES), checkpoint_name(states.imag, STATES))
    return checkpoint_name(states, STATES)


def blocks(length: int, chunk: int) -> tuple[int, ...]:
    """Nested blocks of about 8 chunks or smaller blocks each, without a remainder where the length allows.

    >>> blocks(16384, 32), blocks(10007, 32)
    ((256, 2048), (256, 2048))
    """
    sizes = []
    size = chunk
    while length > 2 * FAN * size:
        fans = [n for n in range(FAN // 2, 2 * FAN + 1) if length % (size * n) == 0]
        size *= min(fans, key=lambda n: abs(math.log(n / FAN)), default=FAN)
        sizes.append(size)
    return tuple(sizes)


def divisor(length: int, target: int) -> int:
    """A chunk near the target, within a factor of two, that divides the length; the target where none does.

    Without a remainder the inputs need not be copied, and only one chunk is compiled.

    >>> divisor(1000, 32), divisor(997, 32)
    (40, 32)
    """
    if length <= target:
        return length
    near = [k for k in range(-(-target // 2), 2 * target + 1) if length % k == 0]
    return min(near, key=lambda k: abs(math.log(k / target)), default=target)
