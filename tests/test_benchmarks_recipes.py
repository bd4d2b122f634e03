"""The runner of the results table: every protocol can be typed, runs are made once, the table is what they came to."""

import itertools
import json
import math
import sys
import types
from pathlib import Path

import pytest

pytest.importorskip("tyro")

from benchmarks import recipes, record
from seqjax import __main__ as door


@pytest.mark.parametrize("name", recipes.protocols())
def test_every_protocol_is_a_command_that_is_accepted(name, tmp_path, monkeypatch):
    """Parsed and checked by the recipe itself, up to the moment before it starts."""
    protocol = recipes.protocols()[name]
    started = []
    recipe, *arguments = protocol.arguments(tmp_path)
    monkeypatch.setattr(f"seqjax.recipes.{recipe.replace('-', '_')}.main", started.append)
    arguments += ["--seed", "7"] if protocol.seeded else []
    assert door.main([recipe, *arguments, "--run-dir", str(tmp_path / "run")]) == 0
    (options,) = started
    assert options.run_dir == str(tmp_path / "run")
    assert getattr(options, "seed", None) == (7 if protocol.seeded else None)
    assert hasattr(options, "steps") == protocol.trained
    for key in (protocol.show, *(value[1] for value in protocol.beside.values() if not isinstance(value, str))):
        assert key.format(0.5)


@pytest.fixture
def played(monkeypatch):
    """Runs that only leave what a recipe would; the list of their commands."""
    commands = []

    def run(command):
        commands.append(command)
        words = dict(itertools.pairwise(command))
        seed = int(words.get("--seed", 0))
        if seed == 9:
            return types.SimpleNamespace(returncode=2, stderr="a warning\nmemory: expected better, got worse.\n")
        folder = Path(words["--run-dir"])
        folder.mkdir(parents=True)
        result = {"measure": "accuracy", "figures": {"gru": 0.99 + seed / 1000, "gru, T=24": 0.9}, "steps": 1500}
        result |= {"floors": {"chance": 0.5}, "seconds": 60.0}
        if "latch" in command:
            until = None if seed == 1 else 1000 * seed
            result["figures"] = {"sequences until solved": until, "held_back": 1.0}
        (folder / "result.json").write_text(json.dumps(result))
        return types.SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(recipes, "executed", run)
    return commands


def measured(tmp_path, *arguments):
    where = ["--results", str(tmp_path / "rows.jsonl"), "--runs", str(tmp_path / "runs")]
    return recipes.main([*arguments, *where])


def test_runs_are_made_once_and_told(tmp_path, played, capsys):
    assert measured(tmp_path, "halves", "--seeds", "0", "1", "4") == 0
    assert [command[1:4] for command in played] == [["-m", "seqjax", "classify"]] * 3
    assert all(command[0] == sys.executable for command in played)
    rows = record.read(tmp_path / "rows.jsonl")
    assert [(row["protocol"], row["seed"], row["figure"]) for row in rows] == [
        ("halves", 0, 0.99),
        ("halves", 1, 0.991),
        ("halves", 4, 0.994),
    ]
    assert {"versions", "machine", "commit", "wall_s", "command", "floors", "steps"} <= rows[0].keys()
    line = capsys.readouterr().out.splitlines()[-1]
    assert "| `classify` | 99.10% (99.00% to 99.40%) | 3 | chance 50.00%; 20 % longer 90.00% |" in line
    assert "at least 99.00%: reached" in line
    assert measured(tmp_path, "halves", "--seeds", "0", "1", "2", "4") == 0
    assert len(played) == 4  # seed 2 alone was new
    assert "halves, seed 1 (about" in (out := capsys.readouterr().out)
    assert out.count("recorded already") == 3


def test_another_command_is_another_protocol(tmp_path, played, capsys):
    measured(tmp_path, "halves", "--seeds", "0")
    capsys.readouterr()
    measured(tmp_path, "halves", "--table", "--steps", "3")
    assert "classify" not in capsys.readouterr().out
    measured(tmp_path, "halves", "--seeds", "0", "--steps", "3")
    assert played[-1][played[-1].index("--steps") + 1] == "3"
    assert "`classify --steps 3` | 99.00% | 1 |" in capsys.readouterr().out


def test_never_is_worse_than_late(tmp_path, played, capsys):
    measured(tmp_path, "latch", "--seeds", "1", "3", "5")
    line = capsys.readouterr().out.splitlines()[-1]
    assert "| 5,000 (3,000 to never) | 3 |" in line
    assert "at most 100,000: reached" in line
    assert recipes.Protocol(task="", command="", figure="", minutes=1, at_least=0.5).number(None) == -math.inf


def test_a_run_that_fails_is_said_and_not_recorded(tmp_path, played, capsys):
    assert measured(tmp_path, "halves", "--seeds", "9", "0") == 1
    assert "failed with status 2: memory: expected better, got worse." in capsys.readouterr().out
    assert [row["seed"] for row in record.read(tmp_path / "rows.jsonl")] == [0]


def test_files_come_from_the_folder_of_data(tmp_path, played, monkeypatch, capsys):
    monkeypatch.delenv("SEQJAX_DATA", raising=False)
    assert measured(tmp_path, "surnames", "--seeds", "0") == 0
    assert "left out, it needs names in --data FOLDER" in capsys.readouterr().out
    assert played == []
    (tmp_path / "names").mkdir()
    measured(tmp_path, "surnames", "--seeds", "0", "--data", str(tmp_path))
    assert played[0][played[0].index("--data") + 1] == str(tmp_path / "names")
    (row,) = record.read(tmp_path / "rows.jsonl")
    assert str(tmp_path) not in json.dumps(row)


@pytest.mark.slow
def test_one_run_from_the_command_to_the_table(tmp_path, capsys):
    """Nothing replaced: a process of its own, two updates of the smallest network."""
    assert measured(tmp_path, "latch", "--seeds", "3", "--steps", "2") == 0
    (row,) = record.read(tmp_path / "rows.jsonl")
    assert row["figure"] is None
    assert row["steps"] == 2
    assert 0 <= row["figures"]["held_back"] <= 1
    assert "| never | 1 | share right " in capsys.readouterr().out
    assert (tmp_path / "runs" / row["run"] / "loss.png").exists()
