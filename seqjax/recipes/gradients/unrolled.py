"""The unrolled graph of a recurrence, with the gradient that goes back along it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from seqjax import gradients
from seqjax.recipes.gradients.experiment import DrawnOptions, Report


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(DrawnOptions):
    """A recurrence folded and unrolled, and the gradient on every edge of its graph."""

    ticks: int = 4
    """Copies of the step."""

    def check(self, who: str) -> None:
        """Refuses graphs that do not fit a page."""
        super().check(who)
        if not 2 <= self.ticks <= 6:
            raise ValueError(f"{who}: expected --ticks from 2 to 6, so that the graph fits a page, got {self.ticks}.")


def main(options: Options, report: Report) -> None:
    """``python -m seqjax gradients unrolled``."""
    own, noise, readout = jax.random.split(jax.random.key(options.seed), 3)
    cell = sj.elman(2, 3)
    params, xs = cell.init(own), jax.random.normal(noise, (options.ticks, 2))
    state, weights = cell.initial_state(params), jax.random.normal(readout, (3,))
    loss = lambda ys: ys[-1] @ weights
    along = gradients.flow(cell, params, state, xs, loss, probes=1).loss_gradient
    copies = gradients.untied_gradients(cell, params, state, xs, loss)
    shared = jax.grad(lambda p: loss(sj.unroll(cell, p, state, xs)[1]))(params)
    size = lambda tree: np.sqrt(sum((np.asarray(leaf) ** 2).sum() for leaf in jax.tree.leaves(tree)))
    shares = [size(jax.tree.map(lambda leaf, t=t: leaf[t], copies)) for t in range(options.ticks)]
    apart = size(jax.tree.map(lambda c, s: c.sum(0) - s, copies, shared))
    report.say(
        f"{cell!r}, loss on the last output. Every tick has a copy of the parameters; the gradient of the shared ones "
        "is the sum over copies."
    )
    report.table(
        ["tick", "‖dL/ds_t‖", "‖∂L/∂θ_t‖"],
        [[str(t + 1), f"{float(along[t]):.4f}", f"{shares[t]:.4f}"] for t in range(options.ticks)]
        + [["sum", "", f"{size(jax.tree.map(lambda c: jnp.sum(c, 0), copies)):.4f}"]],
    )
    report.say(
        f"‖dL/dθ‖ of the shared parameters is {size(shared):.4f}; the sum of the copies differs from it by {apart:.0e}."
    )
    report.draw("unrolled", "unrolled", along=along, shares=shares)
