"""Checks raised at trace time: who, what was expected, what came, and the remedy."""

from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

import jax
import jax.numpy as jnp


def sizes(who: str, **named: int) -> None:
    """Every named size is a whole number of at least 1."""
    for name, value in named.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{who}: expected {name} to be a whole number of at least 1, got {value!r}. Set {name}.")


def rate(who: str, value: float) -> None:
    """A probability of dropping something: at least 0 and below 1."""
    if not isinstance(value, Real) or not 0 <= value < 1:
        raise ValueError(f"{who}: expected a rate of at least 0 and below 1, got {value!r}. Set rate=0 to switch off.")


def choice(who: str, name: str, value: Any, options: Iterable[Any]) -> None:
    """A value out of a fixed list."""
    options = list(options)
    if value not in options:
        listed = ", ".join(map(repr, options))
        raise ValueError(f"{who}: expected {name} to be one of {listed}, got {value!r}. Choose one of them.")


def inputs(who: str, x: Any, batch: tuple[int, ...], size: int) -> None:
    """One tick's input is ``[*B, size]`` and agrees with the batch axes of the state."""
    shape = jnp.shape(x)
    if len(shape) == 0 or shape[-1] != size:
        got = shape[-1] if shape else "a scalar"
        remedy = f"Set input_size={got} or project the inputs." if shape else "Add a feature axis."
        raise ValueError(f"{who}: expected inputs of size {size}, got {got} (one tick has shape {shape}). {remedy}")
    if shape[:-1] != tuple(batch):
        raise ValueError(
            f"{who}: expected inputs of batch shape {tuple(batch)} like the state, got {shape[:-1]} "
            f"(one tick has shape {shape}). Make the state with initial_state(params, {shape[:-1]})."
        )


def same_state(who: str, before: Any, after: Any) -> None:
    """A step returns a state of the structure, shapes and dtypes it was given."""
    expected, got = jax.tree.structure(before), jax.tree.structure(after)
    if expected != got:
        raise TypeError(
            f"{who}: expected step to return a state of structure {expected}, got {got}. "
            "Return the same tree of arrays that initial_state makes."
        )
    paths = jax.tree_util.tree_flatten_with_path(before)[0]
    for (path, old), new in zip(paths, jax.tree.leaves(after)):
        old_type, new_type = jax.typeof(old), jax.typeof(new)
        if old_type.shape != new_type.shape or old_type.dtype != new_type.dtype:
            raise TypeError(
                f"{who}: expected step to keep the state's type {old_type.str_short()} at "
                f"state{jax.tree_util.keystr(path)}, got {new_type.str_short()}. "
                "Cast it back in step, or make initial_state agree."
            )
