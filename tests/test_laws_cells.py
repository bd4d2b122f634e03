"""Laws that every cell obeys."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from laws import (
    MASKS,
    RESET,
    B,
    T,
    assert_close,
    at,
    batched,
    each,
    floats,
    loss,
    no_compiles,
    plain,
    poison,
    restarted,
    stack,
    state_of,
    valued,
)
from marks import all_but, quick
from zoo import CELLS, drawn

import seqjax as sj
from seqjax.base import is_noise
from seqjax.engines import pallas
from seqjax.engines.plan import ENGINES

pytestmark = pytest.mark.usefixtures("equal_ranks")

# With `pytest -m slow`, as they are of one kind with another cell; their ticks are compared with NumPy's every time
# (test_cells_reference.py).
ALIKE = (
    *(
        "elman_relu",
        "irnn",
        "layer_norm_elman",
        "gru_before",
        "headwise_elman",
        "headwise_gru",
        "bias_in_blocks",
        "two_biases",
    ),
    *("carousel", "peephole_lstm", "peephole_full", "coupled_lstm", "projected_lstm", "layer_norm_lstm"),
    *("five_equation_lstm", "reset_lstm", "gated_lstm_reset", "multiplicative_rnn", "sparse_echo_state", "residual"),
    *("zoneout", "learned_scaled", "recurrent_dropout", "learned_initial_state", "belief_plain", "hand_set"),
    *("conv_lstm_peepholes", "skip_stack", "belief_late"),
    *("minlstm", "rglru", "s5", "linear_attention_channel", "gated_delta_rule", "m2rnn"),
)
# Variants of those, likewise, and other libraries' cells but for two.
VARIANTS = (
    *("mingru_positive", "lru_learned_gamma", "delta_rule"),
    *("linear_attention", "linear_attention_head", "linear_attention_input"),
)
FOREIGN = ("nnx_gru", "linen_lstm", "linen_gru", "equinox_gru", "haiku_lstm", "haiku_gru")
kinds = pytest.mark.parametrize(
    "case", all_but(CELLS, *ALIKE, *VARIANTS, *FOREIGN, "nnx_lstm", "equinox_lstm"), indirect=True, scope="module"
)
# What follows from the loop law for a pure function of its inputs: one cell of each kind of state, input and gradient.
SOME = ("elman", "gru", "lstm", "slstm", "conv_lstm", "stack", "symbols", "zoneout_scaled", "belief", "perturbed")
some = pytest.mark.parametrize("case", quick(CELLS, *SOME), indirect=True, scope="module")


@pytest.fixture(params=all_but(CELLS, *ALIKE, *VARIANTS, *FOREIGN), scope="module")
def case(request):
    return CELLS[request.param]


@pytest.fixture(scope="module")
def cell(case):
    return case.make()


@pytest.fixture(scope="module")
def params(cell):
    return drawn(cell)


@pytest.fixture(scope="module")
def xs(case):
    return case.draw(jax.random.key(3), (T, B))


@pytest.fixture(scope="module")
def compiled(cell):
    """The cell's functions as one program each; `loop` calls them thousands of times."""
    return cell._replace(step=jax.jit(cell.step), initial_state=jax.jit(cell.initial_state))


gather = jax.jit(at)
join = functools.partial(stack, axis=0)


def loop(cell, params, state, xs, mask, reset, reverse):
    """The Python loop over single examples that `unroll` must equal: no batch, no where, no mask."""
    length, batch = mask.shape
    blank = jax.eval_shape(lambda p, s, x: cell.step(p, s, x)[1], params, gather(state, 0), gather(xs, 0, 0))
    rows = []
    for b in range(batch):
        s = gather(state, b)
        ys = [jax.tree.map(lambda y: np.zeros(y.shape, y.dtype), blank)] * length
        for t in reversed(range(length)) if reverse else range(length):
            restart = bool(reset[t, b])
            if restart and not reverse:
                s = restarted(cell, params, s)
            if mask[t, b]:
                s, ys[t] = cell.step(params, s, gather(xs, t, b))
            if restart and reverse:
                s = restarted(cell, params, s)
        rows.append((s, ys))
    return batched(rows, join)


# Engines that take long without their device: run with `pytest -m slow`.
SLOW = ("pallas",)
# Cells that are linear in their state, or have none.
LINEAR = (
    "memoryless", "mingru", "mingru_positive", "minlstm", "lru", "lru_learned_gamma", "rglru", "s5",
    "selective_state_space", "linear_attention", "linear_attention_head", "linear_attention_input",
    "linear_attention_channel", "mlstm", "delta_rule", "gated_delta_rule", "belief_plain",
)  # fmt: skip
# What an engine refuses, and in which words; "*" stands for every cell but those of None. Whatever is not listed must
# run.
REFUSED = {
    "cudnn": {"*": "one batch axis, lengths at most and a CUDA device for engine='cudnn', got"},
    "linear": {"*": "in small blocks or as matrices of outer products, for engine='linear', got"}
    | dict.fromkeys(LINEAR),
    "pallas": {
        **dict.fromkeys(("conv_lstm", "conv_lstm_peepholes"), "neither pointwise nor a product with a weight"),
        **dict.fromkeys(("lru", "lru_learned_gamma", "s5"), "a state of complex numbers"),
        **dict.fromkeys(("delta_rule", "gated_delta_rule"), "a product of two values that both change along time"),
        "m2rnn": "a product of a weight with features that are a matrix",
    },
}


def masks(reverse):
    """Forwards padding is under a law of its own."""
    return MASKS if reverse else ["holes"]


def refusal(engine, name):
    listed = REFUSED.get(engine, {})
    return listed.get(name, listed.get("*"))


@pytest.fixture(scope="module")
def by_hand(case, cell, compiled, params, xs):
    """What a Python loop gives in each direction, for each mask; computed once for all engines."""
    state = state_of(cell, params, key=jax.random.key(9))

    @functools.cache
    def results(reverse):
        slow = lambda mask: functools.partial(
            loop, compiled, mask=np.asarray(mask), reset=np.asarray(RESET), reverse=reverse
        )
        return [valued(slow(MASKS[name]), (0, 1, 2))(params, state, xs) for name in masks(reverse)]

    return state, results


def engines_and_cells():
    """All pairs; every time those of a cell's own, and the split engine, behind most others, on a cell of each kind."""
    rare = {*ALIKE, *VARIANTS, *FOREIGN}
    for name in CELLS:
        for engine in ENGINES:
            slow = engine in SLOW or name in rare or (engine == "split" and name not in (*SOME, *LINEAR))
            yield pytest.param(name, engine, marks=pytest.mark.slow if slow else ())


@pytest.mark.parametrize(("case", "engine"), list(engines_and_cells()), indirect=["case"], scope="module")
def test_every_engine_equals_a_python_loop(request, cell, by_hand, params, xs, engine):
    """Values, last state and gradients, with masks, resets, noise and NaN in the padding; or a refusal in words.

    Chunks of 3 leave a remainder of 1; scan's, which do not look into the cell, have a law of their own. Kernels run by
    the interpreter.
    """
    memory = "all" if engine == "scan" else 3
    equals_a_python_loop(request, cell, by_hand, params, xs, engine=engine, memory=memory)


@some
def test_scan_in_chunks_equals_a_python_loop(request, cell, by_hand, params, xs):
    """The same in chunks of 3, whose ticks run again for the gradient, with the noise they had."""
    equals_a_python_loop(request, cell, by_hand, params, xs, engine="scan", memory=3)


@some
@pytest.mark.parametrize("engine", all_but(ENGINES, *SLOW, "scan"))  # scan: what the others are compared with elsewhere
def test_every_engine_equals_a_python_loop_in_reverse(request, cell, by_hand, params, xs, engine):
    """The same from the last tick to the first, the states recomputed in one batch."""
    equals_a_python_loop(request, cell, by_hand, params, xs, engine=engine, memory="carries", reverse=True)


def equals_a_python_loop(request, cell, by_hand, params, xs, *, engine, memory, reverse=False):
    """Both directions of the law."""
    state, results = by_hand
    options = {"engine": engine, "memory": memory, "reverse": reverse}

    @jax.jit
    def run(params, xs, mask):
        unrolled = functools.partial(sj.unroll, cell, mask=mask, reset=RESET, **options)
        return valued(unrolled, (0, 1, 2))(params, state, poison(mask, xs))

    reason = refusal(engine, request.node.callspec.params["case"])
    with pallas.target("interpreter"):
        if reason is not None:
            with pytest.raises(ValueError, match=f"{reason}.*Use engine="):
                run(params, xs, MASKS["holes"])
            return
        for name, (expected, expected_gradient) in zip(masks(reverse), results(reverse)):
            found, gradient = run(params, xs, MASKS[name])
            assert_close(found, expected)
            assert_close(floats(gradient), floats(expected_gradient))


def test_the_list_of_refusals_names_engines_and_cells():
    assert REFUSED.keys() <= ENGINES.keys()
    assert ENGINES.keys() >= set(SLOW)
    for cells in REFUSED.values():
        assert cells.keys() - {"*"} <= CELLS.keys()


@pytest.mark.parametrize(
    "case", quick(CELLS, *SOME, "lru"), indirect=True, scope="module"
)  # "lru": lengths in "linear"
def test_padded_length_changes_nothing(cell, params, xs):
    state = state_of(cell, params)
    pad = jax.tree.map(
        lambda x: np.concatenate([x, np.full_like(x[:2], np.nan if jnp.issubdtype(x.dtype, jnp.inexact) else 0)]), xs
    )

    def run(params, xs, lengths=None):
        state_T, ys = sj.unroll(cell, params, state, xs, lengths=lengths)
        return state_T, jax.tree.map(lambda y: y[:T], ys)

    @jax.jit
    def both(params, xs, pad):
        padded, (of_params, of_pad) = valued(run, (0, 1))(params, pad, jnp.full(B, T))
        result, (expected, of_xs) = valued(run, (0, 1))(params, xs)
        return (padded, of_params, [g[:T] for g in floats(of_pad)]), (result, expected, floats(of_xs))

    assert_close(*both(params, xs, pad))


@some
def test_chunks_compose(cell, params, xs):
    state = state_of(cell, params, key=jax.random.key(5))

    def run(state, ticks):
        x, mask, reset = jax.tree.map(lambda leaf: leaf[ticks], (xs, MASKS["holes"], RESET))
        return sj.unroll(cell, params, state, x, mask=mask, reset=reset)

    @jax.jit
    def both(state):
        middle, first = run(state, slice(3))
        last, second = run(middle, slice(3, None))
        parts = last, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second)
        return run(state, slice(None)), parts

    assert_close(*both(state))


@some
def test_batch_equals_vmap(cell, params, xs):
    """One key an example makes a batch of noise equal its examples; two batch axes equal one."""

    @jax.jit
    def three(xs):
        state = cell.initial_state(params, (B,), key=jax.random.key(6))
        run = functools.partial(sj.unroll, cell, params)
        two_axes = run(jax.tree.map(lambda s: s[None], state), jax.tree.map(lambda x: x[:, None], xs))
        return run(state, xs), jax.vmap(run, (0, 1), (0, 1))(state, xs), (at(two_axes[0], 0), each(two_axes[1], 0))

    batched, mapped, two_axes = three(xs)
    assert_close(batched, mapped)
    assert_close(batched, two_axes)


def test_state_keeps_its_type(cell, params, xs):
    def types(key):
        state = cell.initial_state(params, (2, B), key=key)
        return state, cell.step(params, state, jax.tree.map(lambda x: jnp.stack([x[0], x[0]]), xs))[0]

    for key in (None, jax.random.key(7)):
        state, new = jax.eval_shape(types, key)
        assert all(leaf.shape[:2] == (2, B) for leaf in jax.tree.leaves(state))
        chex.assert_trees_all_equal_shapes_and_dtypes(state, new)


def test_second_eager_call_traces_and_compiles_nothing(cell, params, xs):
    """At most two traces of the step, one of which looks at its types; then none."""
    chex.clear_trace_counter()
    counted = cell._replace(step=chex.assert_max_traces(lambda *args: cell.step(*args), n=2))  # it asks for a name
    state = state_of(cell, params)
    sj.unroll(counted, params, state, xs)
    with no_compiles():
        sj.unroll(counted, params, state, xs)


@some
def test_gradients_by_finite_differences(cell, params, xs):
    state = state_of(cell, params)
    moving = floats(state)

    @jax.jit
    def f(params, moving):
        leaves, tree = jax.tree.flatten(state)
        it = iter(moving)
        leaves = [next(it) if jnp.issubdtype(s.dtype, jnp.inexact) else s for s in leaves]
        return loss(sj.unroll(cell, params, tree.unflatten(leaves), xs))

    check_grads(f, (params, moving), order=1, modes=["fwd", "rev"], atol=1e-6, rtol=1e-6, eps=1e-5)


def test_causal(cell, params, xs):
    """Changing the input at tick s changes no output before s."""
    state = state_of(cell, params)
    s = 4
    other = jax.tree.map(lambda x: x.at[s:].set(x[s:][::-1] if jnp.issubdtype(x.dtype, jnp.integer) else x[s:] + 1), xs)
    run = jax.jit(lambda xs: sj.unroll(cell, params, state, xs)[1])
    ys, zs = run(xs), run(other)
    assert_close(jax.tree.map(lambda y: y[:s], ys), jax.tree.map(lambda z: z[:s], zs), rtol=0, atol=0)
    assert any(np.abs(a[s:] - b[s:]).max() > 0 for a, b in zip(floats(ys), floats(zs)))


@some
def test_gradients_stay_finite_over_long_sequences(cell, case):
    """T = 10,000 from the initial parameters, in float32 numbers as users run it."""
    kinds = {"f": jnp.float32, "c": jnp.complex64}
    narrow = lambda tree: jax.tree.map(
        lambda x: x.astype(kinds[x.dtype.kind]) if jnp.issubdtype(x.dtype, jnp.inexact) else x, tree
    )
    xs = narrow(case.draw(jax.random.key(1), (10_000,)))
    params = narrow(cell.init(jax.random.key(0)))
    run = lambda p: sj.unroll(cell, p, narrow(cell.initial_state(p)), xs)[1]
    found = jax.jit(jax.value_and_grad(lambda p: loss(run(p))))(params)
    chex.assert_tree_all_finite(found)


@some
def test_per_example_gradients_and_ensembles(cell, params, xs):
    state = state_of(cell, params)

    def f(params, state, x):
        return loss(sj.unroll(cell, params, state, x)[1])

    @jax.jit
    def per_example(params):
        apart = jax.vmap(jax.grad(f), (None, 0, 1))(params, state, xs)
        return at(apart, 1), jax.grad(f)(params, at(state, 1), each(xs, 1))

    @jax.jit
    def ensemble(params):
        half = jax.tree.map(lambda p: p * 0.5, params)
        pair = jax.tree.map(lambda p, q: jnp.stack([p, q]), params, half)
        both = jax.vmap(lambda p: sj.unroll(cell, p, state, xs))(pair)
        return at(both, 1), sj.unroll(cell, half, state, xs)

    assert_close(*per_example(params))
    assert_close(*ensemble(params))


def test_redraw_changes_noise_only(cell, params):
    state = state_of(cell, params, key=jax.random.key(8))
    again = sj.redraw(cell, params, state, jax.random.key(10))
    chex.assert_trees_all_equal_shapes_and_dtypes(state, again)
    for old, new in zip(jax.tree.leaves(state, is_leaf=is_noise), jax.tree.leaves(again, is_leaf=is_noise)):
        if is_noise(old):
            assert not all(
                np.array_equal(a, b) for a, b in zip(jax.tree.leaves(plain(old)), jax.tree.leaves(plain(new)))
            )
        else:
            assert_close(old, new, rtol=0, atol=0)


def test_a_tick_is_the_same_without_jit(cell, compiled, params, xs):
    state = state_of(cell, params, key=jax.random.key(2))
    assert_close(compiled.step(params, state, at(xs, 0)), cell.step(params, state, at(xs, 0)))
