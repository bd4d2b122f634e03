"""Symbols whose order is known and whose ticks are not."""

from typing import Literal, NamedTuple

import jax.numpy as jnp

from seqjax import checks
from seqjax.base import Array
from seqjax.logarithms import log_softmax
from seqjax.losses.placements import Places, log_sum
from seqjax.losses.totals import Tally, real_ticks, wide
from seqjax.products import along


class Labels(NamedTuple):
    """Symbols said in a sequence, nobody knows at which ticks.

    Attributes:
      symbols: ``[L, *B]`` of integers, none of them the blank (0 unless `ctc` is told otherwise).
      mask: ``[L, *B]`` of bool, True at the first so many of each sequence; None for all.
    """

    symbols: Array
    mask: Array | None = None


def ctc(
    logits: Array,
    labels: Labels,
    mask: Array | None = None,
    *,
    blank: int = 0,
    impossible: Literal["infinite", "omitted"] = "infinite",
) -> Tally:
    """Cross-entropy of symbols said in order, over all the ways to place them in time, in nats.

        -log Σ_π ∏_t softmax(logits_t)[π_t]      over paths π that say the symbols

    A path says what is left of it when repetitions are merged and then blanks dropped.

    Args:
      logits: ``[T, *B, 1 + v]``.
      labels: what was said.
      mask: ``[T, *B]``, True at real ticks.
      blank: the symbol that says nothing.
      impossible: a sequence that cannot be said, in too few ticks or by symbols that the model rules out, costs
        infinitely much (``"infinite"``), or is left out of sum and count (``"omitted"``). It has no gradient.

    Returns:
      The sum over sequences, and the number of symbols said. A sequence with a symbol that is none, the blank included,
      is NaN.

    Raises:
      TypeError: symbols that are not integers.
      ValueError: shapes that do not agree, a blank outside 0 … v, or another word for ``impossible``.

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
    checks.choice("ctc", "impossible", impossible, ("infinite", "omitted"))
    losses = ctc_losses(logits, labels, mask, blank=blank)
    said = jnp.ones(labels.symbols.shape, bool) if labels.mask is None else jnp.asarray(labels.mask)
    if impossible == "omitted":
        possible = losses != jnp.inf
        losses, said = jnp.where(possible, losses, 0), said & possible[None]
    return Tally(losses.sum(), said.sum())


def ctc_losses(logits: Array, labels: Labels, mask: Array | None = None, *, blank: int = 0) -> Array:
    """What `ctc` adds up: the loss of each sequence, by the backward algorithm.

        β_{t-1}(s) = g_t(s) + g_t(s+1) + g_t(s+2) where l_{s+2} is no blank and not l_s        g_t(s) = β_t(s) p_t(l_s)

    over l = blank, l_1, blank, l_2 … l_n, blank. Each β is divided by its largest, so that long sequences keep digits.

    Args:
      logits: as in `ctc`.
      labels: as in `ctc`.
      mask: as in `ctc`.
      blank: as in `ctc`.

    Returns:
      ``[*B]`` in nats: infinite, with a gradient of zero, where no path says the symbols.

    Raises:
      TypeError: as in `ctc`.
      ValueError: as in `ctc`.

    Example:
      >>> said = Labels(jnp.array([[1, 1], [1, 2]]))
      >>> losses = ctc_losses(jnp.zeros((2, 2, 3)), said)
      >>> jnp.isinf(losses).tolist()  # "1 1" takes a blank between: three ticks
      [True, False]
    """
    symbols = checks.symbols("ctc", labels.symbols)
    size = logits.shape[-1]
    if not 0 <= blank < size:
        raise ValueError(f"ctc: expected a blank from 0 to {size - 1}, got {blank!r}. Give one of the outputs.")
    batch = logits.shape[1:-1]
    checks.shapes("ctc", "symbols without their first axis", symbols.shape[1:], "batch of the logits", batch)
    mask = real_ticks("ctc", mask, logits[..., 0])
    said = real_ticks("ctc", labels.mask, symbols, "the labels' mask")
    said = jnp.ones(symbols.shape, bool) if said is None else said
    known = (symbols >= 0) & (symbols < size) & (symbols != blank)
    logits = wide("ctc", logits)
    log_probs = log_softmax(logits if mask is None else jnp.where(mask[..., None], logits, 0))

    ours = jnp.moveaxis(jnp.where(said & known, symbols, blank), 0, -1)  # [*B, L]
    path = jnp.full((*batch, 2 * ours.shape[-1] + 1), blank, ours.dtype).at[..., 1::2].set(ours)
    by_symbol = jnp.moveaxis(log_probs, 0, -1)  # so that whole rows of ticks are looked up, and added up in gradients
    emitted = jnp.moveaxis(jnp.take_along_axis(by_symbol, path[..., None], -2), -1, 0)  # [T, *B, 2L + 1]
    later = jnp.concatenate([path[..., 2:], jnp.full_like(path[..., :2], blank)], -1)[..., : path.shape[-1]]
    end = 2 * said.sum(0, dtype=jnp.int32)[..., None]
    left = end - along(jnp.arange(path.shape[-1], dtype=jnp.int32), end)
    places = Places((later != blank) & (later != path), (left == 0) | (left == 1))
    log_p = log_sum(emitted, places, mask)
    losses = jnp.where(log_p == -jnp.inf, jnp.inf, -log_p)
    return jnp.where((known | ~said).all(0), losses, jnp.nan)
