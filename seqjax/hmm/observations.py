"""What inference asks of a model, of observations and of masks, checked before anything is computed."""

from collections.abc import Callable
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp

from seqjax import checks, masks
from seqjax.base import Array, PyTree
from seqjax.hmm.models import check_shapes

Engine = Literal["scan", "associative"]
ENGINES = ("scan", "associative")


class Model(Protocol):
    """What inference asks of a model."""

    @property
    def log_initial(self) -> Array:
        """``[N]``."""

    @property
    def log_transition(self) -> Array:
        """``[N, N]``."""

    def evidence(self, xs: PyTree) -> Array:
        """ln p(x | z), ``[*B, N]`` for one tick's observations."""


def inferred(who: str, program: Callable, model: Model, xs: PyTree, mask: Array | None, *options: Any) -> Any:
    """``program(model, xs, mask, *options)``; observations whose values are known are checked while it runs."""
    if not isinstance(xs, jax.Array):  # to pass an array through asarray costs as much as to filter a hundred ticks
        xs = jnp.asarray(xs) if isinstance(xs, list) else jax.tree.map(jnp.asarray, xs)
    found = program(model, xs, mask, *options)
    if hasattr(model, "check_observations"):
        model.check_observations(who, xs, mask)
    return found


def prepare(
    who: str, model: Model, xs: PyTree, mask: Array | None, engine: Engine = "scan"
) -> tuple[PyTree, Array, Array | None]:
    """Checks shapes and types; returns ``(xs, evidence, mask)``, observations at masked ticks made harmless."""
    checks.choice(who, "engine", engine, ENGINES)
    check_shapes(model)
    if hasattr(model, "check_observations"):
        model.check_observations(who, xs, mask)
    shape = jax.eval_shape(model.evidence, xs).shape
    if len(shape) < 2 or shape[0] == 0 or shape[-1] != model.log_initial.shape[0]:
        raise ValueError(
            f"{who}: expected observations of at least one tick, time leading, with evidence [T, *batch, "
            f"{model.log_initial.shape[0]}], got evidence of shape {shape}. Put time first."
        )
    if mask is not None:
        if mask.dtype != jnp.bool_:
            raise TypeError(f"{who}: expected mask of bool, got {mask.dtype}. Compare with 0 or cast it to bool.")
        if mask.shape != shape[:-1]:
            raise ValueError(
                f"{who}: expected mask of shape {shape[:-1]} like the observations, got {mask.shape}. "
                "Time first, then the batch axes."
            )
        xs = masks.select(mask, xs, masks.first_valid(mask, xs))
    return xs, model.evidence(xs), mask
