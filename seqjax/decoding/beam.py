"""Beam search: the best sequences that keeping the K best beginnings finds."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax import checks
from seqjax.base import Array, Cell, Layer, PyTree
from seqjax.decoding.problem import Given, Options, Reader, forced, options, prepare, read, start
from seqjax.decoding.ranking import largest
from seqjax.decoding.rules import Rule


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


def beam_search(
    model: Cell | Layer,
    params: PyTree,
    state: PyTree,
    first: Array,
    *,
    length: int,
    width: int,
    eos: int | None = None,
    length_penalty: float = 0.0,
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
    The model's state is reordered whatever tree it is.

    Args:
      model: a cell or layer that reads symbols ``[*B]`` and returns logits ``[*B, V]``.
      params: its parameters.
      state: the state to start from, with batch axes ``*B``.
      first: ``[*B]`` or one symbol for all, what is read first, such as ``<bos>``.
      length: L, how many symbols to write at most.
      width: K, at most V.
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
      ValueError: a beam wider than the vocabulary, shapes that do not agree, or a number out of range.
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
    if not length_penalty >= 0:
        raise ValueError(
            f"beam_search: expected a length_penalty of at least 0, got {length_penalty!r}. Use 0 for none."
        )
    fixed = options(length, eos, forbidden, no_repeat_ngram, rules)
    given = Given(first, prefix, prefix_lengths, mask, tuple(rule.params for rule in rules))
    return _search(model, fixed, width, params, state, given, length_penalty)


class _Loop(NamedTuple):
    """``alive`` holds log-probabilities; readers have K as first axis."""

    tick: Array
    reader: Reader
    last: Array
    alive: Array
    symbols: Array
    finished: Hypotheses


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
    if width > problem.vocabulary_size:
        raise ValueError(
            f"beam_search: expected a width of at most the vocabulary's {problem.vocabulary_size} symbols, "
            f"got {width}. Narrow the beam."
        )
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
            only = forced_symbol[..., None] == jnp.arange(problem.vocabulary_size, dtype=jnp.int32)
            narrowed = jnp.where(is_forced[..., None], jnp.where(only, logits.values, -jnp.inf), narrowed)
        finished = loop.finished
        if eos is not None:
            ended = loop.alive + logits.log_probs(narrowed[..., eos])
            n = loop.tick + 1
            written = _write(loop.symbols, jnp.full((width, *batch), eos, jnp.int32), loop.tick)
            finished = _best(finished, _hypotheses(written, n, ended, penalty(n)), width)
            narrowed = narrowed.at[..., eos].set(-jnp.inf)
        # The best of all are among the best of each.
        values, symbols_of = largest(narrowed, width)
        totals = loop.alive[..., None] + logits.log_probs(values)
        flat, flat_symbols = (jnp.moveaxis(a, 0, -2).reshape(*batch, width * width) for a in (totals, symbols_of))
        alive, place = jax.lax.top_k(flat, width)
        symbol = jnp.take_along_axis(flat_symbols, place, -1).astype(jnp.int32)
        alive, parent, symbol = (jnp.moveaxis(a, -1, 0) for a in (alive, place // width, symbol))
        reader = jax.tree.map(lambda leaf: _pick(leaf, parent), reader)
        symbols = _write(_pick(jnp.moveaxis(loop.symbols, 1, -1), parent, last_axis=1), symbol, loop.tick)
        return _Loop(loop.tick + 1, reader, symbol, alive, symbols, finished)

    copies = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (width, *leaf.shape)), start(problem, state))
    only_one = jnp.arange(width).reshape(width, *(1,) * len(batch)) == 0
    blank = jnp.full((width, length, *batch), 0 if eos is None else eos, jnp.int32)
    nothing = jnp.full((width, *batch), -jnp.inf, dtype)
    none_yet = Hypotheses(blank, jnp.zeros((width, *batch), jnp.int32), nothing, nothing)
    alive = jnp.where(only_one & problem.mask, jnp.zeros((), dtype), nothing)
    begin = _Loop(
        jnp.zeros((), jnp.int32), copies, jnp.broadcast_to(problem.first, (width, *batch)), alive, blank, none_yet
    )
    end = jax.lax.while_loop(unfinished, tick, begin)
    rest = _hypotheses(end.symbols, end.tick, end.alive, penalty(end.tick))
    best = _best(end.finished, rest, width)
    zero = jnp.where(only_one, jnp.zeros((), dtype), nothing)
    return best._replace(
        scores=jnp.where(problem.mask, best.scores, zero), log_probs=jnp.where(problem.mask, best.log_probs, zero)
    )


def _pick(leaf: Array, parent: Array, last_axis: int | None = None) -> Array:
    """``leaf [K, *B, ...]`` in the order ``parent [K, *B]``; the last axis goes to ``last_axis`` afterwards."""
    grid = jnp.ix_(*(jnp.arange(n) for n in parent.shape))[1:] if parent.ndim > 1 else ()
    picked = leaf[(parent, *grid)]
    return picked if last_axis is None else jnp.moveaxis(picked, -1, last_axis)


def _write(symbols: Array, symbol: Array, tick: Array) -> Array:
    """``symbol [K, *B]`` put at a tick of ``symbols [K, L, *B]``."""
    return jax.lax.dynamic_update_index_in_dim(symbols, symbol, tick, 1)


def _hypotheses(symbols: Array, n: Array, log_probs: Array, penalty: Array) -> Hypotheses:
    lengths = jnp.where(jnp.isfinite(log_probs), n, 0).astype(jnp.int32)
    return Hypotheses(symbols, lengths, log_probs / penalty, log_probs)


def _best(a: Hypotheses, b: Hypotheses, width: int) -> Hypotheses:
    """The best of two sets, best first; of equals the one found earlier."""
    both = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), a, b)
    _, order = jax.lax.top_k(jnp.moveaxis(both.scores, 0, -1), width)
    order = jnp.moveaxis(order, -1, 0)
    symbols = _pick(jnp.moveaxis(both.symbols, 1, -1), order, last_axis=1)
    return Hypotheses(symbols, *(_pick(leaf, order) for leaf in both[1:]))
