"""The temporal convolutional network: dilated causal convolutions in residual blocks, in chunks or by ticks."""

from collections.abc import Sequence
from typing import NamedTuple

import jax

from seqjax import checks, masks
from seqjax.base import Array, Layer, PyTree
from seqjax.layers import inner
from seqjax.layers.affine import DenseParams, dense
from seqjax.layers.compose import serial
from seqjax.layers.conv import causal_conv
from seqjax.layers.noise import dropout
from seqjax.layers.normalized import weight_norm as normalised
from seqjax.layers.ticks import pointwise
from seqjax.records import maker


class BlockParams(NamedTuple):
    """The two convolutions, and the map of the shortcut where sizes differ, else None."""

    body: tuple
    shortcut: DenseParams | None


@maker
def temporal_block(
    input_size: int, output_size: int, *, width: int, dilation: int, rate: float = 0.0, weight_norm: bool = True
) -> Layer[BlockParams, PyTree]:
    """Two dilated causal convolutions beside a shortcut.

        F(x) = dropout(relu(conv(dropout(relu(conv(x))))))      y = relu(F(x) + x S)      S = I if sizes agree

    Args:
      input_size: d.
      output_size: k.
      width: taps of each convolution.
      dilation: ticks from tap to tap.
      rate: of dropout.
      weight_norm: learn the convolutions' weights as length times direction (`seqjax.weight_norm`).

    Returns:
      A layer ``[T, *B, d]`` to ``[T, *B, k]``.

    Raises:
      ValueError: a size below 1, a width below 2, or a rate outside [0, 1).

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> block = sj.models.temporal_block(1, 4, width=2, dilation=2)
      >>> params = block.init(jax.random.key(0))
      >>> block.apply(params, block.initial_state(params), jnp.ones((7, 1)))[1].shape
      (7, 4)
    """
    convolutions = [causal_conv(d, output_size, width=width, dilation=dilation) for d in (input_size, output_size)]
    first, second = (normalised(conv) if weight_norm else conv for conv in convolutions)
    drops = [dropout(rate)] if rate else []
    body = serial(first, pointwise(_relu), *drops, second, pointwise(_relu), *drops)
    shortcut = None if input_size == output_size else dense(input_size, output_size)

    def init(key: Array) -> BlockParams:
        body_key, shortcut_key = jax.random.split(key)
        return BlockParams(body.init(body_key), None if shortcut is None else shortcut.init(shortcut_key))

    def initial_state(params: BlockParams, batch_shape: tuple[int, ...] = (), *, key: Array | None = None) -> PyTree:
        return body.initial_state(params.body, batch_shape, key=key)

    def apply(
        params: BlockParams,
        state: PyTree,
        xs: Array,
        *,
        mask: Array | None = None,
        lengths: Array | None = None,
        reset: Array | None = None,
        key: Array | None = None,
    ) -> tuple[PyTree, Array]:
        state, ys = inner.run(body, params.body, state, xs, mask=mask, lengths=lengths, reset=reset, key=key)
        mask = masks.given("temporal_block", mask, lengths, xs)
        if shortcut is None:
            past = xs.astype(ys.dtype) if mask is None else masks.zero(mask, xs.astype(ys.dtype))
        else:
            assert params.shortcut is not None  # init draws them together
            _, past = shortcut.apply(params.shortcut, (), xs, mask=mask)
        return state, jax.nn.relu(ys + past)

    return Layer(init, initial_state, apply)


@maker
def temporal_convolution(
    input_size: int, channels: Sequence[int], *, width: int = 7, dropout: float = 0.0, weight_norm: bool = True
) -> Layer:
    """A stack of temporal blocks, the dilation doubling from block to block.

    It sees the last `receptive_field` ticks, the present one included, and nothing before. Tick by tick its
    state is a ring of past inputs a convolution; outputs are those of whole chunks.

    Args:
      input_size: d.
      channels: output size of each block.
      width: taps of each convolution.
      dropout: rate behind each convolution.
      weight_norm: learn the convolutions' weights as length times direction (`seqjax.weight_norm`).

    Returns:
      A layer ``[T, *B, d]`` to ``[T, *B, channels[-1]]``.

    Raises:
      ValueError: no block, a size below 1, a width below 2, or a rate outside [0, 1).

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> model = sj.serial(sj.models.temporal_convolution(1, [25] * 8, width=7), sj.dense(25, 10))
      >>> sj.models.receptive_field(8, width=7)
      3061

    References:
      Bai, Kolter and Koltun (2018), An empirical evaluation of generic convolutional and recurrent networks
      for sequence modeling. https://arxiv.org/abs/1803.01271
      Salimans and Kingma (2016), Weight normalization. https://arxiv.org/abs/1602.07868
    """
    checks.sizes("temporal_convolution", blocks=len(channels))
    sizes = [input_size, *channels]
    return serial(
        *(
            temporal_block(d, k, width=width, dilation=2**i, rate=dropout, weight_norm=weight_norm)
            for i, (d, k) in enumerate(zip(sizes, channels))
        )
    )


def receptive_field(blocks: int, *, width: int = 7) -> int:
    """How many ticks, the present one included, an output of `temporal_convolution` depends on.

    Two convolutions a block, of dilations 1, 2, … 2^(blocks-1): 1 + 2 (width - 1)(2^blocks - 1).

    Example:
      >>> receptive_field(2, width=3)
      13
    """
    checks.sizes("receptive_field", blocks=blocks, width=width)
    return 1 + 2 * (width - 1) * (2**blocks - 1)


def _relu(params: PyTree, xs: Array) -> Array:
    return jax.nn.relu(xs)
