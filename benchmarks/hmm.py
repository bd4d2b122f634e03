"""Forward, Viterbi and EM of hidden Markov models: ours, in turn and in parallel, beside dynamax and hmmlearn.

One sequence of symbols from a random model; every library starts from the symbols and the model in its own form and
ends with NumPy arrays. Before anything is timed, each log-likelihood must agree with a forward pass in NumPy float64,
each path must be as probable as the best one, and each model after `STEPS` steps of expectation maximisation must be
that of float64; how far each is off is kept beside its times. JAX programs are compiled before; that time is kept too.
`python -m benchmarks.hmm --help`

    limit: p A (forward; and its transpose in EM) or max_i p_i + A_ij (Viterbi) a tick, T times one behind the other ·
    the counts of all steps as products (EM) · walking back T steps (Viterbi) · the look-up of symbols, messages divided
    by their sums and logarithms (forward) of all ticks at once · once over symbols and messages
"""

import functools
import itertools
import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import limit, memory, paths
from benchmarks.paths import Contender
from seqjax import hmm
from seqjax.hmm.observations import Engine

FORWARD, VITERBI, EM = ALGORITHMS = "forward", "viterbi", "em"
STEPS = 5
FAR = 1e-3  # relative; float32 sums of 100,000 terms are off by up to 1e-4


class Row(NamedTuple):
    """What is measured: N hidden states, V symbols, T ticks."""

    algorithm: str
    states: int
    symbols: int
    length: int


class Problem(NamedTuple):
    """Probabilities in float64, symbols ``[T]``, and the answer: log-likelihood, path's log-probability, or model."""

    initial: np.ndarray
    transition: np.ndarray
    emission: np.ndarray
    xs: np.ndarray
    answer: Any


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
    return given._replace(answer={FORWARD: log_likelihood, VITERBI: best_log_prob, EM: fitted}[row.algorithm](given))


def begin(given: Problem) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The model that learning starts from, another one."""
    rng = np.random.default_rng(1)
    return tuple(rng.dirichlet(np.ones(p.shape[-1]), p.shape[:-1] or None) for p in given[:3])


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


def fitted(given: Problem) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Baum and Welch in float64: messages divided by their sums, every row the share of its counts."""
    initial, transition, emission = begin(given)
    length, seen = len(given.xs), np.eye(emission.shape[1])[given.xs]
    for _ in range(STEPS):
        e = emission.T[given.xs]
        f, r = np.empty_like(e), np.ones_like(e)
        p = initial
        for t in range(length):
            f[t] = p * e[t] / (p * e[t]).sum()
            p = f[t] @ transition
        for t in reversed(range(length - 1)):
            r[t] = transition @ (e[t + 1] * r[t + 1])
            r[t] /= r[t].sum()
        states = f * r / (f * r).sum(1, keepdims=True)
        later = e[1:] * r[1:]
        scale = np.einsum("ti,ij,tj->t", f[:-1], transition, later, optimize=True)
        pairs = transition * (f[:-1].T @ (later / scale[:, None]))
        counts = states.T @ seen
        initial, transition = states[0], pairs / pairs.sum(1, keepdims=True)
        emission = counts / counts.sum(1, keepdims=True)
    return initial, transition, emission


def log_prob(given: Problem, path: np.ndarray) -> float:
    """Of a path and the symbols, in float64."""
    steps = np.log(given.transition[path[:-1], path[1:]]).sum() + np.log(given.emission[path, given.xs]).sum()
    return float(np.log(given.initial[path[0]]) + steps)


def ours(row: Row, engine: Engine) -> Contender:
    """`seqjax.hmm.forward`, `seqjax.hmm.viterbi` and `seqjax.hmm.fit`."""
    given = problem(row)
    model, xs = hmm.from_probabilities(*(begin(given) if row.algorithm == EM else given[:3])), jax.device_put(given.xs)
    if row.algorithm == FORWARD:
        run = lambda model, xs: hmm.forward(model, xs, engine=engine)
        return paths.compiled(run, model, xs, read=lambda found: float(found.log_likelihood))
    if row.algorithm == VITERBI:
        run = lambda model, xs: hmm.viterbi(model, xs, engine=engine)
        return paths.compiled(run, model, xs, read=lambda found: np.asarray(found.states))
    run = lambda model, xs: hmm.fit(model, xs, steps=STEPS, engine=engine).model
    probabilities = lambda found: tuple(map(np.exp, (found.log_initial, found.log_transition, found.log_emission)))
    return paths.compiled(run, model, xs, read=probabilities)


def dynamax(row: Row, parallel: bool) -> Contender:
    """Its inference functions under one `jax.jit` with the look-up of the symbols; its ``fit_em``."""
    from dynamax.hidden_markov_model import CategoricalHMM, hmm_filter, hmm_posterior_mode, parallel_hmm_filter

    given = problem(row)
    model = [jnp.asarray(p, jnp.float32) for p in (begin(given) if row.algorithm == EM else given[:3])]
    xs = jax.device_put(given.xs)
    if row.algorithm == EM:
        # At 1, which is no prior, its mode is NaN wherever nothing was counted.
        flat = dict.fromkeys(
            ("initial_probs_concentration", "transition_matrix_concentration", "emission_prior_concentration"), 1 + 1e-6
        )
        learner = CategoricalHMM(row.states, 1, row.symbols, **flat)
        params, props = learner.initialize(
            initial_probs=model[0], transition_matrix=model[1], emission_probs=model[2][:, None]
        )
        run = lambda params, xs: learner.fit_em(params, props, xs[:, None], num_iters=STEPS, verbose=False)[0]
        read = lambda p: (p.initial.probs, p.transitions.transition_matrix, p.emissions.probs[:, 0])
        return paths.compiled(run, params, xs, read=read)
    evidence = lambda emission, xs: jnp.log(emission).T[xs]
    if row.algorithm == VITERBI:
        run = lambda initial, transition, emission, xs: hmm_posterior_mode(initial, transition, evidence(emission, xs))
        return paths.compiled(run, *model, xs, read=np.asarray)
    of = parallel_hmm_filter if parallel else hmm_filter
    run = lambda initial, transition, emission, xs: of(initial, transition, evidence(emission, xs))
    return paths.compiled(run, *model, xs, read=lambda found: float(found.marginal_loglik))


def hmmlearn(row: Row, implementation: str) -> Contender:
    """Its `CategoricalHMM`: ``score``, in scaled probabilities or logarithms, ``decode`` and ``fit``."""
    from hmmlearn.hmm import CategoricalHMM

    logging.getLogger("hmmlearn").setLevel(logging.ERROR)  # it warns of few data with every fit
    given = problem(row)
    settings = {"n_iter": STEPS, "tol": -np.inf, "init_params": "", "params": "ste"}
    model = CategoricalHMM(row.states, implementation=implementation, **settings)
    xs = given.xs[:, None]

    def start(initial: np.ndarray, transition: np.ndarray, emission: np.ndarray) -> None:
        model.n_features = row.symbols
        model.startprob_, model.transmat_, model.emissionprob_ = initial, transition, emission

    def fit() -> tuple:
        start(*begun)
        model.fit(xs)
        return model.startprob_, model.transmat_, model.emissionprob_

    start(*given[:3])
    begun = begin(given)
    if row.algorithm == EM:
        return Contender(fit)
    if row.algorithm == FORWARD:
        return Contender(lambda: float(model.score(xs)))
    return Contender(lambda: model.decode(xs, algorithm="viterbi")[1])


CONTENDERS: dict[str, dict[str, Callable[[Row], Contender]]] = {
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
    EM: {
        "ours": lambda row: ours(row, "scan"),
        "dynamax": lambda row: dynamax(row, parallel=False),
        "hmmlearn": lambda row: hmmlearn(row, "scaling"),
    },
}


def bytes_needed(name: str, row: Row) -> float:
    """Roughly: what is parallel in time keeps matrices, one a tick, or one a block of 32 ticks in ours."""
    matrices = {"dynamax_parallel": row.length, "ours_associative": row.length / 32}.get(name, 0)
    return 4 * 8 * (matrices * row.states**2 + row.length * row.states)


def off(row: Row, found: Any) -> float:
    """How far a result is from the truth, relative to it."""
    given = problem(row)
    if row.algorithm == EM:
        return paths.far_off(tuple(found), given.answer)
    found = log_prob(given, found) if row.algorithm == VITERBI else found
    return abs(found - given.answer) / abs(given.answer)


def parts(row: Row) -> dict[str, Callable[[], Any]]:
    """What the limit is made of; of EM, one step."""
    n, ticks = row.states, row.length
    given = problem(row)
    xs, table = jnp.asarray(given.xs), jnp.asarray(given.emission.T, jnp.float32)
    p, rows = jnp.ones(n) / n, jnp.ones((ticks, n))
    look_up = {"look-up": paths.compiled(lambda table, xs: table[xs], table, xs).run}
    stream = paths.stream(ticks * (n + 1))
    if row.algorithm == VITERBI:
        a = jnp.asarray(np.log(given.transition), jnp.float32)
        best = lambda p, a: (p[:, None] + a).max(0)
        turned = lambda p, a: (p + a).max(1)
        towards = jnp.asarray(np.random.default_rng(0).integers(0, n, (ticks, n)), jnp.int32)
        back = lambda towards: jax.lax.scan(lambda z, to: (to[z], z), 0, towards, reverse=True)[1]
        name = f"max-product, {ticks} times"
        return {
            name: paths.compiled(limit.repeated(best, ticks), p, a).run,
            name + limit.TURNED: paths.compiled(limit.repeated(turned, ticks), p, a.T).run,
            "walk back": paths.compiled(back, towards).run,
            **look_up,
            **stream,
        }
    pointwise = lambda p, e: paths.divided(p * e)
    forward = {
        **paths.product("product", 1, n, n, ticks),
        "pointwise": paths.compiled(pointwise, rows, rows).run,
        **look_up,
        **stream,
    }
    if row.algorithm == FORWARD:
        return forward | {"logarithms": paths.compiled(jnp.log, rows).run}
    seen = lambda states, xs: states.T @ jax.nn.one_hot(xs, row.symbols)
    added = lambda states, xs: jnp.zeros((row.symbols, n)).at[xs].add(states)
    return {
        **forward,
        **paths.product("product, back", 1, n, n, ticks),
        "pointwise, back": paths.compiled(pointwise, rows, rows).run,
        "counts of steps": paths.compiled(lambda f, b: f.T @ b, rows, rows).run,
        "counts of symbols": paths.compiled(seen, rows, xs).run,
        f"counts of symbols{limit.SUMS}": paths.compiled(added, rows, xs).run,
    }


def measure(
    row: Row,
    rounds: int,
    seconds: float,
    limits: tuple[float, float],
    past: dict[str, tuple[int, float]],
    only: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Seconds of every contender, after all have been found to agree.

    ``limits`` are bytes and seconds of one call; ``past`` remembers length and seconds at the last length, from which
    what would take too long is seen before it is begun; ``only`` are those that take part, all if None.
    """
    missing, makers = {}, {}
    for name, make in CONTENDERS[row.algorithm].items():
        if only is not None and name not in only:
            continue
        length, took = past.get(name, (row.length, 0.0))
        if took * row.length / length > limits[1]:
            missing[name] = f"would take about {took * row.length / length:.0f} s a call"
        elif bytes_needed(name, row) > limits[0]:
            missing[name] = f"would need about {bytes_needed(name, row) / 1e9:.0f} GB"
        else:
            makers[name] = lambda make=make: make(row)
    times = STEPS if row.algorithm == EM else 1
    error = lambda result: off(row, result)
    # Nobody here leaves threads that spin.
    found = paths.measure(row, makers, error, FAR, parts(row), rounds, seconds, times=times, settle=0.0)
    for name, taken in found["seconds"].items():
        past[name] = row.length, taken
    peer = paths.best_peer(found["seconds"])
    own = [taken for name, taken in found["seconds"].items() if paths.is_ours(name)]
    return found | {
        "missing": missing | found["missing"],
        "times_the_best_peer": round(peer[1] / min(own), 2) if peer and own else None,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measures every row and writes one JSON line each."""
    parser = paths.parser(__doc__, "hmm")
    parser.add_argument("--algorithms", nargs="+", default=list(ALGORITHMS), choices=ALGORITHMS)
    parser.add_argument("--states", type=int, nargs="+", default=[16, 128], help="hidden states (16 128)")
    parser.add_argument("--symbols", type=int, default=32, help="of the emissions (32)")
    parser.add_argument("--lengths", type=int, nargs="+", default=[1000, 10_000, 100_000], help="ticks, rising")
    names = dict.fromkeys(name for of in CONTENDERS.values() for name in of)
    parser.add_argument("--only", nargs="+", choices=list(names), help="who takes part; all if not given")
    parser.add_argument("--call-limit", type=float, default=20.0, help="seconds; slower calls are left out (20)")
    options = parser.parse_args(argv)
    limits = 0.5 * memory.available(), options.call_limit
    for algorithm, states in itertools.product(options.algorithms, options.states):
        past: dict[str, tuple[int, float]] = {}
        rows = [Row(algorithm, states, options.symbols, length) for length in options.lengths]
        told = {"rounds": options.rounds, "seconds": options.seconds, "only": options.only}
        each = functools.partial(measure, limits=limits, past=past, **told)
        paths.keep(rows, each, "hmm", options.out)


if __name__ == "__main__":
    main()
