"""Parameters and models in files: to the bit and back, by names and calls; what is not theirs is refused."""

import functools
import json
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import quick
from zoo import CELLS, LAYERS

import seqjax as sj
from seqjax import models
from seqjax.hmm.cells import belief_propagation
from seqjax.naming import shapes_of

safetensors = pytest.importorskip("safetensors")
hub = pytest.importorskip("huggingface_hub")

ZOO = {name: case.make for name, case in (CELLS | LAYERS).items()} | {
    "language_model": lambda: models.language_model(5, 4, layers=2, cell=sj.gru, engine="scan"),
    "tied": lambda: models.language_model(5, 4, tied=True, dropout=0.1),
    "bfloat16": lambda: sj.serial(models.language_model(5, 4), sj.layer_norm(5, dtype=jnp.bfloat16)),
    "zaremba": lambda: models.zaremba("small", 5, updates_per_epoch=3).model,
    "writer": lambda: models.captioner(11, 35, 14, 16, context="every_tick").decoder,
    "captioner": lambda: models.captioner(11, 35, 14, 16, channels=(3, 4)),
    "translator": lambda: models.encoder_decoder(5, 6, 8, context="attention", both_ways=True),
    "crf": lambda: models.crf_tagger(models.tagger(50, 7, characters=30), 7),
    "adaptive": lambda: models.output_layer(sj.recurrent(sj.gru(3, 4)), models.adaptive_softmax(4, 50, [10, 20])),
    "temporal": lambda: models.temporal_convolution(1, [25, 26]),
    "reservoir": lambda: sj.echo_state(3, 4, input_scale=(0.1, 0.2, float("inf")), dtype=np.dtype("float32")),
    "initialisers": lambda: sj.lstm(
        np.int64(3), 4, w_h_init=sj.initializers.orthogonal(0.5), b_init=sj.initializers.only("f"), dtype=jnp.float32
    ),
    "learned_ensemble": lambda: sj.ensemble(sj.learned_initial_state(sj.gru(3, 5)), sj.dense(3, 5), mean="geometric"),
}
UNSAID = ("memoryless", "symbols", "pointwise")  # functions of the zoo's own
CALLED = "serial(embedding(5, 4), recurrent(gru(4, 4)))"


def random_like(shapes, seed=0):
    """Arrays of all bits, so that no rounding goes unseen."""
    rng = np.random.default_rng(seed)

    def draw(like):
        dtype = np.dtype(like.dtype)
        if dtype.kind == "b":
            return jnp.asarray(rng.integers(0, 2, like.shape).astype(bool))
        return jnp.asarray(np.asarray(rng.normal(size=like.shape) * 100).astype(dtype))

    return jax.tree.map(draw, shapes)


def assert_same(tree, other):
    assert jax.tree.structure(tree) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(other)):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.fixture
def small():
    model = sj.serial(sj.embedding(5, 4), sj.recurrent(sj.gru(4, 4)))
    return model, random_like(shapes_of(model))


# Made of arrays or of others' modules, which their makers hold: a record has no word for them either.
HELD = (
    "belief_late",
    *(f"{library}_{cell}" for library in ("nnx", "linen", "equinox", "haiku") for cell in ("lstm", "gru")),
)
SAID = [name for name in ZOO if name not in (*UNSAID, *HELD)]
ALWAYS = (
    "gated_lstm_reset", "zoneout", "hand_set", "viterbi", "serial", "tied_embedding", "bfloat16", "captioner",
    "adaptive", "writer", "reservoir", "initialisers", "learned_ensemble",
)  # fmt: skip


@pytest.mark.parametrize("name", quick(SAID, *ALWAYS))
def test_a_model_comes_back(name, tmp_path):
    """An equal module, and its parameters to the bit, through a folder."""
    module = ZOO[name]()
    params = random_like(shapes_of(module))
    sj.interop.save_pretrained(tmp_path, module, params)
    again, read = sj.interop.from_pretrained(tmp_path)
    assert again == module
    assert repr(again) == repr(module)
    assert_same(read, params)


@pytest.mark.parametrize("name", UNSAID)
def test_a_function_of_ones_own_is_named(name, tmp_path):
    """It cannot be said; the module is then given where it is loaded."""
    module = ZOO[name]()
    params = random_like(shapes_of(module))
    with pytest.raises(ValueError, match=r"^to_config: .*, got the function zoo\.<lambda>.*<lambda> as \w+.*\. Use a "):
        sj.interop.save_pretrained(tmp_path / "model", module, params)
    assert not (tmp_path / "model").exists()
    sj.interop.save_pretrained(tmp_path / "model", module, params, config=False)
    with pytest.raises(ValueError, match=r"to say how the module is made, got only how it prints: \w+\(.*pass module="):
        sj.interop.from_pretrained(tmp_path / "model")
    again, read = sj.interop.from_pretrained(tmp_path / "model", module=module)
    assert again is module
    assert_same(read, params)


def test_what_cannot_be_said_is_named():
    @sj.maker
    def own(size):
        return sj.lstm(size, size)

    cases = [
        (sj.stack(own(3), sj.lstm(3, 3)), r"expected makers of seqjax, got test_interop_files\..*own as stack\.cells"),
        (sj.dense(3, 4, w_init=jax.nn.initializers.normal(0.1)), r"got the function jax.*init as dense\.w_init\."),
        (sj.lstm(3, 4)._replace(step=len), r"got Cell\(init=lstm\(3, 4\)\.init, .* as module\. Use"),
        (belief_propagation(sj.hmm.random(jax.random.key(0), 4, 5)), r"got an array of shape \(4,\) as \w+\.sizes\.lo"),
    ]  # fmt: skip
    for module, message in cases:
        with pytest.raises(ValueError, match=message):
            sj.interop.to_config(module)
    with pytest.raises(
        TypeError, match=r"^to_config: expected a cell, a layer or a model, got LSTMState\. Pass the mod"
    ):
        sj.interop.to_config(sj.LSTMState(1, 2))


def test_the_record_is_plain():
    """What a person reads, and could have written."""
    module = sj.recurrent(sj.zoneout(sj.lstm(3, 4, dtype="float32"), sj.LSTMState(0.1, 0.2)), memory="sqrt")
    assert sj.interop.to_config(module) == {
        "version": 1,
        "module": {
            "maker": "layers.recurrent",
            "cell": {
                "maker": "transforms.zoneout",
                "cell": {"maker": "cells.lstm", "input_size": 3, "hidden_size": 4, "dtype": "float32"},
                "rate": {"record": "cells.LSTMState", "h": 0.1, "c": 0.2},
            },
            "memory": "sqrt",
        },
    }


LSTM = {"maker": "cells.lstm", "input_size": 3, "hidden_size": 4}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([], r"^from_config: expected a dictionary with a version and a module, as to_config makes it, got \[\]\. Wri"),
        ({"version": 2, "module": LSTM}, r"^from_config: expected a record of version 1, got 2\. Use the version"),
        (LSTM | {"maker": "os.system"}, r"^from_config: expected a name of seqjax or jax\.nn at module, .* got 'os\.s"),
        (LSTM | {"maker": "tasks.read_text"}, r"got 'tasks\.read_text'\. Correct it, or use the version"),
        (LSTM | {"maker": "models.perplexity"}, r"expected the name of a maker at module, .*, got models\.perplexity"),
        (LSTM | {"maker": "jax.nn.relu"}, r"expected the name of a maker at module, such as cells\.lstm, got jax\.nn"),
        (LSTM | {"size": 3}, r"^from_config: expected options that cells\.lstm takes at module\. lstm: expected one o"),
        (LSTM | {"input_size": -1}, r"takes at module\. lstm: expected input_size to be a whole number of at least 1"),
        ({"maker": "layers.serial", "layers": 5}, r"expected options that layers\.serial takes at module\. 'int'"),
        ({"maker": "layers.recurrent", "cell": {"name": 5}}, r"to_config writes it at module\.cell, got \{'name': 5\}"),
        ({"maker": "layers.recurrent", "cell": LSTM, "x": {}}, r"to_config writes it at module\.x, got \{\}\. Correct"),
        ({"record": "cells.LSTMState", "h": 1}, r"as to_config writes it at module, got \{'record'"),
        ({"dtype": "float31"}, r"^from_config: expected a dtype at module, got 'float31'\. Correct it"),
        ({"name": "jax.nn.relu"}, r"^from_config: expected a record of a cell, a layer or a model, got \{'name': 'jax"),
        (3, r"^from_config: expected a record of a cell, a layer or a model, got 3\. Write it with to_config"),
    ],
)  # fmt: skip
def test_records_of_another_form(config, message):
    if not isinstance(config, list) and "version" not in (config if isinstance(config, dict) else {}):
        config = {"version": 1, "module": config}
    with pytest.raises(ValueError, match=message):
        sj.interop.from_config(config)


TYPES = [
    "bool",
    "int8",
    "uint16",
    "int32",
    "uint64",
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "float8_e4m3fn",
    "complex64",
]


def test_types_are_kept(tmp_path):
    """Every type of the format, scalars, empty arrays, transposed ones and keys among them."""
    key = jax.random.split(jax.random.key(3, impl="rbg"), 2)
    params = {name: random_like(jax.ShapeDtypeStruct((2, 3), jnp.dtype(name))) for name in TYPES}
    params |= {"complex": jnp.array([[1 + 2j, np.pi - 1j]]), "one": jnp.array(1j), "none": jnp.zeros((0, 2), complex)}
    params |= {"scalar": jnp.array(0.1), "empty": jnp.zeros((0, 3)), "turned": np.arange(6.0).reshape(2, 3).T, "k": key}
    layer = sj.pointwise(lambda params, x: x, lambda key: params)
    sj.interop.save_params(tmp_path / "all", layer, params)
    read = sj.interop.load_params(tmp_path / "all", layer)
    assert read["k"].dtype == key.dtype
    assert bool((jax.random.uniform(read["k"][1]) == jax.random.uniform(key[1])).all())
    del params["k"], read["k"]
    assert_same(read, params)
    assert type(read["scalar"]) is type(jnp.ones(()))


@pytest.mark.parametrize("array", [np.array(["a"]), jnp.zeros(2, jnp.int4)], ids=["text", "4"])
def test_types_that_the_format_lacks(array, tmp_path):
    layer = sj.pointwise(lambda params, x: x, lambda key: {"w": jnp.zeros(2)})
    with pytest.raises(
        TypeError, match=r"^save_params: expected arrays of types that safetensors has, got w of .*\. Cast"
    ):
        sj.interop.save_params(tmp_path / "x", layer, {"w": array})
    assert list(tmp_path.iterdir()) == []


def test_64_bits_need_64_bits(tmp_path, small):
    sj.interop.save_params(tmp_path / "wide", *small)
    with (
        jax.enable_x64(False),
        pytest.raises(ValueError, match=r"^load_params: expected embedding/w in at most 32 bits"),
    ):
        sj.interop.load_params(tmp_path / "wide", small[0])


def test_the_format_is_the_formats(tmp_path, small):
    """Read by hand: 8 bytes of length, a header of JSON, numbers in little-endian order; and by the library."""
    model, params = small
    sj.interop.save_params(tmp_path / "m", model, params)
    raw = (tmp_path / "m").read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    assert header.pop("__metadata__") == {"seqjax": sj.__version__, "module": CALLED, "keys": "{}", "pairs": "[]"}
    assert set(header) == {"embedding/w", "gru/w_x", "gru/w_h", "gru/b", "gru/b_n"}
    start, stop = header["gru/w_h"]["data_offsets"]
    values = np.frombuffer(raw[8 + length :][start:stop], "<f8").reshape(header["gru/w_h"]["shape"])
    np.testing.assert_array_equal(values, params[1].w_h)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def damaged(raw):
    """What may stand under the file's name instead."""
    from safetensors.numpy import save

    return {
        "cut": raw[:-3],
        "cut in the header": raw[:30],
        "empty": b"",
        "text": b"epoch,loss\n" * 50,
        "zeros": bytes(500),
        "another type": save({"x": np.zeros(2)}).replace(b"F64", b"F65"),
    }


@pytest.mark.parametrize("kind", damaged(b""))
def test_damaged_files(kind, tmp_path, small):
    sj.interop.save_params(tmp_path / "m", *small)
    (tmp_path / "m").write_bytes(damaged((tmp_path / "m").read_bytes())[kind])
    message = (
        r"^load_params: expected .*m to be a whole safetensors file, got one that is cut off, or something else \(.*W"
    )
    with pytest.raises(ValueError, match=message):
        sj.interop.load_params(tmp_path / "m", small[0])


def test_files_of_another_module(tmp_path, small):
    from safetensors.numpy import save_file

    model, params = small
    path = tmp_path / "m"
    sj.interop.save_params(path, model, params)
    other = sj.serial(sj.embedding(5, 4), sj.recurrent(sj.gru(4, 4, reset="before", inner_bias=False)))
    with pytest.raises(
        ValueError, match=r"^load_params: expected parameters of serial\(.*before'.*, got a file of serial"
    ):
        sj.interop.load_params(path, other)
    with pytest.raises(ValueError, match=r"^load_params: expected the 4 arrays of serial, got unknown gru/b_n\. Make"):
        sj.interop.load_params(path, other, same_call=False)
    with pytest.raises(
        ValueError, match=r"expected gru/w_x of shape \(4, 15\), got \(4, 12\)\. Make the module with the s"
    ):
        sj.interop.load_params(path, sj.serial(sj.embedding(5, 4), sj.recurrent(sj.gru(4, 5))), same_call=False)
    assert_same(sj.interop.load_params(path, sj.serial(model), same_call=False), (params,))
    run = sj.serial(sj.embedding(5, 4), sj.recurrent(sj.gru(4, 4), engine="scan", memory=128))
    assert_same(sj.interop.load_params(path, run), params)  # how it is run is no part of what it is
    save_file({"w": np.zeros((5, 4), int)}, path)
    with pytest.raises(
        ValueError, match=r"^load_params: expected .*m to name the module of its parameters, .*same_call=F"
    ):
        sj.interop.load_params(path, sj.embedding(5, 4))
    with pytest.raises(TypeError, match=r"^load_params: expected w of floats such as float64, got int64\. Cast it, or"):
        sj.interop.load_params(path, sj.embedding(5, 4), same_call=False)
    with pytest.raises(
        FileNotFoundError, match=r"^load_params: expected a file that save_params wrote, got .*none\. Wr"
    ):
        sj.interop.load_params(tmp_path / "none", model)
    with pytest.raises(
        FileNotFoundError, match=r"^save_params: expected a folder to write m to, got nothing at .*none"
    ):
        sj.interop.save_params(tmp_path / "none" / "m", model, params)
    with pytest.raises(
        TypeError, match=r"^save_params: expected parameters of serial, 2 parts at params, got GRUParams"
    ):
        sj.interop.save_params(path, model, params[1])


def test_a_model_of_the_hub(tmp_path, small, monkeypatch):
    """What is no folder is asked of the hub: these files, this revision."""
    model, params = small
    sj.interop.save_pretrained(tmp_path / "cache", model, params)
    asked = []

    def download(repo_id, *, revision=None, allow_patterns=None):
        asked.append((repo_id, revision, allow_patterns))
        if repo_id == "owner/none":
            raise OSError("404")
        return str(tmp_path / "cache")

    monkeypatch.setattr(hub, "snapshot_download", download)
    again, read = sj.interop.from_pretrained("owner/name", revision="v1")
    assert asked == [("owner/name", "v1", ["model.safetensors", "config.json"])]
    assert again == model
    assert_same(read, params)
    with pytest.raises(
        FileNotFoundError, match=r"or an id that the hub knows, got owner/none: .*the hub says OSError: 404"
    ):
        sj.interop.from_pretrained("owner/none")
    for place in ("/no/such/folder", "./folder", "a/b/c", "../name", ""):
        with pytest.raises(
            FileNotFoundError, match=r"^from_pretrained: expected a folder, or an id of the hub such as"
        ):
            sj.interop.from_pretrained(place)
    assert len(asked) == 2


def test_folders_without_a_model(tmp_path, small):
    with pytest.raises(FileNotFoundError, match=r"^from_pretrained: expected config\.json and model\.safetensors in"):
        sj.interop.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"^from_pretrained: expected JSON in .*config\.json, got something else"):
        sj.interop.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match=r"^from_config: expected a dictionary with a version and a module"):
        sj.interop.from_pretrained(tmp_path)
    sj.interop.save_pretrained(tmp_path, *small)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"^load_params: expected a file that save_params wrote, got no.*model"):
        sj.interop.from_pretrained(tmp_path)


def test_the_card(tmp_path, small):
    """It says how to read the folder; a person's own is left alone."""
    folder = tmp_path / "shakespeare"
    sj.interop.save_pretrained(folder, *small)
    card = (folder / "README.md").read_text()
    assert f"`{CALLED}`" in card
    assert "132 parameters in float64" in card
    assert 'sj.interop.from_pretrained("shakespeare")' in card
    (folder / "README.md").write_text("mine")
    sj.interop.save_pretrained(folder, *small)
    assert (folder / "README.md").read_text() == "mine"


def test_a_maker_with_some_of_its_options_is_an_option_like_others():
    """As `functools.partial` has it: equal where it is made anew, hashed, printed, written down and read back."""
    make = lambda reset: models.deep(3, 4, cell=functools.partial(sj.gru, reset=reset))
    module = make("before")
    assert module == make("before") != make("after")
    assert hash(module) == hash(make("before"))
    config = sj.interop.to_config(module)
    assert config["module"]["cell"] == {"partial": "cells.gru", "reset": "before"}
    assert sj.interop.from_config(json.loads(json.dumps(config))) == module
    config["module"]["cell"]["partial"] = "jax.nn.relu"
    with pytest.raises(ValueError, match=r"from_config: expected a value as to_config writes it at module\.cell, got"):
        sj.interop.from_config(config)
    own = models.deep(3, 4, cell=functools.partial(lambda d, h, reset: sj.gru(d, h, reset=reset), reset="before"))
    with pytest.raises(ValueError, match="to_config: expected numbers, texts, modules and functions of seqjax"):
        sj.interop.to_config(own)
