"""How an array is spread over devices, where its type says so: explicit meshes, and inside `jax.shard_map`.

In an explicit mesh, JAX's default, ``float32[4@data,8]`` is another type than ``float32[4,8]``, and a loop, or arrays
put side by side, want types that are the same. A state that was just made is whole on every device; here it is spread
as what it meets.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from seqjax.base import Array, PyTree

Aval = Any


def is_explicit(aval: Aval) -> bool:
    """Whether shardings are part of this type."""
    return AxisType.Explicit in getattr(aval.sharding.mesh, "axis_types", ())


def varying_axes(aval: Aval) -> tuple[str, ...]:
    """The mesh axes of an enclosing `jax.shard_map` over which a value differs."""
    kind = getattr(aval, "manual_axis_type", None)
    return tuple(kind.varying) if kind is not None else tuple(getattr(aval, "vma", ()))


def is_typed(tree: PyTree) -> bool:
    """Whether the type of any array says how it is spread."""
    avals = map(jax.typeof, jax.tree.leaves(tree))
    return any(is_explicit(aval) or varying_axes(aval) for aval in avals)


def alike(*arrays: Array) -> list[Array]:
    """All spread as the others besides, axis by axis; of one rank, where types say how they are spread."""
    if not is_typed(arrays):
        return list(arrays)
    avals = [jax.typeof(x) for x in arrays]
    return [functools.reduce(joined, [aval for aval in avals if aval.ndim == x.ndim], x) for x in arrays]


def sharding_of(x: Array) -> NamedSharding | None:
    """How it is spread; None where types do not say."""
    aval = jax.typeof(x)
    return aval.sharding if is_explicit(aval) else None


def joined(x: Array, aval: Aval) -> Array:
    """``x``, and spread as the type says besides, axis by axis, where it was whole."""
    varying = [axis for axis in varying_axes(aval) if axis not in varying_axes(jax.typeof(x))]
    x = lax.pcast(x, tuple(varying), to="varying") if varying else x
    return _over(x, aval.sharding.mesh, aval.sharding.spec) if is_explicit(aval) else x


def exactly(x: Array, aval: Aval, in_front: int = 0) -> Array:
    """``x``, spread as the type says, which has so many axes less in front."""
    if not is_explicit(aval):
        return x
    sharding = NamedSharding(aval.sharding.mesh, PartitionSpec(*[None] * in_front, *aval.sharding.spec))
    return x if jax.typeof(x).sharding == sharding else jax.sharding.reshard(x, sharding)


def along_batch(state: PyTree, xs: Array, axes: int) -> PyTree:
    """A state of ``[*B, ...]``, its batch, of so many axes, spread as that of the inputs ``[T, *B, ...]``."""
    aval = jax.typeof(xs)
    if not is_explicit(aval):
        return state
    spec = aval.sharding.spec[1 : 1 + axes]
    return jax.tree.map(lambda leaf: _over(leaf, aval.sharding.mesh, spec), state)


def _over(x: Array, mesh: Any, spec: Sequence) -> Array:
    own = (*jax.typeof(x).sharding.spec, *[None] * x.ndim)[: x.ndim]
    taken = {name for axis in own for name in _names(axis)}
    wanted = (*spec, *[None] * x.ndim)[: x.ndim]
    parts = lambda axis: math.prod(mesh.shape[name] for name in _names(axis))
    fits = lambda size, axis: size % parts(axis) == 0 and not taken & {*_names(axis)}
    both = [b if a is None and fits(size, b) else a for size, a, b in zip(x.shape, own, wanted)]
    return x if both == list(own) else jax.sharding.reshard(x, NamedSharding(mesh, PartitionSpec(*both)))


def _names(axis: Any) -> tuple:
    return axis if isinstance(axis, tuple) else () if axis is None else (axis,)


def whole(x: Array, axis: int) -> Array:
    """``x``, all of that axis on every device."""
    aval = jax.typeof(x)
    if not is_explicit(aval):
        return x
    spec = list(aval.sharding.spec)
    spec[axis] = None
    return exactly(x, aval.update(sharding=aval.sharding.update(spec=PartitionSpec(*spec))))


def of_product(x: Array, w: Array) -> NamedSharding | None:
    """How ``x W`` is spread where the axis that is summed is spread alike in both: as their other axes. Else None.

    Everywhere else JAX finds it by itself.
    """
    own, weights = jax.typeof(x), jax.typeof(w)
    if not (is_explicit(own) and is_explicit(weights)) or own.sharding.spec[-1] is None:
        return None
    *rows, summed = own.sharding.spec
    over, *columns = weights.sharding.spec
    return NamedSharding(own.sharding.mesh, PartitionSpec(*rows, *columns)) if over == summed else None


def einsum(equation: str, *arrays: Array, **options: Any) -> Array:
    """`jnp.einsum` of ``...`` in front, whose axes are spread alike in all first."""
    if is_typed(arrays):
        named = [len(letters.removeprefix("...")) for letters in equation.split("->")[0].split(",")]
        avals = [(jax.typeof(x), np.ndim(x) - count) for x, count in zip(arrays, named)]
        arrays = tuple(functools.reduce(_along_front, avals, x) for x in arrays)
    return jnp.einsum(equation, *arrays, **options)


def _along_front(x: Array, other: tuple[Aval, int]) -> Array:
    aval, axes = other
    return _over(x, aval.sharding.mesh, aval.sharding.spec[:axes]) if is_explicit(aval) else x


def of_rows(w: Array, at: Array) -> NamedSharding | None:
    """How the rows ``w[at]`` are spread: as what chooses them, then as a row; None where types do not say."""
    avals = jax.typeof(w), jax.typeof(at)
    explicit = [aval for aval in avals if is_explicit(aval)]
    if not explicit:
        return None
    chosen = (*avals[1].sharding.spec, *[None] * at.ndim)[: at.ndim]
    taken = {name for axis in chosen for name in _names(axis)}
    row = [None if taken & {*_names(axis)} else axis for axis in avals[0].sharding.spec[1:]]
    return NamedSharding(explicit[0].sharding.mesh, PartitionSpec(*chosen, *row))
