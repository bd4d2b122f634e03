"""Pictures to words: a convolutional reader, a recurrent writer."""

import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn.initializers import he_normal

from seqjax import checks
from seqjax.base import Array, Cell, PyTree, drawn_state
from seqjax.cells.lstm import lstm
from seqjax.layers.affine import DenseParams, dense
from seqjax.layers.attention import Memory
from seqjax.layers.inner import split
from seqjax.layers.recurrence import recurrent
from seqjax.models.body import MakeCell
from seqjax.models.conditional import Conditional
from seqjax.models.encoder_decoder import Context, DecoderParams, hand_over, writer
from seqjax.products import add_bias
from seqjax.records import maker


class Kernel(NamedTuple):
    """``w [3, 3, c, k]``, ``b [k]``."""

    w: Array
    b: Array


class CaptionerParams(NamedTuple):
    """The kernels of the reader, the map from its columns to the writer's features, and the writer."""

    kernels: tuple[Kernel, ...]
    columns: DenseParams
    decoder: DecoderParams


@maker
def captioner(
    height: int,
    width: int,
    target_size: int,
    hidden_size: int,
    *,
    channels: tuple[int, ...] = (16, 32),
    context: Literal["attention", "every_tick", "state", "first"] = "attention",
    colours: int | None = None,
    cell: MakeCell = lstm,
    dropout: float = 0.0,
) -> Conditional:
    """Describes a picture in words: one to many.

        a^l = maxpool_2(relu(conv_3×3(a^{l-1})))      m_s = tanh(W · column s of a^L)

        s_0 = tanh(W · a^L)  or  step(initial state, tanh(W · a^L))                    seen once

    The picture's columns, from left to right, are the writer's memory: with ``"attention"`` it looks at them,
    with ``"every_tick"`` it sees their mean at every tick. With ``"state"`` and ``"first"`` it sees the picture once,
    all columns side by side: as the state that it starts from, or as what it reads before the first symbol.

    Args:
      height: of the pictures.
      width: of the pictures.
      target_size: symbols of the captions.
      hidden_size: units of the writer, and features a column.
      channels: of each convolution; each halves height and width, rounding up.
      context: ``"attention"``, ``"every_tick"``, ``"state"`` or ``"first"``.
      colours: of each pixel, 3 for red, green and blue; None for pictures without such an axis.
      cell: ``(input_size, hidden_size) -> Cell``.
      dropout: rate on the embeddings and before the logits.

    Returns:
      A `Conditional` whose condition is pictures ``[*B, height, width]`` of floats, ``[*B, height, width, colours]``
      where they have some.

    Raises:
      ValueError: a size below 1, an unknown context, or pictures of another size.
      TypeError: ``"state"`` with a cell whose state is not all floats.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> model = sj.models.captioner(11, 35, 14, 16)
      >>> params = model.init(jax.random.key(0))
      >>> decoder_params, state = model.encode(params, jnp.zeros((2, 11, 35)))
      >>> sj.sample(model.decoder, decoder_params, state, 2, length=6, eos=3).symbols.shape
      (6, 2)

    References:
      Vinyals et al. (2015), Show and tell: a neural image caption generator. https://arxiv.org/abs/1411.4555
      Xu et al. (2015), Show, attend and tell. https://arxiv.org/abs/1502.03044
    """
    checks.sizes("captioner", height=height, width=width, target_size=target_size, hidden_size=hidden_size)
    checks.sizes("captioner", **{f"channels[{i}]": size for i, size in enumerate(channels)})
    checks.choice("captioner", "context", context, ("attention", "every_tick", "state", "first"))
    if colours is not None:
        checks.sizes("captioner", colours=colours)
    rows, places, pixel = height, width, () if colours is None else (colours,)
    for _ in channels:
        rows, places = -(-rows // 2), -(-places // 2)

    depths = (colours or 1, *channels)
    once = context in ("state", "first")
    writes = cell(hidden_size if once else 2 * hidden_size, hidden_size)
    parts, tree = _parts(writes) if context == "state" else ([], None)
    found = rows * depths[-1] * (places if once else 1)
    columns = dense(found, sum(map(math.prod, parts)) or hidden_size, activation=jnp.tanh)
    remembered = 0 if once else hidden_size
    sees: Context = "state" if context == "first" else context
    decoder = writer(target_size, hidden_size, hidden_size, remembered, writes, sees, dropout)

    def init(key: Array) -> CaptionerParams:
        keys = jax.random.split(key, len(channels) + 2)
        kind = jnp.zeros(()).dtype
        draw = he_normal(in_axis=(0, 1, 2), out_axis=3)
        kernels = tuple(
            Kernel(draw(k, (3, 3, c, d), kind), jnp.zeros(d, kind)) for k, c, d in zip(keys, depths, channels)
        )
        return CaptionerParams(kernels, columns.init(keys[-2]), decoder.init(keys[-1]))

    def encode(params: CaptionerParams, condition: Array, *, key: Array | None = None) -> tuple[DecoderParams, PyTree]:
        size = (height, width, *pixel)
        if np.shape(condition)[-len(size) :] != size:
            raise ValueError(
                f"captioner: expected pictures [*batch, {', '.join(map(str, size))}], got shape "
                f"{np.shape(condition)}. "
                "Scale or pad them to one size."
            )
        checks.floats("captioner", condition)
        batch = condition.shape[: -len(size)]
        a = condition.reshape(math.prod(batch), height, width, depths[0]).astype(params.columns.w.dtype)
        for kernel in params.kernels:
            a = jax.lax.conv_general_dilated(a, kernel.w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
            a = jax.nn.relu(add_bias(a, kernel.b))
            a = jax.lax.reduce_window(a, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "SAME")
        a = jnp.moveaxis(a, 2, 0).reshape(places, *batch, rows * depths[-1])
        if once:
            a = jnp.moveaxis(a, 0, -2).reshape(1, *batch, found)
        _, values = columns.apply(params.columns, (), a)
        (write_key,) = split(key, 1)
        if context == "state":
            ends = np.cumsum([math.prod(part) for part in parts])[:-1]
            pieces = jnp.split(values[0], ends, axis=-1)
            leaves = [piece.reshape(*batch, *part) for piece, part in zip(pieces, parts)]
            return hand_over(decoder, params.decoder, jax.tree.unflatten(tree, leaves), None, None, write_key)
        if context == "attention":
            return hand_over(decoder, params.decoder, None, None, Memory(values), write_key)
        start = drawn_state(decoder, params.decoder, batch, write_key)
        if context == "first":
            start, _ = recurrent(writes).apply(params.decoder.cell, start, values)
            return hand_over(decoder, params.decoder, start, None, None, write_key)
        return hand_over(decoder, params.decoder, start, values.mean(0), None, write_key)

    return Conditional(init, encode, decoder)


def _parts(cell: Cell) -> tuple[list[tuple[int, ...]], Any]:
    """The shapes of the leaves of a cell's state, and their tree."""
    leaves, tree = jax.tree.flatten(jax.eval_shape(lambda key: cell.initial_state(cell.init(key)), jax.random.key(0)))
    if not leaves or not all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves):
        raise TypeError(
            f"captioner: expected a cell whose state is floats, to start from a picture, got {cell}. "
            'Take context="first".'
        )
    return [leaf.shape for leaf in leaves], tree
