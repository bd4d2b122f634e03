"""A recurrence as an iterated map: iterates, cycles, chaos, and the basins of a network that keeps one bit."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

import seqjax as sj
from seqjax import gradients
from seqjax.base import Array
from seqjax.gradients import lessons
from seqjax.recipes.gradients.experiment import DrawnOptions, Report
from seqjax.recipes.running.options import check_sizes

STARTS = {"$x_0$ = 0.1": 0.1, "$x_0$ = 0.6": 0.6}
TOLD = (2.8, 3.2, 3.5, 3.55, 3.83, 3.9, 4.0)  # rates in the table


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(DrawnOptions):
    """The iterates of r x (1 - x) as curves and as a cobweb, bifurcations, basins of attraction."""

    rate: float = 3.5
    """r of the iterates and the cobweb."""
    iterations: int = 30
    """Iterates shown."""
    rates: int = 700
    """Values of r in the bifurcation diagram."""
    steps: int = 400
    """Updates of the network of two units."""

    def check(self, who: str) -> None:
        """Refuses sizes out of range, and maps that leave 0 … 1."""
        super().check(who)
        check_sizes(who, self, "iterations", "rates", "steps")
        if not 0 < self.rate <= 4:
            raise ValueError(f"{who}: expected --rate above 0 and at most 4, got {self.rate:g}. Set it.")


def main(options: Options, report: Report) -> None:
    """``python -m seqjax gradients maps``."""
    rates = 60 if options.small else options.rates
    orbits = {name: orbit(options.rate, start, options.iterations) for name, start in STARTS.items()}
    settled = lessons.bifurcation(jnp.array([options.rate]), keep=256)[:, 0]
    found = int(lessons.period(settled))
    cycle = np.unique(np.round(settled[:found], 9)) if found else np.array([])
    report.say(
        f"x ← {options.rate:g} x (1 - x): "
        + (
            f"a cycle of {found}, {', '.join(f'{x:.4f}' for x in cycle)}; the product of f' round it is "
            f"{np.prod(options.rate * (1 - 2 * cycle)):.4f}"
            if found
            else "no cycle of up to 128 iterations"
        )
        + "."
    )
    report.draw("iterates", "iterates", rate=options.rate, orbits=orbits, cycle=cycle)

    told = jnp.array(TOLD)
    periods, exponents = lessons.period(lessons.bifurcation(told, start=0.3, skip=20_000, keep=256)), exponents_of(told)
    report.table(
        ["r", "period", "exponent (nats an iteration)", "so the past is"],
        [
            [
                f"{r:g}",
                str(int(p)) if p else "none",
                f"{e:+.4f}",
                "forgotten" if e < -0.01 else "kept" if e < 0.01 else "blown up",
            ]
            for r, p, e in zip(TOLD, periods, exponents)
        ],
    )
    grid = jnp.linspace(2.5, 4.0, rates)
    report.draw(
        "bifurcation",
        "bifurcation",
        rates=grid,
        orbit=lessons.bifurcation(grid, keep=96),
        exponents=exponents_of(grid),
    )
    two_units(options, report)


def orbit(rate: float, start: float, iterations: int) -> Array:
    """``[iterations + 1]``, the start included."""
    x = jnp.asarray(start, jnp.result_type(float))
    _, xs = sj.unroll(lessons.logistic_map, jnp.asarray(rate, x.dtype), x, None, length=iterations)
    return jnp.append(x, xs)


def exponents_of(rates: Array) -> Array:
    """The Lyapunov exponent of the map at every rate."""
    start = jnp.full(rates.shape, 0.3, rates.dtype)
    return gradients.lyapunov_exponents(lessons.logistic_map, rates, start, None, length=2000, skip=500)[:, 0]


def two_units(options: Options, report: Report) -> None:
    """Trains a network of two units to keep one bit, and looks at the plane of its states."""
    cell, zero = sj.elman(1, 2), jnp.zeros(1)
    steps, side = (30, 41) if options.small else (options.steps, 121)
    latch = lessons.train_latch(cell, 2, jax.random.key(options.seed + 3), 20, optimizer=optax.adam(0.03), steps=steps)
    net, grid = latch.params[0], jnp.linspace(-1, 1, side)
    states = jnp.stack(jnp.meshgrid(grid, grid), -1)
    found = {length: lessons.basins(cell, net, states, zero, length) for length in (3, 6)}
    ends = lessons.attractors(lessons.basins(cell, net, states, zero, 300).end)
    sizes = np.bincount(ends.index.ravel()) / ends.index.size
    report.say(
        f"Two units that were trained to keep one bit for 20 ticks name it in {float(latch.accuracy):.0%} of new "
        "sequences. Where their states end without input, and what the gradient of the run does:"
    )
    whole = {length: np.asarray(basin.log_gradient) / np.log(10) for length, basin in found.items()}
    report.table(
        ["attractor", "share of the plane", *(f"log10 of the gradient over {n} ticks, from to" for n in found)],
        [
            [
                f"({ends.points[k][0]:+.3f}, {ends.points[k][1]:+.3f})",
                f"{share:.1%}",
                *(f"{tens[ends.index == k].min():.1f} to {tens[ends.index == k].max():.1f}" for tens in whole.values()),
            ]
            for k, share in enumerate(sizes)
            if share > 0.01
        ],
    )
    rng = np.random.default_rng(options.seed)
    xs = 0.2 * rng.standard_normal((15, 2, 1))
    xs[0, :, 0] = 1, -1
    _, path = sj.unroll(cell, net, cell.initial_state(net, (2,)), jnp.asarray(xs))
    report.draw(
        "basins",
        "basins",
        first=grid,
        second=grid,
        found=found,
        ends=ends,
        path=jnp.concatenate([jnp.zeros((1, 2, 2)), path]),
    )
