"""What cells of other libraries may not do, and what may not be made a module of theirs, each in words."""

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import seqjax as sj

D, H = 3, 4


@pytest.fixture(autouse=True)
def promoting():
    """Libraries' normalisation and dropout mix floats."""
    with jax.numpy_dtype_promotion("standard"):
        yield


class Plain(nnx.Module):
    """h' = h + w ⊙ x."""

    in_features = D

    def __init__(self):
        self.w, self.n = nnx.Param(jnp.ones(D)), 0

    def initialize_carry(self, shape, rngs):
        return jnp.zeros(shape)

    def __call__(self, h, x):
        return h + self.w[...] * x, h


class Counting(Plain):
    def __call__(self, h, x):
        self.n += 1
        return super().__call__(h, x)


class Learning(Plain):
    def __call__(self, h, x):
        self.w[...] = self.w[...] * 2
        return super().__call__(h, x)


class Drawn(Plain):
    def initialize_carry(self, shape, rngs):
        return jax.random.normal(rngs.carry(), shape)


class With(Plain):
    def __init__(self, part):
        super().__init__()
        self.part = part


class Nameless(Plain):
    in_features = None


def tick(cell, **options):
    cell = sj.interop.from_nnx(cell, **options)
    params = cell.init(None)
    return cell.step(params, cell.initial_state(params), jnp.ones(D))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: nnx.Linear(D, H, rngs=nnx.Rngs(0)), "expected a recurrent cell of nnx, .* got Linear"),
        (lambda: nnx.RNN(Plain()), "got RNN. Pass its cell"),
        (lambda: With(jnp.ones(2)), "expected a cell of parameters only, got an array at part. Make it an nnx.Param"),
        (lambda: With(nnx.Variable(jnp.ones(2))), "got Variable at part. Make it an nnx.Param"),
        (lambda: With(nnx.BatchNorm(D, rngs=nnx.Rngs(0))), "got BatchStat at part.mean. Normalise with nnx.LayerNorm"),
        (
            lambda: With(nnx.Dropout(0.5, rngs=nnx.Rngs(0))),
            "got RngCount at part.rngs.count. Make it without keep_rngs",
        ),
        (Counting, "expected a step that changes nothing but its carry, got one that changes an attribute"),
        (Learning, "got one that changes w. Make it part of the carry"),
        (Drawn, "expected a first state without randomness, .* Start from zeros"),
        (Nameless, "expected Nameless to have in_features, .* Set input_size"),
    ],
)
def test_nnx(make, words):
    with pytest.raises((TypeError, ValueError), match=f"^from_nnx: .*{words}"):
        tick(make())


def test_an_nnx_module_stays_what_it_was():
    """A step without a batch runs on a copy."""
    module = Learning()
    with pytest.raises(ValueError, match="changes w"):
        tick(module)
    assert module.w[...].tolist() == [1.0] * D
    assert tick(Nameless(), input_size=D)[0].tolist() == [1.0] * D


class Linen(nn.RNNCellBase):
    """A cell with a part in front of it."""

    part: nn.Module

    def initialize_carry(self, rng, shape):
        return jnp.zeros(shape, jnp.float32)

    @nn.compact
    def __call__(self, h, x):
        h = h + self.part(x)
        return h, h


class LinenDrawn(Linen):
    def initialize_carry(self, rng, shape):
        return jax.random.normal(rng, shape)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: nn.Dense(H), "expected a recurrent cell of Linen, .* got Dense. Pass one such as nn.GRUCell"),
        (lambda: nn.RNN(nn.GRUCell(H)), "got RNN. Pass the cell inside"),
        (lambda: Linen(nn.BatchNorm(True)), r"of parameters only, got batch_stats\['part'\]\['mean'\].*nn.LayerNorm"),
        (lambda: Linen(nn.Dropout(0.5, deterministic=False)), r"without random numbers, .*\(deterministic=True\)"),
        (lambda: LinenDrawn(nn.Dense(D)), "expected a first state without randomness"),
    ],
)
def test_linen(make, words):
    with pytest.raises((TypeError, ValueError), match=f"^from_linen: .*{words}"):
        start(make())


def start(module):
    cell = sj.interop.from_linen(module, D)
    return cell.initial_state(cell.init(jax.random.key(0)))


class Equinox(eqx.Module):
    part: object

    def __call__(self, x, state, *, key=None):
        return state


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (eqx.nn.Dropout(0.5), r"got Dropout at \.part\. Use eqx\.nn\.inference_mode"),
        (eqx.nn.StateIndex(jnp.ones(2)), r"got StateIndex at \.part\. Make what changes part of the state"),
        (jax.random.key(0), r"got a random key at \.part\. Keep keys out of it"),
    ],
)
def test_equinox(part, words):
    with pytest.raises(ValueError, match=f"^from_equinox: expected a cell that neither draws nor remembers .*{words}"):
        sj.interop.from_equinox(Equinox(part), initial_state=lambda cell: jnp.zeros(D))


def test_equinox_dropout_that_is_switched_off():
    module = Equinox(eqx.nn.Dropout(0.5, inference=True))
    cell = sj.interop.from_equinox(module, initial_state=lambda cell: jnp.zeros(D))
    assert cell.step(cell.init(None), jnp.ones(D), jnp.ones(D))[1].tolist() == [1.0] * D


@pytest.mark.parametrize("value", [jnp.ones(2), lambda x, state: state])
def test_equinox_asks_for_a_module(value):
    with pytest.raises(TypeError, match=r"^from_equinox: expected a recurrent cell of Equinox, got"):
        sj.interop.from_equinox(value)


class Haiku(hk.RNNCore):
    def __call__(self, x, state):
        return hk.BatchNorm(True, True, 0.9)(x, True), state

    def initial_state(self, batch_size):
        return jnp.zeros(D)


class HaikuDrawing(Haiku):
    def __call__(self, x, state):
        return hk.dropout(hk.next_rng_key(), 0.5, x), state


class HaikuWrong(Haiku):
    def __call__(self, x, state):
        raise ValueError("wrong by itself")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (3, "^from_haiku: expected a function that makes a core, got int. Haiku makes modules inside hk.transform"),
        (lambda: hk.Linear(H), "^from_haiku: expected .* got one that makes Linear. Return an hk.RNNCore"),
        (Haiku, "^from_haiku: expected a core of parameters only, got the variable .* of haiku/batch_norm"),
        (HaikuDrawing, r"^from_haiku: expected a core without random numbers, .*hk\.next_rng_key"),
        (HaikuWrong, "^wrong by itself"),
    ],
)
def test_haiku(make, words):
    with pytest.raises((TypeError, ValueError), match=words):
        sj.interop.from_haiku(make, D)


@pytest.mark.parametrize("size", [0, True, (3, 0), 2.5, None, {"x": 3}])
def test_a_size_is_a_size(size):
    with pytest.raises(TypeError, match="expected input_size to be a size, a shape without batch, or a tree of"):
        sj.interop.from_linen(nn.GRUCell(H), size)


def test_shapes_are_told():
    cell = sj.interop.from_linen(nn.GRUCell(H, param_dtype=jnp.float64), D)
    params = cell.init(jax.random.key(0))
    state = cell.initial_state(params, (2,))
    with pytest.raises(ValueError, match=r"^from_linen: expected inputs of size 3, got .*\(2, 5\)\. Set input_size=5"):
        cell.step(params, state, jnp.ones((2, 5)))
    with pytest.raises(ValueError, match=r"expected inputs of batch shape \(2,\) .* \(7, 3\)\. Make the state with"):
        cell.step(params, state, jnp.ones((7, D)))
    gru = sj.interop.from_equinox(eqx.nn.GRUCell(D, H, key=jax.random.key(0)))
    with pytest.raises(ValueError, match=r"from_equinox: expected inputs of batch shape \(2,\) like the state"):
        gru.step(gru.init(None), gru.initial_state(gru.init(None), (2,)), jnp.ones((7, D)))


def test_recurrent_dropout_advises_what_fits():
    """No mark can be written into another library's step: what is advised instead works."""
    cell = sj.interop.from_equinox(eqx.nn.GRUCell(D, H, key=jax.random.key(0)))
    params, key = cell.init(None), jax.random.key(1)
    dropped = sj.recurrent_dropout(cell, 0.5)
    with pytest.raises(
        ValueError, match=r"of another library, which has none, use sj\.zoneout or sj\.variational_dropout"
    ):
        dropped.step(params, dropped.initial_state(params, key=key), jnp.ones(D))
    for wrapped in (sj.zoneout(cell, 0.5), sj.variational_dropout(cell, 0.5)):
        noisy, quiet = (wrapped.step(params, wrapped.initial_state(params, key=k), jnp.ones(D))[1] for k in (key, None))
        assert float(jnp.abs(noisy - quiet).max()) > 1e-3


OUT = {"linen": sj.interop.to_linen, "nnx": sj.interop.to_nnx, "Equinox": sj.interop.to_equinox}


@pytest.mark.parametrize("name", OUT)
def test_modules(name):
    to = OUT[name]
    who = f"^to_{name.lower()}: "
    with pytest.raises(
        TypeError, match=f"{who}expected a seqjax.Cell, a seqjax.Layer or a recurrent cell .* got function"
    ):
        to(lambda x: x)
    with pytest.raises(ValueError, match=f"{who}expected engine and memory with a cell, got them with a layer"):
        to(sj.recurrent(sj.lstm(D, H)), memory="sqrt")
    if name != "linen":
        with pytest.raises(ValueError, match=f"{who}expected parameters or what they are drawn from, got neither"):
            to(sj.lstm(D, H))
        with pytest.raises(TypeError, match=f"{who}expected parameters of lstm, LSTMParams at params"):
            to(sj.lstm(D, H), jnp.ones(3))


def test_modules_of_one_library():
    with pytest.raises(ValueError, match=r"^to_linen: expected parameters of floats, got integers at \.\w+"):
        sj.interop.to_linen(sj.Cell(lambda key: sj.LSTMParams(jnp.ones(2), jnp.arange(2), None), None, None))
    with pytest.raises(ValueError, match=r"^to_nnx: expected no params and no rngs with a cell of nnx"):
        sj.interop.to_nnx(nnx.GRUCell(D, H, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"^to_equinox: expected no params and no key with a cell of Equinox"):
        sj.interop.to_equinox(eqx.nn.GRUCell(D, H, key=jax.random.key(0)), key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"^to_equinox: expected initial_state and output with a cell of Equinox"):
        sj.interop.to_equinox(sj.lstm(D, H), key=jax.random.key(0), output=lambda state: state)
    with pytest.raises(
        ValueError, match=r"^to_linen: expected inputs \[\*batch, time, \.\.\.\] with 1 axes of features"
    ):
        sj.interop.to_linen(sj.lstm(D, H)).init(jax.random.key(0), jnp.ones(3))


def test_round_trips_are_refused_with_a_word():
    """A module that runs along time is no cell; what it runs is at hand."""
    with pytest.raises(TypeError, match=r"^from_nnx: .* got RNN. Pass its cell"):
        sj.interop.from_nnx(sj.interop.to_nnx(sj.lstm(D, H), rngs=nnx.Rngs(0)))
    with pytest.raises(TypeError, match=r"^from_linen: .* got RNN. Pass the cell inside"):
        sj.interop.from_linen(sj.interop.to_linen(sj.lstm(D, H)), D)
    with pytest.raises(TypeError, match=r"^from_equinox: .* got RNN. Pass the cell inside"):
        sj.interop.from_equinox(sj.interop.to_equinox(sj.lstm(D, H), key=jax.random.key(0)))
