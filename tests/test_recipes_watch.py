"""Watching the gradient of a run: against the gradient of a perturbation, and what a resumed run leaves."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from seqjax.__main__ import main
from seqjax.recipes import charlm
from seqjax.recipes.language import characters
from seqjax.recipes.running import watch
from seqjax.recipes.running.run import Run
from seqjax.tasks.batches import streams

TEXT = "abcab cab bac. " * 40
COMMAND = "charlm --text text.txt --layers 2 --hidden-size 6 --embedding-size 3 --batch-size 10 --window 7 --length 5"


@pytest.fixture(autouse=True)
def _settings():
    with jax.numpy_dtype_promotion("standard"):  # Optax counts on it
        yield


@pytest.mark.slow
def test_a_watched_run_records_the_gradient_and_draws_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    command = [*COMMAND.split(), "--steps", "9", "--run-dir", "run", "--dropout", "0.5", "--watch-gradients", "4"]
    assert main(command) == 0
    lines = watch.records(Run.open("charlm", "run"))
    assert [line["step"] for line in lines] == [1, 4, 8]
    assert (tmp_path / "run" / "gradients.png").read_bytes()[:4] == b"\x89PNG"
    assert "where the gradient went: run/gradients.png" in capsys.readouterr().out

    # The first record again, from the initial parameters: gradients of perturbations of both layers' states.
    options = Run.open("charlm", "run").options(charlm.Options)
    numbers = sj.tasks.Vocabulary.build([TEXT], specials=()).encode(TEXT)
    kinds = len(set(TEXT))
    params = characters.initial(characters.language_model(options, kinds), options).train.params
    columns = streams(numbers[: int(0.9 * len(numbers))], 10)[:8, :8]
    cell = sj.stack(sj.lstm(3, 6), sj.lstm(6, 6))
    (embedding, first), second = params[0], params[2]
    inner = first, second
    state = cell.initial_state(inner, (8,))

    def loss(epsilon):
        _, ys = sj.unroll(sj.perturbed(cell), inner, state, (embedding.w[columns[:-1]], epsilon), engine="scan")
        logits = jax.nn.log_softmax(ys @ params[-1].w + params[-1].b)
        return -jnp.take_along_axis(logits, jnp.asarray(columns[1:])[..., None], -1).sum() / 7

    leaves = jax.tree.leaves(jax.grad(loss)(sj.zero_perturbation(state, 7)))
    expected = np.sqrt(sum((g**2).sum(-1) for g in leaves)).mean(1)
    np.testing.assert_allclose(lines[0]["loss_gradient"], expected, rtol=1e-5)
    assert lines[0]["log_stretch"][-1] == pytest.approx(0, abs=1e-9)
    assert set(lines[0]["saturation"]) == {"σ near 0", "σ near 1", "tanh near ±1"}
    assert 1 <= lines[0]["memory_length"] <= 7


def test_records_behind_the_checkpoint_are_written_again(tmp_path):
    run = Run(tmp_path, {"recipe": "charlm"})
    for step in (1, 4, 8, 4):
        watch.record(run, {"step": step, "memory_length": 2.5})
    lines = (tmp_path / "gradients.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 4]


@pytest.mark.slow
def test_watching_is_off_without_the_option(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    assert main([*COMMAND.split(), "--steps", "1", "--run-dir", "run"]) == 0
    assert not (tmp_path / "run" / "gradients.jsonl").exists()


def test_a_negative_number_is_refused(capsys):
    assert main(["charlm", "--watch-gradients", "-1"]) == 2
    assert "expected --watch-gradients of at least 0" in capsys.readouterr().err
