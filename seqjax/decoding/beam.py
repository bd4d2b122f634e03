"""Beam search: the best sequences that keeping the K best beginnings finds."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax import checks
from seqjax.base import Array, Cell, Layer, PyTree
from seqjax.buffers import owning
from seqjax.decoding.ends import Ends, best, ends, pick, trace_back
from seqjax.decoding.preferences import (
    Coverage,
    Diversity,
    Preferences,
    Strengths,
    check,
    looked_at,
    uncovered,
    written,
)
from seqjax.decoding.problem import (
    Given,
    Logits,
    Options,
    Problem,
    Reader,
    as_symbols,
    forced,
    options,
    prepare,
    read,
    start,
)
from seqjax.decoding.ranking import largest
from seqjax.decoding.rules import Rule
from seqjax.products import along


class Hypotheses(NamedTuple):
    """The best sequences found, best first; K leads.

    Attributes:
      symbols: ``[K, L, *B]`` of int32; ``<eos>`` and, behind it, more of the same.
      lengths: ``[K, *B]``, how many of them are real, ``<eos>`` included.
      scores: ``[K, *B]``, what they are ranked by, such as log p / penalty(length); -∞ where fewer than K were found.
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
    diversity: Diversity | None = None,
    coverage: Coverage | None = None,
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
      diversity: groups of the beam that avoid what the others write; None for one.
      coverage: a penalty on what attention has left out; None for none.
      prefix: as in `sample`.
      prefix_lengths: as in `sample`.
      forbidden: as in `sample`.
      no_repeat_ngram: as in `sample`.
      rules: as in `sample`; scores stay the model's own.
      mask: as in `sample`.

    Returns:
      The K best sequences.

    Raises:
      ValueError: a width below 1, groups that do not divide it, shapes that do not agree, or a number out of range.
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
    check(width, diversity, coverage, length_penalty)
    first = as_symbols("beam_search", first)
    prefix = None if prefix is None else as_symbols("beam_search", prefix)
    fixed = options("beam_search", length, eos, forbidden, no_repeat_ngram, rules)
    given = Given(first, prefix, prefix_lengths, mask, tuple(rule.params for rule in rules))
    diversity, weights = diversity or Diversity(1, 0.0), None if coverage is None else coverage.weights
    beta, places = (0.0, None) if coverage is None else (coverage.penalty, coverage.mask)
    strengths = Strengths(length_penalty, diversity.penalty, beta, places)
    return _search(model, fixed, width, Preferences(diversity.groups, weights), params, state, given, strengths)


class _Loop(NamedTuple):
    """``alive`` holds log-probabilities, ``covered`` summed attention; readers have K as first axis.

    ``symbols`` and ``parents``, ``[L, K, *B]``, say what was written at every tick in each place of the beam, and
    behind which place of the tick before: sequences are put together once, in the end.
    """

    tick: Array
    reader: Reader
    covered: Array
    last: Array
    alive: Array
    symbols: Array
    parents: Array
    finished: Ends


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _search(
    model: Cell | Layer,
    fixed: Options,
    width: int,
    preferences: Preferences,
    params: PyTree,
    state: PyTree,
    given: Given,
    strengths: Strengths,
) -> Hypotheses:
    problem = prepare("beam_search", model, params, state, fixed, given)
    length, eos, dtype, groups = fixed.length, fixed.eos, problem.dtype, preferences.groups
    batch = problem.first.shape
    strengths = strengths._replace(**{k: jnp.asarray(getattr(strengths, k), dtype) for k in Strengths._fields[:3]})
    read_all = jax.vmap(lambda reader, symbol: read(model, params, problem, reader, symbol))
    attention = jax.vmap(lambda state: looked_at(preferences.weights, state, batch), axis_size=width)

    def penalty(n: Array) -> Array:
        return ((5 + n.astype(dtype)) / 6) ** strengths.length

    def scores(log_probs: Array, n: Array, covered: Array) -> Array:
        found = log_probs / penalty(n)
        return found + strengths.coverage * uncovered(covered, strengths.mask, dtype) if covered.shape[-1] else found

    def grouped(x: Array) -> Array:
        return x.reshape(groups, width // groups, *x.shape[1:])

    def unfinished(loop: _Loop) -> Array:
        """Whether some living sequence can still overtake: at best it gains nothing more and grows to L."""
        hope = grouped(loop.alive).max(1) / penalty(jnp.asarray(length))
        return (loop.tick < length) & ((hope > grouped(loop.finished.scores).min(1)) & jnp.isfinite(hope)).any()

    def better(a: Ends, b: Ends) -> Ends:
        """The best ends of every group."""
        found = jax.vmap(best)(*jax.tree.map(grouped, (a, b)))
        return jax.tree.map(lambda leaf: leaf.reshape(width, *batch), found)

    def tick(loop: _Loop) -> _Loop:
        reader, logits = read_all(loop.reader, loop.last)
        covered = loop.covered + attention(reader.model)
        narrowed = logits.narrowed
        if len(problem.prefix):
            forced_symbol, is_forced = forced(problem, loop.tick)
            forced_symbol = forced_symbol[..., None]
            only = along(jnp.arange(problem.vocabulary_size), forced_symbol) == forced_symbol
            narrowed = jnp.where(is_forced[..., None], jnp.where(only, logits.values, -jnp.inf), narrowed)
        finished = loop.finished
        if eos is not None:
            ended, n = loop.alive + logits.log_probs(narrowed[..., eos]), loop.tick + 1
            finished = better(finished, ends(loop.tick, n, ended, scores(ended, n, covered)))
            narrowed = narrowed.at[..., eos].set(-jnp.inf)
        alive, parent, symbol = _followers(problem, loop.alive, logits._replace(narrowed=narrowed), groups, strengths)
        reader, covered = jax.tree.map(lambda leaf: pick(leaf, parent), (reader, covered))
        symbols, parents = (
            jax.lax.dynamic_update_index_in_dim(table, row.astype(jnp.int32), loop.tick, 0)
            for table, row in ((loop.symbols, symbol), (loop.parents, parent))
        )
        return _Loop(loop.tick + 1, reader, covered, symbol, alive, symbols, parents, finished)

    copies = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (width, *leaf.shape)), start(problem, state))
    places = jnp.arange(width).reshape(width, *(1,) * len(batch))
    nothing = jnp.full((width, *batch), -jnp.inf, dtype)
    zero = jnp.zeros((), jnp.int32)
    blank = jnp.zeros((length, width, *batch), jnp.int32)
    begin = _Loop(
        zero,
        copies,
        jax.tree.map(jnp.zeros_like, jax.eval_shape(attention, copies.model)),
        jnp.broadcast_to(problem.first, (width, *batch)),
        jnp.where((places % (width // groups) == 0) & problem.mask[None], jnp.zeros((), dtype), nothing),
        blank,
        blank,
        ends(zero, zero, nothing, nothing),
    )
    end = jax.lax.while_loop(unfinished, tick, begin)
    found = better(end.finished, ends(end.tick, end.tick, end.alive, scores(end.alive, end.tick, end.covered)))
    if groups > 1:
        _, order = jax.lax.top_k(jnp.moveaxis(found.scores, 0, -1), width)
        found = jax.tree.map(lambda leaf: pick(leaf, jnp.moveaxis(order, -1, 0)), found)
    symbols = trace_back(end.symbols, end.parents, found, 0 if eos is None else eos)
    empty = jnp.where(places == 0, jnp.zeros((), dtype), nothing)
    ranks, log_probs = (jnp.where(problem.mask, x, empty) for x in (found.scores, found.log_probs))
    return Hypotheses(symbols, found.lengths, ranks, log_probs)


def _followers(
    problem: Problem, alive: Array, logits: Logits, groups: int, strengths: Strengths
) -> tuple[Array, Array, Array]:
    """What goes on, group by group: log-probabilities, the places they come from, and symbols, ``[K, *B]`` each."""
    each, size = len(alive) // groups, problem.vocabulary_size
    taken = jnp.zeros((*alive.shape[1:], size), alive.dtype)
    found = []
    for g in range(groups):
        mine = slice(g * each, (g + 1) * each)
        here: Logits = jax.tree.map(lambda leaf, mine=mine: leaf[mine], logits)
        cost = jnp.broadcast_to(strengths.diversity * taken, here.narrowed.shape) if g else None
        # The best of all are among the best of each.
        values, symbols = largest(here.narrowed if cost is None else here.narrowed - cost, min(each, size))
        if cost is not None:
            values = jnp.take_along_axis(here.narrowed, symbols, -1)
        totals = alive[mine, ..., None] + here.log_probs(values)
        wanted = totals if cost is None else totals - jnp.take_along_axis(cost, symbols, -1)
        many = each * symbols.shape[-1]
        flat, *rest = (jnp.moveaxis(a, 0, -2).reshape(*a.shape[1:-1], many) for a in (wanted, totals, symbols))
        place = jax.lax.top_k(flat, each)[1]
        log_probs, symbol = (jnp.take_along_axis(a, place, -1) for a in rest)
        rows = log_probs, g * each + place // symbols.shape[-1], symbol.astype(jnp.int32)
        found.append([jnp.moveaxis(row, -1, 0) for row in rows])
        if g < groups - 1:
            taken += written(found[-1][2], found[-1][0] > -jnp.inf, size, taken.dtype)
    alive, parent, symbol = (jnp.concatenate(parts) for parts in zip(*found))
    return alive, parent, symbol
