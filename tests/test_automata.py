"""Automata compiled into networks are exact; expressions agree with Python's; a trained network gives its automaton."""

import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from marks import quick

import seqjax as sj
from seqjax import automata

LENGTH = 12
STRINGS = np.stack([g.ravel() for g in np.meshgrid(*[np.arange(2, dtype=np.int32)] * LENGTH, indexing="ij")])


def outputs(cell, params, xs):
    return sj.unroll(cell, params, cell.initial_state(params, xs.shape[1:-1]), xs)[1]


def every_table(states):
    """All transition tables over two letters, ``[states^(2 states), states, 2]``."""
    rows = list(itertools.product(range(states), repeat=2 * states))
    return jnp.array(rows, jnp.int32).reshape(-1, states, 2)


def wrong_decisions(tables, strings):
    """How often the compiled networks of these tables, with all sets of accepting states, decide otherwise."""
    states = tables.shape[1]
    accepting = jnp.array(list(itertools.product([False, True], repeat=states)))
    cell = automata.network(2, 2 * states + 1, len(accepting))
    xs = jax.nn.one_hot(strings, 2, dtype=jnp.float32)

    def wrong(table):
        every = jax.vmap(lambda flags: automata.weights(table, flags, dtype=jnp.float32))(accepting)
        params = jax.tree.map(lambda p: p[0], every)
        params = params._replace(w_y=every.w_y[..., 0].T, b_y=every.b_y[:, 0])
        _, truth = jax.lax.scan(lambda q, a: (table[q, a],) * 2, jnp.zeros(strings.shape[1:], jnp.int32), strings)
        return ((outputs(cell, params, xs) > 0.5) != accepting.T[truth]).sum()

    return int(jax.jit(lambda: jax.lax.map(wrong, tables, batch_size=27))().sum())


@pytest.mark.parametrize("states", quick([1, 2, 3], 1, 2))
def test_every_small_automaton_on_every_string(states):
    """All tables of up to three states over two letters, all sets of accepting states, all strings to length 12."""
    assert wrong_decisions(every_table(states), STRINGS) == 0


def wrong_along_the_tree(tables):
    """As `wrong_decisions` for all strings to length 12, each prefix once: a tick turns h of a prefix into two."""
    states = tables.shape[1]
    accepting = jnp.array(list(itertools.product([False, True], repeat=states)))
    cell = automata.network(2, 2 * states + 1, len(accepting))

    def wrong(table):
        every = jax.vmap(lambda flags: automata.weights(table, flags, dtype=jnp.float32))(accepting)
        params = jax.tree.map(lambda p: p[0], every)._replace(w_y=every.w_y[..., 0].T, b_y=every.b_y[:, 0])
        h, q, count = cell.initial_state(params, (1,)), jnp.zeros(1, jnp.int32), 0
        for t in range(LENGTH):
            symbols = jnp.tile(jnp.arange(2, dtype=jnp.int32), 2**t)
            q = table[jnp.repeat(q, 2), symbols]
            h, y = cell.step(params, jnp.repeat(h, 2, 0), jax.nn.one_hot(symbols, 2, dtype=jnp.float32))
            count += ((y > 0.5) != accepting.T[q]).sum()
        return count

    return int(jax.jit(lambda: jax.lax.map(wrong, tables, batch_size=32))().sum())


@pytest.mark.learning
def test_every_automaton_of_four_states_on_every_string():
    """All 65,536 tables, batched as parameters, with all sets of accepting states."""
    tables = every_table(4)
    assert wrong_along_the_tree(tables) == 0


def test_every_tick_of_every_automaton_of_four_states():
    """All 65,536 tables: from every state that can occur, every symbol leads to the unit that stands for it.

    One tick that is exact is any number of ticks that are.
    """
    tables = every_table(4)
    cell = automata.network(2, 9, 1)

    @jax.jit
    @jax.vmap
    def wrong(table):
        params = automata.weights(table, jnp.zeros(4, bool), dtype=jnp.bfloat16)
        units = jnp.eye(9, dtype=jnp.float32)
        inside = jnp.append(table.ravel(), 0)  # the state that each unit stands for
        h, _ = cell.step(params, jnp.repeat(units, 2, 0), jnp.tile(jnp.eye(2, dtype=jnp.bfloat16), (9, 1)))
        expected = jax.nn.one_hot(
            2 * jnp.repeat(inside, 2) + jnp.tile(jnp.arange(2, dtype=jnp.int32), 9), 9, dtype=h.dtype
        )
        return (h != expected).sum()

    assert int(wrong(tables).sum()) == 0


@pytest.mark.slow
def test_random_automata_on_long_strings():
    """Twelve automata of 30 states over 5 letters, strings of 10,000, every prefix; starts other than 0."""
    rng = np.random.default_rng(0)
    dfas = [
        automata.table(rng.integers(0, 30, (30, 5)), np.flatnonzero(rng.random(30) < 0.5), start=int(rng.integers(30)))
        for _ in range(12)
    ]
    strings = rng.integers(0, 5, (10_000, 12))
    cell, _ = automata.compile(dfas[0])
    params = jax.tree.map(lambda *p: jnp.stack(p), *[automata.compile(dfa, jnp.float32)[1] for dfa in dfas])
    xs = jax.nn.one_hot(strings, 5, dtype=jnp.float32)
    found = jax.vmap(functools.partial(outputs, cell), (0, 1), 1)(params, xs)[..., 0]
    for i, dfa in enumerate(dfas):
        np.testing.assert_array_equal(found[:, i], dfa.accepting[automata.run(dfa, strings[:, i])])


def test_compiled_automaton_obeys_masks_and_resets():
    dfa = automata.regex("a*ba*(ba*ba*)*", "ab")  # an odd number of b's
    cell, params = automata.compile(dfa)
    string = automata.encode(dfa, "abab")
    mask = jnp.array([True, True, False, True])
    reset = jnp.array([False, False, False, True])
    run = functools.partial(sj.unroll, cell, params, cell.initial_state(params), jax.nn.one_hot(string, 2))
    assert run(mask=mask)[1][:, 0].tolist() == [0, 1, 0, 0]
    assert run(reset=reset)[1][:, 0].tolist() == [0, 1, 1, 1]


def test_networks_set_by_hand():
    rng = np.random.default_rng(1)
    ones = rng.integers(0, 2, (10_000, 3, 1)).astype(float)
    cell, params = automata.parity()
    np.testing.assert_array_equal(outputs(cell, params, ones), np.cumsum(ones, 0) % 2)
    short = outputs(cell, params, STRINGS[..., None].astype(float))[..., 0]
    np.testing.assert_array_equal(short, np.cumsum(STRINGS, 0) % 2)
    numbers = rng.integers(-50, 50, (10_000, 3, 2)).astype(float)
    cell, params = automata.running_sum()
    np.testing.assert_array_equal(outputs(cell, params, numbers[..., :1]), np.cumsum(numbers[..., :1], 0))
    cell, params = automata.larger_total()
    totals = np.cumsum(numbers, 0)
    np.testing.assert_array_equal(outputs(cell, params, numbers)[..., 0], totals[..., 0] > totals[..., 1])
    ties = np.array([[1.0, 1.0], [2.0, 3.0], [1.0, 0.0]])
    assert outputs(cell, params, ties)[:, 0].tolist() == [0, 0, 0]


EXPRESSIONS = [
    "", "a", "ab|ba", "(a|b)*abb", "a{3}", "a{2,}b?", "(ab?){1,3}", "(|a)b", "[ab]c*", "[^a]+", ".b.", "(a*b*)*c",
    "((a|b)(a|b))*", "a{0}b", "a\\+|b", "(b+c)?", "[a-c]{2}a", "[b-]+", "c{0,2}", "[^b-c+]-", "a{2}{2}", "a**",
    "a*?", "(((a)))b",
]  # fmt: skip
PYTHON = {"a{2}{2}": "a{4}", "a**": "a*"}  # repeated repetition needs a group there


@pytest.mark.parametrize("pattern", EXPRESSIONS)
def test_expressions_agree_with_python(pattern):
    """Every string of up to four letters; the empty one by the start state."""
    dfa = automata.regex(pattern, "abc+-")
    python = re.compile(PYTHON.get(pattern, pattern))
    for length in range(5):
        for letters in itertools.product("abc+-", repeat=length):
            states = automata.run(dfa, letters)
            accepted = dfa.accepting[states[-1] if length else dfa.start]
            assert bool(accepted) == bool(python.fullmatch("".join(letters))), letters


def test_anchors_are_characters_only_where_they_say_so():
    dfa = automata.regex(r"\^[a^]\$")
    assert dfa.alphabet == ("$", "^", "a")
    assert [bool(dfa.accepting[automata.run(dfa, s)[-1]]) for s in ("^a$", "^^$", "^a", "aa$")] == [1, 1, 0, 0]


def test_minimal_automata():
    """Textbook sizes; equal languages give equal tables, different ones do not."""
    assert len(automata.regex("(a|b)*a(a|b){3}").accepting) == 16
    assert automata.equivalent(automata.regex("(a|b)*"), automata.regex("(a*b*)*"))
    assert not automata.equivalent(automata.regex("(a|b)*"), automata.regex("(a|b)+"))
    assert automata.equivalent(automata.regex("(a|b)*"), automata.regex("(a|b)+"), empty=False)
    assert not automata.equivalent(automata.regex("(ab)*"), automata.regex("(ab)*a"), empty=False)
    dfa = automata.table([[1, 2], [1, 2], [1, 2], [3, 3]], accepting=[2], alphabet="ab")
    small = automata.minimise(dfa)
    assert small.transition.tolist() == [[0, 1], [0, 1]]
    assert small.accepting.tolist() == [False, True]
    rng = np.random.default_rng(2)
    for _ in range(20):
        dfa = automata.table(rng.integers(0, 6, (6, 2)), np.flatnonzero(rng.random(6) < 0.4), start=3)
        small = automata.minimise(dfa)
        np.testing.assert_array_equal(
            small.accepting[automata.run(small, STRINGS)], dfa.accepting[automata.run(dfa, STRINGS)]
        )


def test_extraction_of_a_compiled_automaton():
    """A network that is an automaton gives back that automaton."""
    for pattern in ("(a|b)*abb", "(aa|bb)*", "a(b|ab)*a"):
        dfa = automata.regex(pattern)
        cell, params = automata.compile(dfa)
        found = automata.extract(cell, params, jnp.eye(2), lambda y: y[..., 0] > 0.5, alphabet=dfa.alphabet)
        assert found.agreement == 1
        assert automata.equivalent(found.dfa, dfa)


@pytest.mark.slow
def test_extraction_from_a_network_trained_on_parity():
    """A GRU trained on strings of length 8 is the automaton of two states, which then decides strings of any length."""
    gru = sj.gru(2, 4)
    optimiser = optax.adam(3e-2)
    strings = STRINGS[:8, :: 2**4]
    xs, targets = jax.nn.one_hot(strings, 2), np.cumsum(strings, 0) % 2

    def init(key):
        return gru.init(key), 0.5 * jax.random.normal(key, (4,))

    def logits(params, xs):
        return outputs(gru, params[0], xs) @ params[1]

    @jax.jit
    def train(params):
        def step(carry, _):
            params, state = carry
            loss = lambda p: optax.sigmoid_binary_cross_entropy(logits(p, xs), targets).mean()
            value, gradient = jax.value_and_grad(loss)(params)
            updates, state = optimiser.update(gradient, state)
            return (optax.apply_updates(params, updates), state), value

        return jax.lax.scan(step, (params, optimiser.init(params)), length=400)

    with jax.numpy_dtype_promotion("standard"):  # optax counts its steps in integers
        (params, _), losses = train(init(jax.random.key(0)))
    assert losses[-1] < 0.05
    found = automata.extract(gru, params[0], jnp.eye(2), lambda h: h @ params[1] > 0, length=8)
    parity = automata.table([[0, 1], [1, 0]], accepting=[1])
    assert automata.equivalent(found.dfa, parity, empty=False)
    assert found.agreement == 1


ERRORS = {
    "missing": (
        lambda: automata.table([[0, 1], [1, None]], [0], alphabet="ab"),
        "table: expected a transition from state 1 on 'b', got none. Add it, or call complete",
    ),
    "short row": (lambda: automata.table([[0, 1], [1]], [0]), "expected a transition from state 1 on 1, got none"),
    "nowhere": (
        lambda: automata.table([[0, 2], [1, 0]], [0]),
        "table: expected the transition from state 0 on 1 to be a state from 0 to 1, got 2",
    ),
    "accepting": (
        lambda: automata.table([[0]], [1]),
        "expected every accepting state to be a state from 0 to 0, got 1",
    ),
    "start": (lambda: automata.table([[0]], [0], start=-1), "expected start to be a state from 0 to 0, got -1"),
    "empty": (lambda: automata.table([], []), "expected at least one state and one symbol, got an empty table"),
    "alphabet": (lambda: automata.table([[0, 0]], [0], alphabet="aa"), "expected 2 different symbols, got 'aa'"),
    "symbol": (
        lambda: automata.encode(automata.regex("ab"), "abc"),
        "encode: expected symbols out of 'a', 'b', got 'c' at position 2",
    ),
    "languages": (
        lambda: automata.equivalent(automata.regex("a"), automata.regex("b")),
        "equivalent: expected automata over one alphabet",
    ),
    "open group": (lambda: automata.regex("a(b"), r"regex: expected '\)' at position 3 of 'a\(b', got the end. Close"),
    "closed group": (
        lambda: automata.regex("ab)"),
        r"expected the end of the pattern at position 2 of 'ab\)', got '\)'",
    ),
    "nothing to repeat": (lambda: automata.regex("a|*b"), r"expected something to repeat at position 2 .*, got '\*'"),
    "open class": (lambda: automata.regex("[ab"), r"regex: expected a character at position 3 of '\[ab', got the end"),
    "empty class": (lambda: automata.regex("a[]"), "expected a class that is not empty at position 3"),
    "range": (lambda: automata.regex("[c-a]"), "expected a range that rises from 'c' at position 4"),
    "counts": (lambda: automata.regex("a{2"), r"expected \{m\}, \{m,\} or \{m,n\} at position 1"),
    "falling counts": (lambda: automata.regex("a{3,2}"), "expected counts that rise, up to 1000 at position 1"),
    "escape": (lambda: automata.regex("a\\"), "expected a character at position 2 .*, got the end. Finish"),
    "anchor": (lambda: automata.regex("^ab"), r"regex: expected a character at position 0 .* Leave the anchor out"),
    "class": (
        lambda: automata.regex("\\d+"),
        r"regex: expected a mark after \\ at position 1 .*, got 'd'. There",
    ),
    "depth": (
        lambda: automata.regex("(" * 999),
        "regex: expected at most 100 groups inside each other at position",
    ),
    "explosion": (
        lambda: automata.regex("(a|b)*a(a|b){30}"),
        "regex: expected an automaton of at most 5,000 states, got more. Repeat less often",
    ),
    "repetition": (lambda: automata.regex("a{1000}{1000}"), "regex: expected an automaton of at most 5,000 states"),
    "columns": (
        lambda: automata.run(automata.regex("ab"), np.array([0, -1])),
        "run: expected columns of the table as whole numbers from 0 to 1, got int64 from -1 to 0. Call encode",
    ),
    "outside": (lambda: automata.regex("abd", "ab"), "regex: expected characters out of 'ab', got 'd'"),
    "no alphabet": (lambda: automata.regex("."), "regex: expected an alphabet of different single characters"),
    "network": (
        lambda: automata.network(2, 3, 1).step(automata.parity()[1], jnp.zeros(3), jnp.zeros(5)),
        "network: expected inputs of size 2, got 5",
    ),
    "names": (
        lambda: automata.extract(*automata.parity(), jnp.ones((2, 1)), lambda y: y[..., 0] > 0.5, alphabet="a"),
        "extract: expected 2 symbols in alphabet, got 1",
    ),
    "too few clusters": (
        lambda: automata.extract(
            *automata.compile(automata.regex("(a|b)*abb")), jnp.eye(2), lambda y: y[..., 0] > 0.5, max_clusters=2
        ),
        "extract: expected an automaton of at most 2 states to agree on 1 of the strings, got 0.8",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    call, message = ERRORS[case]
    with pytest.raises(ValueError, match=message):
        call()


def test_complete():
    dfa = automata.table(automata.complete([[1, None], [None, 0]]), [0], alphabet="ab")
    assert dfa.accepting[automata.run(dfa, "ababb")].tolist() == [False, True, False, True, False]
    assert automata.complete([[0, 0]]) == [[0, 0]]
