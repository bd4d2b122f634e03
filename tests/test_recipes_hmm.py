"""The recipe that learns hidden Markov models: beside the model that wrote the text, in NumPy."""

import itertools
import json
import os
import signal

import jax
import numpy as np
import pytest

from seqjax import hmm
from seqjax.__main__ import main
from seqjax.recipes import hmm_learn
from seqjax.recipes.language import states
from seqjax.recipes.running import drawing
from seqjax.recipes.running.run import Run
from seqjax.recipes.running.trackers import JsonLines

INITIAL = np.array([0.5, 0.3, 0.2])
TRANSITION = np.array([[0.1, 0.85, 0.05], [0.1, 0.1, 0.8], [0.7, 0.1, 0.2]])
EMISSION = np.array([[0.6, 0.3, 0.05, 0.05, 0.0], [0.05, 0.05, 0.6, 0.2, 0.1], [0.1, 0.0, 0.1, 0.1, 0.7]])
SMALL = {"symbols": "characters", "states": 3, "restarts": 4, "steps": 60, "window": 200, "most": 9000}


def written(count):
    """A text by the model above."""
    rng = np.random.default_rng(0)
    state, symbols = rng.choice(3, p=INITIAL), []
    for _ in range(count):
        symbols.append(rng.choice(5, p=EMISSION[state]))
        state = rng.choice(3, p=TRANSITION[state])
    return np.array(symbols)


def nats(initial, transition, emission, xs):
    """The mean of -ln p(x_t | x_1 … x_{t-1}) but for the first, by the forward recursion."""
    belief, found = initial, []
    for x in xs:
        joint = belief * emission[:, x]
        found.append(-np.log(joint.sum()))
        belief = joint / joint.sum() @ transition
    return np.mean(found[1:])


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """The run, and what it was held back from."""
    folder, symbols = tmp_path_factory.mktemp("hmm"), written(9000)
    (folder / "text.txt").write_text("".join("abcde"[x] for x in symbols))
    options = SMALL | {"text": folder / "text.txt", "run-dir": folder / "run", "smoothing": 0}
    assert main(["hmm-learn", *(f"--{name}={value}" for name, value in options.items())]) == 0
    return Run.open("hmm-learn", folder / "run"), symbols[8100:]


def test_what_is_learned_is_nearly_as_likely_as_the_truth(learned):
    run, held_back = learned
    result = json.loads((run.folder / "result.json").read_text())
    truth = nats(INITIAL, TRANSITION, EMISSION, held_back)
    assert abs(result["figures"]["3 states"] - truth) < 0.02
    assert result["floors"]["bigrams, counted"] > truth + 0.01
    assert result["floors"]["unigrams, counted"] > truth + 0.1


def test_no_step_makes_the_text_less_likely(learned):
    course = [record["training_3_states"] for record in learned[0].metrics() if "loss" in record]
    assert len(course) == 60
    assert np.diff(course).max() <= 1e-12
    assert course[0] - course[-1] > 0.1


def test_the_figure_shows_the_model_that_wrote_the_text(learned):
    """But for the order of the states."""
    _, numbers = drawing.read(learned[0].folder / "states_3.json")
    columns = ["abcde".index(symbol) for symbol in numbers["symbols"]]
    transition, emission = np.array(numbers["transition"]), np.array(numbers["emission"])
    errors = []
    for order in itertools.permutations(range(3)):
        order = list(order)
        goes, emits = TRANSITION[order][:, order], EMISSION[order][:, columns]
        errors.append(max(np.abs(goes - transition).max(), np.abs(emits - emission).max()))
    assert min(errors) < 0.06
    shares = np.linalg.matrix_power(transition, 200)[0]
    assert np.all(np.diff(shares) < 0.02)  # from the commonest state to the rarest


def kept(run):
    """The model of a run's last checkpoint, as probabilities, and the numbers of its symbols."""
    start = hmm_learn.begin(run.options(hmm_learn.Options), 5)
    step, state = run.restore(start)
    symbols = run.config["facts"]["vocabularies"]["symbols"]
    return step, [np.exp(np.asarray(p)) for p in state.train.params["3_states"]], symbols


def test_the_model_is_kept(learned):
    run, held_back = learned
    step, model, symbols = kept(run)
    xs = [symbols.index("abcde"[x]) for x in held_back]
    result = json.loads((run.folder / "result.json").read_text())
    assert step == 60
    np.testing.assert_allclose(nats(*model, xs), result["figures"]["3 states"], rtol=1e-9)


def test_a_run_is_asked_for_the_likeliest_states(learned, capsys):
    """Beside all paths one by one; a symbol that nobody taught says nothing, and leaves ln p to the others."""
    run, _ = learned
    _, (initial, goes, emits), symbols = kept(run)
    emits = np.concatenate([emits, np.ones((3, 1))], 1)
    xs = [symbols.index(symbol) if symbol in symbols else 5 for symbol in "acxeb"]
    paths = np.array([*itertools.product(range(3), repeat=5)])
    steps = goes[paths[:, :-1], paths[:, 1:]].prod(1) * emits[paths, xs].prod(1)
    joint = initial[paths[:, 0]] * steps
    shown = json.loads((run.folder / "states_3.json").read_text())["numbers"]["transition"]
    order = next(o for o in itertools.permutations(range(3)) if np.allclose(goes[list(o)][:, list(o)], shown))
    best = [order.index(state) + 1 for state in paths[joint.argmax()]]
    expected = " ".join(f"{symbol}{state}" for symbol, state in zip("acxeb", best))
    assert main(["ask", str(run.folder), "acxeb"]) == 0
    assert capsys.readouterr().out == f"3 states: {expected}, ln p {np.log(joint.sum()):.2f}  (unknown: x)\n"
    assert main(["ask", str(run.folder), "", "xyz"]) == 2
    assert "got 'xyz', without a symbol that the model knows." in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_was_stopped_comes_to_the_same_bits(tmp_path, monkeypatch, capsys, number):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("".join("abcde"[x] for x in written(900)))
    words = ["hmm-learn", "--text", "text.txt", "--window", "50", "--states", "2", "--restarts", "2"]
    assert main([*words, "--steps", "11", "--run-dir", "one"]) == 0
    log = JsonLines.log

    def log_and_interrupt(self, step, numbers):
        log(self, step, numbers)
        if step == 4 and "loss" in numbers:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(JsonLines, "log", log_and_interrupt)
        assert main([*words, "--steps", "7", "--run-dir", "two"]) == 130
    assert "the checkpoint of step 5 of 7 is kept." in capsys.readouterr().err
    assert main(["hmm-learn", "--resume", "two", "--steps", "11", "--restarts", "3"]) == 2
    assert main(["hmm-learn", "--resume", "two", "--steps", "11"]) == 0
    one, two = (Run.open("hmm-learn", name) for name in ("one", "two"))
    training = [[r["loss"] for r in run.metrics() if "loss" in r] for run in (one, two)]
    assert len(training[0]) == 11
    assert training[0] == training[1]
    results = [json.loads((run.folder / "result.json").read_text())["figures"] for run in (one, two)]
    assert results[0] == results[1]
    like = hmm_learn.begin(one.options(hmm_learn.Options), 5)
    for x, y in zip(*(jax.tree.leaves(run.restore(like)) for run in (one, two)), strict=True):
        np.testing.assert_array_equal(x, y)


def test_a_text_that_the_model_excludes(tmp_path, capsys):
    """Every a is followed by b, and without smoothing two states learn just that."""
    for name, text in (("train", "ab" * 200), ("held", "abba" * 9)):
        (tmp_path / f"{name}.txt").write_text(text)
    words = ["--train", str(tmp_path / "train.txt"), "--held-back", str(tmp_path / "held.txt"), "--smoothing", "0"]
    assert main(["hmm-learn", *words, "--window", "50", "--states", "2", "--run-dir", str(tmp_path / "run")]) == 2
    assert "a text to measure on that is possible, got one that is not with 2 states." in capsys.readouterr().err


def test_shares_are_shares_whatever_the_window():
    """Rows of float32 sum to 1 but for a little, which a million ticks make much of."""
    model = hmm.random(jax.random.key(0), 3, 4)
    nearly = model._replace(log_transition=model.log_transition + 1e-6)
    found = states.ordered(nearly, 200_000)
    goes = np.exp(np.asarray(found.model.log_transition))
    assert found.shares.sum() == pytest.approx(1)
    assert found.shares @ goes == pytest.approx(found.shares, abs=1e-4)
    assert list(found.shares) == sorted(found.shares, reverse=True)


def test_of_many_states_the_likeliest_next_ones_are_told():
    told = states.table(states.ordered(hmm.random(jax.random.key(0), 30, 4), 9), "abcd")
    assert max(map(len, told.splitlines())) < 200
    assert told.count("goes on to") == 30


def test_letters():
    assert hmm_learn.letters("Él était: 3 fois\n(Ça!)") == "él était fois ça "


def refused(tmp_path, capsys, *words):
    (tmp_path / "rare.txt").write_text("ab" * 400 + "abz")
    assert main(["hmm-learn", "--text", str(tmp_path / "rare.txt"), "--run-dir", str(tmp_path / "run"), *words]) == 2
    return capsys.readouterr().err


@pytest.mark.slow
def test_a_symbol_that_is_held_back_only_needs_smoothing(tmp_path, capsys):
    said = refused(tmp_path, capsys, "--smoothing", "0", "--window", "50")
    assert said.startswith("hmm-learn: expected --smoothing above 0, as 'z' is in the text held back only, got 0.")
    words = ["--smoothing", "0.1", "--window", "50", "--states", "2", "--restarts", "1", "--steps", "2"]
    assert main(["hmm-learn", "--text", str(tmp_path / "rare.txt"), "--run-dir", str(tmp_path / "run"), *words]) == 0


def test_numbers_are_checked(tmp_path, capsys):
    assert "expected --window of at least 2, got 1." in refused(tmp_path, capsys, "--window", "1")
    for numbers in (["2", "2"], ["0"], ["1", "2", "3", "4", "5", "6"]):
        assert "expected --states to be up to 5 numbers of at least 1" in refused(
            tmp_path, capsys, "--states", *numbers
        )
