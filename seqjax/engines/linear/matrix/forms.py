"""What the equations of a tick make of a matrix S that is a symbol.

Values of all C ticks of a chunk at once, none of which is of S's size:

    Known      an array ``[C, …]`` that does not depend on S, with one entry along axes on which it is the same
    Pairs      Σ x ⊙ y of such arrays, each of which is the same along an axis on which the other varies: k vᵀ
    Form       a ⊙ S + Σ ρ ⊙ F + Σ k uᵀ, with rows a, ρ, k, columns u and matrices F that never change
    Vector     columns that depend on S: known ones, and known ones times what keys read of the S before the tick

Arrays of a Form and of a Vector have the axes ``[C, …]`` of S in their order, one entry where they are the same; labels
say which axis of S each axis of the value is, None for one of a single entry.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax.engines.equations.jaxprs import Equation

Labels = tuple[int | None, ...]


class UnstructuredError(Exception):
    """An equation that makes something else of S; its message says which and what."""


class Known(NamedTuple):
    """``[C or 1, …]``, of the value's rank."""

    array: jax.Array


class Pairs(NamedTuple):
    """Σ x ⊙ y, each ``[C or 1, …]`` of the value's rank."""

    pairs: tuple[tuple[jax.Array, jax.Array], ...]


class Columns(NamedTuple):
    """``known + Σ_j factor_j ⊙ R_j``: R_j what the j-th query reads of the S before the tick."""

    known: jax.Array | None
    reads: dict[int, jax.Array]

    def map(self, f: Callable[[jax.Array], jax.Array]) -> "Columns":
        """With a linear function of arrays applied to every part."""
        return Columns(None if self.known is None else f(self.known), {j: f(a) for j, a in self.reads.items()})

    def times(self, x: jax.Array) -> "Columns":
        """Times a number or a row."""
        return self.map(lambda a: a * x)

    def where(self, p: jax.Array) -> "Columns":
        """Those where a condition holds, nothing elsewhere, whatever stands there."""
        return self.map(lambda a: jnp.where(p, a, 0))

    def plus(self, other: "Columns") -> "Columns":
        """The sum."""
        known = [a for a in (self.known, other.known) if a is not None]
        reads = dict(self.reads)
        for j, a in other.reads.items():
            reads[j] = reads[j] + a if j in reads else a
        return Columns(sum(known[1:], known[0]) if known else None, reads)


class Vector(NamedTuple):
    """Columns with the axes of a value."""

    labels: Labels
    columns: Columns


class Update(NamedTuple):
    """k uᵀ."""

    key: jax.Array
    columns: Columns


class Form(NamedTuple):
    """``a ⊙ S + Σ ρ ⊙ F + Σ k uᵀ``.

    Attributes:
      labels: the axes of the value.
      decay: a, or None where S does not enter.
      fresh: ρ of every F, by its number.
      updates: k and u.
      alive: ``[C, …]`` of bool, False where a selection cuts S off; None where none does.
    """

    labels: Labels
    decay: jax.Array | None
    fresh: dict[int, jax.Array]
    updates: tuple[Update, ...]
    alive: jax.Array | None

    def scaled(self, x: jax.Array) -> "Form":
        """Times numbers or rows."""
        return self.map(lambda a: a * x)

    def map(self, f: Callable[[jax.Array], jax.Array]) -> "Form":
        """With a linear function applied to what multiplies."""
        return self._replace(
            decay=None if self.decay is None else f(self.decay),
            fresh={i: f(rho) for i, rho in self.fresh.items()},
            updates=tuple(Update(f(key), columns) for key, columns in self.updates),
        )

    def plus(self, other: "Form") -> "Form":
        """The sum."""
        decays = [a for a in (self.decay, other.decay) if a is not None]
        fresh = dict(self.fresh)
        for i, rho in other.fresh.items():
            fresh[i] = fresh[i] + rho if i in fresh else rho
        alive = self.alive if self.decay is not None else other.alive
        if len(decays) == 2 and alive is not None:
            alive = None if other.alive is None else alive | other.alive
        return Form(
            self.labels, sum(decays[1:], decays[0]) if decays else None, fresh, self.updates + other.updates, alive
        )


def varies(x: jax.Array, axis: int) -> bool:
    """Whether an array ``[C, axes of S]`` has several entries along an axis of S."""
    return x.shape[1 + axis] > 1


def wide(dtype: jnp.dtype) -> jnp.dtype:
    """In which numbers a state of this type is computed: of 32 bits at least."""
    return dtype if jnp.dtype(dtype).itemsize >= 4 else jnp.dtype(jnp.float32)


def said(e: Equation) -> str:
    """An equation, for errors."""
    return f"{e.primitive.name} {e.outvars[0].aval.str_short()}"


Value = Known | Pairs | Form | Vector
