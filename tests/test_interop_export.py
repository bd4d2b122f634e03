"""Programs of `jax.export`: sizes that are symbols, records that are serialised, files for a process without us."""

import re
import subprocess
import sys
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from marks import quick
from small_training import MODEL, OBJECTIVE, PARAMS, V
from zoo import CELLS, LAYERS, drawn

import seqjax as sj
from seqjax.serialized import serialized_name

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
Type = jax.ShapeDtypeStruct


def symbols(scope="t, b"):
    return jax.export.symbolic_shape(scope)


def types(tree, *lead):
    """The types of a tree whose first axes are others."""
    return jax.tree.map(lambda x: Type((*lead, *x.shape[len(lead) :]), x.dtype), tree)


def assert_same(got, expected, **tolerance):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        if jnp.issubdtype(a.dtype, jax.dtypes.extended):
            a, b = map(jax.random.key_data, (a, b))
        np.testing.assert_allclose(a, b, **{"rtol": 1e-10, "atol": 1e-12} | tolerance)


def float_sum(ys):
    return sum((y**2).sum() for y in jax.tree.leaves(ys) if jnp.issubdtype(y.dtype, jnp.floating))


def gradient_of_cell(cell):
    """Value and gradient by the parameters over masked ticks, as a function of (params, xs, mask)."""

    def f(params, xs, mask):
        state = cell.initial_state(params, mask.shape[1:])
        return float_sum(sj.unroll(cell, params, state, xs, mask=mask))

    return jax.value_and_grad(f, allow_int=True)


def gradient_of_layer(layer):
    def f(params, xs, mask):
        return float_sum(layer.apply(params, layer.initial_state(params, mask.shape[1:]), xs, mask=mask))

    return jax.value_and_grad(f, allow_int=True)


def without_float0(tree):
    return [leaf for leaf in jax.tree.leaves(tree) if leaf.dtype != jax.dtypes.float0]


CASES = {f"cell {name}": (gradient_of_cell, case) for name, case in CELLS.items()}
CASES |= {f"layer {name}": (gradient_of_layer, case) for name, case in LAYERS.items()}


@pytest.mark.parametrize("name", quick(list(CASES), "cell lstm", "layer serial"))
def test_any_length_and_batch(name):
    """One program for all sizes, with its gradient, equals the function; of one cell at two of them."""
    gradient, case = CASES[name]
    module = case.make()
    params = drawn(module)
    f = jax.jit(lambda *args: without_float0(gradient(module)(*args)))
    t, b = symbols()
    one = jax.eval_shape(lambda: case.draw(KEY, (2, 2)))
    program = jax.export.export(f)(types(params), types(one, t, b), Type((t, b), bool))
    for length, batch in [(5, 3), (1, 1)][: 1 + (name == "cell lstm")]:
        mask = jnp.asarray(RNG.random((length, batch)) > 0.3)
        args = params, case.draw(jax.random.key(2), (length, batch)), mask
        assert_same(program.call(*args), f(*args), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", quick(list(CASES), "cell gru"))
def test_any_batch(name):
    """At a length that is a number the engine is that of numbers, and so are its values."""
    gradient, case = CASES[name]
    module = case.make()
    params = drawn(module)
    f = jax.jit(lambda *args: without_float0(gradient(module)(*args)))
    (b,) = symbols("b")
    args = params, case.draw(jax.random.key(2), (5, 3)), jnp.asarray(RNG.random((5, 3)) > 0.3)
    program = jax.export.export(f)(types(params), *(types(x, 5, b) for x in args[1:]))
    assert_same(program.call(*args), f(*args), rtol=1e-8, atol=1e-10)


@pytest.mark.slow
def test_samplers_of_any_batch():
    """Random symbols, and beams: one program, whose draws are those of the call itself."""

    def write(params, first, key):
        state = MODEL.initial_state(params, first.shape)
        drawn = sj.sample(MODEL, params, state, first, length=6, key=key, eos=1, no_repeat_ngram=2)
        found = sj.beam_search(MODEL, params, state, first, length=6, width=3, eos=1)
        return drawn[:3], found

    (b,) = symbols("b")
    program = sj.interop.exported(write, PARAMS, Type((b,), jnp.int32), jax.random.key(7))
    args = PARAMS, jnp.array([2, 3, 4], jnp.int32), jax.random.key(7)
    assert_same(program.call(*map(sj.interop.plain, args)), sj.interop.plain(write(*args)))


def test_a_training_step_of_any_batch():
    """Two updates by the program, whose optimizer's state is plain too, are two updates."""
    optimizer = optax.adam(1e-2)
    step = sj.train_step(OBJECTIVE, optimizer, clip=sj.clip_by_global_norm(1.0), donate=False)
    train = sj.train_state(PARAMS, optimizer, key=KEY)
    state = MODEL.initial_state(PARAMS, (3,))
    symbols_of = RNG.integers(0, V, (6, 3))
    batch = sj.Batch(symbols_of[:-1], symbols_of[1:], lengths=np.array([5, 2, 0]))
    t, b = symbols()
    given = sj.Batch(types(batch.xs, t, b), types(batch.targets, t, b), lengths=types(batch.lengths, b))
    program = sj.interop.exported(step, train, types(state, b), given)
    plain_train, plain_batch, plain_state = map(sj.interop.plain, (train, batch, state))
    for _ in range(2):
        train, _, metrics = step(train, state, batch)
        plain_train, _, plain_metrics = program.call(plain_train, plain_state, plain_batch)
    assert_same(plain_train, sj.interop.plain(train))
    assert_same(plain_metrics, sj.interop.plain(metrics))


def test_explain_says_what_symbols_decide():
    cell = sj.lstm(3, 4)
    params = cell.init(KEY)
    t, b = symbols()

    def plan(length, batch, **options):
        state = types(cell.initial_state(params, (1,)), batch)
        return sj.explain(cell, params, state, Type((length, batch, 3), float), **options)

    any_batch, any_length = plan(40, b), plan(t, 2)
    assert (any_batch.engine, any_batch.keep) == ("split", "all")
    assert "all activations kept: bytes depend on b" in any_batch.why
    assert "bytes are those of b = 32" in any_batch.why
    assert any_batch.bytes_a_tick == plan(40, 32).bytes_a_tick
    assert (any_length.engine, any_length.chunk, any_length.keep) == ("scan", t, "all")
    assert any_length.why[0] == "scan: t ticks, no number to cut into chunks"
    assert "predicted bytes of value and gradient: 896*t + 1024: kept 768*t, outputs" in str(any_length)
    assert plan(t, b, engine="split", memory="carries").keep == "carries"
    with pytest.raises(ValueError, match=r"unroll: expected sizes that are numbers for a budget of memory, got .* b\."):
        plan(40, b, memory="1MB")
    for memory in ("sqrt", "log", 3):
        with pytest.raises(ValueError, match=rf"memory='all' or 'carries' for t ticks, .* got {memory!r}\."):
            plan(t, 2, memory=memory)


def test_what_cuts_time_says_so():
    (t,) = symbols("t")
    objective = sj.over_chunks(MODEL, sj.cross_entropy, 2)
    chain = sj.hmm.random(KEY, 3, V)

    def loss(xs):
        return objective(PARAMS, MODEL.initial_state(PARAMS, (2,)), sj.Batch(xs, xs))[1].sum

    def write(xs):
        return sj.sample(MODEL, PARAMS, MODEL.initial_state(PARAMS, (2,)), 0, length=xs.shape[0])

    with pytest.raises(ValueError, match="over_chunks: expected a number of ticks to cut into chunks, got the symbol"):
        sj.interop.exported(loss, Type((t, 2), int))
    with pytest.raises(ValueError, match=r"forward: expected a number of ticks to cut into blocks for .*, got t\."):
        sj.interop.exported(lambda xs: sj.hmm.forward(chain, xs, engine="associative"), Type((t, 2), int))
    with pytest.raises(ValueError, match="sample: expected length to be a whole number of at least 1, got t"):
        sj.interop.exported(write, Type((t,), int))


def test_a_function_that_needs_numbers_is_told_of_the_symbols():
    (b,) = symbols("b")
    with pytest.raises(Exception, match=r"inconclusive|requires a constant") as caught:
        sj.interop.exported(lambda x: x[:3] if x.shape[0] > 3 else x, Type((b,), float))
    assert any("the symbols b for sizes" in note for note in caught.value.__notes__)


def test_plain_containers_keep_every_leaf_in_its_place():
    """Dictionaries sort their names, records do not."""
    cell = sj.slstm(3, 4)
    params, state = cell.init(KEY), cell.initial_state(cell.init(KEY), (2,))
    state = jax.tree.unflatten(jax.tree.structure(state), [s + i for i, s in enumerate(jax.tree.leaves(state))])
    step = lambda params, state, x: (cell.step(params, state, x), {"x": [x, None]})
    x = jnp.ones((2, 3))
    program = sj.interop.exported(step, params, state, x=x)
    got = program.call(sj.interop.plain(params), sj.interop.plain(state), x=x)
    assert_same(got, sj.interop.plain(step(params, state, x)))
    assert set(got[0][0]) == {"h", "c", "n", "m"}


def test_records_are_serialised_by_their_names():
    """A program that takes and returns records, through bytes."""
    pytest.importorskip("flatbuffers")
    cell = sj.lstm(3, 4)
    params = cell.init(KEY)
    state, x = cell.initial_state(params, (2,)), jnp.ones((2, 3))
    program = jax.export.export(jax.jit(cell.step))(params, state, x)
    again = jax.export.deserialize(program.serialize())
    got = again.call(params, state, x)
    assert isinstance(got[0], sj.cells.LSTMState)
    assert_same(got, cell.step(params, state, x))


def test_every_record_of_the_zoo_has_a_name_of_its_own():
    found = {}

    def walk(tree):
        if hasattr(tree, "_fields") and type(tree).__module__.startswith("seqjax."):
            found[type(tree)] = serialized_name(type(tree))
        for child in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, tuple | list) else ():
            walk(child)

    for name, case in (CELLS | LAYERS).items():
        if "echo_state" in name:  # drawn on the host
            continue
        module = case.make()
        params = jax.eval_shape(module.init, KEY)
        walk((params, jax.eval_shape(lambda p, m=module: m.initial_state(p, (2,), key=KEY), params)))
    assert len(found) > 30
    assert len(set(found.values())) == len(found)
    for kind in found:
        with pytest.raises(ValueError, match="Duplicate serialization registration"):
            jax.export.register_namedtuple_serialization(kind, serialized_name="another")


STRANGER = """
import sys, zipfile
for name in ("seqjax", "optax", "chex"):
    sys.modules[name] = None
import jax, jax.export, numpy as np
jax.config.update("jax_enable_x64", True)
folder = sys.argv[1]
given = np.load(folder + "/given.npz")
with zipfile.ZipFile(folder + "/model.zip") as file:
    start, run = (jax.export.deserialize(bytearray(file.read(name))) for name in ("start", "run"))
key, xs, mask = jax.random.key(3), given["xs"], given["mask"]
state, found = start.call(xs, key=key), []
for ticks in (slice(0, 4), slice(4, 7)):
    state, ys = run.call(state, xs[ticks], mask=mask[ticks], key=key)
    found.append(ys)
np.savez(folder + "/found.npz", ys=np.concatenate(found), h=state[2][0][0]["h"])
"""


def test_a_process_without_the_package_streams_the_same(tmp_path):
    """Two chunks with noise in the state, dropout by a key and a mask, in a process that cannot import us."""
    pytest.importorskip("flatbuffers")
    model = sj.serial(
        sj.embedding(V, 3), sj.dropout(0.3), sj.recurrent(sj.stack(sj.zoneout(sj.lstm(3, 4), 0.2), sj.gru(4, 4)))
    )
    params = drawn(model)
    xs, mask = RNG.integers(0, V, (7, 2)), RNG.random((7, 2)) > 0.3
    sj.interop.export_module(model, params, Type((), xs.dtype), tmp_path / "model.zip", takes=("mask", "key"))
    np.savez(tmp_path / "given.npz", xs=xs, mask=mask)
    subprocess.run([sys.executable, "-I", "-c", STRANGER, str(tmp_path)], check=True, capture_output=True, text=True)
    key = jax.random.key(3)
    state, expected = model.initial_state(params, (2,), key=key), []
    for ticks in (slice(0, 4), slice(4, 7)):
        state, ys = model.apply(params, state, jnp.asarray(xs[ticks]), mask=jnp.asarray(mask[ticks]), key=key)
        expected.append(ys)
    with np.load(tmp_path / "found.npz") as found:
        np.testing.assert_allclose(found["ys"], np.concatenate(expected), rtol=1e-10)
        np.testing.assert_allclose(found["h"], state[2][0][0].h, rtol=1e-10)
    page = zipfile.ZipFile(tmp_path / "model.zip").read("READ_ME").decode()
    assert page.startswith(repr(model))
    assert "run.call(state, xs, mask=mask, key=key)" in page
    assert "'h': 'float64[b,4]'" in page


def test_parameters_as_arguments_have_a_gradient_in_the_file(tmp_path):
    pytest.importorskip("flatbuffers")
    cell = sj.gru(3, 4)
    params = cell.init(KEY)
    sj.interop.export_module(
        cell, params, jnp.ones(3), tmp_path / "cell.zip", batch=("b", 2), constants=False, vjp_order=1
    )
    start, run = sj.interop.read_programs(tmp_path / "cell.zip")
    x = jnp.asarray(RNG.normal(size=(5, 2, 3)))
    plain = sj.interop.plain(params)
    got = jax.grad(lambda p: (run.call(p, start.call(p, x), x)[1] ** 2).sum())(plain)
    expected = jax.grad(lambda p: (cell.step(p, cell.initial_state(p, (5, 2)), x)[1] ** 2).sum())(params)
    assert_same(got, sj.interop.plain(expected))


def test_what_jax_writes_files_with_may_be_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    cell = sj.elman(3, 4)
    for call in (
        lambda: sj.interop.export_module(cell, cell.init(KEY), jnp.ones(3), tmp_path / "cell.zip"),
        lambda: sj.interop.read_programs(tmp_path / "cell.zip"),
    ):
        with pytest.raises(ModuleNotFoundError, match=r"flatbuffers .* pip install 'seqjax\[export\]'"):
            call()


WRONG = {
    "a function": (lambda: sj.interop.export_module(jnp.tanh, (), jnp.ones(3)), TypeError, "expected a Layer, got"),
    "a mask for a cell": (
        lambda: sj.interop.export_module(sj.gru(3, 4), sj.gru(3, 4).init(KEY), jnp.ones(3), takes=("mask",)),
        ValueError,
        "export_module: expected takes of a cell to be one of 'key', got 'mask'",
    ),
    "an extra that is none": (
        lambda: sj.interop.export_module(MODEL, PARAMS, jnp.int32(0), takes=("masks",)),
        ValueError,
        "export_module: expected takes to be one of 'mask', 'lengths', 'reset', 'key', got 'masks'",
    ),
    "one letter for two sizes": (
        lambda: sj.interop.export_module(MODEL, PARAMS, jnp.int32(0), batch=("b", "b")),
        ValueError,
        "export_module: expected a letter of its own for length and each axis of the batch, got t, b, b",
    ),
    "inputs of another size": (
        lambda: sj.interop.export_module(sj.gru(3, 4), sj.gru(3, 4).init(KEY), jnp.ones(5)),
        ValueError,
        "expected inputs of size 3, got 5 (one tick has shape (b, 5))",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_errors(name):
    call, kind, message = WRONG[name]
    with pytest.raises(kind, match=re.escape(message)):
        call()
