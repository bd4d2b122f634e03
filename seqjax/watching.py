"""Layers as they run: what each was given and gave out, and zeros added there, whose gradients tell the way back."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqjax import checks, naming, records
from seqjax.base import Cell, Layer, PyTree
from seqjax.layers.recurrence import recurrent
from seqjax.transforms import perturbed, zero_perturbation
from seqjax.unroll import unroll


class Seen(NamedTuple):
    """A layer that has been run."""

    number: int
    layer: Layer
    params: PyTree
    state: PyTree
    xs: PyTree
    ticks: dict[str, Any]
    ys: PyTree


class Moved(NamedTuple):
    """Zeros that are added to a layer's outputs and, where it is a recurrence, to its first state and each tick's."""

    outputs: PyTree
    states: tuple[PyTree, PyTree] | None


class Watch:
    """Notes layers as they begin and end, for `seqjax.layers.inner.watched`; adds ``moved``, by a layer's number."""

    def __init__(self, moved: dict[int, Moved] | None = None):
        """Has seen none."""
        self.begun, self.ended, self.events, self.moved = list[Layer](), list[Seen](), list[tuple[str, int]](), moved

    def __call__(
        self, layer: Layer, params: PyTree, state: PyTree, xs: PyTree, ticks: dict[str, Any], apply: Callable
    ) -> tuple[PyTree, PyTree]:
        """What the layer makes of its inputs."""
        number = len(self.begun)
        self.begun.append(layer)
        self.events.append(("begin", number))
        moved = None if self.moved is None else self.moved[number]
        if moved is not None and moved.states is not None:
            start, epsilon = moved.states
            run = recurrence(layer)
            assert run is not None
            new, ys = unroll(perturbed(run[0]), params, _sum(state, start), (xs, epsilon), **ticks, reverse=run[1])
        else:
            new, ys = apply()
        self.ended.append(Seen(number, layer, params, state, xs, ticks, ys))
        self.events.append(("end", number))
        return new, ys if moved is None else _sum(ys, moved.outputs)

    def innermost(self, number: int) -> bool:
        """Whether a layer ran no other one."""
        return self.events[self.events.index(("begin", number)) + 1] == ("end", number)

    def name(self, number: int) -> str:
        """As in names of parameters; of a layer that holds others its maker's."""
        if not self.innermost(number):
            return self.begun[number].name
        label = naming.label(self.begun[number])
        before = sum(self.innermost(n) and naming.label(self.begun[n]) == label for n in range(number))
        return f"{label}_{before}" if before else label

    def behind(self, number: int) -> int | None:
        """Who reads what a layer gave out, or the layer around it that gives it on; None for the loss."""
        after = self.events[self.events.index(("end", number)) + 1 :]
        if not after or after[0][0] == "end":
            return after[0][1] if after else None
        begun = [event[1] for event in after]
        return next(n for n in begun if self.innermost(n))


def recurrence(layer: Layer) -> tuple[Cell, bool] | None:
    """The cell of a `seqjax.recurrent`, and whether it reads from the end."""
    call = records.call_of(layer)
    if call is None or call.maker is not recurrent:
        return None
    options = call.options().arguments
    return options["cell"], options["reverse"]


def zeros(seen: Seen) -> Moved:
    """Nothing to add, of the right shapes."""
    zero = lambda leaf: jnp.zeros_like(leaf) if is_float(leaf) else None
    run, states = recurrence(seen.layer), None
    if run is not None and any(map(is_float, jax.tree.leaves(seen.state))):
        length = checks.length("first_nonfinite", seen.xs)
        states = jax.tree.map(zero, seen.state), zero_perturbation(seen.state, length)
    return Moved(jax.tree.map(zero, seen.ys), states)


def _sum(tree: PyTree, moved: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf, move: leaf if move is None else leaf + move, tree, moved)


def is_float(leaf: Any) -> bool:
    """Whether a leaf has numbers that may be infinite."""
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
