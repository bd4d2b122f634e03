"""The laboratory of vanishing, exploding and remembering: where gradients go in time, and what to do about it.

`flow` answers for any cell on a real batch; `lyapunov_exponents`, `step_jacobians`, `sensitivity` and
`untied_gradients` look closer. `clip_state_gradient` bounds gradients inside time, `hessian_free_step` learns by
curvature. `elman_bptt`, `linear_bptt` and `lstm_bptt` are the chain rule by hand. Scalar chains, random products,
iterated maps and the cliff show the same in one or two numbers; `train_latch`, `train_recall`, `try_remedy` and
`norms_beyond` are experiments that learn. `figures` draws them all.
"""

from seqjax.gradients import figures
from seqjax.gradients.bptt import Barred, elman_bptt, linear_bptt, lstm_bptt
from seqjax.gradients.chains import RandomProducts, random_products, scalar_chain
from seqjax.gradients.cliff import Point, cliff_descent, cliff_loss
from seqjax.gradients.clipping import ClipStatistics, clip_state_gradient, clip_statistics, watch_state_gradient
from seqjax.gradients.depth import depth_stretch
from seqjax.gradients.descent import Descent, descend
from seqjax.gradients.flow import Flow, flow
from seqjax.gradients.hessian_free import (
    HessianFreeInfo,
    HessianFreeState,
    gauss_newton_product,
    hessian_free,
    hessian_free_step,
)
from seqjax.gradients.jacobians import lyapunov_exponents, step_jacobians
from seqjax.gradients.latch import Latch, latch_probability, train_latch
from seqjax.gradients.maps import Attractors, Basins, attractors, basins, bifurcation, logistic_map, map_cell, period
from seqjax.gradients.norms import Norms, norms_beyond
from seqjax.gradients.recall import Questions, Recall, train_recall
from seqjax.gradients.remedies import Remedy, Trial, remedies, try_remedy
from seqjax.gradients.saturation import Saturation, with_gates, with_saturation
from seqjax.gradients.sensitivity import sensitivity, untied_gradients, weight_gradient_norms

__all__ = [
    "Attractors",
    "Barred",
    "Basins",
    "ClipStatistics",
    "Descent",
    "Flow",
    "HessianFreeInfo",
    "HessianFreeState",
    "Latch",
    "Norms",
    "Point",
    "Questions",
    "RandomProducts",
    "Recall",
    "Remedy",
    "Saturation",
    "Trial",
    "attractors",
    "basins",
    "bifurcation",
    "cliff_descent",
    "cliff_loss",
    "clip_state_gradient",
    "clip_statistics",
    "depth_stretch",
    "descend",
    "elman_bptt",
    "figures",
    "flow",
    "gauss_newton_product",
    "hessian_free",
    "hessian_free_step",
    "latch_probability",
    "linear_bptt",
    "logistic_map",
    "lstm_bptt",
    "lyapunov_exponents",
    "map_cell",
    "norms_beyond",
    "period",
    "random_products",
    "remedies",
    "scalar_chain",
    "sensitivity",
    "step_jacobians",
    "train_latch",
    "train_recall",
    "try_remedy",
    "untied_gradients",
    "watch_state_gradient",
    "weight_gradient_norms",
    "with_gates",
    "with_saturation",
]
