"""Prefix beam search: what was said, whenever it was, with a language model if there is one."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import checks, masks
from seqjax.base import Array, Cell, Layer, PyTree
from seqjax.buffers import owning
from seqjax.decoding.as_cell import as_cell
from seqjax.decoding.beam import Hypotheses
from seqjax.decoding.ranking import largest
from seqjax.logarithms import log_softmax, logsumexp
from seqjax.products import accumulator


class Fusion(NamedTuple):
    """A language model beside the recogniser: how much its word counts.

    It reads and writes the recogniser's symbols; the blank's number stands for the boundary, which it reads first, and
    whose probability is that of the end.

    Attributes:
      model: a cell or layer that reads symbols ``[*B]`` and returns logits ``[*B, 1 + v]``.
      params: its parameters.
      weight: α ≥ 0, of its log-probabilities.
      bonus: β, for every symbol: log v divides out the prior of a recogniser that has learned symbols in random order.
    """

    model: Cell | Layer
    params: PyTree
    weight: float | Array = 1.0
    bonus: float | Array = 0.0


@owning
def ctc_beam_search(
    logits: Array,
    mask: Array | None = None,
    *,
    width: int,
    length: int | None = None,
    blank: int = 0,
    fusion: Fusion | None = None,
) -> Hypotheses:
    """The likeliest symbols under connectionist temporal classification, keeping the K best beginnings at every tick.

        b_t(l) = p_t(blank) · (b_{t-1}(l) + n_{t-1}(l))                              l, and a blank last
        n_t(l) = p_t(l_n) · (n_{t-1}(l) + b_{t-1}(l⁻) + [l_n ≠ l_{n-1}] n_{t-1}(l⁻))   l, and its last symbol last
        score(l) = log(b_t(l) + n_t(l)) + α Σ_i log q(l_i | l_1 … l_{i-1}) + β n

    over beginnings l = l_1 … l_n, where l⁻ lacks the last symbol. What is ranked is what was said, no longer one
    way to place it in time: the likeliest path may say something else. q is a language model, whose probability of the
    end counts behind the last tick (shallow fusion). Ways through beginnings that were dropped are lost, so that log p
    is a lower bound; with K at least the number of beginnings that are possible it is exact, and so is the order.
    `seqjax.losses.ctc_losses` gives the exact log p of what was found.

    Args:
      logits: ``[T, *B, 1 + v]``, as in `seqjax.ctc`.
      mask: ``[T, *B]``, True at real ticks.
      width: K.
      length: L, how many symbols to write at most; T if None.
      blank: the symbol that says nothing.
      fusion: a language model with its weight; None for none.

    Returns:
      The K best sequences ``[K, L, *B]``, blanks behind their ends. ``log_probs`` is log p without the language model.

    Raises:
      ValueError: a size below 1, a blank outside 0 … v, a weight below 0, or shapes that do not agree.

    Example:
      >>> import jax.numpy as jnp, seqjax as sj
      >>> two_ticks = jnp.log(jnp.array([[0.6, 0.4], [0.6, 0.4]]))
      >>> found = sj.decoding.ctc_beam_search(two_ticks, width=2)  # the likeliest path is of blanks: 0.6²
      >>> found.symbols[:, :1].tolist(), (100 * jnp.exp(found.log_probs)).round().tolist()
      ([[1], [0]], [64.0, 36.0])

    References:
      Graves et al. (2006), Connectionist temporal classification (prefix search).
      https://doi.org/10.1145/1143844.1143891
      Hannun et al. (2014), First-pass large vocabulary continuous speech recognition using bi-directional recurrent
      DNNs (its beam, with a language model). https://arxiv.org/abs/1408.2873
    """
    logits = jnp.asarray(logits)
    ticks = checks.length("ctc_beam_search", logits)
    length = ticks if length is None else length
    checks.sizes("ctc_beam_search", width=width, length=length)
    size = logits.shape[-1]
    if not 0 <= blank < size:
        raise ValueError(
            f"ctc_beam_search: expected a blank from 0 to {size - 1}, got {blank!r}. Give one of the outputs."
        )
    if mask is not None:
        checks.shapes(
            "ctc_beam_search", "mask", np.shape(mask), "the logits without their last axis", logits.shape[:-1]
        )
        mask = checks.ticks("ctc_beam_search", "mask", mask, logits)
    if fusion is None:
        return _search(None, width, length, blank, logits, mask, (), 0.0, 0.0)
    if not isinstance(fusion.weight, jax.core.Tracer) and not fusion.weight >= 0:
        raise ValueError(
            f"ctc_beam_search: expected a weight of at least 0, got {fusion.weight!r}. Leave fusion out for none."
        )
    model, params, weight, bonus = fusion
    return _search(model, width, length, blank, logits, mask, params, weight, bonus)


class _Beam(NamedTuple):
    """K beginnings: symbols, then blanks; how many; log b, log n; Σ log q, the state that read, log q of the next."""

    symbols: Array
    lengths: Array
    blank: Array
    symbol: Array
    fluency: Array
    reader: PyTree
    next: Array

    @property
    def both(self) -> Array:
        return jnp.logaddexp(self.blank, self.symbol)

    def last(self, filler: int) -> Array:
        """The last symbol of each ``[K]``, blank where there is none."""
        place = jnp.maximum(self.lengths - 1, 0)[:, None]
        return jnp.where(self.lengths > 0, jnp.take_along_axis(self.symbols, place, 1)[:, 0], filler)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _search(
    model: Cell | Layer | None,
    width: int,
    length: int,
    blank: int,
    logits: Array,
    mask: Array | None,
    params: PyTree,
    weight: Array,
    bonus: Array,
) -> Hypotheses:
    batch, size, dtype = logits.shape[1:-1], logits.shape[-1], accumulator(logits.dtype)
    mask = jnp.ones(logits.shape[:-1], bool) if mask is None else mask
    log_probs = log_softmax(jnp.where(mask[..., None], logits, 0).astype(dtype))
    weight, bonus = (jnp.asarray(x, dtype) for x in (weight, bonus))
    reads = _reads(model, params, size, dtype)

    def scores(log_p: Array, fluency: Array, n: Array) -> Array:
        return log_p + jnp.where(weight == 0, 0, weight * fluency) + bonus * n.astype(dtype)

    def one(log_probs: Array, mask: Array) -> Hypotheses:
        nothing = jnp.where(jnp.arange(width) == 0, jnp.zeros((), dtype), -jnp.inf)
        start = None if model is None else as_cell(model).initial_state(params, (width,))
        reader, following = reads(start, jnp.full(width, blank, jnp.int32))
        zeros = jnp.zeros(width, jnp.int32)
        begin = _Beam(
            jnp.full((width, length), blank, jnp.int32),
            zeros,
            nothing,
            jnp.full(width, -jnp.inf, dtype),
            jnp.zeros(width, dtype),
            reader,
            following,
        )

        def tick(beam: _Beam, now: tuple[Array, Array]) -> tuple[_Beam, None]:
            log_p, real = now
            return masks.select(real, _advance(beam, log_p, blank, scores, reads), beam), None

        beam, _ = jax.lax.scan(tick, begin, (log_probs, mask))
        found = scores(beam.both, beam.fluency + beam.next[:, blank], beam.lengths)
        best, order = jax.lax.top_k(found, width)
        return Hypotheses(beam.symbols[order], beam.lengths[order], best, beam.both[order])

    flat = log_probs.reshape(len(log_probs), -1, size), mask.reshape(len(mask), -1)
    found = jax.vmap(one, (1, 1), -1)(*flat)
    return jax.tree.map(lambda leaf: leaf.reshape(*leaf.shape[:-1], *batch), found)


def _reads(model: Cell | Layer | None, params: PyTree, size: int, dtype: jnp.dtype) -> Callable:
    """``(state, symbols [K]) -> (state, log q of the next symbols [K, 1 + v])``; zeros without a language model."""
    if model is None:
        return lambda state, symbols: (state, jnp.zeros((*symbols.shape, size), dtype))

    def reads(state: PyTree, symbols: Array) -> tuple[PyTree, Array]:
        state, logits = as_cell(model).step(params, state, symbols)
        checks.shapes(
            "ctc_beam_search", "the language model's logits", logits.shape, "the outputs", (len(symbols), size)
        )
        return state, log_softmax(logits.astype(dtype))

    return reads


def _advance(beam: _Beam, log_p: Array, blank: int, scores: Callable, reads: Callable) -> _Beam:
    """One tick ``log_p [1 + v]``: every beginning stays or grows by a symbol, and the K best go on."""
    width, length = beam.symbols.shape
    size = len(log_p)
    symbols, places = (jnp.arange(n, dtype=jnp.int32)[None] for n in (size, length))
    last, n, both = beam.last(blank), beam.lengths[:, None], beam.both[:, None]
    grown = log_p[None] + jnp.where(symbols == last[:, None], beam.blank[:, None], both)
    grown = jnp.where((symbols == blank) | (n == length), -jnp.inf, grown)

    # Where l⁻ and l are both kept, what l⁻ grows by belongs to l.
    without = jnp.where(places == n - 1, blank, beam.symbols)
    alive = both > -jnp.inf
    behind = (beam.symbols[:, None] == without[None]).all(-1) & alive & alive.T & (n > 0).T
    arriving = logsumexp(jnp.where(behind, grown[:, last], -jnp.inf), 0)
    grown = jnp.where((behind[..., None] & (last[None, :, None] == symbols[None])).any(1), -jnp.inf, grown)

    again = jnp.where(beam.lengths > 0, beam.symbol + log_p[last], -jnp.inf)
    stays = beam.both + log_p[blank], jnp.logaddexp(again, arriving)
    staying = scores(jnp.logaddexp(*stays), beam.fluency, beam.lengths)
    growing = scores(grown, beam.fluency[:, None] + beam.next, n + 1)
    _, choice = largest(jnp.concatenate([staying, growing.ravel()]), width)

    grows = choice >= width
    parent = jnp.where(grows, (choice - width) // size, choice)
    symbol = jnp.where(grows, (choice - width) % size, blank)
    old = jax.tree.map(lambda leaf: leaf[parent], beam)
    read, following = reads(old.reader, symbol)
    here = grows[:, None] & (places == old.lengths[:, None])
    return _Beam(
        jnp.where(here, symbol[:, None], old.symbols).astype(jnp.int32),
        old.lengths + grows.astype(jnp.int32),
        jnp.where(grows, -jnp.inf, stays[0][parent]),
        jnp.where(grows, grown[parent, symbol], stays[1][parent]),
        old.fluency + jnp.where(grows, jnp.take_along_axis(old.next, symbol[:, None], 1)[:, 0], 0),
        masks.select(grows, read, old.reader),
        jnp.where(grows[:, None], following, old.next),
    )
