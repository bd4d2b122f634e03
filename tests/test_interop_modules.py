"""Our cells and layers as modules of Flax and Equinox: called as their own are, and trained by their own tools."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from laws import assert_close
from marks import quick

import seqjax as sj

D, H, T, B = 3, 4, 6, 2
TOLERANCE = {"rtol": 1e-8, "atol": 1e-10}
XS = jax.random.normal(jax.random.key(3), (B, T, D))
LENGTHS = jnp.array([T, 4])
REAL = (jnp.arange(T) < LENGTHS[:, None])[..., None]
CALLS = {
    "plain": {},
    "lengths": {"seq_lengths": LENGTHS},
    "reverse": {"reverse": True},
    "reverse, lengths": {"reverse": True, "seq_lengths": LENGTHS},
    "reverse, lengths, in order": {"reverse": True, "seq_lengths": LENGTHS, "keep_order": True},
    "time first": {"time_major": True},
}


def agree(theirs, ours, call):
    """Carry and outputs at real ticks; ours are zero behind them."""
    options = CALLS[call]
    xs = XS.swapaxes(0, 1) if "time_major" in options else XS
    carry, ys = theirs(xs, return_carry=True, **options)
    real = REAL if "seq_lengths" in options else True
    assert_close(ours(xs, return_carry=True, **options), (carry, jnp.where(real, ys, 0)), **TOLERANCE)
    assert ours(xs, **options).shape == ys.shape


@pytest.mark.parametrize("call", quick(CALLS, "reverse, lengths"))
def test_called_as_linen_s_rnn(call):
    cell = nn.OptimizedLSTMCell(H, param_dtype=jnp.float64)
    theirs, ours = nn.RNN(cell), sj.interop.to_linen(cell)
    variables = theirs.init(jax.random.key(0), XS)
    assert_close(ours.init(jax.random.key(0), XS), variables)
    apply = lambda module: lambda xs, **options: module.apply(variables, xs, **options)
    agree(apply(theirs), apply(ours), call)


@pytest.mark.parametrize("call", quick(CALLS, "reverse, lengths, in order"))
def test_called_as_nnx_s_rnn(call):
    cell = nnx.GRUCell(D, H, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    theirs, ours = nnx.RNN(cell), sj.interop.to_nnx(cell)
    assert_close(nnx.to_pure_dict(nnx.state(ours)), nnx.to_pure_dict(nnx.state(theirs, nnx.Param)))
    agree(theirs, ours, call)


class Model(nn.Module):
    """A user's model, whose recurrence is one line."""

    make: object

    @nn.compact
    def __call__(self, xs):
        return nn.Dense(1, param_dtype=jnp.float64)(self.make()(xs))


def test_one_line_of_a_linen_model_is_replaced():
    """Names, first values and outputs of all parameters stay, wherever the cell is made."""
    theirs = Model(lambda: nn.RNN(nn.GRUCell(H, param_dtype=jnp.float64)))
    ours = Model(lambda: sj.interop.to_linen(nn.GRUCell(H, param_dtype=jnp.float64), memory="sqrt"))
    variables = theirs.init(jax.random.key(0), XS)
    assert_close(ours.init(jax.random.key(0), XS), variables)
    gradient = lambda model: jax.grad(lambda v: (model.apply(v, XS) ** 2).sum())(variables)
    assert_close(gradient(ours), gradient(theirs), **TOLERANCE)


def test_linen_trains_ours():
    """Flax's own TrainState; parameters by the names of their fields, and back in their tree."""
    cell = sj.stack(sj.lstm(D, H), sj.gru(H, 2))
    rnn = sj.interop.to_linen(cell, engine="split")
    variables = rnn.init(jax.random.key(0), XS)
    assert jax.tree.map(jnp.shape, variables) == {
        "params": {
            "cell": {
                "lstm": {"w_x": (D, 4 * H), "w_h": (H, 4 * H), "b": (4 * H,)},
                "gru": {"w_x": (H, 6), "w_h": (2, 6), "b": (6,), "b_n": (2,)},
            }
        }
    }
    train = TrainState.create(apply_fn=rnn.apply, params=variables["params"], tx=optax.sgd(0.1))

    @jax.jit
    def update(train):
        loss = lambda params: (train.apply_fn({"params": params}, XS) ** 2).mean()
        return train.apply_gradients(grads=jax.grad(loss)(train.params))

    after = update(update(train))
    params = rnn.params_of(variables)
    assert isinstance(params[0], sj.LSTMParams)
    loss = lambda p: (sj.unroll(cell, p, cell.initial_state(p, (B,)), XS.swapaxes(0, 1))[1] ** 2).mean()
    for _ in range(2):
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, jax.grad(loss)(params))
    assert_close(rnn.params_of({"params": after.params}), params, **TOLERANCE)


def test_nnx_trains_ours():
    """nnx.Optimizer, nnx.jit and nnx.grad; given parameters, and taken out again."""
    cell = sj.lstm(D, H)
    params = cell.init(jax.random.key(0))
    rnn = sj.interop.to_nnx(cell, params)
    optimizer = nnx.Optimizer(rnn, optax.sgd(0.1), wrt=nnx.Param)

    @nnx.jit
    def update(rnn, optimizer):
        optimizer.update(rnn, nnx.grad(lambda rnn: (rnn(XS) ** 2).mean())(rnn))

    update(rnn, optimizer)
    loss = lambda p: (sj.unroll(cell, p, cell.initial_state(p, (B,)), XS.swapaxes(0, 1))[1] ** 2).mean()
    assert_close(rnn.params, jax.tree.map(lambda p, g: p - 0.1 * g, params, jax.grad(loss)(params)), **TOLERANCE)
    whole = sj.interop.to_nnx(sj.sparse_echo_state(D, H, connections=2), rngs=nnx.Rngs(0))
    assert jnp.isfinite(whole(XS)).all()
    nnx.grad(lambda rnn: (rnn(XS) ** 2).mean())(whole)  # whole numbers are no nnx.Param


def test_equinox_trains_both():
    """eqx.filter_jit and filter_grad; a cell of Equinox in its scan's place, and ours by their fields' names."""
    module = eqx.nn.LSTMCell(D, H, key=jax.random.key(0))

    def scanned(module, xs):
        zeros = jnp.zeros((2, H))
        return jax.lax.scan(lambda s, x: (s := module(x, s), s[0]), tuple(zeros), xs)

    @eqx.filter_jit
    @eqx.filter_value_and_grad(has_aux=True)
    def both(model, run):
        last, ys = jax.vmap(lambda xs: run(model, xs))(XS)
        return (ys**2).mean() + last[1].sum(), (last, ys)

    ours = both(sj.interop.to_equinox(module, memory="sqrt"), lambda rnn, xs: rnn(xs))
    theirs = both(module, scanned)
    assert_close(ours[0], theirs[0], **TOLERANCE)
    assert_close(eqx.filter(ours[1].cell, eqx.is_array), eqx.filter(theirs[1], eqx.is_array), **TOLERANCE)
    rnn = sj.interop.to_equinox(sj.lstm(D, H), key=jax.random.key(0), reverse=True)
    gradient = both(rnn, lambda rnn, xs: rnn(xs, lengths=jnp.array(4)))[1]
    assert gradient.cell._fields == ("w_x", "w_h", "b")
    assert np.isfinite(gradient.cell.w_h).all()


def test_layers_and_noise():
    """A layer runs in both directions; dropout is drawn where there is a key, and not without."""
    layer = sj.serial(sj.embedding(5, D), sj.dropout(0.5), sj.recurrent(sj.zoneout(sj.gru(D, H), 0.3)))
    symbols = jax.random.randint(jax.random.key(0), (B, T), 0, 5)
    rnn = sj.interop.to_linen(layer)
    variables = rnn.init(jax.random.key(0), symbols)
    quiet = rnn.apply(variables, symbols)
    params = rnn.params_of(variables)
    assert_close(quiet.swapaxes(0, 1), layer.apply(params, layer.initial_state(params, (B,)), symbols.T)[1])
    noisy = [rnn.apply(variables, symbols, rngs={"dropout": jax.random.key(n)}) for n in (0, 0, 1)]
    assert_close(noisy[0], noisy[1])
    assert float(jnp.abs(noisy[0] - noisy[2]).max()) > 1e-3
    module = sj.interop.to_nnx(layer, params)
    assert_close(module(symbols), quiet)
    assert float(jnp.abs(module(symbols, rngs=nnx.Rngs(0)) - quiet).max()) > 1e-3
    assert_close(module(symbols[:, ::-1], reverse=True), quiet)
    single = sj.interop.to_equinox(layer, params)
    assert_close(jax.vmap(single)(symbols)[1], quiet)
    assert float(jnp.abs(single(symbols[0], key=jax.random.key(0))[1] - quiet[0]).max()) > 1e-3
