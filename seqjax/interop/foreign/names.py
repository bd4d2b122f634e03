"""Parameters by their names, as frameworks keep them: nested dictionaries of the names of `seqjax.naming`, and back."""

import functools
from typing import Any

import jax

from seqjax import naming
from seqjax.base import PyTree


def nested(module: Any, params: PyTree) -> dict[str, Any]:
    """A module's parameters as dictionaries in dictionaries; what is None is left out.

    >>> import seqjax as sj
    >>> nested(sj.serial(sj.dense(3, 4), sj.dense(4, 2)), (sj.layers.DenseParams(1, 2), sj.layers.DenseParams(3, 4)))
    {'dense': {'w': 1, 'b': 2}, 'dense_1': {'w': 3, 'b': 4}}
    """
    tree: dict[str, Any] = {}
    for name, leaf in naming.named(module, params).items():
        *rooms, last = name.split("/")
        functools.reduce(lambda inside, room: inside.setdefault(room, {}), rooms, tree)[last] = leaf
    return tree


def restored(module: Any, tree: Any, like: PyTree) -> PyTree:
    """The parameters of that structure out of a tree of names.

    >>> import seqjax as sj
    >>> restored(sj.lstm(3, 4, b_init=None), {"w_x": 1, "w_h": 2}, sj.cells.LSTMParams(0, 0, None))
    LSTMParams(w_x=1, w_h=2, b=None)
    """
    found = (
        functools.reduce(lambda inside, room: inside[room], name.split("/"), tree)
        for name in naming.named(module, like)
    )
    return jax.tree.structure(like).unflatten(found)
