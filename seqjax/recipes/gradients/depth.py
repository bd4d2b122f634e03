"""Depth instead of time: what a plain and a residual stack do to directions."""

import dataclasses

import jax
import numpy as np

from seqjax.gradients import lessons
from seqjax.recipes.gradients.experiment import DrawnOptions, Report
from seqjax.recipes.running.options import check_positive, check_sizes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(DrawnOptions):
    """Singular values of the Jacobian of plain and residual stacks, layer by layer."""

    size: int = 32
    """Units a layer."""
    layers: int = 60
    """Of each stack."""
    scale: float = 1.0
    """Standard deviation of the weights, times √n."""

    def check(self, who: str) -> None:
        """Refuses sizes out of range."""
        super().check(who)
        check_sizes(who, self, "size", "layers")
        check_positive(who, self, "scale")


def main(options: Options, report: Report) -> None:
    """``python -m seqjax gradients depth``."""
    layers = 10 if options.small else options.layers
    key = jax.random.key(options.seed)
    stretches = {
        name: lessons.depth_stretch(key, options.size, layers, scale=options.scale, residual=residual)
        for name, residual in (("plain", False), ("residual", True))
    }
    tens = {name: np.asarray(logs)[-1] / np.log(10) for name, logs in stretches.items()}
    report.say(f"dx_l/dx_0 of x_l = tanh(x W_l), and of x_l = x + tanh(x W_l), {options.size} units, layer {layers}:")
    report.table(
        ["stack", "largest singular value", "middle", "directions within 100 of the largest"],
        [
            [
                name,
                power(values[0]),
                power(np.median(values)),
                f"{(values > values[0] - 2).sum()} of {options.size}",
            ]
            for name, values in tens.items()
        ],
    )
    report.draw("depth", "depth", stretches=stretches)


def power(tens: float) -> str:
    """A power of ten; one that no float tells from 0 is that.

    >>> power(-1.25), power(-np.inf)
    ('10^-1.2', '0')
    """
    return "0" if tens == -np.inf else f"10^{tens:.1f}"
