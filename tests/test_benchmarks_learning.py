"""What cells are said to learn: the benchmark's own training, its table, and with -m learning the rows themselves."""

import jax
import numpy as np
import pytest

import seqjax as sj
from benchmarks import learning, learning_rows, record
from benchmarks.learning_rows import Model, Row
from seqjax import tasks


@pytest.fixture(autouse=True)
def standard():
    """Optax counts on JAX's standard promotion."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def small(at_least=None, at_most=None, updates=120):
    """An LSTM that reads few bits, with parity at every tick, and a wrong answer to tell apart from it."""
    make = lambda: learning_rows.one_layer(sj.lstm, 2, 2, size=4, hidden_size=8)
    task = tasks.running_parity(1, 6)
    models = {"LSTM": Model(make, at_least, at_most)}
    return Row("bits", "by others", ((task, updates), (tasks.running_parity(1, 7), 10)), task, models, 32, 3e-2)


def test_a_small_row_is_learned_recorded_and_told_once(tmp_path, monkeypatch, capsys):
    """The share of right answers is that of the model that was trained; what is recorded is not trained again."""
    monkeypatch.setattr(learning, "ROWS", {"bits": lambda: small(at_least=0.9)})
    command = ["bits", "--seeds", "3", "4", "--results", str(tmp_path / "learning.jsonl")]
    assert learning.main(command) == 0
    rows = record.read(tmp_path / "learning.jsonl")
    assert [(r["row"], r["model"], r["seed"], r["updates"]) for r in rows] == [
        ("bits", "LSTM", 3, 130),
        ("bits", "LSTM", 4, 130),
    ]
    assert all(r["figure"] > 0.9 and r["loss"] < 0.4 for r in rows)
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("| bits | LSTM | ")
    assert "| 2 | 50.0% | at least 90%: reached | by others | `python -m benchmarks.learning bits` |" in line
    monkeypatch.setattr(learning, "fit", lambda *_: pytest.fail("trained again"))
    assert learning.main(command) == 0
    assert capsys.readouterr().out.splitlines()[-1] == line
    monkeypatch.setattr(learning, "ROWS", {"bits": lambda: small(updates=7)})  # nothing is known of it
    assert learning.table(rows, ["bits"])[2:] == []


def test_what_is_required_of_a_figure():
    model = lambda **bounds: Model(lambda: None, **bounds)
    assert model(at_least=0.99).verdict(0.989) == "at least 99%: not reached"
    assert model(at_least=0.995).verdict(0.995) == "at least 99.5%: reached"
    assert model(at_most=0.6).verdict(0.6) == "at most 60%: so it is"
    assert model(at_most=0.6).verdict(0.61) == "at most 60%: exceeded"
    assert model().verdict(1.0) == ""


def test_gradients_of_a_ring_are_those_of_its_equation():
    """γ ⊙ B through T - 1 ticks of a, in NumPy, float64."""
    ring, ticks = (0.9, 0.999), 60
    params = learning.ring_of(ring).init(jax.random.key(2))
    nu, theta, *_, b_real, b_imag = (np.asarray(p, np.float64) for p in params[1:3] + params[4:6])
    a = np.exp(-np.exp(nu) + 1j * np.exp(theta))
    h = (np.sqrt(1 - abs(a) ** 2) * a ** (ticks - 1))[:, None] * (b_real + 1j * b_imag).T
    expected = np.linalg.norm(np.concatenate([h.real, h.imag]), 2)
    assert learning.gradient_norm(ring, 2, ticks) == pytest.approx(expected, rel=1e-4)


TRAINED = [
    ("parity", "LSTM"),
    ("parity", "delta rule, β = 2, two heads"),
    ("parity", "minGRU"),
    ("parity", "linear attention, two heads"),
    ("recall-replaced", "linear attention, 4 heads of 16 × 16"),
]


@pytest.mark.learning
@pytest.mark.parametrize(("row", "model"), TRAINED)
def test_a_cell_learns_what_it_is_said_to_and_fails_where_it_must(row, model):
    made = learning_rows.ROWS[row]()
    verdict = made.models[model].verdict(learning.fit(made, made.models[model], 0)["figure"])
    assert verdict.endswith(("reached", "so it is"))
    assert not verdict.endswith("not reached")
