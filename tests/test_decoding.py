"""Decoding against Python loops, enumeration of all sequences, and the model's own distribution."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from laws import no_compiles

import seqjax as sj
from seqjax.decoding import draws
from seqjax.decoding.ranking import highest, largest

V, H, EOS = 6, 5, 1


def make(vocabulary_size=V, seed=0, scale=3.0):
    """A small recurrent model with decided opinions, as a layer, and its parameters."""
    layer = sj.serial(sj.embedding(vocabulary_size, 4), sj.recurrent(sj.elman(4, H)), sj.dense(H, vocabulary_size))
    params = layer.init(jax.random.key(seed))
    return layer, jax.tree.map(lambda p: scale * p, params)


LAYER, PARAMS = make()


def log_softmax(x):
    x = np.asarray(x)
    return x - x.max(-1, keepdims=True) - np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True))


@jax.jit
def _step(state, symbol):
    state, ys = LAYER.apply(PARAMS, state, symbol[None])
    return state, ys[0]


def step(state, symbol):
    """One example, one tick: the new state and the log-probabilities."""
    state, y = _step(state, jnp.asarray(symbol))
    return state, log_softmax(y)


@jax.jit
def _chunk(inputs):
    return LAYER.apply(PARAMS, LAYER.initial_state(PARAMS), inputs)[1]


def score(first, symbols):
    """Σ log p of a sequence by the model in one chunk."""
    inputs = np.zeros(20, int)
    inputs[: len(symbols)] = [first, *symbols[:-1]]
    return log_softmax(_chunk(inputs))[np.arange(len(symbols)), list(symbols)].sum()


def greedy_loop(first, length, eos=None, allowed=lambda symbols: range(V), prefix=()):
    symbols, state, last = [], LAYER.initial_state(PARAMS), first
    for t in range(length):
        state, log_probs = step(state, last)
        last = prefix[t] if t < len(prefix) else max(allowed(symbols), key=lambda w: log_probs[w])
        symbols.append(last)
        if last == eos:
            break
    return symbols


FIRST = jnp.array([0, 2, 3, 5], jnp.int32)


def states(batch=(4,)):
    return LAYER.initial_state(PARAMS, batch)


def rows(decoded):
    symbols = np.asarray(decoded.symbols)
    return [symbols[:n, b].tolist() for b, n in enumerate(decoded.lengths.tolist())]


@pytest.mark.parametrize("eos", [None, EOS])
def test_greedy_equals_a_python_loop(eos):
    for model in (LAYER, sj.as_cell(LAYER))[: 1 if eos is None else 2]:
        decoded = sj.sample(model, PARAMS, states(), FIRST, length=9, eos=eos)
        expected = [greedy_loop(int(f), 9, eos) for f in FIRST]
        assert rows(decoded) == expected
        if eos is not None:
            assert len(set(map(len, expected))) > 1
            symbols = np.asarray(decoded.symbols)
            assert all((symbols[len(row) :, b] == EOS).all() for b, row in enumerate(expected))
        np.testing.assert_allclose(
            decoded.log_probs, [score(int(f), row) for f, row in zip(FIRST, expected)], rtol=1e-10
        )


def test_decoding_goes_on_from_its_state():
    whole = sj.sample(LAYER, PARAMS, states(), FIRST, length=9)
    one = sj.sample(LAYER, PARAMS, states(), FIRST, length=5)
    two = sj.sample(LAYER, PARAMS, one.state, one.symbols[-1], length=4)
    assert np.concatenate([one.symbols, two.symbols]).tolist() == whole.symbols.tolist()
    np.testing.assert_allclose(one.log_probs + two.log_probs, whole.log_probs, rtol=1e-12)
    chex.assert_trees_all_close(two.state, whole.state, rtol=1e-12)


def test_a_finished_sequence_never_changes():
    """Its symbols, score and state are those of decoding no further than it goes."""
    long = sj.sample(LAYER, PARAMS, states(), FIRST, length=9, eos=EOS)
    b = int(long.lengths.argmin())
    n = int(long.lengths[b])
    assert n < 9
    short = sj.sample(LAYER, PARAMS, states(()), FIRST[b], length=n, eos=EOS)
    assert short.symbols.tolist() == long.symbols[:n, b].tolist()
    chex.assert_trees_all_close(short.state, jax.tree.map(lambda s: s[b], long.state), rtol=1e-12)
    np.testing.assert_allclose(short.log_probs, long.log_probs[b], rtol=1e-12)


@pytest.mark.parametrize("search", [False, True], ids=["sample", "beam"])
def test_a_masked_sequence_stays_empty(search):
    """NaN in its state harms nobody."""
    mask = jnp.array([True, False, True, True])
    bad = jax.tree.map(lambda s: s.at[1].set(jnp.nan), states())

    def run(state, mask):
        if search:
            return sj.beam_search(LAYER, PARAMS, state, FIRST, length=5, width=3, eos=EOS, mask=mask)
        return sj.sample(LAYER, PARAMS, state, FIRST, length=5, key=jax.random.key(0), eos=EOS, mask=mask)

    got, expected = run(bad, mask), run(states(), jnp.ones(4, bool))
    got, expected = jax.tree.map(np.asarray, (got, expected))
    symbols, lengths = got.symbols, got.lengths
    assert not lengths[..., 1].any()
    assert (symbols[..., 1] == EOS).all()
    assert (got.log_probs[0, 1] if search else got.log_probs[1]) == 0
    real = np.array([0, 2, 3])
    np.testing.assert_array_equal(symbols[..., real], expected.symbols[..., real])
    np.testing.assert_array_equal(got.log_probs[..., real], expected.log_probs[..., real])
    if not search:
        assert all(np.isnan(leaf[1]).all() for leaf in jax.tree.leaves(got.state))


def narrowed(log_probs, temperature=1.0, top_k=V, top_p=1.0, forbidden=()):
    """The distribution that sampling should follow, by its definition."""
    p = np.exp(log_probs)
    p[list(forbidden)] = 0
    p = p ** (1 / temperature)
    order = np.argsort(-p)
    p[order[top_k:]] = 0
    p /= p.sum()
    keep, total = [], 0.0
    for w in order:
        if total >= top_p:
            break
        keep.append(w)
        total += p[w]
    q = np.zeros_like(p)
    q[keep] = p[keep]
    return q / q.sum()


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.6},
        {"top_k": 3},
        {"top_p": 0.8},
        {"temperature": 1.7, "top_k": 4, "top_p": 0.7},
        {"forbidden": (2, 4)},
    ],
)
def test_samples_follow_the_distribution(options):
    """Chi-square over pairs of symbols; what has probability zero never comes."""
    n = 20_000
    layer, params = LAYER, jax.tree.map(lambda p: p * 0.5, PARAMS)
    decoded = sj.sample(layer, params, states((n,)), 3, length=2, key=jax.random.key(7), **options)
    expected = np.zeros((V, V))

    def log_probs(*symbols):
        _, ys = layer.apply(params, layer.initial_state(params), jnp.array(symbols))
        return log_softmax(ys[-1])

    first = narrowed(log_probs(3), **options)
    for a in range(V):
        if first[a]:
            expected[a] = n * first[a] * narrowed(log_probs(3, a), **options)
    counts = np.zeros((V, V))
    np.add.at(counts, tuple(np.asarray(decoded.symbols)), 1)
    assert not counts[expected == 0].any()
    assert (expected > 0).sum() > 5
    few = (expected > 0) & (expected < 5)
    f_obs = np.append(counts[expected >= 5], counts[few].sum())
    f_exp = np.append(expected[expected >= 5], expected[few].sum())
    kept = f_exp > 0
    assert scipy.stats.chisquare(f_obs[kept], f_exp[kept]).pvalue > 1e-3
    pairs = np.asarray(decoded.symbols[:, :5]).T
    np.testing.assert_allclose(
        decoded.log_probs[:5], [log_probs(3)[a] + log_probs(3, a)[b] for a, b in pairs], rtol=1e-10
    )


def constant(params, symbols):
    """The same logits after every symbol."""
    return jnp.broadcast_to(params, (*symbols.shape, *params.shape))


@pytest.mark.parametrize(
    "options",
    [{}, {"temperature": 1.7, "forbidden": (0, 1, 2, 3, 4, 5, 24, 600)}, {"top_p": 0.8}, {"top_k": 550, "top_p": 0.95}],
    ids=["plain", "forbidden", "top_p", "top_k"],
)
def test_samples_among_many_symbols_follow_the_distribution(options):
    """More symbols than are drawn in one step, and no square number of them, so that groups are unequal."""
    n, size = 20_000, 601
    logits = 1.5 * jax.random.normal(jax.random.key(0), (size,))
    model = sj.pointwise(constant)
    drawn = sj.sample(model, logits, (), jnp.zeros(n, int), length=1, key=jax.random.key(1), **options)
    expected = n * narrowed(log_softmax(logits), **({"top_k": size} | options))
    counts = np.bincount(drawn.symbols[0], minlength=size)
    assert len(counts) == size
    assert not counts[expected == 0].any()
    often = expected >= 5
    assert often.sum() > 100
    few = (expected > 0) & ~often
    observed, wanted = np.append(counts[often], counts[few].sum()), np.append(expected[often], expected[few].sum())
    kept = wanted > 0
    assert scipy.stats.chisquare(observed[kept], wanted[kept]).pvalue > 1e-3


@pytest.mark.parametrize("size", [4, 600])
def test_draws_of_different_ticks_are_independent(size):
    """Noise is drawn for many ticks at once: no draw may come again, at any distance."""
    model, length = sj.pointwise(constant), 150
    state, first = (), jnp.zeros(300, int)
    drawn = sj.sample(model, jnp.zeros(size), state, first, length=length, key=jax.random.key(2))
    halves = np.asarray(drawn.symbols) % 2
    for distance in (1, 2, 63, 64, 65, 128):
        a, b = halves[:-distance].ravel(), halves[distance:].ravel()
        table = np.bincount(2 * a + b, minlength=4).reshape(2, 2)
        assert scipy.stats.chi2_contingency(table, correction=False).pvalue > 1e-4


def test_top_k_is_exact_among_equals():
    """Four symbols of one probability: top_k=2 draws from two of them, top_p=.5 too."""
    flat = sj.as_cell(sj.pointwise(lambda params, x: jnp.zeros((*x.shape, 4))))
    for options in ({"top_k": 2}, {"top_p": 0.5}):
        drawn = sj.sample(flat, (), (), jnp.zeros(200, int), length=3, key=jax.random.key(0), **options)
        assert set(drawn.symbols.ravel().tolist()) == {0, 1}


def test_several_samples_are_several_keys():
    keys = jax.random.split(jax.random.key(0), 3)
    many = jax.vmap(lambda key: sj.sample(LAYER, PARAMS, states(), FIRST, length=5, key=key, eos=EOS))(keys)
    assert many.symbols.shape == (3, 5, 4)
    for i, key in enumerate(keys):
        one = sj.sample(LAYER, PARAMS, states(), FIRST, length=5, key=key, eos=EOS)
        np.testing.assert_array_equal(many.symbols[i], one.symbols)
    assert len({tuple(s.ravel().tolist()) for s in many.symbols}) == 3


def test_prefixes():
    prefix = jnp.array([[4, 4, 4, 4], [5, 5, 2, 2], [0, 0, 3, 3]])
    lengths = jnp.array([3, 1, 0, 2])
    decoded = sj.sample(LAYER, PARAMS, states(), FIRST, length=6, prefix=prefix, prefix_lengths=lengths, forbidden=[4])
    expected = [
        greedy_loop(int(f), 6, None, lambda symbols: [w for w in range(V) if w != 4], prefix[:n, b].tolist())
        for b, (f, n) in enumerate(zip(FIRST, lengths))
    ]
    assert rows(decoded) == expected
    np.testing.assert_allclose(decoded.log_probs, [score(int(f), row) for f, row in zip(FIRST, expected)], rtol=1e-10)
    one = sj.sample(LAYER, PARAMS, states(), FIRST, length=4, prefix=jnp.array([4, EOS]), eos=EOS)
    assert rows(one) == [[4, EOS]] * 4


@pytest.mark.parametrize("n", [1, 2, 3])
def test_no_ngram_comes_twice(n):
    """Greedy decoding that may not repeat, against one that looks at all n-grams so far."""

    def allowed(first):
        def choose(symbols):
            line = [first, *symbols]
            seen = {tuple(line[i : i + n]) for i in range(len(line) - n + 1)}
            return [w for w in range(V) if (*line[len(line) - n + 1 :], w) not in seen]

        return choose

    length = {1: 5, 2: 14, 3: 14}[n]
    decoded = sj.sample(LAYER, PARAMS, states(), FIRST, length=length, no_repeat_ngram=n)
    expected = [greedy_loop(int(f), length, None, allowed(int(f))) for f in FIRST]
    assert rows(decoded) == expected
    assert rows(sj.sample(LAYER, PARAMS, states(), FIRST, length=length)) != expected


# a b a b … then <eos> after b only; symbols 2 = a, 3 = b.
TABLE = np.full((3, V), -1)
TABLE[0, 2], TABLE[1, 3], TABLE[2, 2], TABLE[2, EOS] = 1, 2, 1, 0


def in_language(symbols):
    """Legal beginnings of (ab)+ <eos>."""
    text = "".join({2: "a", 3: "b", EOS: "."}.get(w, "?") for w in symbols)
    return (
        "?" not in text
        and ("ab" * len(text) + "...").startswith(text.rstrip("."))
        and ("." not in text or (text.endswith("b.") and text.count(".") == 1))
    )


def test_state_machine():
    rule = sj.state_machine(TABLE)

    def allowed(symbols):
        return [w for w in range(V) if in_language([*symbols, w])]

    decoded = sj.sample(LAYER, PARAMS, states(), FIRST, length=7, eos=EOS, rules=[rule])
    assert rows(decoded) == [greedy_loop(int(f), 7, EOS, allowed) for f in FIRST]
    drawn = sj.sample(
        LAYER, PARAMS, states((300,)), 0, length=7, eos=EOS, rules=[rule], key=jax.random.key(0), temperature=3.0
    )
    assert all(in_language(row) for row in rows(drawn))
    assert len({len(row) for row in rows(drawn)}) > 2


def test_where_nothing_is_allowed_a_sequence_ends():
    table = np.full((2, V), -1)
    table[0, 2] = 1
    decoded = sj.sample(LAYER, PARAMS, states(), FIRST, length=4, rules=[sj.state_machine(table)])
    assert rows(decoded) == [[2]] * 4
    assert np.isneginf(decoded.log_probs).all()
    found = sj.beam_search(LAYER, PARAMS, states(), FIRST, length=4, width=2, rules=[sj.state_machine(table)])
    assert np.isneginf(found.scores).all()
    assert not found.lengths.any()


BIG, BIG_PARAMS = make(30, seed=5, scale=2.0)
SYMBOLS = (EOS, 2, 3, 5)
OTHERS = tuple(w for w in range(30) if w not in SYMBOLS)


def all_sequences(length):
    """Every sequence that ends in <eos>, and every unfinished one of full length."""
    body = [w for w in SYMBOLS if w != EOS]
    ended = [(*b, EOS) for n in range(length) for b in itertools.product(body, repeat=n)]
    return ended + list(itertools.product(body, repeat=length))


def big_scores(first, sequences):
    """Σ log p of many sequences, by the model in one chunk."""
    length = max(map(len, sequences))
    padded = np.array([(*s, *[0] * (length - len(s))) for s in sequences]).T
    inputs = np.concatenate([np.full((1, len(sequences)), first), padded[:-1]])
    _, ys = BIG.apply(BIG_PARAMS, BIG.initial_state(BIG_PARAMS, (len(sequences),)), jnp.asarray(inputs))
    log_probs = np.take_along_axis(log_softmax(ys), padded[..., None], -1)[..., 0]
    return (log_probs * (np.arange(length)[:, None] < [len(s) for s in sequences])).sum(0)


@pytest.mark.parametrize("k", [1, 3, 8])
@pytest.mark.parametrize("n", [5000, 64 * 100])
def test_the_largest_are_those_of_top_k(n, k):
    """Order and places, with ties, forbidden symbols and fewer allowed than wanted."""
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=n), rng.integers(0, 4, n).astype(float), np.full(n, -np.inf), np.full(n, -np.inf)]
    rows[3][[n - 1, 70]] = 1.0
    x = jnp.array(np.stack(rows).reshape(2, 2, n))
    values, places = jax.jit(largest, static_argnums=1)(x, k)
    expected = jax.lax.top_k(x, k)
    np.testing.assert_array_equal(values, expected[0])
    np.testing.assert_array_equal(places, expected[1])


def test_the_highest_is_that_of_argmax():
    """Of equals the first; where everything is forbidden, a place that exists."""
    rng = np.random.default_rng(0)
    x = np.stack([rng.normal(size=70), rng.integers(0, 4, 70).astype(float), np.full(70, -np.inf)])
    np.testing.assert_array_equal(jax.jit(highest)(x), x.argmax(-1))
    assert 0 <= highest(jnp.full(5, jnp.nan)) < 5


def brute_force(first, length, alpha, legal):
    sequences = [s for s in all_sequences(length) if legal(s)]
    log_probs = big_scores(first, sequences)
    scores = log_probs / ((5 + np.array([len(s) for s in sequences])) / 6) ** alpha
    return sorted(zip(scores, log_probs, sequences), reverse=True)


BIG_TABLE = np.full((3, 30), -1)
BIG_TABLE[:, :V] = TABLE
CASES = {
    "plain": (4, {"forbidden": OTHERS}, lambda s: True),
    "penalty": (4, {"forbidden": OTHERS, "length_penalty": 0.9}, lambda s: True),
    "heavy_penalty": (4, {"forbidden": OTHERS, "length_penalty": 3.0}, lambda s: True),
    "prefix": (4, {"forbidden": OTHERS, "prefix": jnp.array([5, 2])}, lambda s: s[:2] == (5, 2)),
    "machine": (6, {"rules": [sj.state_machine(BIG_TABLE)]}, in_language),
    "no_repeat": (3, {"forbidden": OTHERS, "no_repeat_ngram": 1}, lambda s: len({3, *s}) == len(s) + 1),
}


@pytest.mark.parametrize("case", CASES)
def test_beam_search_equals_brute_force(case):
    """Wide enough to hold all beginnings, the beam finds the K best of all sequences, in order."""
    length, options, legal = CASES[case]
    expected = brute_force(3, length, options.get("length_penalty", 0.0), legal)[:30]
    state = BIG.initial_state(BIG_PARAMS)
    found = sj.beam_search(BIG, BIG_PARAMS, state, 3, length=length, width=30, eos=EOS, **options)
    found = jax.tree.map(np.asarray, found)
    n = len(expected)
    lengths = found.lengths.tolist()
    assert [tuple(found.symbols[k, : lengths[k]].tolist()) for k in range(n)] == [s for *_, s in expected]
    np.testing.assert_allclose(found.scores[:n], [score for score, *_ in expected], rtol=1e-10)
    np.testing.assert_allclose(found.log_probs[:n], [log_prob for _, log_prob, _ in expected], rtol=1e-10)
    assert np.isneginf(found.scores[n:]).all()
    for k in range(n):
        assert (found.symbols[k, lengths[k] :] == EOS).all()


def reference_beam(first, length, width, eos, alpha):
    """The same search with lists and one example."""

    def total(log_prob, n):
        return log_prob / ((5 + n) / 6) ** alpha

    alive = [(0.0, (), LAYER.initial_state(PARAMS), first)]
    finished = []
    for t in range(length):
        grown = []
        for log_prob, symbols, state, last in alive:
            state, log_probs = step(state, last)
            for w in range(V):
                item = (log_prob + log_probs[w], (*symbols, w), state, w)
                if w == eos:
                    finished.append((total(item[0], t + 1), item[1]))
                else:
                    grown.append(item)
        alive = sorted(grown, key=lambda item: -item[0])[:width]
        finished = sorted(finished, reverse=True)[:width]
    return sorted([*finished, *((total(a[0], length), a[1]) for a in alive)], reverse=True)[:width]


@pytest.mark.parametrize(("width", "alpha"), [(1, 0.0), (2, 0.0), (3, 0.7)])
def test_narrow_beams_equal_a_search_with_lists(width, alpha):
    found = sj.beam_search(LAYER, PARAMS, states(), FIRST, length=8, width=width, eos=EOS, length_penalty=alpha)
    found = jax.tree.map(np.asarray, found)
    for b, f in enumerate(FIRST):
        expected = reference_beam(int(f), 8, width, EOS, alpha)
        got = [tuple(found.symbols[k, : found.lengths[k, b], b].tolist()) for k in range(width)]
        assert got == [symbols for _, symbols in expected]
        np.testing.assert_allclose(found.scores[:, b], [total for total, _ in expected], rtol=1e-10)


def test_a_beam_of_one_is_greedy():
    found = sj.beam_search(LAYER, PARAMS, states(), FIRST, length=9, width=1)
    decoded = sj.sample(LAYER, PARAMS, states(), FIRST, length=9)
    np.testing.assert_array_equal(found.symbols[0], decoded.symbols)
    np.testing.assert_allclose(found.log_probs[0], decoded.log_probs, rtol=1e-12)


def test_any_state_is_reordered():
    """A state with keys, two batch axes, a context in the parameters: each row as if it were alone."""
    cell = sj.stack(sj.zoneout(sj.gru(4, H), 0.4), sj.lstm(H, V))

    def read(params, state, x):
        table, context, inner = params
        state, h = cell.step(inner, state, table[x])
        return state, 4 * h + context

    model = sj.Cell(
        init=lambda key: (jax.random.normal(key, (V, 4)), jnp.zeros(()), cell.init(key)),
        initial_state=lambda p, batch=(), *, key=None: cell.initial_state(p[2], batch, key=key),
        step=read,
    )
    table, _, inner = model.init(jax.random.key(1))
    context = jax.random.normal(jax.random.key(2), (2, 3, V))
    state = model.initial_state((table, context, inner), (2, 3), key=jax.random.key(3))
    first = jnp.arange(6).reshape(2, 3)
    options = {"length": 5, "width": 3, "eos": EOS}
    found = sj.beam_search(model, (table, context, inner), state, first, **options)
    for i, j in itertools.product(range(2), range(3)):
        row = jax.tree.map(lambda s, i=i, j=j: s[i, j], state)
        alone = sj.beam_search(model, (table, context[i, j], inner), row, first[i, j], **options)
        np.testing.assert_array_equal(found.symbols[:, :, i, j], alone.symbols)
        np.testing.assert_allclose(found.scores[:, i, j], alone.scores, rtol=1e-10)


def test_ensembles():
    other = jax.tree.map(lambda p: -0.7 * p, PARAMS)
    pair, state = (PARAMS, other), (states(), states())
    a, b = (LAYER.apply(p, states(), FIRST[None])[1][0] for p in pair)
    p, q = np.exp(log_softmax(a)), np.exp(log_softmax(b))
    _, y = sj.ensemble(LAYER, LAYER).step(pair, state, FIRST)
    np.testing.assert_allclose(np.exp(y), (p + q) / 2, rtol=1e-10)
    _, y = sj.ensemble(LAYER, LAYER, mean="geometric").step(pair, state, FIRST)
    np.testing.assert_allclose(np.exp(y), np.sqrt(p * q) / np.sqrt(p * q).sum(-1, keepdims=True), rtol=1e-10)
    twice = sj.ensemble(LAYER, sj.as_cell(LAYER))
    assert jax.tree.structure(twice.init(jax.random.key(0))) == jax.tree.structure((PARAMS, PARAMS))
    found = sj.beam_search(twice, (PARAMS, PARAMS), state, FIRST, length=5, width=2, eos=EOS)
    single = sj.beam_search(LAYER, PARAMS, states(), FIRST, length=5, width=2, eos=EOS)
    np.testing.assert_array_equal(found.symbols, single.symbols)
    np.testing.assert_allclose(found.scores, single.scores, rtol=1e-10)


def test_free_run():
    cell = sj.gru(3, 3)
    params = cell.init(jax.random.key(0))
    state, x = cell.initial_state(params, (2,)), jnp.ones((2, 3))
    last, ys = sj.free_run(cell, params, state, x, length=6, draw=jnp.sin)
    expected = []
    for _ in range(6):
        state, y = cell.step(params, state, x)
        x = jnp.sin(y)
        expected.append(x)
    np.testing.assert_allclose(ys, jnp.stack(expected), rtol=1e-12)
    np.testing.assert_allclose(last, state, rtol=1e-12)

    def coin(key, y):
        return jax.random.bernoulli(key, 0.5 + 0 * y)

    flat = sj.pointwise(lambda params, x: x)
    _, tosses = sj.free_run(flat, (), (), jnp.zeros(4000), length=2, draw=coin, key=jax.random.key(0))
    assert abs(tosses.mean() - 0.5) < 0.02
    assert abs((tosses[0] * tosses[1]).mean() - 0.25) < 0.03


def test_nothing_is_compiled_twice():
    def decode(params, key, temperature, top_p, first, mask):
        options = {"length": 6, "eos": EOS, "forbidden": [4], "no_repeat_ngram": 2, "mask": mask}
        sj.sample(LAYER, params, states(), first, key=key, temperature=temperature, top_p=top_p, **options)
        sj.beam_search(LAYER, params, states(), first, width=2, length_penalty=temperature, **options)

    masks = [jnp.ones(4, bool), jnp.zeros(4, bool)]
    inputs = [(jax.tree.map(lambda p, i=i: p * i, PARAMS), jax.random.key(i)) for i in (1, 2)]
    decode(*inputs[0], 0.7, 0.9, FIRST, masks[0])
    with no_compiles():
        decode(*inputs[1], 1.3, 0.5, FIRST, masks[1])


def test_memory_does_not_grow_with_length():
    """Scratch memory of the compiled loop, apart from the symbols themselves."""

    def scratch(length):
        def write(params, state, key):
            return sj.sample(LAYER, params, state, FIRST, length=length, key=key, eos=EOS).symbols

        analysis = jax.jit(write).lower(PARAMS, states(), jax.random.key(0)).compile().memory_analysis()
        return analysis.temp_size_in_bytes

    assert scratch(10_000) == scratch(100)


def test_noise_is_drawn_at_once_for_as_many_ticks_as_fit():
    """At most 64 ticks, at most a mebibyte of float32, at least one tick, at most what is written."""
    assert draws.ticks((2, 3), 65, 1000) == 64
    assert draws.ticks((), 65, 5) == 5
    assert draws.ticks((4096,), 60, 1000) == 1
    assert draws.ticks((32,), 10_000, 1000) == 2**18 // (32 * 200)
    assert draws.ticks((0,), 65, 1000) == 64


def test_a_layer_ends_early():
    """The loop stops with the last sequence: a million ticks cost nothing."""
    decoded = sj.sample(LAYER, PARAMS, states(), FIRST, length=1_000_000, eos=EOS, prefix=jnp.array([EOS]))
    assert decoded.lengths.tolist() == [1] * 4


def _unequal_ensemble():
    state = (states(), BIG.initial_state(BIG_PARAMS, (4,)))
    return sj.ensemble(LAYER, BIG).step((PARAMS, BIG_PARAMS), state, FIRST)


def call(function=sj.sample, **changes):
    arguments = {"model": LAYER, "params": PARAMS, "state": states(), "first": FIRST, "length": 3} | changes
    return function(**arguments)


def search(**changes):
    return call(sj.beam_search, **({"width": 2} | changes))


@pytest.mark.parametrize(
    ("run", "error", "match"),
    [
        (lambda: call(length=0), ValueError, "sample: expected length to be a whole number of at least 1, got 0"),
        (lambda: call(first=FIRST[:3]), ValueError, r"expected first of shape \(4,\)"),
        (lambda: call(first=FIRST.astype(float)), TypeError, "sample: expected integers, got float64"),
        (lambda: call(eos=V), ValueError, "sample: expected eos from 0 to 5, got 6"),
        (lambda: call(temperature=0.5), ValueError, "expected a key where temperature, top_k or top_p are given"),
        (lambda: call(top_k=2), ValueError, "expected a key where temperature, top_k or top_p are given"),
        (lambda: call(key=jax.random.key(0), temperature=0.0), ValueError, "expected temperature above 0, got 0.0"),
        (lambda: call(key=jax.random.key(0), top_p=1.5), ValueError, "expected top_p above 0 and at most 1, got 1.5"),
        (lambda: call(key=jax.random.key(0), top_k=7), ValueError, "top_k of at most the vocabulary's 6"),
        (lambda: call(forbidden=[9]), ValueError, r"forbid: expected symbols from 0 to 5, got \[9\]"),
        (lambda: call(forbidden=range(V)), ValueError, "forbid: expected at least one symbol to stay"),
        (lambda: call(no_repeat_ngram=0), ValueError, "no_repeat: expected n to be a whole number of at least 1"),
        (lambda: call(prefix=jnp.zeros(4, int)), ValueError, r"a prefix \[P, \*batch\] of at most 3 symbols"),
        (lambda: call(prefix_lengths=FIRST), ValueError, "expected a prefix where prefix_lengths are given"),
        (lambda: call(prefix=FIRST[:2], prefix_lengths=FIRST[:3]), ValueError, r"prefix_lengths of shape \(4,\)"),
        (lambda: call(mask=jnp.ones(3, bool)), ValueError, r"expected a mask of bool of shape \(4,\), got bool \(3,\)"),
        (lambda: call(rules=[sj.forbid(V + 1, [0])]), ValueError, r"output is a mask \(4, 6\) of bool"),
        (lambda: call(model=len), TypeError, "expected a Layer, got builtin_function_or_method"),
        (lambda: search(width=V + 1), ValueError, "a width of at most the vocabulary's 6 symbols"),
        (lambda: search(width=0), ValueError, "expected width to be a whole number of at least 1"),
        (lambda: search(length_penalty=-1.0), ValueError, "expected a length_penalty of at least 0, got -1.0"),
        (lambda: sj.state_machine(np.full((2, 3), 2)), ValueError, r"a table \[states, symbols\] of states"),
        (lambda: sj.ensemble(), ValueError, "ensemble: expected at least one model"),
        (lambda: sj.ensemble(LAYER, mean="median"), ValueError, "expected mean to be one of"),
        (lambda: _unequal_ensemble(), ValueError, "ensemble: expected logits of one shape"),
        (lambda: sj.free_run(LAYER, PARAMS, states(), FIRST, length=2), ValueError, "free_run: expected outputs"),
        (lambda: sj.free_run(LAYER, PARAMS, states(), FIRST, length=2, key=1), ValueError, r"expected draw\(key, y\)"),
    ],
)  # fmt: skip
def test_errors(run, error, match):
    with pytest.raises(error, match=match):
        run()
