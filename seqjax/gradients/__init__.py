"""The laboratory of vanishing, exploding and remembering: where gradients go in time, and what to do about it.

`flow` answers for any cell on a real batch; `lyapunov_exponents`, `step_jacobians`, `sensitivity` and
`untied_gradients` look closer. `clip_state_gradient` bounds gradients inside time, `hessian_free_step` learns by
curvature. `elman_bptt`, `linear_bptt` and `lstm_bptt` are the chain rule by hand. Scalar chains, random products,
iterated maps and the cliff show the same in one or two numbers.
"""

from seqjax.gradients.bptt import Barred, elman_bptt, linear_bptt, lstm_bptt
from seqjax.gradients.chains import RandomProducts, random_products, scalar_chain
from seqjax.gradients.cliff import Point, cliff_descent, cliff_loss
from seqjax.gradients.clipping import ClipStatistics, clip_state_gradient, clip_statistics, watch_state_gradient
from seqjax.gradients.depth import depth_stretch
from seqjax.gradients.flow import Flow, flow
from seqjax.gradients.hessian_free import (
    HessianFreeInfo,
    HessianFreeState,
    gauss_newton_product,
    hessian_free,
    hessian_free_step,
)
from seqjax.gradients.jacobians import lyapunov_exponents, step_jacobians
from seqjax.gradients.latch import latch_probability
from seqjax.gradients.maps import Basins, basins, bifurcation, logistic_map, map_cell, period
from seqjax.gradients.saturation import Saturation, with_gates, with_saturation
from seqjax.gradients.sensitivity import sensitivity, untied_gradients, weight_gradient_norms

__all__ = [
    "Barred",
    "Basins",
    "ClipStatistics",
    "Flow",
    "HessianFreeInfo",
    "HessianFreeState",
    "Point",
    "RandomProducts",
    "Saturation",
    "basins",
    "bifurcation",
    "cliff_descent",
    "cliff_loss",
    "clip_state_gradient",
    "clip_statistics",
    "depth_stretch",
    "elman_bptt",
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
    "period",
    "random_products",
    "scalar_chain",
    "sensitivity",
    "step_jacobians",
    "untied_gradients",
    "watch_state_gradient",
    "weight_gradient_norms",
    "with_gates",
    "with_saturation",
]
