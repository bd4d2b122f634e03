"""Losses of single ticks."""

import math
from typing import TypeVar

import jax.numpy as jnp
import numpy as np
import optax

from seqjax import checks, spread
from seqjax.base import Array
from seqjax.logarithms import log_softmax
from seqjax.losses.totals import Tally, real_ticks, tally, wide

Number = TypeVar("Number", Array, float)


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
    checks.shapes("cross_entropy", "labels", np.shape(labels), "logits without the last axis", logits.shape[:-1])
    mask = real_ticks("cross_entropy", mask, labels)
    logits = wide("cross_entropy", logits)
    known = (labels >= 0) & (labels < logits.shape[-1])
    if mask is not None:
        logits = jnp.where(mask[..., None], logits, 0)
    log_probs = log_softmax(logits)  # the maximum is subtracted first: what all logits share costs no digits
    losses = -jnp.take_along_axis(spread.whole(log_probs, -1), jnp.where(known, labels, 0)[..., None], -1)[..., 0]
    return tally(jnp.where(known, losses, jnp.nan), mask)


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


def _pair(who: str, outputs: Array, targets: Array, mask: Array | None) -> tuple[Array, Array]:
    checks.shapes(who, "targets", np.shape(targets), "outputs", np.shape(outputs))
    mask = real_ticks(who, mask, outputs[..., 0])
    outputs = wide(who, outputs)
    targets = jnp.asarray(targets).astype(outputs.dtype)
    if mask is not None:
        outputs, targets = (jnp.where(mask[..., None], leaf, 0) for leaf in (outputs, targets))
    return outputs, targets
