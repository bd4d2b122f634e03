"""What the recipes that train share: options, optimizer, updates in the loop, and what a run came to."""

import dataclasses
import json
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import optax

import seqjax as sj
from seqjax import precision, tasks
from seqjax.base import Array, PyTree
from seqjax.objectives import Objective
from seqjax.recipes.running import causes, devices, files, loop, optimizers, processes, splits, trackers
from seqjax.recipes.running.courses import Answer, Update
from seqjax.recipes.running.options import (
    SharedOptions,
    check_left_out,
    check_not_negative,
    check_positive,
    check_seed,
    check_sizes,
)
from seqjax.recipes.running.patience import Patience
from seqjax.recipes.running.run import Run

EVALUATIONS = 10
Figures = Mapping[str, float | None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearningOptions(SharedOptions):
    """The options of every recipe that trains by gradient; each sets its own defaults."""

    batch_size: int = 64
    """Sequences side by side in an update."""
    learning_rate: float = 3e-3
    """Of the optimizer, at its highest."""
    optimizer: optimizers.Optimizer = "adam"
    """Of Optax, at its defaults but for the rate; momentum is Nesterov's, 0.9."""
    schedule: optimizers.Schedule = "cosine"
    """Of the rate: it rises over 5 % of the steps, then falls to a tenth along a cosine or a line, or as 1/√n; constant
    does neither."""
    products: precision.Products = "float32"
    """Operands of products; with bfloat16 sums, states and parameters stay in float32."""
    clip: float = 1.0
    """Highest global norm of the gradient of the mean loss; larger ones are scaled down to it."""
    seeds: tuple[int, ...] = ()
    """Train with each of these seeds, updates together where memory allows: a run each in the folder's seed-0, seed-1
    and so on, seeds.json and spread.png with their median and spread."""

    def check(self, who: str) -> None:
        """Refuses sizes, rates and thresholds out of range, and a seed twice."""
        super().check(who)
        for seed in self.seeds:
            check_seed(who, seed)
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"{who}: expected --seeds that differ, got {self.seeds}. Leave out what is there twice.")
        if self.seeds:
            check_left_out(who, self, "--seeds", "seed", "processes")
        check_sizes(who, self, "batch_size")
        devices.share(who, self.devices, self.batch_size)
        check_positive(who, self, "learning_rate", "clip")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatientOptions(LearningOptions):
    """The options of a recipe that can end before its steps are done."""

    patience: int = 0
    """End after so many evaluations without a lower loss on held-back data, with the parameters of the lowest; 0 goes
    through all steps."""

    def check(self, who: str) -> None:
        """Refuses a number below 0."""
        super().check(who)
        check_not_negative(who, self, "patience")


class Training(NamedTuple):
    """All that decides the next update: a run resumed from it equals one that never stopped."""

    train: sj.TrainState
    memory: PyTree


class Outcome(NamedTuple):
    """What training ended with: parameters, the last evaluation's numbers, updates, seconds of training, the test."""

    params: PyTree
    numbers: dict[str, float]
    steps: int
    seconds: float
    test: splits.Measured | None = None


def schedule_of(options: LearningOptions) -> optax.Schedule:
    """The learning rate of every update."""
    return optimizers.schedule(options.schedule, options.learning_rate, options.steps)


def optimizer_of(options: LearningOptions) -> optax.GradientTransformation:
    """The optimizer asked for, with `schedule_of`."""
    return optimizers.OPTIMIZERS[options.optimizer](schedule_of(options))


def begin(
    options: LearningOptions,
    params: PyTree,
    memory: PyTree = (),
    *,
    optimizer: optax.GradientTransformation | None = None,
    noise: bool = False,
) -> Training:
    """What training starts from, and what a checkpoint of it looks like.

    Args:
      options: of the run.
      params: the parameters.
      memory: the model's state before the first tick.
      optimizer: `optimizer_of` if None.
      noise: whether the model draws anything in training, as dropout does.

    Returns:
      The state before the first update.
    """
    key = jax.random.fold_in(jax.random.key(options.seed), 1) if noise else None
    return Training(sj.train_state(params, optimizer or optimizer_of(options), key=key), memory)


def learn(
    run: Run,
    options: LearningOptions,
    start: Training,
    objective: Objective,
    batch_of: Callable[[int], sj.Batch],
    *,
    work: int,
    unit: str,
    evaluate: Callable[[PyTree], dict[str, float]],
    show_evaluation: str,
    show: str = "loss {loss:.4f}",
    extra: Callable[[Array], dict[str, Array]] | None = None,
    goes_on: Callable[[int], bool] | None = None,
    optimizer: optax.GradientTransformation | None = None,
    clip: optax.GradientTransformation | None = None,
    divide_by: Literal["count"] | float = "count",
    evaluations: int | None = None,
    watch: Callable[[Training, sj.Batch, int], None] | None = None,
    patience: Patience | None = None,
    best: Callable[[dict[str, float]], float | None] = lambda numbers: None,
    test: Callable[[PyTree], dict[str, float]] | None = None,
) -> Generator[Update, Answer, Outcome]:
    """Trains to ``options.steps`` updates or to the end of its patience, from the start or from the run's checkpoint.

    To be called as ``outcome = yield from learn(…)``: each `Update` is made by whoever runs the command.

    Args:
      run: where metrics and checkpoints go.
      options: steps, clipping, devices.
      start: from `begin`, with the same optimizer.
      objective: ``(params, state, batch, key) -> (state, Tally)``.
      batch_of: the batch of the update with that number, from 0, always the same one; every array of it is
        ``[n, batch_size, ...]``, for that axis is shared by the devices.
      work: units handled by one update, for the speed.
      unit: their name, e.g. ``"sequences"``.
      evaluate: ``(params) -> numbers`` to log beside the step, e.g. accuracy on held-back data.
      show_evaluation: a format string over them.
      show: a format string over ``{loss}`` and what ``extra`` adds, for the bar.
      extra: more numbers from the loss, e.g. perplexity.
      goes_on: whether that update's sequences go on from where the last one's stopped; None for never.
      optimizer: `optimizer_of` if None.
      clip: by global norm at ``options.clip`` if None.
      divide_by: as in `seqjax.train_step`.
      evaluations: how many there are, spread evenly; `EVALUATIONS` if None.
      watch: sees what every update starts from, its batch, and its number from 1.
      patience: for early stopping.
      best: the figure of an evaluation without patience, lower is better; its checkpoint is never removed.
      test: ``(params) -> numbers``, asked once, with the parameters of that checkpoint.

    Returns:
      Parameters on the first device, and the last evaluation.

    Raises:
      Interrupted: Ctrl-C; the message says how to go on.
      BadInput: numbers that are not finite, in too many updates or in an evaluation.
    """
    update: Any = sj.train_step(
        objective,
        optimizer or optimizer_of(options),
        clip=clip or sj.clip_by_global_norm(options.clip),
        divide_by=divide_by,
        devices=processes.devices(
            devices.share(run.config["recipe"], options.devices, options.batch_size, start.train.params)
        ),
    )
    empty = start.memory

    def advance(state: Training, step: int) -> Generator[Update, Answer, tuple[Training, dict[str, Array]]]:
        carried = goes_on is not None and goes_on(step)
        batch, state = batch_of(step), Training(state.train, state.memory if carried else empty)
        if watch is not None:
            watch(state, batch, step + 1)
        given = processes.spread((state.train, state.memory, batch), update)
        train, memory, metrics = yield Update(update, given, step + 1)
        kept = empty if goes_on is None else memory
        more = {} if extra is None else extra(metrics.loss)
        numbers = {"gradient_norm": metrics.gradient_norm, "clip_rate": metrics.clipped, "skipped": metrics.skipped}
        return Training(train, kept), {"loss": metrics.loss, **more, **numbers}

    look = lambda state: processes.agreed(evaluate(processes.on_one(state.train.params)))
    steps, final = yield from loop.train(
        run,
        start,
        advance,
        steps=options.steps,
        show=show + f" {{speed:,.0f}} {unit}/s norm {{gradient_norm:.2f}} clip {{clip_rate:.0%}}",
        work=work,
        unit=unit,
        evaluate=look,
        show_evaluation=show_evaluation,
        evaluate_every=max(1, options.steps // (evaluations or EVALUATIONS)),
        over=(lambda: False) if patience is None else patience.over,
        best=best if patience is None else patience.improved,
        sound=loop.sound,
        cause=causes.of(objective, empty, batch_of, goes_on),
    )
    params = processes.on_one(final.train.params)
    records = run.metrics()
    last = next((record for record in reversed(records) if "loss" not in record), {})
    if last.get("step") != steps:  # stopped at its last update, before the evaluation
        last = look(final)
        with trackers.following(run) as tracker:
            tracker.log(steps, last)
    if patience is not None:
        params, last = processes.on_one(run.restore_best(start, params_of)), patience.lowest()
        print(f"lowest {patience.measure} at step {last['step']} of {steps}, whose parameters are taken")
    seconds = max(record.get("seconds", 0.0) for record in records)
    return Outcome(params, last, steps, seconds, None if test is None else splits.measured(run, start, params_of, test))


def conclude(run: Run, measure: str, figures: Figures, floors: Figures, test: splits.Measured | None = None) -> None:
    """Writes what a run came to into its ``result.json``, with what training took, for tables over many runs.

    Args:
      run: that has ended.
      measure: what the figures are, with the unit.
      figures: by name, of everything that was trained; None for what never came.
      floors: of what learns nothing: chance, counting, persistence; None as there.
      test: of the `Outcome`; it is told.
    """
    steps, seconds = (max((r.get(name, 0) for r in run.metrics()), default=0) for name in ("step", "seconds"))
    figures = {name: figure for name, figure in figures.items() if name != "step"}
    result = {"measure": measure, "figures": figures, "floors": floors, "steps": steps, "seconds": seconds}
    if test is not None:
        result["test"] = splits.tell(test, measure)
    files.replace(run.folder / "result.json", json.dumps(result, indent=2, ensure_ascii=False) + "\n")


def generator(options: LearningOptions, step: int | None = None) -> np.random.Generator:
    """Where the data of an update come from, or, without its number, held-back data."""
    return np.random.default_rng((options.seed, 0 if step is None else step + 1))


def parameter_count(params: PyTree) -> int:
    """How many numbers are trained."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def numbered(
    fields: Sequence[Sequence[np.ndarray]], plan: tasks.Buckets, size: int, *, seed: int
) -> Callable[[int], tasks.Drawn]:
    """The batches of `seqjax.tasks.batches` by the number of the update from 0, epoch after epoch without end."""
    return tasks.BatchSource(fields, plan, size, seed=seed, epochs=sys.maxsize // max(1, len(fields[0]))).__getitem__


def params_of(state: Training) -> PyTree:
    """The parameters that are trained."""
    return state.train.params


def lowest(*names: str) -> Callable[[dict[str, float]], float]:
    """For ``best``: the mean of these numbers of an evaluation."""
    return lambda numbers: float(np.mean([numbers[name] for name in names]))


def highest(*names: str) -> Callable[[dict[str, float]], float]:
    """For ``best``, of numbers that are better the higher they are."""
    return lambda numbers: -lowest(*names)(numbers)


def trained(run: Run, like: Training) -> PyTree:
    """The parameters of a run's last checkpoint, or the best of early stopping; ``like`` is from `begin`."""
    if run.config["options"].get("patience"):
        return processes.on_one(run.restore_best(like, params_of))
    return processes.on_one(params_of(run.restore(like)[1]))
