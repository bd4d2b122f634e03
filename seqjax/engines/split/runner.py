"""How the ticks of a loop are run: forwards, and as the linear recurrence of its derivative. The seam for other ways.

A `Runner` here is `jax.lax.scan`. A kernel is another class with these two methods; `seqjax.engines.split.engine.Split`
is told which loop gets which.
"""

import functools
from collections.abc import Callable, Sequence

import jax

from seqjax.engines import memory

FlatTick = Callable[[list], list]
Tangents = tuple[list, list, list, list]


class Runner:
    """Runs flat ticks by `jax.lax.scan`.

    Attributes:
      all_at_once: whether all of time is best run in one piece.
    """

    all_at_once = False

    def run(
        self, tick: FlatTick, once: Sequence, state: Sequence, xs: Sequence, *, length: int, reverse: bool
    ) -> tuple[list, list]:
        """``after, y = tick(once, state, x)`` over time; returns the last state and the outputs ``[T, ...]``."""
        n = len(state)

        def body(s: list, x: list) -> tuple[list, list]:
            out = tick([*once, *s, *x])
            return out[:n], out[n:]

        return memory.scan(body, list(state), list(xs), length=length, reverse=reverse)

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
        """The derivative over time, ṡ and ẏ from the coefficients, ẇ, the ṡ before, ẋ and ε of every tick.

        Args:
          rebuild: the coefficients of one tick from its sources and what is fixed.
          linear: the flat linear map; its coefficients come first.
          fixed: what ``rebuild`` reads that never changes.
          sources: what it reads per tick, ``[T, ...]``.
          tangents: of weights, of the state, of inputs per tick, and ε per tick.
          length: T.
          reverse: whether time runs backwards.
        """
        weights, state, inputs, epsilon = tangents
        m = len(state)

        @functools.partial(jax.checkpoint, prevent_cse=False)
        def body(s: list, per_tick: tuple) -> tuple[list, list]:
            sources, x, e = per_tick
            out = linear([*rebuild(sources, list(fixed)), *weights, *s, *x, *e])
            return out[:m], out[m:]

        return memory.scan(body, state, (list(sources), inputs, epsilon), length=length, reverse=reverse)
