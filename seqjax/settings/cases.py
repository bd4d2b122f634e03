"""What a setting was measured for: a step, at its shapes and types, on these devices."""

import functools
import hashlib
import re
from typing import Any, NamedTuple

import jax
import numpy as np

from seqjax import records, symbolic
from seqjax.base import Cell, PyTree
from seqjax.engines.base import Problem
from seqjax.engines.equations import jaxprs

# What differs between two runs of the same program, or between two shapes of the same step.
PLACE = re.compile(r" at 0x[0-9a-f]+")
NUMBERS = re.compile(r"[\d.,]+")


class Case(NamedTuple):
    """A recurrence as it was measured.

    Attributes:
      step: the call of the cell's maker; of a cell without maker, a digest of its equations.
      params: dtype and shape of every leaf, such as ``float32[3,16]``.
      state: of every leaf.
      xs: of every leaf, time in front.
      length: T; of an export for any length, its symbol.
      flags: which it had, of mask, lengths, reset, reverse.
      gradient: whether value and gradient were measured, or the forward pass alone.
      device: kind and number of the devices that JAX sees.
    """

    step: str
    params: tuple[str, ...]
    state: tuple[str, ...]
    xs: tuple[str, ...]
    length: int | str
    flags: tuple[str, ...]
    gradient: bool
    device: str

    def share(self, devices: int) -> "Case":
        """What one of several devices sees, which share the first batch axis."""

        def cut(text: str, axis: int) -> str:
            dtype, _, sizes = text[:-1].partition("[")
            shape = sizes.split(",")
            if len(shape) > axis and shape[axis].isdigit():
                shape[axis] = str(int(shape[axis]) // devices)
            return f"{dtype}[{','.join(shape)}]"

        state, xs = ([cut(text, axis) for text in texts] for texts, axis in ((self.state, 0), (self.xs, 1)))
        return self._replace(state=tuple(state), xs=tuple(xs))

    def __str__(self) -> str:
        """In words."""
        flags = f", {', '.join(self.flags)}" if self.flags else ""
        return f"{self.step}, {self.length} ticks, {self.shapes()}{flags}, on {self.device}"

    def shapes(self) -> str:
        """Types of state and inputs."""
        return f"xs {_listed(self.xs)}, state {_listed(self.state)}"

    def unlike(self, other: "Case") -> str:
        """What is otherwise than in another case, by name and value."""
        said: dict[str, str] = {
            **{name: _listed(getattr(self, name)) for name in ("params", "state", "xs")},
            "flags": ", ".join(self.flags) or "none",
        }
        unlike = (name for name, mine, theirs in zip(self._fields, self, other) if mine != theirs)
        return "; ".join(f"{name} {said.get(name, getattr(self, name))}" for name in unlike)


def case_of(problem: Problem, *, gradient: bool) -> Case:
    """The case that a problem is, from what is known when it is traced."""
    flags = [name for name in ("mask", "lengths", "reset") if getattr(problem, name) is not None]
    return Case(
        step_of(problem.cell, problem.params, problem.state, problem.xs),
        _types(problem.params),
        _types(problem.state),
        _types(problem.xs),
        int(problem.length) if symbolic.known(problem.length) else str(problem.length),
        (*flags, *["reverse"] * problem.reverse),
        gradient,
        device(),
    )


def device() -> str:
    """Kind and number of the devices, such as ``"cpu ×2"``."""
    devices = jax.devices()
    return f"{devices[0].device_kind} ×{len(devices)}"


def step_of(cell: Cell, params: PyTree, state: PyTree, xs: PyTree) -> str:
    """The call that makes the cell; without a maker, a digest of the step's equations that shapes do not change."""
    call = records.call_of(cell)
    if call is not None:
        module = call.maker.__module__
        return ("" if module.startswith("seqjax.") else f"{module}.") + PLACE.sub("", repr(call))
    (leaves, tree) = jax.tree.flatten((params, state, xs))
    return f"a cell without maker, {_digest(cell, tree, tuple(_without_sharding(leaf) for leaf in leaves))}"


@functools.lru_cache(maxsize=256)
def _digest(cell: Cell, tree: Any, types: tuple) -> str:
    params, state, xs = tree.unflatten(types)
    x = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), xs)
    leaves, tick = jax.tree.flatten((params, state, x))
    closed = jaxprs.trace(lambda *leaves: jax.tree.leaves(cell.step(*tick.unflatten(leaves))), *leaves)
    text = NUMBERS.sub("", PLACE.sub("", str(jaxprs.inlined(closed).jaxpr)))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _without_sharding(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(np.shape(leaf), jax.typeof(leaf).dtype)


def _types(tree: PyTree) -> tuple[str, ...]:
    return tuple(f"{jax.typeof(leaf).dtype}[{','.join(map(str, np.shape(leaf)))}]" for leaf in jax.tree.leaves(tree))


def _listed(types: tuple[str, ...]) -> str:
    """Types, equal ones once.

    >>> _listed(("float32[2,3]", "float32[2,3]", "int32[]"))
    '2 × float32[2,3] int32[]'
    """
    counts = {each: types.count(each) for each in types}
    return " ".join(f"{n} × {text}" if n > 1 else text for text, n in counts.items()) or "none"
