"""The loop that every recipe trains in: progress, metrics, checkpoints, Ctrl-C, and going on after it."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from seqjax.base import Array, PyTree
from seqjax.leaving import SIGNALS
from seqjax.recipes.running import processes, trackers
from seqjax.recipes.running.options import BadInput, Ended, interval
from seqjax.recipes.running.run import Run

LIMIT = 10  # updates in a row whose numbers are not finite; one by one they are left out

Advance = Callable[[PyTree, int], Generator[Any, Any, tuple[PyTree, dict[str, Array]]]]


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a run; the message says what was kept and how to go on."""


def train(
    run: Run,
    state: PyTree,
    advance: Advance,
    *,
    steps: int,
    show: str,
    work: int,
    unit: str,
    evaluate: Callable[[PyTree], dict[str, float]],
    show_evaluation: str,
    log_every: int = 20,
    evaluate_every: int,
    over: Callable[[], bool] = lambda: False,
    best: Callable[[dict[str, float]], float | None] = lambda numbers: None,
    sound: Callable[[PyTree], bool] | None = None,
    cause: Callable[[PyTree, int], str] = lambda state, step: "",
) -> Generator[Any, Any, tuple[int, PyTree]]:
    """Trains to ``steps`` updates from the start or from the run's checkpoint.

    What ``advance`` yields it yields on: updates that are made elsewhere, beside those of other runs.

    Everything that decides the next update has to be in ``state`` or follow from the step's number: then a
    run that was stopped and resumed equals one that was not. Metrics stay on the device until they are
    logged, so that the host waits only once in ``log_every`` steps. A checkpoint is written at every
    evaluation, as often as ``--checkpoint-every`` says, at the end, and on Ctrl-C, SIGTERM or SIGHUP once the update
    in progress is done; a second Ctrl-C does not wait. A state that is not finite is never written.

    Args:
      run: where metrics and checkpoints go.
      state: what training starts from if the run has no checkpoint yet; its ``train`` is a `seqjax.TrainState`.
      advance: ``(state, step) -> (state, metrics)``, a generator, makes the update with that number, counted from
        0; metrics are scalars by name, ``skipped`` among them, the count of updates left out so far.
      steps: updates in all.
      show: a format string of the bar, over the metrics' means since the last record and ``{speed}``.
      work: units handled by one update, for the speed.
      unit: their name, e.g. ``"characters"``.
      evaluate: ``(state) -> numbers`` to log beside the step, e.g. the validation loss.
      show_evaluation: a format string for them; with the latest ``show`` it makes a line above the bar.
      log_every: steps from record to record.
      evaluate_every: steps from evaluation to evaluation; there is one at the end in any case.
      over: whether to end before ``steps``; asked at the start and after every evaluation.
      best: the figure of an evaluation, lower is better: the checkpoint of the lowest is never removed.
      sound: whether a state may be gone on from; if None all its numbers have to be finite.
      cause: ``(state, step) -> text``, where numbers are not finite of the update with that number from 0, which was
        left out or would be the next.

    Returns:
      The number of the last update, and the state after it.

    Raises:
      Interrupted: Ctrl-C; the message says how to go on.
      Ended: a file of the run could not be written; the message says what is kept.
      BadInput: numbers that are not finite, in an evaluation or in `LIMIT` updates in a row, or all of a shorter run.
    """
    recipe, due = run.config["recipe"], interval(run.config["recipe"], run.config["options"].get("checkpoint_every"))
    first = 0
    if run.last_step() is not None:
        first, state = run.restore(state)
    run.forget_after(first)
    seconds = max((record.get("seconds", 0.0) for record in run.metrics()), default=0.0)
    saved, pending, mark, clock = first, [], time.perf_counter(), time.monotonic()
    skipped, in_a_row = int(state.train.skipped), 0
    with trackers.following(run) as tracker, bar() as progress, _ctrl_c as asked_to_stop:
        latest = "compiling"
        task = progress.add_task("", total=steps, completed=first, show=latest)

        def record(step: int, **numbers: float) -> None:
            if not np.isfinite(list(numbers.values())).all():
                raise BadInput(_diverged(run, step, saved, cause(state, step)))
            tracker.log(step, numbers)

        def keep(step: int, value: float | None = None) -> None:
            nonlocal saved, clock
            if step > saved:
                if not (sound or finite)(state):
                    raise BadInput(_diverged(run, step, saved))
                run.save(step, state, value)
                saved, clock = step, time.monotonic()

        last = first if over() else steps
        try:
            for step in range(first + 1, last + 1):
                state, metrics = yield from advance(state, step - 1)
                pending.append(metrics)
                evaluating = step % evaluate_every == 0 or step == steps
                logging = evaluating or step % log_every == 0 or step % due.updates == 0 or step == 1
                # Several processes stop, and save by the clock, where they wait for each other in any case.
                asking = asked_to_stop(), time.monotonic() - clock >= due.seconds
                stopping, late = processes.any_asks(*asking) if logging or not processes.several() else (False, False)
                saving = stopping or late or step % due.updates == 0
                if saving or logging:
                    done, left_out, in_a_row = _apart(jax.device_get(pending), skipped, in_a_row)
                    skipped += left_out
                    if in_a_row >= min(LIMIT, steps):
                        raise BadInput(_diverged(run, step, saved, cause(state, step - 1)))
                    elapsed = time.perf_counter() - mark
                    seconds += elapsed
                    speed = len(pending) * work / elapsed
                    if left_out:
                        line = f"{step:>6} steps  {left_out} of the last {len(pending)} updates left out: not finite"
                        progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
                    if done:
                        means, counted = _means(done), {"skipped": left_out} if left_out else {}
                        record(step, **means, **counted, **{f"{unit}_per_second": speed}, seconds=seconds)
                        latest = show.format(**means, speed=speed)
                    progress.update(task, completed=step, show=latest)
                    pending, mark = [], time.perf_counter()
                if evaluating:
                    numbers = evaluate(state)
                    record(step, **numbers)
                    line = f"{step:>6} steps  {show_evaluation.format(**numbers)}  {latest}"
                    progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
                    keep(step, best(numbers))
                    if over():
                        last = step
                        break
                    mark = time.perf_counter()
                if saving:
                    keep(step)
                if stopping and step < steps:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise Interrupted(_farewell(run, saved, steps)) from None
        except OSError as error:
            raise Ended(f"{recipe}: {told(error)}. {_kept('The', run, saved, steps)}") from error
    return last, state


def _farewell(run: Run, saved: int, steps: int) -> str:
    if saved == 0:
        return f"Stopped before the first checkpoint; nothing to resume in {run.folder}."
    return f"Stopped; {_kept('the', run, saved, steps)}"


def _kept(the: str, run: Run, saved: int, steps: int) -> str:
    if saved == 0:
        return "There is no checkpoint yet."
    return f"{the} checkpoint of step {saved} of {steps} is kept. Go on with: {run.resume_command()}"


def _apart(records: list[dict[str, Any]], skipped: int, before: int) -> tuple[list[dict[str, Any]], int, int]:
    """The records of updates that were made, how many were left out, and how many of those in a row by now."""
    made, count = [], skipped
    for record in records:
        left_out, count = record["skipped"] > count, int(record["skipped"])
        before = before + 1 if left_out else 0
        if not left_out:
            made.append({name: value for name, value in record.items() if name != "skipped"})
    return made, count - skipped, before


def _diverged(run: Run, step: int, saved: int, cause: str = "") -> str:
    kept = f"The checkpoint of step {saved} is kept." if saved else "There is no checkpoint yet."
    return (
        f"{run.config['recipe']}: expected finite numbers in training, got others up to step {step}{cause}. "
        f"Lower --learning-rate. {kept}"
    )


def finite(state: PyTree) -> bool:
    """Whether every number of a tree is one."""
    floats = [leaf for leaf in jax.tree.leaves(state) if jax.dtypes.issubdtype(leaf.dtype, np.inexact)]
    return all(jax.device_get([jnp.isfinite(leaf).all() for leaf in floats]))


def sound(state: Any) -> bool:
    """Whether training may go on from a state: all is finite, but for memories, which may start from -∞."""
    floats = [x for x in jax.tree.leaves(state.memory) if jax.dtypes.issubdtype(x.dtype, np.inexact)]
    return finite(state.train) and not any(jax.device_get([jnp.isnan(x).any() for x in floats]))


def told(error: OSError) -> str:
    """What could not be done, as the system says it."""
    where = f" {error.filename}" if error.filename else ""
    return f"expected to write and read{where}, got {error.strerror or error}"


def _means(records: list[dict[str, Any]]) -> dict[str, float]:
    return {name: float(np.mean([record[name] for record in records])) for name in records[0]}


def bar() -> Progress:
    """Of updates, on a terminal; lines are printed above it."""
    console = Console(file=sys.stdout)
    return Progress(
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[show]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=console,
        expand=True,
        disable=not console.is_terminal,
    )


def in_main_thread() -> bool:
    """Whether this is the thread that signals come to."""
    return threading.current_thread() is threading.main_thread()


class _Signals:
    """The first Ctrl-C is only noted, so that updates in progress can end; the second one interrupts.

    SIGTERM, which queues and services send, and SIGHUP of a closed terminal are noted too, unless they were ignored.
    One for all runs that are under way, in whatever order they begin and end. Python hears signals in its main thread
    only: a run in another one is not stopped by them.
    """

    def __init__(self) -> None:
        self.runs, self.asked, self.usual = 0, False, dict[int, Any]()

    def __enter__(self) -> Callable[[], bool]:
        if not in_main_thread():
            return lambda: False
        if not self.runs:
            self.asked = False
            for number in SIGNALS:
                if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
                    self.usual[number] = signal.signal(number, self._note)
        self.runs += 1
        return lambda: self.asked

    def __exit__(self, *_: Any) -> None:
        if not in_main_thread():
            return
        self.runs -= 1
        if not self.runs:
            while self.usual:
                signal.signal(*self.usual.popitem())

    def _note(self, number: int, frame: Any) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


_ctrl_c = _Signals()
