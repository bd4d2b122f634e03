"""Dashboards show the numbers of the JSON lines, each step once, whatever was stopped and resumed."""

import contextlib
import json
import struct
import sys
import types

import jax
import numpy as np
import pytest

import seqjax as sj
from seqjax.__main__ import COMMANDS, main
from seqjax.recipes.running import courses, learning, run, trackers
from seqjax.recipes.running.options import BadInput

tensorboardX = pytest.importorskip("tensorboardX")


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def trained():
    """A recipe that learns to repeat what it hears; ``dies`` is the update that never comes."""
    model = sj.serial(sj.embedding(4, 4), sj.recurrent(sj.elman(4, 4)), sj.dense(4, 4))
    params, objective = model.init(jax.random.key(0)), sj.objective(model, sj.cross_entropy)
    heard = np.random.default_rng(0).integers(0, 4, (3, 2))

    def train(folder, track=None, *, steps=30, dies=None, resume=False):
        place = {"resume": str(folder)} if resume else {"run_dir": str(folder)}
        options = learning.LearningOptions(steps=steps, batch_size=2, devices=1, track=track, **place)
        with_folder = run.Run.start("echo", options, {})

        def batch_of(step):
            if step == dies:
                raise Killed
            return sj.Batch(heard, heard)

        told = {"work": 2, "unit": "sequences", "show_evaluation": "{right}", "evaluations": 2}
        start = learning.begin(options, params, model.initial_state(params, (2,)))
        course = learning.learn(
            with_folder, options, start, objective, batch_of, evaluate=lambda p: {"right": 0.5}, **told
        )
        courses.together({"": course}, lambda name: contextlib.nullcontext())
        return with_folder

    return train


def killed(train, folder, track):
    """Killed in its 25th update: the line of step 20 is behind the checkpoint of step 15, and is forgotten."""
    with pytest.raises(Killed):
        train(folder, track, dies=24)
    before = lines(folder)
    assert {step for step, _ in before} == {1, 15, 20}
    return before


def lines(folder):
    """``{(step, name): number}`` of the JSON lines."""
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {(record["step"], name): record[name] for record in records for name in record if name != "step"}


def events(folder):
    """The same of all event files, by their format: length, checksum, protocol buffer, checksum; no scalar twice."""
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    for path in (folder / "tensorboard").iterdir():
        raw = path.read_bytes()
        while raw:
            (length,) = struct.unpack("<Q", raw[:8])
            event = Event.FromString(raw[12 : 12 + length])
            raw = raw[12 + length + 4 :]
            for value in event.summary.value:
                assert (event.step, value.tag) not in found
                found[event.step, value.tag] = value.simple_value
    return found


def assert_shown(shown, folder):
    """To the 32 bits of the format."""
    assert shown == {key: np.float32(number) for key, number in lines(folder).items()}


@pytest.mark.slow
def test_tensorboard_after_a_resume(trained, tmp_path):
    """A step that a resumed run makes again is there once; so is the past of a run that is asked late."""
    before = killed(trained, tmp_path / "killed", "tensorboard")
    assert_shown(events(tmp_path / "killed"), tmp_path / "killed")
    trained(tmp_path / "killed", "tensorboard", resume=True)
    after = lines(tmp_path / "killed")
    assert after[20, "seconds"] != before[20, "seconds"]
    assert_shown(events(tmp_path / "killed"), tmp_path / "killed")

    trained(tmp_path / "late", steps=2)
    assert not (tmp_path / "late" / "tensorboard").exists()
    trained(tmp_path / "late", "tensorboard", steps=3, resume=True)
    assert {step for step, _ in lines(tmp_path / "late")} == {1, 2, 3}
    assert_shown(events(tmp_path / "late"), tmp_path / "late")


class Server:
    """Weights & Biases by its documented interface: steps rise, a run that is known goes on behind its last step."""

    def __init__(self):
        self.calls, self.histories, self.open = [], {}, None

    def init(self, *, project, name, dir, id, resume, reinit, config, allow_val_change):
        assert reinit == "create_new"
        assert resume == "allow"
        self.calls.append({"project": project, "name": name, "dir": dir, "id": id, "config": config})
        known = self.histories.setdefault(id, {})
        self.open = types.SimpleNamespace(resumed=bool(known), step=max(known, default=-1) + 1)
        self.open.log = lambda numbers, step: self.log(known, numbers, step)
        self.open.finish = lambda: setattr(self, "open", None)
        return self.open

    def log(self, history, numbers, step):
        assert step >= self.open.step, "a step that is over"
        self.open.step = step
        row = history.setdefault(step, {})
        assert not row.keys() & numbers.keys()
        row.update(numbers)


@pytest.fixture
def wandb(monkeypatch):
    server = Server()
    module = types.ModuleType("wandb")
    module.init = server.init
    monkeypatch.setitem(sys.modules, "wandb", module)
    return server


def shown_by(server, folder):
    history = server.histories[(folder / "wandb.id").read_text().strip()]
    return {(step, name): number for step, row in history.items() for name, number in row.items()}


def test_wandb_shows_the_lines(trained, tmp_path, wandb):
    trained(tmp_path / "run", "wandb", steps=2)
    assert shown_by(wandb, tmp_path / "run") == lines(tmp_path / "run")
    assert wandb.open is None
    (call,) = wandb.calls
    assert (call["project"], call["name"], call["dir"]) == ("seqjax", "run", str(tmp_path / "run"))
    assert call["config"]["recipe"] == "echo"
    assert call["config"]["learning_rate"] == 3e-3
    trained(tmp_path / "other", "wandb", steps=1)
    assert len(wandb.histories) == 2


def test_wandb_after_a_resume(trained, tmp_path, wandb):
    """The same run goes on; what it has is not sent twice: only the clock could tell the two apart."""
    before = killed(trained, tmp_path, "wandb")
    assert wandb.open is None
    trained(tmp_path, "wandb", resume=True)
    assert len({call["id"] for call in wandb.calls}) == 1
    shown, after = shown_by(wandb, tmp_path), lines(tmp_path)
    assert shown.keys() == after.keys()
    clocks = ("seconds", "sequences_per_second")
    for (step, name), number in after.items():
        assert shown[step, name] == (before[step, name] if step == 20 and name in clocks else number)


def test_wandb_that_takes_no_run(trained, tmp_path, monkeypatch, wandb):
    def refuse(**options):
        raise RuntimeError("no key")

    monkeypatch.setattr(sys.modules["wandb"], "init", refuse)
    with pytest.raises(
        BadInput, match=r"^echo: expected Weights & Biases to take a run, got RuntimeError: no key\. Log in"
    ):
        trained(tmp_path, "wandb")


@pytest.mark.parametrize(("track", "package"), trackers.PACKAGES.items())
def test_a_missing_package_is_told_before_anything_is_written(track, package, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["memory", "--run-dir", str(tmp_path / "run"), "--length", "5", "--track", track]) == 2
    said = capsys.readouterr().err
    assert said.startswith(
        f"memory: expected {package} to be installed for --track {track}, got no module {package}. Inst"
    )
    assert "pip install 'seqjax[trackers]'" in said
    assert not (tmp_path / "run").exists()


def test_every_command_that_trains_has_the_option():
    import dataclasses
    import importlib

    named = {
        name: {f.name for f in dataclasses.fields(importlib.import_module(m).Options)} for name, m in COMMANDS.items()
    }
    train = {name for name, options in named.items() if "steps" in options}
    assert {name for name, options in named.items() if "track" in options} == train
    assert len(train) == len(COMMANDS) - 7  # ask, compare, sample, score, hmm-tag, reservoir, gradients


def test_json_lines_refuse_what_json_lacks(tmp_path):
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        trackers.JsonLines(tmp_path / "x").log(1, {"loss": float("nan")})
