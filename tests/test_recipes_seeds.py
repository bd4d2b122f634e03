"""``--seeds``: each run is the one that its seed alone makes; their median and spread; Ctrl-C, bad input, memory."""

import dataclasses
import importlib
import json
import os
import signal
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from marks import quick

import seqjax as sj
from seqjax.__main__ import COMMANDS, main
from seqjax.recipes import execute, forecast, memory, music
from seqjax.recipes.classify import sequences
from seqjax.recipes.pictures import seeds as pictures
from seqjax.recipes.running import courses, learning, seeds
from seqjax.recipes.running.options import BadInput
from seqjax.recipes.running.run import Run
from seqjax.recipes.running.trackers import JsonLines

RUNS = Path(__file__).with_name("runs")
RECIPES = {json.loads(path.read_text("utf-8"))["recipe"] for path in RUNS.glob("*/config.json")}
NAMES = sorted(RECIPES - {"hmm-learn"})  # which learns without gradients
TEXT = ["--text", "text.txt", "--batch-size", "4", "--window", "8", "--hidden-size", "6", "--embedding-size", "4"]
CHARLM = ["charlm", *TEXT, "--length", "5", "--learning-rate", "0.05"]

pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture(scope="module", autouse=True)
def _settings(patch):
    """Two evaluations, of few examples."""
    for recipe in (learning, memory, music):
        patch.setattr(recipe, "EVALUATIONS", 2)
    patch.setattr(sequences, "HELD_BACK", 40)
    patch.setattr(execute, "HELD_BACK", 10)
    patch.setattr(execute, "EACH", 10)
    patch.setattr(forecast, "STARTS", 3)
    patch.setattr(memory, "HELD_BACK", 5)


def numbers(folder):
    """What a run has recorded, without its speed."""
    lines = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds" and not k.endswith("per_second")} for line in lines]


def same(name, together, alone, **tolerance):
    """Two folders hold the same run."""
    for found, expected in zip(numbers(together), numbers(alone), strict=True):
        assert found == pytest.approx(expected, **tolerance)
    one, other = (Run.open(name, folder).config for folder in (together, alone))
    places = {"run_dir", "resume"}
    keep = lambda config: {k: v for k, v in config["options"].items() if k not in places}
    assert (keep(one), one["facts"]) == (keep(other), other["facts"])
    files = lambda folder: {path.name for path in Path(folder).iterdir()}
    assert files(together) == files(alone)
    results = [json.loads((Path(folder) / "result.json").read_text())["figures"] for folder in (together, alone)]
    found, expected = ({k: -1 if v is None else v for k, v in figures.items()} for figures in results)
    assert found == pytest.approx(expected, **tolerance)


@pytest.mark.parametrize("name", quick(NAMES, "forecast"))
def test_every_seed_is_the_run_of_its_own(name, capsys):
    """Of every command that trains: batches, draws, records and figures of a seed alone, updates made together."""
    recipe = importlib.import_module(COMMANDS[name])
    stored = Run.open(name, RUNS / name).options(recipe.Options)
    more = {"dropout": 0.3} if name == "charlm" else {}
    options = dataclasses.replace(stored, resume=None, steps=4, **more)
    seeds.main(name, recipe.main.course, dataclasses.replace(options, seeds=(3, 5), run_dir="both"), pictures.draw)
    said = capsys.readouterr().out
    how = (
        "where shapes or programs differ" if name == "translate" else "updates are made together"
    )  # pairs of other lengths
    assert how in said
    assert "seed-5 │ " in said
    recipe.main(dataclasses.replace(options, seed=5, run_dir="alone"))
    same(name, "both/seed-5", "alone", rel=1e-6, abs=1e-9)
    summary = json.loads(Path("both/seeds.json").read_text())
    assert summary["runs"] == ["seed-3", "seed-5"]
    results = [json.loads((Path("both") / run / "result.json").read_text()) for run in summary["runs"]]
    for figure, found in summary["figures"].items():
        tested = figure.removeprefix("test, ")
        each = [(result["figures"] if tested == figure else result["test"]["figures"])[tested] for result in results]
        assert found["each"] == each
        if None not in each:
            assert [found["lowest"], found["highest"]] == [min(each), max(each)]
            assert found["median"] == pytest.approx(np.median(each))
    assert Path("both/spread.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.slow
def test_seeds_differ_and_their_updates_are_one_program(capsys, monkeypatch):
    """Two updates at a step, one call; without memory for both each by itself, with the same numbers."""
    calls = []
    joint = courses.side_by_side

    def counted(step):
        program = joint(step)

        def run(*given):
            calls.append(len(given[0]))
            return program(*given)

        run.lower = program.lower
        return run

    monkeypatch.setattr(courses, "side_by_side", counted)
    assert main([*CHARLM, "--steps", "3", "--seeds", "0", "1", "2", "--run-dir", "together"]) == 0
    assert calls == [3, 3, 3]
    monkeypatch.setattr(courses, "SHARE", 10**12)
    assert main([*CHARLM, "--steps", "3", "--seeds", "0", "1", "2", "--run-dir", "apart"]) == 0
    assert calls == [3, 3, 3]
    assert "updates are made one after the other: " in capsys.readouterr().out
    losses = []
    for seed in range(3):
        same("charlm", f"together/seed-{seed}", f"apart/seed-{seed}", rel=1e-9)
        losses.append(numbers(f"apart/seed-{seed}")[-1]["validation_loss"])
    assert len(set(losses)) == 3
    assert main(["sample", "together/seed-1", "--length", "3"]) == 0
    assert main(["sample", "together"]) == 2
    assert (
        "sample: expected together to be the folder of a charlm run, got that of several seeds."
        in capsys.readouterr().err
    )


@pytest.mark.slow
def test_stopped_and_resumed(capsys, monkeypatch):
    """Ctrl-C ends all runs with a checkpoint each; all go on together, as if never stopped."""
    log = JsonLines.log

    def log_and_interrupt(self, step, numbers):
        log(self, step, numbers)
        if step == 2 and "loss" in numbers and self._path.parent.name == "seed-0":
            os.kill(os.getpid(), signal.SIGINT)

    usual = signal.getsignal(signal.SIGINT)
    command = [*CHARLM, "--steps", "6", "--seeds", "0", "1"]
    assert main([*command, "--run-dir", "whole"]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(learning, "EVALUATIONS", 3)
        patch.setattr(JsonLines, "log", log_and_interrupt)
        assert main([*command, "--run-dir", "two"]) == 130
    assert signal.getsignal(signal.SIGINT) is usual
    told = "Stopped; seed-0 at step 3, seed-1 at step 2. Go on with: python -m seqjax charlm --resume two"
    assert told in capsys.readouterr().err
    assert main(["charlm", "--resume", "two", "--seeds", "0", "2"]) == 2
    assert "charlm: expected --seeds 0 1 as in the run to resume, got (0, 2)." in capsys.readouterr().err
    assert main(["charlm", "--resume", "two"]) == 0
    for seed in (0, 1):
        found, expected = (numbers(f"{run}/seed-{seed}")[-1] for run in ("two", "whole"))
        assert found == pytest.approx(expected, rel=1e-9)
    assert main(["charlm", "--resume", "two", "--steps", "8"]) == 0
    assert json.loads(Path("two/config.json").read_text())["options"]["steps"] == 8
    assert json.loads(Path("two/seeds.json").read_text())["steps"] == {"seed-0": 8, "seed-1": 8}


@pytest.mark.slow
def test_one_run_that_fails_leaves_the_others(capsys, monkeypatch):
    log = JsonLines.log

    def log_and_diverge(self, step, numbers):
        if self._path.parent.name == "seed-1" and "loss" in numbers:
            raise BadInput("charlm: expected finite numbers in training")
        log(self, step, numbers)

    monkeypatch.setattr(JsonLines, "log", log_and_diverge)
    assert main([*CHARLM, "--steps", "2", "--seeds", "0", "1", "2", "--run-dir", "run"]) == 2
    assert capsys.readouterr().err == "seed-1: charlm: expected finite numbers in training\n"
    assert json.loads(Path("run/seeds.json").read_text())["runs"] == ["seed-0", "seed-2"]


BAD = {
    "twice": (
        ["--seeds", "1", "1"],
        "charlm: expected --seeds that differ, got (1, 1). Leave out what is there twice.",
    ),
    "negative": (["--seeds", "0", "-1"], "charlm: expected --seed from 0 to 2³² - 1, got -1."),
    "both": (["--seeds", "0", "1", "--seed", "2"], "charlm: expected no --seed with --seeds, got both."),
    "data": (["--seeds", "0", "1", "--text", "none.txt"], "charlm: none.txt: expected a file, got none."),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_leaves_nothing(name, capsys):
    more, told = BAD[name]
    assert main([*CHARLM, "--run-dir", "run", *more]) == 2
    assert told in capsys.readouterr().err
    assert not Path("run").exists()


def test_spread():
    rows = [{"loss": 3.0, "solved": None}, {"loss": 1.0, "solved": 40.0}, {"loss": 2.0, "solved": None}]
    found = seeds.spreads(rows)
    assert found["loss"] == {"each": [3.0, 1.0, 2.0], "median": 2.0, "lowest": 1.0, "highest": 3.0}
    assert found["solved"] == {"each": [None, 40.0, None], "median": None, "lowest": 40.0, "highest": None}
    lines = seeds.table("nats", ["seed-0", "seed-1", "seed-2"], found, {}).splitlines()
    assert lines[0].split() == ["nats", "seed-0", "seed-1", "seed-2", "median", "lowest", "highest"]
    assert lines[1].split() == ["loss", "3", "1", "2", "2", "1", "3"]
    assert lines[2].split() == ["solved", "none", "40", "none", "none", "40", "none"]


def test_programs_with_other_constants_are_not_made_together():
    """The text that is compiled tells: two objectives of one form, one constant apart."""

    def update(scale, n=0):
        objective = lambda w, state, x, key: (state, sj.Tally(scale * (w * x).sum(), jnp.ones(())))
        train = sj.train_state(jnp.ones(2), optax.sgd(0.1))
        return courses.Update(sj.train_step(objective, optax.sgd(0.1)), (train, (), jnp.ones(2) + n), 1)

    told = []
    makers = courses.Makers(told.append)
    answers = makers.make([update(1.0), update(2.0), update(1.0, 3)])
    assert [line.partition(":")[0] for line in told] == [
        "where shapes or programs differ, as vocabularies may, updates are made one after the other",
        "updates are made together",
    ]
    assert [key[1] for key in makers.joint] == [2]
    np.testing.assert_allclose([a[0].params[0] for a in answers], [0.9, 0.8, 0.6])
    assert [a[0].step.item() for a in answers] == [1, 1, 1]
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(answers))
