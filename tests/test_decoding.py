"""Sampling against Python loops and the model's own distribution."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from laws import no_compiles
from small_language import (
    BIG,
    BIG_PARAMS,
    EOS,
    FIRST,
    LAYER,
    PARAMS,
    TABLE,
    V,
    greedy_loop,
    in_language,
    log_softmax,
    narrowed,
    rows,
    score,
    states,
)

import seqjax as sj

pytestmark = pytest.mark.usefixtures("equal_ranks")


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


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.6},
        {"top_k": 3},
        {"top_p": 0.8},
        {"temperature": 1.7, "top_k": 4, "top_p": 0.7},
        {"forbidden": (2, 4)},
        {"typical_p": 0.6},
        {"typical_p": 0.8, "temperature": 1.5, "top_k": 5, "top_p": 0.95, "forbidden": (4,)},
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


def test_a_prefix_outside_the_vocabulary_has_no_probability():
    for wrong in (-1, V):
        assert np.isnan(sj.sample(LAYER, PARAMS, states(), FIRST, length=3, prefix=[2, wrong]).log_probs).all()
        found = sj.beam_search(LAYER, PARAMS, states(), FIRST, length=3, width=2, prefix=[2, wrong])
        assert np.isneginf(found.scores).all()


def test_symbols_come_as_lists_and_in_any_integers():
    expected = rows(sj.sample(LAYER, PARAMS, states(), FIRST, length=6, prefix=jnp.array([4, 2])))
    for first, prefix in ((FIRST.tolist(), [4, 2]), (np.asarray(FIRST, np.uint8), np.array([4, 2], np.int8))):
        assert rows(sj.sample(LAYER, PARAMS, states(), first, length=6, prefix=prefix)) == expected


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


@pytest.mark.slow
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


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_samples_of_an_ensemble_follow_its_mean(mean):
    """First symbols of many draws against the mean by definition."""
    pair, n = (PARAMS, jax.tree.map(lambda p: -0.7 * p, PARAMS)), 20_000
    p, q = (np.exp(log_softmax(LAYER.apply(one, states(()), jnp.array([2]))[1][0])) for one in pair)
    expected = (p + q) / 2 if mean == "arithmetic" else np.sqrt(p * q) / np.sqrt(p * q).sum()
    both = sj.ensemble(LAYER, LAYER, mean=mean)
    drawn = sj.sample(both, pair, (states((n,)), states((n,))), 2, length=1, key=jax.random.key(3))
    assert scipy.stats.chisquare(np.bincount(drawn.symbols[0], minlength=V), n * expected).pvalue > 1e-3


def test_a_temperature_and_a_share_a_sequence():
    """Each sequence is drawn as with its own numbers for all, V of them as well."""
    batch, key = (V,), jax.random.key(5)
    first = jnp.arange(V, dtype=jnp.int32)

    def draw(temperature, share):
        options = {"temperature": temperature, "top_p": share, "typical_p": share, "length": 40, "key": key}
        return sj.sample(LAYER, PARAMS, states(batch), first, **options).symbols

    temperatures, shares = jnp.linspace(0.2, 3.0, V), jnp.linspace(0.3, 1.0, V)
    together = draw(temperatures, shares)
    for b in range(V):
        np.testing.assert_array_equal(together[:, b], draw(temperatures[b], shares[b])[:, b])
    assert (together != draw(1.0, 1.0)).any()
    greedy = sj.sample(LAYER, PARAMS, states(batch), first, length=40).symbols
    np.testing.assert_array_equal(draw(jax.jit(lambda: 0.0 * temperatures)() + 1e-40, 1.0), greedy)


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


def test_a_layer_ends_early():
    """The loop stops with the last sequence: a million ticks cost nothing."""
    decoded = sj.sample(LAYER, PARAMS, states(), FIRST, length=1_000_000, eos=EOS, prefix=jnp.array([EOS]))
    assert decoded.lengths.tolist() == [1] * 4


def _unequal_ensemble():
    state = (states(), BIG.initial_state(BIG_PARAMS, (4,)))
    return sj.ensemble(LAYER, BIG).step((PARAMS, BIG_PARAMS), state, FIRST)


def _from_both_ends(decode, **options):
    model = sj.models.tagger(V, V, hidden_size=4)
    params = model.init(jax.random.key(0))
    return decode(model, params, model.initial_state(params, (2,)), 0, length=3, **options)


def _forecaster():
    model = sj.models.forecaster(2, 4)
    params = model.init(jax.random.key(0))
    return model, params, model.initial_state(params)


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
        (lambda: call(temperature=0.5), ValueError, "expected a key where temperature, top_k, top_p or typical_p are"),
        (lambda: call(top_k=2), ValueError, "expected a key where temperature, top_k, top_p or typical_p are"),
        (lambda: call(key=jax.random.key(0), temperature=0.0), ValueError, "expected temperature above 0, got 0.0"),
        (lambda: call(key=jax.random.key(0), top_p=1.5), ValueError, "expected top_p above 0 and at most 1, got 1.5"),
        (lambda: call(key=jax.random.key(0), top_k=7), ValueError, "top_k of at most the vocabulary's 6"),
        (lambda: call(typical_p=0.5), ValueError, "expected a key where temperature, top_k, top_p or typical_p are"),
        (lambda: call(key=jax.random.key(0), typical_p=0.0), ValueError, "expected typical_p above 0 and at most 1"),
        (lambda: call(key=jax.random.key(0), temperature=jnp.eye(4)[0]), ValueError, "expected temperature above 0"),
        (lambda: call(key=jax.random.key(0), temperature=jnp.ones(3)), ValueError, r"temperature of shape \(\) or"),
        (lambda: call(key=jax.random.key(0), top_p=jnp.ones((4, V))), ValueError, r"top_p of shape \(\) or \(4,\)"),
        (lambda: (call(length=5), call(length=5.0)), ValueError, "expected length to be a whole number .* got 5.0"),
        (lambda: call(forbidden=1), TypeError, r"sample: expected eos as a whole number .* forbidden=1"),
        (lambda: call(eos=0.5), TypeError, r"sample: expected eos as a whole number .* got eos=0.5"),
        (lambda: call(forbidden=[9]), ValueError, r"forbid: expected symbols from 0 to 5, got \[9\]"),
        (lambda: call(forbidden=range(V)), ValueError, "forbid: expected at least one symbol to stay"),
        (lambda: call(no_repeat_ngram=0), ValueError, "no_repeat: expected n to be a whole number of at least 1"),
        (lambda: call(prefix=jnp.zeros(4, int)), ValueError, r"a prefix \[P, \*batch\] of at most 3 symbols"),
        (lambda: call(prefix_lengths=FIRST), ValueError, "expected a prefix where prefix_lengths are given"),
        (lambda: call(prefix=FIRST[:2], prefix_lengths=FIRST[:3]), ValueError, r"prefix_lengths of shape \(4,\)"),
        (lambda: call(mask=jnp.ones(3, bool)), ValueError, r"expected a mask of bool of shape \(4,\), got bool \(3,\)"),
        (lambda: call(rules=[sj.forbid(V + 1, [0])]), ValueError, r"output is a mask \(4, 6\) of bool"),
        (lambda: call(model=len), TypeError, "expected a Layer, got builtin_function_or_method"),
        (lambda: _from_both_ends(sj.sample), TypeError, "as_cell: expected a layer that reads forwards, got a bidir"),
        (lambda: _from_both_ends(sj.beam_search, width=2), TypeError, "expected a layer that reads forwards"),
        (lambda: sj.free_run(*_forecaster(), jnp.ones(2, int), length=2), TypeError, "inputs like the outputs, which"),
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
