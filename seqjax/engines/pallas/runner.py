"""Loops by kernels: forwards a tick, backwards the transpose of the linear tick, each as one kernel over all of time.

The split engine does the rest as ever: what can leave the loop leaves it, and gradients of weights are one product
behind the backward kernel.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from seqjax.engines.equations import jaxprs, linear_call
from seqjax.engines.equations.jaxprs import Aval
from seqjax.engines.split.runner import FlatTick, Runner, Tangents

# A flat tick over time, ``(once, state, xs) -> (last, ys, totals)``.
Kernel = Callable[[list, list, list], tuple[list, list, list]]


class KernelRunner(Runner):
    """Runs flat ticks as kernels: which there are says `kernel`, and where they run `either`."""

    all_at_once = True

    def kernel(
        self,
        tick: FlatTick,
        once: Sequence[Aval],
        state: Sequence[Aval],
        x: Sequence[Aval],
        *,
        totals: int = 0,
        length: int,
        reverse: bool,
    ) -> Kernel | None:
        """A tick over time at these types; None where it must be a scan. The last ``totals`` outputs are summed."""
        raise NotImplementedError

    def either(self, kernel: Callable, scan: Callable, *values: list) -> Any:
        """The one or the other of two functions that compute the same."""
        return kernel(*values)

    def run(
        self, tick: FlatTick, once: Sequence, state: Sequence, xs: Sequence, *, length: int, reverse: bool
    ) -> tuple[list, list]:
        """As `Runner.run`; its own derivative, which only second derivatives ask for, is that of a plain scan."""
        time: dict[str, Any] = {"length": length, "reverse": reverse}
        kernel = self.kernel(tick, _types(once), _types(state), jaxprs.element_types(xs), **time)

        def scan(once: list, state: list, xs: list) -> tuple[list, list]:
            return Runner().run(tick, once, state, xs, **time)

        if kernel is None:
            return scan(list(once), list(state), list(xs))

        @jax.custom_jvp
        def call(once: list, state: list, xs: list) -> tuple[list, list]:
            return self.either(lambda *values: kernel(*values)[:2], scan, once, state, xs)

        call.defjvp(lambda primals, tangents: jax.jvp(scan, primals, tangents))
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
        back: dict[str, Any] = {"length": length, "reverse": not reverse}
        parts = _Parts(rebuild, linear, fixed, sources, tangents)
        kernel = self.kernel(
            parts.transposed,
            _types(fixed),
            _types(tangents[1]),
            [*jaxprs.element_types(sources), *parts.outputs],
            totals=parts.counts[0],
            **back,
        )
        if kernel is None:
            return Runner().linear(rebuild, linear, fixed, sources, tangents, **time)
        values = [value for part in tangents for value in part]
        types = _types(values)

        def plain(coefficients: list, values: list) -> list:
            fixed, sources = parts.coefficients(coefficients)
            last, ys = Runner().linear(rebuild, linear, fixed, sources, parts.moving(values), **time)
            return [*last, *ys]

        def forward(coefficients: list, values: list) -> list:
            fixed, sources = parts.coefficients(coefficients)
            weights, state, inputs, epsilon = parts.moving(values)
            last, ys = self.run(parts.tick, [*fixed, *weights], state, [*sources, *inputs, *epsilon], **time)
            return [*last, *ys]

        def transpose(coefficients: list, cotangents: list) -> list:
            def by_kernel(coefficients: list, cotangents: list) -> list:
                fixed, sources = parts.coefficients(coefficients)
                state, ys = cotangents[: parts.counts[1]], cotangents[parts.counts[1] :]
                first, per_tick, totals = kernel(fixed, state, [*sources, *ys])
                return [*totals, *first, *per_tick]

            def by_scan(coefficients: list, cotangents: list) -> list:
                at = map(jaxprs.zeros, types)
                f = lambda *moving: plain(coefficients, list(moving))
                return list(jax.linear_transpose(f, *at)(cotangents))

            return self.either(by_kernel, by_scan, coefficients, cotangents)

        out = linear_call.call(linear_call.Linear(forward, transpose, plain), [*fixed, *sources], values)
        return out[: parts.counts[1]], out[parts.counts[1] :]


class _Parts:
    """How the flat arguments of a linear recurrence fall into parts, and its tick both ways.

    Attributes:
      counts: how many tangents there are of weights, of the state, of inputs, and how many ε.
      types: of all of these at one tick.
      outputs: types of the tangents of outputs at one tick.
    """

    def __init__(
        self, rebuild: Callable, linear: FlatTick, fixed: Sequence, sources: Sequence, moving: Tangents
    ) -> None:
        self.rebuild, self.linear = rebuild, linear
        self.fixed, self.sources = len(fixed), len(sources)
        self.counts = [len(part) for part in moving]
        weights, state, inputs, epsilon = moving
        once, per_tick = [*_types(weights), *_types(state)], jaxprs.element_types([*inputs, *epsilon])
        read = [*_types(fixed), *once, *jaxprs.element_types(sources), *per_tick]
        self.types = [jax.ShapeDtypeStruct(t.shape, t.dtype) for t in [*once, *per_tick]]
        self.outputs = jaxprs.trace(lambda *values: self.tick(list(values)), *read).out_avals[self.counts[1] :]

    def coefficients(self, values: Sequence) -> tuple[list, list]:
        """What is fixed, and the sources."""
        return list(values[: self.fixed]), list(values[self.fixed :])

    def moving(self, values: Sequence) -> Tangents:
        """Tangents of weights, of the state, of inputs, and ε."""
        read = iter(values)
        weights, state, inputs, epsilon = ([next(read) for _ in range(count)] for count in self.counts)
        return weights, state, inputs, epsilon

    def tick(self, values: list) -> list:
        """One tick forwards, ``[*fixed, *weights, *state, *sources, *inputs, *ε]``."""
        w, m, _, _ = self.counts
        fixed, rest = values[: self.fixed], values[self.fixed :]
        moving, per_tick = rest[: w + m], rest[w + m :]
        coefficients = self.rebuild(per_tick[: self.sources], fixed)
        return self.linear([*coefficients, *moving, *per_tick[self.sources :]])

    def transposed(self, values: list) -> list:
        """One tick backwards: cotangents of the state; of inputs and ε; and of weights, to be summed over ticks."""
        w, m, _, _ = self.counts
        fixed, rest = values[: self.fixed], values[self.fixed :]
        state, sources, ys = rest[:m], rest[m : m + self.sources], rest[m + self.sources :]
        coefficients = self.rebuild(sources, fixed)
        back = jax.linear_transpose(lambda *moving: self.linear([*coefficients, *moving]), *self.types)
        found = back([*state, *ys])
        return [*found[w : w + m], *found[w + m :], *found[:w]]


def _types(values: Sequence) -> list[Aval]:
    return [jax.typeof(value) for value in values]
