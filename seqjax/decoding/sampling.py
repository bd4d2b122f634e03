"""Writing symbol after symbol: the likeliest, or drawn at random."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import checks, masks
from seqjax.base import Array, Cell, Layer, PyTree
from seqjax.buffers import owning
from seqjax.decoding.draws import choose, noise, ticks
from seqjax.decoding.problem import Given, Options, Reader, as_symbols, forced, options, prepare, read, start
from seqjax.decoding.rules import Rule


class Decoded(NamedTuple):
    """What was written.

    Attributes:
      symbols: ``[L, *B]`` of int32; ``<eos>`` and, behind it, more of the same.
      lengths: ``[*B]``, how many of them are real, ``<eos>`` included.
      log_probs: ``[*B]``, Σ log p(symbol) by the model itself, before temperature and rules.
      state: the model's state before it reads the last real symbol: with that symbol as ``first`` one goes
        on.
    """

    symbols: Array
    lengths: Array
    log_probs: Array
    state: PyTree


@owning
def sample(
    model: Cell | Layer,
    params: PyTree,
    state: PyTree,
    first: Array,
    *,
    length: int,
    key: Array | None = None,
    temperature: float | Array = 1.0,
    top_k: int | None = None,
    top_p: float | Array | None = None,
    typical_p: float | Array | None = None,
    eos: int | None = None,
    prefix: Array | None = None,
    prefix_lengths: Array | None = None,
    forbidden: Sequence[int] = (),
    no_repeat_ngram: int | None = None,
    rules: Sequence[Rule] = (),
    mask: Array | None = None,
) -> Decoded:
    """Feeds a model its own symbols: greedily without a key, at random with one.

        s_t, logits = step(s_{t-1}, w_{t-1})      w_t ~ softmax(logits / temperature) among what is allowed

    One compiled loop for any recurrent model, which ends as soon as all sequences have; its memory does not
    grow with ``length``, apart from the symbols themselves. Several samples of one prompt are several keys:
    ``jax.vmap(lambda key: sample(..., key=key))(keys)``, or a batch of equal states.

    Rules come first, then the temperature, then ``top_k``, ``top_p`` and ``typical_p``. A sequence for which nothing is
    allowed ends before that tick, with log-probability -∞.

    Args:
      model: a cell or layer that reads symbols ``[*B]`` and returns logits ``[*B, V]``.
      params: its parameters.
      state: the state to start from, with batch axes ``*B``.
      first: ``[*B]`` or one symbol for all, what is read first, such as ``<bos>`` or the last of a prompt.
      length: L, how many symbols to write at most.
      key: one JAX key; None writes the likeliest symbol each time.
      temperature: above 0, one for all or ``[*B]``; below 1 sharpens, above 1 flattens.
      top_k: draw among the k likeliest only.
      top_p: draw among the fewest symbols whose probabilities sum to at least this, one for all or ``[*B]``.
      typical_p: draw among the fewest symbols with at least this probability in all of which each is about as
        surprising as the next symbol is expected to be, those first whose -log p(w) is nearest H = -Σ_w p(w) log p(w);
        one for all or ``[*B]``.
      eos: the symbol that ends a sequence; None for none.
      prefix: ``[P, *B]`` or ``[P]``, symbols that the sequences must begin with, whatever the rules say.
      prefix_lengths: ``[*B]``, how many of them, where prefixes are ragged.
      forbidden: symbols never to write, such as ``<unk>`` and ``<pad>``.
      no_repeat_ngram: n, no n symbols in a row may come twice.
      rules: further rules, such as `state_machine`.
      mask: ``[*B]`` of bool, False where there is no sequence: it stays empty, with log-probability 0.

    Returns:
      Symbols, lengths, log-probabilities and the state to go on from.

    Raises:
      ValueError: shapes that do not agree, a number out of range, or options of sampling without a key.
      TypeError: symbols that are no integers.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> model = sj.serial(sj.embedding(5, 4), sj.recurrent(sj.gru(4, 8)), sj.dense(8, 5))
      >>> params = model.init(jax.random.key(0))
      >>> state = model.initial_state(params, (3,))
      >>> decoded = sj.sample(model, params, state, 0, length=7, key=jax.random.key(1), forbidden=[0])
      >>> decoded.symbols.shape, bool((decoded.symbols != 0).all())
      ((7, 3), True)

    References:
      Fan, Lewis and Dauphin (2018), Hierarchical neural story generation (top k). https://arxiv.org/abs/1805.04833
      Holtzman et al. (2020), The curious case of neural text degeneration (top p). https://arxiv.org/abs/1904.09751
      Meister et al. (2023), Locally typical sampling. https://arxiv.org/abs/2202.00666
    """
    _check_options(key, temperature, top_k, {"top_p": top_p, "typical_p": typical_p})
    first = as_symbols("sample", first)
    prefix = None if prefix is None else as_symbols("sample", prefix)
    fixed = options("sample", length, eos, forbidden, no_repeat_ngram, rules)
    given = Given(first, prefix, prefix_lengths, mask, tuple(rule.params for rule in rules))
    return _sample(model, fixed, top_k, params, state, given, key, temperature, top_p, typical_p)


class _Loop(NamedTuple):
    tick: Array
    reader: Reader
    last: Array
    ended: Array
    lengths: Array
    log_probs: Array
    symbols: Array


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _sample(
    model: Cell | Layer,
    fixed: Options,
    top_k: int | None,
    params: PyTree,
    state: PyTree,
    given: Given,
    key: Array | None,
    temperature: Array,
    top_p: Array | None,
    typical_p: Array | None,
) -> Decoded:
    problem = prepare("sample", model, params, state, fixed, given)
    if top_k is not None and top_k > problem.vocabulary_size:
        raise ValueError(
            f"sample: expected top_k of at most the vocabulary's {problem.vocabulary_size} symbols, got {top_k}. "
            "Lower it."
        )
    length, eos = fixed.length, fixed.eos
    batch = problem.first.shape
    for name, value in (("temperature", temperature), ("top_p", top_p), ("typical_p", typical_p)):
        if value is not None and np.shape(value) not in ((), batch):
            raise ValueError(
                f"sample: expected {name} of shape () or {batch} like the batch, got {np.shape(value)}. "
                "Give one for all, or one a sequence."
            )
    filler = jnp.asarray(0 if eos is None else eos, jnp.int32)
    among = top_k or problem.vocabulary_size
    many = ticks(batch, among, length)

    def unfinished(loop: _Loop) -> Array:
        return (loop.tick < length) & ~loop.ended.all()

    def tick(loop: _Loop, drawn: Array | None) -> _Loop:
        reader, logits = read(model, params, problem, loop.reader, loop.last)
        forced_symbol, is_forced = forced(problem, loop.tick)
        here = None if drawn is None else jax.lax.dynamic_index_in_dim(drawn, loop.tick % many, keepdims=False)
        chosen = choose(logits.narrowed, here, temperature, top_k, top_p, typical_p)
        symbol = jnp.where(is_forced, forced_symbol, chosen)
        stuck = ~is_forced & (logits.narrowed.max(-1) == -jnp.inf)
        log_prob = logits.log_probs(jnp.take_along_axis(logits.values, symbol[..., None], -1)[..., 0])
        log_prob = jnp.where(stuck, -jnp.inf, log_prob)
        writes = ~loop.ended & ~stuck
        symbol = jnp.where(writes, symbol, filler)
        return _Loop(
            loop.tick + 1,
            masks.select(writes, reader, loop.reader),
            jnp.where(writes, symbol, loop.last),
            ~writes | (symbol == filler if eos is not None else False),
            loop.lengths + writes.astype(jnp.int32),
            loop.log_probs + jnp.where(loop.ended, 0, log_prob),
            jax.lax.dynamic_update_index_in_dim(loop.symbols, symbol, loop.tick, 0),
        )

    def stretch(loop: _Loop) -> _Loop:
        """The next ticks, their noise drawn together."""
        stop, drawn = loop.tick + many, None
        if key is not None:
            drawn = noise(jax.random.fold_in(key, loop.tick), (many, *batch), among, problem.dtype)
        return jax.lax.while_loop(
            lambda loop: unfinished(loop) & (loop.tick < stop), lambda loop: tick(loop, drawn), loop
        )

    begin = _Loop(
        jnp.zeros((), jnp.int32),
        start(problem, state),
        problem.first,
        ~problem.mask,
        jnp.zeros(batch, jnp.int32),
        jnp.zeros(batch, problem.dtype),
        jnp.full((length, *batch), filler),
    )
    end = jax.lax.while_loop(unfinished, stretch, begin)
    return Decoded(end.symbols, end.lengths, end.log_probs, end.reader.model)


def _check_options(
    key: Array | None, temperature: float | Array, top_k: int | None, shares: dict[str, float | Array | None]
) -> None:
    plain = isinstance(temperature, int | float) and temperature == 1
    given = {name: share for name, share in shares.items() if share is not None}
    if key is None and (top_k is not None or given or not plain):
        raise ValueError(
            "sample: expected a key where temperature, top_k, top_p or typical_p are given, got None. "
            "Give key=jax.random.key(0), or leave them out to decode greedily."
        )
    if _outside(temperature, float("inf")):
        raise ValueError(
            f"sample: expected temperature above 0, got {temperature}. Leave the key out to decode greedily."
        )
    for name, share in given.items():
        if _outside(share, 1.0):
            raise ValueError(
                f"sample: expected {name} above 0 and at most 1, got {share}. Leave it out for all symbols."
            )
    if top_k is not None:
        checks.sizes("sample", top_k=top_k)


def _outside(value: float | Array, most: float) -> bool:
    """Whether a number is not above 0 and at most ``most``, as far as it is known at trace time."""
    return not isinstance(value, jax.core.Tracer) and not ((np.asarray(value) > 0) & (np.asarray(value) <= most)).all()
