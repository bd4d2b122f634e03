"""Forecasting a chaotic series: the next value, then ever further ahead on the network's own values.

    x̂_{t+1} = Σ_j x_{t-j} A_j + b + s ⊙ (h_t W + c)      then x_{t+1} = x̂_{t+1}, and so on

A linear autoregression, fitted by least squares, says most of it; the network is trained on single steps to correct it,
in units s of its errors. Beside it stand persistence (tomorrow is as today) and a linear autoregression that sees all
that is read before a forecast. Errors are root mean squares in units of the series' standard deviation:
guessing the mean scores 1.

References:
  Mackey and Glass (1977), Oscillation and chaos in physiological control systems.
  https://doi.org/10.1126/science.267326
  Gers, Eck and Schmidhuber (2001), Applying LSTM to time series predictable through time-window approaches.
  https://doi.org/10.1007/3-540-44668-0_93
"""

import dataclasses
import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from seqjax import models, tasks
from seqjax.base import PyTree
from seqjax.recipes.pictures import curves
from seqjax.recipes.running import drawing, learning, splits
from seqjax.recipes.running.asking import Asked, Reply, numbers
from seqjax.recipes.running.cells import CELLS, CellName
from seqjax.recipes.running.courses import Course, trains
from seqjax.recipes.running.forecasts import figure, linear, rms, told
from seqjax.recipes.running.options import (
    BadInput,
    FileOrNone,
    bad_input,
    check_not_negative,
    check_sizes,
    younger,
)
from seqjax.recipes.running.run import Run, digest

VALUES, STARTS = 10_000, 100
# Standard deviations: float32 squares less than LARGEST, and has a thousand steps between 1 and 1 + RESOLVED.
LARGEST, RESOLVED = 1e18, 1e-4
BLURRED = 0.01  # standard deviations of the inputs' noise that the line is fitted for: its weights stay small
SERIES = {"mackey-glass": "Mackey-Glass series, τ = 17", "walk": "joint angles of a walk"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(learning.LearningOptions, splits.SplitOptions):
    """Trains a network on a series, and compares its forecasts with the series and with simpler ones."""

    generated = ("series",)

    series: Literal["mackey-glass", "walk"] = "mackey-glass"
    """Without --data: the Mackey-Glass series with τ = 17, or the eight joint angles of a figure whose walk changes
    its speed every now and then; 10,000 ticks."""
    data: FileOrNone = None
    """Numbers, one tick a line; the last fifth of the ticks is held back."""
    cell: CellName | Literal["tcn"] = "lstm"
    """The recurrence, or a temporal convolutional network."""
    hidden_size: int = 64
    """Units, or channels of each convolution."""
    layers: int = 1
    """Recurrent layers, or blocks of two convolutions of three taps; dilations double from block to block."""
    line: int = younger(32, before=0)
    """Ticks that a linear autoregression sees, no more than --warm-up, whose errors the network says; 0 to say all."""
    window: int = 128
    """Ticks of a piece of the series in training."""
    noise: float = 0.0
    """Standard deviation of noise on the inputs in training, in units of the series' own."""
    warm_up: int = 100
    """Ticks that are read before a forecast."""
    horizon: int = 200
    """Ticks to forecast."""
    steps: int = 2000

    def check(self, who: str) -> None:
        """Refuses sizes out of range."""
        super().check(who)
        check_sizes(who, self, "hidden_size", "layers", "window", "warm_up", "horizon")
        check_not_negative(who, self, "noise", "line")


@trains
def main(options: Options) -> Course:
    """``python -m seqjax forecast``."""
    # Data: series to learn from and to forecast, scaled by what is learned from.
    with bad_input("forecast"):
        parts = parts_of(options)
    series = scaled(np.concatenate(parts), len(parts[0]))
    train, held_back, *test = np.split(series, np.cumsum([len(part) for part in parts])[:-1])

    def pieces(series: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pasts ``[warm_up, starts, size]`` from everywhere in a series, and what follows them."""
        last = len(series) - options.warm_up - options.horizon
        starts = np.unique(np.linspace(0, last, STARTS).astype(int))
        found = series[starts + np.arange(options.warm_up + options.horizon)[:, None]]
        return found[: options.warm_up], found[options.warm_up :]

    size, (past, future) = train.shape[1], pieces(held_back)

    # Model
    model = network(options, size)
    start = begin(options, model, train)
    order = order_of(options)
    scale = np.asarray(start.train.params.scale) if order else np.float32(1)

    # Training: pieces from anywhere in the series, errors in the unit of the network's outputs.
    def batch_of(step: int) -> sj.Batch:
        rng = learning.generator(options, step)
        xs = tasks.crops(train, order + options.window + 1, options.batch_size, rng)
        noise = options.noise * rng.standard_normal(xs[:-1].shape, np.float32)
        return sj.Batch(xs[:-1] + noise, xs[1:])

    def loss(ys: jax.Array, targets: jax.Array, mask: jax.Array | None) -> sj.Tally:
        return sj.mean_squared_error(*(x[order:] / scale for x in (ys, targets)))  # before, the line sees zeros

    @jax.jit
    def forecast(params: PyTree, past: jax.Array) -> jax.Array:
        """What follows each past, ``[horizon, starts, size]``."""
        state = model.initial_state(params, past.shape[1:2])
        state, ys = model.apply(params, state, past)
        if options.horizon == 1:
            return ys[-1:]
        _, more = sj.free_run(model, params, state, ys[-1], length=options.horizon - 1)
        return jnp.concatenate([ys[-1:], more])

    def evaluate(params: PyTree, part: tuple[np.ndarray, np.ndarray] = (past, future)) -> dict[str, float]:
        errors = rms(np.asarray(forecast(params, jnp.asarray(part[0]))) - part[1])
        return {"one": float(errors[0]), "furthest": float(errors[-1]), "mean": float(errors.mean())}

    folder = Run.start("forecast", options, {"sha256": digest(np.concatenate(parts[:2])), **splits.facts(options)})
    print(
        f"{splits.told(options, SERIES[options.series])}: {len(train):,} ticks to learn from, {len(held_back):,} held "
        f"back; {past.shape[1]} forecasts of {options.horizon} ticks after {options.warm_up}\n"
        f"model: {options.cell}, {learning.parameter_count(start.train.params):,} parameters"
    )
    outcome = yield from learning.learn(
        folder,
        options,
        start,
        sj.objective(model, loss),
        batch_of,
        show="loss {loss:.2e}",
        work=options.batch_size * options.window,
        unit="ticks",
        evaluate=evaluate,
        show_evaluation=f"error {{one:.3g}} a tick ahead, {{furthest:.3g}} {options.horizon} ahead",
        best=learning.lowest("furthest"),
        test=functools.partial(evaluate, part=pieces(test[0])) if test else None,
    )

    # What came out
    found = {
        options.cell: np.asarray(forecast(outcome.params, jnp.asarray(past))),
        "linear": linear(train, past, options.horizon),
        "persistence": np.broadcast_to(past[-1], future.shape),
    }
    errors = {name: rms(ys - future) for name, ys in found.items()}
    ahead = [h for h in (1, 6, 17, 50, 84, 100, 200) if h <= options.horizon]
    heads = "".join(f"{h:>10}" for h in ahead)
    print(f"\nerror, in standard deviations of the series\n{'ticks ahead':14}{heads}")
    for name, error in errors.items():
        print(f"{name:14}" + "".join(f"{told(error[h - 1], '.3g'):>10}" for h in ahead))
    said = {name: found[name][:, 0, 0] for name in (options.cell, "linear")}
    path = drawing.save(
        folder, "forecast", "forecast", past=past[:, 0, 0], future=future[:, 0, 0], found=said, errors=errors
    )
    curve = curves.draw(
        folder,
        {"a tick ahead": "one", f"{options.horizon} ticks ahead": "furthest"},
        levels={"mean of the series": 1.0},
        y_label="error, held back (standard deviations)",
        y_scale="log",
        name="errors",
    )
    first, end = ({name: error[tick] for name, error in errors.items()} for tick in (0, -1))
    print(
        f"\nerror a tick ahead {told(first[options.cell])} (linear {told(first['linear'])}, persistence "
        f"{told(first['persistence'])}), {options.horizon} ahead {told(end[options.cell])} (linear "
        f"{told(end['linear'])}; the mean scores 1); {outcome.steps} steps in {outcome.seconds:.0f} s"
    )
    floors = {f"{name}, {h} ahead": figure(errors[name][h - 1]) for name in ("linear", "persistence") for h in ahead}
    figures = {f"{h} ahead": figure(errors[options.cell][h - 1]) for h in ahead}
    learning.conclude(folder, "standard deviations", figures, floors, outcome.test)
    print(f"run folder {folder.folder}, forecasts {path}, learning curve {curve}")


def begin(options: Options, model: sj.Layer, train: np.ndarray | None = None) -> learning.Training:
    """What training starts from, the line fitted to a series if there is one."""
    params = model.init(jax.random.key(options.seed))
    if order_of(options) and train is not None:
        params = models.fitted(params, train, noise=max(options.noise, BLURRED))
    return learning.begin(options, params, model.initial_state(params, (options.batch_size,)))


def to_ask(run: Run) -> Asked:
    """Beginnings of the series, in its own units, to go on with."""
    options = run.options(Options)
    parts = parts_of(options)
    if digest(np.concatenate(parts[:2])) != run.config["facts"]["sha256"]:
        raise BadInput("forecast: expected the series of the run, got another one. Put it back: it is the scale.")
    learned = parts[0]
    mean, deviation, size = learned.mean(0), learned.std(0), learned.shape[1]
    model = network(options, size)
    params = learning.trained(run, begin(options, model))

    def reply(question: str) -> Reply:
        past = (numbers(question, size) - mean) / deviation
        state, ys = model.apply(params, model.initial_state(params), jnp.asarray(past, jnp.float32))
        _, more = sj.free_run(model, params, state, ys[-1], length=max(1, options.horizon - 1))
        ahead = np.concatenate([np.asarray(ys[-1:]), np.asarray(more)])[: options.horizon] * deviation + mean
        short = len(past) < options.warm_up
        note = f"from {len(past)} ticks, fewer than the {options.warm_up} it is measured from" if short else ""
        return Reply("; ".join(" ".join(f"{value:.4g}" for value in tick) for tick in ahead), note=note)

    kind = "ticks of a series" if size == 1 else f"ticks of {size} numbers, apart by semicolons"
    return Asked(kind, "; ".join(" ".join(f"{value:.3g}" for value in tick) for tick in learned[:2]), reply)


def parts_of(options: Options) -> list[np.ndarray]:
    """Series ``[T, size]`` to learn from, to forecast, and of the test if there is one."""
    walk = options.series == "walk"
    made = lambda: tasks.walk(VALUES, seed=options.seed) if walk else tasks.mackey_glass(VALUES)[:, None]
    train, held_back, test = splits.read(options, tasks.read_series, made)
    asked, piece = options.warm_up + options.horizon + 1, order_of(options) + options.window + 1
    needed = piece if held_back is not None else max(5 * asked, -(-piece * 5 // 4) + 1)
    others = [part for part in (held_back, test) if part is not None]
    if len(train) < needed or min(map(len, others), default=asked) < asked:
        raise BadInput(
            f"forecast: expected a series of at least {needed} values, for pieces to learn from and to forecast, of "
            f"{asked} in other files, got {' and '.join(str(len(part)) for part in (train, *others))}. Give longer "
            "ones, or lower --window, --line, --warm-up or --horizon."
        )
    if {part.shape[1] for part in others} - {train.shape[1]}:
        raise BadInput("forecast: expected as many numbers a tick in every file, got other numbers. Give such files.")
    return [*(np.split(train, [len(train) * 4 // 5]) if held_back is None else [train]), *others]


def scaled(values: np.ndarray, cut: int) -> np.ndarray:
    """The series in standard deviations of its first ``cut`` values, around their mean, in float32.

    Raises:
      BadInput: values that do not change, or of which one is so large that nothing is left of others in float32.
    """
    unit = np.abs(values[:cut]).max(0)  # so that no square leaves the range of float64
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        ratio = values / unit
        series = (ratio - ratio[:cut].mean(0)) / ratio[:cut].std(0)
        lost = (np.ptp(values[cut:], 0) > 0) & (series[cut:].std(0) < RESOLVED)
    if (np.ptp(values[:cut], 0) == 0).any():
        raise BadInput("forecast: expected a series that changes, got one constant value. Give another series.")
    if lost.any() or not (np.abs(series) < LARGEST).all():
        tick, column = np.unravel_index(np.abs(values).argmax(), values.shape)
        raise BadInput(
            "forecast: expected values of comparable size, whose errors are figures in standard deviations of the "
            f"series, got {values[tick, column]:.4g} as value {tick + 1} beside {np.median(np.abs(values)):.4g} as the "
            "median. Mend or leave out what is no measurement."
        )
    return series.astype(np.float32)


def order_of(options: Options) -> int:
    """Ticks that the line sees; 0 where there is none."""
    order = min(options.line, options.warm_up)
    return order if order > 1 else 0


def network(options: Options, size: int) -> sj.Layer:
    """The next values: a line and what corrects it, or a change of the present ones."""
    if options.cell == "tcn":
        body = models.temporal_convolution(size, [options.hidden_size] * options.layers, width=3)
    else:
        body = models.deep(size, options.hidden_size, cell=CELLS[options.cell], layers=options.layers)
    change = sj.serial(body, sj.dense(options.hidden_size, size))
    if order := order_of(options):
        return models.corrected(size, order, sj.mixed_precision(change, options.products))
    return sj.mixed_precision(sj.residual(change), options.products)
