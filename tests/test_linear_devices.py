"""Time over devices: stretches of a linear recurrence on eight of them, against one."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

import seqjax as sj

PROGRAM = """
import functools, sys
import jax, jax.numpy as jnp, numpy as np
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_enable_x64", True)
import seqjax as sj

spec = jax.sharding.PartitionSpec
mesh = jax.make_mesh((8,), ("time",), axis_types=(jax.sharding.AxisType.Auto,))
T, B, D = 40, 2, 3
rng = np.random.default_rng(0)
xs = jnp.asarray(rng.normal(size=(T, B, D)))
mask = jnp.asarray(rng.uniform(size=(T, B)) > 0.2)
reset = jnp.asarray(rng.uniform(size=(T, B)) < 0.05)
cells = {
    "mingru": sj.cells.mingru(D, 4), "lru": sj.cells.lru(D, 4), "mlstm": sj.cells.mlstm(D, 4, heads=2),
    "channel": sj.cells.linear_attention(D, 4, decay="channel"),
    "delta": sj.cells.delta_rule(D, 4, gated=True, beta=2),
    "stack": sj.stack(sj.cells.mingru(D, 4), sj.cells.lru(4, 4)),
    "blocks": sj.stack(sj.elman(D, 4, activation=lambda z: z), sj.elman(4, 2, activation=lambda z: z)),
    "oscillator": sj.Cell(
        lambda key: (), lambda p, b=(), *, key=None: (jnp.ones((*b, D)), jnp.zeros((*b, D))),
        lambda p, s, x: ((s[0] + 0.3 * s[1], s[1] - 0.3 * s[0] + x), s[0] * jnp.tanh(s[1])),
    ),
    "shift": sj.Cell(lambda key: (), lambda p, b=(), *, key=None: jnp.ones((*b, D)), lambda p, s, x: (x, s * x)),
}
for name in sys.argv[2:]:
    cell = cells[name]
    params = cell.init(jax.random.key(0))
    start = jax.tree.map(lambda x: jnp.where(jnp.isfinite(x), x + 0.1, x), cell.initial_state(params, (B,)))
    for reverse in (False, True)[: int(sys.argv[1])]:
        def loss(outs):
            last, ys = outs
            total = jnp.sum(jnp.sin(jnp.real(ys)) * jnp.arange(1.0, ys.shape[-1] + 1))
            return total, sum(jnp.sum(jnp.sin(jnp.abs(x) ** 2 / (1 + jnp.abs(x) ** 2))) for x in jax.tree.leaves(last))

        def one(params, start, xs):
            outs = sj.unroll(cell, params, start, xs, mask=mask, reset=reset, reverse=reverse, engine="scan")
            return sum(loss(outs)), outs

        ours = spec("time")

        sizes = {"in_specs": (spec(), spec(), ours, ours, ours), "out_specs": (spec(), spec(), (spec(), ours))}

        @functools.partial(jax.shard_map, mesh=mesh, **sizes)
        def stretch(params, start, xs, mask, reset):
            outs = sj.unroll(cell, params, start, xs, mask=mask, reset=reset, reverse=reverse, time_axis="time")
            own, last = loss(outs)
            return jax.lax.psum(own, "time"), last, outs

        def many(params, start, xs):
            own, last, outs = stretch(params, start, xs, mask, reset)
            return own + last, outs

        run = lambda f: jax.jit(jax.value_and_grad(f, (0, 1, 2), has_aux=True, allow_int=True))(params, start, xs)
        for x, y in zip(jax.tree.leaves(run(one)), jax.tree.leaves(run(many)), strict=True):
            np.testing.assert_allclose(np.nan_to_num(np.asarray(y)), np.nan_to_num(np.asarray(x)), rtol=1e-9, atol=1e-9)
    print(name, "equal")
"""


def runs(directions, *names):
    words = [sys.executable, "-c", PROGRAM, str(directions), *names]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == [word for name in names for word in (name, "equal")]


@pytest.mark.slow
def test_eight_devices_are_one():
    """Values, last states and gradients, with masks and resets."""
    runs(1, "mingru", "delta", "oscillator")


@pytest.mark.slow
def test_eight_devices_are_one_for_every_kind_and_in_reverse():
    runs(2, "mingru", "delta", "shift", "lru", "mlstm", "channel", "stack", "blocks", "oscillator")


def test_bad_input():
    cell = sj.lstm(3, 4)
    params, xs = cell.init(jax.random.key(0)), jnp.ones((8, 3))
    with pytest.raises(ValueError, match=r"time_axis to name an axis of an enclosing jax.shard_map, got 'time'. Call"):
        sj.unroll(
            sj.cells.mingru(3, 4), sj.cells.mingru(3, 4).init(jax.random.key(0)), jnp.zeros(4), xs, time_axis="time"
        )
    with pytest.raises(ValueError, match=r"engine to be one of 'auto', 'linear', got 'split'"):
        sj.unroll(cell, params, cell.initial_state(params), xs, time_axis="time", engine="split")
    mesh = jax.make_mesh((2,), ("time",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec

    def over(cell, **options):
        params = cell.init(jax.random.key(0))
        run = lambda xs: sj.unroll(cell, params, cell.initial_state(params, ()), xs, time_axis="time", **options)[1]
        return jax.shard_map(run, mesh=mesh, in_specs=spec("time"), out_specs=spec("time"))(xs)

    with pytest.raises(ValueError, match=r"linear in their state, .*, got logistic float"):
        over(cell)
    with pytest.raises(ValueError, match=r"got lengths, which count all of time. Make the mask"):
        over(sj.cells.mingru(3, 4), lengths=jnp.asarray(3))
    with pytest.raises(ValueError, match=r"memory='auto' or 'all' for engine='linear'"):
        over(sj.cells.mingru(3, 4), memory="sqrt")
    counter = sj.Cell(
        lambda key: (),
        lambda p, b=(), *, key=None: jnp.zeros(b, int),
        lambda p, s, x: (s * 3 + 1, x * s.astype(x.dtype)),
    )
    with pytest.raises(ValueError, match=r"recurrences of floats .* for time_axis, got a loop over int"):
        over(counter)
