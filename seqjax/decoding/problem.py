"""What sampling and beam search share: the checks of their arguments, and one tick of the model with its rules."""

import operator
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from seqjax import base, checks
from seqjax.base import Array, Cell, Layer, PyTree
from seqjax.decoding.as_cell import as_cell
from seqjax.decoding.rules import Rule, forbid, no_repeat
from seqjax.logarithms import finite
from seqjax.products import accumulator


class Options(NamedTuple):
    """What is fixed when the loop is compiled."""

    length: int
    eos: int | None
    forbidden: tuple[int, ...]
    no_repeat_ngram: int | None
    rules: tuple[Cell, ...]


class Given(NamedTuple):
    """What the compiled loop is called with: as the caller gave it, None where nothing was given."""

    first: Array
    prefix: Array | None
    prefix_lengths: Array | None
    mask: Array | None
    rule_params: tuple[PyTree, ...]


class Problem(NamedTuple):
    """After checking: ``first [*B]``, ``prefix [P, *B]``, ``prefix_lengths [*B]``, ``mask [*B]``, all rules."""

    first: Array
    prefix: Array
    prefix_lengths: Array
    mask: Array
    rules: tuple[Rule, ...]
    vocabulary_size: int
    dtype: jnp.dtype


def options(
    who: str,
    length: int,
    eos: int | None,
    forbidden: Sequence[int],
    no_repeat_ngram: int | None,
    rules: Sequence[Rule],
) -> Options:
    """Arguments, checked as far as they go by themselves, as a hashable whole."""
    checks.sizes(who, length=length)
    try:
        end = None if eos is None else operator.index(eos)
        symbols = tuple(map(operator.index, forbidden))
    except TypeError:
        raise TypeError(
            f"{who}: expected eos as a whole number or None and forbidden as a list of such, got eos={eos!r}, "
            f"forbidden={forbidden!r}. Give numbers that are known when the loop is compiled."
        ) from None
    return Options(length, end, symbols, no_repeat_ngram, tuple(rule.cell for rule in rules))


def as_symbols(who: str, symbols: ArrayLike) -> Array:
    """Symbols as an array of int32."""
    return checks.symbols(who, symbols).astype(jnp.int32)


def prepare(who: str, model: Cell | Layer, params: PyTree, state: PyTree, options: Options, given: Given) -> Problem:
    """Checks shapes and sizes at trace time, and turns all conditions into rules."""
    as_cell(model)
    batch = base.batch_shape(model, params, state)
    first = given.first
    batch = first.shape if batch is None else batch
    if first.shape not in ((), batch):
        raise ValueError(
            f"{who}: expected first of shape {batch} like the state's batch, got {first.shape}. "
            f"Make the state with initial_state(params, {first.shape}), or give one symbol for all."
        )
    first = jnp.broadcast_to(first, batch).astype(jnp.int32)
    logits = jax.eval_shape(lambda *args: as_cell(model).step(*args)[1], params, state, first)
    if not hasattr(logits, "shape") or logits.shape[:-1] != batch or logits.ndim != len(batch) + 1:
        raise ValueError(
            f"{who}: expected a model whose output is logits of shape {(*batch, 'V')}, got {logits}. "
            "Read the state out by a dense layer of the vocabulary's size."
        )
    size = logits.shape[-1]
    if options.eos is not None and not 0 <= options.eos < size:
        raise ValueError(
            f"{who}: expected eos from 0 to {size - 1}, got {options.eos}. "
            "Give the number of <eos>, or None to never stop."
        )
    prefix, prefix_lengths = _prefix(who, given.prefix, given.prefix_lengths, batch, options.length)
    mask = jnp.ones(batch, bool) if given.mask is None else jnp.asarray(given.mask)
    if mask.shape != batch or mask.dtype != jnp.bool_:
        raise ValueError(
            f"{who}: expected a mask of bool of shape {batch}, got {mask.dtype} {mask.shape}. "
            "Give one flag a sequence, True where it is real."
        )
    rules = [Rule(cell, p) for cell, p in zip(options.rules, given.rule_params)]
    if options.forbidden:
        rules.append(forbid(size, options.forbidden))
    if options.no_repeat_ngram is not None:
        rules.append(no_repeat(size, options.no_repeat_ngram, options.length))
    for rule in rules:
        shape = jax.eval_shape(_allowed_of(rule), rule.params, first)
        if shape.shape != (*batch, size) or shape.dtype != jnp.bool_:
            raise ValueError(
                f"{who}: expected rules whose output is a mask {(*batch, size)} of bool, got {shape.dtype} "
                f"{shape.shape}. Build them for this vocabulary."
            )
    return Problem(first, prefix, prefix_lengths, mask, tuple(rules), size, accumulator(logits.dtype))


def _allowed_of(rule: Rule) -> Callable:
    return lambda params, first: rule.cell.step(params, rule.cell.initial_state(params, first.shape), first)[1]


def _prefix(
    who: str, prefix: Array | None, lengths: Array | None, batch: tuple[int, ...], length: int
) -> tuple[Array, Array]:
    if prefix is None:
        if lengths is not None:
            raise ValueError(f"{who}: expected a prefix where prefix_lengths are given, got None. Give both.")
        return jnp.zeros((0, *batch), jnp.int32), jnp.zeros(batch, jnp.int32)
    if prefix.ndim == 0 or prefix.shape[1:] not in ((), batch) or len(prefix) > length:
        raise ValueError(
            f"{who}: expected a prefix [P, *batch] of at most {length} symbols with batch {batch}, got shape "
            f"{prefix.shape}. Time comes first; raise length or cut the prefix."
        )
    if prefix.ndim == 1:
        prefix = prefix.reshape(-1, *(1,) * len(batch))
    lengths = jnp.full(batch, len(prefix)) if lengths is None else jnp.asarray(lengths)
    checks.integers(who, lengths)
    if lengths.shape != batch:
        raise ValueError(
            f"{who}: expected prefix_lengths of shape {batch}, got {lengths.shape}. Give one length a sequence."
        )
    prefix = jnp.broadcast_to(prefix, (len(prefix), *batch))
    prefix = jnp.where(prefix < 0, jnp.iinfo(prefix.dtype).max, prefix)  # outside the vocabulary: no probability
    return prefix, jnp.minimum(lengths, len(prefix)).astype(jnp.int32)


class Reader(NamedTuple):
    """The states of the model and of every rule: what reading a symbol changes."""

    model: PyTree
    rules: tuple[PyTree, ...]


def start(problem: Problem, state: PyTree) -> Reader:
    """The reader before the first symbol."""
    shape = problem.first.shape
    return Reader(state, tuple(rule.cell.initial_state(rule.params, shape) for rule in problem.rules))


class Logits(NamedTuple):
    """What a model says of the next symbol, not yet divided by its sum: log p = y - log Σ exp y.

    Only a few log-probabilities are ever asked for; to compute those of a whole vocabulary would cost as much as the
    rest of a tick.

    Attributes:
      values: y, ``[*B, V]``.
      narrowed: y with -∞ where a rule forbids.
      highest: max y, ``[*B]``; 0 where the model allows nothing, every y being -∞.
      log_sum: log Σ exp(y - max y), ``[*B]``; 0 there.
    """

    values: Array
    narrowed: Array
    highest: Array
    log_sum: Array

    def log_probs(self, values: Array) -> Array:
        """Of some of the values, ``[*B, ...]``."""
        more = (...,) + (None,) * (values.ndim - self.highest.ndim)
        return values - self.highest[more] - self.log_sum[more]


def read(model: Cell | Layer, params: PyTree, problem: Problem, reader: Reader, symbol: Array) -> tuple[Reader, Logits]:
    """One symbol read: the new states, and what may come next."""
    state, logits = as_cell(model).step(params, reader.model, symbol)
    checks.same_state("decoding", reader.model, state)
    values = narrowed = logits.astype(problem.dtype)
    states = []
    for rule, s in zip(problem.rules, reader.rules):
        s, mask = rule.cell.step(rule.params, s, symbol)
        states.append(s)
        narrowed = jnp.where(mask, narrowed, -jnp.inf)
    highest = finite(values.max(-1))
    total = jnp.exp(values - highest[..., None]).sum(-1)
    log_sum = jnp.log(jnp.where(total == 0, 1, total))
    return Reader(state, tuple(states)), Logits(values, narrowed, highest, log_sum)


def forced(problem: Problem, tick: Array) -> tuple[Array, Array]:
    """The prefix's symbol ``[*B]`` at a tick, and where there is one."""
    prefix, prefix_lengths = problem.prefix, problem.prefix_lengths
    if not len(prefix):
        return jnp.zeros(prefix_lengths.shape, jnp.int32), jnp.zeros(prefix_lengths.shape, bool)
    symbol = jax.lax.dynamic_index_in_dim(prefix, jnp.minimum(tick, len(prefix) - 1), keepdims=False)
    return symbol, tick < prefix_lengths
