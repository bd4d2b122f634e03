"""The command that runs the laboratory: its list, every experiment, its files, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
from marks import quick

from seqjax.__main__ import main
from seqjax.gradients import figures
from seqjax.recipes.gradients import EXPERIMENTS
from seqjax.recipes.pictures.__main__ import main as draw_again

STEPS = {"latch", "remedies", "capacity", "gates", "tagger", "shapes"}
FIGURES = {"chain": 3, "maps": 3, "flow": 2, "latch": 2, "gates": 3}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("words", [[], ["list"]])
def test_without_a_word_experiments_are_listed(words, capsys):
    assert main(["gradients", *words]) == 0
    said = capsys.readouterr().out
    for name, module in EXPERIMENTS.items():
        assert f"{name} " in said
        assert module.Options.__doc__ in said
    assert not Path("runs").exists()


@pytest.mark.parametrize("name", quick(EXPERIMENTS, "bounded", "unrolled"))
def test_an_experiment_leaves_a_report_and_figures_with_their_numbers(name, patch, capsys):
    more = ["--steps", "3"] if name in STEPS else []
    assert main(["gradients", name, "--small", *more, "--run-dir", "run", "--figures", "svg"]) == 0
    said = capsys.readouterr().out
    report, figures = Path("run/report.md").read_text("utf-8"), sorted(Path("run").glob("*.svg"))
    assert len(figures) == FIGURES.get(name, 1)
    assert report.count("|") > 10
    assert "nan" not in report
    for paragraph in report.split("\n\n")[0].splitlines():
        assert paragraph in said
    assert json.loads(Path("run/config.json").read_text())["facts"] == {"experiment": name}
    for figure in figures:
        assert f"({figure.name})" in report
        before = figure.read_bytes()
        figure.unlink()
        assert draw_again([str(figure.with_suffix(".json")), "--figures", "svg"]) == 0
        assert figure.read_bytes() == before


ODD = {
    "one tick": (["chain", "--length", "1", "--size", "1", "--draws", "1"], "| orthogonal     | 1.000 "),
    "no float is so small": (["depth", "--scale", "30", "--layers", "400"], "| plain    | 10^"),
    "one gain": (
        ["bounded", "--gains", "1.5", "--size", "4", "--length", "1"],
        "The state is bounded with every gain;",
    ),
    "the larger first": (
        ["capacity", "--parameters", "80", "40", "--steps", "2", "--repeats", "1", "--learning-rate", "1e-9"],
        "updates on all of them, 1 network. Most",
    ),
    "one seed": (
        ["remedies", "--steps", "20", "--length", "3", "--hidden-size", "2", "--seeds", "3"],
        "20 updates of 20 sequences, 1 seed; a blind",
    ),
}


@pytest.mark.parametrize("case", quick(ODD, "one tick", "no float is so small"))
def test_odd_sizes_are_told_and_drawn(case, capsys):
    words, said = ODD[case]
    assert main(["gradients", *words, "--run-dir", "run"]) == 0
    report = Path("run/report.md").read_text("utf-8")
    assert said in report
    assert "nan" not in report


def test_there_is_no_layer_between_two():
    drawn = figures.depth({name: np.zeros((3, 2)) for name in ("plain", "residual")})
    for panel in drawn.axes:
        assert list(panel.get_xticks()) == [1, 2, 3]


def test_no_curve_of_the_remedies_ends_outside():
    """One that has learned nothing is above a blind answer."""
    losses = {name: [[5.0, at, at]] for name, at in (("plain", 0.2), ("one", 0.01), ("other", 3.0))}
    drawn = figures.remedy_curves([1, 2, 3], losses, {name: [at[0][-1]] for name, at in losses.items()}, 0.1667)
    low, high = drawn.axes[0].get_ylim()
    assert low < 0.01
    assert 3.0 < high < 5.0


def test_the_page_has_every_experiment():
    docs = Path(__file__).parent.parent / "docs"
    page = (docs / "laboratory.md").read_text("utf-8")
    assert [line.split("`")[1] for line in page.splitlines() if line.startswith("| `gradients ")] == [
        f"gradients {name}" for name in EXPERIMENTS
    ]
    assert "(docs/laboratory.md)" in (docs.parent / "README.md").read_text("utf-8")


REFUSED = {
    "seed": (["chain", "--seed", "-1"], "gradients: expected --seed from 0"),
    "rate": (["maps", "--rate", "4.5"], "gradients: expected --rate above 0 and at most 4, got 4.5"),
    "gains": (["bounded", "--gains", "0"], "gradients: expected one to four --gains above 0"),
    "ticks": (["unrolled", "--ticks", "9"], "gradients: expected --ticks from 2 to 6"),
    "lengths": (["latch", "--lengths", "1"], "gradients: expected --lengths of at least 2"),
    "lengths twice": (["latch", "--lengths", "5", "5"], "gradients: expected --lengths of at least 2 that differ, got"),
    "steps": (["latch", "--steps", "0"], "gradients: expected --steps to be a whole number of at least 1"),
    "seeds": (["remedies", "--seeds", "1", "1"], "gradients: expected --seeds that differ"),
    "clip": (["cliff", "--clip", "0"], "gradients: expected --clip above 0"),
    "examples": (["clipping", "--examples", "100"], "gradients: expected --examples that 64 divides"),
    "parameters": (["capacity", "--parameters", "3"], "gradients: expected --parameters of at least 40"),
    "within": (["tagger", "--within", "0"], "gradients: expected --within above 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_tried_is_refused(case, capsys):
    words, said = REFUSED[case]
    assert main(["gradients", *words]) == 2
    assert capsys.readouterr().err.startswith(said)
    assert not Path("runs").exists()
