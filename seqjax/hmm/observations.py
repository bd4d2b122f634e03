"""What inference asks of a model, of observations and of masks, checked before anything is computed."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from seqjax import checks, masks, symbolic
from seqjax.base import Array, PyTree
from seqjax.buffers import owned
from seqjax.hmm.rows import check_shapes
from seqjax.products import accumulator

Engine = Literal["scan", "associative"]
ENGINES = ("scan", "associative")


class Model(Protocol):
    """What inference asks of a model: a NamedTuple, a registered dataclass, or any other tree of arrays.

    To be fitted it also has ``maximise(log_initial, log_transition, weights, xs) -> model``, to draw observations
    ``emit(key, states) -> xs``, to be drawn itself ``redraw(key) -> model``.
    """

    @property
    def log_initial(self) -> Array:
        """``[N]``."""

    @property
    def log_transition(self) -> Any:
        """``[N, N]``; ``[T-1, N, N]`` or ``[T-1, *B, N, N]``, one a step; or a method from xs to the latter two."""

    def evidence(self, xs: PyTree) -> Array:
        """ln p(x | z), ``[*B, N]`` for one tick's observations, ``[T, *B, N]`` for those of a sequence."""


class Prepared(NamedTuple):
    """A chain over potentials, in at least float32.

    Attributes:
      log_initial: ``[N]``.
      log_transition: ``[N, N]``, or one a step, ``[T-1, N, N]`` or ``[T-1, *B, N, N]``.
      evidence: ``[T, *B, N]``.
      mask: ``[T, *B]`` or None.
      xs: the observations, harmless ones at masked ticks.
    """

    log_initial: Array
    log_transition: Array
    evidence: Array
    mask: Array | None
    xs: PyTree


def inferred(who: str, program: Callable, model: Model, xs: PyTree, mask: Array | None, *options: Any) -> Any:
    """``program(model, xs, mask, *options)``; observations whose values are known are checked while it runs."""
    check_shapes(model)
    model, xs, mask, options = owned((model, xs, mask, options))
    mask = None if mask is None else jnp.asarray(mask)
    if not isinstance(xs, jax.Array):  # to pass an array through asarray costs as much as to filter a hundred ticks
        xs = jnp.asarray(xs) if isinstance(xs, list) else jax.tree.map(jnp.asarray, xs)
    found = program(model, xs, mask, *options)
    if hasattr(model, "check_observations"):
        model.check_observations(who, xs, mask)
    return found


def prepare(who: str, model: Model, xs: PyTree, mask: Array | None, engine: Engine = "scan") -> Prepared:
    """Checks shapes and types, and makes observations at masked ticks harmless."""
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
    if engine == "associative" and not symbolic.known(shape[0]):
        raise ValueError(
            f"{who}: expected a number of ticks to cut into blocks for engine='associative', got {shape[0]}. "
            "Use engine='scan', which takes any length."
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
    evidence = model.evidence(xs)
    evidence = evidence.astype(accumulator(evidence.dtype))
    log_transition = transitions(who, model, xs, shape).astype(evidence.dtype)
    return Prepared(model.log_initial.astype(evidence.dtype), log_transition, evidence, mask, xs)


def transitions(who: str, model: Model, xs: PyTree, shape: tuple[int, ...]) -> Array:
    """The model's transitions for evidence of that shape, checked."""
    found = model.log_transition(xs) if callable(model.log_transition) else jnp.asarray(model.log_transition)
    length, *batch, n = shape
    if found.shape not in ((n, n), (length - 1, n, n), (length - 1, *batch, n, n)):
        raise ValueError(
            f"{who}: expected log_transition of shape {(n, n)}, or one a step {(length - 1, n, n)} or "
            f"{(length - 1, *batch, n, n)}, got {found.shape}. The first leads from the first tick to the second."
        )
    return found
