"""Parameters by their names, as frameworks keep them: a tree of tuples as nested dictionaries, and back."""

from typing import Any

import jax

from seqjax.base import PyTree

WHOLE = "value"  # the name of parameters that are one array


def named(params: PyTree) -> dict[str, Any]:
    """Fields, keys and places as names; what is None is left out.

    >>> from seqjax.cells import LSTMParams
    >>> named((LSTMParams(1, 2, None), {"gain": 3}))
    {'0': {'w_x': 1, 'w_h': 2}, '1': {'gain': 3}}
    """
    tree: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        *rooms, last = _names(path)
        inside = tree
        for room in rooms:
            inside = inside.setdefault(room, {})
        inside[last] = leaf
    return tree


def restored(tree: Any, like: PyTree) -> PyTree:
    """The parameters of that structure out of a tree of names.

    >>> from seqjax.cells import LSTMParams
    >>> restored({"w_x": 1, "w_h": 2}, LSTMParams(0, 0, None))
    LSTMParams(w_x=1, w_h=2, b=None)
    """

    def leaf(path: tuple, _: Any) -> Any:
        inside = tree
        for name in _names(path):
            inside = inside[name]
        return inside

    return jax.tree_util.tree_map_with_path(leaf, like)


def _names(path: tuple) -> list[str]:
    keys = [next(getattr(key, kind) for kind in ("name", "key", "idx") if hasattr(key, kind)) for key in path]
    return [str(key) for key in keys] or [WHOLE]
