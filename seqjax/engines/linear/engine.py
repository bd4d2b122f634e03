"""The linear engine: the split engine, with every recurrence that is linear in its state run as one.

`engine="linear"` asks that all of them are; `mixed` runs each in its own way.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax

from seqjax import symbolic
from seqjax.engines import platforms
from seqjax.engines.base import Costs, Problem, UnsupportedError
from seqjax.engines.equations import jaxprs
from seqjax.engines.linear.dense import TICKS, Dense
from seqjax.engines.linear.detect import Broken, linear_in
from seqjax.engines.linear.devices import Devices
from seqjax.engines.linear.matrix.reach import Found, matrix_state
from seqjax.engines.linear.matrix.way import Matrix
from seqjax.engines.linear.way import Diagonal
from seqjax.engines.memory import divisor
from seqjax.engines.split.distribute import Reach, Recurrence, TracedStep
from seqjax.engines.split.engine import Split
from seqjax.engines.split.loop import bytes_of
from seqjax.engines.split.readout import readout
from seqjax.engines.split.tangent import Time
from seqjax.engines.split.way import Placed, Scanned, Way
from seqjax.engines.split.whole import holds_all


def prepare(problem: Problem) -> "Linear":
    """Recurrences that are linear in their state, each as a whole and not tick by tick.

    Number by number or in blocks of at most 16, with a derivative that keeps factors and states; or matrices with outer
    products for updates, by chunks of ticks, which keep inputs and the states between them. Recurrences of whole
    numbers and keys are run as they stand.

    Raises:
      ValueError: a recurrence is not linear in its state, or mixes its numbers otherwise; says by which equation.
      UnsupportedError: the step has effects.
    """
    made = Linear(problem) if problem.time_axis is None else OverDevices(problem)
    if made.broken:
        raise ValueError(
            "unroll: expected recurrences that are linear in their state, number by number, in small blocks or as "
            "matrices of outer products, for engine='linear', got "
            f"{'; '.join(made.broken)}. Use engine='auto', which runs each recurrence in its own way."
        )
    return made


def mixed(problem: Problem) -> "Linear":
    """Each recurrence in its own way.

    Raises:
      UnsupportedError: the step has effects, or all its products lie inside of equations that stay whole.
    """
    # Of matrices whose chunks beat their ticks. Measured on two cores, float32, value and gradient, times faster than
    # `jax.lax.scan`, 4 heads of 16 × 16, T 256: 1.15, by channel .66, delta rule .72; of 32 × 32 3.7 and 2.3.
    made = Linear(problem, least=platforms.planned().least_matrix, blocks=False, or_ticks=True)
    some = any(placed.way.said for part in made.parts for placed in part.loops)
    if made.broken or made.left or not some:
        made.name = Split.name
    loops = [placed.loop for part in made.parts for placed in part.loops]
    if not some and (whole := holds_all(loops, [e for part in made.parts for e in part.stage.batched])):
        raise UnsupportedError(f"all products of a tick lie inside {whole}, which stays whole")
    if not some:
        made.why = (*made.left, *((made.forwards,) if made.forwards else ()))
    return made


class Linear(Split):
    """A step whose linear recurrences are run as such, the others tick by tick.

    Attributes:
      broken: of every recurrence of floats that is not linear, the equation that breaks it.
      left: of every one that is linear in blocks and left to ticks, why.
    """

    name = "linear"

    def __init__(self, problem: Problem, least: int = 0, blocks: bool = True, or_ticks: bool = False):
        """Looks at every recurrence.

        Args:
          problem: what to run.
          least: rows or columns of the smallest matrix that is run by chunks.
          blocks: whether what is linear in blocks is run so.
          or_ticks: as in `Split`.

        Raises:
          UnsupportedError: the step has effects.
        """
        broken: list[str] = []
        why: list[str] = []
        left: list[str] = []
        matrices: dict[int, Found] = {}
        apart: dict[int, str] = {}

        def reach(tick: TracedStep, recurrence: Recurrence) -> Reach | None:
            found = matrix_state(tick, recurrence) if symbolic.known(problem.length) else ""
            if isinstance(found, str):
                apart[recurrence.leaves[0]] = found
                return None if linear(tick, recurrence) else readout(tick, recurrence)
            if max(tick.state[recurrence.leaves[0]].aval.shape[axis] for axis in found.way.axes) < least:
                apart[recurrence.leaves[0]] = f"fewer than {least} rows and columns"
                return None
            matrices[recurrence.leaves[0]] = found
            return found.reach

        def linear(tick: TracedStep, recurrence: Recurrence) -> bool:
            state, after = ([leaves[k] for k in recurrence.leaves] for leaves in (tick.state, tick.state_out))
            return not isinstance(linear_in(recurrence.equations, state, after), Broken)

        def way_of(tick: TracedStep, recurrence: Recurrence) -> Way | None:
            state = [tick.state[k] for k in recurrence.leaves]
            if not any(jaxprs.is_float(v.aval) for v in state):
                return None
            matrix = matrices.get(recurrence.leaves[0])
            if matrix is not None and set(matrix.reach.readers) <= set(recurrence.equations):
                return matrix.way
            found = linear_in(recurrence.equations, state, [tick.state_out[k] for k in recurrence.leaves])
            if isinstance(found, Broken):
                broken.append(found.reason)
                return None
            if found.block is not None:
                way = Dense(found)
                if not blocks:
                    left.append(f"{state[0].aval.str_short()} tick by tick, though {way.said}")
                return way if blocks else None
            # Of a state of two axes one is the batch's as a rule.
            if state[0].aval.ndim > 2 and (reason := apart.get(recurrence.leaves[0])):
                why.append(f"{state[0].aval.str_short()} number by number, not by chunks: {reason}")
            return Diagonal(found)

        super().__init__(problem, way_of=way_of, reach=reach, or_ticks=or_ticks)
        self.broken = tuple(broken)
        self.left = tuple(left)
        self.why = (*(f"not linear: {reason}" for reason in broken), *left, *why, *self.why)

    def chunk(self, length: int, *, keep: str = "carries", forwards: bool = False) -> int:
        """A chunk of a matrix state, or of blocks, where there are any; all of time where chunks serve nothing."""
        loops = [placed for part in self.parts for placed in part.loops]
        if keep == "all" and not forwards and not self.late and self._whole(loops):
            return length
        ticks = [way.ticks(loop.state[0]) for loop, _, way in loops if isinstance(way, Matrix)]
        if not symbolic.known(length):
            return super().chunk(length, keep=keep, forwards=forwards)
        if any(isinstance(way, Dense) for _, _, way in loops):
            return divisor(length, max([TICKS, *ticks]))
        return min(length, max(ticks)) if ticks else super().chunk(length, keep=keep, forwards=forwards)

    def _whole(self, loops: Sequence[Placed]) -> bool:
        """Whether a gradient that keeps everything is taken of all of time at once.

        Every loop is run number by number, and chunks would be copies. A training step by chunks and whole, shares of a
        scan's time and bytes, T, B, units: h' = a h + b 1,024, 8, 256 1.11, .60 and 1.0, .3; the same with a = σ(x)
        .91, .30 and 1.0, .4; RG-LRU 512, 8, 64 .61, .29 and 1.0, .7, 1,024, 32, 128 .76, .70 and 1.0, .7. Not where
        that takes more than a scan: where a loop hands on more than is told (LRU 4,096, 8, 64 .45, .46 and 1.0, 1.5; a
        selective state space 1,024, 8, 64 .69, .98 and 1.0, 2.5), and where a product is cut into gates, whose
        cotangents are put together twice (minGRU 512, 8, 64 .54, .32 and 1.0, .9, but 1,024, 4, 32 1.0, 1.3).
        """
        if not all(isinstance(way, Diagonal) for _, _, way in loops):
            return False
        equations = list(self.order)
        products = [v for e in equations if jaxprs.is_matrix_product(e) for v in e.outvars]
        reached = jaxprs.dependent(equations, products)
        cut = any(e.primitive.name in ("slice", "split") and e.invars[0] in reached for e in equations)
        handed = bytes_of(v for loop, _, _ in loops for v in loop.outputs)
        return not cut and handed <= bytes_of(self.program.tick.y)

    def costs(self) -> Costs:
        """The split engine's, and a state of every matrix each of its chunks, which that engine's few ticks lack."""
        costs = super().costs()
        loops = [placed for part in self.parts for placed in part.loops]
        if all(isinstance(way, Scanned) for _, _, way in loops):
            return costs
        borders = sum(
            math.ceil(jaxprs.nbytes(loop.state[0].aval) / way.ticks(loop.state[0]))
            for loop, _, way in loops
            if isinstance(way, Matrix)
        )
        everything = costs.all + borders
        # A recurrence number by number stacks what it reads and hands on, nothing where that is all of time's, and, run
        # again, what it keeps. What others stack, matrices run number by number among them, is not known, and about a
        # multiple of what they keep.
        if all(isinstance(way, Diagonal) and loop.state[0].aval.ndim < 3 for loop, _, way in loops):
            handed = bytes_of(v for loop, _, _ in loops for v in loop.outputs)
            read = bytes_of(v for loop, _, _ in loops for v in loop.x)
            stacked, again = 0 if self._whole(loops) else read + handed, handed + everything
        else:
            stacked = again = everything * max([2, *(way.at_work for _, _, way in loops if isinstance(way, Matrix))])
        work = {"all": stacked, "carries": again, "nothing": again + costs.inputs + 2 * costs.outputs}
        return costs._replace(all=everything, carries=costs.carries + borders, at_work=work)


class OverDevices(Linear):
    """The same with time split over the devices of a mesh axis, in one chunk each."""

    keeps = ("all",)

    def __init__(self, problem: Problem):
        """Looks at every recurrence.

        Raises:
          ValueError: a recurrence of something else than floats, lengths, or no such axis.
          UnsupportedError: the step has effects.
        """
        if problem.lengths is not None:
            raise ValueError(
                "unroll: expected a mask of this device's ticks for time_axis, got lengths, which count all of time. "
                "Make the mask with seqjax.masks.from_lengths and split it like xs."
            )
        assert problem.time_axis is not None
        self.devices = Devices.along(problem.time_axis, reverse=problem.reverse)
        self.start = jax.tree.leaves(problem.state)
        super().__init__(problem._replace(state=jax.tree.map(self.devices.varied, problem.state)))
        others = [placed.loop for part in self.parts for placed in part.loops if isinstance(placed.way, Scanned)]
        if others and not self.broken:
            said = ", ".join(v.aval.str_short() for loop in others for v in loop.state)
            raise ValueError(
                "unroll: expected recurrences of floats that are linear in their state for time_axis, got a loop over "
                f"{said}. Run this cell on one device, or split the batch over devices."
            )

    def chunk(self, length: int, *, keep: str = "carries", forwards: bool = False) -> int:
        """All of the stretch, as the devices exchange a loop's states once."""
        return length

    def loop(self, placed: Placed, invariant: Sequence, state: Sequence, xs: Sequence, time: Time) -> tuple[list, list]:
        """One loop from the state that the devices before hand on."""
        way: Any = placed.way
        summary = way.summary(placed.loop, invariant, state, xs, time)
        first, last = self.devices.states(summary, [self.start[k] for k in placed.recurrence.leaves])
        _, ys = way.run(placed.loop, invariant, first, xs, time)
        return last, ys

    def delay(self, first: jax.Array, after: jax.Array, time: Time) -> tuple[jax.Array, jax.Array]:
        """The first value comes from the device before."""
        own, last = self.devices.delayed(first, after[0] if time.reverse else after[-1])
        return last, super().delay(own, after, time)[1]
