"""A passport checked: the same numbers from both sides."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from seqjax.base import Layer, PyTree
from seqjax.interop.states import cells_of, state_built

TICKS, BATCH = 5, 2
TOLERANCE = {"float64": 1e-10, "float32": 1e-5, "float16": 2e-2, "bfloat16": 5e-2}

Run = Callable[[Any, Sequence[tuple]], Any]  # inputs [T, B, d] and a first state of each part to outputs [T, B, h]


def checked(who: str, layer: Layer, params: PyTree, theirs: Run) -> None:
    """Outputs of both sides for a short random sequence and random first states, JAX's products exact on any device.

    By default float32 products are of TF32 on a GPU and of bfloat16 on a TPU, and differ by more than rounding.

    Args:
      who: the passport, in errors.
      layer: ours.
      params: its parameters.
      theirs: runs the other side.

    Raises:
      ValueError: outputs that differ by more than rounding, with the largest difference.
    """
    xs, states = inputs(layer, params)
    with jax.default_matmul_precision("highest"):
        agreed(who, params, ours(who, layer, params, xs, states), theirs(xs, states))


def inputs(layer: Layer, params: PyTree) -> tuple[np.ndarray, list[tuple[np.ndarray, ...]]]:
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
    """The outputs of our layer, in the parameters' own dtype."""
    with jax.enable_x64(True):
        state = state_built(who, layer, states)
        return np.asarray(jax.jit(layer.apply)(params, state, xs)[1])


def agreed(who: str, params: PyTree, ours: Any, theirs: Any) -> None:
    """Outputs of both sides are the same up to rounding in the parameters' dtype, or in that of their outputs.

    Raises:
      ValueError: they are not; with the largest difference.
    """
    dtypes = {str(jax.tree.leaves(params)[0].dtype), str(theirs.dtype)}
    dtype = max(dtypes, key=TOLERANCE.__getitem__)
    ours, theirs = (np.asarray(each, np.float64) for each in (ours, theirs))
    difference = float(np.abs(ours - theirs).max()) if ours.shape == theirs.shape else np.inf
    if not difference <= TOLERANCE[dtype]:
        raise ValueError(
            f"{who}: expected outputs equal within {TOLERANCE[dtype]:g} in {dtype}, got {difference:.2e} apart "
            "for random inputs. These are not the weights of that layer: see its activation, gate order and reset."
        )


def through(rows: Sequence[Sequence[Callable[[Any, tuple], Any]]], xs: np.ndarray, states: Sequence[tuple]) -> Any:
    """Layers one after the other, both directions side by side; each maps ``xs [T, B, d]`` and a state to outputs."""
    left = iter(states)
    for row in rows:
        ends = [np.asarray(run(xs[::-1] if back else xs, next(left))) for back, run in enumerate(row)]
        xs = np.concatenate([y[::-1] if back else y for back, y in enumerate(ends)], axis=-1)
    return xs
