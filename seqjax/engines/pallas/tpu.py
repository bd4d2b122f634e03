"""The split engine with its loops as kernels where a program is lowered for a TPU, and as plain scans elsewhere.

What it is lowered for decides, not the machine where it is traced: exported for a TPU from a CPU the loops are kernels,
run on the CPU they are those of `split`, run over all of time at once.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import lax

from seqjax.engines.base import Problem, UnsupportedError, Work
from seqjax.engines.pallas import runner, target
from seqjax.engines.pallas.mosaic import Kernel
from seqjax.engines.pallas.runner import KernelRunner
from seqjax.engines.split.engine import Split
from seqjax.engines.split.loop import Loop
from seqjax.engines.split.runner import FlatTick, Runner
from seqjax.engines.split.tangent import Time, run_loop

WHEN = "forwards", "forwards for a gradient", "backwards"
LABEL = "loops are kernels on a TPU and scans elsewhere; kernels are compiled and interpreted in tests, not timed"


def prepare(problem: Problem) -> "Mosaic":
    """The step, its loops as kernels for a TPU."""
    return Mosaic(problem)


class Mosaic(Split):
    """A step whose loops are kernels on a TPU; those that cannot be are run as `Split` runs them."""

    name = "pallas"

    def __init__(self, problem: Problem):
        """Finds the loops that can be kernels."""

        def runner_of(loop: Loop) -> Runner:
            runner = MosaicRunner()
            types = ([v.aval for v in part] for part in (loop.invariant, loop.state, loop.x))
            kernel = runner.kernel(loop.tick(), *types, length=problem.length, reverse=problem.reverse)
            return Runner() if kernel is None else runner

        super().__init__(problem, runner_of)
        self.why = (LABEL,)

    def work(self) -> Work:
        """As `Split.work`; of each loop, what its kernels are or why it has none."""
        work = super().work()
        loops = [placed.loop for part in self.parts for placed in part.loops]
        told = tuple(report._replace(way=self._told(loop)) for report, loop in zip(work.loops, loops))
        return work._replace(loops=told)

    def _told(self, loop: Loop) -> str:
        """What runs a loop; and what runs where its gradient is taken, forwards and backwards."""
        runner, time = MosaicRunner(), Time(self.length, self.reverse, False)
        once, state, x = ([v.aval for v in part] for part in (loop.invariant, loop.state, loop.x))
        kernel = runner.kernel(loop.tick(), once, state, x, length=self.length, reverse=self.reverse)
        if kernel is not None:

            def gradient(once: list, state: list, xs: list) -> Any:
                run = lambda once, state, xs: run_loop(loop, runner, once, state, xs, time)
                return jax.vjp(run, once, state, xs)[0]

            types = lambda avals, *ticks: [jax.ShapeDtypeStruct((*ticks, *a.shape), a.dtype) for a in avals]
            jax.eval_shape(gradient, types(once), types(state), types(x, self.length))
        return "; ".join(f"{when} {said}" for when, said in zip(WHEN, runner.told))


class MosaicRunner(KernelRunner):
    """Runs flat ticks as kernels on a TPU; ``told`` says of each what it is, or why it is none."""

    def __init__(self) -> None:
        """Nothing is told yet."""
        self.told: list[str] = []

    def kernel(
        self, tick: FlatTick, once: Sequence, state: Sequence, x: Sequence, *, totals: int = 0, **time: Any
    ) -> runner.Kernel | None:
        """The tick's, if it fits and can be lowered."""
        try:
            kernel = Kernel(tick, once, state, x, totals=totals, interpret=_interpreted(), **time)
        except UnsupportedError as reason:
            self.told.append(f"as split: {reason}")
            return None
        self.told.append(str(kernel))
        return kernel.run

    def either(self, kernel: Callable, scan: Callable, *values: list) -> Any:
        """What a program is lowered for decides."""
        return kernel(*values) if _interpreted() else lax.platform_dependent(*values, tpu=kernel, default=scan)


def _interpreted() -> bool:
    return target.value == "tpu interpreter"
