"""``--seeds 0 1 2`` of every command that trains: a run for each seed, their updates made together, and their spread.

``FOLDER/seed-0`` and so on are runs like any other: each is what ``--seed 0`` alone makes, up to rounding, and can be
sampled from, scored and gone on with by itself. ``seeds.json`` and ``spread.png`` beside them hold the median over
seeds and their spread: figures at the end, and the learning curve that each run draws. A run's seconds and speeds are
by the clock, with the others beside it.
"""

import contextlib
import dataclasses
import io
import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from seqjax.recipes.running import config, files, lock, loop
from seqjax.recipes.running.courses import Course, Update, together
from seqjax.recipes.running.learning import LearningOptions
from seqjax.recipes.running.options import FREE, BadInput, Ended
from seqjax.recipes.running.run import Run


@lock.kept()
def main(
    recipe: str,
    course: Callable[[Any], Course],
    options: LearningOptions,
    draw: Callable[[Run, Sequence[Run]], Path],
) -> None:
    """Runs a command with each of its seeds, or goes on with runs that were stopped.

    Args:
      recipe: its name.
      course: options to the run, a generator of updates.
      options: with seeds.
      draw: makes a picture of the runs' learning curves.

    Raises:
      BadInput: options that differ from those of the runs to resume; what ended one of the runs.
      Interrupted: Ctrl-C; the message says how to go on.
    """
    whole = folder_of(recipe, options)
    parts = {f"seed-{seed}": part(options, seed, whole.folder) for seed in options.seeds}
    with loop.bar() as progress:
        task = progress.add_task("", total=options.steps, show=f"{len(parts)} seeds")

        def say(line: str) -> None:
            progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

        def seen(waiting: Mapping[str, Update]) -> None:
            progress.update(task, completed=min(update.number for update in waiting.values()) - 1)

        said = {name: Lines(say, f"{name} │ ") for name in parts}
        ended = together(
            {name: course(options) for name, options in parts.items()},
            lambda name: contextlib.redirect_stdout(said[name]),
            seen=seen,
            catch=(BadInput, Ended, loop.Interrupted),
            tell=say,
        )
    runs = {name: Run.open(recipe, whole.folder / name) for name in parts if made(whole.folder / name)}
    if not runs:
        whole.remove()
        raise next(iter(ended.values()))
    now = next(iter(runs.values())).config["options"]
    whole.config["options"] |= {name: now[name] for name in now.keys() - {"seed", "seeds", "run_dir", "resume"}}
    whole.config.update(config.stamped(whole.config, FREE))
    whole.write_config()
    if any(isinstance(error, loop.Interrupted) for error in ended.values()):
        kept = ", ".join(f"{name} at step {run.last_step() or 0}" for name, run in runs.items())
        raise loop.Interrupted(f"Stopped; {kept}. Go on with: {whole.resume_command()}")
    conclude(whole, {name: run for name, run in runs.items() if name not in ended}, draw)
    if ended:
        kind = Ended if any(isinstance(error, Ended) for error in ended.values()) else BadInput
        raise kind("\n".join(f"{name}: {error}" for name, error in ended.items()))


def folder_of(recipe: str, options: LearningOptions) -> Run:
    """The folder of all, whose options name the seeds."""
    if options.resume is None:
        return Run.create(recipe, options, {})
    lock.take(recipe, Run.open(recipe, options.resume, several=True).folder)
    whole = Run.open(recipe, options.resume, several=True)
    seeds = whole.config["options"].get("seeds")
    if seeds != list(options.seeds):
        had = f"--seeds {' '.join(map(str, seeds))} as in" if seeds else "no --seeds, as in"
        raise BadInput(f"{recipe}: expected {had} the run to resume, got {options.seeds}. Start a new run for that.")
    return whole


def part(options: LearningOptions, seed: int, folder: Path) -> LearningOptions:
    """The options of one of the runs: those of ``--seed`` alone."""
    where = str(folder / f"seed-{seed}")
    place: dict[str, Any] = (
        {"resume": where, "run_dir": None} if made(Path(where)) else {"resume": None, "run_dir": where}
    )
    return dataclasses.replace(options, seed=seed, seeds=(), **place)


def made(folder: Path) -> bool:
    """Whether a run has begun there."""
    return (folder / "config.json").exists()


class Lines(io.TextIOBase):
    """A stream whose lines are said with a name in front; empty ones are left out."""

    def __init__(self, say: Callable[[str], None], front: str):
        """Holds nothing yet."""
        self.say, self.front, self.rest = say, front, ""

    def write(self, text: str) -> int:
        """Says what lines are complete."""
        *lines, self.rest = (self.rest + text).split("\n")
        for line in filter(str.strip, lines):
            self.say(self.front + line)
        return len(text)


def conclude(whole: Run, runs: Mapping[str, Run], draw: Callable[[Run, Sequence[Run]], Path]) -> None:
    """Writes ``seeds.json`` and ``spread.png``, and prints their table."""
    results = {name: json.loads((run.folder / "result.json").read_text("utf-8")) for name, run in runs.items()}
    if not results:
        return
    first, *_ = results.values()
    each = {kind: {name: r[kind] for name, r in results.items()} for kind in ("steps", "seconds")}
    found = {kind: spreads([r[kind] for r in results.values()]) for kind in ("figures", "floors")}
    if all("test" in r for r in results.values()):
        tested = spreads([r["test"]["figures"] for r in results.values()])
        found["figures"] |= {f"test, {name}": spread for name, spread in tested.items()}
    summary = {"measure": first["measure"], "runs": list(results), **found, **each}
    path = whole.folder / "seeds.json"
    files.replace(path, json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    print("\n" + table(first["measure"], list(results), found["figures"], found["floors"]))
    picture = draw(whole, list(runs.values()))
    print(f"\nrun folder {whole.folder}, a run a seed in it; median and spread {path}, learning curves {picture}")


def spreads(figures: list[dict[str, float | None]]) -> dict[str, dict[str, Any]]:
    """Of each figure its value in every run, the median, the lowest and the highest; None for what never came."""
    found = {}
    for name in figures[0]:
        values = [figure.get(name) for figure in figures]
        ordered = [math.inf if value is None else value for value in values]
        middle = {"median": statistics.median(ordered), "lowest": min(ordered), "highest": max(ordered)}
        found[name] = {"each": values, **{key: None if x == math.inf else x for key, x in middle.items()}}
    return found


def table(measure: str, runs: list[str], figures: Mapping[str, dict], floors: Mapping[str, dict]) -> str:
    """A row a figure: of every run, then median, lowest and highest."""
    names = [*figures, *floors]
    width = max(map(len, [*names, measure]), default=0) + 2
    columns = [*runs, "median", "lowest", "highest"]
    size = max(max(map(len, columns)), 9) + 2

    def row(name: str, values: Iterable[str]) -> str:
        return f"{name:{width}}" + "".join(f"{value:>{size}}" for value in values)

    lines = [row(measure, columns)]
    for part in (figures, floors):
        for name, found in part.items():
            values = [*found["each"], found["median"], found["lowest"], found["highest"]]
            lines.append(row(name, ("none" if x is None else f"{x:.5g}" for x in values)))
    return "\n".join(lines)
