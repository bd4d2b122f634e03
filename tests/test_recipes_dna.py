"""DNA to label: what codes, found by a pattern, and that the recipe learns it."""

import json
import re

import jax
import pytest

from seqjax.__main__ import main
from seqjax.recipes import ask
from seqjax.recipes.language import tagging

GENE = re.compile(r"ATG(?:...)*?(?:TAA|TAG|TGA)")


def test_what_codes_is_from_the_first_start_to_the_first_stop_in_its_frame():
    train, held_back = tagging.strands(0)
    assert {len(sentence.words) for sentence in held_back} == {30}
    assert {len(sentence.words) for sentence in train} == {12, 18, 30}
    for sentence in [*train[::40], *held_back]:
        strand = "".join(sentence.words)
        found = GENE.match(strand, max(strand.find("ATG"), 0))
        first, last = found.span() if found else (0, 0)
        assert sentence.tags == tuple("coding" if first <= t < last else "other" for t in range(len(strand)))
    assert not {sentence.words for sentence in held_back} & {sentence.words for sentence in train}


@pytest.fixture
def single():
    """Runs are of float32, and Optax multiplies floats by integers of its own."""
    jax.config.update("jax_enable_x64", False)
    with jax.numpy_dtype_promotion("standard"):
        yield
    jax.config.update("jax_enable_x64", True)


@pytest.mark.slow
@pytest.mark.usefixtures("single")
def test_two_layers_learn_what_codes(tmp_path):
    """Far above the commonest tag of each base; one layer stays at some 83 %."""
    words = "--layers 2 --dropout 0 --steps 800 --batch-size 64 --learning-rate 1e-2 --no-control"
    small = "--characters 1 --character-hidden-size 2"
    assert main(["tag", "--task", "dna", *words.split(), *small.split(), "--run-dir", str(tmp_path / "run")]) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["floors"]["accuracy, commonest tag"] < 0.8
    assert result["figures"]["accuracy_both_ways"] > 0.95
    asked = ask.asked_of(str(tmp_path / "run"))
    strand, coding = "TTATGAAATAGTT", "".join(asked.reply("ttatgaaatag tt").text.split()[2:11])
    assert coding == "".join(f"{base}/coding" for base in strand[2:11])
    assert asked.reply(asked.example).text.replace("/coding", "").replace("/other", "") == " ".join(strand)
    assert asked.reply("ATN").unknown == ("N",)
