"""Which recurrences are linear in their state, read off their equations.

A recurrence is a cycle of equations from a leaf of the state back to it (`seqjax.engines.split.distribute`). What else
it reads, inputs, parameters, other recurrences, is given before it runs. The new state is linear in the old one if
every equation of the cycle is linear in what depends on the state:

    x + y, x - y, -x, casts to more bits         any of them depends on the state
    x y                                          one of them
    x / y                                        x alone
    where(p, x, y)                               not p, as nothing linear gives a condition
    max(x, y), in a cycle of sums                one of them: linear in the algebra of max and +

for then, by induction along the equations, each value is ``A h + b`` with A and b independent of h. Where all these
are elementwise and of the state's own shape, A is diagonal: each number of h goes its own way. Where others mix numbers
of h, products, sums and moves, but along one axis only, in blocks of at most 16, A is one of blocks: see `confined`.
Refused are larger blocks, two axes that are mixed, and cycles through leaves of several shapes.

A function with a derivative rule of its own, `jax.lax.stop_gradient` among them, breaks a cycle whatever it computes:
its derivative need not be that of what it computes. So does a cast to fewer bits, which rounds at every tick.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp

from seqjax import symbolic
from seqjax.engines.equations import jaxprs
from seqjax.engines.equations.jaxprs import Equation, Var
from seqjax.engines.linear.block import LARGEST, Block, places
from seqjax.engines.linear.confined import MixedError, confined

SAME = {"copy", "convert_element_type"}
ELEMENTWISE = SAME | {"add", "add_any", "div", "mul", "neg", "select_n", "sub"}
# Linear too, but one number of the result may come of several of the state.
MIXING = {
    "broadcast_in_dim", "concatenate", "cumsum", "dot_general", "expand_dims", "pad", "reduce_sum", "reshape", "rev",
    "slice", "split", "squeeze", "stack", "tile", "transpose", "unstack",
}  # fmt: skip


class Linear(NamedTuple):
    """A recurrence that is linear, number by number or in blocks.

    Attributes:
      algebra: ``"numbers"`` or ``"max-plus"``.
      cut: whether a selection may cut the state off.
      block: where numbers lie that are mixed; None where none are.
    """

    algebra: str
    cut: bool
    block: Block | None = None


class Broken(NamedTuple):
    """A recurrence that is not, or not in a way that is known, and why: ``tanh of what depends on the state``."""

    reason: str


class Mixed(NamedTuple):
    """A recurrence that is linear and mixes numbers of the state, and by which equation."""

    cut: bool
    equation: Equation


def linear_in(equations: Sequence[Equation], state: Sequence[Var], after: Sequence[Var]) -> Linear | Broken:
    """Whether a cycle of equations is linear in its state.

    Args:
      equations: of the cycle, in order.
      state: its leaves before the tick.
      after: its leaves behind it.
    """
    found = _in(False, equations, state)
    if not isinstance(found, Linear) and any(e.primitive.name == "max" for e in equations):
        tropical = _in(True, equations, state)
        found = tropical if isinstance(tropical, Linear) else found
    if isinstance(found, Broken) or (isinstance(found, Linear) and len(state) == 1):
        return found
    if isinstance(found, Linear) and found.algebra != "numbers":
        return Broken(_several(state))
    return _in_blocks(found, equations, state, after)


def _in_blocks(
    found: Linear | Mixed, equations: Sequence[Equation], state: Sequence[Var], after: Sequence[Var]
) -> Linear | Broken:
    """Whether a cycle mixes numbers of the state in small blocks only."""
    mixing = _said(found.equation) if isinstance(found, Mixed) else ""
    alike = len({(v.aval.shape, v.aval.dtype) for v in state}) == 1
    for block in places(len(state), state[0].aval.shape) if alike and _known(state) else ():
        try:
            confined(equations, state, after, block)
            return Linear("numbers", found.cut, block)
        except MixedError as error:
            mixing = str(error)
    if len(state) > 1:
        return Broken(_several(state))
    return Broken(f"{mixing} mixes numbers of the state, and not in blocks of at most {LARGEST} along one axis")


def _known(state: Sequence[Var]) -> bool:
    return all(symbolic.known(n) for v in state for n in v.aval.shape)


def _several(state: Sequence[Var]) -> str:
    return f"a cycle through {len(state)} leaves of the state, {', '.join(map(_type, state))}"


def _in(maximum: bool, equations: Sequence[Equation], state: Sequence[Var]) -> Linear | Mixed | Broken:
    """Whether a cycle is linear in one of the algebras."""
    depends = set(state)
    mixing: Equation | None = None
    cut = False
    for e in equations:
        moving = [i for i, v in enumerate(e.invars) if not jaxprs.is_literal(v) and v in depends]
        reason = _broken(e, moving, maximum) if moving else None
        if reason is not None:
            return Broken(reason)
        depends.update(e.outvars if moving else ())
        cut |= e.primitive.name == "select_n" and len(moving) == 1
        if moving and (e.primitive.name in MIXING or any(v.aval.shape != state[0].aval.shape for v in e.outvars)):
            mixing = mixing or e
    if mixing is not None:
        return Mixed(cut, mixing)
    return Linear("max-plus" if maximum else "numbers", cut)


def _broken(e: Equation, moving: list[int], maximum: bool) -> str | None:
    """Why an equation is not linear in what depends on the state."""
    name = e.primitive.name
    if not wider(e.invars[moving[0]].aval.dtype, e.outvars[0].aval.dtype) and name in (
        "convert_element_type",
        "dot_general",
    ):
        return f"{_said(e)}: a cast of what depends on the state to {e.outvars[0].aval.dtype}"
    if name == "select_n" and len(e.invars) != 3:
        return f"{_said(e)}: a choice among more than two"
    if maximum:
        if name in ("max", "add", "add_any") and len(moving) == 1:
            return None
        if (name == "sub" and moving == [0]) or name in SAME or name == "select_n":
            return None
        return f"{_said(e)} of what depends on the state, beside max"
    if name in ("mul", "dot_general") and len(moving) > 1:
        return f"{_said(e)}: a product of two values that depend on the state"
    if name == "div" and moving != [0]:
        return f"{_said(e)}: a division by what depends on the state"
    return None if name in ELEMENTWISE or name in MIXING else f"{_said(e)} of what depends on the state"


def wider(before: jnp.dtype, after: jnp.dtype) -> bool:
    """Whether numbers of one kind are cast to at least as many bits of the same kind."""
    kinds = [jnp.issubdtype(dtype, jnp.complexfloating) for dtype in (before, after)]
    return jnp.issubdtype(after, jnp.inexact) and kinds[0] == kinds[1] and after.itemsize >= before.itemsize


def _said(e: Equation) -> str:
    return f"{e.primitive.name} {e.outvars[0].aval.str_short()}"


def _type(v: Var) -> str:
    return v.aval.str_short()
