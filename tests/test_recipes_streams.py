"""A character model is trained in parallel over time and writes tick by tick: with the same probabilities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from seqjax.__main__ import main
from seqjax.recipes.language import characters
from seqjax.recipes.running.cells import CELLS

TICKS = 70  # two chunks and a rest
TEXT = "how many boards could the mongols hoard if the mongol hordes got bored\n" * 30
WAYS = {
    "mingru": ["linear, number by number"],
    "mlstm": [
        "linear, number by number, in max and +", "linear, a matrix by chunks", "linear, number by number",
    ],
    "delta-rule": ["linear, a matrix by chunks, a triangular system each"],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("cell", WAYS)
def test_training_and_writing_have_the_same_probabilities(cell, patch, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    sizes = ["--hidden-size", "64", "--layers", "1", "--batch-size", "4", "--devices", "1", "--steps", "3"]
    assert main(["charlm", "--text", "text.txt", "--cell", cell, *sizes, "--run-dir", "run"]) == 0
    model, params, vocabulary = characters.trained("sample", "run")
    read = jnp.asarray(characters.encode("", vocabulary, TEXT)[:TICKS])
    start = model.initial_state(params, (1,))

    def probabilities(params):
        return jax.nn.softmax(model.apply(params, start, read[:, None])[1])

    # What a gradient computes: a CPU that only reads runs ticks.
    together = jax.jit(lambda params: jax.vjp(probabilities, params)[0])(params)[:, 0]
    writer = sj.as_cell(model)
    step = jax.jit(writer.step)
    state, rows = start, []
    for symbol in read:
        state, logits = step(params, state, symbol[None])
        rows.append(jax.nn.softmax(logits)[0])
    np.testing.assert_allclose(together, rows, atol=1e-12)
    assert np.ptp(together, axis=0).max() > 1e-3  # not one distribution for all ticks


@pytest.mark.parametrize("name", WAYS)
def test_trained_in_parallel_over_time(name):
    """The cells of these commands, at these sizes."""
    cell = CELLS[name](64, 64)
    params = jax.eval_shape(cell.init, jax.random.key(0))
    state = jax.eval_shape(lambda p: cell.initial_state(p, (4,)), params)
    plan = sj.explain(cell, params, state, jax.ShapeDtypeStruct((TICKS, 4, 64), jnp.float64))
    assert [loop.way for loop in plan.loops if loop.way] == WAYS[name]
