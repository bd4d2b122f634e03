"""The benchmark of hidden Markov models: its truth is the truth, and who disagrees is not timed."""

import jax
import numpy as np
import pytest

pytest.importorskip("rich")

from benchmarks import hmm as benchmark
from seqjax import hmm

LIMITS = (1e12, 60.0)


@pytest.fixture(autouse=True)
def as_other_libraries_expect():
    with jax.numpy_dtype_promotion("standard"):
        yield


def test_the_model_that_is_learned_is_that_of_inference():
    given = benchmark.problem(benchmark.Row("em", 3, 4, 50))
    fit = hmm.fit(hmm.from_probabilities(*benchmark.begin(given)), given.xs, steps=benchmark.STEPS)
    for found, expected in zip(given.answer, fit.model):
        np.testing.assert_allclose(found, np.exp(expected), rtol=1e-9)
        np.testing.assert_allclose(found.sum(-1), 1)


@pytest.mark.parametrize("algorithm", ["forward", "viterbi"])
def test_truth_is_that_of_inference(algorithm):
    given = benchmark.problem(benchmark.Row(algorithm, 3, 4, 50))
    model = hmm.from_probabilities(*given[:3])
    if algorithm == "forward":
        expected = hmm.forward(model, given.xs).log_likelihood
    else:
        expected = hmm.viterbi(model, given.xs).log_prob
        path = np.asarray(hmm.viterbi(model, given.xs).states)
        np.testing.assert_allclose(benchmark.log_prob(given, path), expected, rtol=1e-12)
        assert benchmark.log_prob(given, path * 0) < expected
    np.testing.assert_allclose(given.answer, expected, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("algorithm", ["forward", "viterbi", "em"])
def test_measures_all_that_are_installed(algorithm):
    row = benchmark.Row(algorithm, 3, 4, 70)
    with jax.enable_x64(False):  # as it is run; dynamax learns in the dtype that is JAX's default
        found = benchmark.measure(row, 2, 0.1, LIMITS, past := {})
    names = set(benchmark.CONTENDERS[algorithm])
    assert {"ours"} <= found["seconds"].keys() == past.keys()
    assert found["seconds"].keys() | found["missing"].keys() == names
    assert max(found["relative_error"].values()) < 1e-4
    assert found["limit_s"] > 0
    peers = [taken for name, taken in found["seconds"].items() if not name.startswith("ours")]
    fastest = min(taken for name, taken in found["seconds"].items() if name.startswith("ours"))
    assert found["times_the_best_peer"] == (round(min(peers) / fastest, 2) if peers else None)


def test_leaves_out_what_would_take_too_long_or_too_much(monkeypatch):
    monkeypatch.setattr(benchmark, "CONTENDERS", {"forward": {"ours": lambda row: benchmark.ours(row, "scan")}})
    row = benchmark.Row("forward", 3, 4, 70)
    found = benchmark.measure(row, 2, 0.1, LIMITS, {"ours": (7, 9.0)})
    assert found["missing"] == {"ours": "would take about 90 s a call"}
    assert found["times_the_best_peer"] is None
    found = benchmark.measure(row, 2, 0.1, (10.0, 60.0), {})
    assert found["missing"] == {"ours": "would need about 0 GB"}
    assert benchmark.bytes_needed("dynamax_parallel", row) > 4 * 70 * 9


def scaled(row):
    return benchmark.problem(row).answer * 1.01


def one_step_elsewhere(row):
    path = np.asarray(
        hmm.viterbi(hmm.from_probabilities(*benchmark.problem(row)[:3]), benchmark.problem(row).xs).states
    )
    return np.where(np.arange(row.length) == 40, (path + 1) % row.states, path)


def transposed(row):
    initial, transition, emission = benchmark.problem(row).answer
    return initial, transition.T, emission


@pytest.mark.parametrize(
    ("algorithm", "wrong"), [("forward", scaled), ("viterbi", one_step_elsewhere), ("em", transposed)]
)
def test_a_wrong_result_is_not_timed(monkeypatch, algorithm, wrong):
    make = lambda row: benchmark.Contender(lambda: wrong(row))
    monkeypatch.setattr(benchmark, "CONTENDERS", {algorithm: {"ours": make}})
    monkeypatch.setattr(benchmark, "parts", lambda row: {})
    with pytest.raises(SystemExit, match=r"ours disagrees at Row.*off by \d\.\de-0[0-3]"):
        benchmark.measure(benchmark.Row(algorithm, 3, 4, 70), 2, 0.1, LIMITS, {})
