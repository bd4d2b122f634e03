"""What was wrong with the arguments of a call that failed far below: looked for behind the error, told in words."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import base, checks

WORDS = re.compile(r"[^\n]+?: expected ")


@contextlib.contextmanager
def told(who: str, module: Any, params: Any, state: Any, xs: Any, ticks: Mapping[str, Any]) -> Iterator[None]:
    """Errors of a call of a cell or layer that are not in words yet become so, where an argument explains them.

    Args:
      who: the name in front.
      module: the cell or layer.
      params: what was given as parameters.
      state: and as state.
      xs: and as inputs ``[T, *B, …]``.
      ticks: mask, reset and lengths, as far as given.

    >>> import seqjax as sj
    >>> cell = sj.lstm(3, 4)
    >>> params = cell.init(jax.random.key(0))
    >>> with told("mine", cell, params._replace(w_x=0.5), cell.initial_state(params), jnp.ones((5, 3)), {}):
    ...     raise IndexError("far below")
    Traceback (most recent call last):
    ValueError: mine: expected params.w_x of shape (3, 16), got (). Draw parameters with init(key) of this cell.
    """
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError, ZeroDivisionError) as error:
        if WORDS.match(str(error)):
            raise
        found = _explained(who, module, params, state, xs, ticks)
        if found is None:
            raise
        raise found from error


def _explained(
    who: str, module: Any, params: Any, state: Any, xs: Any, ticks: Mapping[str, Any]
) -> ValueError | TypeError | None:
    kind = type(module).__name__.lower()
    drawn = checks.drawn(module)
    remedy = f"Draw parameters with init(key) of this {kind}."
    wrong = _no_array(who, {"params": params, "state": state, "xs": xs})
    if wrong is not None or drawn is None:
        return wrong or _wrong_ticks(who, xs, ticks)
    found = _unlike(who, "params", drawn, params, (), remedy)
    if found is not None:
        return found
    try:
        one = base.without_noise(base.single_state(module, params))
    except Exception:  # an initial state that these parameters do not allow
        return None
    shape = np.shape(next(iter(jax.tree.leaves(xs)), 0))
    batch = _batch(one, state, shape[1:-1])
    remedy = f"Make it with initial_state(params, {batch})."
    if not shape:
        return ValueError(f"{who}: expected arrays [T, *batch, …], got {type(xs).__name__} of numbers. Put time first.")
    if not shape[0]:
        return ValueError(f"{who}: expected at least one tick, got xs of shape {shape}. Skip the call.")
    return _unlike(who, "state", one, base.without_noise(state), batch, remedy) or _wrong_ticks(who, xs, ticks)


def _no_array(who: str, trees: Mapping[str, Any]) -> TypeError | None:
    """The first leaf that is no array of numbers."""
    for name, tree in trees.items():
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
            if not _is_array(leaf):
                got = f"one of {leaf.dtype}" if hasattr(leaf, "dtype") else type(leaf).__name__
                return TypeError(
                    f"{who}: expected an array of numbers at {name}{jax.tree_util.keystr(path)}, got {got}. "
                    "Pass arrays of JAX or NumPy."
                )
    return None


def _is_array(leaf: Any) -> bool:
    if not hasattr(leaf, "dtype"):
        return isinstance(leaf, bool | int | float | complex)
    kinds = (jnp.number, jnp.bool_, jax.dtypes.extended)
    return any(jnp.issubdtype(leaf.dtype, kind) for kind in kinds)


def _unlike(
    who: str, name: str, expected: Any, got: Any, batch: tuple[int, ...], remedy: str
) -> ValueError | TypeError | None:
    """The first place where a tree has another structure, shape or kind of number."""
    got = _expected_of(got, expected)
    if jax.tree.structure(expected) != jax.tree.structure(got):
        return TypeError(f"{who}: expected {name} like {_said(expected, batch)}, got {_said(got)}. {remedy}")
    for (path, like), leaf in zip(jax.tree_util.tree_flatten_with_path(expected)[0], jax.tree.leaves(got)):
        where, shape = f"{name}{jax.tree_util.keystr(path)}", (*batch, *like.shape)
        if np.shape(leaf) != shape:
            return ValueError(f"{who}: expected {where} of shape {shape}, got {np.shape(leaf)}. {remedy}")
        dtype = jnp.result_type(leaf)
        if not any(jnp.issubdtype(like.dtype, k) and jnp.issubdtype(dtype, k) for k in (jnp.inexact, dtype)):
            return TypeError(f"{who}: expected {where} of numbers like {like.dtype}, got {dtype}. {remedy}")
    return None


def _expected_of(got: Any, expected: Any) -> Any:
    """A tree without what stands where None is expected: the memory of a sequence, a backward reader's first state."""
    if expected is None:
        return None
    if not isinstance(expected, tuple) or type(expected) is not type(got) or len(expected) != len(got):
        return got
    parts = map(_expected_of, got, expected)
    return type(got)(*parts) if hasattr(got, "_fields") else tuple(parts)


def _said(tree: Any, batch: tuple[int, ...] = ()) -> str:
    return str(jax.tree.map(lambda leaf: [*batch, *np.shape(leaf)], tree))


def _batch(one: Any, state: Any, otherwise: tuple[int, ...]) -> tuple[int, ...]:
    """The state's batch axes, where its first array can have some; else those of the inputs."""
    first, given = (next(iter(jax.tree.leaves(tree)), None) for tree in (one, base.without_noise(state)))
    if first is None or given is None:
        return otherwise
    extra = np.ndim(given) - first.ndim
    batch = np.shape(given)[: max(extra, 0)]
    return batch if extra >= 0 and np.shape(given)[extra:] == first.shape else otherwise


def _wrong_ticks(who: str, xs: Any, ticks: Mapping[str, Any]) -> ValueError | TypeError | None:
    try:
        for name in ("mask", "reset"):
            if ticks.get(name) is not None:
                checks.ticks(who, name, ticks[name], xs)
        if ticks.get("lengths") is not None:
            checks.lengths(who, ticks["lengths"], checks.length(who, xs))
    except (ValueError, TypeError) as error:
        return error if WORDS.match(str(error)) else None
    return None
