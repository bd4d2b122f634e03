"""Weight passports: rows, directions and biases of all frameworks to the bit; states; what they say to bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from seqjax.interop import equinox, flax, haiku, keras, onnx, torch
from seqjax.products import Biases

D, H, B = 3, 4, 2
GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
RANDOM = np.random.default_rng(0)


def draw(*shape, dtype=np.float64):
    return RANDOM.normal(size=shape).astype(dtype)


def torch_weights(kind, layers=1, directions=1, bias=True, projection=None, dtype=np.float64):
    """What the state dict of a module of these sizes holds."""
    weights, below, out = {}, D, projection or H
    for k in range(layers):
        for turned in range(directions):
            suffix = f"_l{k}{'_reverse' * turned}"
            weights[f"weight_ih{suffix}"] = draw(GATES[kind] * H, below, dtype=dtype)
            weights[f"weight_hh{suffix}"] = draw(GATES[kind] * H, out, dtype=dtype)
            for name in ("bias_ih", "bias_hh") if bias else ():
                weights[f"{name}{suffix}"] = draw(GATES[kind] * H, dtype=dtype)
            if projection:
                weights[f"weight_hr{suffix}"] = draw(projection, H, dtype=dtype)
        below = out * directions
    return weights


def assert_equal(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", GATES)
def test_torch_keeps_every_bit(kind):
    """One to three layers, both directions, with and without biases and projection, in three dtypes."""
    for layers in (1, 2, 3):
        for directions in (1, 2):
            for bias in (True, False):
                for projection in (None, 2) if kind == "lstm" else (None,):
                    for dtype in (np.float64, np.float32, jnp.bfloat16):
                        weights = torch_weights(kind, layers, directions, bias, projection, dtype)
                        layer, params = torch.from_state_dict(kind, weights)
                        assert_equal(torch.to_state_dict(layer, params), weights)
                        fresh = jax.eval_shape(layer.init, jax.random.key(0))
                        assert jax.tree.structure(fresh) == jax.tree.structure(params)


def test_torch_reads_a_part_of_a_larger_model_and_a_cell():
    weights = torch_weights("gru")
    inside = {f"encoder.rnn.{name}": w for name, w in weights.items()} | {"head.weight": draw(2, H)}
    layer, params = torch.from_state_dict("gru", inside, prefix="encoder.rnn.")
    alone, same = torch.from_state_dict("gru", {name.removesuffix("_l0"): w for name, w in weights.items()})
    assert layer == alone == torch.from_state_dict("gru", weights)[0]
    assert_equal(params, same)
    with pytest.raises(
        ValueError, match=r"^torch: expected entries such as weight_ih_l0, .* Pass prefix='encoder.rnn.'"
    ):
        torch.from_state_dict("gru", inside)


def test_two_biases_learn_as_two():
    """Each gets the whole gradient, as in torch; a layer of one bias becomes torch's first."""
    layer, params = torch.from_state_dict("rnn_tanh", torch_weights("rnn_tanh"))
    assert isinstance(params.b, Biases)
    xs = draw(5, B, D)
    gradient = jax.grad(lambda p: (layer.apply(p, layer.initial_state(p, (B,)), xs)[1] ** 2).sum())(params)
    np.testing.assert_array_equal(gradient.b.input, gradient.b.recurrent)
    own = sj.recurrent(sj.lstm(D, H))
    one = own.init(jax.random.key(0))
    written = torch.to_state_dict(own, one)
    np.testing.assert_array_equal(written["bias_ih_l0"], one.b)
    assert not written["bias_hh_l0"].any()
    some = sj.recurrent(sj.gru(D, H, b_init=sj.initializers.only("z"), inner_bias=True))
    params = jax.tree.map(lambda p: p + 1.0, some.init(jax.random.key(0)))
    written = torch.to_state_dict(some, params)
    np.testing.assert_array_equal(written["bias_ih_l0"], [0.0] * H + [1.0] * H + [0.0] * H)
    np.testing.assert_array_equal(written["bias_hh_l0"], [0.0] * 2 * H + [1.0] * H)


def rows_of(make, layers, directions):
    """Nested weights: a list of layers, a pair of directions."""
    rows, below = [], D
    for _ in range(layers):
        ends = [make(below) for _ in range(directions)]
        rows.append(tuple(ends) if directions == 2 else ends[0])
        below = directions * H
    return rows if layers > 1 else rows[0]


def equinox_gru(d):
    return {"weight_ih": draw(3 * H, d), "weight_hh": draw(3 * H, H), "bias": draw(3 * H), "bias_n": draw(H)}


def linen_gru(d):
    tree = {f"i{g}": {"kernel": draw(d, H), "bias": draw(H)} for g in "rzn"}
    tree |= {f"h{g}": {"kernel": draw(H, H)} for g in "rzn"}
    tree["hn"]["bias"] = draw(H)
    return {"cell": tree}


def keras_gru(d):
    return [draw(d, 3 * H), draw(H, 3 * H), draw(2, 3 * H)]


@pytest.mark.parametrize(("layers", "directions"), [(1, 1), (1, 2), (2, 1), (3, 2)])
def test_rows_and_directions_of_the_others(layers, directions):
    weights = rows_of(equinox_gru, layers, directions)
    assert_equal(equinox.to_state_dict(*equinox.from_state_dict("gru", weights)), weights)

    trees = rows_of(linen_gru, layers, directions)
    named = lambda row: {"forward_rnn": row[0], "backward_rnn": row[1]} if directions == 2 else row
    tree = {f"layers_{k}": named(row) for k, row in enumerate(trees)} if layers > 1 else named(trees)
    assert_equal(flax.to_state_dict(*flax.from_state_dict("gru", {"params": tree})), tree)

    lists = rows_of(keras_gru, layers, directions)
    flat = lambda row: [*row[0], *row[1]] if directions == 2 else row
    lists = [flat(row) for row in lists] if layers > 1 else flat(lists)
    layer, params = keras.from_state_dict("gru", lists, bidirectional=directions == 2)
    assert_equal(keras.to_state_dict(layer, params), lists)
    if directions == 1:
        cores = {
            f"gru{f'_{k}' * (k > 0)}": {"w_i": draw(D if k == 0 else H, 3 * H), "w_h": draw(H, 3 * H), "b": draw(3 * H)}
            for k in range(layers)
        }
        assert_equal(haiku.to_state_dict(*haiku.from_state_dict("gru", cores)), cores)


def test_onnx_keeps_every_bit():
    for kind, gates in GATES.items():
        for ends, direction in ((1, "forward"), (1, "reverse"), (2, "bidirectional")):
            for reset in ("after", "before"):
                for extra in ((), ("B",), ("B", "P")):
                    shapes = {"W": (gates * H, D), "R": (gates * H, H), "B": (2 * gates * H,), "P": (3 * H,)}
                    names = [name for name in shapes if name in "WR" or (name in extra and (name != "P" or gates == 4))]
                    tensors = {name: draw(ends, *shapes[name]) for name in names}
                    layer, params = onnx.from_state_dict(kind, tensors, direction=direction, reset=reset)
                    assert_equal(onnx.to_state_dict(layer, params), tensors)


def test_onnx_reads_operators_of_a_file(tmp_path):
    """Attributes say activations, direction and reset; a file that is cut off, or is none, is told."""
    made = pytest.importorskip("onnx")
    cell = sj.gru(D, H, activation=jax.nn.relu, b_init=sj.initializers.two_biases(gates=("r", "z")))
    layer = sj.bidirectional(cell, cell, keep_backward=True)
    params = jax.tree.map(lambda p: draw(*p.shape), layer.init(jax.random.key(0)))
    path = tmp_path / "gru.onnx"
    made.save(onnx.to_module(layer, params), path)
    ((again, same),) = onnx.from_file(path).values()
    assert again == layer
    assert_equal(same, params)
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"^onnx: expected an ONNX model in .*cut off"):
        onnx.from_file(cut)
    model = onnx.to_module(layer, params)
    model.graph.node[0].attribute.append(made.helper.make_attribute("clip", 3.0))
    with pytest.raises(ValueError, match=r"^onnx: expected clip=None of Y, got 3.0"):
        onnx.from_module(model)


PASSPORTS = {
    "torch": (torch, lambda *parts: [np.stack(each) for each in zip(*parts)]),
    "onnx": (onnx, lambda *parts: [np.stack(each) for each in zip(*parts)]),
    "flax": (flax, lambda *parts: [[(c, h) for h, c in parts]]),
    "haiku": (haiku, lambda *parts: [list(parts)]),
    "equinox": (equinox, lambda *parts: [list(parts)]),
    "keras": (keras, lambda *parts: [[list(part) for part in parts]]),
}


@pytest.mark.parametrize("name", PASSPORTS)
def test_states_go_both_ways(name):
    """Two layers; and both directions, whose readers then start from theirs."""
    module, given = PASSPORTS[name]
    parts = [(draw(B, H), draw(B, H)) for _ in range(2)]
    two = sj.serial(sj.recurrent(sj.lstm(D, H)), sj.dropout(0.1), sj.recurrent(sj.lstm(H, H)))
    state = module.state_from(two, *given(*parts))
    assert_equal([tuple(state[0]), tuple(state[2])], parts)
    if name == "haiku":
        pytest.importorskip("haiku")
    back = module.state_to(two, state)
    again = module.state_from(two, *(back if isinstance(back, tuple) else (back,)))
    assert_equal(again, state)
    both = sj.bidirectional(sj.lstm(D, H), sj.lstm(D, H))
    if name in ("torch", "onnx"):
        params = both.init(jax.random.key(0))
        state = module.state_from(both, *given(*parts))
        xs = draw(5, B, D)
        _, ys = both.apply(params, state, xs)
        turned = sj.recurrent(sj.lstm(D, H), reverse=True)
        expected = turned.apply(params.backward, sj.cells.LSTMState(*parts[1]), xs)[1]
        np.testing.assert_allclose(ys[..., H:], expected, rtol=1e-12)
        ends = sj.bidirectional(sj.lstm(D, H), sj.lstm(D, H), keep_backward=True)
        state = module.state_from(ends, *given(*parts))
        assert_equal(module.state_to(ends, state), tuple(np.stack(each) for each in zip(*parts)))
        last, _ = ends.apply(params, state, xs)
        assert jax.tree.structure(last) == jax.tree.structure(state)
        expected = turned.apply(params.backward, sj.cells.LSTMState(*parts[1]), xs)[0]
        np.testing.assert_allclose(np.stack(module.state_to(ends, last))[:, 1], np.stack(expected), rtol=1e-12)
    with pytest.raises(ValueError, match=rf"^{name}: expected "):
        module.state_from(two, draw(1, B, H))
    with pytest.raises(ValueError, match=rf"^{name}: expected h0 alone for gru"):
        module.state_from(sj.recurrent(sj.gru(D, H)), draw(1, B, H), draw(1, B, H))
    with pytest.raises(ValueError, match=rf"^{name}: expected a layer that keeps where both"):
        module.state_to(both, both.initial_state(both.init(jax.random.key(0)), (B,)))


def without(weights, name):
    return {k: w for k, w in weights.items() if k != name}


LSTM = torch_weights("lstm")
EQX = equinox_gru(D)
RELU = sj.elman(H, H, activation=jax.nn.relu)
MIXED = sj.serial(sj.recurrent(sj.elman(D, H)), sj.recurrent(RELU))
SIZES = sj.serial(sj.recurrent(sj.lstm(D, H)), sj.recurrent(sj.lstm(H, H + 1)))
ENDS = sj.bidirectional(sj.elman(H, H), RELU)
BAD = {
    "kind": (lambda: torch.from_state_dict("lsmt", LSTM), r"torch: expected one of lstm, .*got 'lsmt'"),
    "another kind": (lambda: torch.from_state_dict("gru", LSTM), r"torch: expected .* for gru|of shape"),
    "missing": (lambda: torch.from_state_dict("lstm", without(LSTM, "bias_hh_l0")), r"torch: .*bias_hh_l0 missing"),
    "extra": (lambda: torch.from_state_dict("lstm", LSTM | {"scale": draw(3)}), r"torch: .*scale unknown"),
    "shape": (
        lambda: torch.from_state_dict("lstm", LSTM | {"bias_ih_l0": draw(3)}),
        r"torch: expected bias_ih_l0 of shape \(16,\), got \(3,\)",
    ),
    "something else": (
        lambda: torch.from_state_dict("lstm", {"conv.weight": draw(3, 3)}),
        r"torch: expected entries such",
    ),
    "integers": (
        lambda: torch.from_state_dict("lstm", {k: w.astype(np.int8) for k, w in LSTM.items()}),
        r"torch: expected floating point numbers in weight_ih_l0, got int8",
    ),
    "dtypes": (
        lambda: torch.from_state_dict("lstm", LSTM | {"bias_ih_l0": draw(16, dtype=np.float32)}),
        r"torch: expected entries of one dtype, got float32, float64",
    ),
    "a cell it lacks": (
        lambda: torch.to_state_dict(sj.recurrent(sj.slstm(D, H, 2)), sj.slstm(D, H, 2).init(jax.random.key(0))),
        r"torch: expected a cell that it has, .*got slstm",
    ),
    "an option it lacks": (
        lambda: torch.to_state_dict(sj.lstm(D, H, activation=jax.nn.relu), sj.lstm(D, H).init(jax.random.key(0))),
        r"torch: expected activation to be one of tanh in a lstm, got relu",
    ),
    "another reset": (
        lambda: equinox.to_state_dict(sj.gru(D, H, reset="before"), sj.gru(D, H).init(jax.random.key(0))),
        r"equinox: expected reset to be one of 'after' in a gru, got 'before'",
    ),
    "two activations": (
        lambda: torch.to_state_dict(MIXED, MIXED.init(jax.random.key(0))),
        r"torch: expected one kind and size of cell in all layers and directions, got serial",
    ),
    "two sizes": (
        lambda: torch.to_state_dict(SIZES, SIZES.init(jax.random.key(0))),
        r"torch: expected one kind and size of cell in all layers and directions, got serial",
    ),
    "directions that differ": (
        lambda: onnx.to_state_dict(ENDS, ENDS.init(jax.random.key(0))),
        r"onnx: expected one layer of one kind and size of cell, an operator, got bidirectional",
    ),
    "a layer it lacks": (
        lambda: torch.to_state_dict(sj.dense(D, H), sj.dense(D, H).init(jax.random.key(0))),
        r"torch: expected recurrent or bidirectional layers.*got dense\(3, 4\)",
    ),
    "by hand": (
        lambda: torch.to_state_dict(sj.Cell(None, None, None), ()),
        r"torch: expected a layer or cell by one of the package's makers",
    ),
    "equinox missing": (lambda: equinox.from_state_dict("gru", without(EQX, "bias_n")), r"equinox: .*bias_n missing"),
    "keras count": (lambda: keras.from_state_dict("lstm", [draw(3, 16)]), r"keras: expected two or three arrays"),
    "keras reset": (
        lambda: keras.from_state_dict("gru", keras_gru(D), reset="before"),
        r"keras: expected reset='after' for a bias of its shape",
    ),
    "flax missing": (
        lambda: flax.from_state_dict("gru", {"cell": without(linen_gru(D)["cell"], "hz")}),
        r"flax: .*hz/kernel missing",
    ),
    "flax gates": (
        lambda: flax.from_state_dict("rnn_tanh", {}, gate_activation=jnp.tanh),
        r"flax: expected no gate_activation for rnn_tanh",
    ),
    "haiku nothing": (
        lambda: haiku.from_state_dict("gru", {"linear": {"w": draw(3, 3)}}),
        r"haiku: expected entries such",
    ),
    "onnx activation": (
        lambda: onnx.from_state_dict("rnn_tanh", {"W": draw(1, 4, 3), "R": draw(1, 4, 4)}, activations=["Affine"]),
        r"onnx: expected an activation among Tanh, .*got Affine",
    ),
    "onnx shape": (
        lambda: onnx.from_state_dict("lstm", {"W": draw(16, 3), "R": draw(16, 4)}),
        r"onnx: expected W with 3 axes",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, message = BAD[name]
    with pytest.raises((ValueError, TypeError), match=f"^{message}"):
        call()


def test_a_missing_framework_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    layer, params = torch.from_state_dict("lstm", LSTM)
    with pytest.raises(ModuleNotFoundError, match=r"expected torch to be installed.*pip install 'seqjax\[torch\]'"):
        torch.to_module(layer, params)
