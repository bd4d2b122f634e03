"""`verify=True` runs the module that was given: as it is the numbers agree, and weights damaged on the way are told."""

import importlib
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import quick

import seqjax as sj
from seqjax.interop import verified

D, H, B = 3, 4, 2
KEY = jax.random.key(0)


def torch_modules():
    torch = pytest.importorskip("torch")
    yield torch.nn.LSTM(D, H, 2, batch_first=True, bidirectional=True, dropout=0.5)
    yield torch.nn.GRUCell(D, H)


def linen_modules():
    nn = pytest.importorskip("flax.linen")
    rnn = lambda **options: nn.RNN(nn.GRUCell(H, dtype=jnp.bfloat16), **options)
    for module in (rnn(reverse=True, time_major=True, return_carry=True), nn.Bidirectional(rnn(), rnn())):
        with jax.numpy_dtype_promotion("standard"):
            yield module, module.init(KEY, jnp.ones((5, B, D)))["params"]


def nnx_modules():
    nnx = pytest.importorskip("flax.nnx")
    rnn = lambda: nnx.RNN(nnx.OptimizedLSTMCell(D, H, rngs=nnx.Rngs(0)))
    yield nnx.Bidirectional(rnn(), rnn())
    yield nnx.SimpleCell(D, H, rngs=nnx.Rngs(0))


def equinox_modules():
    nn = pytest.importorskip("equinox").nn
    yield [nn.GRUCell(D, H, key=KEY), nn.LSTMCell(H, H, key=KEY, use_bias=False)]
    yield nn.LSTMCell(D, H, key=KEY), nn.LSTMCell(D, H, key=KEY)


def haiku_modules():
    hk = pytest.importorskip("haiku")

    def two(xs):
        for _ in range(2):
            core = hk.LSTM(H)
            xs, _ = hk.dynamic_unroll(core, xs, core.initial_state(B))
        return xs

    drawn = hk.transform(two).init(KEY, jnp.ones((5, B, D)))
    yield (lambda: hk.LSTM(H, name="core")), {f"encoder/{name}": entries for name, entries in drawn.items()}


def keras_modules():
    os.environ.setdefault("KERAS_BACKEND", "jax")
    layers = pytest.importorskip("keras").layers
    backwards = layers.GRU(H, reset_after=False, go_backwards=True, return_state=True)
    remembering = layers.LSTM(H, stateful=True)
    both = layers.Bidirectional(layers.GRU(H))
    for layer in (backwards, remembering, both):
        layer.build((B, None, D))
        yield layer


def onnx_modules():
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    draw = np.random.default_rng(0).normal
    cases = [("GRU", 2, {"direction": "bidirectional", "layout": 1}), ("LSTM", 1, {"direction": "reverse"})]
    for op, ends, attributes in cases:
        gates = {"GRU": 3, "LSTM": 4}[op]
        shapes = {"W": (ends, gates * H, D), "R": (ends, gates * H, H), "B": (ends, 2 * gates * H)}
        if op == "LSTM":
            attributes = attributes | {"activations": ["Sigmoid", "Tanh", "Relu"]}
        node = onnx.helper.make_node(op, ["X", *shapes, "lengths"], ["Y"], hidden_size=H, **attributes)
        weights = [onnx.numpy_helper.from_array(draw(size=shape), name) for name, shape in shapes.items()]
        kinds = {"X": onnx.TensorProto.DOUBLE, "lengths": onnx.TensorProto.INT32}
        inputs = [onnx.helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items()]
        output = onnx.helper.make_tensor_value_info("Y", onnx.TensorProto.DOUBLE, None)
        graph = onnx.helper.make_graph([node], "operator", inputs, [output], initializer=weights)
        yield onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 22)], ir_version=10)


MODULES = {
    "torch": torch_modules,
    "flax": linen_modules,
    "flax nnx": nnx_modules,
    "equinox": equinox_modules,
    "haiku": haiku_modules,
    "keras": keras_modules,
    "onnx": onnx_modules,
}
TUPLES = ("flax", "haiku")  # modules with their parameters beside them


@pytest.mark.parametrize("name", quick(MODULES, "equinox", "onnx"))
def test_the_module_itself_is_run(name, monkeypatch):
    """Parameters that are damaged behind the conversion would come back as they are: only the module tells."""
    passport = getattr(sj.interop, name.split()[0])
    together = passport.put_together

    def damaged(rows, **options):
        layer, params = together(rows, **options)
        return layer, jax.tree.map(lambda w: w + np.asarray(0.1, w.dtype), params)

    for module in MODULES[name]():
        given = module if name in TUPLES else (module,)
        passport.from_module(*given, verify=True)
        with monkeypatch.context() as patch:
            patch.setattr(passport, "put_together", damaged)
            with pytest.raises(ValueError, match=rf"^{name.split()[0]}: expected outputs equal within .* apart"):
                passport.from_module(*given, verify=True)


def test_products_are_exact_whatever_a_device_multiplies_by_default():
    """Of ours and of theirs, in the programs that run."""
    seen = []
    layer = sj.recurrent(sj.gru(D, H))
    params = layer.init(KEY)

    def exact(state, xs):
        return "HIGHEST" in str(jax.make_jaxpr(layer.apply)(params, state, xs))

    def theirs(xs, states):
        seen.append(exact(states[0][0], xs))
        return layer.apply(params, states[0][0], xs)[1]

    assert not exact(jnp.ones((B, H)), jnp.ones((5, B, D)))
    verified.checked("gru", layer, params, theirs)
    assert seen == [True]


def test_modules_stay_as_they_are():
    """A torch module goes on training."""
    torch = pytest.importorskip("torch")
    module = torch.nn.GRU(D, H, 2, dropout=0.5)
    sj.interop.torch.from_module(module, verify=True)
    assert module.training
    sj.interop.torch.from_module(module.eval(), verify=True)
    assert not module.training


@pytest.mark.parametrize("library", ["linen", "nnx"])
def test_directions_merged_otherwise_are_refused(library):
    pytest.importorskip("flax")
    kind = importlib.import_module(f"flax.{library}")
    if library == "nnx":
        rnn = lambda: kind.RNN(kind.GRUCell(D, H, rngs=kind.Rngs(0)))
    else:
        rnn = lambda: kind.RNN(kind.GRUCell(H))
    module = kind.Bidirectional(rnn(), rnn(), merge_fn=jnp.add)
    with pytest.raises(ValueError, match=r"^flax: expected merge_fn to concatenate both directions, got .* Merge the"):
        sj.interop.flax.from_module(module)
