"""All benchmarks in turn: what is done is not done again, who fails is named, and what was measured is told."""

import argparse
import importlib
import json
import subprocess
import sys

import pytest

pytest.importorskip("rich")
pytest.importorskip("matplotlib")

from benchmarks import all as everything
from benchmarks import path_table, record, versions


def row(jax, **more):
    """One that was measured."""
    return {"machine": {"processor": "P", "cores": 2}, "versions": {"jax": jax}, **more}


class Machine:
    """Runs commands: each writes a row, unless it is to fail."""

    def __init__(self, monkeypatch):
        self.ran, self.fails, self.environment = [], {}, {}
        monkeypatch.setattr(subprocess, "run", self)

    def __call__(self, words, *, env, timeout, **options):
        name, file = words[2].removeprefix("benchmarks."), words[words.index("--out") + 1]
        self.ran.append(name)
        self.environment, self.timeout = env, timeout
        failure = self.fails.get(name)
        if isinstance(failure, Exception):
            raise failure
        if failure is None:
            with open(file, "a", encoding="utf-8") as lines:
                lines.write(json.dumps(row("2.0", benchmark=name, words=words[3:])) + "\n")
        return subprocess.CompletedProcess(words, failure or 0, "", "first\nit broke" if failure else "")


@pytest.fixture
def machine(monkeypatch):
    commands = {name: everything.Benchmark(4, 10, (f"{name} --seconds {{seconds}} --out {{file}}",)) for name in "abc"}
    commands["c"] = commands["c"]._replace(commands=commands["c"].commands * 2)
    monkeypatch.setattr(everything, "BENCHMARKS", commands)
    monkeypatch.setattr(record, "_git", lambda *words: "")
    return Machine(monkeypatch)


def test_what_is_done_stays_and_what_failed_is_named_and_done_next_time(machine, tmp_path, capsys):
    machine.fails = {"b": 3}
    words = ["--runs", "2", "--results", str(tmp_path)]
    assert everything.main(words) == 1
    assert machine.ran == ["a", "b", "c", "c"] * 2
    said = capsys.readouterr().out
    assert "failed: b, run 1: status 3: it broke\nfailed: b, run 2: status 3: it broke\n" in said
    assert sorted(file.name for file in tmp_path.glob("*.jsonl")) == ["a.jsonl", "c.jsonl"]
    assert [line["run"] for line in record.read(tmp_path / "c.jsonl")] == [1, 1, 2, 2]
    machine.ran, machine.fails = [], {}
    assert everything.main(words) == 0
    assert machine.ran == ["b", "b"]
    assert [line["run"] for line in record.read(tmp_path / "b.jsonl")] == [1, 2]
    machine.ran = []
    other = tmp_path / "unfinished" / f"jax-{record.versions()['jax']}" / "b.1.jsonl"
    other.write_text("", "utf-8")
    assert everything.main([*words, "a"]) == 0  # a new measurement
    assert other.exists()  # of a benchmark that was not asked for
    assert machine.ran == ["a", "a"]


def test_a_run_that_is_stopped_leaves_nothing_behind(machine, tmp_path, capsys):
    half = tmp_path / "unfinished" / f"jax-{record.versions()['jax']}" / "a.1.part.jsonl"
    half.parent.mkdir(parents=True)
    half.write_text(json.dumps(row("2.0")) + "\n", "utf-8")
    machine.fails = {"b": subprocess.TimeoutExpired("b", 1)}
    assert everything.main(["a", "b", "--runs", "1", "--results", str(tmp_path)]) == 1
    assert "failed: b, run 1: took more than its 4 minutes" in capsys.readouterr().out
    assert not (tmp_path / "b.jsonl").exists()
    assert len(record.read(tmp_path / "a.jsonl")) == 1


def test_minutes_are_shared_and_huge_pages_are_the_default(machine, tmp_path, monkeypatch):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    everything.main(["a", "b", "--minutes", "4", "--runs", "1", "--results", str(tmp_path)])
    (line,) = record.read(tmp_path / "a.jsonl")
    assert line["words"][:2] == ["--seconds", "5"]
    assert 110 < machine.timeout <= 120
    assert machine.environment["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"


def test_rows_of_another_version_stay(machine, tmp_path):
    old = [row("1.0", benchmark="a"), row("2.0", benchmark="stale")]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in old), "utf-8")
    assert everything.main(["a", "--runs", "1", "--results", str(tmp_path)]) == 0
    assert [line["benchmark"] for line in record.read(tmp_path / "a.jsonl")] == ["a", "a"]
    assert [line["versions"]["jax"] for line in record.read(tmp_path / "a.jsonl")] == ["1.0", "2.0"]


def test_the_time_that_is_stated_is_that_of_all_shares():
    at_most = f"three runs of at most {sum(b.minutes for b in everything.BENCHMARKS.values()):g} minutes each"
    page = (record.ROOT / "docs" / "performance.md").read_text("utf-8")
    assert at_most in everything.__doc__
    assert at_most in page
    names = page.split("## Hot paths")[1].split("`python -m benchmarks.all ")[1].split("`")[0].split()
    assert {*names} == {*path_table.FILES}
    assert f"{sum(everything.BENCHMARKS[name].minutes for name in names):g} minutes a run at most" in " ".join(
        page.split()
    )


class ParsedError(Exception):
    """A command line was understood."""


@pytest.mark.parametrize("name", everything.BENCHMARKS)
def test_every_command_is_one_that_its_script_understands(name, monkeypatch):
    usual = argparse.ArgumentParser.parse_args

    def parse(self, args=None, namespace=None):
        usual(self, args, namespace)
        raise ParsedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    for command in everything.BENCHMARKS[name].commands:
        script, *words = command.format(file="F", folder="D", name="N", seconds="1.5").split()
        monkeypatch.setattr(sys, "argv", [script, *words])
        with pytest.raises(ParsedError):
            importlib.import_module(f"benchmarks.{script}").main()


def of_ctc(ours, optax, torch, below, run=1, jax="1.0"):
    sizes = {"outputs": 5, "batch": 2, "length": 30, "symbols": 4}
    memory = {"ours": 2_000_000, "optax": 3_000_000, "torch": None}
    found = {"ours": ours, "optax": optax, "torch": torch}
    return row(jax, **sizes, seconds=found, temporary_bytes=memory, limit_s=below, run=run)


def test_a_path_is_told_by_medians_over_runs_of_ratios_within_them():
    rows = {"ctc": [of_ctc(1.0, 2.0, 9.0, 0.5), of_ctc(2.0, 3.0, 9.0, 0.5, 2), of_ctc(4.0, 4.0, 1.0, 0.5, 3)]}
    ((title, *cells),), runs = path_table.lines(lambda name: rows.get(name, []))
    assert title == "temporal classification, loss and gradient: 5 outputs, 2 × 30 ticks, 4 symbols"
    assert runs == 3
    assert cells == ["2e+03 (1e+03 to 4e+03)", "optax 1.5 (1 to 2)", "4 (2 to 8)", "2.0 / 3.0"]


def test_an_update_stands_beside_flax_on_one_device_and_torch_on_all():
    line = lambda name, library, devices, s: row(
        "1.0", **path_table.UPDATE, candidate=name, library=library, devices=devices, median_s=s, limit_s=0.5
    )
    rows = [line("seqjax auto", "seqjax", 1, 1.0), line("seqjax auto ×2", "seqjax", 2, 2.0)]
    rows += [line("flax", "flax", 1, 3.0), line("torch", "torch", 1, 8.0)]
    found = dict(path_table.figures(lambda name: rows if name == "charlm" else []))
    assert [figures.others for figures in found.values()] == [{"flax": 3.0}, {"torch": 8.0}]


def test_rows_that_a_newer_version_makes_slower_are_named():
    old = [of_ctc(1.0, 1.0, 1.0, 1.0), of_ctc(3.0, 1.0, 1.0, 1.0), of_ctc(2.0, 1.0, 1.0, 1.0)]
    new = [of_ctc(2.3, 9.0, 1.0, 1.0, jax="1.0.1"), of_ctc(2.3, 9.0, 1.0, 1.0, jax="1.0.1")]
    read = lambda rows: lambda name: rows
    lines, compared = versions.slower(["ctc"], read(new + old))
    assert compared == ["1 of 1 rows with jax 1.0.1 beside 1.0 (P)"]
    assert lines == [["ctc: outputs 5, symbols 4, length 30, batch 2, ours", "1.0", "1.0.1", "1.15"]]
    assert versions.slower(["ctc"], read(old[:1] + old[1:]))[1] == []
    faster = [of_ctc(2.1, 9.0, 1.0, 1.0, jax="1.0.1")]
    assert versions.slower(["ctc"], read(old + faster)) == ([], ["0 of 1 rows with jax 1.0.1 beside 1.0 (P)"])
    assert versions.version("0.12.0.1") > versions.version("0.10.2")


def test_every_processor_is_told_of_and_named():
    """With the version measured most often; the processor measured in most runs first."""
    part = lambda read: (f"{len(read('ctc'))} rows", "; how")
    rows = [of_ctc(1.0, 1.0, 1.0, 1.0, jax=jax) for jax in ("1.10", "1.9", "1.9")]
    rows += [of_ctc(1.0, 1.0, 1.0, 1.0) | {"machine": {"processor": "A", "cores": 2}, "run": run} for run in (1, 3)]
    rows += [rows[0] | {"machine": {"processor": "Z", "cores": 2}, "run": 2}]
    told = lambda which: versions.everywhere(part, ["ctc"], lambda name: rows, which)
    texts = [
        "2 rows\n\nA, 2 cores, jax 1.0; how.",
        "1 rows\n\nZ, 2 cores, jax 1.10; how.",
        "2 rows\n\nP, 2 cores, jax 1.9; how.",
    ]
    assert told(slice(None)) == "\n\n".join(texts)
    assert told(slice(1)) == texts[0]
    assert told(slice(1, None)) == "\n\n".join(texts[1:])
    assert told(slice(3, None)) == "Measured on one processor so far."


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ({"model name": "AMD EPYC", "cpu family": "26", "model": "2"}, "AMD EPYC (cpu family 26, model 2)"),
        ({"model name": "AMD EPYC", "cpu family": "25", "model": "2"}, "AMD EPYC (cpu family 25, model 2)"),
        ({"model name": "Processor rev 4", "model": "Board"}, "Processor rev 4"),
    ],
)
def test_processors_that_are_called_alike_are_told_apart(monkeypatch, told, name):
    monkeypatch.setattr(record, "_first", lambda _, word: told.get(word, ""))
    assert record.processor() == name
