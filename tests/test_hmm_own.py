"""Models of one's own, transitions that change, and priors: against the list of all paths."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from enumeration import ENGINES, MASK, TIGHT, XS, Enumeration, N, draw, evidence_of, lse
from marks import all_but

import seqjax as sj
from seqjax import hmm

RNG = np.random.default_rng(0)
T, B = 6, 3
REAL = np.arange(T)[:, None] < [6, 4, 5]


class Poisson(NamedTuple):
    """Counts, of a rate a state: a field that is [N], and is called log_ something."""

    log_initial: jax.Array
    log_transition: jax.Array
    log_rate: jax.Array

    def evidence(self, xs):
        xs = xs[..., None].astype(self.log_rate.dtype)
        return xs * self.log_rate - jnp.exp(self.log_rate) - jax.scipy.special.gammaln(xs + 1)

    def maximise(self, log_initial, log_transition, weights, xs):
        axes = tuple(range(xs.ndim))
        seen = (weights * xs[..., None].astype(weights.dtype)).sum(axes)
        return Poisson(log_initial, log_transition, jnp.log(seen / weights.sum(axes)))

    def by_hand(self, x):
        return scipy.stats.poisson.logpmf(x[:, None], np.exp(self.log_rate))


class FullGaussian(NamedTuple):
    """Vectors, with a covariance [N, d, d]."""

    log_initial: jax.Array
    log_transition: jax.Array
    mean: jax.Array
    covariance: jax.Array

    def evidence(self, xs):
        gap = xs[..., None, :] - self.mean
        squares = (gap * jnp.einsum("...nd,nde->...ne", gap, jnp.linalg.inv(self.covariance))).sum(-1)
        _, log_det = jnp.linalg.slogdet(2 * jnp.pi * self.covariance)
        return -0.5 * (squares + log_det)

    def maximise(self, log_initial, log_transition, weights, xs):
        axes = tuple(range(xs.ndim - 1))
        total = weights.sum(axes)
        mean = jnp.einsum("...n,...d->nd", weights, xs) / total[:, None]
        gap = xs[..., None, :] - mean
        covariance = jnp.einsum("...n,...nd,...ne->nde", weights, gap, gap) / total[:, None, None]
        return FullGaussian(log_initial, log_transition, mean, covariance + 1e-6 * jnp.eye(xs.shape[-1]))

    def by_hand(self, x):
        parts = [scipy.stats.multivariate_normal(m, c).logpdf(x) for m, c in zip(self.mean, self.covariance)]
        return np.stack(parts, -1)


class Mixture(NamedTuple):
    """Numbers from mixtures over Gaussians that the states share: fields [N, K], [K] and []."""

    log_initial: jax.Array
    log_transition: jax.Array
    log_weights: jax.Array
    centres: jax.Array
    log_scale: jax.Array

    def joint(self, xs):
        z = (xs[..., None] - self.centres) * jnp.exp(-self.log_scale)
        return self.log_weights + (-0.5 * z**2 - self.log_scale - 0.5 * jnp.log(2 * jnp.pi))[..., None, :]

    def evidence(self, xs):
        return jax.nn.logsumexp(self.joint(xs), -1)

    def maximise(self, log_initial, log_transition, weights, xs):
        share = weights[..., None] * jax.nn.softmax(self.joint(xs), -1)
        axes = tuple(range(xs.ndim))
        counts = share.sum(axes)
        each = share.sum(-2)
        centres = (each * xs[..., None]).sum(axes) / each.sum(axes)
        square = (each * (xs[..., None] - centres) ** 2).sum() / each.sum()
        log_weights = jnp.log(counts / counts.sum(-1, keepdims=True))
        return Mixture(log_initial, log_transition, log_weights, centres, 0.5 * jnp.log(square))

    def by_hand(self, x):
        parts = scipy.stats.norm.logpdf(x[:, None], self.centres, np.exp(self.log_scale))
        return lse(np.asarray(self.log_weights) + parts[:, None, :], -1)


class Regression(NamedTuple):
    """A line a state: observations are pairs, the noise is shared."""

    log_initial: jax.Array
    log_transition: jax.Array
    slopes: jax.Array
    variance: jax.Array

    def evidence(self, xs):
        inputs, ys = xs
        gap = ys[..., None] - inputs @ self.slopes.T
        return -0.5 * (gap**2 / self.variance + jnp.log(2 * jnp.pi * self.variance))

    def maximise(self, log_initial, log_transition, weights, xs):
        inputs, ys = xs
        moments = jnp.einsum("...n,...d,...e->nde", weights, inputs, inputs)
        slopes = jnp.linalg.solve(moments, jnp.einsum("...n,...d,...->nd", weights, inputs, ys)[..., None])[..., 0]
        gap = ys[..., None] - inputs @ slopes.T
        return Regression(log_initial, log_transition, slopes, (weights * gap**2).sum() / weights.sum())

    def by_hand(self, x):
        inputs, ys = x
        return scipy.stats.norm.logpdf(ys[:, None], inputs @ np.asarray(self.slopes).T, np.sqrt(self.variance))


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Coins:
    """A dataclass, with a field that is no array."""

    log_initial: jax.Array
    log_transition: jax.Array
    heads: jax.Array
    floor: float = dataclasses.field(default=1e-6, metadata={"static": True})

    def evidence(self, xs):
        return jnp.where(xs[..., None] == 1, jnp.log(self.heads), jnp.log1p(-self.heads))

    def maximise(self, log_initial, log_transition, weights, xs):
        axes = tuple(range(xs.ndim))
        heads = jnp.where(xs[..., None] == 1, weights, 0).sum(axes) / weights.sum(axes)
        return dataclasses.replace(
            self,
            log_initial=log_initial,
            log_transition=log_transition,
            heads=jnp.clip(heads, self.floor, 1 - self.floor),
        )

    def by_hand(self, x):
        return scipy.stats.bernoulli.logpmf(x[:, None], np.asarray(self.heads))


def rows(*shape):
    return jnp.log(jnp.asarray(RNG.dirichlet(np.ones(shape[-1]), shape[:-1])))


VECTORS = RNG.normal(size=(T, B, 2)) * 2
MODELS = {
    "poisson": (Poisson(rows(3), rows(3, 3), jnp.log(jnp.array([1.0, 3.0, 9.0]))), RNG.poisson(4, (T, B))),
    "full_gaussian": (
        FullGaussian(
            rows(2), rows(2, 2), jnp.array([[1.0, 0], [-1, 1]]), jnp.array([[[2, 0.9], [0.9, 1]], [[1, 0], [0, 3.0]]])
        ),
        VECTORS,
    ),
    "mixture": (
        Mixture(rows(2), rows(2, 2), rows(2, 3), jnp.array([-1.0, 0, 2]), jnp.zeros(())),
        RNG.normal(size=(T, B)) * 2,
    ),
    "regression": (
        Regression(rows(2), rows(2, 2), jnp.array([[1.0, 0], [-1, 2]]), jnp.ones(())),
        (VECTORS, RNG.normal(size=(T, B))),
    ),
    "dataclass": (Coins(rows(3), rows(3, 3), jnp.array([0.2, 0.5, 0.9])), RNG.integers(0, 2, (T, B))),
}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", MODELS)
def test_models_of_ones_own_by_enumeration(name, engine):
    """Everything inference gives, and one step of learning."""
    model, xs = MODELS[name]
    xs = jax.tree.map(jnp.asarray, xs)
    options = {"mask": jnp.asarray(REAL), "engine": engine}
    posterior, path = hmm.posterior(model, xs, **options), hmm.viterbi(model, xs, **options)
    counts = hmm.expected_counts(model, xs, **options)
    filtered = hmm.forward(model, xs, **options).log_filtered
    initial, transition = np.zeros_like(model.log_initial), np.zeros_like(model.log_transition)
    for b, n in enumerate(REAL.sum(0)):
        x = jax.tree.map(lambda leaf, n=n, b=b: np.asarray(leaf)[:n, b], xs)
        every = Enumeration(np.asarray(model.log_initial), np.asarray(model.log_transition), model.by_hand(x))
        np.testing.assert_allclose(posterior.log_likelihood[b], every.log_likelihood, **TIGHT)
        np.testing.assert_allclose(posterior.log_marginals[:n, b], every.marginals(), **TIGHT)
        np.testing.assert_allclose(filtered[:n, b], every.filtered(), **TIGHT)
        paths, scores = every.best(1)
        np.testing.assert_array_equal(path.states[:n, b], paths[0])
        np.testing.assert_allclose(path.log_prob[b], scores[0], **TIGHT)
        initial += np.exp(every.marginals()[0])
        transition += every.transitions()
    np.testing.assert_allclose(counts.initial, initial, **TIGHT)
    np.testing.assert_allclose(counts.transition, transition, **TIGHT)
    fitted = hmm.fit(model, xs, steps=1, **options).model
    np.testing.assert_allclose(jnp.exp(fitted.log_initial), initial / initial.sum(), **TIGHT)
    np.testing.assert_allclose(jnp.exp(fitted.log_transition), transition / transition.sum(-1, keepdims=True), **TIGHT)


@pytest.mark.parametrize("name", all_but(MODELS, "full_gaussian", "regression"))
def test_models_of_ones_own_learn(name):
    """The likelihood rises at every step, in half precision as well; the kind and the types stay."""
    model, xs = MODELS[name]
    found = hmm.fit(model, xs, mask=REAL.tolist(), steps=8)
    assert (np.diff(found.log_likelihood) > -1e-9).all()
    assert found.log_likelihood[-1] > found.log_likelihood[0] + 0.2
    assert type(found.model) is type(model)
    hmm.check(found.model)
    np.testing.assert_allclose(hmm.normalise(found.model).log_transition, found.model.log_transition, atol=1e-12)
    last = hmm.forward(found.model, xs, mask=REAL).log_likelihood.sum()
    np.testing.assert_allclose(found.log_likelihood[-1], last, rtol=1e-12)


@pytest.mark.parametrize("name", ["poisson", "dataclass"])
def test_models_of_ones_own_are_cells(name):
    model, xs = MODELS[name]
    cell = hmm.cell(model)
    _, ys = sj.unroll(cell, model, cell.initial_state(model, (B,)), jnp.asarray(xs))
    np.testing.assert_allclose(ys, hmm.forward(model, xs).log_filtered, atol=1e-10)
    with pytest.raises(TypeError, match=r"expected a model that can be drawn, got .* or give it redraw\(key\)"):
        cell.init(jax.random.key(0))


def test_a_model_in_half_precision_is_learned_in_float32():
    model, xs = MODELS["poisson"]
    half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), model)
    found = hmm.fit(half, xs, steps=8)
    assert found.log_likelihood.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(found.model)} == {jnp.dtype(jnp.bfloat16)}
    assert (np.diff(found.log_likelihood) > -1e-3).all()
    assert hmm.forward(half, xs).log_likelihood.dtype == jnp.float32


# Transitions that change from step to step


class Driven(NamedTuple):
    """Transitions follow the inputs: softmax over a table that the input chooses. Observations are pairs."""

    log_initial: jax.Array
    tables: jax.Array
    log_emission: jax.Array

    def log_transition(self, xs):
        return jax.nn.log_softmax(self.tables)[xs[0][1:]]

    def evidence(self, xs):
        return self.log_emission.T[xs[1]]

    def maximise(self, log_initial, log_transition, weights, xs):
        inputs, symbols = xs
        pairs = weights[:-1, ..., None] * jnp.exp(log_transition)
        chosen = jax.nn.one_hot(inputs[1:], len(self.tables), dtype=weights.dtype)
        tables = jnp.log(jnp.einsum("...k,...ij->kij", chosen, pairs))
        seen = jnp.einsum(
            "...n,...v->nv", weights, jax.nn.one_hot(symbols, self.log_emission.shape[1], dtype=weights.dtype)
        )
        return Driven(log_initial, tables, jnp.log(seen / seen.sum(-1, keepdims=True)))


class Varying(Enumeration):
    """`Enumeration` with one matrix a step; ``backward`` and ``filtered`` are not used."""

    def __init__(self, log_initial, steps, evidence):
        super().__init__(log_initial, np.zeros((log_initial.size,) * 2), evidence)
        for t, a in enumerate(steps):
            self.scores = self.scores + a[self.paths[:, t], self.paths[:, t + 1]]
        self.log_likelihood = lse(self.scores)

    def transitions(self):
        weight, counts = np.exp(self.scores - self.log_likelihood), np.zeros((self.length - 1, self.n, self.n))
        for t in range(self.length - 1):
            np.add.at(counts[t], (self.paths[:, t], self.paths[:, t + 1]), weight)
        return counts


LENGTH, BATCH = XS.shape
STEPS = np.log(RNG.dirichlet(np.full(N, 0.7), (LENGTH - 1, BATCH, N)))
STEPS[1, :, 0, 1] = -np.inf  # no probability; rows need not sum to 1
INPUTS = RNG.integers(0, 2, XS.shape)
TABLES = RNG.normal(size=(2, N, N))
SEEN = np.maximum(XS, 0)


def of_kind(kind):
    """A model, its observations, and its transitions a sequence ``[T-1, B, N, N]``."""
    plain = draw(0)
    if kind == "one a step":
        return plain._replace(log_transition=jnp.asarray(STEPS[:, 0])), SEEN, np.repeat(STEPS[:, :1], BATCH, 1)
    if kind == "one a step and sequence":
        return plain._replace(log_transition=jnp.asarray(STEPS)), SEEN, STEPS
    tables = TABLES - lse(TABLES, -1)[..., None]
    return Driven(plain.log_initial, jnp.asarray(TABLES), plain.log_emission), (INPUTS, SEEN), tables[INPUTS[1:]]


KINDS = ("one a step", "one a step and sequence", "a function of the input")


@pytest.mark.slow
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", KINDS)
def test_transitions_that_change_by_enumeration(kind, engine, masked):
    """A masked tick is left out with the transition into it; the next real tick's own leads there."""
    model, xs, steps = of_kind(kind)
    mask = MASK if masked else np.ones_like(MASK)
    options = {"mask": mask if masked else None, "engine": engine}
    posterior, path = hmm.posterior(model, xs, **options), hmm.viterbi(model, xs, **options)
    forward, backward = hmm.forward(model, xs, **options), hmm.backward(model, xs, **options)
    counts, top = hmm.expected_counts(model, xs, **options), hmm.top_paths(model, xs, 3, mask=options["mask"])
    joint = hmm.log_joint(model, path.states, xs, mask=options["mask"])
    expected = np.zeros((LENGTH - 1, BATCH, N, N))
    for b in range(BATCH):
        real = np.flatnonzero(mask[:, b])
        evidence = evidence_of(draw(0), SEEN[real, b])
        every = Varying(np.asarray(model.log_initial), steps[real[1:] - 1, b], evidence)
        np.testing.assert_allclose(posterior.log_likelihood[b], every.log_likelihood, **TIGHT)
        np.testing.assert_allclose(posterior.log_marginals[real, b], every.marginals(), **TIGHT)
        for k in range(len(real)):
            part = Varying(np.asarray(model.log_initial), steps[real[1 : k + 1] - 1, b], evidence[: k + 1])
            np.testing.assert_allclose(forward.log_filtered[real[k], b], part.marginals()[-1], **TIGHT)
            rest = [0.0] * N
            if k + 1 < len(real):
                later = steps[real[k + 2 :] - 1, b], evidence[k + 1 :]
                rest = [Varying(steps[real[k + 1] - 1, b][i], *later).log_likelihood for i in range(N)]
            found = backward.log_messages[real[k], b] + backward.log_scale[real[k], b]
            np.testing.assert_allclose(found, rest, **TIGHT)
        paths, scores = every.best(3)
        np.testing.assert_array_equal(path.states[real, b], paths[0])
        np.testing.assert_allclose(path.log_prob[b], scores[0], **TIGHT)
        np.testing.assert_allclose(joint[b], scores[0], **TIGHT)
        np.testing.assert_allclose(top.log_prob[b, : len(scores)], scores, **TIGHT)
        np.testing.assert_array_equal(top.states[real, b, : len(scores)], paths.T)
        expected[real[1:] - 1, b] = every.transitions()
        assert not path.states[~mask[:, b], b].any()
    np.testing.assert_allclose(counts.transition, expected.sum(1) if kind == "one a step" else expected, **TIGHT)
    log_a = model.tables if kind == KINDS[2] else model.log_transition
    field = "tables" if kind == KINDS[2] else "log_transition"
    total = lambda a: hmm.forward(model._replace(**{field: a}), xs, **options).log_likelihood.sum()
    gradient = jax.grad(total)(log_a)
    assert np.isfinite(gradient).all()
    if kind != KINDS[2]:
        np.testing.assert_allclose(gradient, counts.transition, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_long_chains_with_constant_steps_equal_plain_ones(engine):
    """100 ticks, more than a block."""
    model, xs = draw(1), RNG.integers(0, 5, (100, 2))
    steps = model._replace(log_transition=jnp.broadcast_to(model.log_transition, (99, N, N)))
    best = [hmm.viterbi(m, xs, engine=engine) for m in (steps, model)]
    np.testing.assert_allclose(best[0].log_prob, best[1].log_prob, rtol=1e-13)  # paths that tie may differ
    np.testing.assert_allclose(hmm.log_joint(model, best[0].states, xs), best[1].log_prob, rtol=1e-13)
    for f in (hmm.forward, hmm.backward, hmm.posterior):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9),
            f(steps, xs, engine=engine),
            f(model, xs, engine=engine),
        )
    key = jax.random.key(0)
    drawn = [hmm.sample_paths(m, key, xs, engine=engine) for m in (steps, model)]
    np.testing.assert_array_equal(*drawn)
    np.testing.assert_array_equal(hmm.sample(steps, key, 100)[0], hmm.sample(model, key, 100)[0])


@pytest.mark.parametrize("kind", ["one a step", "a function of the input"])
def test_transitions_that_change_are_learned(kind):
    model, xs, steps = of_kind(kind)
    if kind == "one a step":
        model = hmm.normalise(model)
        steps = np.broadcast_to(np.asarray(model.log_transition)[:, None], STEPS.shape)
    found = hmm.fit(model, xs, steps=6)
    assert (np.diff(found.log_likelihood) > -1e-9).all()
    assert found.log_likelihood[-1] > found.log_likelihood[0] + 0.5
    once = hmm.fit(model, xs, steps=1).model
    counts = np.zeros((LENGTH - 1, BATCH, N, N))
    for b in range(BATCH):
        evidence = evidence_of(draw(0), SEEN[:, b])
        counts[:, b] = Varying(np.asarray(model.log_initial), steps[:, b], evidence).transitions()
    if kind == "one a step":
        wanted, got = counts.sum(1), once.log_transition
    else:
        wanted = np.stack([counts[INPUTS[1:] == k].sum(0) for k in (0, 1)])
        got = jax.nn.log_softmax(once.tables)
    np.testing.assert_allclose(np.exp(got), wanted / wanted.sum(-1, keepdims=True), **TIGHT)


# Priors


def test_a_prior_adds_pseudo_counts_by_enumeration():
    model = draw(2)
    prior = hmm.Prior(initial=0.5, transition=2 * np.eye(N), emission=jnp.full((N, 5), 0.1))
    fitted = hmm.fit(model, SEEN, steps=1, prior=prior).model
    initial, transition, emission = np.full(N, 0.5), 2 * np.eye(N), np.full((N, 5), 0.1)
    for b in range(BATCH):
        every = Enumeration(
            np.asarray(model.log_initial), np.asarray(model.log_transition), evidence_of(model, SEEN[:, b])
        )
        weights = np.exp(every.marginals())
        initial, transition = initial + weights[0], transition + every.transitions()
        np.add.at(emission.T, SEEN[:, b], weights)
    for found, counts in zip(fitted, (initial, transition, emission)):
        np.testing.assert_allclose(np.exp(found), counts / counts.sum(-1, keepdims=True), **TIGHT)


def test_what_rises_with_a_prior_is_the_posterior():
    """Symbols never seen keep a probability; with a heavy prior the likelihood alone may fall."""
    model, prior = draw(3), hmm.Prior(initial=3.0, transition=3.0, emission=3.0)
    weighed = []
    for _ in range(6):
        prior_density = 3 * sum(float(leaf.sum()) for leaf in model)
        weighed.append(float(hmm.forward(model, SEEN).log_likelihood.sum()) + prior_density)
        model = hmm.fit(model, SEEN, steps=1, prior=prior).model
    assert (np.diff(weighed) > 0).all()
    assert np.isfinite(hmm.fit(draw(3, zeros=True), SEEN, steps=1, prior=prior).model.log_emission).all()


class Incomplete(NamedTuple):
    log_initial: jax.Array
    evidence: jax.Array


@dataclasses.dataclass
class Unknown:
    log_initial: jax.Array
    log_transition: jax.Array

    def evidence(self, xs):
        return xs


ERRORS = {
    "incomplete": (
        lambda: hmm.forward(Incomplete(rows(2), rows(2)), XS),
        TypeError,
        "Incomplete without log_transition",
    ),
    "unregistered": (
        lambda: hmm.forward(Unknown(rows(2), rows(2, 2)), jnp.zeros((3, 2))),
        TypeError,
        "Unknown: expected a model that is a tree of arrays, .* jax.tree_util.register_dataclass",
    ),
    "steps": (
        lambda: hmm.forward(of_kind("one a step")[0], SEEN[:3]),
        ValueError,
        r"forward: expected log_transition of shape \(4, 4\), or one a step \(2, 4, 4\) or \(2, 3, 4, 4\), got",
    ),
    "cell": (
        lambda: hmm.cell(of_kind("one a step")[0]),
        ValueError,
        r"expected transitions \[N, N\] that serve every tick, got a HMM whose transitions change",
    ),
    "sample": (
        lambda: hmm.sample(of_kind("one a step")[0], jax.random.key(0), 9),
        ValueError,
        r"sample: expected log_transition \[N, N\] or, for 9 ticks, \[8, N, N\], got shape \(4, 4, 4\)",
    ),
    "rows": (
        lambda: hmm.fit(MODELS["poisson"][0]._replace(log_transition=jnp.zeros((3, 3))), SEEN, steps=1),
        ValueError,
        r"Poisson: expected transition\[0\] to sum to 1, got 3",
    ),
    "emission": (
        lambda: hmm.fit(MODELS["poisson"][0], SEEN, steps=1, prior=hmm.Prior(emission=1.0)),
        TypeError,
        "fit: expected a model whose maximise takes emission_counts, got Poisson",
    ),
    "prior": (
        lambda: hmm.fit(of_kind(KINDS[2])[0], (INPUTS, SEEN), steps=1, prior=hmm.Prior(transition=1.0)),
        ValueError,
        "fit: expected transitions in a field, to which pseudo-counts can be added, got a method",
    ),
    "prior type": (lambda: hmm.fit(draw(0), SEEN, steps=1, prior=1.0), TypeError, "fit: expected a Prior, got float"),
    "huge": (
        lambda: hmm.fit(hmm.random_gaussian(jax.random.key(0), 2, 1), np.array([[1.0], [1e308]]), steps=1),
        ValueError,
        "fit: expected observations whose squares are numbers in float64, up to .* got 1e\\+308. Scale them",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_bad_input_is_told(name):
    call, kind, message = ERRORS[name]
    with pytest.raises(kind, match=message):
        call()
