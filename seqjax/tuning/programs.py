"""A candidate as a program, and whether what it computes is what the scan computes.

A training step is the value and the gradient, in params and state, of a loss in which every output counts, each by a
weight of its own:

    L = Σ w(t, b, i) y[t, b, i] + Σ w(b, i) s_T[b, i]        ½ ≤ w < 3/2

so that neither a sign nor an exchange of two outputs goes unseen. A forward pass returns its outputs themselves.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from seqjax.base import Array, PyTree
from seqjax.devices import divisible, mesh_of
from seqjax.engines.base import Problem
from seqjax.engines.equations import jaxprs
from seqjax.fixing import completed, differentiable
from seqjax.objectives import Batch
from seqjax.settings import Settings
from seqjax.unroll import unroll

# By the bytes of the narrowest float that a step computes with: how far results may differ, as a part of the largest
# number of an array. Engines add up in other orders, and a recurrence repeats what that rounds away.
TOLERANCE = {8: 1e-7, 4: 1e-3, 2: 0.1, 1: 0.3}
# An array whose numbers are all this much smaller than the largest one of all results is compared with that.
SMALL = 1e-3
# Of the weights, in 256ths, along an axis: odd, so that 256 neighbours differ.
STEPS = (97, 57, 29, 181)


class Given(NamedTuple):
    """The arrays of a problem; Nones where it has none."""

    params: PyTree
    state: PyTree
    xs: PyTree
    mask: Any
    lengths: Any
    reset: Any


WHOLE, FIRST, SECOND = PartitionSpec(), PartitionSpec("batch"), PartitionSpec(None, "batch")
PLACES = Given(WHOLE, FIRST, SECOND, SECOND, FIRST, SECOND)


def placed(given: Given, devices: int) -> Given:
    """The arrays where the devices read them, the first batch axis shared."""
    mesh = mesh_of(devices)
    if devices == 1 or mesh is None:
        return given
    return Given(*(jax.device_put(tree, NamedSharding(mesh, place)) for tree, place in zip(given, PLACES)))


def share(problem: Problem, devices: int) -> Problem:
    """What each of the devices has of a problem, as shapes.

    Raises:
      ValueError: there are fewer devices, or they cannot share the batch equally.
    """
    mesh_of(devices)
    if devices > 1:
        divisible(devices, 0, problem.state, Batch(problem.xs, (), problem.mask, problem.reset, problem.lengths))

    def cut(tree: PyTree, axis: int) -> PyTree:
        def leaf(x: Array) -> jax.ShapeDtypeStruct:
            shape = list(x.shape)
            if devices > 1:
                shape[axis] //= devices
            return jax.ShapeDtypeStruct(tuple(shape), x.dtype)

        return jax.tree.map(leaf, tree)

    flags = {name: cut(getattr(problem, name), axis) for name, axis in (("mask", 1), ("reset", 1), ("lengths", 0))}
    return problem._replace(state=cut(problem.state, 0), xs=cut(problem.xs, 1), **flags)


def program(problem: Problem, settings: Settings, *, gradient: bool) -> Any:
    """A jitted function of a problem's arrays: what is timed, and compared."""
    run = _training(problem, settings) if gradient else _forward(problem, settings)
    if settings.devices == 1:
        return jax.jit(lambda given: run(given, jnp.zeros((), jnp.int32)))
    outputs = (WHOLE, (WHOLE, FIRST)) if gradient else (FIRST, SECOND)

    def on_each(given: Given) -> PyTree:
        found = run(given, jax.lax.axis_index("batch"))
        if not gradient:
            return found
        sums, (of_params, of_state) = found
        sums, of_params = jax.lax.psum((sums, of_params), "batch")
        return sums, (of_params, of_state)

    shared = jax.shard_map(
        on_each,
        mesh=mesh_of(settings.devices),
        in_specs=(PLACES,),
        out_specs=outputs,
        check_vma=False,
    )
    return jax.jit(shared)


def _forward(problem: Problem, settings: Settings) -> Callable:
    options: dict[str, Any] = {"length": problem.length, "reverse": problem.reverse}
    how = settings._replace(of=None)

    def run(given: Given, place: Array) -> tuple[PyTree, PyTree]:
        ticks: dict[str, Any] = {"mask": given.mask, "lengths": given.lengths, "reset": given.reset}
        return unroll(problem.cell, given.params, given.state, given.xs, **ticks, **options, settings=how)

    return run


def _training(problem: Problem, settings: Settings) -> Callable:
    forward = _forward(problem, settings)

    def run(given: Given, place: Array) -> tuple[PyTree, tuple[PyTree, PyTree]]:
        moving = given.params, given.state

        def loss(leaves: PyTree) -> tuple[Array, list[Array]]:
            params, state = completed(leaves, moving)
            last, ys = forward(given._replace(params=params, state=state), place)
            stacked = [*jax.tree.leaves(ys), *(leaf[None] for leaf in jax.tree.leaves(last))]
            sums = [weighed(leaf, place) for leaf in stacked]
            wide = max((each.dtype for each in sums), key=lambda dtype: dtype.itemsize, default=jnp.float32)
            return sum((each.sum().astype(wide) for each in sums), jnp.zeros((), wide)), sums

        gradient, sums = jax.grad(loss, has_aux=True)(differentiable(moving))
        return sums, gradient

    return run


def weighed(leaf: Array, device: Array) -> Array:
    """Σ w y at every tick of outputs ``[T, *B, ...]``, of which every device has its share of the first batch axis."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
        leaf = jax.random.key_data(leaf)
    place = jnp.zeros(leaf.shape, jnp.uint32)
    for axis, size in enumerate(leaf.shape):
        start = device * size if axis == 1 else jnp.zeros((), jnp.int32)
        index = jax.lax.broadcasted_iota(jnp.uint32, leaf.shape, axis) + start.astype(jnp.uint32)
        place = place + index * jnp.uint32(STEPS[axis % len(STEPS)])
    if jnp.iscomplexobj(leaf):
        leaf = leaf.real + leaf.imag / 2
    wide = jnp.float64 if leaf.dtype == jnp.float64 else jnp.float32
    weight = (place & jnp.uint32(255)).astype(wide) / 256 + 0.5
    return (weight * leaf.astype(wide)).sum(range(1, leaf.ndim))


def numbers(tree: PyTree) -> list[np.ndarray]:
    """Results as numbers of the host."""
    return [_numbers(leaf) for leaf in jax.tree.leaves(tree)]


def difference(got: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """The largest difference of results, as a part of the largest number of its array; ∞ where one has no number."""
    pairs = [*zip(got, expected)]
    largest = [np.abs(b[np.isfinite(b)]).max(initial=0.0) for _, b in pairs]
    least, worst = SMALL * max(largest, default=0.0), 0.0
    for (a, b), most in zip(pairs, largest):
        if not np.array_equal(np.isfinite(a), np.isfinite(b)):
            return math.inf
        both = np.isfinite(b)
        apart = np.abs(a[both] - b[both]).max(initial=0.0)
        worst = max(worst, apart / max(most, least, np.finfo(float).tiny))
    return float(worst)


def widened(given: Given) -> Given:
    """Floats of fewer bits than 32 as such of 32: the sums of a scan's gradient in few bits lose most of them."""

    def wide(leaf: Any) -> Any:
        return leaf.astype(jnp.float32) if jaxprs.is_float(leaf) and leaf.dtype.itemsize < 4 else leaf

    return jax.tree.map(wide, given)


def tolerance(problem: Problem) -> float:
    """How far results may differ from the scan's, by the narrowest float that a tick computes with."""
    step, params, state, xs = problem.wrapped()
    leaves, tree = jax.tree.flatten((params, state, xs))
    moving = jax.tree.leaves(xs)
    tick = [*map(jax.typeof, leaves[: len(leaves) - len(moving)]), *jaxprs.element_types(moving)]
    closed = jaxprs.trace(lambda *leaves: jax.tree.leaves(step(*tree.unflatten(leaves))), *tick)
    avals = [*closed.in_avals, *closed.out_avals]

    def note(equation: Any) -> bool:
        avals.extend(v.aval for v in equation.outvars)
        return False

    for equation in jaxprs.inlined(closed).jaxpr.eqns:
        jaxprs.any_equation(equation, note)
    floats = [np.dtype(aval.dtype) for aval in avals if jaxprs.is_float(aval)]
    return TOLERANCE[min([dtype.itemsize // (1 + (dtype.kind == "c")) for dtype in floats], default=8)]


def _numbers(leaf: Any) -> np.ndarray:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf).astype(complex if jnp.iscomplexobj(leaf) else float)
