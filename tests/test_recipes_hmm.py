"""The recipe that learns hidden Markov models: beside the model that wrote the text, in NumPy."""

import itertools
import json

import numpy as np
import pytest

from seqjax import hmm
from seqjax.__main__ import main
from seqjax.recipes import hmm_learn
from seqjax.recipes.running import drawing
from seqjax.recipes.running.run import Run

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
    course = [record["nats_3"] for record in learned[0].metrics()]
    assert len(course) == 61
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


def test_the_model_is_kept(learned):
    run, held_back = learned
    like = {"3 states": hmm.HMM(np.zeros(3), np.zeros((3, 3)), np.zeros((3, 5)))}
    step, models = run.restore(like)
    kept = [np.exp(np.asarray(p)) for p in models["3 states"]]
    symbols = run.config["facts"]["vocabularies"]["symbols"]
    xs = [symbols.index("abcde"[x]) for x in held_back]
    result = json.loads((run.folder / "result.json").read_text())
    assert step == 60
    np.testing.assert_allclose(nats(*kept, xs), result["figures"]["3 states"], rtol=1e-9)


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


def test_numbers_of_states_are_checked(tmp_path, capsys):
    for states in (["2", "2"], ["0"], ["1", "2", "3", "4", "5", "6"]):
        assert "expected --states to be up to 5 numbers of at least 1" in refused(tmp_path, capsys, "--states", *states)
