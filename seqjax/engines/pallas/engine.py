"""Loops as kernels on a CUDA device: the recurrent part of a step, forwards and backwards, on one multiprocessor."""

from collections.abc import Sequence

import jax.numpy as jnp

from seqjax.engines.base import Problem, UnsupportedError
from seqjax.engines.equations import jaxprs
from seqjax.engines.pallas import runner, target
from seqjax.engines.pallas.runner import KernelRunner
from seqjax.engines.pallas.triton.alone import Kernel
from seqjax.engines.split.engine import Split
from seqjax.engines.split.loop import Loop
from seqjax.engines.split.runner import FlatTick, Runner


def prepare(problem: Problem) -> "Kernels":
    """A step whose loops run as kernels.

    Raises:
      ValueError: a loop does not qualify; says why.
    """
    if symbols := problem.symbols():
        raise refused(f"sizes that are no numbers, {', '.join(symbols)}")
    try:
        return Kernels(problem)
    except UnsupportedError as refusal:
        raise refused(refusal) from None


class Kernels(Split):
    """A step whose loops run as kernels; those without a number that has a gradient (counters, keys) as plain scans."""

    name = "pallas"

    def __init__(self, problem: Problem):
        """Lays every loop over the device.

        Raises:
          UnsupportedError: a loop does not qualify; says why.
        """
        why: list[str] = []

        def runner_of(loop: Loop) -> Runner:
            if not any(jaxprs.is_float(v.aval) for v in loop.state):
                return Runner()
            if any(jnp.issubdtype(v.aval.dtype, jnp.complexfloating) for v in loop.state):
                raise UnsupportedError("a state of complex numbers")
            types = ([v.aval for v in part] for part in (loop.invariant, loop.state, loop.x))
            why.append(f"experimental kernel: {kernel_of(loop.tick(), *types).plan}")
            return CudaRunner()

        super().__init__(problem, runner_of)
        self.why = tuple(why)


def refused(reason: UnsupportedError | str) -> ValueError:
    """The error for a step that does not qualify."""
    return ValueError(
        "unroll: expected a recurrence of pointwise work and products of the state with weights for "
        f"engine='pallas', got one that does not qualify: {reason}. Use engine='split', which runs any step."
    )


def kernel_of(tick: FlatTick, once: Sequence, state: Sequence, x: Sequence, *, totals: int = 0) -> Kernel:
    """The kernel of a tick at these types.

    Raises:
      ValueError: the tick does not qualify; says why.
    """
    try:
        return Kernel(tick, once, state, x, totals=totals)
    except UnsupportedError as refusal:
        raise refused(refusal) from None


class CudaRunner(KernelRunner):
    """Runs flat ticks as Triton kernels."""

    def kernel(
        self,
        tick: FlatTick,
        once: Sequence,
        state: Sequence,
        x: Sequence,
        *,
        totals: int = 0,
        length: int,
        reverse: bool,
    ) -> runner.Kernel:
        """The tick's, laid out where it is first run."""

        def run(once_values: list, state_values: list, xs: list) -> tuple[list, list, list]:
            kernel = kernel_of(tick, once, state, x, totals=totals)
            interpret = target.value == "interpreter"
            return kernel.run(once_values, state_values, xs, length=length, reverse=reverse, interpret=interpret)

        return run
