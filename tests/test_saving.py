"""Trees in files by name: training states, models' states with their keys; what does not fit is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from marks import quick
from zoo import CELLS, LAYERS

import seqjax as sj

safetensors = pytest.importorskip("safetensors")

ZOO = CELLS | LAYERS
ALWAYS = ("zoneout", "bidirectional", "serial", "windowed_attention", "lru")


def bits(tree):
    """Structure, and each leaf's type, shape and bytes; keys as their data."""

    def of(leaf):
        kind = str(leaf.dtype)
        data = jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        return kind, leaf.shape, np.asarray(data).tobytes()

    return jax.tree.structure(tree), list(map(of, jax.tree.leaves(tree)))


@pytest.mark.parametrize("name", quick(ZOO, *ALWAYS))
def test_parameters_and_states_come_back(name, tmp_path):
    """To the bit, of every cell and layer; into a structure without numbers."""
    module = ZOO[name].make()
    keys = jax.random.split(jax.random.key(5), 2)
    make = lambda k: (params := module.init(k[0]), module.initial_state(params, (3,), key=k[1]))
    tree = make(keys) if "echo_state" in name else jax.jit(make)(keys)  # which finds eigenvalues on the host
    sj.save(tmp_path / "tree", tree)
    assert bits(sj.load(tmp_path / "tree", jax.eval_shape(lambda: tree))) == bits(tree)


def test_training_goes_on_as_if_it_had_never_stopped(tmp_path):
    """Moments, counts, keys and noise: three updates, a file, three more, are six to the bit."""
    model = sj.serial(sj.embedding(5, 4), sj.dropout(0.3), sj.recurrent(sj.zoneout(sj.gru(4, 4), 0.3)), sj.dense(4, 5))
    optimizer = optax.chain(optax.clip(1.0), optax.adam(1e-2))
    step = sj.train_step(sj.objective(model, sj.cross_entropy), optimizer)
    symbols = np.random.default_rng(0).integers(0, 5, (7, 3))
    batch = sj.Batch(symbols[:-1], symbols[1:])
    start = lambda: sj.train_state(model.init(jax.random.key(0)), optimizer, key=jax.random.key(1))
    memory = lambda train: model.initial_state(train.params, (3,), key=jax.random.key(2))

    def run(train, state, updates):
        for _ in range(updates):
            train, state, _ = step(train, state, batch)
        return train, state

    with jax.numpy_dtype_promotion("standard"):
        whole = run(start(), memory(start()), 6)
        sj.save(tmp_path / "half", run(start(), memory(start()), 3))
        again = run(*sj.load(tmp_path / "half", (start(), memory(start()))), 3)
    assert bits(again) == bits(whole)


def test_names_are_the_trees(tmp_path):
    state = {"a/b": jnp.ones(2), "state": (sj.Noise(jax.random.key(3)), sj.cells.LSTMState(jnp.ones(1), 2.5))}
    sj.save(tmp_path / "x", state)
    with safetensors.safe_open(tmp_path / "x", framework="np") as file:
        assert sorted(file.keys()) == ["a%2Fb", "state/0/value", "state/1/c", "state/1/h"]
        assert file.get_tensor("state/1/c").dtype == np.float64
    again = sj.load(tmp_path / "x", state)
    assert again["state"][1].c == 2.5
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_arrays_go_where_like_has_them(tmp_path):
    """On two devices where it was put on two, nowhere in particular where it was not."""
    mesh = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("d"))
    tree = (jax.device_put(jnp.arange(4.0), spread), jnp.arange(3))
    sj.save(tmp_path / "x", tree)
    for like in (tree, (jax.ShapeDtypeStruct((4,), float, sharding=spread), jax.ShapeDtypeStruct((3,), int))):
        wide, free = sj.load(tmp_path / "x", like)
        assert wide.sharding == spread
        assert not free.committed
        np.testing.assert_array_equal(wide, np.arange(4.0))


class Alike(str):
    """A key that prints like any other of its kind."""

    __str__ = __repr__ = lambda self: "alike"


TREE = {"w": np.ones((2, 3)), "n": np.arange(3)}


@pytest.mark.parametrize(
    ("like", "error", "message"),
    [
        (TREE | {"v": 1}, ValueError, r"^load: expected .*x to hold the 3 arrays of like, got none called v\. Pass a"),
        (
            {"w": TREE["w"]},
            ValueError,
            r"^load: expected .*x to hold the 1 arrays of like, got unknown n\. Pass a tree",
        ),
        (TREE | {"n": np.arange(4)}, ValueError, r"^load: expected n of shape \(4,\), got \(3,\)\. Pass a tree like"),
        (TREE | {"w": np.ones((2, 3), np.float32)}, TypeError, r"^load: expected w of float32, got float64\. Pass a"),
        (
            TREE | {"n": jax.random.split(jax.random.key(0), 3)},
            TypeError,
            r"^load: expected n of key<fry>, got int64\.",
        ),
    ],
)
def test_another_tree(like, error, message, tmp_path):
    sj.save(tmp_path / "x", TREE)
    with pytest.raises(error, match=message):
        sj.load(tmp_path / "x", like)


def test_what_is_no_tree_of_arrays(tmp_path):
    for leaf, kind in (("text", "str"), (len, "builtin_function_or_method"), (np.array("text"), None)):
        message = f"^save: expected a tree of arrays, got {kind} at 1/x" if kind else "^save: expected arrays of types"
        with pytest.raises(TypeError, match=message):
            sj.save(tmp_path / "x", (1.0, {"x": leaf}))
    with pytest.raises(ValueError, match=r"^named_tree: expected a name of its own for each of 2 leaves, got 1 names"):
        sj.save(tmp_path / "x", {Alike("a"): jnp.ones(1), Alike("b"): jnp.ones(2)})
    with pytest.raises(
        FileNotFoundError, match=r"^save: expected a folder to write x to, got nothing at .*none\. Make"
    ):
        sj.save(tmp_path / "none" / "x", TREE)
    with pytest.raises(FileNotFoundError, match=r"^load: expected a file that save wrote, got nothing at .*x\. Write"):
        sj.load(tmp_path / "x", TREE)
    (tmp_path / "x").write_bytes(b"\0" * 100)
    with pytest.raises(ValueError, match=r"^load: expected .*x to be a whole safetensors file, got one that is cut"):
        sj.load(tmp_path / "x", TREE)


def test_without_the_library_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "safetensors.numpy", None)
    with pytest.raises(ModuleNotFoundError, match=r"expected safetensors\.numpy .*pip install 'seqjax\[files\]'"):
        sj.save(tmp_path / "x", TREE)
