"""Capacity for each parameter: random bits learned by heart, by an Elman network and by gated ones of equal size."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np
import optax

import seqjax as sj
from seqjax.gradients import lessons
from seqjax.recipes.gradients.experiment import DrawnOptions, LearningOptions, Report
from seqjax.recipes.running.options import check_sizes

FEATURES = 4  # bits of an input
SHARES = (1.0, 2.0, 4.0, 6.0)  # bits shown, for each parameter
CELLS: dict[str, Callable[[int, int], sj.Cell]] = {"Elman": sj.elman, "GRU": sj.gru, "LSTM": sj.lstm}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(LearningOptions, DrawnOptions):
    """Random bits that networks learn by heart, for each of their parameters: Elman against gated."""

    steps: int = 4000
    learning_rate: float = 1e-2
    parameters: tuple[int, ...] = (75, 150, 300)
    """Parameters of the networks, about."""
    length: int = 6
    """Ticks of the sequences."""
    repeats: int = 3
    """Networks, each with other bits."""

    def check(self, who: str) -> None:
        """Refuses sizes out of range."""
        super().check(who)
        check_sizes(who, self, "length", "repeats")
        if not self.parameters or min(self.parameters) < 40:
            raise ValueError(f"{who}: expected --parameters of at least 40, got {self.parameters}. Name some.")


def main(options: Options, report: Report) -> None:
    """``python -m seqjax gradients capacity``."""
    budgets, repeats = (options.parameters[:1], 2) if options.small else (options.parameters, options.repeats)
    shares = SHARES[:2] if options.small else SHARES
    schedule = optax.cosine_decay_schedule(options.learning_rate, options.steps)
    optimizer = optax.chain(sj.clip_by_global_norm(1.0), optax.adam(schedule))
    keys = jax.random.split(jax.random.key(options.seed), repeats)
    counts, bits, sizes, best = dict[str, list](), dict[str, np.ndarray](), dict[str, list](), dict[str, list]()
    for name, make in CELLS.items():
        sizes[name], best[name] = [], []
        for budget in budgets:
            units = fitting(make, budget)
            size, shown = parameters(make, units), [round(share * budget) for share in shares]
            learn = functools.partial(
                lessons.memorise,
                make(FEATURES, units),
                units,
                length=options.length,
                steps=options.steps,
                optimizer=optimizer,
            )
            known = np.stack([jax.vmap(functools.partial(learn, count=count))(keys).bits for count in shown], 1)
            sizes[name].append(size)
            best[name].append(known.max(1))
            counts[name], bits[name] = shown, known
            print(
                f"{name} of {units} units, {size} parameters: at most {np.median(best[name][-1]):.0f} bits", flush=True
            )
    most = {name: np.stack(found, 1) for name, found in best.items()}
    report.say(
        f"\nSequences of {options.length} ticks of {FEATURES} random bits, a random bit to learn for each, "
        f"{options.steps:,} updates on all of them, {repeats} network{'s' * (repeats > 1)}. Most bits known, median "
        "and range, and bits for each parameter:"
    )
    report.table(
        ["cell", *(f"about {budget} parameters" for budget in budgets)],
        [[name, *map(told, most[name].T, sizes[name])] for name in CELLS],
    )
    largest = int(np.argmax(budgets))
    each = {name: float(np.median(most[name][:, largest])) / sizes[name][largest] for name in CELLS}
    first, *_, last = sorted(each, key=lambda name: -each[name])
    factor = f": a factor of {each[first] / each[last]:.2f}" if each[last] else ""
    report.say(
        f"At the largest size the {first} keeps most for each parameter, {each[first]:.2f} bits, and the {last} "
        f"least, {each[last]:.2f}{factor}."
    )
    report.draw("capacity", "capacity", counts=counts, bits=bits, parameters=sizes, best=most)


def told(bits: np.ndarray, size: int) -> str:
    """Median and range over networks, and the median for each parameter."""
    middle = float(np.median(bits))
    return f"{middle:.0f} ({bits.min():.0f} to {bits.max():.0f}), {middle / size:.2f} a parameter"


def parameters(make: Callable[[int, int], sj.Cell], units: int) -> int:
    """Of the cell and its readout."""
    shapes = jax.eval_shape(make(FEATURES, units).init, jax.random.key(0))
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes)) + units + 1


def fitting(make: Callable[[int, int], sj.Cell], budget: int) -> int:
    """The number of units whose parameters come nearest to a budget."""
    return min(range(1, 100), key=lambda units: abs(parameters(make, units) - budget))
