"""DNA to label: what codes, found by a pattern, and that the recipe learns it."""

import dataclasses
import json
import re

import jax
import pytest
from commands import optimised

from seqjax.__main__ import main
from seqjax.recipes import ask, tag
from seqjax.recipes.comparing import several
from seqjax.recipes.language import tagging
from seqjax.recipes.running.run import Run

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


@pytest.fixture
def trained(monkeypatch):
    """The options that training would start from."""
    found = []
    monkeypatch.setattr(tag, "main", found.append)
    return found


def test_dna_has_defaults_of_its_own_and_what_is_given_stays(trained):
    assert main(["tag", "--task", "dna"]) == 0
    assert main(["tag", "--task", "dna", "--layers", "1", "--steps", "300", "--dropout", "0.3"]) == 0
    assert main(["tag"]) == 0
    own, given, others = trained
    expected = {"layers": 2, "dropout": 0.0, "learning_rate": 1e-2, "steps": 1000, "batch_size": 64}
    assert {name: getattr(own, name) for name in expected} == expected
    assert (given.layers, given.steps, given.dropout) == (1, 300, 0.3)  # the defaults of other tasks, but named
    assert (given.learning_rate, given.batch_size, given.hidden_size) == (1e-2, 64, 64)
    assert (others.layers, others.steps, others.dropout, others.learning_rate) == (1, 300, 0.3, 3e-3)


def test_where_tasks_are_compared_all_else_is_the_same(monkeypatch):
    compared = []
    monkeypatch.setattr(several, "main", lambda name, each, run: compared.extend(each))
    assert main(["tag", "--task", "entities", "dna"]) == 0
    assert [options.task for options in compared] == ["entities", "dna"]
    assert dataclasses.replace(compared[1], task="entities") == compared[0]
    compared.clear()
    assert main(["tag", "--task", "dna", "--hidden-size", "8", "16"]) == 0
    assert [(options.layers, options.hidden_size) for options in compared] == [(2, 8), (2, 16)]


def test_a_run_older_than_the_defaults_goes_on_as_it_was_made(trained, tmp_path):
    """Its one layer and its rate are in its folder."""
    made = tag.Options(task="dna", run_dir=str(tmp_path / "run"))
    Run.start("tag", made, {})
    assert main(["tag", "--resume", str(tmp_path / "run")]) == 0
    (options,) = trained
    assert (options.task, options.layers, options.learning_rate, options.steps) == ("dna", 1, 3e-3, 300)


@pytest.mark.slow
@pytest.mark.usefixtures("single")
def test_what_codes_is_learned(tmp_path):
    """Far above the commonest tag of each base; one layer stays at some 83 %."""
    optimised("tag", "--task", "dna", "--steps", "700", "--no-control", "--run-dir", str(tmp_path / "run"))
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["floors"]["accuracy, commonest tag"] < 0.8
    assert result["figures"]["accuracy_both_ways"] > 0.95
    asked = ask.asked_of(str(tmp_path / "run"))
    strand, coding = "TTATGAAATAGTT", "".join(asked.reply("ttatgaaatag tt").text.split()[2:11])
    assert coding == "".join(f"{base}/coding" for base in strand[2:11])
    assert asked.reply(asked.example).text.replace("/coding", "").replace("/other", "") == " ".join(strand)
    assert asked.reply("ATN").unknown == ("N",)
