"""Products along a chain: exponential forgetting and exploding, with one weight, with a matrix, with random factors."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from seqjax.base import Array
from seqjax.gradients import lessons
from seqjax.recipes.gradients.experiment import DrawnOptions, Report
from seqjax.recipes.running.options import check_sizes

WEIGHTS = {"w = 1.1": 1.1, "w = 1": 1.0, "w = 0.9": 0.9, "w = 1/2": 0.5}
SCALES, FACTORS = (0.9, 1.0, 1.1), (1, 2, 5, 10, 15, 20, 30)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(DrawnOptions):
    """Exponential forgetting and exploding: one weight, a matrix, random factors."""

    length: int = 50
    """Ticks of the chains."""
    size: int = 32
    """Units of the matrices."""
    draws: int = 20_000
    """Products of random factors."""

    def check(self, who: str) -> None:
        """Refuses sizes out of range."""
        super().check(who)
        check_sizes(who, self, "length", "size", "draws")


def main(options: Options, report: Report) -> None:
    """``python -m seqjax gradients chain``."""
    draws = 500 if options.small else options.draws
    factors = {name: lessons.scalar_chain(w, options.length) for name, w in WEIGHTS.items()}
    report.say(f"dh_t/dh_0 of h_t = w h_(t-1) is w^t. After {options.length} ticks:")
    report.table(
        ["chain", "factor", "nats a tick", "a half is gone after"],
        [[name, f"{factors[name][-1]:.4g}", f"{np.log(w):+.4f}", half(np.log(w))] for name, w in WEIGHTS.items()],
    )
    report.draw("chains", "chains", factors=factors)

    draw = jax.random.normal(jax.random.key(options.seed), (options.size,) * 2) / options.size**0.5
    matrices = {"Gaussian": draw, "Gaussian / 1.5": draw / 1.5, "orthogonal": jnp.linalg.qr(draw)[0]}
    norms = {name: matrix_chain(u, options.length) for name, u in matrices.items()}
    report.say(
        f"The same with {options.size} units: the largest singular value says what the first tick does, the largest "
        "eigenvalue what a tick does in the long run."
    )
    report.table(
        ["matrix", "largest singular value", "first tick", "largest eigenvalue", "a tick, late"],
        [
            [
                name,
                f"{np.linalg.norm(u, 2):.3f}",
                f"{norms[name][1]:.3f}",
                f"{np.abs(np.linalg.eigvals(u)).max():.3f}",
                f"{late(norms[name]):.3f}",
            ]
            for name, u in matrices.items()
        ],
    )
    report.draw("matrices", "chains", factors=norms)

    found = {
        scale: [lessons.random_products(jax.random.key(options.seed + t), scale, t, draws) for t in FACTORS]
        for scale in SCALES
    }
    report.say(
        f"Random factors w ~ N(0, s²), {draws:,} products of each length: what is expected of the square, and what "
        f"a typical product does ({FACTORS[-1]} factors)."
    )
    report.table(
        ["s", "root of the expected square", "of the draws", "median", "ln s - (γ + ln 2)/2", "mean ln w of the draws"],
        [
            [
                f"{scale:g}",
                f"{float(last.expected_second_moment) ** 0.5:.3g}",
                f"{float(last.second_moment) ** 0.5:.3g}",
                f"{float(last.typical):.2e}",
                f"{np.log(scale) - (np.euler_gamma + np.log(2)) / 2:.4f}",
                f"{float(last.mean_log):.4f}",
            ]
            for scale, (*_, last) in found.items()
        ],
    )
    report.draw("products", "products", lengths=FACTORS, found=found)


def late(norms: Array) -> float:
    """Growth a tick over the second half of a chain."""
    middle = (len(norms) - 1) // 2
    return float(norms[-1] / norms[middle]) ** (1 / (len(norms) - 1 - middle))


def half(slope: float) -> str:
    """Ticks until a half is left."""
    return f"{-np.log(2) / slope:.1f} ticks" if slope < 0 else "never"


def matrix_chain(u: Array, length: int) -> Array:
    """‖dh_t/dh_0‖₂ of h_t = h_(t-1) U for t = 0 … T, by running every unit's start side by side."""
    size = len(u)
    cell = sj.elman(1, size, activation=lambda a: a, b_init=None)
    params = sj.cells.ElmanParams(jnp.zeros((1, size)), u, None)
    _, rows = sj.unroll(cell, params, jnp.eye(size), jnp.zeros((length, size, 1)))
    return jnp.append(1, jnp.linalg.norm(rows, 2, axis=(1, 2)))
