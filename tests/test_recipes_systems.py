"""The recipes of systems made by design: what they print, log and draw, and how they refuse."""

import json
import os
import signal

import jax
import pytest

from seqjax.__main__ import main
from seqjax.recipes.running.trackers import JsonLines

TREEBANK = """\
1\tthe\t_\tDET\t_
2\tdog\t_\tNOUN\t_
3\tbarks\t_\tVERB\t_

1\tthe\t_\tDET\t_
2\tcat\t_\tNOUN\t_
3\tsees\t_\tVERB\t_
4\tthe\t_\tDET\t_
5\tdog\t_\tNOUN\t_
"""


@pytest.fixture(autouse=True)
def _standard():
    """Optax multiplies floats by integers of its own."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def conllu(text):
    """All ten columns."""
    return "\n".join("\t".join([*line.split("\t"), *"_____"]) if line else "" for line in text.split("\n"))


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_hmm_tag_prints_the_textbook_figures(tmp_path, capsys):
    assert main(["hmm-tag", "--run-dir", str(tmp_path / "run")]) == 0
    lines = capsys.readouterr().out.splitlines()
    john = next(line for line in lines if line.startswith("John"))
    assert john.split()[1:] == ["Noun", "0.020", "0.961", "0.020", "0.003", "0.995", "0.003", "0.277", "0.447", "0.277"]
    assert any("ln P(words) = -3.2447" in line for line in lines)
    assert any("John/Noun hit/Verb the/Det ball/Noun" in line for line in lines)
    assert (tmp_path / "run" / "lattice.png").stat().st_size > 5000


@pytest.mark.slow
def test_hmm_tag_learns_from_a_treebank(tmp_path, capsys):
    path = tmp_path / "a.conllu"
    path.write_text(conllu(TREEBANK))
    arguments = ["--train", str(path), "--held-back", str(path), "--sentence", "the dog bites", "--paths", "1"]
    assert main(["hmm-tag", *arguments, "--run-dir", str(tmp_path / "run")]) == 0
    assert "the/DET dog/NOUN bites/VERB" in capsys.readouterr().out
    (record,) = metrics(tmp_path / "run")
    assert record["best_path"] == 1
    assert record["unknown_share"] == 3 / 8


@pytest.mark.slow
def test_automaton_is_compiled_and_read_back(tmp_path, capsys):
    arguments = ["--pattern", "(a|b)*a", "--steps", "150", "--learning-rate", "0.03", "--batch-size", "16"]
    assert main(["automaton", *arguments, "--run-dir", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert "a minimal automaton of 2 states" in out
    assert "compiled: 5 threshold units, 0 wrong answers" in out
    assert "the same language" in out
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["figures"]["compiled"] == result["figures"]["read out of it"] == 1
    assert result["figures"]["GRU"] > 0.99 > result["floors"]["the commoner answer"]
    assert (tmp_path / "run" / "automaton.png").stat().st_size > 5000


@pytest.mark.slow
def test_automaton_goes_on_from_its_checkpoint(tmp_path, monkeypatch, capsys):
    """Stopped in its 21st update; the states at the end are the same to the bit, and so is what comes out."""
    log = JsonLines.log

    def log_and_stop(self, step, numbers):
        log(self, step, numbers)
        if step == 20 and "loss" in numbers:
            os.kill(os.getpid(), signal.SIGINT)

    command = ["automaton", "--pattern", "(a|b)*a", "--steps", "40", "--batch-size", "8", "--run-dir"]
    assert main([*command, str(tmp_path / "whole")]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(JsonLines, "log", log_and_stop)
        assert main([*command, str(tmp_path / "run")]) == 130
    assert "the checkpoint of step 21 of 40 is kept" in capsys.readouterr().err
    assert main(["automaton", "--resume", str(tmp_path / "run")]) == 0
    entries = [
        json.loads((tmp_path / name / "checkpoints" / "40" / "entry.json").read_text()) for name in ("whole", "run")
    ]
    assert entries[0]["value"] == entries[1]["value"]
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "run")]
    assert results[0]["figures"] == results[1]["figures"]
    last = [[r["loss"] for r in metrics(tmp_path / name) if "loss" in r][-1] for name in ("whole", "run")]
    assert last[0] == last[1]


@pytest.mark.slow
def test_reservoir_runs_freely(tmp_path, capsys):
    arguments = ["--units", "80", "--connections", "8", "--train", "600", "--free", "50", "--reservoirs", "2"]
    assert main(["reservoir", *arguments, "--run-dir", str(tmp_path / "run")]) == 0
    assert "median" in capsys.readouterr().out
    records = metrics(tmp_path / "run")
    assert len(records) == 2
    assert max(record["error"] for record in records) < 0.02  # the variance is .05
    assert (tmp_path / "run" / "free_run.png").stat().st_size > 5000


BAD = {
    "empty sentence": (["hmm-tag", "--sentence", " "], "hmm-tag: expected --sentence to hold at least one word"),
    "no model": (["hmm-tag", "--held-back", "x"], "hmm-tag: expected --train with --held-back, got none"),
    "no file": (["hmm-tag", "--train", "nowhere"], "hmm-tag: nowhere: expected a file, got none"),
    "no word twice": (
        ["hmm-tag", "--train", "one.conllu"],
        "hmm-tag: learn: expected a word or an ending that comes twice, got none. Give more sentences.",
    ),
    "pattern": (["automaton", "--pattern", "(a"], "automaton: regex: expected ')' at position 2 of '(a', got the end"),
    "sizes": (["automaton", "--steps", "0"], "automaton: expected --steps to be a whole number of at least 1"),
    "leak": (["reservoir", "--leak", "2"], "reservoir: echo_state: expected a leak above 0 and up to 1, got 2.0"),
    "short": (["reservoir", "--series", "short.txt"], "reservoir: expected a series of at least 2501 values"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(case, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short.txt").write_text("1.0\n2.0\n")
    (tmp_path / "one.conllu").write_text(conllu("1\tdog\t_\tNOUN\t_\n"))
    arguments, message = BAD[case]
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()
