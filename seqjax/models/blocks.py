"""Blocks after published ones, around any cell."""

import functools

import jax

from seqjax import checks
from seqjax.base import Array, Layer, PyTree
from seqjax.cells.minimal_linear import mingru
from seqjax.cells.mlstm import mlstm
from seqjax.cells.rglru import rglru
from seqjax.cells.s5 import s5
from seqjax.cells.selective import selective_state_space
from seqjax.engines.plan import EngineName
from seqjax.layers.blocks import MakeCell, block
from seqjax.layers.compose import residual, serial
from seqjax.layers.gated import gated_mlp, self_gate
from seqjax.layers.normalized import layer_norm, rms_norm
from seqjax.layers.recurrence import recurrent
from seqjax.layers.self_attention import windowed_attention
from seqjax.layers.ticks import pointwise
from seqjax.records import maker


@maker
def griffin_block(
    size: int,
    *,
    cell: MakeCell = rglru,
    hidden_size: int | None = None,
    mlp_size: int | None = None,
    engine: EngineName = "auto",
    memory: str | int = "auto",
) -> Layer:
    """The residual block of Griffin and Hawk: a gated recurrence behind four ticks of convolution, then a GeGLU.

        x' = x + (gelu(n W_g) ⊙ cell(conv(n W_v))) W_o        n = rms_norm(x)
        y = x' + gated_mlp(rms_norm(x'))

    Args:
      size: d.
      cell: ``(input_size, hidden_size) -> Cell``; published with `seqjax.cells.rglru`.
      hidden_size: of the cell; 4 d / 3, rounded, if None.
      mlp_size: hidden units of the MLP; 3 d if None.
      engine: as in `seqjax.unroll`.
      memory: as in `seqjax.unroll`.

    Returns:
      A layer ``[T, *B, d]`` to ``[T, *B, d]``.

    Raises:
      ValueError: a size below 1.

    Example:
      >>> import jax, seqjax as sj
      >>> layer = sj.models.griffin_block(6)
      >>> layer.init(jax.random.key(0))[0][1].cell.decay.shape
      (8,)

    References:
      De et al. (2024), Griffin: mixing gated linear recurrences with local attention for efficient language models.
      https://arxiv.org/abs/2402.19427
    """
    checks.sizes("griffin_block", size=size)
    return block(
        cell,
        size,
        hidden_size=round(4 * size / 3) if hidden_size is None else hidden_size,
        mlp_size=3 * size if mlp_size is None else mlp_size,
        engine=engine,
        memory=memory,
    )


@maker
def mamba_block(
    size: int,
    *,
    cell: MakeCell = selective_state_space,
    hidden_size: int | None = None,
    engine: EngineName = "auto",
    memory: str | int = "auto",
) -> Layer:
    """The block of Mamba: twice the width, four ticks of convolution, SiLU behind it and in the gate, no MLP.

        y = x + (silu(n W_g) ⊙ cell(silu(conv(n W_v)))) W_o        n = rms_norm(x)

    Args:
      size: d.
      cell: ``(input_size, hidden_size) -> Cell``; published with `seqjax.cells.selective_state_space`.
      hidden_size: of the cell; 2 d if None.
      engine: as in `seqjax.unroll`.
      memory: as in `seqjax.unroll`.

    Returns:
      A layer ``[T, *B, d]`` to ``[T, *B, d]``.

    Raises:
      ValueError: a size below 1.

    Example:
      >>> import jax, seqjax as sj
      >>> layer = sj.models.mamba_block(6)
      >>> layer.init(jax.random.key(0))[1].cell.log_a.shape
      (12, 16)

    References:
      Gu and Dao (2023), Mamba: linear-time sequence modeling with selective state spaces.
      https://arxiv.org/abs/2312.00752
    """
    checks.sizes("mamba_block", size=size)
    return block(
        cell,
        size,
        hidden_size=2 * size if hidden_size is None else hidden_size,
        conv_activation=jax.nn.silu,
        gate=jax.nn.silu,
        engine=engine,
        memory=memory,
    )


@maker
def minimal_block(
    size: int,
    *,
    cell: MakeCell = mingru,
    hidden_size: int | None = None,
    mlp_size: int | None = None,
    engine: EngineName = "auto",
    memory: str | int = "auto",
) -> Layer:
    """A minimal recurrence behind four ticks of convolution, without a gate beside it, then an MLP.

        x' = x + cell(conv(n W_v)) W_o                   n = rms_norm(x)
        y = x' + gated_mlp(rms_norm(x'))

    Args:
      size: d.
      cell: ``(input_size, hidden_size) -> Cell``; published with `seqjax.cells.mingru` and `seqjax.cells.minlstm`.
      hidden_size: of the cell; d if None.
      mlp_size: hidden units of the MLP; 2 d if None.
      engine: as in `seqjax.unroll`.
      memory: as in `seqjax.unroll`.

    Returns:
      A layer ``[T, *B, d]`` to ``[T, *B, d]``.

    Raises:
      ValueError: a size below 1.

    Example:
      >>> import jax, seqjax as sj
      >>> layer = sj.models.minimal_block(6)
      >>> layer.init(jax.random.key(0))[0][1].cell.w_x.shape
      (6, 12)

    References:
      Feng et al. (2024), Were RNNs all we needed? https://arxiv.org/abs/2410.01201
    """
    checks.sizes("minimal_block", size=size)
    width = 2 * size if mlp_size is None else mlp_size
    return block(cell, size, hidden_size=hidden_size, mlp_size=width, gate=None, engine=engine, memory=memory)


@maker
def xlstm_block(
    size: int,
    *,
    heads: int = 4,
    cell: MakeCell | None = None,
    hidden_size: int | None = None,
    engine: EngineName = "auto",
    memory: str | int = "auto",
) -> Layer:
    """The block of xLSTM that projects up in front of its cell.

        u = silu(conv(n W_v))                                        n = layer_norm(x)
        y = x + (silu(n W_g) ⊙ (norm(cell(u)) + skip ⊙ u)) W_o       norm: head by head

    As published the values of the mLSTM are read in front of the convolution, and its output gate is the block's;
    here the cell reads u alone, and has what gates it has.

    Args:
      size: d.
      heads: of the norm behind the cell, and of the cell where none is given.
      cell: ``(input_size, hidden_size) -> Cell``; `seqjax.cells.mlstm` of so many heads if None.
      hidden_size: of the cell; 2 d if None.
      engine: as in `seqjax.unroll`.
      memory: as in `seqjax.unroll`.

    Returns:
      A layer ``[T, *B, d]`` to ``[T, *B, d]``.

    Raises:
      ValueError: a size below 1, or heads that do not divide the cell's.

    Example:
      >>> import jax, seqjax as sj
      >>> layer = sj.models.xlstm_block(6, heads=2)
      >>> layer.initial_state(layer.init(jax.random.key(0)), (3,))[1].cell.c.shape
      (3, 2, 6, 6)

    References:
      Beck et al. (2024), xLSTM: extended long short-term memory. https://arxiv.org/abs/2405.04517
    """
    checks.sizes("xlstm_block", size=size)
    width = 2 * size if hidden_size is None else hidden_size
    checks.heads("xlstm_block", width, heads)
    return block(
        functools.partial(mlstm, heads=heads) if cell is None else cell,
        size,
        hidden_size=width,
        norm="layer",
        conv_activation=jax.nn.silu,
        gate=jax.nn.silu,
        norm_heads=heads,
        skip=True,
        engine=engine,
        memory=memory,
    )


@maker
def s5_block(size: int, *, cell: MakeCell = s5, engine: EngineName = "auto", memory: str | int = "auto") -> Layer:
    """The layer of S5: a cell as wide as its inputs, and outputs that gate themselves.

        u = gelu(cell(layer_norm(x)))        y = x + u ⊙ σ(u W + b)

    Args:
      size: d.
      cell: ``(input_size, hidden_size) -> Cell``; published with `seqjax.cells.s5`.
      engine: as in `seqjax.unroll`.
      memory: as in `seqjax.unroll`.

    Returns:
      A layer ``[T, *B, d]`` to ``[T, *B, d]``.

    Raises:
      ValueError: a size below 1.

    Example:
      >>> import jax, seqjax as sj
      >>> layer = sj.models.s5_block(6)
      >>> layer.initial_state(layer.init(jax.random.key(0)))[1].dtype
      dtype('complex64')

    References:
      Smith, Warrington and Linderman (2022), Simplified state space layers for sequence modeling.
      https://arxiv.org/abs/2208.04933
    """
    checks.sizes("s5_block", size=size)
    run = recurrent(cell(size, size), engine=engine, memory=memory)
    return residual(serial(layer_norm(size), run, pointwise(_gelu), self_gate(size)))


@maker
def attention_block(
    size: int, *, heads: int = 4, window: int = 128, kv_heads: int | None = 1, mlp_size: int | None = None
) -> Layer:
    """The local attention block of Griffin, to measure recurrences against: the same frame, attention in the middle.

        x' = x + windowed_attention(rms_norm(x))        y = x' + gated_mlp(rms_norm(x'))

    Args:
      size: d.
      heads: of queries, a divisor of d.
      window: ticks that are seen, the present one included.
      kv_heads: heads of keys and values; None for as many as of queries.
      mlp_size: hidden units of the MLP; 3 d if None.

    Returns:
      A layer ``[T, *B, d]`` to ``[T, *B, d]``.

    Raises:
      ValueError: what `seqjax.layers.windowed_attention` refuses.

    Example:
      >>> import jax, seqjax as sj
      >>> layer = sj.models.attention_block(8, window=16)
      >>> layer.initial_state(layer.init(jax.random.key(0)), (3,))[0][1].ring.shape
      (3, 15, 4)

    References:
      De et al. (2024), Griffin: mixing gated linear recurrences with local attention for efficient language models.
      https://arxiv.org/abs/2402.19427
    """
    look = windowed_attention(size, heads, window, kv_heads=kv_heads)
    mlp = gated_mlp(size, 3 * size if mlp_size is None else mlp_size)
    return serial(residual(serial(rms_norm(size), look)), residual(serial(rms_norm(size), mlp)))


def _gelu(params: PyTree, xs: Array) -> Array:
    return jax.nn.gelu(xs)
