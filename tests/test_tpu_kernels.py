"""Loops as kernels on a TPU: equal to scan by the interpreter, which looks for races; lowered without a device.

No TPU has run them.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu
from laws import MASKS, RESET, B, T, assert_close, floats, state_of, valued
from marks import quick
from steps import STEPS
from zoo import CELLS, drawn

import seqjax as sj
from seqjax.engines import pallas
from seqjax.engines.base import UnsupportedError
from seqjax.engines.pallas import mosaic

CHIPS = {"v5e": "TPU v5 lite", "v6e": "TPU v6 lite"}


@pytest.fixture
def interpreted(capfd):
    """Kernels run by Pallas's interpreter, which raises or prints where it finds a race; in blocks of three ticks.

    Its callbacks have an order, which JAX allows in no transposed program that is compiled: nothing is.
    """
    with pytest.MonkeyPatch.context() as patch, pallas.target("tpu interpreter"), jax.disable_jit():
        patch.setattr(mosaic, "TICKS", 3)
        yield patch
    pltpu.reset_tpu_interpret_mode_state()
    assert "RACE" not in capfd.readouterr().out


def lowered(f, *args, chip="v5e"):
    """A function as text, for a TPU that is not there."""
    device = jax.sharding.AbstractDevice(device_kind=CHIPS[chip], num_cores=1, platform="tpu")
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), (), abstract_device=device)):
        return jax.jit(f).trace(*args).lower(lowering_platforms=("tpu",)).as_text()


def kernels(f, *args, **options):
    return lowered(f, *args, **options).count("@tpu_custom_call")


def narrow(tree):
    """Float32 in the place of float64: a TPU has no other."""
    narrower = {np.dtype(np.float64): np.float32, np.dtype(np.complex128): np.complex64}
    return jax.tree.map(lambda x: x.astype(narrower[x.dtype]) if x.dtype in narrower else x, tree)


def plain(cell, params, state, xs, **options):
    """Results and gradients of everything, of scan."""
    return jax.jit(valued(lambda *args: sj.unroll(cell, *args, engine="scan", **options), (0, 1, 2)))(params, state, xs)


def by_kernels(cell, params, state, xs, **options):
    return valued(lambda *args: sj.unroll(cell, *args, engine="pallas", **options), (0, 1, 2))(params, state, xs)


def close(found, expected):
    assert_close(found[0], expected[0])
    assert_close(floats(found[1]), floats(expected[1]))


# Other libraries' cells have no equations of their own.
OWN = [name for name in CELLS if not name.startswith(("nnx_", "linen_", "equinox_", "haiku_"))]


@pytest.mark.parametrize("name", quick(OWN, "elman"))
def test_kernels_equal_scan(interpreted, name):
    """Values, last state and all gradients, with masks and resets; backwards in time for every other cell."""
    cell = CELLS[name].make()
    with jax.disable_jit(False):
        params, xs = drawn(cell), CELLS[name].draw(jax.random.key(3), (T, B))
        state = state_of(cell, params, key=jax.random.key(9))
        options = {"mask": MASKS["holes"], "reset": RESET, "reverse": list(CELLS).index(name) % 2 == 1}
        expected = plain(cell, params, state, xs, **options)
    close(by_kernels(cell, params, state, xs, **options), expected)


@pytest.mark.slow
def test_transformations(interpreted):
    """A kernel under `jax.vmap` has a longer grid; second derivatives are those of scans."""
    with jax.disable_jit(False):
        f, moving = step_of("swapped")
        pair = [jnp.stack([m, 0.5 * m]) for m in moving]
        together = lambda engine: lambda pair: jax.vmap(jax.grad(lambda m: f(m, engine)))(pair)
        twice = lambda engine: lambda m: jax.jvp(jax.grad(lambda m: f(m, engine)), (m,), (m,))[1]
        expected = jax.jit(together("scan"))(pair), jax.jit(twice("scan"))(moving)
    assert_close((together("pallas")(pair), twice("pallas")(moving)), expected)


def step_of(name):
    """A number as a function of all floats of a step, in float64, of five ticks."""
    step, params, state, xs = STEPS[name]
    leaves, tree = jax.tree.flatten((params, state, jax.tree.map(lambda x: x[:5], xs)))
    where = [i for i, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.inexact)]

    def f(moving, engine):
        full = dict(enumerate(leaves)) | dict(zip(where, moving))
        return sum(
            jnp.sin(x).sum() for x in floats(sj.unroll(cell_of(step), *tree.unflatten(full.values()), engine=engine))
        )

    return f, [leaves[i] for i in where]


def cell_of(step):
    return sj.Cell(lambda key: None, lambda params, batch_shape=(), *, key=None: None, step)


def by_hand(values):
    """A flat tick in which everything that tiles must cut occurs: its last output is a sum over the batch."""
    u, gain, h, alive, x, level = values
    a, b = jnp.split((h @ u + x).reshape(-1, 2, 4), 2, 1)
    a, b = a.reshape(-1, 4), b.reshape(-1, 4)
    new = jnp.where(alive[:, None], jnp.tanh(a) * gain[None] + jnp.zeros_like(a) + level[:, None], h) + b[:, :1]
    return [new, alive & (level > -1.0), new[:, 1:3], level * new[:, 0], (new * a).sum(0)]


def arguments(batch, ticks):
    rng = np.random.default_rng(0)
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape))
    once, alive = [0.3 * normal(4, 8), normal(4)], jnp.asarray(np.arange(batch) % 3 > 0)
    return once, [normal(batch, 4), alive], [normal(ticks, batch, 8), normal(ticks, batch)]


def kernel_of(tick, values, **options):
    once, state, xs = values
    types = jax.tree.map(jax.typeof, (once, state, [x[0] for x in xs]))
    return mosaic.Kernel(tick, *types, totals=1, length=len(xs[0]), interpret=True, **options)


def scanned(tick, values, reverse):
    """The same by `jax.lax.scan`."""
    once, state, xs = values

    def body(carry, x):
        state, total = carry
        *out, more = tick([*once, *state, *x])
        return (out[:2], total + more), out[2:]

    (last, total), ys = jax.lax.scan(body, (state, jnp.zeros(4)), xs, reverse=reverse)
    return last, ys, [total]


@pytest.mark.parametrize("reverse", quick([False, True], True))
def test_tiles_of_the_batch_run_apart(interpreted, reverse):
    """Three tiles of 8 examples, blocks of 3 ticks of which the last has one: states, outputs, and sums over both."""
    values = arguments(24, 4)
    interpreted.setattr(mosaic, "PART", kernel_of(by_hand, arguments(8, 4), reverse=reverse).bytes / 2**27)
    kernel = kernel_of(by_hand, values, reverse=reverse)
    assert (kernel.tile, kernel.tiles, "3 tiles" in str(kernel)) == (8, 3, True)
    with jax.disable_jit(False):
        expected = jax.jit(lambda values: scanned(by_hand, values, reverse))(values)
    assert_close(kernel.run(*values), expected)


# Of the flat tick above, what it gives: a state less its mean, an output that is a sum, a total that is none.
WHOLE = {
    "state": lambda values, new, alive, y, z, total: [new - new.mean(0), alive, y, z, total],
    "output": lambda values, new, alive, y, z, total: [new, alive, y, z.sum(), total],
    "total": lambda values, new, alive, y, z, total: [new, alive, y, z, values[1]],
}


@pytest.mark.parametrize("what", WHOLE)
def test_a_batch_that_belongs_together_is_not_cut(interpreted, what):
    """Where all of it does not fit, though a third would, there is no kernel."""
    tick = lambda values: WHOLE[what](values, *by_hand(values))
    values = arguments(24, 4)
    assert kernel_of(tick, values, reverse=False).tiles == 1
    interpreted.setattr(mosaic, "PART", kernel_of(tick, arguments(8, 4), reverse=False).bytes / 2**27)
    with pytest.raises(UnsupportedError, match=r"bytes, 16,384 of them weights, do not fit in .* of VMEM$"):
        kernel_of(tick, values, reverse=False)


LOWERED = {f"{chip}-{dtype}": (chip, dtype) for chip in CHIPS for dtype in ("float32", "bfloat16")}


@pytest.mark.parametrize("case", quick(LOWERED, "v5e-float32", "v6e-bfloat16"))
def test_two_kernels_a_loop(case):
    """Forward and backward, with a mask, resets, and sizes that are no multiples of 8 and 128."""
    chip, compute_dtype = LOWERED[case]
    cell = sj.lstm(5, 12, dtype=jnp.float32, compute_dtype=jnp.dtype(compute_dtype))
    params, xs = jax.eval_shape(cell.init, jax.random.key(0)), jnp.zeros((T, B, 5), jnp.float32)
    options = {"mask": MASKS["holes"], "reset": RESET, "engine": "pallas"}
    run = lambda p, x: (sj.unroll(cell, p, cell.initial_state(p, (B,)), x, **options)[1] ** 2).sum()
    assert kernels(run, params, xs, chip=chip) == 1
    assert kernels(jax.grad(run), params, xs, chip=chip) == 2
    assert kernels(jax.vmap(jax.grad(run), (None, 0)), params, xs[None], chip=chip) == 2


def test_what_it_is_lowered_for_decides():
    """On this CPU its numbers are split's to the last bit; exported from it for a TPU there are two kernels."""
    cell = sj.gru(5, 12, dtype=jnp.float32)
    params, xs = narrow(drawn(cell)), jnp.asarray(np.random.default_rng(0).normal(size=(T, B, 5)), jnp.float32)
    value = lambda engine: (
        lambda p: (sj.unroll(cell, p, jnp.zeros((B, 12), jnp.float32), xs, engine=engine)[1] ** 2).sum()
    )
    found, expected = (jax.jit(jax.value_and_grad(value(engine)))(params) for engine in ("pallas", "split"))
    assert_close(found, expected, rtol=0, atol=0)
    exported = jax.export.export(jax.jit(jax.grad(value("pallas"))), platforms=["tpu"])(params)
    assert exported.mlir_module().count("@tpu_custom_call") == 2


def explained(cell, *args):
    return str(sj.explain(cell, *args, engine="pallas"))


def test_float32_weights_that_do_not_fit_are_told_what_would():
    """Nobody rounds them unasked."""
    told = []
    for compute_dtype in (jnp.float32, jnp.bfloat16):
        cell = sj.lstm(8, 2560, dtype=jnp.float32, compute_dtype=compute_dtype)
        params = jax.eval_shape(cell.init, jax.random.key(0))
        state = jax.eval_shape(lambda p, cell=cell: cell.initial_state(p, (8,)), params)
        told.append(explained(cell, params, state, jnp.zeros((T, 8, 8), jnp.float32)))
    assert "forwards as split: 112,967,680 bytes, 104,857,600 of them weights, do not fit in 100,663,296" in told[0]
    assert "with compute_dtype=jnp.bfloat16 they would" in told[0]
    assert "forwards a kernel, the batch in one" in told[1]
    assert "(52,428,800 for weights)" in told[1]


REFUSED = {
    "inner_scan": ("forwards as split: Mosaic does not lower it", 0),
    "zoneout": ("forwards as split: key<fry>[] is no real number", 2),
}


@pytest.mark.parametrize("name", quick(REFUSED, "inner_scan"))
def test_what_mosaic_does_not_know_runs_as_split_and_is_told(name):
    """Loop by loop: keys are split by a scan, and the LSTM that reads the draws is two kernels."""
    step, params, state, xs = STEPS[name]
    params, state, xs = narrow((params, state, xs))
    reason, count = REFUSED[name]
    assert reason in explained(cell_of(step), params, state, xs)
    run = lambda engine: (
        lambda params: sum((x**2).sum() for x in floats(sj.unroll(cell_of(step), params, state, xs, engine=engine)))
    )
    assert kernels(jax.grad(run("pallas")), params) == count
    found, expected = (jax.jit(jax.value_and_grad(run(engine)))(params) for engine in ("pallas", "split"))
    assert_close(found, expected, rtol=1e-5, atol=1e-6)


# Whose loops are no kernels with some version of JAX: complex numbers, two batch axes of a product, convolutions, keys.
SPLIT = (
    *("lru", "lru_learned_gamma", "s5", "delta_rule", "gated_delta_rule"),
    *("conv_lstm", "conv_lstm_peepholes", "zoneout", "zoneout_scaled"),
)


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_every_loop_is_a_kernel_both_ways(name):
    cell = CELLS[name].make()
    params, xs = narrow(drawn(cell)), narrow(CELLS[name].draw(jax.random.key(3), (T, B)))
    state = narrow(state_of(cell, params, key=jax.random.key(9)))
    with jax.numpy_dtype_promotion("standard"):
        loops = sj.explain(cell, params, state, xs, engine="pallas").loops
        value = lambda *args: sum((x * x.conj()).real.sum() for x in floats(sj.unroll(cell, *args, engine="pallas")))
        count = kernels(jax.grad(value, allow_int=True), params, state, xs)
    assert count <= sum(loop.way.count("a kernel") for loop in loops)
    if name not in SPLIT:
        assert not [loop.way for loop in loops if "as split" in loop.way]
        assert count >= len(loops)


@pytest.mark.slow
@pytest.mark.parametrize("tracked", [False, True])
def test_over_devices(tracked):
    """Each device's part of the batch is a kernel; where JAX tracks over which devices values differ it is split's."""
    cell = sj.lstm(5, 12, dtype=jnp.float32)
    params, xs = narrow(drawn(cell)), jnp.asarray(np.random.default_rng(0).normal(size=(T, 4, 5)), jnp.float32)
    value = lambda p, h, x, engine: (sj.unroll(cell, p, sj.LSTMState(h, h), x, engine=engine)[1] ** 2).sum()
    h = jnp.full((4, 12), 0.5, jnp.float32)

    def part(params, h, xs):
        found = jax.grad(lambda p: value(p, h, xs, "pallas"))(params)
        return found if tracked else jax.lax.psum(found, "b")

    mesh = jax.make_mesh((2,), ("b",), axis_types=(jax.sharding.AxisType.Auto,))
    specs = (jax.P(), jax.P("b"), jax.P(None, "b"))
    run = jax.shard_map(part, mesh=mesh, in_specs=specs, out_specs=jax.P(), check_vma=tracked)
    assert kernels(run, params, h, xs) == (0 if tracked else 2)
    assert_close(jax.jit(run)(params, h, xs), jax.grad(value)(params, h, xs, "scan"), rtol=1e-5, atol=1e-6)
