"""Losses of a chunk as a sum and a count, so that chunks, windows and devices add up exactly."""

import math
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax

from seqjax import checks
from seqjax.base import Array
from seqjax.products import accumulator

__all__ = [
    "Labels",
    "Tally",
    "bits_per_character",
    "cross_entropy",
    "ctc",
    "mean_squared_error",
    "multi_label_cross_entropy",
    "norm_stabiliser",
    "tally",
]

Number = TypeVar("Number", Array, float)


class Tally(NamedTuple):
    """What a loss returns: the sum over real ticks and their number.

    Tallies of chunks, windows or devices add up, with ``+`` or ``sum``; ``mean`` of the total is the mean of the
    whole.

    >>> sum([Tally(jnp.array(6.0), jnp.array(4)), Tally(jnp.array(1.0), jnp.array(3))]).mean.item()
    1.0
    """

    sum: Array
    count: Array  # type: ignore[assignment]

    def __add__(self, other: Any) -> "Tally":
        """Sums and counts added, not tuples joined; 0 adds nothing, so that ``sum(tallies)`` works."""
        if isinstance(other, int) and other == 0:
            return self
        checks.instance("Tally", other, Tally, "Add tallies only, with + or sum(tallies).")
        return Tally(self.sum + other.sum, self.count + other.count)

    def __radd__(self, other: Any) -> "Tally":
        """For `sum`, which begins with 0."""
        return self + other

    @property
    def mean(self) -> Array:
        """The sum over the count; zero where nothing was counted."""
        return self.sum / jnp.maximum(self.count, 1).astype(self.sum.dtype)


def tally(losses: Array, mask: Array | None = None) -> Tally:
    """Losses of single ticks ``[T, *B]``, summed and counted where ``mask`` is True, everywhere if None.

    Example:
      >>> tally(jnp.array([1.0, 3.0, 5.0]), jnp.array([True, True, False])).mean.item()
      2.0
    """
    mask = checks.ticks("tally", "mask", mask, losses)
    if mask is None:
        return Tally(losses.sum(), jnp.asarray(losses.size))
    return Tally(jnp.where(mask, losses, 0).sum(), mask.sum())


def cross_entropy(logits: Array, labels: Array, mask: Array | None = None) -> Tally:
    """Cross-entropy of one symbol a tick, in nats.

        -log softmax(logits)[label]

    A label outside 0 … v-1 at a real tick gives NaN.

    Args:
      logits: ``[T, *B, v]``.
      labels: ``[T, *B]`` of integers.
      mask: ``[T, *B]``, True at real ticks.

    Returns:
      The sum over real ticks and their number.

    Raises:
      TypeError: labels that are not integers.
      ValueError: shapes that do not agree.

    Example:
      >>> nats = cross_entropy(jnp.zeros((3, 4)), jnp.array([0, 3, 1])).mean
      >>> bits_per_character(nats).item()
      2.0
    """
    labels = checks.symbols("cross_entropy", labels)
    checks.shapes("cross_entropy", "labels", jnp.shape(labels), "logits without the last axis", logits.shape[:-1])
    mask = checks.ticks("cross_entropy", "mask", mask, labels)
    logits = _wide("cross_entropy", logits)
    known = (labels >= 0) & (labels < logits.shape[-1])
    if mask is not None:
        logits = jnp.where(mask[..., None], logits, 0)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(known, labels, 0))
    return tally(jnp.where(known, losses, jnp.nan), mask)


class Labels(NamedTuple):
    """Symbols said in a sequence, nobody knows at which ticks.

    Attributes:
      symbols: ``[L, *B]`` of integers from 1 upwards; 0 is the blank.
      mask: ``[L, *B]`` of bool, True at the first so many of each sequence; None for all.
    """

    symbols: Array
    mask: Array | None = None


def ctc(logits: Array, labels: Labels, mask: Array | None = None) -> Tally:
    """Cross-entropy of symbols said in order, over all the ways to place them in time, in nats.

        -log Σ_π ∏_t softmax(logits_t)[π_t]      over paths π that say the symbols

    A path says what is left of it when repetitions are merged and then blanks (0) dropped. The sum is that of the
    forward algorithm, by Optax.

    Args:
      logits: ``[T, *B, 1 + v]``.
      labels: what was said.
      mask: ``[T, *B]``, True at the first so many ticks of each sequence.

    Returns:
      The sum over sequences, and the number of symbols said. A sequence with too few ticks for its symbols costs
      about 1e5; one with a symbol outside 1 … v is NaN.

    Raises:
      TypeError: symbols that are not integers.
      ValueError: shapes that do not agree.

    Example:
      >>> import jax.numpy as jnp
      >>> one_symbol = Labels(jnp.ones((1, 2), int))
      >>> two_ticks = jnp.log(jnp.array([0.3, 0.7])) * jnp.ones((2, 2, 1))
      >>> total = ctc(two_ticks, one_symbol)
      >>> round(float(jnp.exp(-total.mean)), 4)  # 1 - 0.3²: every path but the one of blanks
      0.91

    References:
      Graves et al. (2006), Connectionist temporal classification. https://doi.org/10.1145/1143844.1143891
    """
    labels = labels._replace(symbols=checks.symbols("ctc", labels.symbols))
    batch = logits.shape[1:-1]
    checks.shapes("ctc", "symbols without their first axis", labels.symbols.shape[1:], "batch of the logits", batch)
    mask = checks.ticks("ctc", "mask", mask, logits[..., 0])
    said = checks.ticks("ctc", "the labels' mask", labels.mask, labels.symbols)
    real = jnp.ones(logits.shape[:-1], bool) if mask is None else mask
    said = jnp.ones(labels.symbols.shape, bool) if said is None else said
    known = (labels.symbols > 0) & (labels.symbols < logits.shape[-1])
    logits = jnp.where(real[..., None], _wide("ctc", logits), 0)
    rows = lambda x: jnp.moveaxis(x.reshape(x.shape[0], math.prod(batch), *x.shape[1 + len(batch) :]), 0, 1)
    padding = lambda m: 1 - rows(m).astype(logits.dtype)
    with jax.numpy_dtype_promotion("standard"):  # Optax adds arrays of the default type
        symbols = jnp.where(said & known, labels.symbols, 0)
        losses = optax.ctc_loss(rows(logits), padding(real), rows(symbols), padding(said))
    losses = jnp.where((known | ~said).all(0).reshape(-1), losses, jnp.nan)
    return Tally(losses.sum().astype(logits.dtype), said.sum())


def mean_squared_error(predictions: Array, targets: Array, mask: Array | None = None) -> Tally:
    """Squared error, averaged over the features of a tick.

        (1/k) Σ_j (prediction_j - target_j)²

    Args:
      predictions: ``[T, *B, k]``.
      targets: ``[T, *B, k]``.
      mask: ``[T, *B]``, True at real ticks.

    Returns:
      The sum over real ticks and their number.

    Raises:
      ValueError: shapes that do not agree: broadcasting ``[T, B, 1]`` with ``[T, B]`` would be a silent
        mistake.

    Example:
      >>> mean_squared_error(jnp.ones((3, 2)), jnp.zeros((3, 2))).mean.item()
      1.0
    """
    predictions, targets = _pair("mean_squared_error", predictions, targets, mask)
    return tally(optax.squared_error(predictions, targets).mean(-1), mask)


def multi_label_cross_entropy(logits: Array, targets: Array, mask: Array | None = None) -> Tally:
    """Cross-entropy of many yes-or-no labels a tick, such as the keys of a piano roll, in nats a tick.

        -Σ_j target_j log σ(logit_j) + (1 - target_j) log σ(-logit_j)

    Args:
      logits: ``[T, *B, k]``.
      targets: ``[T, *B, k]``, 0 or 1 or between, of any dtype.
      mask: ``[T, *B]``, True at real ticks.

    Returns:
      The sum over real ticks and their number.

    Raises:
      ValueError: shapes that do not agree.

    Example:
      >>> multi_label_cross_entropy(jnp.zeros((2, 88)), jnp.zeros((2, 88))).mean.round(2).item()
      61.0
    """
    logits, targets = _pair("multi_label_cross_entropy", logits, targets, mask)
    return tally(optax.sigmoid_binary_cross_entropy(logits, targets).sum(-1), mask)


def bits_per_character(nats: Number, characters: float = 1) -> Number:
    """Nats as bits a character: nats / (characters · ln 2).

    Args:
      nats: the mean over characters; or a sum over anything, words for instance.
      characters: 1 for a mean; how many characters that sum stands for.

    Returns:
      Bits a character.

    Example:
      >>> round(float(bits_per_character(1.669)), 3)
      2.408
    """
    return nats / (characters * math.log(2))


def norm_stabiliser(hs: Array, h_0: Array, beta: float, mask: Array | None = None) -> Tally:
    """The penalty that keeps the norm of a hidden state from drifting.

        β (1/T) Σ_{t=1..T} (‖h_t‖ - ‖h_{t-1}‖)²

    Args:
      hs: ``[T, *B, h]``: h_1 … h_T.
      h_0: ``[*B, h]``: the state before the first tick.
      beta: β.
      mask: ``[T, *B]``; a masked tick holds the state, so that the next real one is compared with the last.

    Returns:
      The sum over real ticks and their number; ``mean`` is the penalty.

    Raises:
      ValueError: shapes that do not agree.

    References:
      Krueger and Memisevic (2016), Regularizing RNNs by stabilizing activations.
      https://arxiv.org/abs/1511.08400
    """
    checks.shapes("norm_stabiliser", "h_0", h_0.shape, "hs without the first axis", hs.shape[1:])
    mask = checks.ticks("norm_stabiliser", "mask", mask, hs[..., 0])
    norms = _norm(_wide("norm_stabiliser", hs if mask is None else jnp.where(mask[..., None], hs, 0)))
    first = _norm(_wide("norm_stabiliser", h_0))[None]
    before = jnp.concatenate([first, norms[:-1]])
    if mask is not None:
        tick = jnp.arange(1, len(hs) + 1).reshape((-1,) + (1,) * (mask.ndim - 1))
        last_real = jax.lax.cummax(jnp.where(mask, tick, 0), axis=0)
        last_real = jnp.concatenate([jnp.zeros_like(last_real[:1]), last_real[:-1]])
        before = jnp.take_along_axis(jnp.concatenate([first, norms]), last_real, axis=0)
    return tally(beta * (norms - before) ** 2, mask)


def _norm(h: Array) -> Array:
    """‖h‖ over the last axis, with gradient zero where h = 0."""
    square = (h**2).sum(-1)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


def _wide(who: str, x: Array) -> Array:
    """At least float32, so that a sum of many ticks keeps its digits."""
    checks.floats(who, x)
    return x.astype(accumulator(x.dtype))


def _pair(who: str, outputs: Array, targets: Array, mask: Array | None) -> tuple[Array, Array]:
    checks.shapes(who, "targets", jnp.shape(targets), "outputs", jnp.shape(outputs))
    mask = checks.ticks(who, "mask", mask, outputs[..., 0])
    outputs = _wide(who, outputs)
    targets = jnp.asarray(targets).astype(outputs.dtype)
    if mask is not None:
        outputs, targets = (jnp.where(mask[..., None], leaf, 0) for leaf in (outputs, targets))
    return outputs, targets
