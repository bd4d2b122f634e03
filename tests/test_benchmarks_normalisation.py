"""The benchmark of normalisation: three networks on the same pictures, evaluated one picture at a time."""

import jax
import numpy as np
import pytest

from benchmarks import normalisation


@pytest.fixture(autouse=True)
def standard():
    """Optax counts on JAX's standard promotion."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.slow
def test_three_curves_in_one_figure(tmp_path, capsys):
    arguments = ["--updates", "8", "--units", "6", "--seeds", "0", "--figure", str(tmp_path / "a.png")]
    assert normalisation.main(arguments) == 0
    rows = capsys.readouterr().out.splitlines()[2:5]
    assert [row[:24].strip() for row in rows] == ["plain", "layer norm", "batch norm of inputs"]
    assert (tmp_path / "a.png").stat().st_size > 5000


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
