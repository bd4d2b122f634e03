"""A stored run of every recipe that trains, which later versions read and go on with, and one of every later format.

Each was made in tests/runs by its plain command with 8 units, 3 steps and ``--run-dir RECIPE``; pictures are left out.
Behind the name of a recipe stands the format where there are two; charlm-2 had ``--patience 5 --devices 2``.
The files stay as they are: what renames a parameter or an option still reads the old name.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from marks import quick

from seqjax.__main__ import main
from seqjax.recipes import charlm, execute, forecast, memory, music, tag
from seqjax.recipes.classify import sequences
from seqjax.recipes.language import characters
from seqjax.recipes.running import checkpoints, config, learning
from seqjax.recipes.running.run import Run

RUNS = Path(__file__).with_name("runs")
# The mean loss of updates 4 and 5: the fourth is that of the parameters read, the fifth depends on Adam's moments. Of
# hmm-learn, which records every step, that of the fifth.
LOSSES = {
    "addition": 2.53388,
    "agreement": 3.60221,
    "caption": 2.5614,
    "charlm": 2.91187,
    "charlm-2": 2.91187,
    "classify": 0.925523,
    "execute": 3.84333,
    "forecast": 12.601,
    "hmm-learn": 2.09484,
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
    formats = {json.loads(path.read_text()).get("format", 1) for path in RUNS.glob("*/config.json")}
    assert formats == set(range(1, config.FORMAT + 1))


@pytest.mark.parametrize(
    ("recipe", "option", "today", "before"),
    [(music, "together", None, 0), (forecast, "line", 32, 0), (tag, "homographs", True, False)],
)
def test_what_is_done_by_default_today_is_not_done_to_older_runs(recipe, option, today, before):
    name = recipe.__name__.rpartition(".")[-1]
    assert getattr(recipe.Options(), option) == today
    stored = Run.open(name, RUNS / name)
    assert option not in stored.config["options"]
    assert getattr(stored.options(recipe.Options), option) == before


@pytest.mark.parametrize("name", quick(LOSSES, "charlm", "forecast"))
def test_a_run_goes_on(name, runs):
    recipe = name.removesuffix("-2")
    before = Run.open(recipe, name).metrics()
    assert main([recipe, "--resume", name, "--steps", "5"]) == 0
    run = Run.open(recipe, name)
    records = run.metrics()
    assert records[: len(before)] == before  # seconds among them: no step was made again
    assert run.last_step() == 5
    *_, last = [record for record in records if "loss" in record]
    assert last["step"] == 5
    assert last["loss"] == pytest.approx(LOSSES[name], rel=1e-4)


@pytest.mark.parametrize("name", ["charlm", "charlm-2"])
@pytest.mark.parametrize("available", quick([1, 2], 1))
def test_a_run_writes_and_scores(name, available, runs, capsys, monkeypatch):
    """On as many devices as it was made on, and on fewer."""
    monkeypatch.setattr(jax, "device_count", lambda: available)
    assert main(["sample", name, "--prompt", "The ", "--length", "12"]) == 0
    written = capsys.readouterr().out
    assert written.startswith("The ")
    assert len(written) == len("The ") + 12 + 1
    assert main(["sample", name, "--prompt", "The ", "--length", "12", "--top-k", "1"]) == 0
    sharp = capsys.readouterr().out
    assert main(["sample", name, "--prompt", "The ", "--length", "12", "--temperature", "0"]) == 0
    assert capsys.readouterr().out == sharp
    text = (runs / "text.txt").read_text()
    (runs / "held_back.txt").write_text(text[int(0.9 * len(text)) :])
    assert main(["score", name, "--text", "held_back.txt"]) == 0
    loss = json.loads((runs / name / "metrics.jsonl").read_text().splitlines()[-1])["validation_loss"]
    assert f"{loss:.4f} nats a character" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "keeps"), [("charlm", False), pytest.param("charlm-2", True, marks=pytest.mark.slow)])
def test_a_run_whose_entry_is_lost_is_not_begun_anew(name, keeps, runs, capsys):
    """That of format 1 has one checkpoint only; that of format 2 falls back."""
    (runs / name / "checkpoints" / ("3/entry.json" if keeps else "3.json")).unlink()
    before = {path: path.read_bytes() for path in (runs / name).rglob("*") if path.is_file()}
    assert main(["charlm", "--resume", name, "--steps", "5"]) == (0 if keeps else 2)
    err = capsys.readouterr().err
    if keeps:
        assert "put aside as 3.damaged, and the run goes on from step 2." in err
    else:
        assert "got one without its 3.json. Put back its files." in err
        assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("there", ["checkpoints", "result.json"])
def test_a_run_of_format_1_that_has_lost_its_checkpoints_is_not_begun_anew(runs, capsys, there):
    """What says that it had one: later records, or what it came to."""
    run = runs / "charlm"
    shutil.rmtree(run / "checkpoints")
    if there == "checkpoints":
        (run / "result.json").unlink()
    lines = (run / "metrics.jsonl").read_bytes()
    assert main(["charlm", "--resume", "charlm", "--steps", "5"]) == 2
    assert "expected checkpoints in charlm/checkpoints, got none." in capsys.readouterr().err
    assert (run / "metrics.jsonl").read_bytes() == lines


@pytest.mark.slow
def test_the_best_parameters_of_a_run_of_format_1_are_read_and_outlived(runs):
    """It kept them by themselves in ``best``; once an evaluation is lower, they are in a checkpoint."""
    import orbax.checkpoint as ocp

    made = Run.open("charlm", "charlm")
    options = made.options(charlm.Options)
    start = characters.initial(characters.language_model(options, 18), options)
    best = jax.tree.map(lambda leaf: 2 * leaf, made.restore(start)[1].train.params)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(runs / "charlm" / "best" / "2", best)
    entry = {"digest": checkpoints._digest(runs / "charlm" / "best" / "2", None), "arrays": checkpoints._arrays(best)}
    (runs / "charlm" / "best" / "2.json").write_text(json.dumps(entry))
    written = json.loads((runs / "charlm" / "config.json").read_text())
    written["options"]["patience"] = 5
    (runs / "charlm" / "config.json").write_text(json.dumps(written))
    _, params, _ = characters.trained("sample", "charlm")
    for one, other in zip(jax.tree.leaves(params), jax.tree.leaves(best), strict=True):
        np.testing.assert_array_equal(one, other)
    assert main(["charlm", "--resume", "charlm", "--steps", "5"]) == 0  # falls at once
    _, params, _ = characters.trained("sample", "charlm")
    last = Run.open("charlm", "charlm").restore(start)[1].train.params
    for one, other in zip(jax.tree.leaves(params), jax.tree.leaves(last), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_a_run_of_two_devices_goes_on_with_one_and_back(runs):
    """Every start by itself, on as many cores as there are devices to be."""
    code = (
        "import os, sys; os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:int(sys.argv[1])]); "
        "from seqjax.__main__ import main; sys.exit(main(sys.argv[2:]))"
    )

    def start(cores, *command):
        return subprocess.run(
            [sys.executable, "-c", code, str(cores), *command], capture_output=True, text=True, check=True
        )

    said = start(1, "charlm", "--resume", "charlm-2", "--steps", "5").stderr
    assert "charlm-2: made on 2 devices, of which there are not so many here" in said
    assert start(1, "sample", "charlm-2", "--prompt", "The ").stdout.startswith("The ")
    if len(os.sched_getaffinity(0)) > 1:
        start(2, "charlm", "--resume", "charlm-2", "--steps", "6", "--devices", "2")
        assert start(2, "sample", "charlm-2", "--prompt", "The ").stdout.startswith("The ")
    start(1, "score", "charlm-2", "--text", "text.txt")
    losses = {r["step"]: r["validation_loss"] for r in Run.open("charlm", "charlm-2").metrics() if len(r) == 3}
    assert list(losses) == [1, 2, 3, 4, 5, 6][: len(losses)]
    assert losses[5] == pytest.approx(2.9204, abs=0.003)  # on two devices; every device draws dropout of its own


@pytest.mark.slow
def test_a_run_of_characters_stands_beside_one_of_words(runs, capsys):
    assert main(["wordlm", "--resume", "wordlm", "--characters", "charlm"]) == 0
    assert "a character" in capsys.readouterr().out
