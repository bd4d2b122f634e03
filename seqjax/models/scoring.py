"""What a language model is used for: the probability of texts, their ranking, the likeliest next symbols."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from seqjax import checks, masks
from seqjax.base import Array, Layer, PyTree
from seqjax.buffers import owning
from seqjax.layers import inner
from seqjax.logarithms import log_softmax
from seqjax.losses import Tally
from seqjax.products import accumulator


class NextSymbols(NamedTuple):
    """The likeliest next symbols, best first: their numbers ``[k, *B]`` and probabilities ``[k, *B]``."""

    symbols: Array
    probs: Array


@owning
def log_probability(
    model: Layer, params: PyTree, symbols: ArrayLike, *, first: int, lengths: ArrayLike | None = None
) -> Array:
    """The log-probability of whole sequences.

        log p(w_1 … w_n) = Σ_t log p(w_t | first, w_1 … w_{t-1})

    Include ``<eos>`` among the symbols for the probability of the sentence, leave it out for that of all
    texts that begin so. A symbol outside the vocabulary gives NaN.

    Args:
      model: a language model, symbols to logits.
      params: its parameters.
      symbols: ``[T, *B]`` of integers.
      first: what the model reads first, such as ``<bos>``.
      lengths: ``[*B]``, where sequences are right-padded.

    Returns:
      ``[*B]``, in nats.

    Raises:
      TypeError: symbols that are not integers.
      ValueError: symbols without an axis of time, or lengths of another shape.
    """
    symbols = checks.symbols("log_probability", symbols)
    if not symbols.ndim:
        raise ValueError("log_probability: expected symbols [T, *batch], got one symbol. Put it into a sequence.")
    if lengths is not None:
        lengths = checks.lengths("log_probability", lengths, symbols.shape[0])
        checks.shapes("log_probability", "lengths", np.shape(lengths), "the symbols' batch", symbols.shape[1:])
    return _log_probability(model, params, symbols, first, lengths)


@functools.partial(jax.jit, static_argnums=0)
def _log_probability(model: Layer, params: PyTree, symbols: Array, first: Array, lengths: Array | None) -> Array:
    mask = masks.given("log_probability", None, lengths, symbols)
    inputs = jnp.concatenate([jnp.full_like(symbols[:1], first), symbols[:-1]])
    _, logits = inner.run(model, params, model.initial_state(params, symbols.shape[1:]), inputs, lengths=lengths)
    log_probs = log_softmax(logits.astype(accumulator(logits.dtype)))
    known = (symbols >= 0) & (symbols < log_probs.shape[-1])
    picked = jnp.take_along_axis(log_probs, jnp.where(known, symbols, 0)[..., None], -1)[..., 0]
    picked = jnp.where(known, picked, jnp.nan)
    return (picked if mask is None else jnp.where(mask, picked, 0)).sum(0)


def perplexity(tally: Tally) -> Array:
    """exp(mean cross-entropy): between how many equally likely symbols the model hesitates, on average.

    >>> import seqjax as sj
    >>> perplexity(sj.cross_entropy(jnp.zeros((3, 4)), jnp.array([0, 3, 1]))).round(3).item()
    4.0
    """
    return jnp.exp(tally.mean)


def rank(
    model: Layer, params: PyTree, candidates: Sequence[Sequence[int]], *, first: int
) -> tuple[np.ndarray, np.ndarray]:
    """Orders whole sequences from the likeliest to the least likely.

    Args:
      model: a language model.
      params: its parameters.
      candidates: sequences of symbols, of any lengths.
      first: what the model reads first.

    Returns:
      The order, as indices, and the log-probabilities in that order.

    Raises:
      ValueError: no candidate, an empty one, or one whose probability is not a number.
      TypeError: symbols that are not integers.
    """
    if not len(candidates):
        raise ValueError("rank: expected candidates to order, got none. Give one at least.")
    if not all(len(c) for c in candidates):
        raise ValueError("rank: expected sequences of at least one symbol, got an empty one. Leave it out.")
    for candidate in candidates:
        checks.integers("rank", np.asarray(candidate))
    lengths = np.array([len(c) for c in candidates])
    padded = np.zeros((lengths.max(), len(candidates)), np.int32)
    for i, candidate in enumerate(candidates):
        padded[: len(candidate), i] = candidate
    scores = np.asarray(log_probability(model, params, padded, first=first, lengths=lengths))
    if np.isnan(scores).any():
        raise ValueError(
            f"rank: expected sequences of known symbols, got {list(candidates[int(np.isnan(scores).argmax())])}, whose "
            "probability is NaN. Encode them and first with the model's vocabulary, or look for NaN in the parameters."
        )
    order = np.argsort(-scores, kind="stable")
    return order, scores[order]


def next_symbols(model: Layer, params: PyTree, symbols: Array, k: int) -> NextSymbols:
    """What the model expects after a text.

    Args:
      model: a language model.
      params: its parameters.
      symbols: ``[T, *B]`` of integers, all that is read, ``<bos>`` included.
      k: how many symbols to name.

    Returns:
      The k likeliest.

    Raises:
      ValueError: nothing to read, or more symbols wanted than there are.
      TypeError: symbols that are not integers.
    """
    symbols = checks.symbols("next_symbols", symbols)
    checks.sizes("next_symbols", k=k)
    if not symbols.ndim or symbols.shape[0] == 0:
        raise ValueError(
            f"next_symbols: expected a text [T, *batch] of at least one symbol, got shape {symbols.shape}. "
            "Begin it with <bos>."
        )
    _, logits = model.apply(params, model.initial_state(params, symbols.shape[1:]), symbols)
    if k > logits.shape[-1]:
        raise ValueError(
            f"next_symbols: expected k of at most the vocabulary's {logits.shape[-1]} symbols, got {k}. Lower it."
        )
    probs, best = jax.lax.top_k(jax.nn.softmax(logits[-1]), k)
    return NextSymbols(jnp.moveaxis(best, -1, 0), jnp.moveaxis(probs, -1, 0))
