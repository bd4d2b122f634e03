"""Layers without memory: one function of every tick, applied to all ticks at once."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from seqjax import checks, masks
from seqjax.base import Array, Layer, PyTree
from seqjax.records import maker


@maker
def pointwise(function: Callable[[PyTree, PyTree], PyTree], init: Callable[[Array], PyTree] | None = None) -> Layer:
    """The same function at every tick, on the whole chunk at once: no loop over time.

        y_t = function(params, x_t)

    At a masked tick the function sees a valid tick's input and its output is zero, so that NaN in padding
    reaches neither values nor gradients.

    Args:
      function: ``(params, xs) -> ys`` on leaves ``[T, *B, ...]``, each tick and example by itself.
      init: ``(key) -> params``; no parameters if None.

    Returns:
      A layer with empty state.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> square = sj.pointwise(lambda params, x: x**2)
      >>> state, ys = square.apply((), (), jnp.arange(3.0), mask=jnp.array([True, True, False]))
      >>> ys.tolist()
      [0.0, 1.0, 0.0]
    """
    return mapped("pointwise", lambda params, xs, key: function(params, xs), init)


def mapped(who: str, function: Callable, init: Callable[[Array], PyTree] | None = None) -> Layer:
    """`pointwise` under another name, for functions ``(params, xs, key) -> ys``."""

    def apply(
        params: PyTree,
        state: tuple,
        xs: PyTree,
        *,
        mask: Array | None = None,
        lengths: Array | None = None,
        reset: Array | None = None,
        key: Array | None = None,
    ) -> tuple[tuple, PyTree]:
        checks.ticks(who, "reset", reset, xs)
        mask = checks.ticks(who, "mask", masks.given(who, mask, lengths, xs), xs)
        xs = jax.tree.map(jnp.asarray, xs)  # NumPy's int64 and float64 in the dtype that JAX makes of them
        if mask is None:
            return state, function(params, xs, key)
        ys = function(params, masks.select(mask, xs, masks.first_valid(mask, xs)), key)
        return state, masks.zero(mask, ys)

    return Layer(init or _no_params, _no_state, apply)


def _no_params(key: Array) -> tuple:
    return ()


def _no_state(params: PyTree, batch_shape: tuple[int, ...] = (), *, key: Array | None = None) -> tuple:
    return ()
