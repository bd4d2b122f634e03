"""What an engine is: a function ``prepare(problem) -> Prepared``.

`Problem` is all that `seqjax.unroll` knows. `Prepared` is a recurrence that an engine has looked at and can run by any
`Schedule` of time: it says why it is as it is, what it would keep for a gradient, and what it does where.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol

import jax
import numpy as np

from seqjax import checks, masks, spread, symbolic
from seqjax.base import Array, Cell, PyTree, Step
from seqjax.engines.memory import Schedule


class UnsupportedError(Exception):
    """A recurrence that an engine cannot run; its message says why."""


class Problem(NamedTuple):
    """A recurrence to run.

    Attributes:
      cell: the recurrence.
      params: its parameters.
      state: before the first tick.
      xs: a tree of ``[T, *B, ...]``.
      length: T.
      mask: ``[T, *B]`` or None.
      lengths: ``[*B]`` in the place of a mask, or None.
      reset: ``[T, *B]`` or None.
      reverse: whether time runs backwards.
      time_axis: the axis of an enclosing `jax.shard_map` over whose devices time is split, each a stretch; or None.
    """

    cell: Cell
    params: PyTree
    state: PyTree
    xs: PyTree
    length: int
    mask: Array | None = None
    lengths: Array | None = None
    reset: Array | None = None
    reverse: bool = False
    time_axis: str | None = None

    def symbols(self) -> tuple[str, ...]:
        """The sizes that are no numbers but symbols of `jax.export`, as they print."""
        arrays = jax.tree.leaves((self.params, self.state, self.xs))
        sizes = [self.length, *(size for array in arrays for size in np.shape(array))]
        return tuple(dict.fromkeys(str(size) for size in sizes if not symbolic.known(size)))

    def settled(self) -> "Problem":
        """The same with the state spread over devices as the step returns it, where types say how arrays are spread.

        Raises:
          ValueError: time is spread over devices.
        """
        arrays = (self.params, self.state, self.xs, self.mask, self.lengths, self.reset)
        if self.time_axis is not None or not spread.is_typed(arrays):
            return self
        for leaf in jax.tree.leaves((self.xs, self.mask, self.reset)):
            if spread.is_explicit(jax.typeof(leaf)) and (axis := jax.typeof(leaf).sharding.spec[0]) is not None:
                raise ValueError(
                    f"unroll: expected all of time on every device, got it spread over {axis!r}. A recurrence that is "
                    "linear in its state runs so inside jax.shard_map, by time_axis=; reshard the inputs of others."
                )

        def tick(state: PyTree) -> PyTree:
            step, params, state, xs = self._replace(state=state).wrapped(settled=False)
            return step(params, state, jax.tree.map(lambda leaf: leaf[0], xs))[0]

        state, types = self.state, None
        while types != (types := jax.tree.map(jax.typeof, state)):
            after = jax.tree.map(jax.typeof, jax.eval_shape(tick, state))
            state = jax.tree.map(spread.joined, state, after)
        return self._replace(state=state)

    def wrapped(self, *, settled: bool = True) -> "Wrapped":
        """The same with masks and resets inside the step, which, once settled, returns states spread as its own."""
        mask = masks.from_lengths(self.lengths, self.length) if self.lengths is not None else self.mask
        fresh = None if self.reset is None else self.cell.initial_state(self.params, self.reset.shape[1:])
        pair = None
        if mask is not None:
            pair = masks.first_pair(mask, self.xs, self.state, reset=self.reset, fresh=fresh, reverse=self.reverse)
        obeying = masks.wrap(
            self.cell.step, masked=mask is not None, resets=self.reset is not None, reverse=self.reverse
        )

        def step(params: PyTree, state: PyTree, x: PyTree) -> tuple[PyTree, PyTree]:
            new, y = obeying(params, state, x)
            checks.same_state("unroll", state, new)
            if settled:
                new = jax.tree.map(lambda leaf, old: spread.exactly(leaf, jax.typeof(old)), new, state)
            return new, y

        return Wrapped(step, (self.params, pair, fresh), self.state, (self.xs, mask, self.reset))


class Wrapped(NamedTuple):
    """A step that obeys masks and resets, and its arguments, ``xs`` with a leading axis of time."""

    step: Step
    params: PyTree
    state: PyTree
    xs: PyTree


class Costs(NamedTuple):
    """Bytes a tick, by what is kept for the gradient.

    Attributes:
      state: a, the state at one tick.
      all: r, everything the backward pass reads.
      carries: what ``memory="carries"`` keeps.
      outputs: y, the outputs at one tick.
      gradients: g, bytes of the parameters' gradients, once.
      inputs: x, the inputs at one tick.
      at_work: what a chunk at work takes for each of its ticks, by what it keeps.
      tickwise: whether a chunk adds up the parameters' gradients a tick at a time, in sums of its own.
    """

    state: int
    all: int
    carries: int
    outputs: int = 0
    gradients: int = 0
    inputs: int = 0
    at_work: Mapping[str, int] = MappingProxyType({})
    tickwise: bool = False


class LoopReport(NamedTuple):
    """One loop: its place, what it carries and what it computes a tick.

    Attributes:
      stage: its place in the program.
      state: types of the state's leaves it carries.
      products: matrix products a tick, forwards; the backward loop has as many, unless two share a weight.
      equations: equations a tick.
      deferred: weights whose gradient is one product behind the backward loop.
      way: how it is run where not tick by tick, such as ``"linear, number by number"``.
    """

    stage: int
    state: tuple[str, ...]
    products: int
    equations: int
    deferred: tuple[str, ...]
    way: str = ""


class Work(NamedTuple):
    """What is done where; empty for an engine that runs the step as it stands.

    Attributes:
      once: work done once, as primitive names and counts.
      before: per stage, work lifted in front of the loop.
      loops: the loops.
      behind: work lifted behind the last loop.
    """

    once: Mapping[str, int] = MappingProxyType({})
    before: tuple[Mapping[str, int], ...] = ()
    loops: tuple[LoopReport, ...] = ()
    behind: Mapping[str, int] = MappingProxyType({})


class Prepared(Protocol):
    """A recurrence that an engine is ready to run."""

    @property
    def name(self) -> str:
        """Of the engine."""

    @property
    def why(self) -> tuple[str, ...]:
        """Reasons worth telling."""

    @property
    def forwards(self) -> str:
        """Why a pass of which no gradient is taken runs the step as it stands; empty where it does not."""

    @property
    def keeps(self) -> tuple[str, ...]:
        """What a chunk can be asked to keep: of ``"all"``, ``"carries"`` and ``"nothing"``."""

    def run(self, schedule: Schedule) -> tuple[PyTree, PyTree]:
        """The last state and the outputs."""

    def chunk(self, length: int, *, keep: str = "carries", forwards: bool = False) -> int:
        """Ticks of a chunk that it does best with, by what the chunk keeps, or where nothing is differentiated."""

    def tick_bytes(self) -> int:
        """All values of one tick together, or a guess from above; known without a trace of the gradient."""

    def costs(self) -> Costs:
        """What a gradient keeps."""

    def work(self) -> Work:
        """What is done where."""
