"""Layers from layers."""

from typing import Any, TypeVar, overload

import jax

from seqjax import checks, masks
from seqjax.base import P1, P2, P3, P4, S1, S2, S3, S4, Array, Cell, Layer, PyTree
from seqjax.layers import inner
from seqjax.layers.inner import split
from seqjax.records import maker
from seqjax.transforms import compose

Module = TypeVar("Module", bound=Cell | Layer)


@overload
def serial(
    first: Layer[P1, S1],
    /,
) -> Layer[tuple[P1], tuple[S1]]: ...
@overload
def serial(
    first: Layer[P1, S1],
    second: Layer[P2, S2],
    /,
) -> Layer[tuple[P1, P2], tuple[S1, S2]]: ...
@overload
def serial(
    first: Layer[P1, S1],
    second: Layer[P2, S2],
    third: Layer[P3, S3],
    /,
) -> Layer[tuple[P1, P2, P3], tuple[S1, S2, S3]]: ...
@overload
def serial(
    first: Layer[P1, S1],
    second: Layer[P2, S2],
    third: Layer[P3, S3],
    fourth: Layer[P4, S4],
    /,
) -> Layer[tuple[P1, P2, P3, P4], tuple[S1, S2, S3, S4]]: ...
@overload
def serial(
    first: Layer,
    second: Layer,
    third: Layer,
    fourth: Layer,
    fifth: Layer,
    /,
    *more: Layer,
) -> Layer[tuple, tuple]: ...
@maker
def serial(*layers: Layer) -> Layer[tuple, tuple]:
    """Layers one after the other: each reads the output of the one before.

    Mask or lengths, and resets, go to every layer; a key is split among them.

    Args:
      *layers: from the input to the output.

    Returns:
      A layer whose params and state are tuples, one entry a layer.

    Raises:
      ValueError: no layer; or params or a state of another number of layers.
      TypeError: something else than a layer.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> model = sj.serial(sj.embedding(65, 8), sj.recurrent(sj.lstm(8, 16)), sj.dense(16, 65))
      >>> params = model.init(jax.random.key(0))
      >>> state, logits = model.apply(params, model.initial_state(params, (2,)), jnp.zeros((5, 2), int))
      >>> logits.shape
      (5, 2, 65)
    """
    if not layers:
        raise ValueError("serial: expected at least one layer, got none. Pass the layers from input to output.")
    for layer in layers:
        checks.instance("serial", layer, Layer, "Wrap a cell in recurrent(cell) and a function in pointwise(function).")

    def init(key: Array) -> tuple:
        return tuple(layer.init(k) for layer, k in zip(layers, jax.random.split(key, len(layers))))

    def initial_state(params: tuple, batch_shape: tuple[int, ...] = (), *, key: Array | None = None) -> tuple:
        return tuple(
            layer.initial_state(p, batch_shape, key=k) for layer, p, k in zip(layers, params, split(key, len(layers)))
        )

    def apply(
        params: tuple,
        state: tuple,
        xs: PyTree,
        *,
        mask: Array | None = None,
        lengths: Array | None = None,
        reset: Array | None = None,
        key: Array | None = None,
    ) -> tuple[tuple, PyTree]:
        checks.parts("serial", len(layers), params, state)
        new = []
        for layer, p, s, k in zip(layers, params, state, split(key, len(layers))):
            s, xs = inner.run(layer, p, s, xs, mask=mask, lengths=lengths, reset=reset, key=k)
            new.append(s)
        return tuple(new), xs

    return Layer(init, initial_state, apply)


@maker
def residual(module: Module) -> Module:
    """The output of a cell or a layer added to its input.

        y = x + F(x)

    F = 0 makes it the identity, and however deep the stack, gradients have a path on which nothing multiplies
    them.

    Args:
      module: F, whose output has the shape of its input.

    Returns:
      A cell if F is one, a layer if F is one, with F's params and state.

    Raises:
      TypeError: neither a cell nor a layer.
      ValueError: F changes the shape.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> layer = sj.residual(sj.dense(2, 2))
      >>> nothing = jax.tree.map(jnp.zeros_like, layer.init(jax.random.key(0)))
      >>> layer.apply(nothing, (), jnp.array([[1.0, 2.0]]))[1].tolist()
      [[1.0, 2.0]]

    References:
      He et al. (2016), Deep residual learning for image recognition. https://arxiv.org/abs/1512.03385
    """
    made: Any
    if isinstance(module, Cell):
        made = compose.residual(module)
        return made
    checks.instance("residual", module, Layer, "Pass a cell or a layer.")

    def apply(
        params: PyTree,
        state: PyTree,
        xs: PyTree,
        *,
        mask: Array | None = None,
        lengths: Array | None = None,
        reset: Array | None = None,
        key: Array | None = None,
    ) -> tuple[PyTree, PyTree]:
        state, ys = inner.run(module, params, state, xs, mask=mask, lengths=lengths, reset=reset, key=key)
        checks.same_shapes("residual", xs, ys)
        mask = masks.given("residual", mask, lengths, xs)
        ys = jax.tree.map(lambda x, y: x.astype(y.dtype) + y, xs, ys)
        return state, ys if mask is None else masks.zero(mask, ys)

    made = Layer(module.init, module.initial_state, apply)
    return made
