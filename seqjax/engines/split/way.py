"""The way a loop is run: tick by tick with a derivative made of its ticks, or as an engine of its own knows better."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from seqjax.engines.equations.jaxprs import Equation, Var
from seqjax.engines.split.distribute import Recurrence, Stage
from seqjax.engines.split.loop import Loop
from seqjax.engines.split.runner import Runner
from seqjax.engines.split.tangent import Time, run_loop


class Way(Protocol):
    """How one loop is run."""

    @property
    def said(self) -> str:
        """For `explain`; empty where it is a scan of ticks."""

    @property
    def as_ticks(self) -> bool:
        """Whether a forward pass is not better off by this way than by ticks."""

    def run(self, loop: Loop, invariant: Sequence, state: Sequence, xs: Sequence, time: Time) -> tuple[list, list]:
        """The last state and the outputs per tick."""


class Scanned(NamedTuple):
    """Ticks one after the other, with the derivative of `seqjax.engines.split.tangent`."""

    runner: Runner
    said: str = ""

    @property
    def as_ticks(self) -> bool:
        """Of a scan it is not."""
        return not self.runner.all_at_once

    def run(self, loop: Loop, invariant: Sequence, state: Sequence, xs: Sequence, time: Time) -> tuple[list, list]:
        """By the runner."""
        return run_loop(loop, self.runner, invariant, state, xs, time)


class Placed(NamedTuple):
    """A loop, the recurrence it comes from, and the way it is run."""

    loop: Loop
    recurrence: Recurrence
    way: Way


class Part(NamedTuple):
    """One stage, ready to run: its batched equations, what of them is wanted later, and its loops."""

    stage: Stage
    batched: list[Equation]
    outputs: list[Var]
    loops: list[Placed]
