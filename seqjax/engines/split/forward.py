"""Whether a forward pass is rather run tick by tick, the step as it stands, where nothing is differentiated.

What leaves a loop costs bytes: x̂ is written in front of it and read in it, what loops hand on is written and read
behind them. It saves reading weights at every tick, and sums over axes that are done for many ticks at once. An LSTM
with d = 16 inputs and h = 64 units moves x̂ and h, 5 B h numbers a tick, instead of W, 4 d h; a shift register whose
readout is a few numbers would hand on all of itself for nothing.
"""

from collections.abc import Sequence
from typing import Protocol

import jax

from seqjax import symbolic
from seqjax.engines import platforms
from seqjax.engines.equations import jaxprs
from seqjax.engines.equations.jaxprs import Equation, Var
from seqjax.engines.split.distribute import Program
from seqjax.engines.split.loop import Loop, bytes_of, loop_of
from seqjax.engines.split.runner import Runner

# Measured on two cores, float32, 512 ticks, the forward passes of 32 odd steps and 50 cells of 64 units at B 8, beside
# `jax.lax.scan`: with the two numbers of `platforms.CPU`, what another loop costs and a sum saves, in bytes a tick, the
# faster of both ways is taken but for some 5 % in a few rows.
# Where loops have no product of their own, weights of a first-level cache save less. A minGRU and a minLSTM forwards,
# in stages, times by ticks, B, d, h: 8, 16, 64 (8 and 12 KB of weights) 1.3, 1.3; 8, 32, 64 1.2, 1.3; 8, 64, 64 1.0,
# 1.2; 1, 64, 64 (32 and 48 KB) .7, .7; 32, 256, 256 (512 and 768 KB) .8, .9.
NEAR = 8
SUMS = {"reduce_sum", "reduce_max", "reduce_min", "argmax", "argmin", "cumsum", "sort", "reduce_and", "reduce_or"}


class Staged(Protocol):
    """A stage: its batched equations, and what of them is wanted later."""

    @property
    def batched(self) -> list[Equation]:
        """For many ticks at once."""

    @property
    def outputs(self) -> list[Var]:
        """That are read later."""


def ticks_instead(program: Program, stages: Sequence[Staged], loops: Sequence[Loop]) -> str:
    """The reason to run ticks as they stand; empty where the stages are at least as fast."""
    platform = platforms.planned()
    batched = [e for stage in stages for e in stage.batched]
    handed = bytes_of(v for loop in loops for v in loop.outputs)
    told = bytes_of(program.tick.y)
    moved = handed + bytes_of(v for stage in stages for v in stage.outputs) + platform.loop * (len(loops) - 1)
    products = [e for e in batched if jaxprs.is_product(e)]
    weights = bytes_of(v for e in products for v in e.invars if v in program.invariant)
    if weights <= platform.near and not any(jaxprs.is_dot(e) for loop in loops for e in loop.equations):
        weights //= NEAR
    saved = weights + platform.product * len(products) + sum(_saved(e, platform) for e in batched)
    if not symbolic.known(moved + saved + told):
        return ""
    if moved >= max(saved, told):
        return f"forwards tick by tick: {moved:,} bytes a tick would be moved to save {saved:,}"
    if any(map(_reshapes_sums, loops)):
        return "forwards tick by tick: sums with what comes per tick are reshaped"
    return ""


def _saved(equation: Equation, platform: platforms.Platform) -> int:
    """Bytes a tick that a sum, or the place of the largest, saves behind a loop: of few numbers less, on a CPU.

    The forward algorithm over 5 states, 64 chains, which adds up 1,280 bytes twice, 1.14 to 1.19 of the time by ticks.
    """
    if equation.primitive.name not in SUMS:
        return 0
    return min(platform.sum, bytes_of(equation.invars) // 2) if platform.ticks else platform.sum


def by_ticks(
    program: Program, once: dict[Var, jax.Array], state: list, xs: list, *, length: int, reverse: bool
) -> tuple[list, list]:
    """The step as it stands over time: the last state and the outputs, flat; what never changes is computed once."""
    tick, never = program.tick, set(program.once)
    moving = [k for k in range(len(state)) if k not in program.constant_state]
    before, after = ([leaves[k] for k in moving] for leaves in (tick.state, tick.state_out))
    equations = [e for e in tick.jaxpr.eqns if e not in never]
    loop = loop_of(tick.jaxpr, equations, before, after, tick.y, program.invariant)
    given = dict(zip(tick.x, xs))
    invariant, x = [once[v] for v in loop.invariant], [given[v] for v in loop.x]
    last, ys = Runner().run(loop.tick(), invariant, [state[k] for k in moving], x, length=length, reverse=reverse)
    new = dict(zip(moving, last))
    return [new.get(k, value) for k, value in enumerate(state)], ys


def _reshapes_sums(loop: Loop) -> bool:
    """Whether x̂ enters sums that are reshaped: a CPU then reads it number by number, in every pass over the sum.

    A layer-norm LSTM of 64 units was 1.7 times slower so than tick by tick.
    """
    timed = jaxprs.dependent(loop.equations, loop.x) - set(loop.x)
    return any(e.primitive.name == "reshape" and e.invars[0] in timed for e in loop.equations)
