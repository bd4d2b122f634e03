"""The cliff: a wall in the loss that throws a plain descent off the map, and a clipped one down to its foot."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.base import Array
from seqjax.gradients import lessons
from seqjax.recipes.gradients.experiment import ExperimentOptions, Report
from seqjax.recipes.running.options import check_positive, check_sizes

LOW, HIGH = -2.7, -1.9  # of the bias on the map


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(ExperimentOptions):
    """The loss of one unit as a surface, and gradient descent on it with and without clipping."""

    steps: int = 40
    """Updates of each descent."""
    learning_rate: float = 0.5
    """Of both."""
    clip: float = 0.1
    """Highest norm of the gradient of the one that is clipped."""

    def check(self, who: str) -> None:
        """Refuses what cannot descend."""
        super().check(who)
        check_sizes(who, self, "steps")
        check_positive(who, self, "learning_rate", "clip")


def main(options: Options, report: Report) -> None:
    """``python -m seqjax gradients cliff``."""
    side = 21 if options.small else 121
    w = jnp.linspace(4, 5, side)
    b = bent(w, side // 2)
    grid = lessons.Point(jnp.broadcast_to(w, b.shape), b)
    start = lessons.Point(jnp.array(4.6), jnp.array(-2.6))
    paths = {
        name: lessons.cliff_descent(start, options.learning_rate, options.steps, clip)
        for name, clip in (("without clipping", None), ("clipped", options.clip))
    }
    even = lessons.Point(*jnp.meshgrid(w, jnp.linspace(LOW, HIGH, 2 * side)))
    slope = jax.grad(lambda point: lessons.cliff_loss(point).sum())(even)
    norms = np.hypot(slope.w, slope.b)
    report.say(
        f"h_t = σ(w h_(t-1) + b), 50 ticks, loss (h_50 - 0.7)². On this map the norm of the gradient is "
        f"{np.median(norms):.3f} in the middle and {norms.max():.0f} at most. Two descents from w = {start.w:g}, "
        f"b = {start.b:g}, rate {options.learning_rate:g}:"
    )
    report.table(
        ["descent", "ends at w, b", "largest step", "lowest loss", "last loss"],
        [
            [
                name,
                f"{path.w[-1]:.2f}, {path.b[-1]:.2f}",
                f"{np.hypot(np.diff(path.w), np.diff(path.b)).max():.3g}",
                f"{losses.min():.2e}",
                f"{losses[-1]:.2e}",
            ]
            for name, (path, losses) in paths.items()
        ],
    )
    report.draw("cliff", "cliff", grid=grid, losses=lessons.cliff_loss(grid), paths=paths)


def bent(w: Array, count: int) -> Array:
    """So many biases below the wall b = -w/2 and as many above it: the wall becomes a line of the grid."""
    step = jnp.linspace(0, 1, count)[:, None]
    wall = -w / 2
    return jnp.concatenate([LOW + (wall - LOW) * (1 - step[::-1]), wall + (HIGH - wall) * step[1:]])
