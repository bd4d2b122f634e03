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
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import seqjax as sj
from seqjax import precision, reservoir, tasks
from seqjax.recipes.running import drawing, learning, splits
from seqjax.recipes.running.options import (
    BadInput,
    DataFile,
    DrawingOptions,
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
class Options(DrawingOptions, splits.SplitOptions):
    """Fits reservoirs to a chaotic series, lets them run freely, and draws what they say."""

    whole = "series"

    series: DataFile = None
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
    train: Annotated[int | str, tyro.conf.arg(metavar="NUMBER|FILE")] = 2000  # type: ignore[assignment]
    """Ticks to learn from, the washout included, before those to run freely; or a file of its own, all of whose ticks
    are, but for those where --held-back is not given. Of that and --test the washout is read before the free run; the
    reservoir that is the best on what is held back is tested."""
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
        check_sizes(who, self, "units", "free", "reservoirs")
        check_not_negative(who, self, "connections", "ridge", "washout")
        check_positive(who, self, "leak", "radius", "input_scale")
        check_seed(who, self.seed + self.reservoirs - 1)
        if self.connections:
            check_left_out(who, self, "--connections", "products")
        if isinstance(self.train, int) and self.washout >= self.train:
            raise ValueError(f"{who}: expected --washout below --train {self.train}, got {self.washout}. Lower it.")


def main(options: Options) -> None:
    """``python -m seqjax reservoir``."""
    with bad_input("reservoir"):
        series, held_back, test = splits.read(options, one_column, lambda: mackey_glass(options))
        learned = learned_from(options, series, held_back, test)
        cell = reservoir_of(options)
    series = series[: learned + 1 + (options.free if held_back is None else 0)]
    largest = max(np.abs(part).max() for part in (series, held_back, test) if part is not None)
    if largest > LARGEST or np.ptp(series[:learned]) <= RESOLVED * largest:
        raise BadInput(
            f"reservoir: expected values of at most {LARGEST:g} that change by more than {RESOLVED:g} of the largest "
            f"where they are learned from, got up to {largest:.4g} and a change of "
            f"{np.ptp(series[:learned]):.4g}. Scale the series, or mend what is no measurement."
        )
    folder = Run.create("reservoir", options, {"values": len(series)} | splits.facts(options))
    print(f"{splits.told(options, 'Mackey-Glass series, τ = 17')}: variance {series.var():.4g}")

    as_xs = lambda series: jnp.array(series[:, None], jnp.zeros(()).dtype)
    xs = as_xs(series)
    asked, read = (series, learned) if held_back is None else (held_back, options.washout)
    truth = asked[read + 1 : read + 1 + options.free]

    def run_freely(params: Any, fitted: reservoir.Fit, asked: np.ndarray, read: int) -> np.ndarray:
        """What a reservoir says behind the first ticks of a series, which it reads."""
        state = fitted.state
        if asked is not series:
            state, _ = sj.unroll(cell, params, cell.initial_state(params), as_xs(asked[:read]))
        with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # told below, with its step
            _, ys = reservoir.free_run(cell, params, fitted.readout, state, as_xs(asked)[read], options.free)
        return np.asarray(ys[:, 0], np.float64)

    runs: list[np.ndarray] = []
    errors: list[float] = []
    made: list[tuple] = []
    for seed in range(options.seed, options.seed + options.reservoirs):
        params = cell.init(jax.random.key(seed))
        with bad_input("reservoir"):
            fitted = reservoir.fit(
                cell, params, xs[:learned], xs[1 : learned + 1], washout=options.washout, ridge=options.ridge
            )
        made.append((params, fitted))
        runs.append(run_freely(params, fitted, asked, read))
        left = departure(runs[-1], series)
        errors.append(np.inf if left else float(np.mean((runs[-1] - truth) ** 2)))
        forgets = reservoir.forgetting(cell, params, xs[:learned], jax.random.key(seed))
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
    tested = None
    if test is not None:
        best = int(np.argmin(errors))
        params, fitted = made[best]
        run = run_freely(params, fitted, test, options.washout)
        error = float(np.mean((run - test[options.washout + 1 :][: options.free]) ** 2))
        name = f"seed {options.seed + best}, the best on what is held back"
        tested = splits.Measured(0, {name: None if departure(run, series) else error})
    learning.conclude(folder, "squared error", figures, {"guessing the mean": guess}, tested)
    print(f"median {told(middle)}; guessing the mean {guess:.1e}")
    if exploded := sum(error == np.inf for error in errors):
        print(
            f"{exploded} of {len(errors)} free runs exploded: they left the series by {AWAY:g} times its range. "
            "Raise --ridge or --train, or lower --input-scale or --radius."
        )
    print(f"run folder {folder.folder}, free run {path}")


def mackey_glass(options: Options) -> np.ndarray:
    """The series that is learned from where no file is given."""
    return np.tanh(tasks.mackey_glass(int(options.train) + options.free + 1) - 1)


def learned_from(options: Options, series: np.ndarray, held_back: np.ndarray | None, test: np.ndarray | None) -> int:
    """The ticks of a series that are learned from; series that are too short are refused."""
    if isinstance(options.train, int):
        learned, needed = options.train, options.train + options.free + 1
    else:
        needed = options.washout + 2 + (options.free if held_back is None else 0)
        learned = len(series) - 1 - (options.free if held_back is None else 0)
    if len(series) < needed:
        raise BadInput(
            f"reservoir: expected a series of at least {needed} values, to learn from {options.train} and compare "
            f"{options.free} with, got {len(series)}. Give a longer series, or lower --train or --free."
        )
    others = [len(part) for part in (held_back, test) if part is not None]
    if min(others, default=options.washout + options.free + 1) <= options.washout + options.free:
        raise BadInput(
            f"reservoir: expected more than {options.washout + options.free} values, to read and to compare with, in "
            f"--held-back and --test, got {min(others)}. Give a longer series, or lower --washout or --free."
        )
    return learned


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
