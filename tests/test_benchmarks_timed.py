"""Models trained by the clock: turns, the rate that follows the time, what is recorded and told."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import seqjax as sj
from benchmarks import record, timed, timed_rows
from benchmarks.timed_rows import Model, Row


@pytest.fixture(autouse=True)
def standard():
    """Optax counts on JAX's standard promotion."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture
def ticking(monkeypatch):
    """A processor whose clock is told: an update takes one second."""
    clock = iter(range(10**6))
    monkeypatch.setattr(timed, "time", types.SimpleNamespace(process_time=lambda: float(next(clock))))


def small():
    """A line y = x w, learned from the same points; every figure is w, of a part its sign turned."""
    layer = sj.dense(1, 1)
    xs = np.linspace(-1, 1, 6, dtype=np.float64).reshape(3, 2, 1)
    return Model(
        layer,
        sj.objective(layer, sj.mean_squared_error),
        lambda step, seed: sj.Batch(xs, 2 * xs + 1 + 0 * step),
        lambda step: step % 2 > 0,
        2,
        0.1,
        lambda params, part: float(params.w[0, 0]) * (-1 if part else 1),
    )


def test_updates_are_adams_at_the_rate_of_their_time(ticking):
    """Ten updates by hand, in Optax's own Adam with the same schedule."""
    model = small()
    found = timed.contest({"line": model}, 3, minutes=10 / 60, looks=2)["line"]
    params = model.layer.init(jax.random.key(3))
    rates = jnp.asarray([0.1 * timed.schedule(share / 10) for share in range(10)])
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(lambda count: rates[count]))
    state = optimizer.init(params)

    @jax.jit
    def update(params, state, batch):
        loss = lambda p: model.objective(p, (), batch, None)[1].mean
        steps, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, steps), state

    weights = []
    for step in range(10):
        params, state = update(params, state, model.batch_of(step, 3))
        weights.append(float(params.w[0, 0]))
    assert found["figure"] == pytest.approx(weights[9], abs=1e-7)
    assert (found["updates"], found["parameters"]) == (10, 2)
    (half, whole) = found["curve"]
    assert (-half["figure"], whole["figure"]) == pytest.approx((weights[4], weights[9]), abs=1e-7)  # a part, then all
    assert (half["updates"], whole["updates"], whole["minutes"]) == (5, 10, 0.17)


def test_what_is_recorded_is_told_beside_what_is_required(tmp_path, monkeypatch, capsys, ticking):
    makes = lambda data, tuning: {"fast": small, "slow": lambda: small()._replace(rate=1e-3)}
    rows = {"line": Row("a line", "{:.2f}", 0.5, makes, "slow", at_most=9, within=0.01, published="by others")}
    monkeypatch.setattr(timed, "ROWS", rows)
    command = ["--results", str(tmp_path / "timed.jsonl"), "--data", str(tmp_path)]
    assert timed.main(["line", "--tune", *command]) == 0
    assert not (tmp_path / "timed.jsonl").exists()
    assert timed.main(["line", *command]) == 0
    fast, slow = record.read(tmp_path / "timed.jsonl")
    assert (fast["updates"], slow["updates"], fast["minutes"]) == (30, 30, 0.5)
    *_, first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"| a line | fast, 2 parameters | 0.5 | {fast['figure']:.2f} | 1 | ")
    near = "reached" if slow["figure"] - fast["figure"] <= 0.01 else "not reached"
    said = f"| at most 9.00: reached; within 0.01 of the others: {near} | by others | "
    assert said + "`python -m benchmarks.timed line --minutes 0.5 --models fast slow`" in second
    assert timed.main(["line", "--models", "dash", *command]) == 2
    assert "line: expected models of fast, slow, got dash." in capsys.readouterr().err
    with pytest.raises(SystemExit):
        timed.main(["lines", *command])
    assert "expected rows of line, got 'lines'" in capsys.readouterr().err


def test_tuning_leaves_alone_what_is_held_back():
    """The last tenth of 1,000 is 900 to 999; in tuning 810 to 899 stands for it."""
    train, held_back = timed_rows.tenth(np.arange(1000), tuning=False)
    assert (len(train), held_back[0], held_back[-1]) == (900, 900, 999)
    train, held_back = timed_rows.tenth(np.arange(1000), tuning=True)
    assert (len(train), held_back[0], held_back[-1]) == (810, 810, 899)
