"""Loops as kernels: the recurrent part of any step, forwards and backwards, each kept on one multiprocessor.

The split engine does the rest as ever: what can leave the loop leaves it, and gradients of weights are one product
behind the backward kernel. That kernel is the transpose of a linear tick, taken tick by tick.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from seqjax.engines.base import Problem, UnsupportedError
from seqjax.engines.equations import jaxprs, linear_call
from seqjax.engines.pallas import target
from seqjax.engines.pallas.triton.alone import Kernel
from seqjax.engines.split.engine import Split
from seqjax.engines.split.loop import Loop
from seqjax.engines.split.runner import FlatTick, Runner, Tangents


def unavailable() -> str | None:
    """Why kernels cannot run here; None if they can."""
    backend = target.value or jax.default_backend()
    if backend in ("gpu", "cuda", "interpreter"):
        return None
    return (
        f"expected a CUDA device for engine='pallas', got {backend}. Use engine='split', which computes the same; or "
        "run the kernels slowly as JAX operations: with seqjax.engines.pallas.target('interpreter')."
    )


def prepare(problem: Problem) -> "Kernels":
    """A step whose loops run as kernels.

    Raises:
      ValueError: there is no device for kernels, or a loop does not qualify; says why.
    """
    reason = unavailable()
    if reason is not None:
        raise ValueError(f"unroll: {reason}")
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
            return KernelRunner()

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


class KernelRunner(Runner):
    """Runs flat ticks as kernels."""

    all_at_once = True

    def run(
        self, tick: FlatTick, once: Sequence, state: Sequence, xs: Sequence, *, length: int, reverse: bool
    ) -> tuple[list, list]:
        """As `Runner.run`; its own derivative, which only second derivatives ask for, is that of a plain scan."""
        kernel = kernel_of(tick, _types(once), _types(state), jaxprs.element_types(xs))

        @jax.custom_jvp
        def call(once: list, state: list, xs: list) -> tuple[list, list]:
            last, ys, _ = kernel.run(once, state, xs, length=length, reverse=reverse, interpret=_interpreted())
            return last, ys

        def plain(once: list, state: list, xs: list) -> tuple[list, list]:
            return Runner().run(tick, once, state, xs, length=length, reverse=reverse)

        call.defjvp(lambda primals, tangents: jax.jvp(plain, primals, tangents))
        return call(list(once), list(state), list(xs))

    def linear(
        self,
        rebuild: Callable[[list, list], list],
        linear: FlatTick,
        fixed: Sequence,
        sources: Sequence,
        tangents: Tangents,
        *,
        length: int,
        reverse: bool,
    ) -> tuple[list, list]:
        """As `Runner.linear`; its transpose is the backward kernel, its derivative in the coefficients a plain scan."""
        time: dict[str, Any] = {"length": length, "reverse": reverse}
        parts = _Parts(fixed, sources, tangents)

        def plain(coefficients: list, values: list) -> list:
            fixed, sources = parts.coefficients(coefficients)
            last, ys = Runner().linear(rebuild, linear, fixed, sources, parts.moving(values), **time)
            return [*last, *ys]

        def forward(coefficients: list, values: list) -> list:
            fixed, sources = parts.coefficients(coefficients)
            weights, state, inputs, epsilon = parts.moving(values)
            k, m, s = len(fixed), len(state), len(sources)

            def tick(values: list) -> list:
                once, state, x = values[: -m - len(xs)], values[-m - len(xs) : -len(xs)], values[-len(xs) :]
                return linear([*rebuild(x[:s], once[:k]), *once[k:], *state, *x[s:]])

            xs = [*sources, *inputs, *epsilon]
            last, ys = self.run(tick, [*fixed, *weights], state, xs, **time)
            return [*last, *ys]

        def transpose(coefficients: list, cotangents: list) -> list:
            fixed, sources = parts.coefficients(coefficients)
            state, ys = cotangents[: parts.counts[1]], cotangents[parts.counts[1] :]
            xs = [*sources, *ys]
            tick = parts.transposed(rebuild, linear)
            kernel = kernel_of(tick, _types(fixed), _types(state), jaxprs.element_types(xs), totals=parts.counts[0])
            first, per_tick, totals = kernel.run(
                fixed, state, xs, length=length, reverse=not reverse, interpret=_interpreted()
            )
            return [*totals, *first, *per_tick]

        values = [value for part in tangents for value in part]
        out = linear_call.call(linear_call.Linear(forward, transpose, plain), [*fixed, *sources], values)
        return out[: parts.counts[1]], out[parts.counts[1] :]


class _Parts:
    """How the flat arguments of a linear recurrence fall into parts."""

    def __init__(self, fixed: Sequence, sources: Sequence, moving: Tangents):
        self.fixed, self.sources = len(fixed), len(sources)
        self.counts = [len(part) for part in moving]
        weights, state, inputs, epsilon = moving
        types = [*_types(weights), *_types(state), *jaxprs.element_types([*inputs, *epsilon])]
        self.types = [jax.ShapeDtypeStruct(t.shape, t.dtype) for t in types]

    def coefficients(self, values: Sequence) -> tuple[list, list]:
        """What is fixed, and the sources."""
        return list(values[: self.fixed]), list(values[self.fixed :])

    def moving(self, values: Sequence) -> Tangents:
        """Tangents of weights, of the state, of inputs, and ε."""
        read = iter(values)
        weights, state, inputs, epsilon = ([next(read) for _ in range(count)] for count in self.counts)
        return weights, state, inputs, epsilon

    def transposed(self, rebuild: Callable, linear: FlatTick) -> FlatTick:
        """One tick backwards: cotangents of the state; of inputs and ε; and of weights, to be summed over ticks."""
        w, m, _, _ = self.counts

        def tick(values: list) -> list:
            fixed, rest = values[: self.fixed], values[self.fixed :]
            state, sources, ys = rest[:m], rest[m : m + self.sources], rest[m + self.sources :]
            coefficients = rebuild(sources, fixed)
            back = jax.linear_transpose(lambda *moving: linear([*coefficients, *moving]), *self.types)
            found = back([*state, *ys])
            return [*found[w : w + m], *found[w + m :], *found[:w]]

        return tick


def _types(values: Sequence) -> list:
    return [jax.typeof(value) for value in values]


def _interpreted() -> bool:
    return target.value == "interpreter"
