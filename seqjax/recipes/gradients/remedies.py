"""Remedies for vanishing and exploding gradients, side by side on the adding problem, over several seeds."""

import dataclasses

import jax
import numpy as np
import optax

from seqjax import tasks
from seqjax.gradients import figures, lessons
from seqjax.recipes.gradients.experiment import LearningOptions, Report
from seqjax.recipes.running.options import check_seed, check_sizes

TESTED, POINTS = 200, 75


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(LearningOptions):
    """Ten remedies on the adding problem: learning curves, errors, and how much gradient arrives at the first tick."""

    steps: int = 3000
    length: int = 100
    """Ticks of the adding problem."""
    hidden_size: int = 32
    """Units of each network; of the reservoir 200."""
    batch_size: int = 20
    """Sequences an update."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of parameters and data, a run each."""

    def check(self, who: str) -> None:
        """Refuses sizes out of range."""
        super().check(who)
        check_sizes(who, self, "length", "hidden_size", "batch_size")
        for seed in self.seeds:
            check_seed(who, seed)
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"{who}: expected --seeds that differ, at least one, got {self.seeds}. Name some.")


def main(options: Options, report: Report) -> None:
    """``python -m seqjax gradients remedies``."""
    length, seeds = (20, options.seeds[:2]) if options.small else (options.length, options.seeds)
    problem, adam = tasks.adding(length), optax.adam(options.learning_rate)
    drawn = {seed: data(problem, seed, options.steps, options.batch_size) for seed in seeds}
    trials = {}
    for name, remedy in lessons.remedies(2, options.hidden_size).items():
        trials[name] = [lessons.try_remedy(remedy, jax.random.key(seed), *drawn[seed], adam) for seed in seeds]
        print(f"{name}: squared error {', '.join(f'{float(t.test_error):.4f}' for t in trials[name])}", flush=True)
    report.say(
        f"\nThe adding problem over {length} ticks, {options.steps:,} updates of {options.batch_size} sequences, "
        f"{len(seeds)} seed{'s' * (len(seeds) > 1)}; a blind answer's squared error is {problem.chance:.4f}. Medians, "
        "and the range of the error:"
    )
    report.say(figures.table(trials))
    report.say(figures.told(trials, problem.chance))
    updates, losses = figures.curves(trials, max(1, options.steps // POINTS))
    errors = {name: [float(one.test_error) for one in several] for name, several in trials.items()}
    report.draw("remedies", "remedies", updates=updates, losses=losses, errors=errors, chance=problem.chance)


def data(problem: tasks.Problem, seed: int, steps: int, batch: int) -> tuple[tuple, tuple]:
    """Batches to learn from, inputs ``[S, T, B, d]`` and targets ``[S, B, k]``, and sequences to be tested on."""
    rng = np.random.default_rng(seed)
    many, test = problem.draw(rng, steps * batch), problem.draw(rng, TESTED)
    length, _, features = many.xs.shape
    xs = many.xs.reshape(length, steps, batch, features).swapaxes(0, 1)
    return (xs, many.targets.reshape(steps, batch, -1)), (test.xs, test.targets)
