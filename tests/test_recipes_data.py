"""Recipes and their data: other data than a run was made of, labels that cannot be learned, nothing half written."""

import json

import numpy as np
import pytest
from marks import quick

from seqjax import tasks
from seqjax.__main__ import main
from seqjax.recipes import classify
from seqjax.recipes.classify import sequences
from seqjax.recipes.language import tagging
from seqjax.recipes.running import learning

TINY = ["--steps", "2", "--batch-size", "4", "--hidden-size", "4"]
NAMES = {"a.txt": ["anna", "anka", "arne", "asta", "aron"], "b.txt": ["bert", "bodo", "beat", "björn", "berta"]}


@pytest.fixture(scope="module", autouse=True)
def _settings(patch):
    """One validation is enough."""
    patch.setattr(learning, "EVALUATIONS", 1)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys, command):
    """The one line on stderr of a refused command."""
    capsys.readouterr()
    assert main(command) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def names(folder):
    for file, lines in NAMES.items():
        (folder / file).write_text("\n".join(lines))


def conllu(*sentences):
    """Sentences of ``word/tag`` in columns."""
    rows = [[pair.rsplit("/", 1) for pair in sentence.split()] for sentence in sentences]
    lines = ["".join(f"{i}\t{w}\t_\t{t}\t_\t_\t0\t_\t_\t_\n" for i, (w, t) in enumerate(row, 1)) + "\n" for row in rows]
    return "".join(lines)


SENTENCES = ["the/D cat/N ran/V", "a/D dog/N ate/V", "cat/N ate/V", "the/D hen/N ran/V"]


@pytest.mark.parametrize("name", quick(["classify", "translate", "tag"], "classify"))
def test_a_run_knows_its_data_again(folder, capsys, name):
    """One name, word or translation that is another: as many lines, as many classes, refused all the same."""
    (folder / "names").mkdir()
    names(folder / "names")
    (folder / "pairs.tsv").write_text("".join(f"{n} cats\t{n} chats\n" for n in "abcdefghijklmnopqrst"))
    (folder / "train.conllu").write_text(conllu(*SENTENCES * 5))
    changes = {
        "classify": (
            ["--task", "surnames", "--data", "names"],
            lambda: (folder / "names" / "a.txt").write_text("\n".join([*NAMES["a.txt"][:-1], "axel"])),
        ),
        "translate": (
            ["--data", "pairs.tsv", "--held-back", "4", "--embedding-size", "4"],
            lambda: (folder / "pairs.tsv").write_text((folder / "pairs.tsv").read_text().replace("chats", "chiens")),
        ),
        "tag": (
            ["--train", "train.conllu", "--embedding-size", "4"],
            lambda: (folder / "train.conllu").write_text(conllu(*SENTENCES * 5).replace("cat", "cow")),
        ),
    }
    options, change = changes[name]
    assert main([name, *TINY, *options, "--run-dir", name]) == 0
    assert main([name, "--resume", name, "--steps", "3"]) == 0
    change()
    said = refused(capsys, [name, "--resume", name, "--steps", "4"])
    assert f"{name}: expected the data of the run to resume, got other data (its sha256 differs)" in said
    assert json.loads((folder / name / "config.json").read_text())["options"]["steps"] == 3


def test_no_name_is_on_both_sides(folder):
    """Names that come twice are learned or asked, not both."""
    for file, lines in NAMES.items():
        (folder / file).write_text("\n".join(lines * 4))
    task = sequences.surnames_of(classify.Options(data=str(folder)), 0)
    asked = task.held_back(np.random.default_rng(0))
    learned = task.draw(np.random.default_rng(0), 500)
    sides = [{(tuple(xs[m]), y) for xs, m, y in zip(part.xs.T, part.mask.T, part.targets)} for part in (learned, asked)]
    assert len(sides[0]) + len(sides[1]) == 10
    assert not sides[0] & sides[1]


def test_tags_that_cannot_be_learned_are_refused(folder, capsys):
    (folder / "train.conllu").write_text(conllu(*SENTENCES))
    (folder / "other.conllu").write_text(conllu("the/D cat/N", "oh/INTJ no/D"))
    for name in ("tag", "hmm-tag"):
        said = refused(capsys, [name, "--train", "train.conllu", "--held-back", "other.conllu", "--run-dir", "run"])
        assert said == (
            f"{name}: expected the tags held back to occur among those to learn from, got INTJ of 'oh' in 'oh no'. "
            "Learn from more sentences, or leave that one out."
        )
        assert not (folder / "run").exists()


def test_a_stray_tag_counts_as_no_entity():
    """Entities are scored where the true tags are BIO, whatever is found."""
    sentences = [tasks.Sentence(("Alan", "Turing", "wrote"), ("B-PER", "I-PER", "O"))]
    assert tagging.scores([("B-PER", "I-PER", "PER")], sentences) == {"accuracy": pytest.approx(2 / 3), "f1": 1.0}
    assert tagging.scores([("PER", "PER", "O")], sentences)["f1"] == 0


TRAINED = "charlm wordlm ngramlm classify tag translate execute addition agreement speech memory caption music forecast"


@pytest.mark.parametrize("name", TRAINED.split())
def test_devices_are_refused_before_anything_is_written(name, folder, capsys):
    said = refused(capsys, [name, "--devices", "3", "--run-dir", "run"])
    assert said.startswith(f"{name}: expected --devices to divide the batch size ")
    assert not (folder / "run").exists()


def test_a_washout_without_end_is_refused_before_anything_is_written(folder, capsys):
    said = refused(capsys, ["reservoir", "--train", "200", "--washout", "200", "--run-dir", "run"])
    assert said == "reservoir: expected --washout below --train 200, got 200. Lower it."
    assert not (folder / "run").exists()
    (folder / "run").mkdir()
    (folder / "run" / "file").touch()
    assert refused(capsys, ["reservoir", "--run-dir", "run"]).endswith("with files in it. Choose another folder.")


@pytest.mark.slow
def test_a_forecast_of_one_tick(folder, monkeypatch):
    (folder / "series.txt").write_text("\n".join(f"{v:.6f}" for v in np.sin(np.arange(400) / 5)))
    command = ["forecast", *TINY, "--data", "series.txt", "--horizon", "1", "--warm-up", "20", "--run-dir", "run"]
    assert main([*command, "--window", "20"]) == 0
    assert (folder / "run" / "forecast.png").stat().st_size > 500


@pytest.mark.slow
def test_a_refused_resume_changes_nothing(folder, capsys):
    (folder / "text.txt").write_text("aab" * 100)
    small = ["--batch-size", "2", "--window", "8", "--hidden-size", "4", "--embedding-size", "4", "--length", "5"]
    assert main(["charlm", "--text", "text.txt", *small, "--steps", "2", "--run-dir", "run"]) == 0
    config, metrics = folder / "run" / "config.json", folder / "run" / "metrics.jsonl"
    before = config.read_bytes()
    lines = metrics.read_bytes()
    metrics.write_bytes(b"no line\n" + lines)
    assert "metrics.jsonl" in refused(capsys, ["charlm", "--resume", "run", "--steps", "9"])
    metrics.write_bytes(lines)
    for step in ["2"]:
        place = folder / "run" / "checkpoints" / step / "state"
        array = next(path for path in place.rglob("*") if path.stat().st_size > 100)
        array.write_bytes(array.read_bytes()[:-1])
    assert "got a damaged one" in refused(capsys, ["charlm", "--resume", "run", "--steps", "9"])
    assert config.read_bytes() == before
    assert metrics.read_bytes() == lines
