"""Equations that move features, done to their indices: which feature of which operand an output's feature is."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from seqjax.engines.equations.jaxprs import Equation
from seqjax.engines.pallas.roles import FEATURE, Roles

# A feature of an operand as one number, operand · OPERAND + feature; FILL for the value of a pad.
OPERAND, FILL = 2**40, -2


class Stretch(NamedTuple):
    """Features ``start … stop`` of an output come from an operand: in order, or one feature again and again.

    ``operand`` is None for the value of a pad.
    """

    start: int
    stop: int
    operand: int | None
    source: int
    repeated: bool


def contiguous(sources: np.ndarray) -> bool:
    """Whether every row counts up by one."""
    return bool((np.diff(sources, axis=1) == 1).all())


def runs_of(codes: np.ndarray) -> list[Stretch]:
    """The longest stretches that count up, or repeat one feature."""
    steps = np.diff(codes)
    runs, i = [], 0
    while i < len(codes):
        step = steps[i] if i < len(steps) and steps[i] in (0, 1) else 1
        changes = np.flatnonzero(steps[i:] != step)
        stop = i + 1 + (int(changes[0]) if len(changes) else len(steps) - i)
        operand, source = divmod(int(codes[i]), OPERAND)
        filled = codes[i] == FILL
        runs.append(Stretch(i, stop, None if filled else operand, 0 if filled else source, bool(step == 0)))
        i = stop
    return runs


def local(shape: Sequence[int], roles: Roles) -> tuple[int, ...]:
    """The shape of the features alone."""
    return tuple(s if role == FEATURE else 1 for s, role in zip(shape, roles))


def indices(shape: Sequence[int], roles: Roles) -> np.ndarray:
    """Every feature's own number, in that shape."""
    own = local(shape, roles)
    return np.arange(math.prod(own), dtype=np.int64).reshape(own)


def moved(e: Equation, arrays: list[np.ndarray], roles: Roles) -> list[np.ndarray]:
    """The equation, done to indices in place of features."""
    array, params = arrays[0], e.params
    match e.primitive.name:
        case "broadcast_in_dim":
            shape = [1] * len(params["shape"])
            for size, place in zip(array.shape, params["broadcast_dimensions"]):
                shape[place] = size
            return [np.broadcast_to(array.reshape(shape), local(params["shape"], roles))]
        case "reshape" | "squeeze":
            return [array.reshape(local(e.outvars[0].aval.shape, roles))]
        case "transpose":
            return [array.transpose(params["permutation"])]
        case "slice":
            strides = params["strides"] or (1,) * array.ndim
            ranges = zip(params["start_indices"], params["limit_indices"], strides, roles)
            return [array[tuple(slice(a, b, s) if r == FEATURE else slice(None) for a, b, s, r in ranges)]]
        case "split":
            return np.split(array, np.cumsum(params["sizes"])[:-1], params["axis"])
        case "concatenate":
            return [np.concatenate(arrays, params["dimension"])]
    low_high = [(low, high) for low, high, _ in params["padding_config"]]
    array = np.pad(array, [(max(a, 0), max(b, 0)) for a, b in low_high], constant_values=FILL)
    return [array[tuple(slice(max(-a, 0), s - max(-b, 0)) for (a, b), s in zip(low_high, array.shape))]]
