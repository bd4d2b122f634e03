"""Where each value's features are cut into pieces, so that a kernel never has to cut one.

Triton knows no slices, and no array whose sizes are not powers of two. So the features of a value, flat, are kept as
pieces: wherever an equation cuts, joins or moves features, the operands were in those pieces all along. Then a split or
a concatenation is a change of names, and a product with a value that is split later is a product with each part of its
weight. What is left of any width is cut into powers of two; a last piece under 16 is padded.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from seqjax.engines.base import UnsupportedError
from seqjax.engines.equations import jaxprs
from seqjax.engines.equations.jaxprs import Equation, Var
from seqjax.engines.pallas.normal_form import Canonical
from seqjax.engines.pallas.roles import FEATURE, MOVING, POINTWISE, REDUCING, Axes, Roles
from seqjax.engines.pallas.triton.moves import OPERAND, Stretch, contiguous, indices, local, moved, runs_of

NARROWEST, WIDEST = 16, 128  # the least side of a tile that tensor cores multiply; the widest kept in one piece
MOST_PIECES = 64


class Piece(NamedTuple):
    """Features ``start … start + width`` of a value, kept in an array of ``padded`` columns.

    Where features are shared out, ``start`` is where all shares begin, and the rest is one program's; a stretch of one
    feature is not shared out but everybody's.
    """

    start: int
    width: int
    padded: int

    @property
    def shared_out(self) -> bool:
        """Whether this is a share, where shares there are."""
        return self.padded > 1


class Group(NamedTuple):
    """One of several products side by side: the value's features from ``source`` times a weight, to ``target``."""

    source: int
    target: int
    depth: int
    width: int


def features(shape: Sequence[int], roles: Roles | None) -> int:
    """How many features a value has, flat; one for a value that is the same number everywhere."""
    return 1 if roles is None else math.prod(s for s, role in zip(shape, roles) if role == FEATURE)


class Cuts:
    """The pieces of every value of a tick.

    Attributes:
      shares: among how many programs features are shared out; None where one program has them all.
      pieces: of each value, or of a program's share of it.
    """

    def __init__(self, tick: Canonical, axes: Axes):
        """Gathers what equations ask of their operands until nothing changes."""
        self.tick, self.axes = tick, axes
        self.sizes = {v: features(v.aval.shape, r) for v, r in axes.roles.items()}
        self._cuts: dict[Var, set[int]] = {v: set() for v in axes.roles}
        self._links: list[tuple[Var, int, Var, int, int]] = []
        for e in tick.equations:
            self._gather(e)
        for before, after in zip(tick.state, tick.results):
            if not jaxprs.is_literal(after) and axes.roles[after] is not None:
                self._link(before, 0, after, 0, self.sizes[before])
        while sum(self._carry(*link) for link in self._links):
            pass
        self.shares: int | None = None
        self.pieces: dict[Var, list[Piece]] = {}

    def cut(self, shares: int | None = None) -> None:
        """Makes the pieces: those of one program out of so many that share the features.

        Raises:
          UnsupportedError: too many pieces, or features that cannot be shared out equally.
        """
        self.shares = shares
        self.pieces = {v: self._pieces(v) for v in self.axes.roles}

    def stretches(self, v: Var) -> list[tuple[int, int]]:
        """Where equations cut a value: first and last border of each stretch that stays whole."""
        return list(itertools.pairwise(sorted({0, self.sizes[v], *self._cuts[v]})))

    def _gather(self, e: Equation) -> None:
        name = e.primitive.name
        (out, *_) = e.outvars
        if name in POINTWISE:
            for v in e.invars:
                if self._has_features(v):
                    self._gather_runs(out, [v], self.spread(v, out))
        elif name in MOVING:
            for v, runs in zip(e.outvars, self.moves(e)):
                self._gather_runs(v, e.invars, runs)
        elif name in REDUCING:
            sources = self.reduced(e)
            if sources.shape[1] > 1 and contiguous(sources):
                self._cuts[e.invars[0]].update(int(i) for i in sources[:, 0])
                self._cuts[out].update(range(1, self.sizes[out]))
            else:
                for column in sources.T:
                    self._gather_runs(out, e.invars, runs_of(column))
        else:
            for group in self.groups(e):
                value = self.value_of(e)
                self._cuts[value].update((group.source, group.source + group.depth))
                self._cuts[out].update((group.target, group.target + group.width))

    def _has_features(self, v: Var) -> bool:
        return not jaxprs.is_literal(v) and self.axes.roles.get(v) is not None

    def _gather_runs(self, out: Var, operands: Sequence[Var], runs: Sequence[Stretch]) -> None:
        for run in runs:
            self._cuts[out].update((run.start, run.stop))
            if run.operand is None or not self._has_features(operands[run.operand]):
                continue
            source, length = operands[run.operand], run.stop - run.start
            if run.repeated:
                self._cuts[source].update((run.source, run.source + 1))
            else:
                self._link(out, run.start, source, run.source, length)

    def _link(self, a: Var, a_start: int, b: Var, b_start: int, length: int) -> None:
        self._links.append((a, a_start, b, b_start, length))
        self._cuts[a].update((a_start, a_start + length))
        self._cuts[b].update((b_start, b_start + length))

    def _carry(self, a: Var, a_start: int, b: Var, b_start: int, length: int) -> bool:
        """Both get the cuts of either; whether that was news."""
        within = {c - a_start for c in self._cuts[a] if a_start <= c <= a_start + length}
        within |= {c - b_start for c in self._cuts[b] if b_start <= c <= b_start + length}
        before = len(self._cuts[a]) + len(self._cuts[b])
        self._cuts[a].update(c + a_start for c in within)
        self._cuts[b].update(c + b_start for c in within)
        return len(self._cuts[a]) + len(self._cuts[b]) > before

    def _pieces(self, v: Var) -> list[Piece]:
        if self.shares is None:
            pieces = [p for a, b in self.stretches(v) for p in powers_of_two(a, b)]
        else:
            pieces = [share(a, b, self.shares) for a, b in self.stretches(v)]
        if len(pieces) > MOST_PIECES:
            raise UnsupportedError(f"{v.aval.str_short()} would be cut into {len(pieces)} pieces")
        return pieces

    def together(self, pieces: Sequence[Piece]) -> list[list[Piece]]:
        """Each piece as a product reads it, counted from its first feature: the shares of all programs side by side."""
        found, at = [], 0
        for p in pieces:
            if self.shares is None:
                found.append([p._replace(start=p.start - pieces[0].start)])
            else:
                chunks = chunks_of(p.padded, self.shares) if p.shared_out else [Piece(0, 1, 1)]
                found.append([q._replace(start=at + q.start) for q in chunks])
                at += sum(q.padded for q in chunks)
        return found

    def padded(self, v: Var) -> int:
        """Columns of all pieces together."""
        return sum(p.padded for p in self.pieces[v])

    def moves(self, e: Equation) -> list[list[Stretch]]:
        """For every output of an equation that only moves features, where they come from."""
        roles = self.axes.roles[e.outvars[0]]
        if roles is None:
            return [[Stretch(0, 1, 0, 0, False)]]
        arrays = []
        for k, v in enumerate(e.invars):
            own = None if jaxprs.is_literal(v) else self.axes.roles.get(v)
            if own is None:
                arrays.append(np.full(local(v.aval.shape, roles[: v.aval.ndim]), k * OPERAND))
            else:
                arrays.append(indices(v.aval.shape, own) + k * OPERAND)
        return [runs_of(out.reshape(-1)) for out in moved(e, arrays, roles)]

    def spread(self, v: Var, out: Var) -> list[Stretch]:
        """Where a pointwise result's features come from in an operand that may have size one along some axes."""
        own, roles = self.axes.roles[v], self.axes.roles[out]
        if own is None or roles is None or not v.aval.shape:
            return [Stretch(0, self.sizes[out], 0, 0, True)]
        return runs_of(np.broadcast_to(indices(v.aval.shape, own), local(out.aval.shape, roles)).reshape(-1))

    def reduced(self, e: Equation) -> np.ndarray:
        """``[outputs, summands]``: the features that a reduction runs over, by feature of its output."""
        (v,), axes = e.invars, e.params["axes"]
        array = indices(v.aval.shape, self.axes.roles[v] or ())
        kept = [i for i in range(array.ndim) if i not in axes]
        order = array.transpose(*kept, *axes)
        return order.reshape(math.prod(order.shape[: len(kept)]), -1)

    def value_of(self, e: Equation) -> Var:
        """The operand of a product that is not the weight."""
        return next(v for v in e.invars if v not in self.axes.weights)

    def groups(self, e: Equation) -> list[Group]:
        """The products that one equation stands for: several where heads run inside one kernel."""
        value = self.value_of(e)
        side = 0 if e.invars[0] is value else 1
        contracted, batched = (part[side] for part in e.params["dimension_numbers"])
        array = indices(value.aval.shape, self.axes.roles[value] or ())
        rest = [i for i in range(array.ndim) if i not in contracted and i not in batched]
        sources = array.transpose(*batched, *rest, *contracted)
        sources = sources.reshape(math.prod(sources.shape[: len(batched)]), -1)
        if not contiguous(sources):
            raise UnsupportedError("a product sums over features that do not lie side by side")
        depth, width = sources.shape[1], self.sizes[e.outvars[0]] // len(sources)
        return [Group(int(row[0]), g * width, depth, width) for g, row in enumerate(sources)]


def powers_of_two(start: int, stop: int) -> Iterator[Piece]:
    """Pieces from start to stop.

    >>> [(p.width, p.padded) for p in powers_of_two(0, 100)]
    [(64, 64), (32, 32), (4, 16)]
    """
    while start < stop:
        width = min(WIDEST, 1 << ((stop - start).bit_length() - 1))
        if 1 < stop - start < NARROWEST:
            width = stop - start
        yield Piece(start, width, width if width == 1 else max(NARROWEST, width))
        start += width


def share(start: int, stop: int, shares: int) -> Piece:
    """One program's part of a stretch.

    >>> share(0, 96, 4), share(96, 97, 4)
    (Piece(start=0, width=24, padded=32), Piece(start=96, width=1, padded=1))

    Raises:
      UnsupportedError: the shares would not be equal, or too wide.
    """
    if stop - start == 1:
        return Piece(start, 1, 1)
    width, rest = divmod(stop - start, shares)
    if rest or not 1 < width <= WIDEST:
        raise UnsupportedError(f"{stop - start} features are not shared out among {shares} programs")
    return Piece(start, width, max(NARROWEST, 1 << (width - 1).bit_length()))


def chunks_of(columns: int, shares: int) -> list[Piece]:
    """The columns of all programs side by side, in powers of two.

    >>> [(p.start, p.width, p.padded) for p in chunks_of(32, 5)]
    [(0, 128, 128), (128, 32, 32)]
    """
    return list(powers_of_two(0, columns * shares))
