"""Other libraries' recurrent cells as ours: their own loops, cells that users write, and what is refused, in words."""

import pickle

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from laws import assert_close, floats, loss, no_compiles, valued
from marks import quick

import seqjax as sj

D, H, T, B = 3, 4, 7, 2
EXACT, NARROW = {"rtol": 1e-8, "atol": 1e-10}, {"rtol": 1e-5, "atol": 1e-5}
LENGTHS = jnp.array([T, 4])
MASK = jnp.arange(T)[:, None] < LENGTHS
XS = jax.random.normal(jax.random.key(3), (T, B, D))


def by_nnx(kind):
    module = getattr(nnx, kind)(D, H, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    graph = nnx.graphdef(module)

    def run(params, state, xs):
        rnn = nnx.RNN(nnx.merge(graph, params), time_major=True, return_carry=True)
        return rnn(xs, initial_carry=state)

    return sj.interop.from_nnx(module), run


def by_linen(kind):
    module = getattr(nn, kind)(H, param_dtype=jnp.float64)
    rnn = nn.RNN(module, time_major=True, return_carry=True)
    run = lambda params, state, xs: rnn.apply({"params": {"cell": params}}, xs, initial_carry=state)
    return sj.interop.from_linen(module, D), run


def by_equinox(kind):
    module = getattr(eqx.nn, kind)(D, H, key=jax.random.key(0))

    def run(params, state, xs):
        def tick(state, x):
            state = jax.vmap(eqx.combine(params, module))(x, state)
            return state, state[0] if kind == "LSTMCell" else state

        return jax.lax.scan(tick, state, xs)

    return sj.interop.from_equinox(module), run


def by_haiku(kind):
    unrolled = lambda xs, state: hk.dynamic_unroll(getattr(hk, kind)(H), xs, state)
    apply = hk.without_apply_rng(hk.transform(unrolled)).apply
    return sj.interop.from_haiku(lambda: getattr(hk, kind)(H), D), lambda *args: apply(args[0], args[2], args[1])[::-1]


OTHERS = {
    "nnx LSTM": lambda: by_nnx("LSTMCell"),
    "nnx optimized LSTM": lambda: by_nnx("OptimizedLSTMCell"),
    "nnx GRU": lambda: by_nnx("GRUCell"),
    "linen LSTM": lambda: by_linen("LSTMCell"),
    "linen optimized LSTM": lambda: by_linen("OptimizedLSTMCell"),
    "linen GRU": lambda: by_linen("GRUCell"),
    "linen MGU": lambda: by_linen("MGUCell"),
    "equinox LSTM": lambda: by_equinox("LSTMCell"),
    "equinox GRU": lambda: by_equinox("GRUCell"),
    "haiku LSTM": lambda: by_haiku("LSTM"),
    "haiku GRU": lambda: by_haiku("GRU"),
    "haiku vanilla": lambda: by_haiku("VanillaRNN"),
}


@pytest.mark.parametrize("name", quick(OTHERS, "nnx LSTM", "linen optimized LSTM", "equinox GRU", "haiku LSTM"))
def test_equals_the_library_s_own_loop(name):
    """Outputs, last state, and gradients by parameters, state and inputs; narrow floats; several batch axes, none."""
    cell, theirs = OTHERS[name]()
    params = cell.init(jax.random.key(0))
    state = jax.tree.map(lambda s: s + 0.3, cell.initial_state(params, (B,)))
    ours = lambda *args: sj.unroll(cell, *args)

    @jax.jit
    def both(params, state, xs):
        return valued(ours, (0, 1, 2))(params, state, xs), valued(theirs, (0, 1, 2))(params, state, xs)

    assert_close(*both(params, state, XS), **EXACT)
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (params, state, XS))
    found, expected = jax.jit(lambda *args: (ours(*args), theirs(*args)))(*narrow)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype("float32")}
    assert_close(found, expected, **NARROW)
    shape = lambda *batch: jax.tree.map(lambda s: s.reshape(*batch, *s.shape[1:]), state)
    two = jax.jit(ours)(params, shape(1, B), XS[:, None])
    assert_close(
        jax.tree.map(lambda leaf: leaf.reshape(leaf.size), two), jax.tree.map(jnp.ravel, both(params, state, XS)[0][0])
    )
    first = lambda tree: jax.tree.map(lambda leaf: leaf[0], tree)
    one = jax.jit(ours)(params, first(state), XS[:, 0])
    assert_close(one[1], two[1][:, 0, 0])


@pytest.mark.parametrize("name", quick(OTHERS, "linen GRU"))
def test_lengths_and_resets(name):
    """A length ends a sequence where the library's loop over its real ticks ends; a reset begins one anew."""
    cell, theirs = OTHERS[name]()
    params = cell.init(jax.random.key(0))
    state = cell.initial_state(params, (B,))
    ours = jax.jit(lambda xs, **ticks: sj.unroll(cell, params, state, xs, **ticks))
    last, ys = ours(jnp.where(MASK[..., None], XS, jnp.nan), lengths=LENGTHS)
    _, restarted = ours(XS, reset=jnp.zeros((T, B), bool).at[3].set(True))
    run = lambda xs, state: jax.jit(theirs)(params, state, xs)
    short_last, short = run(XS[:4], state)
    long_last, long = run(XS, state)
    one = lambda tree, b: jax.tree.map(lambda leaf: leaf[b], tree)
    assert_close(one(last, 1), one(short_last, 1), **EXACT)
    assert_close(one(last, 0), one(long_last, 0), **EXACT)
    assert_close(ys, jnp.where(MASK[..., None], long, 0), **EXACT)
    assert_close(restarted[:3], long[:3], **EXACT)
    assert_close(restarted[3:], run(XS[3:], state)[1], **EXACT)
    assert_close(short[:, 1], ys[:4, 1], **EXACT)


def test_wrapped_anew_it_compiles_nothing():
    """Equal options make equal cells, of the same arrays where a library's module holds some."""
    module = nnx.GRUCell(D, H, rngs=nnx.Rngs(0))
    theirs = eqx.nn.LSTMCell(D, H, key=jax.random.key(0))
    core = lambda: hk.GRU(H)
    makes = [
        lambda: sj.interop.from_nnx(module),
        lambda: sj.interop.from_linen(nn.GRUCell(H, param_dtype=jnp.float64), D),
        lambda: sj.interop.from_equinox(theirs),
        lambda: sj.interop.from_haiku(core, D),
    ]
    for make in makes:
        assert make() == make()
        assert hash(make()) == hash(make())
    other = eqx.nn.LSTMCell(D, H, key=jax.random.key(1))
    assert sj.interop.from_equinox(other) != makes[2]()
    assert sj.interop.from_nnx(nnx.GRUCell(D, H, rngs=nnx.Rngs(1))) != makes[0]()
    cell = makes[2]()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(cell)).init(None).weight_hh, theirs.weight_hh)
    params = cell.init(jax.random.key(0))
    state = cell.initial_state(params, (B,))
    sj.unroll(cell, params, state, XS)
    with no_compiles():
        sj.unroll(makes[2](), params, state, XS)


class Leaky(nn.RNNCellBase):
    """A user's cell: a state and an output that are trees, a state that is learned, a list of sizes as option."""

    rates: tuple = (0.5, 0.9)

    def setup(self):
        self.start = self.param("start", nn.initializers.ones, (D,), jnp.float64)
        self.read = nn.Dense(2, param_dtype=jnp.float64)

    def initialize_carry(self, rng, input_shape):
        return {"slow": self.start, "ticks": jnp.zeros((), jnp.int32)}

    def __call__(self, carry, x):
        slow = carry["slow"] * self.rates[0] + x * self.rates[1]
        carry = {"slow": slow, "ticks": carry["ticks"] + 1}
        return carry, {"read": self.read(slow), "norm": jnp.sqrt((slow**2).sum()), "ticks": carry["ticks"]}


def test_a_user_s_linen_cell():
    cell = sj.interop.from_linen(Leaky(), D)
    params = cell.init(jax.random.key(0))
    state, ys = sj.unroll(cell, params, cell.initial_state(params, (B,)), XS, lengths=LENGTHS, engine="split")
    slow, kernel = np.ones((B, D)), np.asarray(params["read"]["kernel"])
    for t in range(4):
        slow = 0.5 * slow + 0.9 * np.asarray(XS[t])
        np.testing.assert_allclose(ys["read"][t], slow @ kernel, rtol=1e-12)
        np.testing.assert_allclose(ys["norm"][t], np.linalg.norm(slow, axis=-1), rtol=1e-12)
    np.testing.assert_allclose(state["slow"][1], slow[1], rtol=1e-12)
    assert state["ticks"].tolist() == [T, 4]
    gradient = jax.grad(lambda p: loss(sj.unroll(cell, p, cell.initial_state(p, (B,)), XS)))(params)
    assert float(jnp.abs(gradient["start"]).min()) > 0


class Delayed(eqx.Module):
    """A user's cell that returns a state and an output; whole numbers are constants."""

    weight: jax.Array
    order: jax.Array

    def __call__(self, x, state, *, key=None):
        before, total = state
        return (x[self.order], total + before @ self.weight), total.sum()


class Pair(eqx.Module):
    """One that returns its state alone, of two arrays."""

    weight: jax.Array

    def __call__(self, x, state, *, key=None):
        a, b = state
        return a + x @ self.weight, b * 0.5 + a

    def start(self):
        return jnp.zeros(H), jnp.ones(H)


def test_a_user_s_equinox_cell():
    module = Delayed(jnp.ones((D, H)), jnp.array([2, 0, 1]))
    cell = sj.interop.from_equinox(module, initial_state=lambda cell: (jnp.zeros(D), jnp.zeros(cell.weight.shape[1])))
    params = cell.init(jax.random.key(0))
    assert params.order is None
    (before, total), ys = sj.unroll(cell, params, cell.initial_state(params, (B,)), XS)
    np.testing.assert_array_equal(before, XS[-1][:, jnp.array([2, 0, 1])])
    sums = np.cumsum(np.asarray(XS).sum(-1), 0)
    np.testing.assert_allclose(total[:, 0], sums[-2], rtol=1e-12)
    np.testing.assert_allclose(ys[2:], H * sums[:-2], rtol=1e-12)
    assert sj.unroll(cell, params, cell.initial_state(params), XS[:, 0])[1].shape == (T,)


def test_the_output_of_a_state_of_several_arrays_is_asked_for():
    module = Pair(jnp.ones((D, H)))
    with pytest.raises(
        TypeError, match=r"expected initial_state= for a Pair, .* got None. Give a function of the cell"
    ):
        sj.interop.from_equinox(module)
    silent = sj.interop.from_equinox(module, initial_state=Pair.start)
    params = silent.init(None)
    with pytest.raises(ValueError, match=r"got 2 arrays of state and no output\. Say which it is: output="):
        silent.step(params, silent.initial_state(params), XS[0, 0])
    cell = sj.interop.from_equinox(module, initial_state=Pair.start, output=lambda state: state[1])
    _, ys = sj.unroll(cell, params, cell.initial_state(params, (B,)), XS)
    a = np.cumsum(np.asarray(XS).sum(-1), 0)
    np.testing.assert_allclose(ys[0], np.full((B, H), 0.5), rtol=1e-12)
    np.testing.assert_allclose(ys[1, :, 0], 0.25 + a[0], rtol=1e-12)
    both = sj.interop.from_equinox(
        Delayed(jnp.ones((D, H)), jnp.arange(D)),
        initial_state=lambda cell: (jnp.zeros(D), jnp.zeros(H)),
        output=lambda state: state[0],
    )
    with pytest.raises(ValueError, match=r"expected no output= for a cell that returns \(state, y\), got one"):
        both.step(both.init(None), both.initial_state(both.init(None)), XS[0, 0])
    wrong = sj.interop.from_equinox(module, initial_state=lambda cell: jnp.zeros(H))
    with pytest.raises((ValueError, TypeError)):
        wrong.step(params, jnp.zeros(H), XS[0, 0])


def test_pictures():
    """A ConvLSTM of each library that has one, on a batch of pictures, against the library's own loop."""
    xs = jax.random.normal(jax.random.key(0), (3, B, 5, 5, 2))
    cell = sj.interop.from_linen(module := nn.ConvLSTMCell(2, (3, 3), param_dtype=jnp.float64), (5, 5, 2))
    params = cell.init(jax.random.key(0))
    ys = sj.unroll(cell, params, cell.initial_state(params, (B,)), xs, engine="split")[1]
    assert_close(ys, nn.RNN(module, time_major=True).apply({"params": {"cell": params}}, xs), **EXACT)
    make = lambda: hk.Conv2DLSTM((5, 5), 2, 3)
    cell = sj.interop.from_haiku(make, (5, 5, 2))
    params = cell.init(jax.random.key(0))
    ys = sj.unroll(cell, params, cell.initial_state(params, (B,)), xs)[1]
    run = hk.without_apply_rng(hk.transform(lambda xs: hk.dynamic_unroll(core := make(), xs, core.initial_state(B))[0]))
    assert_close(ys, run.apply(params, xs), **EXACT)


def test_one_product_a_loop_and_one_before_it():
    """`explain` of a wrapped cell says what it says of ours: input products in front of the loop, gradients behind."""
    for name in ("nnx optimized LSTM", "linen optimized LSTM", "equinox LSTM", "haiku LSTM", "nnx GRU", "equinox GRU"):
        cell, _ = OTHERS[name]()
        params = cell.init(jax.random.key(0))
        plan = sj.explain(cell, params, cell.initial_state(params, (B,)), XS, engine="split")
        (before,), (loop,) = plan.before, plan.loops
        assert (before["dot_general"], loop.products, len(loop.deferred)) == (1, 1, 1), name


def test_reports_and_decoders():
    """Gradient flow, and a greedy decoder over an embedding and a readout of ours."""
    cell = sj.interop.from_equinox(eqx.nn.GRUCell(D, H, key=jax.random.key(0)))
    params = cell.init(jax.random.key(0))
    state = cell.initial_state(params, (B,))
    flow = sj.gradients.flow(cell, params, state, XS, lambda ys: (ys[-1] ** 2).sum())
    expected = jax.grad(lambda s: (sj.unroll(cell, params, s, XS)[1][-1] ** 2).sum())(state)
    assert floats(flow)
    assert expected.shape == state.shape
    model = sj.serial(sj.embedding(5, D), sj.recurrent(cell), sj.dense(H, 5))
    weights = model.init(jax.random.key(1))
    step = sj.as_cell(model)
    assert step.step(weights, step.initial_state(weights, (B,)), jnp.array([1, 2]))[1].shape == (B, 5)
