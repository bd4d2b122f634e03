"""A state that is bounded going forwards, while its derivative is not."""

import dataclasses

import jax
import numpy as np

from seqjax.gradients import lessons
from seqjax.recipes.gradients.experiment import DrawnOptions, Report
from seqjax.recipes.running.options import check_sizes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(DrawnOptions):
    """The state of a tanh network, which stays below √n, and its derivative by where it began, which need not."""

    size: int = 64
    """Units."""
    length: int = 100
    """Ticks."""
    gains: tuple[float, ...] = (0.8, 1.5, 3.0)
    """Standard deviations of the recurrent weights, times √n."""

    def check(self, who: str) -> None:
        """Refuses sizes and gains out of range."""
        super().check(who)
        check_sizes(who, self, "size", "length")
        if not self.gains or min(self.gains) <= 0 or len(self.gains) > 4:
            raise ValueError(f"{who}: expected one to four --gains above 0, got {self.gains}. Set them.")


def main(options: Options, report: Report) -> None:
    """``python -m seqjax gradients bounded``."""
    size, length = (8, 20) if options.small else (options.size, options.length)
    runs = {
        f"gain {gain:g}": lessons.bounded_run(jax.random.key(options.seed), size, length, gain)
        for gain in options.gains
    }
    report.say(f"h_t = tanh(h_(t-1) U), {size} units, no input: ‖h_t‖ ≤ √{size} = {size**0.5:.3g} whatever U is.")
    late = length // 2
    report.table(
        ["weights", "largest ‖h_t‖", f"‖h_{length}‖", f"‖dh_{length}/dh_0‖", "nats a tick, late"],
        [
            [
                name,
                f"{float(run.norm.max()):.3f}",
                f"{float(run.norm[-1]):.3g}",
                f"10^{float(run.log_jacobian[-1]) / np.log(10):.1f}",
                f"{float(run.log_jacobian[-1] - run.log_jacobian[late]) / (length - late):+.3f}",
            ]
            for name, run in runs.items()
        ],
    )
    report.draw(
        "bounded",
        "bounded",
        bound=size**0.5,
        norms={name: run.norm for name, run in runs.items()},
        logs={name: run.log_jacobian for name, run in runs.items()},
    )
    grown = [name for name, run in runs.items() if run.log_jacobian[-1] > 0]
    report.say(
        "The state is bounded with every gain; the derivative grew over the run with "
        f"{', '.join(grown) if grown else 'none of them'}. A bound on the state says nothing about the gradient."
    )
