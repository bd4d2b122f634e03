"""Runs as they are found in folders, finished or not, and those that differ in the seed together."""

import dataclasses
import importlib
import json
import re
import statistics
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from seqjax.recipes.comparing import measures
from seqjax.recipes.comparing.measures import Measure
from seqjax.recipes.running import config, files
from seqjax.recipes.running.options import FREE, BadInput
from seqjax.recipes.running.run import Run

DATA = {"data", "text", "series", "train", "held_back"}  # options that may be another path to the same files
APART = {"run_dir", "resume", "seed", "seeds"}  # options that are no part of what is compared


@dataclasses.dataclass(frozen=True)
class Found:
    """One run.

    Attributes:
      run: its folder and configuration.
      options: all, those that are younger than the run at their defaults.
      evaluations: its records of what is held back.
      seconds: of training, by the update.
      result: what it came to; empty before its end.
    """

    run: Run
    options: dict[str, Any]
    evaluations: list[dict[str, float]]
    seconds: dict[int, float]
    result: dict[str, Any]

    @property
    def recipe(self) -> str:
        """The command that made it."""
        return self.run.config["recipe"]

    @property
    def measures(self) -> list[Measure]:
        """Those of its command that its records have."""
        return [m for m in measures.of(self.recipe, self.options) if m.models(self.evaluations[-1])]

    def decided(self, free: Collection[str]) -> dict[str, Any]:
        """The options that decide what is computed but for the seed, and the digests of texts and files."""
        facts = self.run.config["facts"]
        digests = {name: sha for name, sha in facts.items() if name.startswith("sha256_")}
        if "text" in self.options:  # elsewhere the seed decides it, too
            digests["sha256"] = facts.get("sha256")
        return {name: x for name, x in self.options.items() if name not in free} | digests

    @property
    def updates(self) -> int:
        """How many were made before the last evaluation."""
        return int(max(record["step"] for record in self.evaluations))

    def models(self, measure: Measure) -> dict[str, str]:
        """Fields of the records by the name of the model; that of the run's own cell has none."""
        own = {self.options.get("cell"), self.options.get("model")}
        return {"" if name in own else name: field for name, field in measure.models(self.evaluations[-1]).items()}

    def curve(self, field: str, against: str) -> dict[int, tuple[float, float]]:
        """By the update of every evaluation: place on the axis, and the number."""
        found = {int(record["step"]): record[field] for record in self.evaluations if field in record}
        return {
            step: (step if against == "updates" else self.seconds[step], value)
            for step, value in found.items()
            if against == "updates" or step in self.seconds
        }

    def best(self, measure: Measure, field: str) -> float:
        """The best number of all evaluations."""
        values = [value for _, value in self.curve(field, "updates").values()]
        return max(values) if measure.higher else min(values)

    def test(self, field: str) -> float | None:
        """The number of the test, if there was one."""
        name = {"valid": "test"}.get(field, field.removeprefix("validation_"))
        return self.result.get("test", {}).get("figures", {}).get(name)


class Group(NamedTuple):
    """Runs that differ in the seed alone, and what they are called beside others."""

    name: str
    runs: list[Found]

    @property
    def first(self) -> Found:
        """One of them."""
        return self.runs[0]


def read(who: str, folders: Sequence[str | Path]) -> list[Found]:
    """The runs in folders: those of a run, of several seeds, of a comparison, or of a folder of runs.

    Raises:
      BadInput: no run, one of a command that does not train, or one without an evaluation so far; of several in a
        folder such a one is left out with a word.
    """
    found: dict[Path, Found] = {}
    for folder in folders:
        inner, before = parts(who, Path(folder)), len(found)
        for part in inner:
            try:
                found.setdefault(part.resolve(), read_one(who, part))
            except BadInput as error:
                if part == inner[-1] and len(found) == before:
                    raise
                files.tell(f"{re.split(' Let it | Leave it ', str(error))[0]} It is left out.")
    return list(found.values())


def parts(who: str, folder: Path) -> list[Path]:
    """The folders of single runs in one."""
    inner = sorted(path.parent for path in folder.glob(f"*/{config.FILE}"))
    if inner:
        return [part for one in inner for part in parts(who, one)]
    config.recipe_of(who, folder)
    return [folder]


def read_one(who: str, folder: Path) -> Found:
    """The run in a folder."""
    recipe = config.recipe_of(who, folder)
    if recipe not in measures.MEASURES:
        raise BadInput(
            f"{who}: expected runs of commands that train by updates, got {folder}, of {recipe}. Leave it out."
        )
    made = config.read(recipe, folder)
    kind = importlib.import_module(f"seqjax.recipes.{recipe.replace('-', '_')}").Options
    younger = {field.name: field.metadata.get("before", field.default) for field in dataclasses.fields(kind)}
    run = Run(folder, made)
    records = files.records(who, run.lines, say=False)
    evaluations = [record for record in records if "loss" not in record]
    if not evaluations:
        raise BadInput(
            f"{who}: expected runs with at least one evaluation, got none in {run.lines}. Let it go on: "
            f"{run.resume_command()}"
        )
    path = folder / "result.json"
    result = json.loads(path.read_text("utf-8")) if path.exists() else {}
    gone_on = result and result["steps"] < max(record["step"] for record in evaluations)
    return Found(
        run,
        younger | made["options"],
        evaluations,
        {int(record["step"]): record["seconds"] for record in records if "seconds" in record},
        {} if gone_on else result,
    )


def groups(runs: Sequence[Found]) -> list[Group]:
    """Runs of the same options and texts together, unless two of them have the same seed, in their order."""
    alike: dict[str, list[Found]] = {}
    for run, decided in zip(runs, map(json.dumps, decisions(runs))):
        alike.setdefault(f"{run.recipe} {decided}", []).append(run)
    sets: list[list[Found]] = []
    for some in alike.values():
        apart = len({run.options["seed"] for run in some}) < len(some)
        sets.extend([[run] for run in some] if apart else [some])
    return [Group(name, some) for name, some in zip(names([some[0] for some in sets]), sets)]


def decisions(runs: Sequence[Found]) -> list[dict[str, Any]]:
    """What decides each; what one of them may change from start to start decides none, but for files and the steps."""
    free = {name for run in runs for name in run.run.config.get("free", ())} | FREE
    return [dict(sorted(run.decided((free - DATA - {"steps"}) | APART).items())) for run in runs]


def names(runs: Sequence[Found]) -> list[str]:
    """What tells runs apart: the command, the options in which those of one command differ, else the folder.

    An option that alone differs is told by its value if that is a name; its folder is added where all is the same.
    """
    recipes, told = {run.recipe for run in runs}, []
    decided = list(zip(runs, decisions(runs)))
    for run, mine in decided:
        others = [other for beside, other in decided if beside.recipe == run.recipe]
        differing = [name for name in mine if any(other.get(name) != mine[name] for other in others)]
        if DATA & {*differing}:
            differing = [name for name in differing if not name.startswith("sha256")]
        values = [as_words(name, mine[name], alone=len(differing) == 1) for name in differing]
        told.append(" ".join(filter(None, [run.recipe if len(recipes) > 1 else "", ", ".join(values)])))
    alone = [name != "" and told.count(name) == 1 for name in told]
    return [name if one else f"{name} {run.run.folder}".strip() for name, one, run in zip(told, alone, runs)]


def as_words(option: str, value: Any, *, alone: bool) -> str:
    """An option with its value.

    >>> as_words("cell", "gru", alone=True), as_words("hidden_size", 64, alone=True), as_words("crf", False, alone=True)
    ('gru', 'hidden size 64', 'no crf')
    >>> as_words("states", [2, 3], alone=True)
    'states 2 3'
    """
    name = option.replace("_", " ")
    if isinstance(value, bool):
        return name if value else f"no {name}"
    if value is None:
        return f"no {name}"
    if isinstance(value, list | tuple):
        return " ".join([name, *map(str, value)]) if value else f"no {name}"
    if option.startswith("sha256"):
        return f"{name} {str(value)[:8]}"
    if alone and isinstance(value, str):
        return value
    return f"{name} {value}"


def spread(values: Sequence[float | None]) -> dict[str, Any] | None:
    """Each, their median, and the lowest and the highest; None where one is missing."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return {"each": known, "median": statistics.median(known), "lowest": min(known), "highest": max(known)}
