"""A passport checked: the same numbers from both sides."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from seqjax.base import Layer, PyTree
from seqjax.interop.rows import Part, Rows
from seqjax.interop.states import cells_of, state_built

TICKS, BATCH = 5, 2
TOLERANCE = {"float64": 1e-10, "float32": 1e-5, "float16": 2e-2, "bfloat16": 5e-2}


def inputs(who: str, layer: Layer, params: PyTree) -> tuple[np.ndarray, list[tuple[np.ndarray, ...]]]:
    """Random inputs ``[T, B, d]`` and a random first state of each part, in the parameters' dtype."""
    random = np.random.default_rng(0)
    dtype = jax.tree.leaves(params)[0].dtype
    shapes = [
        jax.tree.leaves(jax.eval_shape(lambda key, cell=cell: cell.initial_state(cell.init(key)), jax.random.key(0)))
        for cell in cells_of(layer)
    ]
    draw = lambda *shape: np.asarray(random.normal(size=shape), dtype)
    states = [tuple(draw(BATCH, *leaf.shape) for leaf in leaves) for leaves in shapes]
    return draw(TICKS, BATCH, jax.tree.leaves(params)[0].shape[0]), states


def ours(who: str, layer: Layer, params: PyTree, xs: np.ndarray, states: Sequence[tuple]) -> np.ndarray:
    """The outputs of the package's plain scan, in the parameters' own dtype."""
    with jax.enable_x64(True):
        state = state_built(who, layer, states)
        return np.asarray(jax.jit(layer.apply)(params, state, xs)[1])


def agreed(who: str, params: PyTree, ours: Any, theirs: Any) -> None:
    """Outputs of both sides are the same up to rounding in the parameters' dtype.

    Raises:
      ValueError: they are not; with the largest difference.
    """
    dtype = str(jax.tree.leaves(params)[0].dtype)
    ours, theirs = (np.asarray(each, np.float64) for each in (ours, theirs))
    difference = float(np.abs(ours - theirs).max()) if ours.shape == theirs.shape else np.inf
    if not difference <= TOLERANCE[dtype]:
        raise ValueError(
            f"{who}: expected outputs equal within {TOLERANCE[dtype]:g} in {dtype}, got {difference:.2e} apart "
            "for random inputs. These are not the weights of that layer: see its activation, gate order and reset."
        )


def through(rows: Rows, xs: np.ndarray, states: Sequence[tuple], run: Callable[[Part, Any, tuple], Any]) -> Any:
    """Layers one after the other, both directions side by side, each by ``run(part, xs [T, B, d], state)``."""
    left = iter(states)
    for row in rows:
        turned = [part.reverse or k == 1 for k, part in enumerate(row)]
        ys = [run(part, xs[::-1] if back else xs, next(left)) for part, back in zip(row, turned)]
        xs = np.concatenate([np.asarray(y)[::-1] if back else np.asarray(y) for y, back in zip(ys, turned)], axis=-1)
    return xs
