"""Any tree of arrays in a file: parameters, training states, models' states with their keys, each array by name."""

import os
from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.base import Array, PyTree
from seqjax.interop.by_name import listed
from seqjax.interop.files import read, write
from seqjax.naming import named_tree

Tree = TypeVar("Tree")


def save(path: str | os.PathLike, tree: PyTree) -> None:
    """Writes a tree of arrays to a ``safetensors`` file, each under its name in the tree: ``params/1/w_h``.

    A file that was there is replaced once the new one is whole. JAX keys, those of a state's `Noise` too, are kept as
    their data. What belongs to one module is better kept by `seqjax.interop.save_params`, whose file knows its module.

    Args:
      path: of the file, ``…/train.safetensors``.
      tree: parameters, a `TrainState`, a state of a cell or layer, or all of them in a tuple or dictionary.

    Raises:
      ModuleNotFoundError: safetensors is not installed; says how to.
      TypeError: a leaf that is no array, or one of a type that the format lacks.
      FileNotFoundError: no such folder.

    Example:
      >>> import jax, optax, tempfile, seqjax as sj
      >>> cell, path = sj.zoneout(sj.lstm(3, 4), 0.1), tempfile.mkdtemp() + "/run.safetensors"
      >>> train = sj.train_state(cell.init(jax.random.key(0)), optax.adam(1e-3), key=jax.random.key(1))
      >>> state = cell.initial_state(train.params, (2,), key=jax.random.key(2))
      >>> sj.save(path, (train, state))
      >>> again, _ = sj.load(path, (train, state))
      >>> bool((again.opt_state[0].mu.w_h == train.opt_state[0].mu.w_h).all()), bool(again.key == train.key)
      (True, True)
    """
    arrays = {name: _array(name, leaf) for name, leaf in named_tree(tree).items()}
    write("save", path, arrays, {})


def load(path: str | os.PathLike, like: Tree) -> Tree:
    """Reads a tree that `save` wrote.

    Args:
      path: of the file.
      like: a tree of the same names, shapes and types, of arrays or of ``jax.eval_shape``; none of its numbers is read.

    Returns:
      The arrays of the file in the structure of ``like``; on the devices of ``like``, where those were chosen.

    Raises:
      ModuleNotFoundError: safetensors is not installed; says how to.
      FileNotFoundError: no file.
      ValueError: a file that is cut off, or something else; names that are missing or unknown; another shape.
      TypeError: an array of another type.

    Example:
      The structure may be had without drawing or computing anything:

      >>> import jax, jax.numpy as jnp, tempfile, seqjax as sj
      >>> cell, path = sj.gru(3, 4), tempfile.mkdtemp() + "/params.safetensors"
      >>> sj.save(path, cell.init(jax.random.key(0)))
      >>> sj.load(path, jax.eval_shape(cell.init, jax.random.key(0))).w_h.shape
      (4, 12)
    """
    expected, arrays = named_tree(like), read("load", path)[1]
    _same_names(path, expected, arrays)
    leaves = [_placed(_checked(name, arrays[name], leaf), leaf) for name, leaf in expected.items()]
    return jax.tree.structure(like).unflatten(leaves)


def _array(name: str, leaf: Any) -> Any:
    if isinstance(leaf, jax.Array | np.ndarray):
        return leaf
    try:
        return np.asarray(leaf, jnp.result_type(leaf))  # a number, in the type that JAX gives it
    except TypeError as error:
        raise TypeError(
            f"save: expected a tree of arrays, got {type(leaf).__name__} at {name}. Leave it out of the tree."
        ) from error


def _same_names(path: Any, expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    missing, unknown = ([name for name in a if name not in b] for a, b in ((expected, found), (found, expected)))
    if missing or unknown:
        got = [f"none called {listed(missing)}"] * bool(missing) + [f"unknown {listed(unknown)}"] * bool(unknown)
        raise ValueError(
            f"load: expected {path} to hold the {len(expected)} arrays of like, got {' and '.join(got)}. "
            "Pass a tree of the names that were saved."
        )


def _checked(name: str, array: Array, like: Any) -> Array:
    shape, dtype = np.shape(like), jnp.result_type(like)
    if array.shape != shape:
        raise ValueError(f"load: expected {name} of shape {shape}, got {array.shape}. Pass a tree like the one saved.")
    if array.dtype != dtype:
        raise TypeError(f"load: expected {name} of {dtype}, got {array.dtype}. Pass a tree like the one saved.")
    return array


def _placed(array: Array, like: Any) -> Array:
    chosen = getattr(like, "committed", not isinstance(like, jax.Array))
    sharding = getattr(like, "sharding", None) if chosen else None
    return array if sharding is None else jax.device_put(array, sharding)
