"""Files that are split already: what is learned, held back and tested is what was named, and the test is asked once."""

import dataclasses
import hashlib
import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from marks import quick

from seqjax.__main__ import COMMANDS, main
from seqjax.recipes import caption, forecast, music, score
from seqjax.recipes.language import characters
from seqjax.recipes.running import learning, splits
from seqjax.recipes.running.run import Run

TREE = ["the/D cat/N ran/V", "a/D dog/N ate/V", "cat/N ate/V", "the/D hen/N ran/V", "a/D hen/N sat/V", "dogs/N ran/V"]
SIZES = ["--batch-size", "2", "--hidden-size", "4", "--learning-rate", "0.3", "--schedule", "constant"]
TEXT = [*SIZES, "--window", "6", "--embedding-size", "3"]


@pytest.fixture(scope="module", autouse=True)
def _settings(patch):
    """Six evaluations, of few examples."""
    patch.setattr(learning, "EVALUATIONS", 6)
    patch.setattr(music, "EVALUATIONS", 6)
    patch.setattr(caption, "HELD_BACK", 6)
    patch.setattr(forecast, "STARTS", 3)


def text(n):
    """One that contradicts the others."""
    return ["ab" * 90 + "ba" * 9, "aabbb" * 14, "abbab" * 12][n]


def sentences(n):
    return "".join(f"{['a', 'the', 'it'][n]} {a} cat {b} it .\n" for a in ("red", "old") for b in ("saw", "ate") * 4)


def tree(n):
    rows = [[pair.rsplit("/", 1) for pair in s.split()] for s in np.roll(TREE, n).tolist()[: 6 - n] * 2]
    return "".join(
        "".join(f"{i}\t{w}\t_\t{t}\t_\t_\t0\t_\t_\t_\n" for i, (w, t) in enumerate(r, 1)) + "\n" for r in rows
    )


def pairs(n):
    return "".join(f"{['one', 'two', 'no'][n]} {a} {b}\t{b} un {a}\n" for a in "abcd" for b in "xyz")


def series(n):
    return "\n".join(f"{np.sin(t / (2 + n)) + 0.1 * n:.4f}" for t in range(120))


def surnames(path, n):
    path.mkdir()
    for language in ("Greek", "Irish"):
        (path / f"{language}.txt").write_text("".join(f"{language[:2]}{n}{c}{'is' * (n + 1)}\n" for c in "abcdefgh"))


def images(path, n):
    rng = np.random.default_rng(n)
    arrays = rng.integers(0, 256, (30, 8, 6)).astype(np.uint8), (np.arange(30) % 10).astype(np.uint8)
    for name, array in zip((path.name, path.name.replace("images-idx3", "labels-idx1")), arrays):
        head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        path.with_name(name).write_bytes(head + array.tobytes())


def rolls(path, n):
    rng = np.random.default_rng(n)
    cells = {}
    for part in ("train", "valid", "test"):
        found = np.empty((1, 3), object)
        for i in range(3):
            found[0, i] = (rng.random((5 + i, 88)) < 0.1) * 1.0
        cells[f"{part}data"] = found
    chosen = path.name.removesuffix(".mat")
    if chosen == "held":  # what one file has of the other's, for both orders
        cells["testdata"] = cells["validdata"]
    if chosen == "tested":
        cells["validdata"] = cells["testdata"]
    scipy.io.savemat(path, cells)


def written(of):
    return lambda path, n: path.write_text(of(n))


# The options of a command, the name of its files, how the n-th of them is made, and what is lowest at the best step.
CASES = {
    "charlm": ([*TEXT, "--length", "3"], "{}.txt", written(text), lambda r: r["validation_loss"]),
    "wordlm": ([*TEXT, "--dropout", "0"], "{}.txt", written(sentences), lambda r: r["validation_perplexity"]),
    "ngramlm": (
        [*TEXT, "--length", "3"],
        "{}.txt",
        written(text),
        lambda r: r["nats_fixed_window"] + r["nats_recurrent"],
    ),
    "hmm-learn": (
        ["--restarts", "2", "--window", "50", "--smoothing", "3"],
        "{}.txt",
        written(text),
        lambda r: r["nats_2_states"] + r["nats_3_states"],
    ),
    "tag": (
        [*SIZES, "--dropout", "0", "--buckets", "1"],
        "{}.conllu",
        written(tree),
        lambda r: -r["accuracy_both_ways"] - r["accuracy_left_to_right"],
    ),
    "translate": ([*SIZES, "--beam", "1", "--no-control"], "{}.tsv", written(pairs), lambda r: -r["exact_translator"]),
    "forecast": (
        [*SIZES, "--window", "8", "--warm-up", "5", "--horizon", "3"],
        "{}.txt",
        written(series),
        lambda r: r["furthest"],
    ),
    "music": ([*SIZES, "--dropout", "0", "--prompt", "2", "--length", "2"], "{}.mat", rolls, lambda r: r["valid"]),
    "classify surnames": ([*SIZES, "--task", "surnames"], "{}", surnames, lambda r: -r["accuracy_gru"]),
    "classify digits": ([*SIZES, "--task", "digits"], "{}-images-idx3-ubyte", images, lambda r: -r["accuracy_gru"]),
    "caption": (
        [*SIZES, "--channels", "2", "--shortest", "1", "--longest", "2"],
        "{}-images-idx3-ubyte",
        images,
        lambda r: -r["exact"],
    ),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(case):
    """Names of three files that are made: to learn from, held back, tested."""
    _, name, make, _ = CASES[case]
    found = [name.format(kind) for kind in ("train", "held", "tested")]
    for n, path in enumerate(found):
        make(Path(path), n)
    return found


def ran(case, folder, *more, steps=18):
    command = case.split()[0]
    assert main([command, *CASES[case][0], *more, "--steps", str(steps), "--run-dir", folder]) == 0
    return Run.open(command, folder)


def evaluations(run):
    return [record for record in run.metrics() if "loss" not in record]


@pytest.mark.parametrize("case", quick(CASES, "charlm"))
def test_the_test_is_what_evaluations_of_that_file_say_at_the_best_step(case, folder, capsys):
    """Held back and test swapped change nothing of what is learned: the test of one run is recorded by the other."""
    train, held, tested = files(case)
    one = ran(case, "one", "--train", train, "--held-back", held, "--test", tested)
    said = capsys.readouterr().out
    other = ran(case, "other", "--train", train, "--held-back", tested, "--test", held)
    for run, swapped in ((one, other), (other, one)):
        figures = {record["step"]: CASES[case][3](record) for record in evaluations(run)}
        found = json.loads((run.folder / "result.json").read_text())["test"]
        assert figures[found["step"]] == min(figures.values())
        [expected] = [record for record in evaluations(swapped) if record["step"] == found["step"]]
        names = {name.removeprefix("validation_").replace("valid", "test"): x for name, x in expected.items()}
        names.pop("step")
        assert found["figures"] == pytest.approx(names, rel=1e-5, abs=1e-9)
    if case == "charlm":
        best = json.loads((one.folder / "result.json").read_text())["test"]
        assert best["step"] < 18  # it is not the last one
        line = (
            f"test (nats a character) with the parameters of step {best['step']}, the best on what is held back: loss "
        )
        assert said.count(f"{line}{best['figures']['loss']:.5g}, bits") == 1
    made = one.config["facts"]
    digests = {made[f"sha256_{name}"] for name in splits.NAMES}
    assert len(digests) == 3
    if Path(train).is_file():
        assert made["sha256_train"] == hashlib.sha256(Path(train).read_bytes()).hexdigest()


@pytest.mark.slow
def test_a_run_of_split_files_goes_on_and_scores(folder, capsys):
    """With more steps and with a test that it had none of; with other data it does not."""
    train, held, tested = files("charlm")
    ran("charlm", "run", "--train", train, "--held-back", held, steps=6)
    assert "test" not in json.loads(Path("run/result.json").read_text())
    assert main(["charlm", "--resume", "run", "--steps", "9", "--test", tested, "--schedule", "constant"]) == 0
    found = json.loads(Path("run/result.json").read_text())["test"]
    run = Run.open("charlm", "run")
    model, params, vocabulary = characters.trained("score", "run")
    if found["step"] != run.last_step():
        options = run.options(importlib.import_module(COMMANDS["charlm"]).Options)
        params = run.restore_best(characters.initial(model, options), learning.params_of)
    numbers = vocabulary.encode(Path(tested).read_text())
    nats = -score.log_probability(model, params, numbers) / (len(numbers) - 1)
    assert found["figures"]["loss"] == pytest.approx(nats, rel=1e-5)
    assert main(["score", "run", "--text", tested]) == 0
    Path(held).write_text(text(1)[:-1])
    capsys.readouterr()
    assert main(["charlm", "--resume", "run", "--steps", "12"]) == 2
    assert "got other data (its sha256_held_back differs)" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in CASES if case not in ("classify digits", "caption")])
def test_training_data_alone_are_split_as_one_file(case, folder):
    """``--train FILE`` is ``--data FILE``, which is also called ``--text``; the test is no part of either."""
    train, _, tested = files(case)
    more = ["--held-back", "4"] if case == "translate" else []
    runs = [ran(case, "run", "--train", train, "--test", tested, *more, steps=3)]
    runs.append(ran(case, "run-data", "--data", train, *more, steps=3))
    if case == "charlm":
        runs.append(ran(case, "run-text", "--text", train, steps=3))
    numbers = [evaluations(run) for run in runs]
    assert all(found == numbers[0] for found in numbers)


@pytest.mark.slow
def test_the_best_reservoir_is_tested(folder):
    """On a test that is what is held back the best reservoir has the best error there."""
    for n, name in enumerate(("train", "held", "tested")):
        Path(f"{name}.txt").write_text("\n".join(f"{np.sin(t / 3 + n):.6f}" for t in range(130)))
    options = ["--units", "12", "--washout", "20", "--free", "30", "--reservoirs", "3", "--ridge", "1e-4"]
    run = ["reservoir", *options, "--train", "train.txt", "--held-back", "held.txt"]
    assert main([*run, "--test", "held.txt", "--run-dir", "same"]) == 0
    errors = {line["step"]: line["error"] for line in Run.open("reservoir", "same").metrics()}
    best = min(errors, key=errors.get)
    found = json.loads(Path("same/result.json").read_text())["test"]["figures"]
    assert found == {f"seed {best}, the best on what is held back": pytest.approx(errors[best], rel=1e-6)}
    assert main([*run, "--test", "tested.txt", "--run-dir", "other"]) == 0
    assert list(json.loads(Path("other/result.json").read_text())["test"]["figures"]) == list(found)
    assert main(["reservoir", *options, "--train", "99", "--data", "train.txt", "--run-dir", "number"]) == 0
    assert main(["reservoir", *options, "--train", "train.txt", "--run-dir", "alone"]) == 0
    lines = [[r["error"] for r in Run.open("reservoir", name).metrics()] for name in ("number", "alone")]
    assert lines[0] == lines[1]  # 130 ticks: 99 to learn from, one to begin with, 30 to run freely


@pytest.mark.slow
def test_hmm_tag_is_measured_on_both_files(folder, capsys):
    train, held, tested = files("tag")
    Path(tested).write_text(tree(2).replace("ate\t_\tV", "ate\t_\tN"))
    for name, more in (("both", ["--held-back", held, "--test", tested]), ("test", ["--test", held])):
        assert main(["hmm-tag", "--train", train, *more, "--sentence", "the cat", "--run-dir", name]) == 0
    results = [json.loads(Path(name, "result.json").read_text()) for name in ("both", "test")]
    assert results[1]["test"]["figures"] == results[0]["figures"]
    assert results[0]["test"]["figures"] != results[0]["figures"]
    assert "test (accuracy): best path" in capsys.readouterr().out
    Path("nine.conllu").write_text(tree(0) + tree(0)[: len(tree(0)) // 2 + 1])
    assert main(["hmm-tag", "--data", train, "--sentence", "the cat", "--run-dir", "data"]) == 0
    assert "2 sentences held back" in capsys.readouterr().out  # the last tenth of twelve


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_that_learns_from_files_takes_them(name):
    options = importlib.import_module(COMMANDS[name]).Options
    fields = {field.name for field in dataclasses.fields(options)}
    reads = {"data", "text", "train"} & fields and name != "score"  # which learns nothing
    assert bool(reads) == issubclass(options, splits.SplitOptions)
    assert not reads or options.whole in fields


REFUSED = {
    "a test alone": (["charlm", "--test", "x"], "charlm: expected --train with --test, got none. Name the file"),
    "held back alone": (["forecast", "--held-back", "x"], "forecast: expected --train with --held-back, got none."),
    "held back of data": (["tag", "--data", "x", "--held-back", "y"], "tag: expected --train with --held-back"),
    "both": (["translate", "--data", "x", "--train", "y"], "translate: expected --data, a file to be split, or"),
    "text": (["wordlm", "--text", "x", "--train", "y"], "wordlm: expected --text, a file to be split, or"),
    "number": (["translate", "--held-back", "0"], "translate: expected --held-back to be a whole number"),
    "generated": (["forecast", "--train", "x", "--series", "walk"], "forecast: expected no --series with --train"),
    "task": (["classify", "--train", "x"], "classify: expected --task surnames or digits with --train, got halves."),
    "no file": (["music", "--train", "x"], "music: "),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_in_words(name, folder, capsys):
    command, said = REFUSED[name]
    assert main(command) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(said)
    assert not list(folder.rglob("*"))


def test_a_language_that_nobody_teaches_is_refused(folder, capsys):
    train, held, _ = files("classify surnames")
    (Path(held) / "Welsh.txt").write_text("Llan\n")
    assert main(["classify", "--task", "surnames", "--train", train, "--held-back", held]) == 2
    assert "expected the languages that are learned from in every folder, got Welsh." in capsys.readouterr().err


def test_a_folder_is_known_by_the_names_and_contents_of_its_files(folder):
    surnames(Path("names"), 0)
    before = splits.digest(Path("names"))
    Path("names/Irish.txt").rename("names/Welsh.txt")
    renamed = splits.digest(Path("names"))
    Path("names/Welsh.txt").write_text("Llan\n")
    assert len({before, renamed, splits.digest(Path("names"))}) == 3
