"""Parameters from their names: the inverse of `seqjax.naming.named`."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import records
from seqjax.base import Array, PyTree
from seqjax.naming import check_module, named, shapes_of

FEW = 5  # names that an error lists


def unnamed(module: Any, arrays: Mapping[str, Array]) -> PyTree:
    """The parameters of a module, from its arrays by name; the inverse of `seqjax.interop.named`.

    Args:
      module: a cell, a layer or a model; it draws nothing where its ``init`` can be traced.
      arrays: one for each name. Precision is theirs: a float of 16 bits stays one.

    Returns:
      The parameters.

    Raises:
      TypeError: something else than a module, or an array of another kind, such as integers for floats.
      ValueError: a name is missing or unknown, or an array has another shape.

    Example:
      >>> import jax, seqjax as sj
      >>> from seqjax.interop import named, unnamed
      >>> cell = sj.lstm(3, 4)
      >>> params = cell.init(jax.random.key(0))
      >>> arrays = named(cell, params)
      >>> bool((unnamed(cell, arrays).w_h == params.w_h).all())
      True
    """
    return rebuilt("unnamed", module, arrays)


def rebuilt(who: str, module: Any, arrays: Mapping[str, Array]) -> PyTree:
    """`unnamed`, complaining in another's name."""
    check_module(who, module)
    drawn = shapes_of(module)
    expected = named(module, drawn)
    _same_names(who, module, expected, arrays)
    for name, like in expected.items():
        _fits(who, name, arrays[name], like)
    return jax.tree.structure(drawn).unflatten(arrays[name] for name in expected)


def listed(names: Iterable[str]) -> str:
    """The first few names, and how many there are."""
    names = list(names)
    more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    return ", ".join(names[:FEW]) + more


def _same_names(who: str, module: Any, expected: Mapping[str, Any], got: Mapping[str, Any]) -> None:
    missing = [name for name in expected if name not in got]
    unknown = [name for name in got if name not in expected]
    if missing or unknown:
        found = [f"none called {listed(missing)}"] * bool(missing) + [f"unknown {listed(unknown)}"] * bool(unknown)
        raise ValueError(
            f"{who}: expected the {len(expected)} arrays of {records.name(module, 'the module')}, got "
            f"{' and '.join(found)}. Make the module that they belong to, or rename them."
        )


def _fits(who: str, name: str, array: Any, like: Any) -> None:
    if np.shape(array) != np.shape(like):
        raise ValueError(
            f"{who}: expected {name} of shape {np.shape(like)}, got {np.shape(array)}. "
            "Make the module with the sizes that the parameters were drawn with."
        )
    expected, got = jnp.result_type(like), jnp.result_type(array)
    if _kind(expected) != _kind(got):
        raise TypeError(
            f"{who}: expected {name} of {_kind(expected)} such as {expected}, got {got}. "
            "Cast it, or make the module that it belongs to."
        )


def _kind(dtype: Any) -> str:
    kinds = {"floats": jnp.floating, "complex numbers": jnp.complexfloating, "integers": jnp.integer, "bool": jnp.bool_}
    return next((name for name, kind in kinds.items() if jnp.issubdtype(dtype, kind)), str(dtype))
