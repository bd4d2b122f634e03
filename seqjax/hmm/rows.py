"""What is asked of a model's log-probabilities: their shapes, and rows that sum to 1."""

import dataclasses
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.base import Array
from seqjax.logarithms import logsumexp

AnyModel = TypeVar("AnyModel")


def check(model: Any) -> None:
    """Checks that shapes agree and, outside a trace, that every row of log-probabilities sums to 1.

    Rows are those of ``log_initial``, ``log_transition`` and what the model names as its ``distributions``.

    Raises:
      TypeError: no model.
      ValueError: the first thing that is wrong.
    """
    check_shapes(model)
    for name in _distributions(model):
        rows = getattr(model, name)
        if isinstance(rows, jax.core.Tracer):
            continue
        rows = np.asarray(rows)
        with np.errstate(invalid="ignore", over="ignore"):
            totals = np.exp(rows.astype(np.float64)).sum(-1)
        tolerance = {2: 5e-2, 4: 1e-3}.get(rows.dtype.itemsize, 1e-6)
        wrong = np.flatnonzero(~(np.abs(totals - 1) <= tolerance))
        if wrong.size:
            place = np.unravel_index(wrong[0], totals.shape)
            where = name[4:] + (f"[{', '.join(map(str, place))}]" if rows.ndim > 1 else "")
            raise ValueError(
                f"{type(model).__name__}: expected {where} to sum to 1, got {np.ravel(totals)[wrong[0]]:.6g}. "
                "Normalise it, or pass logarithms to hmm.normalise."
            )


def check_shapes(model: Any) -> None:
    """Initial probabilities ``[N]``, transitions of N rows and columns, and N rows of what is ``per_state``."""
    who = type(model).__name__
    missing = [name for name in ("log_initial", "log_transition", "evidence") if not hasattr(model, name)]
    if missing:
        raise TypeError(
            f"hmm: expected a model with log_initial, log_transition and evidence, got {who} without "
            f"{', '.join(missing)}. Use HMM, or write a record with these."
        )
    if any(leaf is model for leaf in jax.tree.leaves(model)):
        raise TypeError(
            f"{who}: expected a model that is a tree of arrays, got a class that JAX does not know. Make it a "
            "NamedTuple, or register the dataclass with jax.tree_util.register_dataclass."
        )
    n = np.shape(model.log_initial)
    shapes = {"log_initial": np.shape(model.log_initial)}
    if not callable(model.log_transition):
        shapes["log_transition"] = np.shape(model.log_transition)
    shapes |= {name: np.shape(getattr(model, name)) for name in getattr(model, "per_state", ())}
    for name, shape in shapes.items():
        right = shape == n if name == "log_initial" else len(shape) == 2 and shape[:1] == n
        if name == "log_transition":
            right = len(shape) > 1 and shape[-2:] == n * 2
        if len(n) != 1 or not right:
            raise ValueError(
                f"{who}: expected log_initial [N], log_transition [N, N] (or one a step, [T-1, N, N]) and N rows of "
                f"emissions, got {name} of shape {shape} with log_initial of shape {n}. For several models use "
                "jax.vmap."
            )


def normalise(model: AnyModel) -> AnyModel:
    """Divides every row of log-probabilities by its sum.

    Gradient descent on ``loss(normalise(model))`` leaves the parameters free and the model a distribution.

    >>> from seqjax import hmm
    >>> jnp.exp(hmm.normalise(hmm.Chain(jnp.zeros(2), jnp.zeros((2, 2)))).log_initial).tolist()
    [0.5, 0.5]
    """
    rows = {name: getattr(model, name) for name in _distributions(model)}
    return replaced(model, **{name: row - logsumexp(row)[..., None] for name, row in rows.items()})


def replaced(model: AnyModel, **fields: Array) -> AnyModel:
    """The model with other fields: a NamedTuple, or a dataclass."""
    record: Any = model
    return record._replace(**fields) if hasattr(record, "_replace") else dataclasses.replace(record, **fields)


def log_frequencies(counts: Array, fallback: Array) -> Array:
    """ln of each row of counts over its sum; the row of ``fallback`` where nothing was counted."""
    total = counts.sum(-1, keepdims=True)
    return jnp.where(total > 0, jnp.log(counts) - jnp.log(jnp.where(total > 0, total, 1)), fallback)


def log_dirichlet(key: Array, shape: tuple[int, ...], dtype: Any = None) -> Array:
    """Rows drawn uniformly from all distributions, in logarithms."""
    draws = jnp.log(jax.random.exponential(key, shape, jnp.dtype(dtype or jnp.zeros(()).dtype)))
    return draws - logsumexp(draws)[..., None]


def _distributions(model: Any) -> tuple[str, ...]:
    names = ("log_initial", "log_transition", *getattr(model, "distributions", ()))
    return tuple(name for name in names if not callable(getattr(model, name)))
