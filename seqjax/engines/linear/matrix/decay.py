"""Products of decays between two ticks of a chunk, by halving.

What a tick s wrote is read at a later tick t times ``D_ts = a_{s+1} ⊙ … ⊙ a_{t-1}``. Cut the chunk in two halves: for
s in the early one and t in the late one

    D_ts = (Π of the late half before t) ⊙ (Π of the early half behind s)

so that a sum over a decay a row, ``A_ts = Σ_m q_tm D_tsm k_sm``, is a product of matrices of q and k, each times its
own factor; within a half the same again. Every factor is a product of decays as they are: no quotient by a product that
may vanish, no logarithm, right to the last digits at a = 0 and for any sign.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from seqjax import spread

# Blocks so small are summed by products of numbers: a library's matrix product of 4 × 4 costs its call.
SMALL = 8


class Level(NamedTuple):
    """Neighbours of h ticks, ``[*B, C / 2h, h, m]``: the products before each of the late, behind each of the early."""

    before: jax.Array
    behind: jax.Array


class Decays(NamedTuple):
    """All products of a chunk's decays, from its halves.

    Attributes:
      within: D of blocks of a few ticks, ``[*B, C / b, b, b]``; where rows decay each by itself, of single ticks.
      levels: from these blocks up.
      before: of all ticks before each one, ``[*B, C, m]``.
      behind: of all ticks behind each one.
      total: of the chunk, ``[*B, m]``.
    """

    within: jax.Array
    levels: tuple[Level, ...]
    before: jax.Array
    behind: jax.Array
    total: jax.Array

    def between(self, q: jax.Array, k: jax.Array, precision: lax.PrecisionLike = None) -> jax.Array:
        """``A_ts = Σ_m q_tm D_tsm k_sm`` for s < t, else 0: ``[*B, C, m]`` twice to ``[*B, C, C]``."""
        if self.before.shape[-1] == 1 and q.shape[-1] > 1:
            one = jnp.ones((1,) * q.ndim, q.dtype)
            ticks = spread.einsum("...tm,...sm->...ts", q, k, precision=precision)
            return ticks * self.between(one, one, precision)
        found = self.within
        for level in self.levels:
            size = level.before.shape[-2]
            late = _blocks(q, size, 1) * level.before
            early = _blocks(k, size, 0) * level.behind
            if size < SMALL or q.shape[-1] == 1:
                new = (late[..., :, None, :] * early[..., None, :, :]).sum(-1)
            else:
                new = spread.einsum("...tm,...sm->...ts", late, early, precision=precision)
            first, second = found[..., 0::2, :, :], found[..., 1::2, :, :]
            new = jnp.broadcast_to(new, first.shape)
            upper = lax.concatenate([first, jnp.zeros_like(first)], first.ndim - 1)
            found = lax.concatenate([upper, lax.concatenate([new, second], first.ndim - 1)], first.ndim - 2)
        return found[..., 0, :, :]


def _blocks(x: jax.Array, size: int, which: int) -> jax.Array:
    """Every other block of so many ticks, ``[*B, C / 2h, h, m]``; a value that is the same at every tick stays so."""
    if x.shape[-2] == 1:
        return x[..., None, :, :]
    return x.reshape(*x.shape[:-2], x.shape[-2] // (2 * size), 2, size, x.shape[-1])[..., which, :, :]


def decays(a: jax.Array) -> Decays:
    """The products of decays ``[*B, C, m]``, C a power of two; m is 1 where all rows decay alike.

    >>> found = decays(jnp.array([[2.0], [3.0], [5.0], [7.0]]))
    >>> found.between(jnp.ones((4, 1)), jnp.ones((4, 1))).tolist()
    [[0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [3.0, 1.0, 0.0, 0.0], [15.0, 5.0, 1.0, 0.0]]
    """
    if a.shape[-1] == 1:
        within, before, behind, total = _numbers(a)
    else:
        before = behind = jnp.ones_like(a)[..., None, :]
        within, total = jnp.zeros_like(a[..., :1])[..., None], a[..., None, :]
    levels: list[Level] = []
    while total.shape[-3] > 1:
        early, late = total[..., 0::2, :, :], total[..., 1::2, :, :]
        levels.append(Level(before[..., 1::2, :, :], behind[..., 0::2, :, :]))
        before = _joined(before[..., 0::2, :, :], before[..., 1::2, :, :] * early)
        behind = _joined(behind[..., 0::2, :, :] * late, behind[..., 1::2, :, :])
        total = early * late
    return Decays(within, tuple(levels), before[..., 0, :, :], behind[..., 0, :, :], total[..., 0, 0, :])


def _numbers(a: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """D, and the products before and behind each tick and of all, in blocks of a few ticks; each in one pass."""
    size = min(SMALL, a.shape[-2])
    blocks = a.reshape(*a.shape[:-2], a.shape[-2] * a.shape[-1] // size, size)
    t, s = (lax.broadcasted_iota(jnp.int32, (size, size), axis) for axis in (0, 1))

    def product(of: Callable[[int], jax.Array], axes: int) -> jax.Array:
        total = jnp.ones((*blocks.shape[:-1], *(size,) * axes), a.dtype)
        for tick in range(size):
            own = blocks[..., tick].reshape(*blocks.shape[:-1], *(1,) * axes)
            total = total * jnp.where(of(tick), own, 1)
        return total

    within = jnp.where(s < t, product(lambda tick: (s < tick) & (tick < t), 2), 0)
    before, behind = product(lambda tick: tick < t[:, 0], 1), product(lambda tick: tick > t[:, 0], 1)
    total = product(lambda tick: jnp.asarray(True), 0)
    return within, before[..., None], behind[..., None], total[..., None, None]


def _joined(*blocks: jax.Array) -> jax.Array:
    return lax.concatenate(blocks, blocks[0].ndim - 2)


def padded(x: jax.Array, ticks: int, fill: float | bool) -> jax.Array:
    """``[*B, C, …]`` with ticks added behind."""
    return lax.pad(x, jnp.asarray(fill, x.dtype), [(0, 0, 0)] * (x.ndim - 2) + [(0, ticks, 0), (0, 0, 0)])


def rounded_up(length: int) -> int:
    """The next power of two."""
    return 1 << (length - 1).bit_length()
