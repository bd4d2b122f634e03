"""The latch: the chance of learning to keep one bit, against how long it must be kept."""

import dataclasses
import functools

import jax
import optax

import seqjax as sj
from seqjax import initializers
from seqjax.gradients import lessons
from seqjax.gradients.lessons.latch import ENOUGH, TEST
from seqjax.recipes.gradients.experiment import DrawnOptions, LearningOptions, Report
from seqjax.recipes.running.options import check_positive, check_sizes

SLOW = 200.0  # ticks of the longest memory that slow gates start with


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(LearningOptions, DrawnOptions):
    """The chance of learning to keep one bit for T ticks, with equal biases and with gates that start slow."""

    steps: int = 300
    learning_rate: float = 0.02
    lengths: tuple[int, ...] = (5, 8, 12, 17, 25, 36, 50, 70, 100, 140)
    """Ticks that the bit must be kept."""
    units: int = 20
    """Networks a length, each from other parameters and other data."""
    batch_size: int = 8
    """Sequences an update."""
    noise: float = 0.2
    """Standard deviation of all inputs but the first."""

    def check(self, who: str) -> None:
        """Refuses sizes out of range."""
        super().check(who)
        check_sizes(who, self, "units", "batch_size")
        check_positive(who, self, "noise")
        if not self.lengths or min(self.lengths) < 2 or len(set(self.lengths)) < len(self.lengths):
            raise ValueError(f"{who}: expected --lengths of at least 2 that differ, got {self.lengths}. Name some.")


def main(options: Options, report: Report) -> None:
    """``python -m seqjax gradients latch``."""
    lengths, units = (options.lengths[:2], 4) if options.small else (options.lengths, options.units)
    zero, slow = initializers.zero_bias, initializers.chrono(SLOW)
    groups: dict[str, dict[str, tuple[sj.Cell, int]]] = {
        "latch": {
            "one tanh unit": (sj.elman(1, 1), 1),
            "4 tanh units": (sj.elman(1, 4), 4),
            "GRU of 4": (sj.gru(1, 4, b_init=zero), 4),
            "LSTM of 4": (sj.lstm(1, 4, b_init=zero), 4),
        },
        "latch_slow_gates": {
            "GRU of 4, slow gates": (sj.gru(1, 4, b_init=slow), 4),
            "LSTM of 4, slow gates": (sj.lstm(1, 4, b_init=slow), 4),
        },
    }
    probability = functools.partial(
        lessons.latch_probability,
        optimizer=optax.adam(options.learning_rate),
        runs=units,
        steps=options.steps,
        batch=options.batch_size,
        noise=options.noise,
    )
    report.say(
        f"Of {units} networks each, the share that learns in {options.steps} updates to name at least "
        f"{ENOUGH} of {TEST} classes, with the interval that covers 95 %. All biases start "
        f"at 0, but for slow gates, which start with memories of 1 to {SLOW:g} ticks."
    )
    for name, cells in groups.items():
        found = {
            cell: probability(*made, jax.random.key(options.seed), lengths).tolist() for cell, made in cells.items()
        }
        report.table(
            ["network", *(f"T = {length}" for length in lengths)],
            [[cell, *(told(share, units) for share in line)] for cell, line in found.items()],
        )
        for cell, line in found.items():
            report.say(f"{cell}: {reach(lengths, line)}")
        report.draw(name, "latch", lengths=lengths, probabilities=found, runs=units)


def told(share: float, runs: int) -> str:
    """A share with its interval."""
    low, high = lessons.wilson(share, runs)
    return f"{share:.2f} ({low:.2f} to {high:.2f})"


def reach(lengths: tuple[int, ...], shares: list[float]) -> str:
    """Up to which length at least a half of the networks learn it, none shorter failing."""
    until = next((k for k, share in enumerate(shares) if share < 0.5), len(lengths))
    if until == 0:
        return f"fewer than a half learn even {lengths[0]} ticks."
    more = "as far as was tried" if until == len(lengths) else f"at {lengths[until]} only {shares[until]:.0%}"
    return f"at least a half learn it up to {lengths[until - 1]} ticks, {more}."
