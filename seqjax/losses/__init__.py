"""Losses of a chunk as a sum and a count, so that chunks, windows and devices add up exactly.

    >>> import jax.numpy as jnp, seqjax as sj
    >>> mask = jnp.array([True, True, False])
    >>> total = sj.cross_entropy(jnp.zeros((3, 4)), jnp.array([0, 3, 1]), mask)
    >>> total.count.item(), sj.bits_per_character(total.mean).item()
    (2, 2.0)

In order of reading:

- `Tally`: what a loss returns; `tally` makes one of the losses of single ticks. (totals)
- `cross_entropy`, `mean_squared_error`, `multi_label_cross_entropy`, `bits_per_character`. (ticks)
- `ctc`, of `Labels` that nobody has placed in time, and `ctc_losses`, sequence by sequence. (alignments, on placements)
- `norm_stabiliser`, a penalty on states (norms); `l1` and `l2`, penalties on parameters (penalties).
"""

from seqjax.losses.alignments import Labels, ctc, ctc_losses
from seqjax.losses.norms import norm_stabiliser
from seqjax.losses.penalties import l1, l2
from seqjax.losses.ticks import bits_per_character, cross_entropy, mean_squared_error, multi_label_cross_entropy
from seqjax.losses.totals import Tally, tally

__all__ = [
    "Labels",
    "Tally",
    "bits_per_character",
    "cross_entropy",
    "ctc",
    "ctc_losses",
    "l1",
    "l2",
    "mean_squared_error",
    "multi_label_cross_entropy",
    "norm_stabiliser",
    "tally",
]
