"""What is checked for every cell and layer: whose parameters these are."""

import jax
import pytest

import seqjax as sj
from seqjax import checks, models

KEY = jax.random.key(0)


def of(cell):
    """Cells that know their maker, whatever those of the package do."""
    return sj.stack(cell)


LSTM, GRU = of(sj.lstm(3, 4)), of(sj.gru(3, 4))
MODEL = sj.serial(sj.dense(3, 3), sj.recurrent(GRU))

WRONG = {
    "another_cell": (
        LSTM,
        GRU.init(KEY),
        r"who: expected parameters of stack, LSTMParams at params\[0\], got GRUP",
    ),
    "state": (
        LSTM,
        LSTM.initial_state(LSTM.init(KEY)),
        r"params\[0\], got LSTMState.*init\(key\) of this cell",
    ),
    "fewer": (MODEL, MODEL.init(KEY)[:1], "expected parameters of serial, 2 parts at params, got 1 parts"),
    "array": (MODEL, MODEL.init(KEY)[0].w, "2 parts at params, got an array of shape"),
    "deep": (MODEL, (MODEL.init(KEY)[0], LSTM.init(KEY)), r"GRUParams at params\[1\]\[0\], got LSTMParams"),
    "layer": (
        sj.dense(3, 4),
        sj.embedding(3, 4).init(KEY),
        "of dense, DenseParams at params, got .* of this layer",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_parameters_of_another_are_told(name):
    module, params, text = WRONG[name]
    with pytest.raises(TypeError, match=text):
        checks.params_of("who", module, params)


def test_parameters_of_its_own_pass():
    for module in (LSTM, GRU, MODEL, sj.dense(3, 4, b_init=None), models.language_model(5, 4)):
        checks.params_of("who", module, module.init(KEY))
    attending = sj.attend(sj.gru(8, 4), 4, 5, 6)
    params = attending.init(KEY)._replace(memory=sj.Memory(jax.numpy.ones((7, 5))))
    checks.params_of("who", attending, params)
    ensemble = jax.vmap(LSTM.init)(jax.random.split(KEY, 3))
    checks.params_of("who", LSTM, ensemble)


def test_nothing_is_asked_where_nobody_can_tell():
    by_hand = sj.Cell(lambda key: (), LSTM.initial_state, LSTM.step)
    checks.params_of("who", by_hand, LSTM.init(KEY))
    on_the_host = of(sj.elman(3, 4, w_h_init=sj.initializers.spectral_radius(0.9)))
    checks.params_of("who", on_the_host, LSTM.init(KEY))
