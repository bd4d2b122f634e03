"""Hidden Markov models by enumeration: everything from the list of all paths, in NumPy float64."""

import itertools

import numpy as np

from seqjax import hmm

N, V, T = 4, 5, 5
TIGHT = {"rtol": 1e-10, "atol": 1e-10}
ENGINES = ("scan", "associative")


def lse(a, axis=None):
    with np.errstate(divide="ignore"):
        top = np.max(a, axis=axis, keepdims=True)
        top = np.where(np.isfinite(top), top, 0)
        return np.squeeze(np.log(np.exp(a - top).sum(axis, keepdims=True)) + top, axis)[()]


class Enumeration:
    """Everything about one sequence from the list of all its paths; ``evidence [T, N]`` of real ticks only."""

    def __init__(self, log_initial, log_transition, evidence):
        self.n, self.length = log_initial.size, len(evidence)
        self.paths = np.array(list(itertools.product(range(self.n), repeat=self.length)), int)
        ticks = np.arange(self.length)
        self.scores = log_initial[self.paths[:, 0]] + evidence[ticks, self.paths].sum(1)
        self.scores += log_transition[self.paths[:, :-1], self.paths[:, 1:]].sum(1)
        self.args = (log_initial, log_transition, evidence)
        self.log_likelihood = lse(self.scores)

    def marginals(self):
        return (
            np.array([[lse(self.scores[self.paths[:, t] == i]) for i in range(self.n)] for t in range(self.length)])
            - self.log_likelihood
        )

    def filtered(self):
        initial, transition, evidence = self.args
        return np.stack(
            [Enumeration(initial, transition, evidence[: t + 1]).marginals()[-1] for t in range(self.length)]
        )

    def backward(self):
        _, transition, evidence = self.args
        rows = []
        for t in range(self.length - 1):
            rest = [Enumeration(transition[i], transition, evidence[t + 1 :]).log_likelihood for i in range(self.n)]
            rows.append(rest)
        return np.array([*rows, [0.0] * self.n])

    def transitions(self):
        weight = np.exp(self.scores - self.log_likelihood)
        counts = np.zeros((self.n, self.n))
        for t in range(self.length - 1):
            np.add.at(counts, (self.paths[:, t], self.paths[:, t + 1]), weight)
        return counts

    def best(self, k):
        order = np.argsort(-self.scores, kind="stable")[:k]
        return self.paths[order], self.scores[order]


def evidence_of(model, xs):
    """ln p(x | z) in NumPy for symbols, -1 missing."""
    table = np.asarray(model.log_emission).T
    return np.where((xs >= 0)[:, None], table[np.maximum(xs, 0)], 0.0)


def draw(seed, *, zeros=False, n=N, v=V):
    rng = np.random.default_rng(seed)
    initial, transition, emission = (rng.dirichlet(np.full(k, 0.7), r) for k, r in ((n, 1), (n, n), (v, n)))
    if zeros:
        transition[np.arange(n), np.arange(n)[::-1]] = 0
        emission[0, 1] = 0
        transition /= transition.sum(1, keepdims=True)
        emission /= emission.sum(1, keepdims=True)
    return hmm.from_probabilities(initial[0], transition, emission)


XS = np.array([[0, 3, 1], [2, 2, -1], [4, 1, 1], [-1, 0, 2], [1, 4, 3]])  # -1: missing
MASK = np.array([[1, 1, 0], [1, 0, 1], [1, 0, 0], [1, 1, 1], [1, 0, 0]], bool)
