"""A stored run of every recipe that trains, which later versions read and go on with.

Each was made in tests/runs by its plain command with 8 units, 3 steps and ``--run-dir RECIPE``; pictures are left out.
The files stay as they are: what renames a parameter or an option still reads the old name.
"""

import json
import shutil
from pathlib import Path

import jax
import pytest
from marks import quick

from seqjax.__main__ import main
from seqjax.recipes import execute, forecast, memory, music
from seqjax.recipes.classify import sequences
from seqjax.recipes.running import learning
from seqjax.recipes.running.run import Run

RUNS = Path(__file__).with_name("runs")
# The mean loss of updates 4 and 5: the fourth is that of the parameters read, the fifth depends on Adam's moments.
LOSSES = {
    "addition": 2.53388,
    "agreement": 3.60221,
    "caption": 2.5614,
    "charlm": 2.91187,
    "classify": 0.925523,
    "execute": 3.84333,
    "forecast": 12.601,
    "memory": 0.920113,
    "music": 10.7855,
    "ngramlm": 2.93136,
    "speech": 5.84269,
    "tag": 1.95106,
    "translate": 3.46225,
    "wordlm": 2.53159,
}


@pytest.fixture(scope="module", autouse=True)
def _settings(patch):
    """The runs are of float32; one evaluation, of few examples where a run does not know their number again."""
    for recipe in (learning, memory, music):
        patch.setattr(recipe, "EVALUATIONS", 1)
    patch.setattr(sequences, "HELD_BACK", 40)
    patch.setattr(execute, "HELD_BACK", 10)
    patch.setattr(execute, "EACH", 10)
    patch.setattr(forecast, "STARTS", 3)
    patch.setattr(memory, "HELD_BACK", 5)
    jax.config.update("jax_enable_x64", False)
    yield
    jax.config.update("jax_enable_x64", True)


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A copy of the runs and their data, which is the working directory."""
    shutil.copytree(RUNS, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_run_is_read():
    assert {path.parent.name for path in RUNS.glob("*/config.json")} == set(LOSSES)


@pytest.mark.parametrize("name", quick(LOSSES, "charlm", "forecast"))
def test_a_run_goes_on(name, runs):
    before = Run.open(name, name).metrics()
    assert main([name, "--resume", name, "--steps", "5"]) == 0
    run = Run.open(name, name)
    records = run.metrics()
    assert records[: len(before)] == before  # seconds among them: no step was made again
    assert run.last_step() == 5
    [last] = [record for record in records if record["step"] > 3 and "loss" in record]
    assert last["step"] == 5
    assert last["loss"] == pytest.approx(LOSSES[name], rel=1e-4)


def test_a_run_writes_and_scores(runs, capsys):
    assert main(["sample", "charlm", "--prompt", "The ", "--length", "12"]) == 0
    written = capsys.readouterr().out
    assert written.startswith("The ")
    assert len(written) == len("The ") + 12 + 1
    text = (runs / "text.txt").read_text()
    (runs / "held_back.txt").write_text(text[int(0.9 * len(text)) :])
    assert main(["score", "charlm", "--text", "held_back.txt"]) == 0
    loss = json.loads((runs / "charlm" / "metrics.jsonl").read_text().splitlines()[-1])["validation_loss"]
    assert f"{loss:.4f} nats a character" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_of_characters_stands_beside_one_of_words(runs, capsys):
    assert main(["wordlm", "--resume", "wordlm", "--characters", "charlm"]) == 0
    assert "a character" in capsys.readouterr().out
