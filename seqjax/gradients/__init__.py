"""Where the gradients of a recurrence go in time: instruments that ask any cell, on a real batch.

In order of reading:

    flow                  one call, one report: norms, stretch, effective memory, saturation
    jacobians             the Jacobians of the step, and the Lyapunov exponents of the run
    sensitivity           what an output owes to each input; the gradient of shared weights, tick by tick
    saturation            every σ and tanh of a step as an output, and how near they are to their ends
    clipping              the state's gradient bounded, or only watched, at every tick of the backward pass
    backward, vectors     what these are made of: an identity with another backward pass; a state as one vector

`lessons` holds the experiments of the notebooks, `figures` draws instruments and lessons alike. Learning by curvature
is a room of its own, `seqjax.curvature`.

Example:
  A unit that keeps half of its state, asked about the last of four ticks. Its gradient falls by 2 a tick, as the
  exponent says of runs of any length; an input matters as much as the state it enters; a bound inside time caps what
  one tick hands to the one before:

  >>> import jax.numpy as jnp, seqjax as sj
  >>> from seqjax import gradients
  >>> cell = sj.elman(1, 1, activation=lambda a: a, b_init=None)
  >>> params = sj.ElmanParams(w_x=jnp.ones((1, 1)), w_h=jnp.full((1, 1), 0.5), b=None)
  >>> state, xs, last = cell.initial_state(params), jnp.ones((4, 1)), lambda ys: ys[-1, 0]
  >>> gradients.flow(cell, params, state, xs, last, probes=1).loss_gradient.tolist()
  [0.125, 0.25, 0.5, 1.0]
  >>> jnp.exp(gradients.lyapunov_exponents(cell, params, state, xs)).round(3).tolist()
  [0.5]
  >>> gradients.sensitivity(cell, params, state, xs, last).tolist()
  [0.125, 0.25, 0.5, 1.0]
  >>> clipped = gradients.clip_state_gradient(cell, 0.25)
  >>> gradients.sensitivity(clipped, params, state, xs, last).tolist()
  [0.0625, 0.125, 0.25, 1.0]
"""

from typing import TYPE_CHECKING, Any

from seqjax import curvature
from seqjax.gradients import figures, lessons
from seqjax.gradients.clipping import ClipStatistics, clip_state_gradient, clip_statistics, watch_state_gradient
from seqjax.gradients.flow import Flow, flow
from seqjax.gradients.jacobians import lyapunov_exponents, step_jacobians
from seqjax.gradients.saturation import Saturation, with_gates, with_saturation
from seqjax.gradients.sensitivity import sensitivity, untied_gradients, weight_gradient_norms

__all__ = [
    "ClipStatistics",
    "Flow",
    "Saturation",
    "clip_state_gradient",
    "clip_statistics",
    "figures",
    "flow",
    "lessons",
    "lyapunov_exponents",
    "sensitivity",
    "step_jacobians",
    "untied_gradients",
    "watch_state_gradient",
    "weight_gradient_norms",
    "with_gates",
    "with_saturation",
]


if not TYPE_CHECKING:  # so that a type checker still knows a misspelt name

    def __getattr__(name: str) -> Any:
        """The lessons, and learning by curvature, under the names they had here."""
        for room in (lessons, curvature):
            if name in room.__all__:
                return getattr(room, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
