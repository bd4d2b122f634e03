"""What people give to the commands and how they see the answers: odd lines, unknown words, figures, consoles."""

import io
import itertools
import json
import os
import subprocess
import sys

import mido
import numpy as np
import pytest

from seqjax.__main__ import main
from seqjax.recipes import automaton, charlm, forecast
from seqjax.recipes.language import words
from seqjax.recipes.pictures import piano_roll, tables
from seqjax.recipes.running import learning
from seqjax.recipes.running.options import BadInput
from seqjax.recipes.running.run import Run, alike


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\f", "\v", "\x1c"])
@pytest.mark.parametrize("at", ["marks", "blanks"])
def test_a_sentence_ends_where_a_line_ends_and_nowhere_else(tmp_path, separator, at):
    path = tmp_path / "text.txt"
    path.write_text(f"one{separator}two three\n" * 30, "utf-8")
    read = words.read("wordlm", str(path), at=at, lower=False)
    assert [*read.train(), *read.held_back] == [["one", "two", "three"]] * 30


# Figures that are none


def run(folder, *words):
    """The status of a command in a run folder of its own."""
    return main([*words, "--run-dir", str(folder / "run")])


def written(folder, name, values):
    path = folder / name
    path.write_text("".join(f"{value!r}\n" for value in values), "utf-8")
    return str(path)


SMALL_FORECAST = ["--steps=2", "--batch-size=2", "--hidden-size=3", "--window=8", "--warm-up=8", "--horizon=4"]


@pytest.mark.parametrize("place", [0, 130, 190])  # learned from, and forecast
@pytest.mark.parametrize("size", [1e308, -1e308, 1e30])
def test_a_value_that_dwarfs_all_others_is_told(tmp_path, capsys, place, size):
    values = np.sin(np.arange(200.0)).tolist()
    values[place] = size
    assert run(tmp_path, "forecast", "--data", written(tmp_path, "series.txt", values), *SMALL_FORECAST) == 2
    assert f"got {size:.4g} as value {place + 1} beside " in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("unit", [1e-300, 1e-3, 1e300])
def test_errors_of_a_forecast_do_not_depend_on_the_unit(unit):
    values = np.random.default_rng(0).normal(size=(50, 2))
    expected = (values - values[:40].mean(0)) / values[:40].std(0)
    np.testing.assert_allclose(forecast.scaled(unit * values, 40), expected, rtol=1e-5, atol=1e-6)


def test_a_forecast_that_runs_away_has_no_figure():
    differences = np.ones((3, 2, 1)) * np.array([2.0, 1e7, np.nan])[:, None, None]
    errors = forecast.rms(differences)
    assert [forecast.figure(error) for error in errors] == [2.0, None, None]
    assert [forecast.told(error) for error in errors] == ["2.00e+00", "ran away", "ran away"]


@pytest.mark.slow
def test_a_free_run_that_explodes_is_told(tmp_path, capsys):
    """x' = 1.1 x, as far as the reservoir has seen; the series itself stops growing."""
    path = written(tmp_path, "series.txt", [1e-3 * 1.1 ** min(t, 200) + 0.1 * (t > 200) * (t % 2) for t in range(400)])
    words = f"--series {path} --input-scale 1e-7 --leak 1 --radius 0.1 --units 3 --train 200 --free 199 --reservoirs 2"
    assert run(tmp_path, "reservoir", *words.split()) == 0
    out = capsys.readouterr().out
    assert "2 of 2 free runs exploded" in out
    assert "exploded over 199 free steps (at step 73)" in out  # 1.1^73 > 1,000
    figures = json.loads((tmp_path / "run" / "result.json").read_text("utf-8"))["figures"]
    assert figures == {"median": None, "worst": None}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.0, 1e30] * 50, "got up to 1e+30 and a change of 1e+30"),
        ([1e12, 1e12 + 1] * 50, "got up to 1e+12 and a change of 1"),
    ],
)
def test_a_series_that_a_reservoir_cannot_see_is_told(tmp_path, capsys, values, message):
    path = written(tmp_path, "series.txt", values)
    words = ["--series", path, "--train", "60", "--washout", "10", "--free", "20"]
    assert run(tmp_path, "reservoir", *words) == 2
    assert message in capsys.readouterr().err


def test_a_second_column_is_not_passed_over(tmp_path, capsys):
    (tmp_path / "two.txt").write_text("1 2\n" * 200, "utf-8")
    assert run(tmp_path, "reservoir", "--series", str(tmp_path / "two.txt")) == 2
    assert "expected one number a line" in capsys.readouterr().err


def test_rests_at_the_end_are_kept_in_a_midi_file(tmp_path):
    roll = np.zeros((7, 88))
    roll[1:3, 40] = 1
    piano_roll.write_midi(tmp_path / "a.mid", roll)
    file = mido.MidiFile(tmp_path / "a.mid")
    assert sum(message.time for message in file.tracks[0]) == 7 * file.ticks_per_beat
    notes = [(m.type, m.time) for m in file.tracks[0] if not m.is_meta]
    assert notes == [("note_on", file.ticks_per_beat), ("note_off", 2 * file.ticks_per_beat)]


# Words that a model does not know


@pytest.mark.slow
def test_unknown_words_are_told_beside_what_is_ranked(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(learning, "EVALUATIONS", 1)
    path = tmp_path / "text.txt"
    path.write_text("the old cat ran .\nthe small dog ate .\n" * 30, "utf-8")
    words = ["--steps", "1", "--batch-size", "2", "--window", "4", "--hidden-size", "4", "--embedding-size", "4"]
    words += ["--rank", "a pear ran", "the xyzzy ate", "the cat ran", "--prompt", "the pear", "the cat"]
    assert run(tmp_path, "wordlm", "--text", str(path), *words) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if "unknown" in line]
    assert [line.split("  (")[1] for line in told if "pear" in line and "…" not in line] == [
        "unknown, read as <unk>: a, pear)"
    ]
    assert any("the xyzzy ate  (unknown, read as <unk>: xyzzy)" in line for line in told)
    assert any(line.startswith("  the pear …") and line.endswith("(unknown, read as <unk>: pear)") for line in told)
    assert not any("the cat" in line for line in told)
    kept = json.loads((tmp_path / "run" / "config.json").read_text("utf-8"))["facts"]["vocabularies"]["words"]
    assert kept == ["<unk>", "<eos>", ".", "the", "ate", "cat", "dog", "old", "ran", "small"]


@pytest.mark.slow
def test_unknown_words_are_told_by_the_tagger(tmp_path, capsys):
    rows = [["the", "DET"], ["dog", "NOUN"], ["runs", "VERB"]]
    rows += [[word, "NOUN"] for word in ("thing", "ring")] + [["the", "DET"], ["dog", "NOUN"], ["runs", "VERB"]]
    lines = [f"{i}\t{word}\t_\t{tag}\t_\t_\t_\t_\t_\t_" for i, (word, tag) in enumerate(rows, 1)]
    (tmp_path / "a.conllu").write_text("\n".join(lines) + "\n\n", "utf-8")
    words = ["--train", str(tmp_path / "a.conllu"), "--held-back", str(tmp_path / "a.conllu")]
    assert run(tmp_path, "hmm-tag", *words, "--sentence", "the king Xyzzy dog") == 0
    out = capsys.readouterr().out
    assert "'king' is unknown: read as <word …ing>" in out
    assert "'Xyzzy' is unknown: no word of its ending is known either, its neighbours decide" in out
    assert "'dog' is unknown" not in out


def test_no_unknown_word_has_no_share_of_right_tags(tmp_path, capsys):
    rows = [f"{i}\t{word}\t_\tNOUN\t_\t_\t_\t_\t_\t_" for i, word in enumerate(["dog", "dog", "dog"], 1)]
    (tmp_path / "a.conllu").write_text("\n".join(rows) + "\n\n", "utf-8")
    words = ["--train", str(tmp_path / "a.conllu"), "--held-back", str(tmp_path / "a.conllu"), "--sentence", "dog"]
    assert run(tmp_path, "hmm-tag", *words) == 0
    assert "no word is unknown" in capsys.readouterr().out
    assert "unknown" not in json.loads((tmp_path / "run" / "result.json").read_text("utf-8"))["figures"]


# Runs know their own data again


def test_facts_are_alike_up_to_rounding():
    saved = {"loss": 2.337, "floor": {"f1": 0.0}, "tags": ["a", "b"], "sha256": None}
    near = {"loss": np.float64(2.337 * (1 + 1e-15)), "floor": {"f1": 1e-16}, "tags": ("a", "b"), "sha256": None}
    assert alike(near, saved)
    for name, other in (("loss", 2.338), ("floor", {"f1": 0.1}), ("floor", {}), ("tags", ["a"]), ("sha256", "x")):
        assert not alike(near | {name: other}, saved)
    assert not alike(None, saved)


@pytest.mark.slow
def test_a_run_of_another_processor_goes_on(tmp_path, capsys, monkeypatch):
    path = tmp_path / "text.txt"
    path.write_text("the cat sat on the mat. " * 40, "utf-8")
    words = ["--text", str(path), "--steps=1", "--batch-size=2", "--window=8", "--hidden-size=4", "--length=3"]
    assert run(tmp_path, "charlm", *words) == 0
    there = charlm.ngram_nats
    monkeypatch.setattr(charlm, "ngram_nats", lambda *given: [0.0, float(np.nextafter(there(*given)[1], 9))])
    assert main(["charlm", "--resume", str(tmp_path / "run"), "--steps", "2"]) == 0
    monkeypatch.setattr(charlm, "ngram_nats", lambda *given: [0.0, there(*given)[1] + 0.01])
    assert main(["charlm", "--resume", str(tmp_path / "run"), "--steps", "2"]) == 2
    assert "got other data (its bigram_loss differs)" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_goes_on_with_other_devices(tmp_path, capsys):
    """Two updates on one device, then on two: the losses are those of four on one."""
    path = tmp_path / "text.txt"
    path.write_text("the cat sat on the mat. " * 40, "utf-8")
    words = ["--text", str(path), "--batch-size=2", "--window=8", "--hidden-size=4", "--length=3", "--devices=1"]
    assert run(tmp_path / "one", "charlm", *words, "--schedule=constant", "--steps=4") == 0
    assert run(tmp_path / "two", "charlm", *words, "--schedule=constant", "--steps=2") == 0
    assert main(["charlm", "--resume", str(tmp_path / "two" / "run"), "--steps=4", "--devices=2"]) == 0
    one, two = (Run.open("charlm", tmp_path / name / "run") for name in ("one", "two"))
    assert (one.config["options"]["devices"], two.config["options"]["devices"]) == (1, 2)
    losses = [[record["loss"] for record in made.metrics() if "loss" in record] for made in (one, two)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    assert main(["charlm", "--resume", str(tmp_path / "two" / "run"), "--steps=5", "--devices=3"]) == 2
    assert "expected --devices to divide the batch size 2" in capsys.readouterr().err


# All strings of an automaton


@pytest.mark.parametrize(("symbols", "length", "batch"), [(2, 3, 3), (3, 2, 100), (1, 4, 2), (62, 2, 1000)])
def test_all_strings_come_once_and_in_order(symbols, length, batch):
    parts = list(automaton.all_strings(symbols, length, batch))
    assert max(part.shape[1] for part in parts) <= batch
    strings = [tuple(column) for column in np.concatenate(parts, 1).T.tolist()]
    assert strings == list(itertools.product(range(symbols), repeat=length))


def test_the_strings_tried_are_bounded_before_they_are_made():
    assert automaton.longest_tried(2, 11) == 12
    assert automaton.longest_tried(62, 62 * 5 + 1) == 3
    assert automaton.longest_tried(2, 8001) < 12  # 8,001² products a letter
    with pytest.raises(BadInput, match=r"expected at most 102 letters, got 103"):
        automaton.longest_tried(103, 207)
    with pytest.raises(BadInput, match=r"states times letters are below 8,192, so .* 268 MB .* got 8,192"):
        automaton.longest_tried(2, 8193)


@pytest.mark.slow
def test_an_automaton_of_many_letters_is_tried_in_batches(tmp_path, capsys, monkeypatch):
    """Four states, nine letters: a letter of a string takes 9 + 2 (4 · 9 + 1) numbers."""
    for name, value in {"LONGEST": 4, "LONG": 40, "HELD": 4 * 83 * 1000}.items():
        monkeypatch.setattr(automaton, name, value)
    sizes, decide = [], automaton.decisions

    def seen(cell, params, strings, symbols):
        sizes.append(strings.size)
        return decide(cell, params, strings, symbols)

    monkeypatch.setattr(automaton, "decisions", seen)
    words = ["--pattern", "(a|b)*ab", "--alphabet", "abcdefg$_", "--steps=2", "--batch-size=2"]
    assert run(tmp_path, "automaton", *words) == 0
    assert "trying all 6,561 strings of 4 letters, 1,000 at a time: about 1 MB" in capsys.readouterr().out
    assert sizes[:-2] == [4000] * 6 + [4 * 561, 40 * 100]
    facts = json.loads((tmp_path / "run" / "config.json").read_text("utf-8"))["facts"]
    assert facts["vocabularies"] == {"letters": "abcdefg$_"}


# Consoles


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_console_without_the_letters_loses_no_run(tmp_path, monkeypatch, encoding):
    """The text that is written at the end, before the result, and the sign × in what is told."""
    path = tmp_path / "text.txt"
    path.write_text("Σ हिन्दी 日本 é " * 60, "utf-8")
    console = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", console)
    words = ["--text", str(path), "--steps=1", "--batch-size=2", "--window=8", "--hidden-size=4", "--length=40"]
    assert run(tmp_path, "charlm", *words, "--prompt", "日本") == 0
    console.flush()
    told = console.buffer.getvalue().decode(encoding)
    assert ("日本" if encoding == "utf-8" else r"\u65e5\u672c") in told
    folder = tmp_path / "run"
    assert json.loads((folder / "result.json").read_text("utf-8"))["steps"] == 1
    assert "日" in json.loads((folder / "config.json").read_text("utf-8"))["facts"]["vocabulary"]
    assert main(["sample", str(folder), "--prompt", "日本", "--length", "3"]) == 0


@pytest.mark.slow
def test_a_process_with_an_ascii_console_and_locale(tmp_path):
    """Neither what is printed nor what is written depends on them: a text of the person's own, learned and told."""
    (tmp_path / "text.txt").write_text("Σ हिन्दी 日本 é .\nने 日本 हिन्दी Σ .\n" * 30, "utf-8")
    settings = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    settings |= {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    words = (
        "wordlm --text text.txt --steps 1 --batch-size 2 --window 4 --hidden-size 4 --embedding-size 4 --run-dir run"
    )
    command = [sys.executable, "-m", "seqjax", *words.split()]
    path = os.pathsep.join(map(os.path.abspath, ["", *sys.path]))
    done = subprocess.run(command, capture_output=True, env=os.environ | settings | {"PYTHONPATH": path}, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert rb"\u65e5\u672c" in done.stdout
    assert json.loads((tmp_path / "run" / "result.json").read_text("utf-8"))["steps"] == 1
    assert "日本" in (tmp_path / "run" / "text.txt").read_text("utf-8")
    assert (
        "हिन्दी" in json.loads((tmp_path / "run" / "config.json").read_text("utf-8"))["facts"]["vocabularies"]["words"]
    )


def test_words_that_are_no_utf_8_are_told(capsys):
    assert main(["wordlm", "--prompt", "caf\udce9"]) == 2
    assert capsys.readouterr().err == r"seqjax: expected arguments in UTF-8, got 'caf\udce9'. Type it in UTF-8." + "\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--top-k", "0"], "sample: expected --top-k above 0, got 0."),
        (["--typical-p", "1.5"], "sample: expected --typical-p above 0 and at most 1, got 1.5."),
        (["--temperature", "0", "--top-p", "0.5"], "sample: expected no --top-p with --temperature 0, got both."),
    ],
)
def test_a_draw_that_cannot_be_narrowed_so_is_refused(options, said, capsys):
    assert main(["sample", "run", *options]) == 2
    assert capsys.readouterr().err.startswith(said)


@pytest.mark.parametrize("who", ["sample", "score"])
def test_complaints_name_the_command_that_was_called(who, tmp_path, capsys):
    more = ["--text", "x"] if who == "score" else []
    assert main([who, str(tmp_path), *more]) == 2
    assert capsys.readouterr().err.startswith(f"{who}: expected {tmp_path} to be the folder of a charlm run")
    (tmp_path / "config.json").write_text('{"recipe": "charlm", "options": {}, "facts": {}}', "utf-8")
    assert main([who, str(tmp_path), *more]) == 2
    assert capsys.readouterr().err.startswith(f"{who}: expected {tmp_path / 'config.json'} to hold the vocabulary ")


@pytest.mark.slow
def test_dollars_in_a_picture_are_no_formula(tmp_path):
    assert run(tmp_path, "hmm-tag", "--sentence", "John $x_{ hit$") == 0
    tables.attention(np.ones((1, 2)), ["$x_{$", "$"], ["$\\frac$"]).savefig(tmp_path / "a.png")
    figure = tables.confusion({"a": np.eye(2)}, ["$x_{$", "$"], x_label="x", y_label="y")
    figure.savefig(tmp_path / "b.png")
    assert all((tmp_path / name).stat().st_size > 500 for name in ("a.png", "b.png", "run/lattice.png"))


# The shortest contexts


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["ngramlm", "--text", "text.txt", "--context", "1", "--length", "5"], "the model sees 1"),
        (["agreement", "--window", "1", "--gap", "1", "--reach", "2"], "last 1 word "),
    ],
)
def test_the_last_word_alone_is_a_context(tmp_path, monkeypatch, capsys, command, told):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(learning, "EVALUATIONS", 1)
    (tmp_path / "text.txt").write_text("abcab " * 60, "utf-8")
    words = ["--steps=1", "--batch-size=2", "--hidden-size=4", "--embedding-size=3"]
    words += ["--window=8"] if command[0] == "ngramlm" else []
    assert run(tmp_path, *command, *words) == 0
    assert told in capsys.readouterr().out
