"""Beam search: the best sequences that keeping the K best beginnings finds."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax import checks
from seqjax.base import Array, Cell, Layer, PyTree
from seqjax.buffers import owning
from seqjax.decoding.problem import Given, Options, Reader, as_symbols, forced, options, prepare, read, start
from seqjax.decoding.ranking import largest
from seqjax.decoding.rules import Rule
from seqjax.products import along


class Hypotheses(NamedTuple):
    """The best sequences found, best first; K leads.

    Attributes:
      symbols: ``[K, L, *B]`` of int32; ``<eos>`` and, behind it, more of the same.
      lengths: ``[K, *B]``, how many of them are real, ``<eos>`` included.
      scores: ``[K, *B]``, what they are ranked by: log p / penalty(length); -∞ where fewer than K were found.
      log_probs: ``[K, *B]``, Σ log p(symbol) by the model itself.
    """

    symbols: Array
    lengths: Array
    scores: Array
    log_probs: Array


@owning
def beam_search(
    model: Cell | Layer,
    params: PyTree,
    state: PyTree,
    first: Array,
    *,
    length: int,
    width: int,
    eos: int | None = None,
    length_penalty: float | Array = 0.0,
    prefix: Array | None = None,
    prefix_lengths: Array | None = None,
    forbidden: Sequence[int] = (),
    no_repeat_ngram: int | None = None,
    rules: Sequence[Rule] = (),
    mask: Array | None = None,
) -> Hypotheses:
    """Looks for the likeliest sequences, keeping the K best unfinished ones at every tick.

        score(w_1 … w_n) = Σ_t log p(w_t | w_1 … w_{t-1}) / ((5 + n) / 6)^α

    Finished sequences are kept apart and take no place in the beam. The search ends when no unfinished one
    can overtake the K best finished ones any more, or after L symbols; then unfinished sequences of L symbols
    count too. With K at least the number of beginnings that are possible, the result is the exact maximum.
    The model's state is reordered whatever tree it is; of the sequences only a symbol and a parent a tick are
    kept, so that a tick costs the same however long they are.

    Args:
      model: a cell or layer that reads symbols ``[*B]`` and returns logits ``[*B, V]``.
      params: its parameters.
      state: the state to start from, with batch axes ``*B``.
      first: ``[*B]`` or one symbol for all, what is read first, such as ``<bos>``.
      length: L, how many symbols to write at most.
      width: K; of more than V the first ticks fill only as many places as there are beginnings.
      eos: the symbol that ends a sequence; None for none.
      length_penalty: α ≥ 0; 0 ranks by log-probability, which favours short sequences, 1 nearly by its mean.
      prefix: as in `sample`.
      prefix_lengths: as in `sample`.
      forbidden: as in `sample`.
      no_repeat_ngram: as in `sample`.
      rules: as in `sample`; scores stay the model's own.
      mask: as in `sample`.

    Returns:
      The K best sequences.

    Raises:
      ValueError: a width below 1, shapes that do not agree, or a number out of range.
      TypeError: symbols that are no integers.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> model = sj.serial(sj.embedding(5, 4), sj.recurrent(sj.gru(4, 8)), sj.dense(8, 5))
      >>> params = model.init(jax.random.key(0))
      >>> state = model.initial_state(params, (3,))
      >>> found = sj.beam_search(model, params, state, 0, length=7, width=4, eos=1)
      >>> found.symbols.shape, bool((jnp.diff(found.scores, axis=0) <= 0).all())
      ((4, 7, 3), True)

    References:
      Graves (2012), Sequence transduction with recurrent neural networks. https://arxiv.org/abs/1211.3711
      Wu et al. (2016), Google's neural machine translation system (the length penalty).
      https://arxiv.org/abs/1609.08144
    """
    checks.sizes("beam_search", width=width)
    if not isinstance(length_penalty, jax.core.Tracer) and not length_penalty >= 0:
        raise ValueError(
            f"beam_search: expected a length_penalty of at least 0, got {length_penalty!r}. Use 0 for none."
        )
    first = as_symbols("beam_search", first)
    prefix = None if prefix is None else as_symbols("beam_search", prefix)
    fixed = options("beam_search", length, eos, forbidden, no_repeat_ngram, rules)
    given = Given(first, prefix, prefix_lengths, mask, tuple(rule.params for rule in rules))
    return _search(model, fixed, width, params, state, given, length_penalty)


class _Ends(NamedTuple):
    """Where sequences end, ``[K, *B]``: behind ``traced`` symbols of the beam, the last of them in place ``place``."""

    traced: Array
    place: Array
    lengths: Array
    scores: Array
    log_probs: Array


class _Loop(NamedTuple):
    """``alive`` holds log-probabilities; readers have K as first axis.

    ``symbols`` and ``parents``, ``[L, K, *B]``, say what was written at every tick in each place of the beam, and
    behind which place of the tick before: sequences are put together once, in the end.
    """

    tick: Array
    reader: Reader
    last: Array
    alive: Array
    symbols: Array
    parents: Array
    finished: _Ends


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _search(
    model: Cell | Layer,
    fixed: Options,
    width: int,
    params: PyTree,
    state: PyTree,
    given: Given,
    length_penalty: Array,
) -> Hypotheses:
    problem = prepare("beam_search", model, params, state, fixed, given)
    each = min(width, problem.vocabulary_size)
    length, eos, dtype = fixed.length, fixed.eos, problem.dtype
    batch = problem.first.shape
    read_all = jax.vmap(lambda reader, symbol: read(model, params, problem, reader, symbol))

    def penalty(n: Array) -> Array:
        return ((5 + n.astype(dtype)) / 6) ** jnp.asarray(length_penalty, dtype)

    def unfinished(loop: _Loop) -> Array:
        """Whether some living sequence can still overtake: at best it gains nothing more and grows to L."""
        hope = loop.alive.max(0) / penalty(jnp.asarray(length))
        return (loop.tick < length) & ((hope > loop.finished.scores.min(0)) & jnp.isfinite(hope)).any()

    def tick(loop: _Loop) -> _Loop:
        reader, logits = read_all(loop.reader, loop.last)
        narrowed = logits.narrowed
        if len(problem.prefix):
            forced_symbol, is_forced = forced(problem, loop.tick)
            forced_symbol = forced_symbol[..., None]
            only = along(jnp.arange(problem.vocabulary_size), forced_symbol) == forced_symbol
            narrowed = jnp.where(is_forced[..., None], jnp.where(only, logits.values, -jnp.inf), narrowed)
        finished = loop.finished
        if eos is not None:
            ended = loop.alive + logits.log_probs(narrowed[..., eos])
            n = loop.tick + 1
            finished = _best(finished, _ends(loop.tick, n, ended, penalty(n)))
            narrowed = narrowed.at[..., eos].set(-jnp.inf)
        # The best of all are among the best of each.
        values, symbols_of = largest(narrowed, each)
        totals = loop.alive[..., None] + logits.log_probs(values)
        flat, flat_symbols = (jnp.moveaxis(a, 0, -2).reshape(*batch, width * each) for a in (totals, symbols_of))
        alive, place = jax.lax.top_k(flat, width)
        symbol = jnp.take_along_axis(flat_symbols, place, -1).astype(jnp.int32)
        alive, parent, symbol = (jnp.moveaxis(a, -1, 0) for a in (alive, place // each, symbol))
        reader = jax.tree.map(lambda leaf: _pick(leaf, parent), reader)
        symbols, parents = (
            jax.lax.dynamic_update_index_in_dim(table, row.astype(jnp.int32), loop.tick, 0)
            for table, row in ((loop.symbols, symbol), (loop.parents, parent))
        )
        return _Loop(loop.tick + 1, reader, symbol, alive, symbols, parents, finished)

    copies = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (width, *leaf.shape)), start(problem, state))
    only_one = jnp.arange(width).reshape(width, *(1,) * len(batch)) == 0
    nothing = jnp.full((width, *batch), -jnp.inf, dtype)
    zero = jnp.zeros((), jnp.int32)
    blank = jnp.zeros((length, width, *batch), jnp.int32)
    alive = jnp.where(only_one & problem.mask[None], jnp.zeros((), dtype), nothing)
    begin = _Loop(
        zero,
        copies,
        jnp.broadcast_to(problem.first, (width, *batch)),
        alive,
        blank,
        blank,
        _ends(zero, zero, nothing, penalty(zero)),
    )
    end = jax.lax.while_loop(unfinished, tick, begin)
    best = _best(end.finished, _ends(end.tick, end.tick, end.alive, penalty(end.tick)))
    symbols = _trace_back(end.symbols, end.parents, best, 0 if eos is None else eos)
    empty = jnp.where(only_one, jnp.zeros((), dtype), nothing)
    scores, log_probs = (jnp.where(problem.mask, x, empty) for x in (best.scores, best.log_probs))
    return Hypotheses(symbols, best.lengths, scores, log_probs)


def _pick(leaf: Array, parent: Array) -> Array:
    """``leaf [K, *B, ...]`` in the order ``parent [K, *B]``."""
    grid = jnp.ix_(*(jnp.arange(n) for n in parent.shape))[1:] if parent.ndim > 1 else ()
    return leaf[(parent, *grid)]


def _ends(traced: Array, n: Array, log_probs: Array, penalty: Array) -> _Ends:
    """Every place of the beam as the end of a sequence of n symbols, ``traced`` of them from the beam."""
    real = jnp.isfinite(log_probs)
    places = jnp.broadcast_to(
        jnp.arange(len(log_probs), dtype=jnp.int32).reshape(-1, *(1,) * (log_probs.ndim - 1)), log_probs.shape
    )
    traced, n = (jnp.where(real, x, 0).astype(jnp.int32) for x in (traced, n))
    return _Ends(traced, places, n, log_probs / penalty, log_probs)


def _best(a: _Ends, b: _Ends) -> _Ends:
    """The best half of two sets, best first; of equals the one found earlier."""
    both = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), a, b)
    _, order = jax.lax.top_k(jnp.moveaxis(both.scores, 0, -1), len(a.scores))
    order = jnp.moveaxis(order, -1, 0)
    return jax.tree.map(lambda leaf: _pick(leaf, order), both)


def _trace_back(symbols: Array, parents: Array, ends: _Ends, filler: int) -> Array:
    """The sequences ``[K, L, *B]`` that end there."""

    def back(place: Array, row: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        tick, written, came_from = row
        here = tick < ends.traced
        symbol = jnp.where(here, jnp.take_along_axis(written, place, 0), filler)
        return jnp.where(here, jnp.take_along_axis(came_from, place, 0), place), symbol

    ticks = jnp.arange(len(symbols), dtype=jnp.int32)
    _, sequences = jax.lax.scan(back, ends.place, (ticks, symbols, parents), reverse=True)
    return jnp.moveaxis(sequences, 0, 1)
