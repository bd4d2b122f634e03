"""Matrix states by chunks: steps that users write, against a scan; products of decays; what is not finite."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import all_but

import seqjax as sj
from seqjax.engines.linear.matrix.decay import decays
from seqjax.engines.linear.matrix.triangular import inverse

RNG = np.random.default_rng(0)
B, H, M, N = 2, 3, 4, 5

read = lambda q, s: jnp.einsum("bhm,bhmn->bhn", q, s)
outer = lambda k, v: k[..., :, None] * v[..., None, :]


def retention(s, x):
    s = 0.9 * s + outer(x["k"], x["v"])
    return s, read(x["q"], s)


def gated(s, x):
    s = x["g"][..., None, None] * s + x["b"][..., None, None] * outer(x["k"], x["v"])
    return s, read(x["q"], s)


def by_channel(s, x):
    s = x["a"][..., None] * s + outer((1 - x["a"]) * x["k"], x["v"])
    return s, read(x["q"], s)


def by_einsum(s, x):
    s = s * x["g"][:, :, None, None] + jnp.einsum("bhm,bhn->bhmn", x["k"], x["v"])
    return s, jnp.einsum("bhmn,bhm->bhn", s, x["q"])


def by_matmul(s, x):
    s = s + x["k"][..., None] @ x["v"][..., None, :]
    return s, (x["q"][..., None, :] @ s)[..., 0, :]


def by_a_sum(s, x):
    s = s - outer(x["k"], -x["v"]) / (1 + x["g"][..., None, None])
    return s, (x["q"][..., None] * s).sum(-2)


def values_first(s, x):
    """S is [v, k] and read from the right."""
    s = jnp.swapaxes(s, -1, -2)
    s = x["g"][..., None, None] * s + outer(x["v"], x["k"])
    y = jnp.squeeze(s @ x["q"][..., None], -1)
    return jnp.swapaxes(s, -1, -2), y


def read_before(s, x):
    y = read(x["q"], s)
    return 0.8 * s + outer(x["k"], x["v"]), jnp.tanh(y)


def two_reads(s, x):
    old = read(x["q"], s)
    s = x["g"][..., None, None] * s + outer(x["k"], x["v"])
    return s, old * read(x["k"], s)


def two_writes(s, x):
    s = x["g"][..., None, None] * (s + outer(x["k"], x["v"])) - outer(x["q"], x["v"] * 0.5)
    return s, read(x["k"], s)


def shared_key(s, x):
    """One key for all heads."""
    k = x["k"][:, :1]
    s = 0.7 * s + k[..., None] * x["v"][..., None, :]
    return s, read(x["q"], s)


def cut_by_the_input(s, x):
    s = jnp.where(x["g"][..., None, None] > 0.6, 0.0, s)
    s = x["b"][..., None, None] * s + outer(x["k"], x["v"])
    return s, read(x["q"], s)


def one_row(s, x):
    """A row is overwritten, the others stay."""
    here = jnp.arange(M) == jnp.argmax(x["k"], -1, keepdims=True)
    s = jnp.where(here[..., None], x["v"][..., None, :], s)
    return s, read(x["q"], s)


def restarted_from_a_parameter(s, x):
    s = jnp.where(x["g"][..., None, None] > 0.6, x["s0"][None], s)
    s = x["a"][..., None] * s + outer(x["k"], x["v"])
    return s, read(x["q"], s)


def delta(s, x):
    s = s + x["b"][..., None, None] * outer(x["k"], x["v"] - read(x["k"], s))
    return s, read(x["q"], s)


def delta_by_hand(s, x):
    error = jnp.sum(x["k"][..., None] * s, -2) - x["v"]
    s = s - jnp.einsum("bhm,bhn->bhmn", x["b"][..., None] * x["k"], error)
    return s, (read(x["q"], s), error)


def gated_delta(s, x):
    s = x["g"][..., None, None] * s
    s = s - outer(x["b"][..., None] * x["k"], read(x["k"], s) - x["v"])
    return s, read(x["q"], s)


def channel_delta(s, x):
    """Decays of rows, and a correction along another key than the one that is read."""
    s = x["a"][..., None] * s + outer(x["q"] * 0.3, read(x["k"], s)) + outer(x["k"], x["v"])
    return s, read(x["q"], s)


def delta_twice(s, x):
    """Two corrections a tick, the second behind the first."""
    for k, b in ((x["k"], x["b"]), (x["q"], x["g"])):
        s = s + b[..., None, None] * outer(k, x["v"] - read(k, s))
    return s, read(x["k"] + x["q"], s)


ACCEPTED = (
    *(retention, gated, by_channel, by_einsum, by_matmul, by_a_sum, values_first, read_before, two_reads, two_writes),
    *(shared_key, cut_by_the_input, one_row, restarted_from_a_parameter),
    *(delta, delta_by_hand, gated_delta, channel_delta, delta_twice),
)

# Of one kind with another step, in other words: with `pytest -m slow`.
ALIKE = (
    *(retention, by_einsum, by_a_sum, read_before, two_writes, shared_key, delta, delta_by_hand, channel_delta),
    *(values_first, two_reads, delta_twice),
)


def nonlinear_write(s, x):
    s = s + outer(x["k"], jnp.tanh(read(x["k"], s)))
    return s, read(x["q"], s)


def gate_that_reads(s, x):
    s = jax.nn.sigmoid(read(x["k"], s).mean(-1))[..., None, None] * s + outer(x["k"], x["v"])
    return s, read(x["q"], s)


def squashed(s, x):
    s = jnp.tanh(s + outer(x["k"], x["v"]))
    return s, read(x["q"], s)


def mixed(s, x):
    s = jnp.einsum("lm,...mn,nk->...lk", x["w"][:M, :M], s, x["w"]) + outer(x["k"], x["v"])
    return s, read(x["q"], s)


def normalised(s, x):
    s = s + outer(x["k"], x["v"])
    s = s / jnp.sqrt((s * s).sum((-1, -2), keepdims=True))
    return s, read(x["q"], s)


def by_its_size(s, x):
    s = jnp.where(jnp.abs(s).max((-1, -2), keepdims=True) > 1, 0.0, s) + outer(x["k"], x["v"])
    return s, read(x["q"], s)


def rounded(s, x):
    s = s.astype(jnp.float32).astype(s.dtype) + outer(x["k"], x["v"])
    return s, read(x["q"], s)


def through_whole_numbers(s, x):
    s = s.astype(jnp.int32).astype(s.dtype) + outer(x["k"], x["v"])
    return s, read(x["q"], s)


def rounded_read(s, x):
    s = s + outer(x["k"], read(x["k"], s).astype(jnp.float32).astype(s.dtype) - x["v"])
    return s, read(x["q"], s)


def whole_products(s, x):
    s = 0.9 * s + (9 * outer(x["k"], x["v"])).astype(jnp.int32).astype(s.dtype)
    return s, read(x["q"], s)


def rounded_when_read(s, x):
    s = 0.9 * s + outer(x["k"], x["v"])
    return s, read(x["q"], jnp.round(s.astype(jnp.float32)).astype(s.dtype))


# Linear, but no matrix by chunks: what is added or read is not.
APART = (whole_products, rounded_when_read)

REFUSED = {
    rounded: "a cast of what depends on the state to float32",
    through_whole_numbers: "a cast of what depends on the state to int32",
    rounded_read: "a cast of what depends on the state to float32",
    nonlinear_write: "tanh float64",
    gate_that_reads: "reduce_sum float64|div|logistic",
    squashed: "tanh float64",
    mixed: "dot_general float64.* mixes numbers of the state",
    normalised: "a product of two values that depend on the state",
    by_its_size: "abs float64",
}


def cell_of(step):
    return sj.Cell(
        lambda key: (),
        lambda params, batch_shape=(), *, key=None: jnp.full((*batch_shape, *params["s0"].shape), 0.1),
        lambda params, s, x: step(s, {**x, **params}),
    )


def drawn(length):
    draw = lambda *shape: jnp.asarray(RNG.normal(size=(length, B, H, *shape)))
    unit = lambda k: k / jnp.linalg.norm(k, axis=-1, keepdims=True)
    a = jax.nn.sigmoid(draw(M) + 2)
    return {
        "q": unit(draw(M)), "k": unit(draw(M)), "v": draw(N), "g": jax.nn.sigmoid(draw()), "b": jax.nn.sigmoid(draw()),
        "a": a.at[length // 3].set(0.0).at[length // 2, :, :, 1:].set(1.0),
    }  # fmt: skip


PARAMS = {"s0": jnp.asarray(RNG.normal(size=(H, M, N))), "w": jnp.asarray(RNG.normal(size=(N, N)) / 3)}
FIRST = jnp.asarray(RNG.normal(size=(B, H, M, N)))


def both(step, length, engines=("scan", "linear"), **options):
    """Values and gradients of each engine."""
    xs = drawn(length)

    @jax.jit
    def run(s, xs, params):
        def weighed(engine, s, xs, params):
            last, ys = sj.unroll(cell_of(step), params, s, xs, engine=engine, **options)
            scales = jnp.arange(1.0, 1 + length)
            total = sum(jnp.einsum("t,t...->", scales, y) for y in jax.tree.leaves(ys))
            return total + jnp.sum(jnp.sin(last)), (last, ys)

        grad = lambda engine: jax.value_and_grad(functools.partial(weighed, engine), (0, 1, 2), has_aux=True)
        return [grad(engine)(s, xs, params) for engine in engines]

    return run(FIRST, xs, PARAMS)


def assert_equal(found, expected, atol=1e-10):
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, atol=atol * (1 + np.abs(np.asarray(y)).max()), rtol=0)


@pytest.mark.parametrize("step", all_but(ACCEPTED, *ALIKE))
def test_accepted_steps_are_the_scan(step):
    """Values, last state and all gradients in float64; a whole chunk and a rest."""
    expected, found = both(step, 75)
    assert_equal(found, expected)
    xs = drawn(3)
    how = str(sj.explain(cell_of(step), PARAMS, FIRST, xs, engine="linear"))
    assert "a matrix by chunks" in how


@pytest.mark.parametrize("step", REFUSED)
def test_refused_steps_say_why(step):
    with pytest.raises(ValueError, match=REFUSED[step]):
        sj.unroll(cell_of(step), PARAMS, FIRST, drawn(3), engine="linear")
    expected, found = both(step, 5, ("scan", "auto"))
    assert_equal(found, expected)


@pytest.mark.parametrize("step", APART)
def test_what_only_looks_like_outer_products_is_run_number_by_number(step):
    expected, found = both(step, 5)
    assert_equal(found, expected)
    how = sj.explain(cell_of(step), PARAMS, FIRST, drawn(3), engine="linear")
    assert [loop.way for loop in how.loops] == ["linear, number by number"]


@pytest.mark.parametrize("options", [{"memory": "carries"}, {"memory": "sqrt"}, {"memory": 10}, {"reverse": True}])
def test_memory_and_direction(options):
    expected, found = both(gated_delta, 131, **options)
    assert_equal(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("step", [gated, by_channel, restarted_from_a_parameter, gated_delta, delta_twice])
@pytest.mark.parametrize("length", [1, 2, 31, 1024, 1031])
def test_any_length(step, length):
    expected, found = both(step, length)
    assert_equal(found, expected)


def test_masks_and_resets_and_what_is_not_finite():
    """NaN at absent ticks and in ticks before a reset: nothing of it behind, nor before, in other columns or rows."""
    length = 70
    xs = drawn(length)
    mask = jnp.ones((length, B), bool).at[3, 0].set(False).at[20:25, 1].set(False)
    reset = jnp.zeros((length, B), bool).at[30, 0].set(True).at[40, 1].set(True)
    xs = {**xs, "v": xs["v"].at[3, 0].set(jnp.nan).at[12, 0, 1, 2].set(jnp.nan).at[50, 1].set(jnp.inf)}
    xs["k"] = xs["k"].at[20, 1].set(jnp.nan).at[35, 1, 2, 0].set(jnp.nan)
    xs["g"] = xs["g"].at[25, 0, 2].set(jnp.nan)

    def unrolled(engine, xs):
        return sj.unroll(cell_of(gated_delta), PARAMS, FIRST, xs, engine=engine, mask=mask, reset=reset)

    @jax.jit
    def run(xs):
        """What a gradient computes: forwards alone a CPU has no chunks."""
        return unrolled("scan", xs), jax.vjp(functools.partial(unrolled, "linear"), xs)[0]

    (last, ys), (found_last, found) = run(xs)
    ok = np.isfinite(ys)
    assert not ok.all()
    assert ok.mean() > 0.7
    np.testing.assert_array_equal(np.isfinite(found), ok)
    np.testing.assert_allclose(np.where(ok, found, 0), np.where(ok, ys, 0), atol=1e-11)
    np.testing.assert_array_equal(np.isfinite(found_last).all(-2), np.isfinite(last).all(-2))


def test_second_derivatives_and_vmap():
    xs = drawn(6)

    def loss(engine, q, v):
        y = sj.unroll(cell_of(delta), PARAMS, FIRST, {**xs, "q": q, "v": v}, engine=engine)[1]
        return jnp.sum(jnp.sin(y))

    def derivatives(engine):
        f, q, v = functools.partial(loss, engine), xs["q"], xs["v"]
        turn = jnp.cos(q)
        return (
            jax.jvp(jax.grad(f), (q, v), (turn, v)),
            jax.grad(lambda q: jnp.vdot(jax.grad(f)(q, v), turn))(q),
            jax.vmap(jax.grad(f), (0, None))(jnp.stack([q, turn]), v),
        )

    expected, found = jax.jit(lambda: (derivatives("scan"), derivatives("linear")))()
    assert_equal(found, expected)


def test_nothing_of_a_state_a_tick():
    """Forwards and backwards no array of all ticks' matrices; what a gradient keeps is inputs and border states."""
    length, size = 256, 32
    draw = lambda *shape: jnp.asarray(RNG.normal(size=(length, 1, 1, *shape)))
    xs = {
        "q": draw(size),
        "k": draw(size) / 6,
        "v": draw(size),
        "g": jax.nn.sigmoid(draw()),
        "b": jax.nn.sigmoid(draw()),
    }
    first = jnp.zeros((1, 1, size, size))

    def loss(xs):
        return jnp.sum(sj.unroll(cell_of(gated_delta), {"s0": first[0]}, first, xs, engine="linear")[1])

    def sizes(jaxpr):
        for e in jaxpr.eqns:
            yield from (v.aval.size for v in e.outvars if hasattr(v.aval, "size"))
            for sub in jax.tree.leaves(list(e.params.values()), is_leaf=lambda p: hasattr(p, "eqns")):
                if hasattr(sub, "eqns") or hasattr(sub, "jaxpr"):
                    yield from sizes(getattr(sub, "jaxpr", sub))

    largest = max(sizes(jax.make_jaxpr(jax.grad(loss))(xs).jaxpr))
    assert largest < length * size**2 / 8, largest
    kept = jax.tree.leaves(jax.eval_shape(lambda xs: jax.vjp(loss, xs)[1], xs))
    inputs = sum(x.size for x in jax.tree.leaves(xs))
    held = sum(leaf.size for leaf in kept)
    assert held <= 1.5 * (inputs + (length // 64) * size**2)
    predicted = sj.explain(cell_of(gated_delta), {"s0": first[0]}, first, xs).bytes_a_tick["all"]
    assert predicted * length == pytest.approx(8 * (held - inputs), rel=0.05)


def test_products_of_decays():
    """Against products written out, at a = 0 and of any sign, of numbers and rows."""
    for rows in (1, 3):
        a = RNG.normal(size=(2, 16, rows))
        a[:, 5], a[:, 9] = 0, 1
        q, k = RNG.normal(size=(2, 16, 3)), RNG.normal(size=(2, 16, 3))
        expected = np.zeros((2, 16, 16))
        for t in range(16):
            for s in range(t):
                expected[:, t, s] = (q[:, t] * k[:, s] * a[:, s + 1 : t].prod(1)).sum(-1)
        np.testing.assert_allclose(decays(jnp.asarray(a)).between(q, k), expected, atol=1e-12)


def test_inverse_of_a_triangular_matrix():
    n = np.tril(RNG.normal(size=(3, 32, 32)), -1)
    np.testing.assert_allclose(inverse(jnp.asarray(n)), np.linalg.inv(np.eye(32) - n), rtol=1e-9, atol=1e-9)
