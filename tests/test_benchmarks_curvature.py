"""The benchmark of Hessian-free learning: each way learns by its own rule for as long, and the table tells it."""

import types

import jax
import numpy as np
import optax
import pytest

import seqjax as sj
from benchmarks import curvature, record
from seqjax.curvature import hessian_free, hessian_free_step

TEXT = "pack my box with five dozen jugs.\n" * 40
T = 4


@pytest.fixture(autouse=True)
def standard():
    """Optax counts on JAX's standard promotion."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def logits(model, params, xs):
    """One window after the other."""
    each = [model.apply(params, model.initial_state(params), x)[1] for x in xs.T]
    return np.log(np.exp(each) / np.exp(each).sum(-1, keepdims=True))


@pytest.mark.slow
def test_what_is_held_back_is_read_window_by_window():
    """Mean nats of whole windows by hand; the ticks behind the last one are left out."""
    model = sj.serial(sj.embedding(3, 2), sj.recurrent(sj.elman(2, 3)), sj.dense(3, 3))
    params, numbers = model.init(jax.random.key(0)), np.array([0, 2, 1, 1, 0, 2, 2, 1, 0, 1, 2])
    said = logits(model, params, numbers[:8].reshape(2, T).T)
    expected = -np.mean([said[b, t, numbers[T * b + t + 1]] for b in range(2) for t in range(T)])
    assert curvature.measured(model, numbers, T)(params) == pytest.approx(expected, rel=1e-6)


def test_windows_are_followed_by_what_follows():
    batch = curvature.windows(np.arange(40), T, 300, (3, 1))
    np.testing.assert_array_equal(batch.targets, batch.xs + 1)
    np.testing.assert_array_equal(np.diff(batch.xs, axis=0), 1)
    assert set(batch.xs[0]) == set(range(40 - T))  # the last window ends at the last character
    assert not np.array_equal(batch.xs, curvature.windows(np.arange(40), T, 300, (3, 2)).xs)


@pytest.mark.slow
def test_each_way_by_hand():
    """Two updates: Optax's own, and steps whose products read the first two of five windows."""
    model = sj.serial(sj.embedding(3, 2), sj.recurrent(sj.elman(2, 3)), sj.dense(3, 3))
    start, numbers = model.init(jax.random.key(0)), np.arange(60) * 7 % 11 % 3
    draw = lambda size, number: curvature.windows(numbers, T, size, (0, number))

    def loss(params, batch, some=slice(None)):
        _, ys = model.apply(params, model.initial_state(params, batch.xs[:, some].shape[1:]), batch.xs[:, some])
        return ys, lambda ys: optax.softmax_cross_entropy_with_integer_labels(ys, batch.targets[:, some]).mean()

    def value(params, batch):
        ys, mean = loss(params, batch)
        return mean(ys)

    def expected(optimizer, size):
        params, state = start, optimizer.init(start)
        for number in range(2):
            steps, state = optimizer.update(jax.grad(value)(params, draw(size, number)), state)
            params = optax.apply_updates(params, steps)
        return params

    found = {}
    for name, way in curvature.ways(model, 3, 5, 2).items():
        learner = curvature.Learner(way, 0.3, start, draw)
        for _ in range(2):
            learner.turn(learner.spent + 1e-9)
        assert learner.updates == 2
        found[name] = learner.params
    adam = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.3))
    params, state = start, hessian_free(start)
    for number in range(2):
        batch = draw(5, number)
        functions = [
            ((lambda p, b=batch, s=some: (loss(p, b, s)[0], ())), loss(start, batch, some)[1])
            for some in (slice(None), slice(2))
        ]
        params, state, info = hessian_free_step(*functions[0], params, state, curvature=functions[1], iterations=30)
        assert info.accepted
    by_hand = {"Hessian-free": params, "Adam": expected(adam, 3), "gradient descent": expected(optax.sgd(0.3), 5)}
    for name, other in by_hand.items():
        for a, b in zip(jax.tree.leaves(found[name]), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=name)


def test_all_ways_take_turns_and_are_recorded(tmp_path, monkeypatch, capsys):
    """A processor whose clock is told: an update takes one second."""
    clock = iter(range(10**6))
    monkeypatch.setattr(curvature, "time", types.SimpleNamespace(process_time=lambda: float(next(clock))))
    monkeypatch.setattr(curvature, "RATES", {"Hessian-free": (None,), "Adam": (1e-2, 1e-1), "gradient descent": (0.1,)})
    (tmp_path / "box").mkdir()
    (tmp_path / "box" / "input.txt").write_text(TEXT, "utf-8")
    words = "--units 3 --ticks 4 --whole 12 --part 6 --batch-size 3 --seconds 10 --seeds 1"
    files = ["--text", str(tmp_path / "box" / "input.txt"), "--results", str(tmp_path / "a.jsonl")]
    assert curvature.main([*words.split(), *files]) == 0
    rows = record.read(tmp_path / "a.jsonl")
    assert [(row["way"], row["rate"]) for row in rows] == [
        ("Hessian-free", None), ("Adam", 0.01), ("Adam", 0.1), ("gradient descent", 0.1)
    ]  # fmt: skip
    for row in rows:
        assert (row["updates"], row["seed"], row["text"]) == (10, 1, "box")
        assert [spent for spent, _ in row["curve"]] == list(range(1, 11))
        assert row["nats"] == row["curve"][-1][1]
    newton, slow, fast, descent = (row["nats"] for row in rows)
    assert newton < min(slow, fast, descent)  # update by update nothing is as good
    assert fast < slow
    told = capsys.readouterr().out.splitlines()[2:]
    assert len(told) == 5
    assert f"| Hessian-free |  | {newton:.3f} ({newton:.3f} to {newton:.3f}) | 1 | 12, 6 for products | 10 |" in told[0]
    assert f"| Adam | 0.1 of 0.01, 0.1 | {fast:.3f} " in told[1]
    assert told[4].endswith(f"| pairs counted | | {rows[0]['floors']['pairs counted']:.3f} | | | | |")


def row(way, rate, seed, nats):
    """One that was measured."""
    about = {"text": "a", "cell": "elman", "units": 3, "ticks": 4, "seconds": 1.0, "parameters": 5, "part": 2}
    curve = [[float(t), nats + 10 - t] for t in range(1, 11)]
    return about | {
        "floors": {"pairs counted": 2.0}, "way": way, "rate": rate, "seed": seed, "batch_size": 6, "updates": 7,
        "nats": nats, "curve": curve,
    }  # fmt: skip


def test_the_rate_is_that_of_the_best_median():
    """Not of the best seed; the figure shows the same runs."""
    found = [row("Adam", 0.1, seed, nats) for seed, nats in enumerate((1.0, 5.0, 6.0))]
    found += [row("Adam", 0.2, seed, nats) for seed, nats in enumerate((2.0, 3.0, 4.0))]
    (head, _, line, floor) = curvature.table(found)
    assert "| 0.2 of 0.1, 0.2 | 3.000 (2.000 to 4.000) | 3 | 6 | 7 | 12.000, 11.000, 8.000 |" in line
    assert head.count("|") == line.count("|") == floor.count("|")
    (lines, _) = curvature.draw(found).axes[0].get_lines()
    np.testing.assert_allclose(lines.get_ydata(), [13 - t for t in range(1, 11)])
