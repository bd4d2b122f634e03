"""The benchmark of normalisation: three networks on the same pictures, evaluated one picture at a time."""

import jax
import numpy as np
import pytest

from benchmarks import normalisation, record


@pytest.fixture(autouse=True)
def standard():
    """Optax counts on JAX's standard promotion."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.slow
def test_three_networks_are_recorded_told_and_drawn(tmp_path, capsys):
    files = ["--results", str(tmp_path / "a.jsonl"), "--figure", str(tmp_path / "a.png")]
    assert normalisation.main(["--updates", "8", "--units", "6", "--seeds", "0", *files]) == 0
    rows = record.read(tmp_path / "a.jsonl")
    assert [row["network"] for row in rows] == ["plain", "layer norm", "batch norm of inputs"]
    for row, told in zip(rows, capsys.readouterr().out.splitlines()[2:], strict=True):
        assert [step for step, *_ in row["curve"]] == list(range(9))
        assert row["curve"][-1] == [8, row["nats"], row["right"]]
        assert f"| {row['network']} | 0 to 255 | 8 | {row['nats']:.4f} ({row['nats']:.4f} to {row['nats']:.4f})" in told
    assert (tmp_path / "a.png").stat().st_size > 5000


def test_medians_over_seeds_and_what_is_measured_with_other_sizes_apart():
    def row(units, seed, nats):
        curve = [[step, nats + 8 - step, step / 10] for step in range(9)]
        shape = {"updates": 8, "units": units, "range": 1.0, "learning_rate": 0.1}
        return {**shape, "network": "plain", "seed": seed, "curve": curve}

    found = [row(4, seed, nats) for seed, nats in enumerate((1.0, 5.0, 3.0))] + [row(6, 0, 9.0)]
    (_, _, first, second) = normalisation.table(found)
    assert first == "| plain | 0 to 1 | 8 | 3.0000 (1.0000 to 5.0000) | 80.0% (80.0% to 80.0%) | 3 | 9.0000, 20.0% |"
    assert second.startswith("| plain | 0 to 1 | 8 | 9.0000 (9.0000 to 9.0000)")
    line, chance = normalisation.draw(found).axes[0].get_lines()
    np.testing.assert_allclose(line.get_xydata(), [(step, 11 - step) for step in range(9)])
    np.testing.assert_allclose(chance.get_ydata(), np.log(10))


@pytest.mark.slow
def test_what_is_normalised_over_the_batch_learns_from_unscaled_pictures():
    xs, _ = normalisation.pictures(0, 1, 255.0)
    ends = {}
    for name, network in normalisation.networks(xs.shape[-1], 24).items():
        ends[name] = normalisation.course(normalisation.classifier(network, 24), 0, 120, 255.0, 1e-2)[-1]
    assert ends["batch norm of inputs"][2] > max(0.6, ends["plain"][2] + 0.1)


@pytest.mark.slow
def test_evaluation_is_picture_by_picture():
    """By the statistics of training: no picture changes the answer to another."""
    xs, digits = normalisation.pictures(1, 5, 255.0)
    more, _ = normalisation.pictures(2, 30, 255.0)
    network = normalisation.networks(xs.shape[-1], 6)[normalisation.BATCH_NORM]
    model = normalisation.classifier(network, 6)
    params = normalisation.evaluated(model, model.init(jax.random.key(0)), more)
    whole = normalisation.figures(model, params, xs, digits)
    each = [normalisation.figures(model, params, xs[:, b : b + 1], digits[b : b + 1]) for b in range(5)]
    np.testing.assert_allclose(whole, np.mean(each, 0), rtol=1e-9)
