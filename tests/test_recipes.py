"""The command line: a run and what it leaves, going on after Ctrl-C, and one sentence for every bad input."""

import dataclasses
import json
import os
import pkgutil
import re
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

import seqjax as sj
from seqjax import recipes
from seqjax.__main__ import COMMANDS, main
from seqjax.recipes import charlm, sample, score
from seqjax.recipes.language import characters, text
from seqjax.recipes.running import learning
from seqjax.recipes.running.run import Run
from seqjax.recipes.running.trackers import JsonLines

# "b" follows "a" or not according to the letter before: a bigram model is in doubt where a memory is not.
TEXT = "aab" * 100 + "\n"
SMALL = [
    "--hidden-size",
    "8",
    "--embedding-size",
    "4",
    "--batch-size",
    "2",
    "--window",
    "8",
    "--learning-rate",
    "0.05",
    "--length",
    "20",
]


@pytest.fixture(scope="module", autouse=True)
def _settings(patch):
    """Two validations are enough."""
    patch.setattr(learning, "EVALUATIONS", 2)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working directory with a text in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that has learned the text, and what it printed."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "text.txt").write_text(TEXT)
    command = [
        *SMALL,
        "--text",
        str(folder / "text.txt"),
        "--steps",
        "60",
        "--seed",
        "1",
        "--run-dir",
        str(folder / "run"),
    ]
    assert main(["charlm", *command]) == 0
    return folder / "run"


def charlm_command(*extra, run="run"):
    return ["charlm", *SMALL, "--text", "text.txt", "--run-dir", run, *extra]


def test_a_run_learns_and_leaves_its_files(trained):
    run = Run.open("charlm", trained)
    records = run.metrics()
    validation = [r["validation_loss"] for r in records if "validation_loss" in r]
    assert len(validation) == 2
    bigram = run.config["facts"]["bigram_loss"]
    assert bigram > 0.6  # the doubt of ln 2 after "a", at two characters of three, and smoothing
    assert validation[-1] < 0.5 * bigram
    training = [r for r in records if "loss" in r]
    assert {"step", "loss", "bits", "gradient_norm", "clip_rate", "characters_per_second", "seconds"} <= set(
        training[-1]
    )
    assert training[-1]["bits"] == pytest.approx(training[-1]["loss"] / np.log(2))
    assert [r["step"] for r in training] == sorted({r["step"] for r in training})
    assert run.config["options"]["hidden_size"] == 8
    assert run.config["environment"]["jax"] == jax.__version__
    assert (trained / "loss.png").read_bytes()[:4] == b"\x89PNG"
    assert run.last_step() == 60


def test_sample_writes_on(trained, capsys):
    assert main(["sample", str(trained), "--prompt", "aaba", "--length", "12", "--temperature", "0"]) == 0
    assert capsys.readouterr().out == "aaba" + "abaabaabaaba" + "\n"


def test_score_is_the_log_probability(trained, capsys, tmp_path):
    path = tmp_path / "other.txt"
    path.write_text("aabaabbbaa")
    assert main(["score", str(trained), "--text", str(path)]) == 0
    out = capsys.readouterr().out
    model, params, vocabulary = characters.trained("sample", str(trained))
    numbers = vocabulary.encode("aabaabbbaa")
    _, logits = model.apply(params, model.initial_state(params), numbers[:-1])
    expected = np.take_along_axis(np.array(jax.nn.log_softmax(logits)), numbers[1:, None], 1).sum()
    assert f"9 characters after the first\n{-expected / 9 / np.log(2):.4f} bits a character" in out
    assert f"log-probability {expected:.4f} nats" in out


# Going on


def interrupt_at(monkeypatch, last):
    """Sends a real Ctrl-C when the run logs this step."""
    log = JsonLines.log

    def log_and_interrupt(self, step, numbers):
        log(self, step, numbers)
        if step == last and "loss" in numbers:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(JsonLines, "log", log_and_interrupt)


@pytest.mark.slow
def test_stopped_and_resumed_equals_never_stopped(folder, monkeypatch, capsys):
    whole = ["--dropout", "0.3", "--cell", "gru", "--steps", "50"]
    assert main(charlm_command(*whole, run="whole")) == 0
    with monkeypatch.context() as patch:
        interrupt_at(patch, 20)  # past the end of the first pass over the text, and not where a checkpoint is due
        assert main(charlm_command(*whole, run="two")) == 130
    assert "checkpoint of step 21 of 50 is kept. Go on with: python -m seqjax charlm --resume two" in (
        capsys.readouterr().err
    )
    assert Run.open("charlm", "two").last_step() == 21
    assert main(["charlm", "--resume", "two"]) == 0
    options = Run.open("charlm", "whole").options(charlm.Options)
    model = characters.language_model(options, 3)
    start = characters.initial(model, options)
    (a_step, a), (b_step, b) = (Run.open("charlm", name).restore(start) for name in ("whole", "two"))
    assert a_step == b_step == 50
    for x, y, z in zip(*map(jax.tree.leaves, (a, b, start))):
        if jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        elif x.ndim:
            assert not np.array_equal(x, z)  # every array of the state has moved
        np.testing.assert_array_equal(x, y)
    last = [Run.open("charlm", name).metrics()[-1]["validation_loss"] for name in ("whole", "two")]
    assert last[0] == last[1]
    steps = [r["step"] for r in Run.open("charlm", "two").metrics() if "loss" in r]
    assert steps == sorted(set(steps))


@pytest.mark.slow
def test_a_finished_run_goes_on_with_more_steps(folder, capsys):
    assert main(charlm_command("--steps", "4")) == 0
    run = Run.open("charlm", "run")
    run.log(step=5, loss=99.0)  # as if killed before the next checkpoint
    assert main(["charlm", "--resume", "./run/", "--steps", "6"]) == 0  # as a shell completes it
    run = Run.open("charlm", "run")
    assert 99.0 not in [record.get("loss") for record in run.metrics()]
    assert run.last_step() == 6
    assert run.config["options"]["steps"] == 6
    assert main(["charlm", "--resume", "run", "--steps", "5"]) == 2
    assert "charlm: expected --steps of at least the 6 made, got 5." in capsys.readouterr().err


def test_a_second_ctrl_c_does_not_wait(folder, monkeypatch, capsys):
    log, usual = JsonLines.log, signal.getsignal(signal.SIGINT)

    def log_and_interrupt_twice(self, step, numbers):
        log(self, step, numbers)
        if step == 1 and "loss" in numbers:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(JsonLines, "log", log_and_interrupt_twice)
    assert main(charlm_command("--steps", "20")) == 130
    assert "nothing to resume in run" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is usual


@pytest.mark.slow
def test_patience_ends_training_with_the_best_parameters(folder, monkeypatch, capsys):
    """What is held back contradicts what is learned: its loss falls while letters are learned, then rises."""
    monkeypatch.setattr(learning, "EVALUATIONS", 20)
    (folder / "text.txt").write_text("ab" * 180 + "aabbb" * 8)
    assert main(charlm_command("--steps", "60", "--patience", "3")) == 0
    said = capsys.readouterr().out
    run = Run.open("charlm", "run")
    losses = {r["step"]: r["validation_loss"] for r in run.metrics() if "validation_loss" in r}
    best = min(losses, key=losses.get)
    assert list(losses) == list(range(3, best + 3 * 3 + 1, 3))  # an evaluation every 3 steps, 3 of them in vain
    assert run.last_step() == max(losses) < 60
    assert f"lowest validation_loss at step {best} of {max(losses)}, whose parameters are taken" in said
    assert json.loads((folder / "run" / "result.json").read_text())["figures"]["validation_loss"] == losses[best]
    model, params, vocabulary = characters.trained("sample", "run")
    numbers = vocabulary.encode("aabbb" * 8)
    last = run.restore(characters.initial(model, run.options(charlm.Options)))[1].train.params
    nats = [text.log_loss(text.scorer(model), model, p, numbers, columns=32, lead=256) for p in (params, last)]
    assert nats[0][0] / nats[0][1] == pytest.approx(losses[best], rel=1e-5)
    assert nats[1][0] / nats[1][1] == pytest.approx(losses[max(losses)], rel=1e-5)
    assert main(["charlm", "--resume", "run"]) == 0  # it is over, and stays so
    assert Run.open("charlm", "run").last_step() == max(losses)


# Bad input


def refused(capsys, command, *, status=2):
    """What a refused command says: one line on stderr, no traceback."""
    capsys.readouterr()
    assert main(command) == status
    out, err = capsys.readouterr()
    assert err.endswith("\n")
    assert err.count("\n") == 1
    assert out == ""
    return err


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        (["--text", "none.txt"], "charlm: none.txt: expected a file, got none. Check the path."),
        (["--text", "empty.txt"], "charlm: empty.txt: expected some content, got an empty file."),
        (["--text", "latin1.txt"], "charlm: latin1.txt, line 1: expected UTF-8, got byte 0xe9. Convert"),
        (["--text", "."], "charlm: .: expected a file, got a folder."),
        (["--text", "same.txt"], "charlm: Vocabulary: expected at least two symbols, got ['a']."),
        (
            ["--window", "200"],
            "charlm: expected at least 447 characters of text, so that nine tenths fill 2 streams of one "
            "window of 200, got 301. Give a longer text, or lower --batch-size or --window.",
        ),
        (
            ["--prompt", "aé"],
            "charlm: expected --prompt in the 3 characters of the training text, got 'é' at position 1.",
        ),
        (["--prompt", ""], "charlm: expected --prompt to hold at least one character, got ''."),
        (
            ["--hidden-size", "-3"],
            "charlm: expected --hidden-size to be a whole number of at least 1, got -3. Set --hidden-size.",
        ),
        (["--steps", "0"], "charlm: expected --steps to be a whole number of at least 1, got 0."),
        (["--batch-size", "0"], "charlm: expected --batch-size to be a whole number of at least 1, got 0."),
        (["--seed", "-1"], "charlm: expected --seed from 0 to 2³² - 1, got -1."),
        (["--dropout", "-0.5"], "charlm: expected --dropout of at least 0 and below 1, got -0.5."),
        (["--dropout", "1"], "charlm: expected --dropout of at least 0 and below 1, got 1.0."),
        (["--learning-rate", "-1"], "charlm: expected --learning-rate above 0 and finite, got -1.0."),
        (["--learning-rate", "nan"], "charlm: expected --learning-rate above 0 and finite, got nan."),
        (["--devices", "3"], "charlm: expected --devices to divide the batch size 2 and be at most 2, got 3."),
        (["--clip", "0"], "charlm: expected --clip above 0 and finite, got 0.0."),
        (["--temperature", "-1"], "charlm: expected --temperature of at least 0 and finite, got -1.0."),
        (["--run-dir", "."], "charlm: expected --run-dir to be new or empty, got . with files in it."),
        (
            ["--run-dir", "text.txt"],
            "charlm: expected --run-dir to be a folder that can be written, got text.txt",
        ),
        (
            ["--resume", "."],
            "charlm: expected . to be the folder of a charlm run, got no readable config.json",
        ),
    ],
)
def test_bad_options_and_texts(folder, capsys, extra, sentence):
    (folder / "empty.txt").write_bytes(b"")
    (folder / "latin1.txt").write_bytes("caf\xe9".encode("latin-1"))
    (folder / "same.txt").write_text("a" * 300)
    assert sentence in refused(capsys, charlm_command(*extra))
    assert not (folder / "run").exists()


@pytest.mark.parametrize("command", [[], ["nothing"], ["charlm", "--steps", "many"], ["sample"], ["charlm", "--odd"]])
def test_options_that_do_not_parse(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main(command)
    assert stop.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (
            ["sample", "RUN", "--prompt", "xyz"],
            "sample: expected --prompt in the 3 characters of the training text, got 'x' at position 0. Leave",
        ),
        (
            ["sample", "RUN", "--length", "-5"],
            "sample: expected --length to be a whole number of at least 1, got -5.",
        ),
        (
            ["sample", "RUN", "--temperature", "-1"],
            "sample: expected --temperature of at least 0 and finite, got -1.0.",
        ),
        (
            ["sample", "none"],
            "sample: expected none to be the folder of a charlm run, got no readable config.json",
        ),
        (["score", "RUN", "--text", "none.txt"], "score: none.txt: expected a file, got none."),
        (["score", "RUN", "--text", "short.txt"], "score: expected a text of at least 2 characters, got 1."),
        (
            ["score", "RUN", "--text", "foreign.txt"],
            "score: expected foreign.txt in the 3 characters of the training text, got 'c' at position 3. Leave",
        ),
    ],
)
def test_bad_use_of_a_run(trained, folder, capsys, command, sentence):
    (folder / "short.txt").write_text("a")
    (folder / "foreign.txt").write_text("aabc")
    assert sentence in refused(capsys, [str(trained) if word == "RUN" else word for word in command])


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (["--hidden-size", "9"], "charlm: expected --hidden-size 8 as in the run to resume, got 9."),
        (["--run-dir", "new"], "charlm: expected --run-dir or --resume, got both."),
        (
            ["--text", "other.txt"],
            "charlm: expected the data of the run to resume, got other data (its sha256 differs).",
        ),
    ],
)
def test_a_run_resumes_as_it_was(trained, folder, capsys, option, sentence):
    (folder / "other.txt").write_text("aba" * 100 + "\n")
    assert sentence in refused(capsys, ["charlm", "--resume", str(trained), *option])


def test_diverging_is_said(folder, capsys):
    assert main(charlm_command("--learning-rate", "1e308", "--steps", "3")) == 2
    told = capsys.readouterr().err
    assert "charlm: expected finite numbers in training, got others up to step 1, first at tick 0, stack, state" in told


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_no_more_devices_than_cores_it_may_use():
    code = (
        "import os, jax; from seqjax.recipes.running import devices; "
        "os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); devices.make(); print(jax.device_count())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_missing_libraries_are_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tyro", None)
    assert "Install them by: python -m pip install 'seqjax[recipes]'" in refused(capsys, ["charlm"])


def test_the_process_ends_with_status_2_and_one_sentence(folder):
    command = [sys.executable, "-m", "seqjax", "charlm", "--text", "none.txt"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "charlm: none.txt: expected a file, got none. Check the path.\n"
    assert done.stdout == ""


def test_a_command_is_imported_when_it_is_called():
    code = (
        "import sys; from seqjax.__main__ import COMMANDS, main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: print(*({*COMMANDS.values()} & sys.modules.keys()), file=sys.stderr)"
    )
    for command, imported in ([], ""), (["score"], "seqjax.recipes.score"):
        run = [sys.executable, "-c", code, *command, "--help"]
        assert subprocess.run(run, capture_output=True, text=True, check=True).stderr == imported + "\n"


def test_every_command_is_listed():
    found = {module.name for module in pkgutil.iter_modules(recipes.__path__, "seqjax.recipes.")}
    rooms = ("comparing", "language", "pictures", "running")
    assert found == {*COMMANDS.values(), *(f"seqjax.recipes.{room}" for room in rooms)}


@pytest.mark.parametrize(("name", "recipe"), [("charlm", charlm), ("sample", sample), ("score", score)])
def test_help_shows_every_option_with_its_default(name, recipe, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    text = "\n".join(line.strip(" │") for line in capsys.readouterr().out.splitlines())
    entries = [(entry, entry.splitlines()[0]) for entry in re.split(r"\n(?=--|FOLDER )", text)]
    flags = re.compile(r"--[\w-]+|^FOLDER")
    shown = {name: " ".join(entry.split()) for entry, first in entries for name in flags.findall(first)}
    for field in dataclasses.fields(recipe.Options):
        flag = "FOLDER" if field.name == "run" else "--" + field.name.replace("_", "-")
        default = f"(default: {field.default if field.default != () else ''})"
        default = "(required)" if field.default is dataclasses.MISSING else default
        assert default in shown[flag]


def test_evaluation_agrees_with_the_library(trained):
    """The number in the metrics is the loss of the parameters in the checkpoint on the last tenth."""
    run = Run.open("charlm", trained)
    model, params, vocabulary = characters.trained("sample", str(trained))
    numbers = vocabulary.encode(TEXT)[int(0.9 * len(TEXT)) :]
    _, logits = model.apply(params, model.initial_state(params), numbers[:-1])
    expected = sj.cross_entropy(logits, numbers[1:]).mean.item()
    assert run.metrics()[-1]["validation_loss"] == pytest.approx(expected, rel=1e-9)
