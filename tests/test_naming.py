"""Names of parameters: unique, of the module alone, and back again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from zoo import CELLS, LAYERS

import seqjax as sj
from seqjax import models
from seqjax.interop import named, unnamed
from seqjax.naming import named_state, shapes_of

ZOO = {name: case.make for name, case in (CELLS | LAYERS).items()}
LSTM = ["w_x", "w_h", "b"]


def under(name, leaves):
    return [f"{name}/{leaf}" for leaf in leaves]


NAMES = [
    (sj.lstm(3, 4), LSTM),
    (sj.recurrent(sj.zoneout(sj.lstm(3, 4), 0.1)), LSTM),
    (sj.residual(sj.recurrent(sj.lstm(4, 4))), LSTM),
    (
        sj.serial(sj.embedding(5, 4), sj.recurrent(sj.lstm(4, 4)), sj.recurrent(sj.lstm(4, 4)), sj.dense(4, 5)),
        ["embedding/w", *under("lstm", LSTM), *under("lstm_1", LSTM), "dense/w", "dense/b"],
    ),
    (
        sj.serial(sj.embedding(5, 4), sj.recurrent(sj.stack(sj.lstm(4, 4), sj.lstm(4, 4))), sj.dense(4, 5)),
        ["embedding/w", *under("lstm", LSTM), *under("lstm_1", LSTM), "dense/w", "dense/b"],
    ),
    (
        sj.serial(sj.bidirectional(sj.lstm(3, 4), sj.elman(3, 4)), sj.dropout(0.1), sj.weight_norm(sj.dense(8, 2))),
        [
            *under("bidirectional/forward", LSTM),
            *under("bidirectional/backward", LSTM),
            *under("weight_norm", ["layer/w", "layer/b", "gain"]),
        ],
    ),
    (sj.tied_embedding(5, 4, sj.recurrent(sj.lstm(4, 4))), ["w", *under("body", LSTM), "b"]),
    (sj.serial(sj.feed_forward(3, 4), sj.feed_forward(3, 4)), [
        *under("feed_forward", ["dense/w", "dense/b", "dense_1/w"]),
        *under("feed_forward_1", ["dense/w", "dense/b", "dense_1/w"]),
    ]),
    (sj.learned_initial_state(sj.lstm(3, 4)), [*under("cell", LSTM), "state/h", "state/c"]),
    (sj.ensemble(sj.dense(3, 4), sj.serial(sj.dense(3, 4))), [*under("dense", "wb"), *under("serial/dense", "wb")]),
    (
        models.language_model(5, 4, layers=2),
        ["symbols_or_nothing/w", *under("lstm", LSTM), *under("lstm_1", LSTM), "dense/w", "dense/b"],
    ),
    (
        models.tagger(50, 7, both_ways=False),
        ["embedding/w", *under("deep/lstm", LSTM), "dense/w", "dense/b"],
    ),
    (
        models.encoder_decoder(5, 6, 8, layers=2),
        [
            "embedding/w",
            *under("encoder/0", LSTM),
            *under("encoder/1", LSTM),
            "decoder/embedding/w",
            *under("decoder/cell/0", LSTM),
            *under("decoder/cell/1", LSTM),
            "decoder/readout/w",
            "decoder/readout/b",
        ],
    ),
    (
        models.output_layer(sj.recurrent(sj.lstm(4, 4)), models.full_softmax(4, 50)),
        [*under("body", LSTM), "softmax/w", "softmax/b"],
    ),
    (models.zaremba("small", 50, updates_per_epoch=3).model, [
        "symbols_or_nothing/w", *under("lstm", LSTM), *under("lstm_1", LSTM), "dense/w", "dense/b",
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("module", "expected"), NAMES, ids=lambda each: each.name if hasattr(each, "name") else "")
def test_names(module, expected):
    assert list(named(module, shapes_of(module))) == expected


@pytest.mark.parametrize("name", ZOO)
def test_names_are_unique_and_lead_back(name):
    """Every leaf under a name of its own, in the tree's order; from the names, the same tree of the same arrays."""
    module = ZOO[name]()
    params = shapes_of(module)
    arrays = named(module, params)
    assert list(map(id, arrays.values())) == list(map(id, jax.tree.leaves(params)))
    again = unnamed(module, dict(sorted(arrays.items())))
    assert jax.tree.structure(again) == jax.tree.structure(params)
    assert list(map(id, jax.tree.leaves(again))) == list(map(id, jax.tree.leaves(params)))


def test_names_do_not_depend_on_sizes():
    make = lambda n: sj.serial(sj.embedding(n, n), sj.recurrent(sj.stack(sj.lstm(n, n), sj.gru(n, n))), sj.dense(n, n))
    assert list(named(make(2), shapes_of(make(2)))) == list(named(make(3), shapes_of(make(3))))


def test_what_is_made_by_hand_is_named_by_its_tree():
    cell = sj.Cell(lambda key: {"a/b": jnp.ones(2), "a": [jnp.ones(1), None, jnp.ones(3)]}, None, None)
    assert list(named(cell, cell.init(None))) == ["a/0", "a/2", "a%2Fb"]
    both = sj.stack(cell, cell, sj.memoryless(lambda w, x: w * x, lambda key: jnp.ones(3)))
    assert list(named(both, shapes_of(both)))[3:] == ["cell_1/a/0", "cell_1/a/2", "cell_1/a%2Fb", "memoryless"]
    assert list(named(sj.pointwise(lambda w, x: w * x, lambda key: jnp.ones(3)), jnp.ones(3))) == ["array"]


def test_a_number_gives_way_to_a_name():
    @sj.maker
    def lstm_1(size):
        return sj.elman(size, size)

    model = sj.stack(sj.lstm(3, 3), sj.lstm(3, 3), lstm_1(3), sj.lstm(3, 3))
    assert [name.split("/")[0] for name in named(model, shapes_of(model))][::3] == [
        "lstm",
        "lstm_2",
        "lstm_1",
        "lstm_3",
    ]


def test_states_are_named_alike():
    """A wrapper that adds noise, and one that carries the body's state, give way to what they wrap."""
    lstm = sj.zoneout(sj.lstm(3, 4), 0.1)
    cases = [
        (sj.serial(sj.recurrent(lstm), sj.recurrent(sj.gru(4, 4))), ["lstm/h", "lstm/c", "gru"]),
        (sj.recurrent(sj.variational_dropout(sj.stack(sj.elman(3, 4), lstm), 0.1)), ["elman", "lstm/h", "lstm/c"]),
        (sj.tied_embedding(5, 4, models.deep(4, 4, layers=2)), ["lstm/h", "lstm/c", "lstm_1/h", "lstm_1/c"]),
        (sj.bidirectional(sj.lstm(3, 4), sj.gru(3, 4)), ["forward/h", "forward/c"]),
    ]
    for module, expected in cases:
        state = jax.eval_shape(lambda key, module=module: module.initial_state(module.init(key)), jax.random.key(0))
        assert list(named_state(module, state)) == expected, module


def test_gradients_have_the_names_of_their_parameters():
    cell = sj.elman(2, 3)
    params = cell.init(jax.random.key(0))
    loss = lambda params: cell.step(params, jnp.ones(3), jnp.ones(2))[1].sum()
    gradient = named(cell, jax.grad(loss)(params))
    bias = gradient["b"]
    np.testing.assert_allclose(gradient["w_h"], np.broadcast_to(bias, (3, 3)))  # h is all ones


CELL = sj.lstm(3, 4)
ARRAYS = {name: np.zeros(leaf.shape, leaf.dtype) for name, leaf in named(CELL, shapes_of(CELL)).items()}
WITHOUT = {"w_x": ARRAYS["w_x"]}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            WITHOUT,
            r"^unnamed: expected the 3 arrays of lstm, got none called w_h, b\. Make the module that they belong",
        ),
        (ARRAYS | {"w_y": 1}, r"^unnamed: expected the 3 arrays of lstm, got unknown w_y\. Make the module"),
        (
            {f"x{i}": 1 for i in range(1000)},
            r"got none called w_x, w_h, b and unknown x0, x1, x2, x3, x4 and 995 more\. Make the module that they",
        ),
        (
            ARRAYS | {"b": np.zeros(12)},
            r"^unnamed: expected b of shape \(16,\), got \(12,\)\. Make the module with the sizes",
        ),
    ],
)
def test_wrong_arrays(arrays, message):
    with pytest.raises(ValueError, match=message):
        unnamed(CELL, arrays)


def test_wrong_kinds():
    with pytest.raises(
        TypeError, match=r"^unnamed: expected b of floats such as float64, got int32\. Cast it, or make"
    ):
        unnamed(CELL, ARRAYS | {"b": np.zeros(16, np.int32)})
    half = unnamed(CELL, {name: array.astype(jnp.bfloat16) for name, array in ARRAYS.items()})
    assert half.w_h.dtype == jnp.bfloat16  # precision is the arrays' own


def test_something_else_than_a_module():
    with pytest.raises(
        TypeError, match=r"^named: expected a cell, a layer or a model with init, got dict\. The module"
    ):
        named({}, CELL)
    with pytest.raises(TypeError, match=r"^named: expected parameters of lstm, LSTMParams at params, got GRUParams"):
        named(CELL, sj.gru(3, 4).init(jax.random.key(0)))
