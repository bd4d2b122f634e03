"""Optimizers, schedules and devices of the commands; options that stored runs do not have."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from seqjax.__main__ import main
from seqjax.recipes.running import devices, learning, optimizers
from seqjax.recipes.running.run import Run


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_every_optimizer_by_name_descends(name):
    options = learning.LearningOptions(optimizer=name, steps=40, learning_rate=0.05)
    optimizer = learning.optimizer_of(options)
    objective = lambda params, state, batch, key=None: (state, sj.tally((params - batch.xs) ** 2))
    step, train = sj.train_step(objective, optimizer), sj.train_state(jnp.ones(3), optimizer)
    for _ in range(5):
        train, _, metrics = step(train, (), sj.Batch(jnp.zeros(3), None))
    assert metrics.loss < 1


def test_schedules_are_their_formulas():
    n, steps, top = np.arange(100), 100, 2.0
    rise = 0.1 * top + 0.9 * top * np.minimum(n, 5) / 5
    done = np.maximum(n - 5, 0)
    falls = {
        "cosine": 0.1 * top + 0.9 * top * (1 + np.cos(np.pi * done / 95)) / 2,
        "linear": top - 0.9 * top * done / 95,
        "inverse-sqrt": top * np.sqrt(5 / np.maximum(n, 5)),
    }
    with jax.numpy_dtype_promotion("standard"):  # as in a step
        for name, fall in falls.items():
            found = [float(optimizers.schedule(name, top, steps)(i)) for i in n]
            np.testing.assert_allclose(found, np.where(n < 5, rise, fall), rtol=1e-6)
        assert {float(optimizers.schedule("constant", top, steps)(i)) for i in n} == {top}
        assert float(optimizers.schedule("inverse-sqrt", top, 3)(0)) == top  # no updates to rise in


def test_a_command_trains_with_another_optimizer(tmp_path, capsys):
    folder = str(tmp_path / "run")
    sizes = ["--hidden-size", "4", "--batch-size", "4", "--steps", "2"]
    asked = ["--optimizer", "lion", "--schedule", "linear"]
    (tmp_path / "text.txt").write_text("to be or not to be " * 200)
    assert main(["charlm", "--text", str(tmp_path / "text.txt"), *sizes, *asked, "--run-dir", folder]) == 0
    options = json.loads((tmp_path / "run" / "config.json").read_text())["options"]
    assert (options["optimizer"], options["schedule"]) == ("lion", "linear")
    assert main(["charlm", "--resume", folder, "--optimizer", "sgd"]) == 2
    assert "expected --optimizer lion as in the run to resume, got sgd" in capsys.readouterr().err


def test_a_run_without_younger_options_has_their_defaults(tmp_path):
    asked = learning.LearningOptions(run_dir=str(tmp_path / "run"), learning_rate=0.5)
    run = Run.create("echo", asked, {})
    for name in asked.__dict__.keys() - {"learning_rate"}:
        del run.config["options"][name]
    found = run.options(learning.LearningOptions)
    assert found == dataclasses.replace(asked, run_dir=None, resume=str(run.folder))


def test_a_preset_decides_the_optimizer(capsys):
    assert main(["wordlm", "--preset", "small", "--optimizer", "sgd"]) == 2
    assert "expected no --optimizer with --preset small" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("cell", "shared"),
    [(sj.lstm(4, 512, dtype=jnp.float32), 2), (sj.lstm(4, 768, dtype=jnp.float32), None), (sj.elman(4, 768), 2)],
)
def test_devices_are_chosen_by_the_recurrent_weights(cell, shared):
    """6 MB: 4 h² numbers of an LSTM, h² of an Elman network."""
    params = jax.eval_shape(sj.serial(sj.recurrent(cell), sj.dense(64, 5000)).init, jax.random.key(0))
    assert devices.share("charlm", 0, 8, params) == shared
    assert devices.share("charlm", 2, 8, params) == 2
