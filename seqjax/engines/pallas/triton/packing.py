"""Arrays as a kernel reads and writes them: ``[T, batch, heads, features]``, features in padded pieces.

Where pieces need no padding, and a tile divides the batch, packing is a reshape and costs nothing. Where programs share
the features of a head out, its shares lie in its place: ``[T, batch, heads · shares, features of a share]``.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from seqjax.engines.pallas.roles import FEATURE, HEAD, Roles
from seqjax.engines.pallas.triton.pieces import Piece


def order(roles: Roles) -> list[int]:
    """The axes in the kernel's order: batch, heads, features."""
    rank = {HEAD: 1, FEATURE: 2}
    keys = [(rank.get(role, 0), role if role not in rank else i, i) for i, role in enumerate(roles)]
    return [i for *_, i in sorted(keys, key=lambda key: (key[0], key[1]))]


def pack(
    array: jax.Array,
    roles: Roles | None,
    pieces: Sequence[Piece],
    rows: int,
    lead: int = 0,
    shares: int | None = None,
) -> jax.Array:
    """``[T…, *axes]`` as ``[T…, batch or 1, heads or 1, padded features]``; ``lead`` axes of time stay in front.

    The batch is filled up to a multiple of ``rows``. Bool travels as int8. ``shares`` share the features.
    """
    roles = () if roles is None else roles
    if array.dtype == jnp.bool_:
        array = array.astype(jnp.int8)
    array = array.transpose(*range(lead), *(lead + i for i in order(roles)))
    time = array.shape[:lead]
    sizes = array.shape[lead:]
    batch = sum(role not in (HEAD, FEATURE) for role in roles)
    heads = sizes[batch] if HEAD in roles else 1
    array = array.reshape(*time, math.prod(sizes[:batch]), heads, -1)
    if shares is not None:
        array = jnp.moveaxis(split_up(array, -1, pieces, shares), 0, -2)
        array = array.reshape(*array.shape[:-3], heads * shares, -1)
    elif any(p.width != p.padded for p in pieces):
        padded = [
            jnp.pad(
                lax.slice_in_dim(array, p.start, p.start + p.width, axis=-1),
                [(0, 0)] * (array.ndim - 1) + [(0, p.padded - p.width)],
            )
            for p in pieces
        ]
        array = jnp.concatenate(padded, -1)
    fill = -array.shape[lead] % rows if batch else 0
    return jnp.pad(array, [(0, 0)] * lead + [(0, fill), (0, 0), (0, 0)]) if fill else array


def unpack(
    array: jax.Array,
    shape: tuple[int, ...],
    dtype: jnp.dtype,
    roles: Roles,
    pieces: Sequence[Piece],
    lead: int = 0,
    shares: int | None = None,
) -> jax.Array:
    """The inverse of `pack`: an array ``[T…, *shape]`` with axes as in the step."""
    places = order(roles)
    sizes = [shape[i] for i in places]
    batch = sum(role not in (HEAD, FEATURE) for role in roles)
    if batch:
        array = lax.slice_in_dim(array, 0, math.prod(sizes[:batch]), axis=lead)
    if shares is not None:
        array = joined(array.reshape(*array.shape[:-2], -1, shares, array.shape[-1]), pieces)
    elif any(p.width != p.padded for p in pieces):
        starts = [sum(p.padded for p in pieces[:i]) for i in range(len(pieces))]
        real = [lax.slice_in_dim(array, s, s + p.width, axis=-1) for s, p in zip(starts, pieces)]
        array = jnp.concatenate(real, -1)
    array = array.reshape(*array.shape[:lead], *sizes)
    back = [places.index(i) for i in range(len(places))]
    array = array.transpose(*range(lead), *(lead + i for i in back))
    return array != 0 if dtype == jnp.bool_ else array.astype(dtype)


def pack_weight(
    weight: jax.Array,
    axes: tuple[Sequence[int], Sequence[int], Sequence[int]],
    head: bool,
    rows: Sequence[Piece],
    columns: Sequence[Piece],
    shares: int | None = None,
) -> jax.Array:
    """A weight as ``[heads or 1, groups, padded rows, padded columns]``; ``shares`` that share features are like heads.

    Args:
      weight: as the step has it.
      axes: its axes of groups (batch dimensions of the product), those summed over, the others.
      head: whether the first of the group axes is heads that run apart.
      rows: pieces of the value it multiplies.
      columns: pieces of the result.
      shares: among how many programs features are shared out. Each has all rows, and columns for its own features.
    """
    groups, depth, width = axes
    weight = weight.transpose(*groups, *depth, *width)
    sizes = [weight.shape[: len(groups)], weight.shape[len(groups) : len(groups) + len(depth)]]
    heads = sizes[0][0] if head else 1
    weight = weight.reshape(heads, math.prod(sizes[0]) // heads, math.prod(sizes[1]), -1)
    if shares is not None:
        above = []
        for p in rows:
            part = jnp.moveaxis(split_up(weight, 2, [p], shares), 0, 2)
            above.append(part.reshape(*part.shape[:2], -1, part.shape[-1]) if p.shared_out else part[:, :, 0])
        weight = jnp.moveaxis(split_up(jnp.concatenate(above, 2), 3, columns, shares), 0, 1)
        return weight.reshape(-1, *weight.shape[2:])
    for axis, pieces in ((2, rows), (3, columns)):
        if any(p.width != p.padded for p in pieces):
            padded = []
            for p in pieces:
                part = lax.slice_in_dim(weight, p.start, p.start + p.width, axis=axis)
                fill = [(0, 0)] * 4
                fill[axis] = (0, p.padded - p.width)
                padded.append(jnp.pad(part, fill))
            weight = jnp.concatenate(padded, axis)
    return weight


def split_up(array: jax.Array, axis: int, pieces: Sequence[Piece], shares: int) -> jax.Array:
    """An axis of features in padded shares, one for each program along a new first axis."""
    found = []
    for p in pieces:
        size = shares * p.width if p.shared_out else 1
        part = jnp.moveaxis(lax.slice_in_dim(array, p.start, p.start + size, axis=axis), axis, -1)
        if p.shared_out:
            part = part.reshape(*part.shape[:-1], shares, p.width)
            part = jnp.pad(part, [(0, 0)] * (part.ndim - 1) + [(0, p.padded - p.width)])
        else:
            part = jnp.broadcast_to(part[..., None, :], (*part.shape[:-1], shares, 1))
        found.append(jnp.moveaxis(part, (-2, -1), (0, axis % array.ndim + 1)))
    return jnp.concatenate(found, axis % array.ndim + 1)


def joined(array: jax.Array, pieces: Sequence[Piece]) -> jax.Array:
    """The inverse of `split_up`, of ``[..., shares, columns]``: of what is everybody's, the first program's."""
    found, at = [], 0
    for p in pieces:
        part = lax.slice_in_dim(array, at, at + p.width, axis=-1)
        found.append(part.reshape(*part.shape[:-2], -1) if p.shared_out else part[..., 0, :])
        at += p.padded
    return jnp.concatenate(found, -1)


def weight_has_heads(roles: Roles | None, batched: Sequence[int]) -> bool:
    """Whether a product's first group axis is that of heads that run apart."""
    return bool(batched) and roles is not None and roles[batched[0]] == HEAD
