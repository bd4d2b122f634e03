"""charlm with blocks: it trains, is resumed, writes, and tells what does not go together."""

import json

import jax
import pytest

import seqjax as sj
from seqjax.__main__ import main
from seqjax.recipes.language.characters import trained
from seqjax.recipes.running import learning
from seqjax.recipes.running.cells import CELLS, block_of

TEXT = "aab" * 100 + "\n"
SIZES = ["--hidden-size", "8", "--embedding-size", "4", "--batch-size", "2", "--window", "8"]
SMALL = ["--text", "text.txt", *SIZES, "--learning-rate", "0.05"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working directory with a text in it, and two validations a run."""
    monkeypatch.setattr(learning, "EVALUATIONS", 2)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


PUBLISHED = {
    "griffin": "rglru",
    "mamba": "selective-state-space",
    "minimal": "mingru",
    "xlstm": "mlstm",
    "s5": "s5",
    "attention": "lstm",
}


@pytest.mark.slow
@pytest.mark.parametrize("block", PUBLISHED)
def test_a_block_learns_what_bigrams_cannot(folder, capsys, block):
    """And goes on, writes, and is what the run's own options say; the held-back text begins without its past."""
    command = ["charlm", *SMALL, "--length", "12", "--block", block, "--cell", PUBLISHED[block], "--run-dir", "run"]
    assert main([*command, "--steps", "60"]) == 0
    assert main(["charlm", "--resume", "run", "--steps", "80"]) == 0
    result = json.loads((folder / "run" / "result.json").read_text("utf-8"))
    assert result["figures"]["validation_loss"] < 0.8 * result["floors"]["bigrams"]
    capsys.readouterr()
    assert main(["sample", "run", "--prompt", "aab", "--length", "12", "--temperature", "0"]) == 0
    assert "aabaabaab" in capsys.readouterr().out
    model, _, _ = trained("sample", "run")
    body = repr(sj.models.deep_blocks(8, block=block_of(block, PUBLISHED[block])))
    assert body in repr(model)


ERRORS = {
    "watched": (
        ["--block", "griffin", "--watch-gradients", "5"],
        "charlm: expected no --watch-gradients with --block griffin, got both. It looks at",
    ),
    "a cell of attention": (
        ["--block", "attention", "--cell", "gru"],
        "charlm: expected no --cell with --block attention, got both. Leave one of them out.",
    ),
    "heads": (
        ["--block", "attention", "--hidden-size", "36"],
        "charlm: expected --hidden-size to be a multiple of 8 with --block attention, got 36. Change it.",
    ),
    "heads of the norm": (
        ["--block", "xlstm", "--hidden-size", "7"],
        "charlm: expected --hidden-size to be a multiple of 2 with --block xlstm, got 7. Change it.",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_does_not_go_together_is_told(folder, capsys, name):
    options, sentence = ERRORS[name]
    assert main(["charlm", "--text", "text.txt", *options]) == 2
    assert sentence in capsys.readouterr().err
    assert not (folder / "runs").exists()


def test_a_matrix_by_name_has_heads_of_about_64_units():
    """With one head a tick of 256 units would cost four times as much; where the state is a vector nothing is cut."""
    for name in ("mlstm", "delta-rule", "gated-delta-rule", "linear-attention-input", "m2rnn"):
        for size, heads in ((8, 1), (256, 4), (650, 10)):
            cell = CELLS[name](3, size)
            assert f"heads={heads}" in repr(cell) or heads == 1
            state = jax.eval_shape(lambda cell=cell: cell.initial_state(cell.init(jax.random.key(0))))
            assert jax.tree.leaves(state)[0].shape == (heads, size // heads, size // heads)
    assert repr(CELLS["slstm"](3, 256)) == "slstm(3, 256)"
    assert repr(block_of("xlstm", "mlstm")(8)) == "xlstm_block(8, cell=mlstm)"
