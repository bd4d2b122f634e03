"""Sequence to sequence: one network reads, another writes."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from seqjax import checks, masks
from seqjax.base import Array, Cell, Layer, PyTree, drawn_state
from seqjax.cells.lstm import lstm
from seqjax.layers.affine import DenseParams, dense
from seqjax.layers.attention import AttendState, Memory, attend
from seqjax.layers.directions import bidirectional
from seqjax.layers.inner import split
from seqjax.layers.noise import dropout as drop
from seqjax.layers.recurrence import recurrent
from seqjax.layers.symbols import EmbeddingParams, embedding
from seqjax.models.body import MakeCell
from seqjax.models.conditional import Conditional
from seqjax.records import maker
from seqjax.transforms.compose import stack

Context = Literal["state", "every_tick", "attention"]


class Source(NamedTuple):
    """What is read: ``symbols [S, *B]``, and ``mask [S, *B]`` (True = real) or ``lengths [*B]``; neither if all are."""

    symbols: Array
    mask: Array | None = None
    lengths: Array | None = None


class DecoderParams(NamedTuple):
    """The decoder's parameters, and the summary ``[*B, m]`` that every tick sees, or None."""

    embedding: EmbeddingParams
    cell: PyTree
    readout: DenseParams
    summary: Array | None


class EncoderDecoderParams(NamedTuple):
    """The reader's embedding and cells, and the writer's parameters: nothing is shared."""

    embedding: EmbeddingParams
    encoder: PyTree
    decoder: DecoderParams


@maker
def encoder_decoder(
    source_size: int,
    target_size: int,
    hidden_size: int,
    *,
    embedding_size: int | None = None,
    context: Context = "state",
    cell: MakeCell = lstm,
    layers: int = 1,
    reverse_source: bool = False,
    both_ways: bool = False,
    dropout: float = 0.0,
) -> Conditional:
    """Two networks with their own weights: the first reads, the second writes from what the first ends with.

        state        s_0 = the encoder's last state                                        Sutskever
        every_tick   the same, and every tick reads [e(y_{t-1}), m], m the encoder's last output     Cho
        attention    the same, and every tick looks at all outputs of the encoder (`seqjax.attend`)  Bahdanau

    The logits are read from h_t, from [h_t, m], or from [h_t, c_t].

    Args:
      source_size: symbols of the source.
      target_size: symbols of the target.
      hidden_size: units a layer.
      embedding_size: features a symbol; ``hidden_size`` if None.
      context: ``"state"``, ``"every_tick"`` or ``"attention"``.
      cell: ``(input_size, hidden_size) -> Cell`` whose output has that size.
      layers: recurrent layers of each network.
      reverse_source: read the source from its end, so that first words are near first words.
      both_ways: read it in both directions; the forward half hands its state over.
      dropout: rate on the embeddings and before the logits.

    Returns:
      A `Conditional` whose condition is a `Source`.

    Raises:
      ValueError: a size below 1, an unknown context, a rate outside [0, 1), or both orders of reading at
        once.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> model = sj.models.encoder_decoder(12, 10, 16, context="attention")
      >>> params = model.init(jax.random.key(0))
      >>> source = sj.models.Source(jnp.ones((7, 2), int))
      >>> decoder_params, state = model.encode(params, source)
      >>> found = sj.beam_search(model.decoder, decoder_params, state, 2, length=5, width=3, eos=3)
      >>> found.symbols.shape
      (3, 5, 2)

    References:
      Sutskever, Vinyals and Le (2014), Sequence to sequence learning with neural networks.
      https://arxiv.org/abs/1409.3215
      Cho et al. (2014), Learning phrase representations using RNN encoder-decoder. https://arxiv.org/abs/1406.1078
      Bahdanau, Cho and Bengio (2015), Neural machine translation by jointly learning to align and translate.
      https://arxiv.org/abs/1409.0473
    """
    checks.sizes("encoder_decoder", source_size=source_size, target_size=target_size, hidden_size=hidden_size)
    checks.sizes("encoder_decoder", layers=layers)
    checks.choice("encoder_decoder", "context", context, ("state", "every_tick", "attention"))
    if reverse_source and both_ways:
        raise ValueError(
            "encoder_decoder: expected reverse_source or both_ways, got both. One of them reads from the end."
        )
    size = hidden_size if embedding_size is None else embedding_size
    memory_size = hidden_size * (1 + both_ways)
    read_symbols, drops = embedding(source_size, size), drop(dropout)

    def cells(input_size: int) -> Cell:
        sizes = [input_size] + [hidden_size] * (layers - 1)
        return stack(*(cell(d, hidden_size) for d in sizes))

    encoder = bidirectional(cells(size), cells(size)) if both_ways else recurrent(cells(size), reverse=reverse_source)
    seen = 0 if context == "state" else memory_size
    decoder = writer(target_size, size, hidden_size, seen, cells(size + seen), context, dropout)

    def init(key: Array) -> EncoderDecoderParams:
        keys = jax.random.split(key, 3)
        return EncoderDecoderParams(read_symbols.init(keys[0]), encoder.init(keys[1]), decoder.init(keys[2]))

    def encode(
        params: EncoderDecoderParams, condition: Source, *, key: Array | None = None
    ) -> tuple[DecoderParams, PyTree]:
        if not isinstance(condition, tuple) or len(condition) not in (2, 3):
            raise TypeError(
                f"encoder_decoder: expected a Source(symbols, mask) to read, got {type(condition).__name__}. "
                "Wrap the symbols: Source(symbols)."
            )
        symbols, mask, lengths = Source(*condition)
        given: dict[str, Any] = {"mask": mask, "lengths": lengths}
        batch = symbols.shape[1:]
        drop_key, state_key, write_key = split(key, 3)
        _, xs = read_symbols.apply(params.embedding, (), symbols, **given)
        _, xs = drops.apply((), (), xs, **given, key=drop_key)
        state = drawn_state(encoder, params.encoder, batch, state_key)
        state, values = encoder.apply(params.encoder, state, xs, **given)
        mask = masks.given("encoder_decoder", mask, lengths, values)
        last = state.forward if both_ways else state
        summary = None if context != "every_tick" else _summary(values, mask, hidden_size, reverse_source)
        memory = Memory(values, mask) if context == "attention" else None
        return hand_over(decoder, params.decoder, last, summary, memory, write_key)

    return Conditional(init, encode, decoder)


@maker
def writer(
    target_size: int,
    embedding_size: int,
    hidden_size: int,
    memory_size: int,
    cell: Cell,
    context: Context,
    rate: float,
) -> Layer[DecoderParams, PyTree]:
    """The decoder: symbols to logits, its context in the parameters.

    Args:
      target_size: symbols.
      embedding_size: features a symbol.
      hidden_size: units.
      memory_size: of the summary or of the memory; 0 where there is none.
      cell: reads an embedding and a summary or a piece of memory; its output has size ``hidden_size``.
      context: as in `encoder_decoder`.
      rate: of dropout.

    Returns:
      A layer with `DecoderParams`.
    """
    symbols = embedding(target_size, embedding_size)
    if context == "attention":
        cell = attend(cell, hidden_size, memory_size, hidden_size)
    run, drops = recurrent(cell), drop(rate)
    readout = dense(hidden_size + memory_size, target_size)

    def init(key: Array) -> DecoderParams:
        keys = jax.random.split(key, 3)
        return DecoderParams(symbols.init(keys[0]), cell.init(keys[1]), readout.init(keys[2]), None)

    def check_encoded(params: DecoderParams) -> None:
        without = (
            params.summary is None if context == "every_tick" else context == "attention" and params.cell.memory is None
        )
        if without:
            raise ValueError(
                "decoder: expected parameters with what was read inside, got them without. "
                "Take those that encode(params, condition) returns."
            )

    def initial_state(params: DecoderParams, batch_shape: tuple[int, ...] = (), *, key: Array | None = None) -> PyTree:
        if context == "attention":
            check_encoded(params)
        return cell.initial_state(params.cell, batch_shape, key=key)

    def apply(
        params: DecoderParams,
        state: PyTree,
        xs: Array,
        *,
        mask: Array | None = None,
        lengths: Array | None = None,
        reset: Array | None = None,
        key: Array | None = None,
    ) -> tuple[PyTree, Array]:
        check_encoded(params)
        first_key, last_key = split(key, 2)
        given: dict[str, Any] = {"mask": mask, "lengths": lengths}
        _, es = symbols.apply(params.embedding, (), xs, **given)
        _, es = drops.apply((), (), es, **given, key=first_key)
        if params.summary is not None:
            seen = jnp.broadcast_to(params.summary, (*es.shape[:-1], memory_size))
            es = jnp.concatenate([es, seen.astype(es.dtype)], axis=-1)
        state, hs = run.apply(params.cell, state, es, **given, reset=reset)
        if params.summary is not None:
            hs = jnp.concatenate([hs, seen.astype(hs.dtype)], axis=-1)
        _, hs = drops.apply((), (), hs, **given, key=last_key)
        _, logits = readout.apply(params.readout, (), hs, **given)
        return state, logits

    return Layer(init, initial_state, apply)


def hand_over(
    decoder: Layer,
    params: DecoderParams,
    state: PyTree | None,
    summary: Array | None,
    memory: Memory | None,
    key: Array | None,
) -> tuple[DecoderParams, PyTree]:
    """The decoder's parameters with the context inside, and the state it starts from; None for its own initial one."""
    params = params._replace(summary=summary)
    if memory is not None:
        params = params._replace(cell=params.cell._replace(memory=memory))
        batch = memory.values.shape[1:-1]
        fresh = drawn_state(decoder, params, batch, key)
        return params, fresh if state is None else AttendState(state, fresh.context, fresh.weights)
    return params, state


def _summary(values: Array, mask: Array | None, hidden_size: int, reverse: bool) -> Array:
    """What the encoder ended with: the last real output forwards, the first one backwards."""
    forward, backward = values[..., :hidden_size], values[..., hidden_size:]
    if mask is None:
        first = jnp.zeros(values.shape[1:-1], jnp.int32)
        last = first + values.shape[0] - 1
    else:
        first = jnp.argmax(mask, axis=0)
        last = values.shape[0] - 1 - jnp.argmax(mask[::-1], axis=0)
    ends = [_at(forward, first if reverse else last)]
    if backward.shape[-1]:
        ends.append(_at(backward, first))
    summary = jnp.concatenate(ends, axis=-1)
    return summary if mask is None else masks.zero(mask.any(0), summary)


def _at(values: Array, tick: Array) -> Array:
    return jnp.take_along_axis(values, tick[None, ..., None], 0)[0]
