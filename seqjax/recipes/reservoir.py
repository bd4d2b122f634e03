"""An echo-state reservoir learns a chaotic series, then runs on its own.

    h_t = (1-a) h_{t-1} + a tanh(x_t W + h_{t-1} U + b)      y_t = h_t V + x_t R + c      x_{t+1} = y_t

Only V, R and c are trained, by one ridge regression on the true series. From there on the network feeds on its own
output; how long it stays with the series shows how well it has caught the system behind it.

References:
  Jaeger and Haas (2004), Harnessing nonlinearity: predicting chaotic systems and saving energy in wireless
  communication. https://doi.org/10.1126/science.1091277
  Lukoševičius (2012), A practical guide to applying echo state networks.
  https://doi.org/10.1007/978-3-642-35289-8_36
"""

import dataclasses
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from seqjax import precision, reservoir, tasks
from seqjax.recipes.running import drawing, learning
from seqjax.recipes.running.options import (
    BadInput,
    DrawingOptions,
    FileOrNone,
    FolderOrNone,
    bad_input,
    check_left_out,
    check_not_negative,
    check_positive,
    check_seed,
    check_sizes,
)
from seqjax.recipes.running.run import Run

LARGEST, RESOLVED = 1e18, 1e-6  # float32 squares the one, and tells numbers apart by less than the other
AWAY = 1e3  # ranges of the series


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(DrawingOptions):
    """Fits reservoirs to a chaotic series, lets them run freely, and draws what they say."""

    series: FileOrNone = None
    """Numbers, one a line; the Mackey-Glass series with τ = 17, squashed by tanh(x - 1), if not given."""
    units: int = 1000
    """Of each reservoir."""
    connections: int = 0
    """Other units that a unit reads; 0 for all of them."""
    leak: float = 0.3
    """Share of the state that is new each tick."""
    radius: float = 1.25
    """Spectral radius of the recurrent weights."""
    input_scale: float = 0.5
    """Largest weight of the input, and largest bias."""
    products: precision.Products = "float32"
    """Operands of the reservoirs' products; with bfloat16 sums, states and readouts stay in float32. With --connections
    there are no such products."""
    ridge: float = 1e-8
    """Penalty on the readout's weights."""
    washout: int = 100
    """Ticks that the readout does not see."""
    train: int = 2000
    """Ticks to learn from, the washout included."""
    free: int = 500
    """Ticks to run freely."""
    reservoirs: int = 5
    """How many, drawn from seeds in a row."""
    seed: int = 0
    """The first of them."""
    run_dir: FolderOrNone = None
    """New folder for the run's files; runs/RECIPE-DATE-TIME if not given."""

    def check(self, who: str) -> None:
        """Refuses sizes out of range."""
        super().check(who)
        check_sizes(who, self, "units", "train", "free", "reservoirs")
        check_not_negative(who, self, "connections", "ridge", "washout")
        check_positive(who, self, "leak", "radius", "input_scale")
        check_seed(who, self.seed + self.reservoirs - 1)
        if self.connections:
            check_left_out(who, self, "--connections", "products")
        if self.washout >= self.train:
            raise ValueError(f"{who}: expected --washout below --train {self.train}, got {self.washout}. Lower it.")


def main(options: Options) -> None:
    """``python -m seqjax reservoir``."""
    needed = options.train + options.free + 1
    with bad_input("reservoir"):
        series = np.tanh(tasks.mackey_glass(needed) - 1) if options.series is None else one_column(options.series)
        cell = reservoir_of(options)
    if len(series) < needed:
        raise BadInput(
            f"reservoir: expected a series of at least {needed} values, to learn from {options.train} and compare "
            f"{options.free} with, got {len(series)}. Give a longer series, or lower --train or --free."
        )
    series = series[:needed]
    largest = np.abs(series).max()
    if largest > LARGEST or np.ptp(series[: options.train]) <= RESOLVED * largest:
        raise BadInput(
            f"reservoir: expected values of at most {LARGEST:g} that change by more than {RESOLVED:g} of the largest "
            f"where they are learned from, got up to {largest:.4g} and a change of "
            f"{np.ptp(series[: options.train]):.4g}. Scale the series, or mend what is no measurement."
        )
    folder = Run.create("reservoir", options, {"values": len(series)})
    print(f"{options.series or 'Mackey-Glass series, τ = 17'}: variance {series.var():.4g}")

    xs = jnp.array(series[:, None], jnp.zeros(()).dtype)
    truth = series[options.train + 1 : needed]
    runs: list[np.ndarray] = []
    errors: list[float] = []
    for seed in range(options.seed, options.seed + options.reservoirs):
        params = cell.init(jax.random.key(seed))
        with bad_input("reservoir"):
            fitted = reservoir.fit(
                cell,
                params,
                xs[: options.train],
                xs[1 : options.train + 1],
                washout=options.washout,
                ridge=options.ridge,
            )
        start = xs[options.train]
        with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # told below, with its step
            _, ys = reservoir.free_run(cell, params, fitted.readout, fitted.state, start, options.free)
        runs.append(np.asarray(ys[:, 0], np.float64))
        left = departure(runs[-1], series)
        errors.append(np.inf if left else float(np.mean((runs[-1] - truth) ** 2)))
        forgets = reservoir.forgetting(cell, params, xs[: options.train], jax.random.key(seed))
        free = {"exploded_at": left} if left else {"error": errors[-1]}
        folder.log(step=seed, **free, teacher_forced_error=float(fitted.error[0]), rate=float(forgets.rate))
        print(
            f"seed {seed}: mean squared error {fitted.error[0]:.1e} a step ahead, {told(errors[-1])} over "
            f"{options.free} free steps{f' (at step {left})' if left else ''}; forgets {-forgets.rate:.3f} nats a tick"
        )
    typical = runs[int(np.argsort(errors)[len(errors) // 2])]
    path = drawing.save(folder, "free_run", "free run", truth=truth, run=typical)
    middle, worst, guess = float(np.median(errors)), max(errors), float(truth.var())
    figures = {name: error if error < np.inf else None for name, error in (("median", middle), ("worst", worst))}
    learning.conclude(folder, "squared error", figures, {"guessing the mean": guess})
    print(f"median {told(middle)}; guessing the mean {guess:.1e}")
    if exploded := sum(error == np.inf for error in errors):
        print(
            f"{exploded} of {len(errors)} free runs exploded: they left the series by {AWAY:g} times its range. "
            "Raise --ridge or --train, or lower --input-scale or --radius."
        )
    print(f"run folder {folder.folder}, free run {path}")


def one_column(path: str) -> np.ndarray:
    """A series of one number a line, ``[T]``."""
    series = tasks.read_series(path)
    if series.shape[1] != 1:
        raise BadInput(
            f"reservoir: expected one number a line in {path}, got {series.shape[1]}. Give a file of one column."
        )
    return series[:, 0]


def departure(run: np.ndarray, series: np.ndarray) -> int | None:
    """The first step, from 1, at which a free run is more than `AWAY` ranges of the series away from it, or None."""
    away = ~(np.abs(run - series.mean()) <= AWAY * np.ptp(series))  # NaN is away too
    return int(away.argmax()) + 1 if away.any() else None


def told(error: float) -> str:
    """An error in words."""
    return f"{error:.1e}" if error < np.inf else "exploded"


def reservoir_of(options: Options) -> sj.Cell:
    """The reservoir asked for."""
    shared: dict[str, Any] = {"leak": options.leak, "radius": options.radius}
    shared |= {"input_scale": options.input_scale, "bias_scale": options.input_scale}
    if options.connections:
        return sj.sparse_echo_state(1, options.units, connections=options.connections, **shared)
    return sj.mixed_precision(sj.echo_state(1, options.units, **shared), options.products)
