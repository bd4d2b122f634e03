"""Layers: a chunk of ticks at a time. Time is scanned (`recurrent`) or mapped (`pointwise`); `serial` chains them.

A model is written from its input to its output, and run on a chunk ``[T, *B, ...]`` with the state before it:

    >>> import jax, jax.numpy as jnp, seqjax as sj
    >>> model = sj.serial(
    ...     sj.layers.embedding(65, 8),
    ...     sj.layers.bidirectional(sj.lstm(8, 16), sj.lstm(8, 16)),
    ...     sj.layers.dropout(0.5),
    ...     sj.layers.dense(32, 5),
    ... )
    >>> params = model.init(jax.random.key(0))
    >>> state = model.initial_state(params, (2,))
    >>> state, ys = model.apply(params, state, jnp.zeros((7, 2), int), lengths=jnp.array([7, 4]))
    >>> ys.shape
    (7, 2, 5)

Padding is told as ``lengths [*B]`` or as ``mask [T, *B]``, segments as ``reset [T, *B]``; whatever a layer is made of
hands them on. In order of reading:

- `recurrent`: a cell along time. (recurrence)
- `pointwise`: any function at every tick; `dense`, `embedding`, `layer_norm`, `rms_norm` and `dropout` are such.
  (ticks, affine, symbols, normalized, noise)
- `serial`, `residual`: layers from layers. (compose; inner, how they call the layers they hold)
- `bidirectional`: both directions. (directions)
- `causal_conv`, `windowed_attention`: a window over the last ticks, with weights that are learned or chosen by what is
  there. (conv, self_attention; ring, how both remember it)
- `feed_forward`, `tied_embedding`, `weight_norm`: small things made of those above.
- `input_batch_norm`: a cell whose input products are normalised over the batch; the only layer that mixes examples, but
  for one given the statistics of training by `with_statistics`. (batch_normalized)
- `gated_mlp`, `self_gate`, `gated_recurrence`, and `block` around any cell: what stands around recurrences in deep
  networks. (gated, blocks)
- `attend`: a cell that looks something up in a memory. (attention)
"""

from seqjax.layers.affine import DenseParams, dense, feed_forward
from seqjax.layers.attention import AttendParams, AttendState, Memory, attend
from seqjax.layers.batch_normalized import (
    InputBatchNormParams,
    InputBatchNormState,
    Statistics,
    input_batch_norm,
    with_statistics,
)
from seqjax.layers.blocks import GatedRecurrenceParams, GatedRecurrenceState, block, gated_recurrence
from seqjax.layers.compose import residual, serial
from seqjax.layers.conv import ConvParams, ConvState, causal_conv
from seqjax.layers.directions import BidirectionalEnds, BidirectionalParams, BidirectionalState, bidirectional, reverse
from seqjax.layers.gated import GatedParams, gated_mlp, self_gate
from seqjax.layers.noise import dropout
from seqjax.layers.normalized import (
    LayerNormParams,
    RMSNormParams,
    WeightNormParams,
    layer_norm,
    rms_norm,
    weight_norm,
)
from seqjax.layers.recurrence import recurrent
from seqjax.layers.self_attention import AttentionParams, AttentionState, windowed_attention
from seqjax.layers.symbols import EmbeddingParams, TiedParams, embedding, tied_embedding
from seqjax.layers.ticks import pointwise

__all__ = [
    "AttendParams",
    "AttendState",
    "AttentionParams",
    "AttentionState",
    "BidirectionalEnds",
    "BidirectionalParams",
    "BidirectionalState",
    "ConvParams",
    "ConvState",
    "DenseParams",
    "EmbeddingParams",
    "GatedParams",
    "GatedRecurrenceParams",
    "GatedRecurrenceState",
    "InputBatchNormParams",
    "InputBatchNormState",
    "LayerNormParams",
    "Memory",
    "RMSNormParams",
    "Statistics",
    "TiedParams",
    "WeightNormParams",
    "attend",
    "bidirectional",
    "block",
    "causal_conv",
    "dense",
    "dropout",
    "embedding",
    "feed_forward",
    "gated_mlp",
    "gated_recurrence",
    "input_batch_norm",
    "layer_norm",
    "pointwise",
    "recurrent",
    "residual",
    "reverse",
    "rms_norm",
    "self_gate",
    "serial",
    "tied_embedding",
    "weight_norm",
    "windowed_attention",
    "with_statistics",
]
