"""What compiled programs are made of: the count itself, and ten programs beside what was stored of them."""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from marks import quick

import seqjax as sj
from benchmarks import structure

ROOT = pathlib.Path(__file__).parent.parent
F32 = jax.ShapeDtypeStruct((3, 5, 5), jnp.float32)
NOW = "jax 9.9"
LSTM = {
    "loops": 4,
    "products": [0, 3, 2],
    "equations in loops": [20, 40],
    "stacked bytes": 1000,
    "whiles": 4,
    "dots": [0, 3, 2],
    "fusions in loops": [20, 40],
    "copies in loops": [0, 5],
    "flops": 10**6,
    "bytes accessed": 10**6,
    "temporaries": 10**6,
}
GROUPS = {
    "a": ["lstm", "lstm, memory sqrt", "mingru", "linear attention", "sampling"],
    "b": ["gru", "layer-norm lstm", "stack of two lstms", "delta rule", "crf"],
}


def nested(xs):
    """One product outside, two in a loop of 3 ticks, one in a loop of 2 ticks in it; a tick stacks a [5, 5]."""

    def tick(c, x):
        c = c @ x @ x
        c, ys = jax.lax.scan(lambda c, _: (jnp.tanh(c @ x), c[0]), c, None, length=2)
        return c, ys.sum() + c

    return jax.lax.scan(tick, xs[0] @ xs[1], xs)[1]


def test_counts_a_program_that_was_counted_by_hand():
    found = structure.figures((nested, (F32,)))
    assert (found["loops"], found["whiles"]) == (2, 2)
    assert found["products"] == found["dots"] == [1, 2, 1]
    assert found["stacked bytes"] == 4 * (3 * 5 * 5 + 3 * 2 * 5)
    assert found["equations in loops"][1] >= 2  # tanh and the product, and what takes c[0]
    assert 4 * 2 * 5**3 < found["flops"] < 5 * 2 * 5**3  # four products, each counted once


def test_the_programs_of_the_groups_are_all_there_are():
    assert sorted(name for group in GROUPS.values() for name in group) == sorted(structure.PROGRAMS)


@pytest.mark.parametrize("group", quick(GROUPS, "a"))
def test_programs_are_made_of_what_was_stored(group):
    """In a process with a user's settings: the suite's own make other programs."""
    words = [sys.executable, "-m", "benchmarks.structure", "--check", *GROUPS[group]]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    done = subprocess.run(words, cwd=ROOT, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_tick_that_makes_weight_gradients_itself_is_told():
    """By the scan the gradient of the weights stays in the loop; seen in jaxprs alone."""
    cell = sj.lstm(4, 8, dtype=jnp.float32)

    def figures(engine):
        def loss(params, xs):
            start = cell.initial_state(params, (2,))
            return sj.unroll(cell, params, start, xs, engine=engine)[1].sum()

        shapes = jax.eval_shape(cell.init, structure.KEY), jax.ShapeDtypeStruct((64, 2, 4), jnp.float32)
        return structure.of_jaxpr(jax.make_jaxpr(jax.grad(loss))(*shapes).jaxpr)

    stored = {"another version": {"lstm": figures("auto")}}
    assert structure.check({"lstm": figures("auto")}, stored, NOW) == []
    told = structure.check({"lstm": figures("scan")}, stored, NOW)
    assert any(line.startswith("lstm: expected products ") for line in told)
    assert told[-1].endswith("python -m benchmarks.structure --write")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"dots": [0, 3, 3]}, "lstm: expected dots 0/3/2, got 0/3/3."),
        ({"dots": [0, 3]}, "lstm: expected dots 0/3/2, got 0/3."),
        ({"whiles": 3}, "lstm: expected whiles 4, got 3."),
        ({"temporaries": 1_020_000}, "lstm: expected temporaries 1,000,000 within 1%, got 1,020,000."),
        ({"flops": 980_000}, "lstm: expected flops 1,000,000 within 1%, got 980,000."),
        ({"copies in loops": [1, 5]}, "lstm: expected copies in loops 0/5 within 5%, got 1/5."),
        ({"equations in loops": [20, 43]}, "lstm: expected equations in loops 20/40 within 5%, got 20/43."),
    ],
    ids=lambda case: next(iter(case)) if isinstance(case, dict) else "",
)
def test_what_is_off_is_told_with_the_command_that_stores_it(change, sentence):
    assert structure.check({"lstm": LSTM | change}, {NOW: {"lstm": LSTM}}, NOW) == [sentence, structure.ANEW]


def test_a_little_off_is_not_told():
    near = LSTM | {"temporaries": 1_009_000, "equations in loops": [20, 42], "fusions in loops": [19, 40]}
    assert structure.check({"lstm": near}, {NOW: {"lstm": LSTM}}, NOW) == []


def test_other_versions_are_compared_by_jaxprs_alone():
    stored = {"jax 0.1": {}, "jax 0.2": {"lstm": LSTM}}
    elsewhere = LSTM | {"dots": [9, 9], "temporaries": 1, "equations in loops": [22, 42], "stacked bytes": 1090}
    assert structure.check({"lstm": elsewhere}, stored, NOW) == []
    told = structure.check({"lstm": elsewhere | {"products": [0, 3, 3]}}, stored, NOW)
    assert told == ["lstm: expected products 0/3/2, got 0/3/3.", structure.ANEW]


def test_a_program_that_was_never_stored_is_told():
    assert structure.check({"new": LSTM}, {NOW: {"lstm": LSTM}}, NOW)[0] == "new: nothing is stored of it."


def test_other_versions_are_said_and_stored_beside(tmp_path, capsys, monkeypatch):
    """With counts instead of programs: what the command does with them."""
    monkeypatch.setattr(structure, "figures", lambda program: LSTM)
    monkeypatch.setattr(jax.config, "update", lambda name, value: None)
    monkeypatch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"])
    file = tmp_path / "stored.json"
    file.write_text(structure.written({"jax 0.9": {"lstm": LSTM | {"flops": 1}}}))
    with_file = ["lstm", "--stored", str(file)]
    assert structure.main([*with_file, "--check"]) == 0
    assert f"{structure.versions()} is not stored: only jaxprs are compared" in capsys.readouterr().out
    assert structure.main([*with_file, "--write"]) == 0
    assert "0/3/2" in capsys.readouterr().out
    assert file.read_text().count("flops") == 2
    assert structure.main([*with_file, "--check"]) == 0
    assert capsys.readouterr().out == "As stored: lstm.\n"
