"""Forward and Viterbi of hidden Markov models: ours, in turn and in parallel, beside dynamax and hmmlearn.

One sequence of symbols from a random model; every library starts from the symbols and the model in its own form and
ends with NumPy arrays. Before anything is timed, each log-likelihood must agree with a forward pass in NumPy float64,
and each path must be as probable as the best one; how far each is off is kept beside its times. JAX programs are
compiled before; that time is kept too. `python -m benchmarks.hmm --help`
"""

import argparse
import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks import memory
from benchmarks.record import Records
from benchmarks.timing import interleave, once
from seqjax import hmm

FORWARD, VITERBI = "forward", "viterbi"
FAR = 1e-3  # relative; float32 sums of 100,000 terms are off by up to 1e-4


class Row(NamedTuple):
    """What is measured: N hidden states, V symbols, T ticks."""

    algorithm: str
    states: int
    symbols: int
    length: int


class Problem(NamedTuple):
    """Probabilities in float64, symbols ``[T]``, and the answer: a log-likelihood or a path's log-probability."""

    initial: np.ndarray
    transition: np.ndarray
    emission: np.ndarray
    xs: np.ndarray
    answer: float


Call = Callable[[], tuple[float, np.ndarray]]  # (log-likelihood, filtered) or (log-probability, path)


@functools.lru_cache(maxsize=1)
def problem(row: Row) -> Problem:
    """Rows drawn uniformly from all distributions; symbols drawn from the model."""
    rng = np.random.default_rng(0)
    initial = rng.dirichlet(np.ones(row.states))
    transition = rng.dirichlet(np.ones(row.states), row.states)
    emission = rng.dirichlet(np.ones(row.symbols), row.states)
    state, xs = rng.choice(row.states, p=initial), np.empty(row.length, np.int32)
    moves, sights = transition.cumsum(1), emission.cumsum(1)
    for t, (move, sight) in enumerate(rng.random((row.length, 2))):
        xs[t] = min(np.searchsorted(sights[state], sight), row.symbols - 1)
        state = min(np.searchsorted(moves[state], move), row.states - 1)
    given = Problem(initial, transition, emission, xs, 0.0)
    answer = log_likelihood(given) if row.algorithm == FORWARD else best_log_prob(given)
    return given._replace(answer=answer)


def log_likelihood(given: Problem) -> float:
    """Forward in float64, divided by its sum at each tick."""
    p, total = given.initial, 0.0
    for x in given.xs:
        f = p * given.emission[:, x]
        c = f.sum()
        total += np.log(c)
        p = f / c @ given.transition
    return float(total)


def best_log_prob(given: Problem) -> float:
    """The log-probability of the best path, in float64 logarithms."""
    log_transition, log_emission = np.log(given.transition.T), np.log(given.emission.T)
    best = np.log(given.initial) + log_emission[given.xs[0]]
    for x in given.xs[1:]:
        best = (best + log_transition).max(1) + log_emission[x]
    return float(best.max())


def log_prob(given: Problem, path: np.ndarray) -> float:
    """Of a path and the symbols, in float64."""
    steps = np.log(given.transition[path[:-1], path[1:]]).sum() + np.log(given.emission[path, given.xs]).sum()
    return float(np.log(given.initial[path[0]]) + steps)


def ours(row: Row, engine: str) -> Call:
    """`seqjax.hmm.forward` and `seqjax.hmm.viterbi`."""
    given = problem(row)
    model = hmm.from_probabilities(*given[:3])
    xs = jax.device_put(given.xs)

    def forward() -> tuple[float, np.ndarray]:
        found = hmm.forward(model, xs, engine=engine)
        return float(found.log_likelihood), np.asarray(found.log_filtered)

    def viterbi() -> tuple[float, np.ndarray]:
        found = hmm.viterbi(model, xs, engine=engine)
        return float(found.log_prob), np.asarray(found.states)

    return forward if row.algorithm == FORWARD else viterbi


def dynamax(row: Row, parallel: bool) -> Call:
    """Its inference functions under one `jax.jit` with the look-up of the symbols."""
    from dynamax.hidden_markov_model import hmm_filter, hmm_posterior_mode, parallel_hmm_filter

    given = problem(row)
    model = [jax.numpy.asarray(p, jax.numpy.float32) for p in given[:3]]
    xs = jax.device_put(given.xs)

    @jax.jit
    def run(initial: jax.Array, transition: jax.Array, emission: jax.Array, xs: jax.Array) -> Any:
        evidence = jax.numpy.log(emission).T[xs]
        if row.algorithm == VITERBI:
            return hmm_posterior_mode(initial, transition, evidence)
        return (parallel_hmm_filter if parallel else hmm_filter)(initial, transition, evidence)

    def forward() -> tuple[float, np.ndarray]:
        found = run(*model, xs)
        return float(found.marginal_loglik), np.asarray(found.filtered_probs)

    def viterbi() -> tuple[float, np.ndarray]:
        path = np.asarray(run(*model, xs))
        return np.nan, path  # it gives no probability

    return forward if row.algorithm == FORWARD else viterbi


def hmmlearn(row: Row, implementation: str) -> Call:
    """Its `CategoricalHMM`: forward by ``score``, in scaled probabilities or logarithms; Viterbi by ``decode``."""
    from hmmlearn.hmm import CategoricalHMM

    given = problem(row)
    model = CategoricalHMM(row.states, implementation=implementation)
    model.startprob_, model.transmat_, model.emissionprob_ = given[:3]
    model.n_features = row.symbols
    xs = given.xs[:, None]

    def forward() -> tuple[float, np.ndarray]:
        return float(model.score(xs)), np.empty(0)

    def viterbi() -> tuple[float, np.ndarray]:
        found, path = model.decode(xs, algorithm="viterbi")
        return float(found), path

    return forward if row.algorithm == FORWARD else viterbi


CONTENDERS: dict[str, dict[str, Callable[[Row], Call]]] = {
    FORWARD: {
        "ours": lambda row: ours(row, "scan"),
        "ours_associative": lambda row: ours(row, "associative"),
        "dynamax": lambda row: dynamax(row, parallel=False),
        "dynamax_parallel": lambda row: dynamax(row, parallel=True),
        "hmmlearn": lambda row: hmmlearn(row, "scaling"),
        "hmmlearn_log": lambda row: hmmlearn(row, "log"),
    },
    VITERBI: {
        "ours": lambda row: ours(row, "scan"),
        "ours_associative": lambda row: ours(row, "associative"),
        "dynamax": lambda row: dynamax(row, parallel=False),
        "hmmlearn": lambda row: hmmlearn(row, "log"),
    },
}
PEERS = ("dynamax", "dynamax_parallel", "hmmlearn", "hmmlearn_log")


def bytes_needed(name: str, row: Row) -> float:
    """Roughly: what is parallel in time keeps matrices, one a tick, or one a block of 32 ticks in ours."""
    matrices = {"dynamax_parallel": row.length, "ours_associative": row.length / 32}.get(name, 0)
    return 4 * 8 * (matrices * row.states**2 + row.length * row.states)


def off(row: Row, found: float, answer: np.ndarray) -> float:
    """How far a result is from the truth, relative to it."""
    given = problem(row)
    if row.algorithm == VITERBI:
        found = log_prob(given, answer)
    return abs(found - given.answer) / abs(given.answer)


def measure(
    row: Row, rounds: int, seconds: float, limits: tuple[float, float], past: dict[str, tuple[int, float]]
) -> dict[str, Any]:
    """Seconds of every contender, after all have been found to agree.

    ``limits`` are bytes and seconds of one call; ``past`` remembers length and seconds at the last length, from which
    what would take too long is seen before it is begun.
    """
    calls, first, errors, missing = {}, {}, {}, {}
    for name, make in CONTENDERS[row.algorithm].items():
        length, took = past.get(name, (row.length, 0.0))
        if took * row.length / length > limits[1]:
            missing[name] = f"would take about {took * row.length / length:.0f} s a call"
            continue
        if bytes_needed(name, row) > limits[0]:
            missing[name] = f"would need about {bytes_needed(name, row) / 1e9:.0f} GB"
            continue
        try:
            call = make(row)
        except ImportError as error:
            missing[name] = f"{error.name} is not installed"
            continue
        try:
            (found, answer), first[name] = once(call)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            missing[name] = "needs more memory than there is"
            continue
        errors[name] = off(row, found, answer)
        if not errors[name] < FAR:
            raise SystemExit(f"{name} disagrees at {row}: its result is off by {errors[name]:.1e}")
        calls[name] = call
    times = interleave(calls, rounds=rounds, seconds=seconds, settle=0)  # nobody here leaves threads that spin
    for name, timing in times.items():
        past[name] = row.length, timing.median
    peers = [t.median for name, t in times.items() if name in PEERS]
    own = [t.median for name, t in times.items() if name not in PEERS]
    return row._asdict() | {
        "seconds": {name: t.median for name, t in times.items()},
        "quartiles_s": {name: t.quartiles for name, t in times.items()},
        "first_call_s": {name: round(s, 3) for name, s in first.items()},
        "relative_error": {name: float(f"{e:.1e}") for name, e in errors.items()},
        "missing": missing,
        "times_the_best_peer": round(min(peers) / min(own), 2) if peers and own else None,
    }


def main() -> None:
    """Measures every row and writes one JSON line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--algorithms", nargs="+", default=[FORWARD, VITERBI], choices=[FORWARD, VITERBI])
    parser.add_argument("--states", type=int, nargs="+", default=[16, 128], help="hidden states")
    parser.add_argument("--symbols", type=int, default=32, help="of the emissions")
    parser.add_argument("--lengths", type=int, nargs="+", default=[1000, 10_000, 100_000], help="ticks, rising")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=60.0, help="no new round of a row after so many")
    parser.add_argument("--call-limit", type=float, default=20.0, help="seconds; slower calls are left out")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/hmm.jsonl"))
    options = parser.parse_args()
    records = Records(options.out)
    limits = 0.5 * memory.available(), options.call_limit
    for algorithm, states in itertools.product(options.algorithms, options.states):
        past: dict[str, tuple[int, float]] = {}
        for length in options.lengths:
            row = Row(algorithm, states, options.symbols, length)
            measured = measure(row, options.rounds, options.seconds, limits, past)
            records.write(measured)
            shown = {name: f"{1e3 * s:.2f} ms" for name, s in measured["seconds"].items()}
            print(*row, shown, measured["missing"] or "", f"{measured['times_the_best_peer']} x", flush=True)


if __name__ == "__main__":
    main()
