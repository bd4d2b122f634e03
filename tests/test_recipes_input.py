"""What people give to the commands and how they see the answers: odd lines, unknown words, figures, consoles."""

import json

import mido
import numpy as np
import pytest

from seqjax.__main__ import main
from seqjax.recipes import forecast
from seqjax.recipes.language import words
from seqjax.recipes.pictures import piano_roll


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\f", "\v", "\x1c"])
@pytest.mark.parametrize("at", ["marks", "blanks"])
def test_a_sentence_ends_where_a_line_ends_and_nowhere_else(tmp_path, separator, at):
    path = tmp_path / "text.txt"
    path.write_text(f"one{separator}two three\n" * 30, "utf-8")
    read = words.read("wordlm", str(path), at=at, lower=False)
    assert read.train + read.held_back == [["one", "two", "three"]] * 30


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
