"""Language models: the next symbol from all symbols so far, or from the last few."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from seqjax import checks
from seqjax.base import Array, Layer, PyTree
from seqjax.cells.lstm import lstm
from seqjax.engines.plan import EngineName
from seqjax.layers.affine import dense
from seqjax.layers.compose import serial
from seqjax.layers.conv import causal_conv
from seqjax.layers.recurrence import recurrent
from seqjax.layers.symbols import look_up, standard_normal, tied_embedding
from seqjax.layers.ticks import pointwise
from seqjax.models.body import MakeCell, deep
from seqjax.models.deep_blocks import MakeBlock, deep_blocks
from seqjax.records import maker
from seqjax.transforms.compose import stack
from seqjax.transforms.functions import memoryless

NOTHING = -1
FEW = 1024  # symbols up to which another row in front of a look-up costs nothing beside a tick


class SymbolParams(NamedTuple):
    """``w [v, d]``: one row a symbol."""

    w: Array


@maker
def symbols_or_nothing(vocabulary_size: int, size: int) -> Layer[SymbolParams, tuple]:
    """An embedding that reads -1, no symbol, as the zero vector.

        y = W[x] for x = 0 … v-1      y = 0 for x = -1

    It serves models that start from nothing instead of a symbol for the beginning.

    Args:
      vocabulary_size: v.
      size: d.

    Returns:
      A layer with empty state, ``[T, *B]`` of integers to ``[T, *B, d]``.

    Raises:
      ValueError: a size below 1.
      TypeError: inputs that are not integers.
    """
    checks.sizes("symbols_or_nothing", vocabulary_size=vocabulary_size, size=size)
    init, function = _symbols(vocabulary_size, size)
    return pointwise(function, init)


def _symbols(vocabulary_size: int, size: int) -> tuple[Callable, Callable]:
    """Parameters and function of `symbols_or_nothing`.

    One more row, of zeros, is what -1 looks up: so it stays a look-up, which the split engine multiplies by the next
    weights in advance. A matrix of many rows is not copied for that.
    """

    def init(key: Array) -> SymbolParams:
        return SymbolParams(standard_normal(key, (vocabulary_size, size), jnp.zeros(()).dtype))

    def function(params: SymbolParams, xs: Array) -> Array:
        xs = checks.symbols("symbols_or_nothing", xs)
        if vocabulary_size > FEW:
            nothing = xs == NOTHING
            ys = look_up("symbols_or_nothing", params.w, jnp.where(nothing, 0, xs))
            return jnp.where(nothing[..., None], jnp.zeros((), ys.dtype), ys)
        rows = jnp.concatenate([params.w, jnp.zeros_like(params.w[:1])])
        outside = vocabulary_size + 1
        places = jnp.where((xs < 0) | (xs >= vocabulary_size), outside, xs)
        return look_up("symbols_or_nothing", rows, jnp.where(xs == NOTHING, vocabulary_size, places))

    return init, function


@maker
def language_model(
    vocabulary_size: int,
    hidden_size: int,
    *,
    embedding_size: int | None = None,
    cell: MakeCell = lstm,
    block: MakeBlock | None = None,
    layers: int = 1,
    dropout: float = 0.0,
    tied: bool = False,
    engine: EngineName = "auto",
    memory: str | int = "auto",
) -> Layer:
    """A recurrent language model of characters or words.

        p(w_{t+1} | w_1 … w_t) = softmax(h_t W + b)      h_t = deep(embedding(w_t), state_{t-1})

    Feed it a text and train it on the text moved by one symbol. It starts from a symbol such as ``<bos>``, or
    from `NOTHING` (-1, a zero vector) where weights are not tied. With blocks h is that of `deep_blocks`.

    Args:
      vocabulary_size: v.
      hidden_size: units a layer; features of inputs and outputs of a block.
      embedding_size: features a symbol; ``hidden_size`` if None. In front of blocks of another size stands a `dense`.
      cell: ``(input_size, hidden_size) -> Cell``.
      block: ``hidden_size -> Layer`` in the place of cells, such as `griffin_block`; cell, engine and memory are its
        own: ``functools.partial(griffin_block, cell=sj.gru)``.
      layers: recurrent layers, or blocks.
      dropout: rate between layers (Zaremba et al. 2014).
      tied: use the embedding as output matrix too; needs ``embedding_size`` = ``hidden_size``.
      engine: as in `seqjax.unroll`.
      memory: as in `seqjax.unroll`.

    Returns:
      A layer from symbols ``[T, *B]`` to logits ``[T, *B, v]``.

    Raises:
      ValueError: a vocabulary of fewer than two symbols, a size below 1, tied weights of different sizes, or a block
        together with a cell, an engine or a memory.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> model = sj.models.language_model(65, 16)
      >>> params = model.init(jax.random.key(0))
      >>> state, logits = model.apply(params, model.initial_state(params, (2,)), jnp.zeros((5, 2), int))
      >>> logits.shape
      (5, 2, 65)

    References:
      Mikolov et al. (2010), Recurrent neural network based language model.
      https://doi.org/10.21437/Interspeech.2010-343
      Graves (2013), Generating sequences with recurrent neural networks. https://arxiv.org/abs/1308.0850
    """
    _two("language_model", vocabulary_size)
    size = hidden_size if embedding_size is None else embedding_size
    checks.sizes("language_model", hidden_size=hidden_size, embedding_size=size, layers=layers)
    if block is not None and (cell is not lstm or engine != "auto" or memory != "auto"):
        raise ValueError(
            "language_model: expected a block, or a cell with its engine and memory, got both. Give them to the block: "
            "block=functools.partial(griffin_block, cell=…)."
        )
    if block is None and not tied and not dropout:
        # One recurrence with its embedding: the split engine multiplies rows of the matrix, not every symbol's.
        _, function = _symbols(vocabulary_size, size)
        symbols = memoryless(function, symbols_or_nothing(vocabulary_size, size).init)
        cells = [cell(below, hidden_size) for below in [size] + [hidden_size] * (layers - 1)]
        cells[0] = stack(symbols, cells[0])
        recurrences = [recurrent(cell, engine=engine, memory=memory) for cell in cells]
        return serial(*recurrences, dense(hidden_size, vocabulary_size))
    if block is None:
        body = deep(size, hidden_size, cell=cell, layers=layers, rate=dropout, engine=engine, memory=memory)
    else:
        body = deep_blocks(hidden_size, block=block, layers=layers, rate=dropout)
        body = body if size == hidden_size else serial(dense(size, hidden_size), body)
    if not tied:
        return serial(symbols_or_nothing(vocabulary_size, size), body, dense(hidden_size, vocabulary_size))
    if size != hidden_size:
        raise ValueError(
            f"language_model: expected embedding_size={hidden_size} like hidden_size for tied weights, got "
            f"{size}. Leave embedding_size out."
        )
    return tied_embedding(vocabulary_size, size, body)


@maker
def fixed_window_model(
    vocabulary_size: int, hidden_size: int, *, window: int, embedding_size: int | None = None
) -> Layer:
    """A language model without memory: the next symbol from the last n, an n-gram model with shared features.

        p(w_{t+1} | w_{t-n+1} … w_t) = softmax(tanh([e_{t-n+1} … e_t] W + b) V + c)

    Args:
      vocabulary_size: v.
      hidden_size: units of the hidden layer.
      window: n; 1 for the next symbol given the present one, p(w_{t+1} | w_t).
      embedding_size: features a symbol; ``hidden_size`` if None.

    Returns:
      A layer from symbols ``[T, *B]`` to logits ``[T, *B, v]``; its state holds the last n-1 embeddings.

    Raises:
      ValueError: a vocabulary of fewer than two symbols or a size below 1.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> model = sj.models.fixed_window_model(5, 8, window=3)
      >>> params = model.init(jax.random.key(0))
      >>> model.apply(params, model.initial_state(params), jnp.arange(5))[1].shape
      (5, 5)

    References:
      Bengio et al. (2003), A neural probabilistic language model.
      https://jmlr.org/papers/v3/bengio03a.html
    """
    _two("fixed_window_model", vocabulary_size)
    checks.sizes("fixed_window_model", hidden_size=hidden_size, window=window)
    size = hidden_size if embedding_size is None else embedding_size
    return serial(
        symbols_or_nothing(vocabulary_size, size),
        causal_conv(size, hidden_size, width=window) if window > 1 else dense(size, hidden_size),
        pointwise(_tanh),
        dense(hidden_size, vocabulary_size),
    )


def _tanh(params: PyTree, xs: Array) -> Array:
    return jnp.tanh(xs)


def _two(who: str, vocabulary_size: int) -> None:
    checks.sizes(who, vocabulary_size=vocabulary_size)
    if vocabulary_size < 2:
        raise ValueError(
            f"{who}: expected a vocabulary of at least two symbols, got {vocabulary_size}. "
            "With one symbol there is nothing to predict."
        )
