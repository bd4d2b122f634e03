"""Kernels for CUDA equal plain scan, for every kind of step that qualifies; what does not is told why; all lower."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lowering import for_cuda, lowers
from marks import quick
from steps import STEPS, normal

import seqjax as sj
from seqjax.engines import pallas
from seqjax.engines.pallas.triton.alone import Kernel

T = 5
REFUSED = {
    "inner_loops": "scan along time",
    "inner_scan": "scan along time",
    "cond_in_the_loop": "cond along time",
    "readout_cond": "cond along time",
    "convolution": "conv_general_dilated along time",
}


@pytest.fixture(autouse=True)
def interpreted():
    """Kernels run as JAX operations."""
    with pallas.target("interpreter"):
        yield


def cell_of(step):
    return sj.Cell(lambda key: None, lambda params, batch_shape=(), *, key=None: None, step)


def floats(tree):
    return [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]


def loss(result):
    weigh = lambda x: x * (1 + 0.01 * jnp.arange(x.size, dtype=x.dtype).reshape(x.shape))
    return sum(jnp.sin(weigh(x)).sum() for x in floats(result))


def close(a, b, tolerance=1e-12):
    for x, y in zip(floats(a), floats(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


def problem(name):
    """The step as a function of all its floats: ``f(moving, **options) -> (state, ys)``."""
    step, params, state, xs = STEPS[name]
    leaves, tree = jax.tree.flatten((params, state, jax.tree.map(lambda x: x[:T], xs)))
    where = [i for i, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.inexact)]

    def f(moving, **options):
        full = dict(enumerate(leaves)) | dict(zip(where, moving))
        return sj.unroll(cell_of(step), *tree.unflatten(full.values()), **options)

    return f, [leaves[i] for i in where]


def drawn(cell):
    """Parameters in NumPy, of the shapes that the cell gives them."""
    rng, shapes = np.random.default_rng(0), jax.eval_shape(cell.init, jax.random.key(0))
    return jax.tree.map(lambda p: jnp.asarray(0.3 * rng.normal(size=p.shape), p.dtype), shapes)


def value_and_gradient(f, **options):
    def both(moving):
        result = f(moving, **options)
        return loss(result), result

    return jax.jit(jax.value_and_grad(both, has_aux=True))


QUALIFIED = [
    "lstm",
    "gru_before",
    "concatenated_right",
    "layer_norm",
    "integers",
    "masked",
    "heads",
    "diagonal",
    "custom_vjp",
    "zoneout",
]


REVERSED = ("gru_before", "layer_norm", "masked", "diagonal", "zoneout")


@pytest.mark.slow
@pytest.mark.parametrize("name", quick(QUALIFIED, "masked", "layer_norm", "heads", "zoneout"))
def test_equals_scan(name):
    """Values, last state and gradients of everything; in reverse for every other step."""
    f, moving = problem(name)
    reverse = name in REVERSED
    expected = value_and_gradient(f, engine="scan", reverse=reverse)(moving)
    close(value_and_gradient(f, engine="pallas", reverse=reverse)(moving), expected)


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_qualify_is_told_why(name):
    f, moving = problem(name)
    with pytest.raises(ValueError, match=f"engine='pallas', got one that does not qualify: {REFUSED[name]}.*'split'"):
        jax.grad(lambda moving: loss(f(moving, engine="pallas")))(moving)


@pytest.mark.slow
def test_transformations():
    """Forward mode, Hessian-vector products both ways, vmap inside and outside of grad."""
    f, moving = problem("swapped")
    direction = [normal(50 + i, *m.shape) for i, m in enumerate(moving)]
    pair = [jnp.stack([m, 0.5 * m]) for m in moving]

    def transformed(**options):
        value = lambda moving: loss(f(moving, **options))
        gradient = jax.grad(value)
        inner = lambda moving: sum((g * d).sum() for g, d in zip(gradient(moving), direction))
        return jax.jit(
            lambda: (
                jax.jvp(value, (moving,), (direction,)),
                jax.jvp(gradient, (moving,), (direction,))[1],
                jax.grad(inner)(moving),
                jax.vmap(gradient)(pair),
                jax.grad(lambda pair: jax.vmap(value)(pair).sum())(pair),
            )
        )()

    close(transformed(engine="pallas"), transformed(engine="scan"), 1e-10)


def test_recomputed_activations():
    f, moving = problem("custom_jvp")
    expected = value_and_gradient(f, engine="scan")(moving)
    close(value_and_gradient(f, engine="pallas", memory="carries")(moving), expected)


@pytest.mark.parametrize(("batch", "hidden"), [((), 20), ((2, 3), 1), ((20,), 20)])
def test_sizes_that_are_no_powers_of_two(batch, hidden):
    """No batch axis, two of them with a state of a single unit, a batch as large as the state."""
    cell = sj.elman(3, hidden)
    params = drawn(cell)
    state = jnp.full((*batch, hidden), 0.5)
    xs = np.random.default_rng(1).normal(size=(T, *batch, 3))
    both = lambda engine: jax.jit(
        jax.value_and_grad(lambda *a: loss(sj.unroll(cell, *a, engine=engine)), (0, 1, 2))
    )(params, state, xs)  # fmt: skip
    close(both("pallas"), both("scan"))


@pytest.mark.slow
def test_several_tiles_and_weights_read_at_every_tick(monkeypatch):
    """40 examples in tiles of 16, the last half full; sums over the batch leave its filling out."""
    monkeypatch.setattr("seqjax.engines.pallas.triton.placement.RESIDENT", 0)
    cell = sj.layer_norm_elman(3, 24)
    params = drawn(cell)
    state = jnp.zeros((40, 24))
    xs = jnp.asarray(np.random.default_rng(1).normal(size=(T, 40, 3)))
    both = lambda engine: jax.jit(jax.value_and_grad(lambda p: loss(sj.unroll(cell, p, state, xs, engine=engine))))(
        params
    )
    close(both("pallas"), both("scan"), 1e-10)
    assert "1 × 3 programs" in str(sj.explain(cell, params, state, xs, engine="pallas"))


def test_bfloat16():
    bfloat16_is_near_float64()


def bfloat16_is_near_float64():
    """Within √T 2⁻⁸ of float64, forwards and backwards; the state stays float32."""
    length = 64
    make = lambda **options: sj.lstm(16, 32, **options)
    params = jax.jit(make(dtype=jnp.float32).init)(jax.random.key(0))
    xs = jnp.asarray(np.random.default_rng(1).normal(size=(length, 4, 16)), jnp.float32)

    def both(cell, params, xs, engine):
        def value(params):
            state, ys = sj.unroll(cell, params, cell.initial_state(params, (4,)), xs, engine=engine)
            return (ys**2).mean(), (state, ys)

        return jax.jit(jax.value_and_grad(value, has_aux=True))(params)

    wide = jax.tree.map(lambda p: p.astype(jnp.float64), (params, xs))
    exact = both(make(dtype=jnp.float64), *wide, "scan")
    narrow = both(make(dtype=jnp.float32, compute_dtype=jnp.bfloat16), params, xs, "pallas")
    for a, b in zip(jax.tree.leaves(narrow), jax.tree.leaves(exact), strict=True):
        assert a.dtype == jnp.float32
        a, b = np.asarray(a), np.asarray(b)
        assert np.abs(a - b).max() <= length**0.5 * 2**-8 * np.abs(b).max()


def layer_normalised(params, state, x):
    """An LSTM as a user writes it."""
    h, c = state
    a = x @ params["w"] + h @ params["u"] + params["b"]
    a = (a - a.mean(-1, keepdims=True)) * jax.lax.rsqrt(a.var(-1, keepdims=True) + 1e-5)
    i, f, g, o = jnp.split(a, 4, -1)
    c = jax.nn.sigmoid(f + 1.0) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h, c), h


MAKERS = {
    "elman": sj.elman,
    "lstm": sj.lstm,
    "gru": sj.gru,
    "layer_norm_lstm": sj.layer_norm_lstm,
    "peephole_lstm": sj.peephole_lstm,
}


@lowers
@pytest.mark.parametrize("compute_dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", quick(MAKERS, "lstm"))
def test_lowers_for_cuda(name, compute_dtype):
    """Forward and backward, with lengths, resets and a size that is no power of two: two kernels."""
    cell = MAKERS[name](12, 48, dtype=jnp.float32, compute_dtype=compute_dtype)
    params = jax.eval_shape(cell.init, jax.random.key(0))
    xs = np.zeros((8, 4, 12), np.float32)
    options = {"lengths": np.full(4, 8), "reset": np.ones((8, 4), bool), "engine": "pallas"}
    run = lambda p: sj.unroll(cell, p, cell.initial_state(p, (4,)), xs, **options)
    assert kernels(lambda p: (run(p)[1] ** 2).sum(), params) == 2


@lowers
def test_a_users_step_lowers_for_cuda():
    params = {name: jnp.zeros(shape, jnp.float32) for name, shape in (("w", (8, 128)), ("u", (32, 128)), ("b", (128,)))}
    state = (jnp.zeros((16, 32), jnp.float32),) * 2
    xs = jnp.zeros((8, 16, 8), jnp.float32)
    cell = cell_of(layer_normalised)
    assert kernels(lambda p: (sj.unroll(cell, p, state, xs, engine="pallas")[1] ** 2).sum(), params) == 2


def kernels(f, params):
    """How many Triton kernels the gradient of ``f`` lowers to."""
    return for_cuda(f, params).count("__gpu$xla.gpu.triton")


def test_weights_that_do_not_fit_are_refused():
    cell = sj.lstm(8, 512, dtype=jnp.float32)
    params = jax.eval_shape(cell.init, jax.random.key(0))
    state = jax.eval_shape(lambda p: cell.initial_state(p, (2,)), params)
    with pytest.raises(ValueError, match="weights take 4,194,304 bytes a head and 1,048,576 is what"):
        sj.explain(cell, params, state, jnp.zeros((T, 2, 8), jnp.float32), engine="pallas")


def test_a_jax_without_the_backend_is_told(monkeypatch):
    """One sentence, which names split; nothing else of the package needs it."""
    monkeypatch.setitem(sys.modules, "seqjax.engines.pallas.engine", None)
    monkeypatch.delattr(pallas, "engine", raising=False)
    f, moving = problem("lstm")
    message = r"expected a JAX with Pallas's Triton backend for engine='pallas', got .* Use engine='split'"
    with pytest.raises(ValueError, match=message):
        f(moving, engine="pallas")
    f(moving, engine="split")


def test_random_numbers_and_counters_stay_scans():
    f, moving = problem("zoneout")
    jaxpr = jax.make_jaxpr(lambda m: f(m, engine="pallas"))(moving)
    assert str(jaxpr).count("pallas_call[") == 1


def test_the_batch_is_proven_independent():
    """A state that is normalised over the batch has no tiles that run apart."""

    def step(u, h, x):
        h = jnp.tanh(h @ u + x)
        return h - h.mean(0, keepdims=True), h

    args = normal(1, 4, 4), normal(2, 3, 4), normal(3, T, 3, 4)
    with pytest.raises(ValueError, match="does not qualify"):
        sj.unroll(cell_of(step), *args, engine="pallas")


def test_a_kernel_knows_heads_from_batch():
    """Block-diagonal weights put heads on the grid, one program each."""

    def tick(values):
        u, h, x = values
        return [jnp.tanh(jnp.einsum("bnh,nhk->bnk", h, u) + x)] * 2

    kernel = Kernel(tick, *([jax.ShapeDtypeStruct(s, jnp.float32)] for s in ((2, 8, 8), (3, 2, 8), (3, 2, 8))))
    assert (kernel.plan.heads, kernel.plan.tiles, kernel.axes.batch) == (2, 1, (3,))


def test_the_filling_of_a_tile_reaches_no_sum():
    """Three examples fill a tile of 16 with zeros, whose norm is zero: no NaN may enter a gradient."""

    def step(params, h, x):
        u, gain = params
        a = h @ u + x
        h = jnp.tanh(gain * a / jnp.sqrt((a * a).sum(-1, keepdims=True)))
        return h, h

    params, state, xs = (normal(1, 4, 4), normal(2, 4)), normal(3, 3, 4), normal(4, T, 3, 4)
    gradient = lambda engine: jax.jit(jax.grad(lambda p: loss(sj.unroll(cell_of(step), p, state, xs, engine=engine))))(
        params
    )
    close(gradient("pallas"), gradient("scan"), 1e-11)


# Shapes of u in a pointwise recurrence over h [2, 3, 4]: with 2 × 3 examples, each of u's axes could be taken for
# one of the batch.
VECTORS = [(), (1,), (4,), (3, 4), (3, 1), (2, 3, 4), (2, 1, 4), (2, 1, 1), (1, 3, 4)]


@pytest.mark.parametrize("kind", ["parameter", "input"])
@pytest.mark.parametrize("shape", quick(VECTORS, (4,), (2, 1, 4), (1, 3, 4)), ids=str)
def test_a_vector_is_no_batch(shape, kind):
    """``h' = tanh(u ⊙ h + x)``, u a parameter or an input of the tick: axes of a weight are not taken for the batch's.

    An input that examples have in common has a gradient that sums over the batch at every tick: that is refused.
    """
    rng = np.random.default_rng(len(shape))
    u = jnp.asarray(rng.normal(size=shape if kind == "parameter" else (T, *shape)))
    state, xs = jnp.asarray(rng.normal(size=(2, 3, 4))), jnp.asarray(rng.normal(size=(T, 2, 3, 4)))

    def step(params, h, x):
        x, v = x if kind == "input" else (x, params)
        h = jnp.tanh(v * h + x)
        return h, h * v

    def value(u, state, xs, engine):
        return loss(sj.unroll(cell_of(step), u, state, (xs, u) if kind == "input" else xs, engine=engine))

    common = kind == "input" and shape[:1] != (2,)
    run = jax.jit(value if common else jax.value_and_grad(value, (0, 1, 2)), static_argnums=3)
    close(run(u, state, xs, "pallas"), run(u, state, xs, "scan"))
    if common:
        with pytest.raises(ValueError, match=r"does not qualify.*(sums over the batch|the batch's axes)"):
            jax.grad(value)(u, state, xs, "pallas")
