"""The README's figures and tables are those of the results, and compare like with like."""

import json

import pytest

from benchmarks import bptt, headline, length_table, limit_table, options, tables


def row(candidate, seconds, run=1, **more):
    """A measured row of an LSTM's training step."""
    name, _, devices = candidate.partition(" ×")
    shape = {"cell": "lstm", "pass": "train", "ticks": 8, "batch": 4, "hidden_size": 5, "dtype": "float32"}
    about = {"machine": {"processor": "P", "cores": 2}, "versions": {"jax": "1"}, "library": name.split()[0]}
    sizes = {"temporary_bytes": 2e6, "output_bytes": 0, "growth_bytes": 3e6, "trace_s": 0.1, "compile_s": 0.2}
    line = {"candidate": candidate, "devices": int(devices or 1), "run": run, "median_s": seconds}
    return {**shape, **about, **sizes, **line, **more}


def test_pages_and_pictures_say_what_the_results_do():
    assert headline.stale() == []


def test_another_result_makes_pages_and_picture_stale(tmp_path, monkeypatch):
    for path in headline.RESULTS.glob("*.jsonl"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    rows = headline.rows("bptt")
    rows[0]["median_s"] *= 2
    (tmp_path / "bptt.jsonl").write_text("".join(json.dumps(line) + "\n" for line in rows), "utf-8")
    monkeypatch.setattr(headline, "RESULTS", tmp_path)
    alone = [f"docs/coming_from_{name}.md" for name in ("flax", "equinox")]  # on one device; torch stands beside all
    assert headline.stale() == ["README.md", *alone, "docs/bptt.png"]


def test_one_device_stands_beside_one_and_two_beside_two():
    found = [row("seqjax auto ×1", 2.0), row("seqjax auto ×2", 1.0), row("flax ×1", 6.0), row("equinox ×1", 5.0)]
    assert tables.speed_ups(found, 1, ("flax", "equinox")) == [2.5]
    assert tables.speed_ups(found, 2, ("flax", "equinox")) == []
    found += [row("flax ×2", 3.0), row("torch", 4.0)]
    assert tables.speed_ups(found, 2, ("flax", "equinox")) == [3.0]
    assert tables.speed_ups(found, 2, ("torch",)) == [4.0]


def test_a_ratio_is_taken_within_a_run_and_its_band_over_runs():
    found = [row("seqjax auto ×1", s, run) for run, s in enumerate((1.0, 2.0, 4.0), 1)]
    found += [row("flax ×1", s, run) for run, s in enumerate((3.0, 4.0, 4.0), 1)]
    assert tables.speed_ups(found, 1, ("flax",)) == [3.0, 2.0, 1.0]
    assert tables.told([3.0, 2.0, 1.0]) == "2.00 (1.00 to 3.00)"
    assert tables.told([3.0]) == "3.00"
    wider = [line | {"batch": 9, "median_s": 2 * line["median_s"]} for line in found[:3]]
    wider += [line | {"batch": 9} for line in found[3:]]
    assert headline.both([found, wider], ("flax",), "Flax") == ("Flax 1.00 to 2.00", "")  # of medians, no outlier


def test_a_choice_stands_beside_the_best_of_its_run():
    """On two devices, as commands choose: .85, the mean of one program's .8 and .9, over itself; 1.5 over 1.0."""
    plan = {"engine": "split", "chunk": 4, "keep": "all"}
    plans = {
        "auto": plan | {"why": ["split: 8 ticks", "all activations kept"]},
        "split/auto": plan | {"why": ["all activations kept"]},
        "scan/all": {"engine": "scan", "why": ["all activations kept"]},
    }
    measured = [
        {"auto ×1": 1.0, "auto ×2": 0.8, "split/auto ×1": 1.1, "split/auto ×2": 0.9, "scan/all ×1": 2.0},
        {"auto ×1": 1.0, "auto ×2": 1.5, "scan/all ×1": 1.2},
    ]
    found = [
        row(f"seqjax {name}", seconds, run, rounds=9 - 2 * run, plan=plans[name.split()[0]])
        for run, times in enumerate(measured, 1)
        for name, seconds in times.items()
    ]
    told = lambda rows: limit_table.choices(lambda _: rows)[0].splitlines()[2]
    assert told(found) == "| lstm, training | 1.25 |"
    words = limit_table.choices(lambda _: found)[1]
    assert words == "; T, B, h in the head; medians of 5 rounds or more, medians of 2 runs"
    alone = [line | {"batch": 3} for line in found]
    assert told(alone) == "| lstm, training | 1.12 |"  # 1.05 over .85; 1.0 over itself
    more = plans["auto"] | {"why": [*plans["auto"]["why"], "forwards by ticks"]}
    other = [line | {"plan": more} if "seqjax auto" in line["candidate"] else line for line in found]
    first = [line for line in other if line["run"] == 1]
    assert told(first) == "| lstm, training | 1.00 |"  # .8, another program than that of .9
    slowest = [line | {"median_s": 1.0} if line["candidate"] == "seqjax auto ×2" else line for line in first]
    assert told(slowest) == "| lstm, training | 1.11 |"


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_tiny_headline_is_measured_told_and_drawn(tmp_path, monkeypatch):
    (tmp_path / "bptt.jsonl").write_text("what was measured before\n", "utf-8")
    words = "--tiny --ticks 4 --cells lstm --passes train --ours auto/auto --peers flax --runs 2 --devices 1 2"
    assert bptt.main([*words.split(), "--out", str(tmp_path)]) == 0
    monkeypatch.setattr(headline, "RESULTS", tmp_path)
    rows = headline.rows("bptt")
    names = ["seqjax auto ×1", "seqjax auto ×2", "flax ×1", "flax ×2"]
    assert [(line["run"], line["candidate"]) for line in rows] == [(run, name) for run in (1, 2) for name in names]
    told = headline.PARTS["bptt"]()
    assert "| LSTM, training, one device each: times as fast as the faster of Flax and Equinox |" in told
    assert "| LSTM, training, all cores each: times as fast as the faster of Flax and Equinox |" in told
    assert "2 runs: the median, in brackets the lowest and the highest." in told
    longer = words.replace("--ticks 4", "--ticks 8").replace("--runs 2", "--from-run 3 --runs 3")
    assert bptt.main([*longer.split(), "--out", str(tmp_path)]) == 0
    assert [line["run"] for line in headline.rows("bptt")] == [1] * 4 + [2] * 4 + [3] * 4
    assert "2 runs: the median, in brackets the lowest and the highest; of T = 8 fewer." in headline.PARTS["bptt"]()
    figure = length_table.figure(rows)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[:3] == ["LSTM, training", "LSTM, training: memory", "LSTM, training: compilation"]
    figure.savefig(tmp_path / "a.png")


def test_the_headline_measures_three_cells_both_passes_and_peers_over_devices():
    chosen = options.parse(None, ["--headline"])
    assert (chosen.cells, chosen.passes) == (["lstm", "gru", "elman"], ["forward", "train"])
    assert (chosen.runs, chosen.spread_peers, chosen.name) == (3, True, "bptt")
    assert chosen.peers == ["flax", "equinox", "torch"]
