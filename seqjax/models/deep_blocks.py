"""The deep body that is made of blocks."""

from collections.abc import Callable

from seqjax import checks
from seqjax.base import Layer
from seqjax.layers.compose import serial
from seqjax.layers.noise import dropout
from seqjax.layers.normalized import rms_norm
from seqjax.records import maker

MakeBlock = Callable[[int], Layer]


@maker
def deep_blocks(size: int, *, block: MakeBlock, layers: int = 1, rate: float = 0.0) -> Layer:
    """Blocks on top of each other, dropout behind each, a norm behind the last.

        h^0 = x      h^l = dropout(block(h^{l-1}))      y = rms_norm(h^L)

    Args:
      size: d, of inputs and outputs.
      block: ``size -> Layer``, such as `griffin_block`; with options of its own as
        ``functools.partial(griffin_block, cell=sj.gru)``.
      layers: L.
      rate: probability of dropping.

    Returns:
      A layer ``[T, *B, d]`` to ``[T, *B, d]``.

    Raises:
      ValueError: a size below 1 or a rate outside [0, 1).

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> body = sj.models.deep_blocks(8, block=sj.models.mamba_block, layers=2)
      >>> params = body.init(jax.random.key(0))
      >>> body.apply(params, body.initial_state(params, (2,)), jnp.ones((5, 2, 8)))[1].shape
      (5, 2, 8)
    """
    checks.sizes("deep_blocks", size=size, layers=layers)
    checks.rate("deep_blocks", rate)
    drop = [dropout(rate)] if rate else []
    parts = [part for _ in range(layers) for part in (block(size), *drop)]
    return serial(*parts, rms_norm(size))
