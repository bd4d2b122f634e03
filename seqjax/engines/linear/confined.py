"""Whether the equations of a cycle mix numbers of a state within blocks only, read off their axes.

Every axis of a value that depends on the state is made of factors (`block.Factors`): axes of the state, along which
entry i is made of the state's entries i alone, and free ones, whose entries may be made of anything in a block. Each
equation has to leave the state's axes as they are:

    x + y, x y, where(p, x, y), -x, casts        of the same axes
    transpose, reshape, broadcast, squeeze       move axes, cut and join free ones; what is new is free
    slice, split, concatenate, stack, tile       along free factors
    dot_general, reduce_sum, cumsum, rev, pad    along free axes

and the state behind the tick has the axes of that before it. Anything else is refused by the equation's name.
"""

import math
from collections.abc import Sequence

from seqjax.engines.equations import jaxprs
from seqjax.engines.equations.jaxprs import Equation, Var
from seqjax.engines.linear.block import Block, Factors, joined

Axes = tuple[Factors, ...]


class MixedError(Exception):
    """An equation that mixes more than the numbers of a block."""


def confined(
    equations: Sequence[Equation], state: Sequence[Var], after: Sequence[Var], block: Block
) -> dict[Var, Axes]:
    """The axes of all values that depend on the state.

    Args:
      equations: of the cycle, in order.
      state: its leaves before the tick.
      after: and behind it.
      block: where its blocks lie.

    Raises:
      MixedError: blocks are mixed with each other; says by which equation.
    """
    axes: dict[Var, Axes] = dict.fromkeys(state, block.factors())
    for e in equations:
        moving = [None if jaxprs.is_literal(v) else axes.get(v) for v in e.invars]
        if any(m is not None for m in moving):
            axes.update(zip(e.outvars, _made(e, moving)))
    for v in after:
        if axes.get(v) != block.factors():
            raise MixedError("a state that changes its axes")
    return axes


def size(factors: Factors) -> int:
    """Entries of an axis."""
    return math.prod(n for _, n in factors)


def free(factors: Factors) -> bool:
    """Whether an axis is one of numbers of a block only."""
    return all(label is None for label, _ in factors)


def _made(e: Equation, moving: list[Axes | None]) -> Sequence[Axes]:
    """The axes of an equation's results."""
    return RULES.get(e.primitive.name, _alike)(e, moving)


def _refuse(e: Equation) -> MixedError:
    return MixedError(f"{e.primitive.name} {e.outvars[0].aval.str_short()}")


def _alike(e: Equation, moving: list[Axes | None]) -> list[Axes]:
    """Of values that meet number by number; one entry is repeated along an axis of several."""
    shape = e.outvars[0].aval.shape
    repeated = lambda factors, n: factors if size(factors) == n else joined([(None, n)])
    found = {tuple(map(repeated, m, shape)) for m in moving if m is not None}
    if len(found) > 1:
        raise _refuse(e)
    return list(found)


def _broadcast(e: Equation, moving: list[Axes | None]) -> list[Axes]:
    shape, places = e.outvars[0].aval.shape, e.params["broadcast_dimensions"]
    (x,) = moving[:1]
    assert x is not None
    made = [joined([(None, n)]) for n in shape]
    for factors, place in zip(x, places):
        if size(factors) == shape[place]:
            made[place] = factors
    return [tuple(made)]


def _reshape(e: Equation, moving: list[Axes | None]) -> list[Axes]:
    """Factors in their order, cut where a new axis ends; only free ones can be."""
    (x,) = moving[:1]
    assert x is not None
    if e.params.get("dimensions") is not None and e.primitive.name == "reshape":
        raise _refuse(e)
    left = list(joined([factor for factors in x for factor in factors]))[::-1]
    made = []
    for n in e.outvars[0].aval.shape:
        own: list[tuple[int | None, int]] = []
        while n != 1:
            label, have = left.pop() if left else (None, 0)
            if have == n:
                own.append((label, have))
                break
            if 0 in (n, have):
                raise _refuse(e)
            if have > n:
                if label is not None or have % n:
                    raise _refuse(e)
                left.append((None, have // n))
                have = n
            if n % have:
                raise _refuse(e)
            own.append((label, have))
            n //= have
        made.append(joined(own))
    return [tuple(made)]


def _transpose(e: Equation, moving: list[Axes | None]) -> list[Axes]:
    (x,) = moving
    assert x is not None
    return [tuple(x[i] for i in e.params["permutation"])]


def cut(factors: Factors, start: int, limit: int, stride: int) -> Factors | None:
    """An axis of which some entries are taken; None where that is not a part of its free factors."""
    n, count = size(factors), len(range(start, limit, stride))
    if (start, count) == (0, n) or free(factors):
        return joined([(None, count)]) if free(factors) else factors
    (first, outer), (last, inner) = factors[0], factors[-1]
    if last is None and inner % stride == 0 and start < stride and count * stride == n:
        return joined([*factors[:-1], (None, inner // stride)])
    rest = n // outer
    if first is None and stride == 1 and start % rest == 0 and count % rest == 0:
        return joined([(None, count // rest), *factors[1:]])
    return None


def _slice(e: Equation, moving: list[Axes | None]) -> list[Axes]:
    (x,) = moving
    assert x is not None
    starts, limits = e.params["start_indices"], e.params["limit_indices"]
    made = []
    for each in zip(x, starts, limits, e.params["strides"] or (1,) * len(x)):
        part = cut(*each)
        if part is None:
            raise _refuse(e)
        made.append(part)
    return [tuple(made)]


def _split(e: Equation, moving: list[Axes | None]) -> list[Axes]:
    (x,) = moving
    assert x is not None
    axis, start, made = e.params["axis"], 0, []
    for n in e.params["sizes"]:
        part = cut(x[axis], start, start + n, 1)
        if part is None:
            raise _refuse(e)
        made.append((*x[:axis], part, *x[axis + 1 :]))
        start += n
    return made


def _concatenate(e: Equation, moving: list[Axes | None]) -> list[Axes]:
    axis, n = e.params["dimension"], e.outvars[0].aval.shape[e.params["dimension"]]
    some = [m for m in moving if m is not None]
    inner = {m[axis][1:] if m[axis] and m[axis][0][0] is None else m[axis] for m in some}
    outside = {(m[:axis], m[axis + 1 :]) for m in some}
    if len(inner) > 1 or len(outside) > 1:
        raise _refuse(e)
    (rest,), ((before, behind),) = inner, outside
    if not size(rest) or any(v.aval.shape[axis] % size(rest) for v in e.invars):
        raise _refuse(e)
    return [(*before, joined([(None, n // size(rest)), *rest]), *behind)]


def _stack(e: Equation, moving: list[Axes | None]) -> list[Axes]:
    axis = e.params["axis"]
    (known, *others) = [m for m in moving if m is not None]
    if any(other != known for other in others):
        raise _refuse(e)
    return [(*known[:axis], joined([(None, len(moving))]), *known[axis:])]


def _unstack(e: Equation, moving: list[Axes | None]) -> list[Axes]:
    (x,), axis = moving, e.params["axis"]
    assert x is not None
    if not free(x[axis]):
        raise _refuse(e)
    return [(*x[:axis], *x[axis + 1 :]) for _ in e.outvars]


def _tile(e: Equation, moving: list[Axes | None]) -> list[Axes]:
    (x,) = moving
    assert x is not None
    return [tuple(joined([(None, n), *factors]) for n, factors in zip(e.params["reps"], x))]


def _along(e: Equation, moving: list[Axes | None]) -> list[Axes]:
    """Of cumulative sums and reversals: as before, if they run along free axes."""
    x, axes = moving[0], e.params["dimensions"] if "dimensions" in e.params else [e.params["axis"]]
    assert x is not None
    if not all(free(x[axis]) for axis in axes):
        raise _refuse(e)
    return [x]


def _pad(e: Equation, moving: list[Axes | None]) -> list[Axes]:
    x, filling = moving
    padded = [any(config) for config in e.params["padding_config"]]
    if x is None or filling is not None or not all(free(x[i]) for i, some in enumerate(padded) if some):
        raise _refuse(e)
    shape = e.outvars[0].aval.shape
    return [tuple(joined([(None, n)]) if some else factors for factors, n, some in zip(x, shape, padded))]


def _reduce_sum(e: Equation, moving: list[Axes | None]) -> list[Axes]:
    (x,) = moving
    assert x is not None
    if not all(free(x[axis]) for axis in e.params["axes"]):
        raise _refuse(e)
    return [tuple(factors for i, factors in enumerate(x) if i not in e.params["axes"])]


def _dot_general(e: Equation, moving: list[Axes | None]) -> list[Axes]:
    contract, batch = e.params["dimension_numbers"]
    side = 0 if moving[0] is not None else 1
    x = moving[side]
    assert x is not None
    if not all(free(x[axis]) for axis in contract[side]):
        raise _refuse(e)
    made: list[Factors] = [x[axis] for axis in batch[side]]
    for place, v in enumerate(e.invars):
        for axis, n in enumerate(v.aval.shape):
            if axis not in (*contract[place], *batch[place]):
                made.append(x[axis] if place == side else joined([(None, n)]))
    return [tuple(made)]


RULES = {
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "cumsum": _along,
    "dot_general": _dot_general,
    "expand_dims": _reshape,
    "pad": _pad,
    "reduce_sum": _reduce_sum,
    "reshape": _reshape,
    "rev": _along,
    "slice": _slice,
    "split": _split,
    "squeeze": _reshape,
    "stack": _stack,
    "tile": _tile,
    "transpose": _transpose,
    "unstack": _unstack,
}
