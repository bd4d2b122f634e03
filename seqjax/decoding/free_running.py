"""A model of frames or values that runs on its own outputs."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from seqjax import checks
from seqjax.base import Array, Cell, Layer, PyTree
from seqjax.buffers import owning
from seqjax.decoding.as_cell import as_cell


@owning
def free_run(
    model: Cell | Layer,
    params: PyTree,
    state: PyTree,
    first: PyTree,
    *,
    length: int,
    draw: Callable | None = None,
    key: Array | None = None,
) -> tuple[PyTree, PyTree]:
    """Feeds a model of frames or values its own outputs.

        s_t, y_t = step(s_{t-1}, x_t)      x_{t+1} = draw(y_t)

    Args:
      model: a cell or layer.
      params: its parameters.
      state: the state to start from.
      first: x_1, one tick of input ``[*B, ...]``.
      length: how many ticks to run.
      draw: ``y -> x``, or ``(key, y) -> x`` where a key is given; the identity if None. Another function
        compiles anew: make it once.
      key: one JAX key, split over the ticks.

    Returns:
      The last state and x_2 … x_{length+1}, ``[length, *B, ...]``.

    Raises:
      ValueError: a key without ``draw``, or a drawn input of another shape than the first.
      TypeError: a first input of integers where the drawn ones are floats.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> double = sj.pointwise(lambda params, x: 2 * x)
      >>> sj.free_run(double, (), (), jnp.array(1.0), length=4)[1].tolist()
      [2.0, 4.0, 8.0, 16.0]
    """
    checks.sizes("free_run", length=length)
    if key is not None and draw is None:
        raise ValueError("free_run: expected draw(key, y) where a key is given, got None. Leave the key out.")
    return _free_run(model, length, draw, params, state, jax.tree.map(jnp.asarray, first), key)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _free_run(
    model: Cell | Layer,
    length: int,
    draw: Callable | None,
    params: PyTree,
    state: PyTree,
    first: PyTree,
    key: Array | None,
) -> tuple[PyTree, PyTree]:
    def tick(loop: tuple, key: Array | None) -> tuple[tuple, PyTree]:
        state, x = loop
        state, y = as_cell(model).step(params, state, x)
        new = y if draw is None else draw(y) if key is None else draw(key, y)
        checks.same_shapes("free_run", x, new)
        for old, drawn in zip(jax.tree.leaves(x), jax.tree.leaves(new)):
            if jnp.issubdtype(old.dtype, jnp.integer) and jnp.issubdtype(jnp.result_type(drawn), jnp.inexact):
                raise TypeError(
                    f"free_run: expected inputs like the outputs, which are {jnp.result_type(drawn)}, got {old.dtype}. "
                    "Give floats as first, or round in draw."
                )
        new = jax.tree.map(lambda n, x: n.astype(x.dtype), new, x)
        return (state, new), new

    keys = None if key is None else jax.random.split(key, length)
    (state, _), xs = jax.lax.scan(tick, (state, first), keys, length=length)
    return state, xs
