"""What a type checker tells a user: types that say something, and mistakes found before anything runs."""

import importlib.resources
import pathlib
import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow  # the checker takes a quarter of a minute

ROOT = pathlib.Path(__file__).parent.parent

BEGINNING = """\
from typing import Any, assert_type
import jax
import jax.numpy as jnp
import optax
import seqjax as sj
key, xs = jax.random.key(0), jnp.zeros((5, 2, 3))
cell, other = sj.lstm(3, 4), sj.gru(3, 4)
params, wrong = cell.init(key), other.init(key)
state = cell.initial_state(params, (2,))
dense, model = sj.dense(4, 4).init(key), sj.serial(sj.recurrent(cell), sj.dense(4, 4))
"""

RIGHT = {
    "a cell": "assert_type(cell, sj.Cell[sj.cells.LSTMParams, sj.cells.LSTMState])",
    "parameters": "assert_type(cell.init(key), sj.cells.LSTMParams)",
    "a state": "assert_type(cell.initial_state(params, (2,)), sj.cells.LSTMState)",
    "a tick": "assert_type(cell.step(params, state, xs[0])[0], sj.cells.LSTMState)",
    "a run": "assert_type(sj.unroll(cell, params, state, xs)[0], sj.cells.LSTMState)",
    "options of a run": "sj.unroll(cell, params, state, xs, engine='split', memory='256MB', reverse=True)",
    "chunks by number": "sj.unroll(cell, params, state, xs, memory=128)",
    "an option of a cell": "sj.gru(3, 4, reset='after')",
    "a transformed cell": "sj.unroll(sj.zoneout(cell, 0.1), params, sj.zoneout(cell, 0.1).initial_state(params), xs)",
    "a layer": "assert_type(sj.dense(3, 4).init(key), sj.layers.DenseParams)",
    "a chunk of a layer": "sj.dense(3, 4).apply(sj.dense(3, 4).init(key), (), xs, lengths=jnp.array([5, 2]))",
    "a model": "model.apply((params, dense), (state, ()), xs)",
    "a long model": "sj.serial(*[sj.dense(4, 4)] * 7)",
    "parameters of a model": "assert_type(model.init(key)[1], sj.layers.DenseParams)",
    "parameters of a stack": "assert_type(sj.stack(cell, sj.gru(4, 4)).init(key), "
    "tuple[sj.cells.LSTMParams, sj.cells.GRUParams])",
    "training": "assert_type(sj.train_state(params, optax.sgd(0.1)), sj.TrainState)",
    "a cell by hand": "sj.Cell(lambda key: 0, lambda p, batch_shape=(), *, key=None: 0, lambda p, s, x: (s, x))",
}

WRONG = {
    "a misspelt name": ("sj.lsmt(3, 4)", "attr-defined"),
    "a wrong keyword of a cell": ("sj.lstm(3, hidden=4)", "call-arg"),
    "a misspelt option of a cell": ("sj.gru(3, 4, reset='befor')", "arg-type"),
    "a size that is a name": ("sj.lstm(3, '4')", "arg-type"),
    "parameters of another cell in a tick": ("cell.step(wrong, state, xs[0])", "arg-type"),
    "the state of another cell in a tick": ("cell.step(params, xs[0], xs[0])", "arg-type"),
    "parameters of another cell in a run": ("sj.unroll(cell, wrong, state, xs)", "arg-type or misc"),
    "the state of another cell in a run": ("sj.unroll(cell, params, xs[0], xs)", "arg-type or misc"),
    "a misspelt engine": ("sj.unroll(cell, params, state, xs, engine='spilt')", "arg-type"),
    "a misspelt engine of a layer": ("sj.recurrent(cell, engine='spilt')", "arg-type"),
    "a wrong keyword of a run": ("sj.unroll(cell, params, state, xs, revers=True)", "call-arg"),
    "a layer in place of a cell": ("sj.stack(sj.dense(3, 4), cell)", "call-overload"),
    "a state that is not there": ("state.d", "attr-defined"),
    "parameters of another model": ("model.apply((wrong, dense), (state, ()), xs)", "arg-type"),
    "a wrong keyword of a layer": ("sj.dense(3, 4).apply(sj.dense(3, 4).init(key), (), xs, masks=None)", "call-arg"),
}


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What mypy says of each line of a user's script, by number: the codes of its errors, or notes."""
    lines = [*RIGHT.values(), *(line for line, _ in WRONG.values())]
    script = tmp_path_factory.mktemp("user") / "script.py"
    script.write_text(BEGINNING + "\n".join(lines) + "\n", "utf-8")
    options = ["--config-file=", "--follow-imports=silent", "--no-error-summary", "--disable-error-code=import-untyped"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, f"--cache-dir={ROOT / '.mypy_cache'}", str(script)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    errors = re.findall(r"script\.py:(\d+): (error: .* \[([\w-]+)\])$", done.stdout, re.MULTILINE)
    found = {line: [] for line in lines}
    for number, text, code in errors:
        index = int(number) - BEGINNING.count("\n") - 1
        assert index >= 0, text
        found[lines[index]].append((code, text))
    return found


@pytest.mark.parametrize("line", RIGHT.values(), ids=RIGHT.keys())
def test_what_is_right_is_taken(said, line):
    assert said[line] == []


@pytest.mark.parametrize(("line", "codes"), WRONG.values(), ids=WRONG.keys())
def test_a_mistake_is_found(said, line, codes):
    assert said[line] != []
    assert {code for code, _ in said[line]} <= set(codes.split(" or ")), said[line]


def test_the_package_says_that_it_is_typed():
    assert (importlib.resources.files("seqjax") / "py.typed").is_file()
