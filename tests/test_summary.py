"""The summary against formulas and counts by hand."""

import jax
import jax.numpy as jnp
import pytest

import seqjax as sj
from seqjax.summaries import Leaf, flop

D, H = 64, 128


@pytest.mark.parametrize(
    ("cell", "parameters", "products"),
    [
        (sj.elman(D, H), 24_704, 1),
        (sj.gru(D, H, reset="before"), 74_112, 3),
        (sj.gru(D, H), 74_112 + H, 3),  # the reset after the product has an inner bias of its own
        (sj.lstm(D, H), 98_816, 4),
    ],
    ids=["elman", "gru_before", "gru_after", "lstm"],
)
def test_cells(cell, parameters, products):
    """h(d+h+1) parameters a gate and 2 h (d+h) operations in its products."""
    found = sj.summary(cell, jnp.zeros(D))
    assert found.parameter_count == parameters
    assert found.state_size == (2 * H if products == 4 else H)
    assert found.flop.products == products * 2 * H * (D + H)


def test_elementwise_by_hand():
    """LSTM: x W + h U, + b: 2·4h; three σ, two tanh, three products, one sum: 9h. Elman: 2h, h."""
    assert sj.summary(sj.lstm(D, H), jnp.zeros(D)).flop.other == 17 * H
    assert sj.summary(sj.elman(D, H), jnp.zeros(D)).flop.other == 3 * H


def test_a_layer_is_counted_by_the_tick():
    model = sj.serial(sj.embedding(65, D), sj.dropout(0.5), sj.recurrent(sj.lstm(D, H)), sj.dense(H, 65))
    cell = sj.summary(sj.lstm(D, H), jnp.zeros(D))
    for length in (1, 7, 50):
        found = sj.summary(model, jax.ShapeDtypeStruct((length,), jnp.int32))
        assert found.parameter_count == 65 * D + 98_816 + 65 * (H + 1)
        assert found.state_size == 2 * H
        assert found.flop.products == cell.flop.products + 2 * 65 * H
        assert found.flop.other == cell.flop.other + 65


@pytest.mark.parametrize("engine", ["auto", "linear"])
def test_recurrences_are_counted_as_they_are_written(engine):
    """k vᵀ, a S, their sum and qᵀ S of two heads of 32 × 32, not the chunks that run them; and numbers."""
    for cell in (sj.cells.linear_attention(D, 64, heads=2), sj.cells.mingru(D, H)):
        tick, layer = sj.summary(cell, jnp.zeros(D)), sj.recurrent(cell, engine=engine)
        assert sj.summary(layer, jnp.zeros((70, D))).flop == tick.flop
    tick = sj.summary(sj.cells.linear_attention(D, 64, heads=2), jnp.zeros(D)).flop
    assert tick.products == 2 * D * 3 * 64 + 2 * 2 * 32 * 32
    assert tick.other == 2 * 2 * 32 * 32 + 2 * 32


BATCHED = {
    "cell": (lambda: sj.lstm(3, 4), (3,), (5, 3)),
    "cell_two_axes": (lambda: sj.lstm(3, 4), (3,), (5, 6, 3)),
    "recurrent": (lambda: sj.recurrent(sj.gru(3, 4)), (7, 3), (7, 5, 3)),
    "two_axes": (lambda: sj.recurrent(sj.gru(3, 4)), (7, 3), (7, 5, 6, 3)),
    "dense": (lambda: sj.dense(3, 4), (7, 3), (7, 5, 3)),
    "classifier": (lambda: sj.models.classifier(sj.recurrent(sj.gru(3, 4)), 4, 2), (7, 3), (7, 5, 3)),
    "both_ways": (lambda: sj.bidirectional(sj.gru(3, 4), sj.gru(3, 4)), (7, 3), (7, 5, 3)),
}


@pytest.mark.parametrize("name", BATCHED)
def test_of_a_batch_one_sequence_is_counted(name):
    make, one, many = BATCHED[name]
    assert sj.summary(make(), jnp.ones(many)) == sj.summary(make(), jnp.ones(one))
    axes = len(many) - len(one)
    assert sj.summary(make(), jnp.ones(many), batch_axes=axes) == sj.summary(make(), jnp.ones(one))


def test_batch_axes_may_be_told_where_nothing_shows_them():
    layer = sj.pointwise(lambda params, xs: jnp.tanh(xs))
    assert sj.summary(layer, jnp.ones((7, 3))).flop.other == 3
    assert sj.summary(layer, jnp.ones((7, 5, 3))).flop.other == 15
    assert sj.summary(layer, jnp.ones((7, 5, 3)), batch_axes=1).flop.other == 3


def test_other_operations():
    x = jnp.ones((3, 4))

    def count(f, *args):
        return flop(jax.make_jaxpr(f)(*args))

    assert count(lambda x: jnp.exp(x).sum(), x) == (0, 24)
    assert count(lambda x: x[:, ::2].T, x) == (0, 0)
    assert count(lambda x: jnp.arange(5) + 1, x) == (0, 0)
    assert count(lambda x: jnp.einsum("bij,bjk->bik", x[None], x.T[None]), x) == (2 * 3 * 3 * 4, 0)
    kernel, signal = jnp.ones((5, 4, 2)), jnp.ones((1, 4, 10))
    convolve = lambda s, k: jax.lax.conv_general_dilated(s, k, (1,), "VALID")
    assert count(convolve, signal, kernel) == (2 * 9 * 5 * 4 * 2, 0)
    branches = lambda x: jax.lax.cond(x[0, 0] > 0, lambda x: x @ x.T, lambda x: (x + x) @ x.T, x)
    assert count(branches, x) == (72, 12)
    assert count(jax.checkpoint(jax.jit(lambda x: x + x)), x) == (0, 12)
    assert count(lambda x: jax.lax.scan(lambda c, r: (c * r, None), x[0], x)[0], x) == (0, 12)


def test_parameters_may_be_given_where_init_cannot_be_traced():
    cell = sj.elman(3, 4, w_h_init=sj.initializers.spectral_radius(0.9))
    params = cell.init(jax.random.key(0))
    assert sj.summary(cell, jnp.zeros(3), params=params).parameter_count == 4 * (3 + 4 + 1)


def test_noise_is_no_state_without_a_key():
    assert sj.summary(sj.zoneout(sj.gru(3, 4), 0.1), jnp.zeros(3)).state_size == 4


def test_table():
    text = str(
        sj.summary(sj.serial(sj.dense(3, 2), sj.recurrent(sj.lstm(2, 1000, dtype="float32"))), jnp.zeros((5, 3)))
    )
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "dense/w 3 × 2 float64 6 48 B 99% 25%" in lines
    assert "lstm/w_h 1000 × 4000 float32 4,000,000 15.26 MiB 2% 0%" in lines
    assert "total 4,012,008 15.3 MiB 3% 0%" in lines
    assert "lstm/c 1000 float32 1,000 3.906 KiB" in lines
    assert lines[-1].startswith("8,033,014 FLOP a tick: 8,016,012 in products, 17,002 elsewhere")


@pytest.mark.parametrize(
    ("shape", "dtype", "tpu", "gpu"),
    [
        ((8, 128), "float32", 8 * 128, 8 * 128),
        ((9, 129), "float32", 16 * 256, 12 * 132),  # tensor cores take 4 numbers of 4 bytes, 8 of 2
        ((9, 129), "bfloat16", 16 * 256, 16 * 136),
        ((9, 129), "int8", 32 * 256, 16 * 144),
        ((3, 9, 129), "bfloat16", 3 * 16 * 256, 3 * 16 * 136),
        ((100,), "bfloat16", 128, 100),
        ((), "float32", 1, 1),
        ((0, 5), "float32", 0, 0),
    ],
)
def test_padding_by_hand(shape, dtype, tpu, gpu):
    array = jax.ShapeDtypeStruct(shape, dtype)
    leaf = Leaf("w", shape, dtype, array.size, array.size * array.dtype.itemsize)
    assert (leaf.padded("TPU"), leaf.padded("GPU")) == (tpu, gpu)


def test_bad_input_is_told():
    with pytest.raises(TypeError, match=r"summary: expected a Layer, got PjitFunction\. Pass a cell or a layer"):
        sj.summary(jnp.tanh, jnp.zeros(3))
    with pytest.raises(ValueError, match="summary: expected leaves with one number of ticks"):
        sj.summary(sj.dense(3, 2), jnp.zeros(()))
    for shape in ((4,), (5, 4)):
        with pytest.raises(ValueError, match="lstm: expected inputs of size 3, got 4"):
            sj.summary(sj.lstm(3, 2), jnp.zeros(shape))


def test_arrays_have_names():
    model = sj.serial(sj.embedding(65, D), sj.recurrent(sj.stack(sj.lstm(D, H), sj.gru(H, H))))
    found = sj.summary(model, jax.ShapeDtypeStruct((7,), jnp.int32))
    assert [leaf.name for leaf in found.parameters[:3]] == ["embedding/w", "lstm/w_x", "lstm/w_h"]
    assert [leaf.name for leaf in found.state] == ["lstm/h", "lstm/c", "gru"]
    assert "\n  gru/b_n " in str(found)
