"""Lessons on vanishing, exploding and remembering: small experiments in one or two numbers, and small networks.

In order of reading:

    chains, depth         products of factors and of Jacobians: what repeated multiplication does
    by_hand               backpropagation through time written out, for the Elman network and the LSTM
    maps, cliff           a recurrence as a map: orbits, attractors and their basins, the loss of one as a surface
    bounded               a state that is bounded, with a derivative that is not
    clipping_bias         the mean of clipped gradients against the clipped mean
    latch, recall         networks that must keep one bit, or one symbol, for T ticks
    capacity              how many random bits a network learns by heart
    remedies, norms       what is done about it, tried on one task
    descent               the training run that the last five share

The notebooks tell them with figures (`seqjax.gradients.figures`). The first lesson, and the second as its remedy: a
chain that forgets by one half a tick, and how far ten random layers stretch a gradient, without and with the identity
beside each of them.

Example:
  >>> import jax
  >>> from seqjax.gradients import lessons
  >>> lessons.scalar_chain(0.5, 10)[-1].item()
  0.0009765625
  >>> stretch = {r: lessons.depth_stretch(jax.random.key(0), 32, 10, residual=r)[-1, 0].item() for r in (False, True)}
  >>> stretch[False] < 0 < stretch[True]
  True
"""

from seqjax.gradients.lessons.bounded import Bounded, bounded_run
from seqjax.gradients.lessons.by_hand import Barred, elman_bptt, linear_bptt, lstm_bptt
from seqjax.gradients.lessons.capacity import Memorised, known_bits, memorise
from seqjax.gradients.lessons.chains import RandomProducts, random_products, scalar_chain
from seqjax.gradients.lessons.cliff import Point, cliff_descent, cliff_loss
from seqjax.gradients.lessons.clipping_bias import ClippingBias, clipping_bias
from seqjax.gradients.lessons.depth import depth_stretch
from seqjax.gradients.lessons.descent import Descent, descend
from seqjax.gradients.lessons.latch import Latch, latch_probability, train_latch, wilson
from seqjax.gradients.lessons.maps import (
    Attractors,
    Basins,
    attractors,
    basins,
    bifurcation,
    logistic_map,
    map_cell,
    period,
)
from seqjax.gradients.lessons.norms import Norms, norms_beyond
from seqjax.gradients.lessons.recall import Questions, Recall, train_recall
from seqjax.gradients.lessons.remedies import Remedy, Trial, remedies, try_remedy

__all__ = [
    "Attractors",
    "Barred",
    "Basins",
    "Bounded",
    "ClippingBias",
    "Descent",
    "Latch",
    "Memorised",
    "Norms",
    "Point",
    "Questions",
    "RandomProducts",
    "Recall",
    "Remedy",
    "Trial",
    "attractors",
    "basins",
    "bifurcation",
    "bounded_run",
    "cliff_descent",
    "cliff_loss",
    "clipping_bias",
    "depth_stretch",
    "descend",
    "elman_bptt",
    "known_bits",
    "latch_probability",
    "linear_bptt",
    "logistic_map",
    "lstm_bptt",
    "map_cell",
    "memorise",
    "norms_beyond",
    "period",
    "random_products",
    "remedies",
    "scalar_chain",
    "train_latch",
    "train_recall",
    "try_remedy",
    "wilson",
]
