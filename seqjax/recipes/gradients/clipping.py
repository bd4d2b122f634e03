"""The bias of clipped gradients: their mean is not the clipped mean, the less the smaller the threshold."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import seqjax as sj
from seqjax import tasks
from seqjax.base import Array, PyTree
from seqjax.gradients import lessons
from seqjax.recipes.gradients.experiment import DrawnOptions, Report
from seqjax.recipes.running.options import check_positive, check_sizes

BATCHES = (1, 8, 64)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(DrawnOptions):
    """The mean of clipped gradients against the clipped mean gradient, against the threshold."""

    length: int = 50
    """Ticks of the adding problem whose gradients are clipped."""
    hidden_size: int = 16
    """Units of the tanh network."""
    gain: float = 1.6
    """Times an orthogonal matrix, its recurrent weights: above 1 some gradients explode."""
    examples: int = 2048
    """Gradients, one an example; a multiple of 64."""
    passes: int = 32
    """Shuffles of the examples into minibatches."""

    def check(self, who: str) -> None:
        """Refuses sizes out of range."""
        super().check(who)
        check_sizes(who, self, "length", "hidden_size", "examples", "passes")
        check_positive(who, self, "gain")
        if self.examples % BATCHES[-1]:
            raise ValueError(f"{who}: expected --examples that {BATCHES[-1]} divides, got {self.examples}. Change it.")


def main(options: Options, report: Report) -> None:
    """``python -m seqjax gradients clipping``."""
    examples, passes = (128, 2) if options.small else (options.examples, options.passes)
    each = gradients_of(options, examples)
    norms, mean = np.linalg.norm(each, axis=1), float(np.linalg.norm(each.mean(0)))
    report.say(
        f"{examples:,} examples of the adding problem over {options.length} ticks, a tanh network of "
        f"{options.hidden_size} units. Norms of their gradients: median {np.median(norms):.3g}, nine in ten below "
        f"{np.quantile(norms, 0.9):.3g}, largest {norms.max():.3g}; norm of their mean {mean:.3g}."
    )
    thresholds = np.geomspace(0.03 * np.median(norms), 2 * norms.max(), 41)
    rng = np.random.default_rng(options.seed)
    found = {}
    for size in BATCHES:
        shuffled = np.concatenate([rng.permutation(examples) for _ in range(1 if size == 1 else passes)])
        batches = each[shuffled].reshape(-1, size, each.shape[1]).mean(1)
        found[size] = lessons.clipping_bias(jnp.asarray(batches), jnp.asarray(thresholds))
    report.draw(
        "clipping",
        "clipping",
        thresholds=thresholds,
        mean=mean,
        sizes={named(size): bias.mean_of_clipped for size, bias in found.items()},
        cosines={named(size): bias.cosine for size, bias in found.items()},
        rates={named(size): bias.rate for size, bias in found.items()},
    )
    places = [int(np.abs(np.log(thresholds / np.quantile(norms, q))).argmin()) for q in (0.1, 0.5, 0.9)] + [-1]
    report.table(
        ["threshold", "‖clipped mean‖", *(f"{named(n)}: clipped, ‖mean of clipped‖, cosine" for n in BATCHES)],
        [
            [
                f"{thresholds[k]:.3g}",
                f"{min(mean, thresholds[k]):.3g}",
                *(
                    f"{bias.rate[k]:.0%}, {bias.mean_of_clipped[k]:.3g}, {bias.cosine[k]:+.3f}"
                    for bias in found.values()
                ),
            ]
            for k in places
        ],
    )
    worst = {size: int(np.argmin(bias.cosine)) for size, bias in found.items()}
    turned = {size: np.degrees(np.arccos(np.clip(bias.cosine[worst[size]], -1, 1))) for size, bias in found.items()}
    report.say(
        "Furthest from the mean gradient, in degrees: "
        + "; ".join(
            f"{named(size)}: {turned[size]:.0f}° at threshold {thresholds[k]:.3g}, where {found[size].rate[k]:.0%} are "
            "clipped"
            for size, k in worst.items()
        )
        + f". Above the largest norm nothing is clipped, and the two means differ by {float(found[1].bias[-1]):.0e}."
    )


def gradients_of(options: Options, count: int) -> np.ndarray:
    """``[count, n]``: the gradient of each example's squared error."""
    cell = sj.elman(2, options.hidden_size, w_h_init=sj.initializers.orthogonal(options.gain))
    readout = sj.dense(options.hidden_size, 1)
    own, other = jax.random.split(jax.random.key(options.seed))
    params = cell.init(own), readout.init(other)
    problem = tasks.adding(options.length)
    drawn = problem.draw(np.random.default_rng(options.seed), count)

    def loss(params: PyTree, xs: Array, target: Array) -> Array:
        _, ys = sj.unroll(cell, params[0], cell.initial_state(params[0]), xs)
        return ((readout.apply(params[1], (), ys[-1:])[1][0] - target) ** 2).sum()

    one = lambda xs, target: ravel_pytree(jax.grad(loss)(params, xs, target))[0]
    dtype = jax.tree.leaves(params)[0].dtype
    return np.asarray(
        jax.jit(jax.vmap(one, in_axes=(1, 0)))(jnp.asarray(drawn.xs, dtype), jnp.asarray(drawn.targets, dtype)),
        np.float64,
    )


def named(size: int) -> str:
    """Of a minibatch."""
    return "one example" if size == 1 else f"{size} examples"
