"""Runs beside each other: the numbers of table and figure are those of the logs, and what differs is what is named."""

import importlib
import json
import math
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from seqjax.__main__ import COMMANDS, main
from seqjax.recipes import charlm
from seqjax.recipes.comparing import measures, reading, several, tables
from seqjax.recipes.language import characters
from seqjax.recipes.pictures.__main__ import main as pictures
from seqjax.recipes.running import learning
from seqjax.recipes.running.run import Run
from seqjax.recipes.running.trackers import JsonLines

RUNS = Path(__file__).with_name("runs")
STORED = sorted(path.parent.name for path in RUNS.glob("*/config.json"))
TEXT = ["--text", "text.txt", "--batch-size", "4", "--window", "8", "--hidden-size", "6", "--embedding-size", "4"]
CHARLM = ["charlm", *TEXT, "--length", "5", "--learning-rate", "0.05", "--steps", "8"]

pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture(scope="module", autouse=True)
def _settings(patch):
    """Two evaluations."""
    patch.setattr(learning, "EVALUATIONS", 2)


def made(name, losses, *, result=None, facts=None, **options):
    """A run as charlm leaves it, without its checkpoints."""
    run = Run.create("charlm", charlm.Options(run_dir=name, **options), facts or {})
    for step, loss in losses.items():
        run.log(step=step, loss=loss + 1, seconds=step / 10)
        run.log(step=step, validation_loss=loss, validation_bits=loss / math.log(2))
    if result is not None:
        whole = {"measure": "nats a character", "figures": {}, "steps": max(losses), "seconds": 1.0, **result}
        (run.folder / "result.json").write_text(json.dumps(whole))
    return run


def table(folder):
    return json.loads((Path(folder) / "table.json").read_text())


def numbers(folder):
    """What a run has recorded, without its speed."""
    lines = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds" and not k.endswith("per_second")} for line in lines]


def validation(folder):
    return {r["step"]: r["validation_loss"] for r in numbers(folder) if "validation_loss" in r}


def refused(capsys, command, status=2):
    capsys.readouterr()
    assert main(command) == status
    return capsys.readouterr().err.strip()


def check_charlm_table(folder, sets):
    """Against the logs themselves: ``sets`` are names with the folders of their runs."""
    [unit] = table(folder)
    assert unit["measure"] == "cross-entropy (nats/character)"
    assert [row["name"] for row in unit["rows"]] == list(sets)
    written = (Path(folder) / "table.md").read_text()
    figure = json.loads((Path(folder) / "curves.json").read_text())["numbers"]
    lines = {line["name"]: line for line in figure["panels"][0]["lines"]}
    for row in unit["rows"]:
        runs = sets[row["name"]]
        assert [Path(run) for run in row["runs"]] == [Path(run) for run in runs]
        curves = [validation(run) for run in runs]
        lowest = [min(curve.values()) for curve in curves]
        assert row["held back"]["each"] == lowest
        assert row["held back"]["median"] == pytest.approx(np.median(lowest))
        assert [row["held back"]["lowest"], row["held back"]["highest"]] == [min(lowest), max(lowest)]
        assert row["updates"] == [max(curve) for curve in curves]
        spread = f" ({min(lowest):.4g} to {max(lowest):.4g})" if len(lowest) > 1 else ""
        [shown] = [line for line in written.splitlines() if line.startswith(f"| {row['name']} ")]
        assert f"| {np.median(lowest):.4g}{spread} " in shown
        line = lines[row["name"]]
        assert line["x"] == sorted(set.intersection(*map(set, curves)))
        assert line["y"] == [[curve[step] for step in line["x"]] for curve in curves]
    assert (Path(folder) / "curves.png").read_bytes()[:4] == b"\x89PNG"
    return unit


@pytest.mark.slow
def test_a_run_for_each_value(capsys):
    assert main([*CHARLM, "--cell", "elman", "gru", "--run-dir", "all"]) == 0
    check_charlm_table("all", {cell: [f"all/cell-{cell}"] for cell in ("elman", "gru")})
    assert Path("all/table.md").read_text() in capsys.readouterr().out
    assert "got that of several runs. Name one of the runs in it." in refused(capsys, ["sample", "all"])


@pytest.mark.slow
def test_a_run_for_each_value_and_seed(capsys):
    """Each is the run of its command alone; parameters are those of the model; what learns nothing is in the table."""
    assert main([*CHARLM, "--cell", "elman", "gru", "--seeds", "3", "5", "--run-dir", "all"]) == 0
    said = capsys.readouterr().out
    sets = {cell: [f"all/cell-{cell}/seed-{seed}" for seed in (3, 5)] for cell in ("elman", "gru")}
    unit = check_charlm_table("all", sets)
    assert Path("all/table.md").read_text() in said
    assert main([*CHARLM, "--cell", "gru", "--seed", "5", "--run-dir", "alone"]) == 0
    for found, expected in zip(numbers("all/cell-gru/seed-5"), numbers("alone"), strict=True):
        assert found == pytest.approx(expected, rel=1e-6)
    run = Run.open("charlm", "alone")
    model = characters.language_model(run.options(charlm.Options), len(run.config["facts"]["vocabulary"]))
    rows = {row["name"]: row for row in unit["rows"]}
    assert rows["gru"]["parameters"] == learning.parameter_count(model.init(jax.random.key(0)))
    assert rows["elman"]["parameters"] < rows["gru"]["parameters"]
    assert unit["floors"] == {"bigrams": run.config["facts"]["bigram_loss"]}


@pytest.mark.slow
def test_a_comparison_goes_on(capsys, monkeypatch):
    """Stopped in its second run, and gone on with: the runs and the table are those of one that was not stopped."""
    log, count = JsonLines.log, iter(range(10**6))

    def log_and_stop(self, step, numbers):
        log(self, step, numbers)
        if next(count) == 6:
            raise KeyboardInterrupt

    command = [*CHARLM, "--cell", "elman", "--optimizer", "adam", "sgd"]
    with monkeypatch.context() as patch:
        patch.setattr(JsonLines, "log", log_and_stop)
        said = refused(capsys, [*command, "--run-dir", "all"], status=130)
    assert said == "Stopped in optimizer-sgd. Go on with: python -m seqjax charlm --resume all"
    assert not Path("all/table.md").exists()
    assert main(["charlm", "--resume", "all"]) == 0
    assert main([*command, "--run-dir", "whole"]) == 0
    for part in ("optimizer-adam", "optimizer-sgd"):
        assert numbers(f"all/{part}") == numbers(f"whole/{part}")
    assert Path("all/table.md").read_text() == Path("whole/table.md").read_text()
    check_charlm_table("all", {name: [f"all/optimizer-{name}"] for name in ("adam", "sgd")})
    assert main(["charlm", "--resume", "all", "--steps", "10"]) == 0
    assert [row["updates"] for row in table("all")[0]["rows"]] == [[10], [10]]
    for more in (["--optimizer", "adam", "lion"], ["--optimizer", "lion"]):
        assert "charlm: expected " in refused(capsys, ["charlm", "--resume", "all", *more])


@pytest.mark.slow
def test_a_run_that_fails_leaves_the_others(capsys):
    said = refused(capsys, [*CHARLM, "--batch-size", "400", "4", "--run-dir", "all"])
    assert said.startswith("batch-size-400: charlm: expected at least 4000 characters of text")
    assert [row["runs"] for row in table("all")[0]["rows"]] == [["all/batch-size-4"]]


def test_any_runs_are_compared_by_their_logs(capsys):
    """Seeds together; an unfinished run as far as it has come; the test; against seconds; drawn again as a PDF."""
    result = {"floors": {"bigrams": 2.25}}
    made("a", {10: 3.0, 20: 1.5, 30: 1.75}, result=result | {"test": {"step": 20, "figures": {"loss": 1.625}}})
    made("b", {10: 2.0, 20: 1.25}, seed=1, result=result | {"test": {"step": 20, "figures": {"loss": 1.375}}})
    made("c", {10: 2.5}, cell="gru")
    assert main(["compare", "a", "c", "b", "--run-dir", "found", "--figures", "svg", "--against", "seconds"]) == 0
    [unit] = table("found")
    lstm, gru = unit["rows"]
    assert (lstm["name"], lstm["runs"], gru["name"], gru["runs"]) == ("lstm", ["a", "b"], "gru", ["c"])
    assert lstm["held back"] == {"each": [1.5, 1.25], "median": 1.375, "lowest": 1.25, "highest": 1.5}
    assert lstm["test"]["median"] == 1.5
    assert gru["test"] is None
    assert unit["floors"] == {"bigrams": 2.25}
    text = Path("found/table.md").read_text()
    assert "| 1.375 (1.25 to 1.5) " in text
    assert "| 20 to 30 " in text
    assert "| 10 so far |" in text
    figure = json.loads(Path("found/curves.json").read_text())["numbers"]
    assert figure["x_label"] == "training (seconds)"
    assert figure["panels"][0]["lines"][0] == {
        "name": "lstm",
        "model": "",
        "x": [1.0, 2.0],
        "y": [[3.0, 1.5], [2.0, 1.25]],
    }
    assert figure["panels"][0]["levels"] == {"bigrams": 2.25}
    assert Path("found/curves.svg").stat().st_size > 5000
    assert pictures(["found/curves.json", "--figures", "pdf"]) == 0
    assert Path("found/curves.pdf").read_bytes()[:4] == b"%PDF"


def test_two_stored_runs_of_other_versions(capsys):
    """What an older run could not choose has its default; what differs is the patience."""
    old, new = str(RUNS / "charlm"), str(RUNS / "charlm-2")
    assert main(["compare", old, new, "--run-dir", "found"]) == 0
    check_charlm_table("found", {"patience 0": [old], "patience 5": [new]})
    [unit] = table("found")
    result = json.loads((RUNS / "charlm" / "result.json").read_text())
    assert unit["floors"] == result["floors"]
    assert [row["held back"]["median"] for row in unit["rows"]] == [result["figures"]["validation_loss"]] * 2
    assert [row["parameters"] for row in unit["rows"]] == [18 * 4 + 4 * 32 + 8 * 32 + 32 + 8 * 18 + 18] * 2


def test_every_stored_run_has_a_measure(capsys):
    """A panel for every unit; the best of a run is that of its own records, or above what its result says."""
    folders = [str(RUNS / name) for name in STORED if name != "charlm-2"]
    assert main(["compare", *folders, "--run-dir", "found"]) == 0
    units = table("found")
    assert {Path(run).name for unit in units for row in unit["rows"] for run in row["runs"]} == {*STORED} - {"charlm-2"}
    models = {(Path(row["runs"][0]).name, row["model"]): row for unit in units for row in unit["rows"]}
    f1 = [json.loads(line).get("f1_both_ways", 0) for line in (RUNS / "tag" / "metrics.jsonl").read_text().splitlines()]
    assert models["tag", "both ways"]["held back"]["median"] == max(f1) > 0
    assert models["classify", ""]["held back"]["median"] == 0.52
    assert models["classify", "feed-forward"]["held back"]["median"] == 0.496
    assert models["forecast", ""]["held back"]["median"] == pytest.approx(1368.3853984576726)
    labels = {unit["measure"]: len(unit["rows"]) for unit in units}
    assert labels["cross-entropy (nats/character)"] == 3  # charlm and both models of ngramlm
    shares = models["classify", ""]["parameters"], models["classify", "feed-forward"]["parameters"]
    assert shares[1] == 2 * 4 + 8 * 4 * 32 + 32 + 32 * 2 + 2
    assert shares[0] != shares[1]
    assert np.prod(Path("found/curves.png").stat().st_size) > 20_000


def test_every_command_that_trains_has_a_measure():
    trained = {name for name, module in COMMANDS.items() if hasattr(importlib.import_module(module).main, "course")}
    assert trained == set(measures.MEASURES)


def test_what_two_commands_share_is_drawn_over_each_other():
    """Bits a character of a model of characters and of one of words."""
    made("characters", {10: 2.0})
    shutil.copytree(RUNS / "wordlm", "words")
    [(label, some)] = tables.by_unit(reading.groups(reading.read("compare", ["characters", "words"]))).items()
    assert label == "bits a character"
    assert [group.name for group, _ in some] == ["charlm", "wordlm"]
    [words] = tables.rows(some[1:])
    assert words["held back"]["median"] == pytest.approx(1.056033856949468)
    assert tables.floors(some) == {}


def test_names_are_what_differs():
    losses = {10: 1.0}
    made("a", losses, cell="gru", hidden_size=8)
    made("b", losses, cell="gru", hidden_size=16)
    made("c", losses, cell="lstm", hidden_size=16)
    name = lambda *folders: [group.name for group in reading.groups(reading.read("compare", folders))]
    assert name("a", "b") == ["hidden size 8", "hidden size 16"]
    assert name("b", "c") == ["gru", "lstm"]
    assert name("a", "c") == ["cell gru, hidden size 8", "cell lstm, hidden size 16"]
    made("d", losses, cell="lstm", hidden_size=16)  # the same seed: a run of its own
    assert name("c", "d") == ["c", "d"]
    made("e", losses, cell="lstm", hidden_size=16, seed=1)
    assert len(name("c", "e")) == 1
    made("f", losses, cell="lstm", hidden_size=16, seed=2, facts={"sha256": "0123456789"})
    assert name("c", "f") == ["no sha256", "sha256 01234567"]  # of another text
    made("g", losses, text="g.txt", facts={"sha256": "0123456789"}, cell="lstm", hidden_size=16)
    assert name("f", "g") == ["no text", "g.txt"]


def test_floors_that_differ_are_told_by_whose_they_are():
    made("a", {10: 1.0}, result={"floors": {"bigrams": 2.0}})
    made("b", {10: 1.0}, cell="gru", result={"floors": {"bigrams": 2.5}})
    [some] = tables.by_unit(reading.groups(reading.read("compare", ["a", "b"]))).values()
    assert tables.floors(some) == {"bigrams, lstm": 2.0, "bigrams, gru": 2.5}


def test_higher_is_better_where_it_is():
    [share] = measures.of("addition", {})
    records = [{"step": 1, "exact": 0.25}, {"step": 2, "exact": 0.125}]
    run = reading.Found(Run(Path("x"), {"recipe": "addition"}), {}, records, {}, {})
    assert run.best(share, "exact") == 0.25


def test_words_are_parted_at_options_that_take_one():
    words = [
        "--cell",
        "gru",
        "lstm",
        "--seeds",
        "1",
        "2",
        "--steps",
        "5",
        "--hidden_size",
        "8",
        "16",
        "--prompt",
        "p",
    ]
    found = several.apart(charlm.Options, words)
    assert len(found) == 4
    assert found[1] == ["--cell", "gru", "--seeds", "1", "2", "--steps", "5", "--hidden_size", "16", "--prompt", "p"]
    for alone in (["--steps", "5", "6"], ["--seed", "1", "2"], ["--text", "a", "b"], ["a", "b"], []):
        assert several.apart(charlm.Options, alone) == [alone]


@pytest.mark.parametrize(
    "name", [name for name in measures.MEASURES if name not in ("agreement", "automaton", "hmm-learn")]
)
def test_every_command_that_trains_takes_several_cells(name):
    options = importlib.import_module(COMMANDS[name]).Options
    which = "--model" if name == "music" else "--cell"
    assert several.apart(options, [which, "gru", "lstm"]) == [[which, "gru"], [which, "lstm"]]


REFUSED = {
    "nothing": (["compare"], "compare: expected the folders of runs, got none. Name them."),
    "no run": (["compare", "nowhere"], "compare: expected nowhere to be the folder of a run, got no config.json"),
    "no training": (["compare", "tagged"], "compare: expected runs of commands that train by updates, got tagged, of"),
    "no evaluation": (["compare", "begun"], "compare: expected runs with at least one evaluation, got none in begun/"),
    "twice": ([*CHARLM, "--cell", "gru", "gru"], "charlm: expected values that differ, got one of them twice."),
    "no text": (
        ["charlm", "--text", "nowhere.txt", "--cell", "gru", "lstm", "--run-dir", "all"],
        "charlm: nowhere.txt",
    ),
    "processes": (
        [*CHARLM, "--cell", "gru", "lstm", "--processes", "2"],
        "charlm: expected --processes 1 where several are compared, got 2.",
    ),
    "one is wrong": (
        [*CHARLM, "--embedding-size", "8", "0"],
        "charlm: expected --embedding-size to be a whole number of at least 1, got 0.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_compared_is_refused_in_words(name, capsys):
    command, said = REFUSED[name]
    if "begun" in command:
        made("begun", {})
    if "tagged" in command:
        assert main(["hmm-tag", "--run-dir", "tagged"]) == 0
    before = sorted(Path().rglob("*"))
    err = refused(capsys, command)
    assert err.startswith(said)
    assert err.count("\n") == 0
    assert sorted(Path().rglob("*")) == before
