"""Explicit meshes, `jax.make_mesh`'s default: what types say of devices changes no number."""

import functools

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as Spec

import seqjax as sj
from seqjax.engines.equations import jaxprs

T, B, V, H = 6, 4, 6, 4
RNG = np.random.default_rng(0)
SYMBOLS, TARGETS = RNG.integers(0, V, (2, T, B))
TICKS = {
    "none": {},
    "mask": {"mask": RNG.uniform(size=(T, B)) > 0.3},
    "lengths": {"lengths": np.array([6, 3, 1, 5])},
    "reset": {"reset": RNG.uniform(size=(T, B)) < 0.3},
}


def network(*layers):
    return sj.serial(sj.embedding(V, H), *layers)


MODELS = {
    "lstm": network(sj.recurrent(sj.lstm(H, H)), sj.dense(H, V)),
    "bidirectional": network(sj.bidirectional(sj.gru(H, H), sj.lstm(H, H)), sj.dense(2 * H, V)),
    "stack": network(sj.recurrent(sj.stack(sj.lstm(H, H), sj.gru(H, H))), sj.dense(H, V)),
    "learned start": network(sj.recurrent(sj.transforms.learned_initial_state(sj.elman(H, H))), sj.dense(H, V)),
    "tied, with dropout": sj.tied_embedding(
        V, H, sj.serial(sj.dropout(0.5), sj.recurrent(sj.zoneout(sj.recurrent_dropout(sj.lstm(H, H), 0.5), 0.2)))
    ),
    "convolution": network(sj.layers.causal_conv(H, H, width=3), sj.dense(H, V)),
    "attention": network(sj.layers.windowed_attention(H, heads=2, window=3), sj.dense(H, V)),
    "scan": network(sj.recurrent(sj.lstm(H, H), engine="scan"), sj.layers.layer_norm(H), sj.dense(H, V)),
    "in reverse": network(sj.recurrent(sj.lstm(H, H), reverse=True, memory=2), sj.dense(H, V)),
}
LINEAR = {
    "mingru": sj.cells.mingru(H, H),
    "mlstm": sj.cells.mlstm(H, H, heads=2),
    "delta rule": sj.cells.delta_rule(H, H, heads=2),
    "lru": sj.cells.lru(H, H),
    "s5": sj.cells.s5(H, H),
}


def over_time(cell):
    """A cell whose ticks are run a stretch a device."""

    def apply(params, state, xs, *, mask=None, lengths=None, reset=None, key=None):
        ticks = {name: flags for name, flags in {"mask": mask, "reset": reset}.items() if flags is not None}
        stretch = lambda *given: sj.unroll(cell, *given[:3], **given[3], time_axis="devices")
        mine = Spec("devices")
        specs = {"in_specs": (Spec(), Spec(), mine, mine), "out_specs": (Spec(), mine)}
        return jax.shard_map(stretch, **specs)(params, state, xs, ticks)

    return sj.Layer(cell.init, cell.initial_state, apply)


def by_columns(leaf):
    return Spec(*[None] * (leaf.ndim - 1), "devices" if leaf.shape[-1] % 2 == 0 else None)


def by_rows(leaf):
    return Spec("devices") if leaf.ndim == 2 and leaf.shape[0] == H else by_columns(leaf)


# How parameters, and how ``[T, B]`` and ``[B]``, are spread.
WAYS = {
    "data": (lambda leaf: Spec(), Spec(None, "devices"), Spec("devices")),
    "tensor": (by_columns, Spec(), Spec()),
    "tensor, read out by rows": (by_rows, Spec(), Spec()),
    "sequence": (lambda leaf: Spec(), Spec("devices"), None),
}


def spelled(cases, chosen):
    """Of three words each, the chosen ones run every time."""
    cases = list(cases)
    assert set(chosen) <= set(cases)
    slow = lambda case: () if case in chosen else pytest.mark.slow
    return [pytest.param(*case, marks=slow(case), id=", ".join(case)) for case in cases]


def value(model, params, symbols, targets, ticks, key):
    """The loss, and the last state, from a state that is made where it is needed."""
    state = model.initial_state(params, symbols.shape[1:], key=key)
    state, logits = model.apply(params, state, symbols, **ticks, key=key)
    real = sj.masks.given("value", ticks.get("mask"), ticks.get("lengths"), symbols)
    return sj.cross_entropy(logits, targets, real).mean, sj.base.without_noise(state)


def model_of(name, way):
    """As it is run over the devices."""
    if name in LINEAR:
        cell = LINEAR[name]
        return network(over_time(cell) if way == "sequence" else sj.recurrent(cell), sj.dense(H, V))
    return MODELS[name]


def table():
    """Every way, model and kind of ticks that go together."""
    for way in WAYS:
        for name in (*MODELS, *LINEAR):
            for ticks in TICKS:
                if way != "sequence" or (name in LINEAR and ticks != "lengths"):
                    yield way, name, ticks


QUICK = [
    ("data", "bidirectional", "mask"),
    ("data", "tied, with dropout", "lengths"),
    ("data", "convolution", "reset"),
    ("data", "lru", "mask"),
    ("tensor", "stack", "mask"),
    ("tensor, read out by rows", "mlstm", "none"),
    ("sequence", "mingru", "mask"),
]


@pytest.mark.parametrize(("way", "name", "ticks"), spelled(table(), QUICK))
def test_a_model_over_devices_is_that_on_one(way, name, ticks):
    """Values, last states and gradients."""
    of_params, of_ticks, of_lengths = WAYS[way]
    key, ticks = jax.random.key(1), TICKS[ticks]
    params = model_of(name, "").init(jax.random.key(0))

    def run(model, *given):
        return jax.jit(jax.value_and_grad(functools.partial(value, model), has_aux=True))(*given, key)

    expected = run(model_of(name, ""), params, SYMBOLS, TARGETS, ticks)
    with jax.set_mesh(jax.make_mesh((2,), ("devices",))):
        put = lambda tree, spec: jax.tree.map(lambda leaf: jax.device_put(leaf, spec), tree)
        spread = {name: put(flags, of_lengths if name == "lengths" else of_ticks) for name, flags in ticks.items()}
        params = jax.tree.map(lambda leaf: jax.device_put(leaf, of_params(leaf)), params)
        found = run(model_of(name, way), params, *put((SYMBOLS, TARGETS), of_ticks), spread)
    for x, y in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(y, x, rtol=1e-9, atol=1e-9)


def loops(jaxpr):
    """The scans, at any depth."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan":
            yield equation.params["jaxpr"].jaxpr
        for inner in jaxprs.core.jaxprs_in_params(equation.params):
            yield from loops(jaxprs.opened(inner))


@pytest.mark.parametrize("engine", ["scan", "split"])
@pytest.mark.parametrize("ticks", TICKS)
def test_nothing_is_sent_between_devices_within_a_loop(ticks, engine):
    """A state made whole is spread once, in front: spread anew at every tick, XLA aborted at complex ones."""
    cell = sj.cells.lru(H, H)
    params, xs = cell.init(jax.random.key(0)), RNG.normal(size=(T, B, H))

    def run(params, xs, ticks):
        state = cell.initial_state(params, (B,))
        return (sj.unroll(cell, params, state, xs, **ticks, engine=engine)[1] ** 2).sum()

    with jax.set_mesh(jax.make_mesh((2,), ("devices",))):
        put = lambda tree, *axes: jax.device_put(tree, Spec(*axes))
        flags = put(TICKS[ticks], *["devices"] if ticks == "lengths" else [None, "devices"])
        given = put(params), put(xs, None, "devices"), flags
        jaxpr = jax.make_jaxpr(jax.grad(run))(*given)
    assert [jaxprs.count(loop, "reshard") for loop in loops(jaxpr.jaxpr)] == [0, 0]


def test_a_state_made_in_shard_map_varies_as_its_inputs_do():
    cell = sj.lstm(H, H)
    params, xs = cell.init(jax.random.key(0)), RNG.normal(size=(T, B, H))
    run = lambda params, xs: sj.unroll(cell, params, cell.initial_state(params, xs.shape[1:2]), xs)[1]
    spread = Spec(None, "devices")
    with jax.set_mesh(jax.make_mesh((2,), ("devices",))):
        ys = jax.jit(jax.shard_map(run, in_specs=(Spec(), spread), out_specs=spread))(
            params, jax.device_put(xs, spread)
        )
    np.testing.assert_allclose(ys, run(params, xs), rtol=1e-12)


def test_a_step_that_returns_less_spread_than_it_was_given():
    """A leaf made anew every tick, beside one that was spread from the start: the state keeps its types."""

    def step(params, state, x):
        return (x + state[0], jax.numpy.ones((B,))), state[1]

    cell = sj.Cell(lambda key: (), lambda params, batch=(), *, key=None: (jax.numpy.zeros(batch),) * 2, step)
    with jax.set_mesh(jax.make_mesh((2,), ("devices",))):
        state, xs = jax.device_put((np.zeros(B),) * 2, Spec("devices")), jax.device_put(np.ones((T, B)), Spec())
        last, ys = sj.unroll(cell, (), state, xs)
    np.testing.assert_array_equal(last[0], np.full(B, T))
    np.testing.assert_array_equal(ys, np.ones((T, B)) * (np.arange(T)[:, None] > 0))


def test_bad_input():
    cell = sj.lstm(H, H)
    params = cell.init(jax.random.key(0))
    with jax.set_mesh(jax.make_mesh((2,), ("devices",))):
        xs = jax.device_put(np.ones((T, B, H)), Spec("devices"))
        with pytest.raises(ValueError, match=r"expected all of time on every device, got it spread over 'devices'"):
            sj.unroll(cell, params, cell.initial_state(params, (B,)), xs)
