"""Cells against other libraries: copied weights, random initial states, lengths with an empty row, float64.

torch and ONNX by stored vectors (tests/reference/libraries.py writes them), live where they are installed.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import libraries

import seqjax as sj

D, H, P, T, B = libraries.D, libraries.H, libraries.P, libraries.T, libraries.B
OUTPUTS = {"rtol": 1e-10, "atol": 1e-10}
GRADIENTS = {"rtol": 1e-8, "atol": 1e-8}


def one_bias(w):
    return sj.ElmanParams(w["weight_ih_l0"].T, w["weight_hh_l0"].T, w["bias_ih_l0"] + w["bias_hh_l0"])


def gru_params(w):
    inner = w["bias_hh_l0"]
    outer = w["bias_ih_l0"] + inner.at[2 * H :].set(0)
    return sj.GRUParams(w["weight_ih_l0"].T, w["weight_hh_l0"].T, outer, inner[2 * H :])


def projected_params(w):
    w_x, w_h, b = one_bias(w)
    return sj.ProjectedLSTMParams(w_x, w_h, w["weight_hr_l0"].T, b)


TORCH = {
    "rnn_tanh": (sj.elman(D, H), one_bias),
    "rnn_relu": (sj.elman(D, H, activation=jax.nn.relu), one_bias),
    "lstm": (sj.lstm(D, H), lambda w: sj.LSTMParams(*one_bias(w))),
    "gru": (sj.gru(D, H), gru_params),
    "projected_lstm": (sj.projected_lstm(D, H, P), projected_params),
}


@pytest.fixture(params=TORCH)
def torch_case(request):
    inputs, results = libraries.load(request.param)
    return request.param, inputs, results


def test_equals_torch(torch_case):
    """Outputs, last states, and every gradient: weights, both biases, inputs, initial states."""
    name, inputs, expected = torch_case
    cell, to_params = TORCH[name]
    lengths = inputs["lengths"]
    assert 0 in lengths
    cotangents = {k[10:]: v for k, v in inputs.items() if k.startswith("cotangent_")}
    variables = {k: jnp.asarray(v) for k, v in inputs.items() if not k.startswith(("cotangent_", "lengths"))}
    padding = np.arange(T)[:, None] >= lengths
    variables["xs"] = jnp.where(padding[..., None], jnp.nan, variables["xs"])

    def run(v):
        state = sj.LSTMState(v["h"], v["c"]) if "c" in v else v["h"]
        state, ys = sj.unroll(cell, to_params(v), state, v["xs"], lengths=lengths)
        return {"ys": ys} | (state._asdict() if "c" in v else {"h": state})

    def loss(v):
        return sum((value * cotangents[k]).sum() for k, value in run(v).items())

    for k, value in run(variables).items():
        np.testing.assert_allclose(value, expected[k], **OUTPUTS, err_msg=k)
    gradients = jax.grad(loss)(variables)
    assert {f"gradient_{k}" for k in gradients} == {k for k in expected if k.startswith("gradient_")}
    for k, gradient in gradients.items():
        np.testing.assert_allclose(gradient, expected[f"gradient_{k}"], **GRADIENTS, err_msg=k)


def test_stored_vectors_are_torch(torch_case):
    pytest.importorskip("torch")
    name, inputs, expected = torch_case
    results = libraries.torch_results(name, inputs)
    assert results.keys() == expected.keys()
    for k, value in results.items():
        np.testing.assert_allclose(value, expected[k], rtol=1e-12, atol=1e-13, err_msg=k)


def reorder(w, given, wanted):
    """Gate blocks of ONNX ``[1, k h, ...]`` in our order, features last."""
    blocks = dict(zip(given, np.split(w[0], len(given), axis=0)))
    return jnp.asarray(np.concatenate([blocks[g] for g in wanted]).T)


def onnx_case(name, inputs):
    if name == "lstm_peepholes":
        given, wanted = "iofg", "ifgo"
        w_c = reorder(inputs["P"], "iof", "ifo")
    else:
        given, wanted = "zrn", "rzn"
    w_x, w_h = (reorder(inputs[k], given, wanted) for k in "WR")
    b = sum(reorder(half, given, wanted) for half in np.split(inputs["B"], 2, axis=1))
    h = jnp.asarray(inputs["initial_h"][0])
    if name == "lstm_peepholes":
        params = sj.PeepholeLSTMParams(w_x, w_h, w_c, b)
        return sj.peephole_lstm(D, H), params, sj.LSTMState(h, jnp.asarray(inputs["initial_c"][0]))
    return sj.gru(D, H, reset="before"), sj.GRUParams(w_x, w_h, b, None), h


@pytest.mark.parametrize("name", libraries.ONNX)
def test_equals_onnx_operators(name):
    """``LSTM`` with peepholes and ``GRU`` with ``linear_before_reset=0``."""
    inputs, expected = libraries.load(name)
    cell, params, state = onnx_case(name, inputs)
    state, ys = sj.unroll(cell, params, state, jnp.asarray(inputs["X"]))
    np.testing.assert_allclose(ys, expected["Y"][:, 0], **OUTPUTS)
    for s, k in zip(jax.tree.leaves(state), ("Y_h", "Y_c")):
        np.testing.assert_allclose(s, expected[k][0], **OUTPUTS)


@pytest.mark.parametrize("name", libraries.ONNX)
def test_stored_vectors_are_onnx(name):
    pytest.importorskip("onnx")
    inputs, expected = libraries.load(name)
    for k, value in libraries.onnx_results(name, inputs).items():
        np.testing.assert_allclose(value, expected[k], rtol=1e-12, atol=1e-13, err_msg=k)


def blocks(w, names):
    return dict(zip(names, jnp.split(w, len(names), axis=-1)))


def flax_simple(p):
    return {"i": {"kernel": p.w_x, "bias": p.b}, "h": {"kernel": p.w_h}}


def flax_lstm(p):
    w_x, w_h, b = (blocks(w, "ifgo") for w in p)
    inner = {f"i{g}": {"kernel": w_x[g]} for g in "ifgo"}
    return inner | {f"h{g}": {"kernel": w_h[g], "bias": b[g]} for g in "ifgo"}


def flax_gru(p):
    w_x, w_h, b = (blocks(w, "rzn") for w in p[:3])
    layers = {f"i{g}": {"kernel": w_x[g], "bias": b[g]} for g in "rzn"}
    layers |= {f"h{g}": {"kernel": w_h[g]} for g in "rzn"}
    return layers | {"hn": {"kernel": w_h["n"], "bias": p.b_n}}


FLAX = {
    "SimpleCell": (sj.elman, nn.SimpleCell, flax_simple),
    "LSTMCell": (sj.lstm, nn.LSTMCell, flax_lstm),
    "GRUCell": (sj.gru, nn.GRUCell, flax_gru),
}


@pytest.mark.parametrize("name", FLAX)
def test_equals_flax(name):
    """Outputs, last states, and gradients with respect to weights, initial states and inputs."""
    make, module, convert = FLAX[name]
    cell, other = make(D, H), module(H, param_dtype=jnp.float64)
    draw = libraries.drawer(np.random.default_rng(1))
    params = jax.tree.map(lambda p: jnp.asarray(draw(*p.shape)), cell.init(jax.random.key(0)))
    state = jax.tree.map(lambda s: jnp.asarray(draw(*s.shape)), cell.initial_state(params, (B,)))
    xs, weights = jnp.asarray(draw(T, B, D)), draw(T, B, H)
    lengths = libraries.LENGTHS

    def ours(params, state, xs):
        state, ys = sj.unroll(cell, params, state, xs, lengths=lengths)
        return state, ys

    def theirs(params, state, xs):
        def tick(carry, inputs):
            x, running = inputs
            new, y = other.apply({"params": convert(params)}, carry, x)
            return jax.tree.map(functools.partial(jnp.where, running), new, carry), jnp.where(running, y, 0)

        carry = tuple(state)[::-1] if name == "LSTMCell" else state
        carry, ys = jax.lax.scan(tick, carry, (xs, jnp.arange(T)[:, None, None] < lengths[:, None]))
        return sj.LSTMState(*carry[::-1]) if name == "LSTMCell" else carry, ys

    def loss(run):
        def f(*variables):
            state, ys = run(*variables)
            return (ys * weights).sum() + sum((s * weights[0]).sum() for s in jax.tree.leaves(state))

        return f

    for a, b in zip(jax.tree.leaves(ours(params, state, xs)), jax.tree.leaves(theirs(params, state, xs))):
        np.testing.assert_allclose(a, b, **OUTPUTS)
    gradients = [jax.jit(jax.grad(loss(run), (0, 1, 2)))(params, state, xs) for run in (ours, theirs)]
    for a, b in zip(*map(jax.tree.leaves, gradients)):
        np.testing.assert_allclose(a, b, **GRADIENTS)


@pytest.mark.parametrize("kernel", [(3, 3), (2, 4)], ids=["odd", "even"])
def test_conv_lstm_equals_flax(kernel):
    """Its forget gate adds 1 to a bias of its own; its second convolution has a bias too, here 0."""
    shape = (4, 5)
    cell, other = sj.cells.conv_lstm(D, H, shape, kernel), nn.ConvLSTMCell(H, kernel, param_dtype=jnp.float64)
    draw = libraries.drawer(np.random.default_rng(1))
    params = jax.tree.map(lambda p: jnp.asarray(draw(*p.shape)), cell.init(jax.random.key(0)))
    xs, h, c = jnp.asarray(draw(T, B, *shape, D)), jnp.asarray(draw(B, *shape, H)), jnp.asarray(draw(B, *shape, H))
    weights = draw(T, B, *shape, H)

    def gates(w):
        i, f, g, o = jnp.split(w, 4, axis=-1)
        return jnp.concatenate([i, g, f, o], axis=-1)

    def ours(params, xs, h, c):
        return sj.unroll(cell, params, sj.LSTMState(h, c), xs)

    def theirs(params, xs, h, c):
        b = params.b.at[H : 2 * H].add(-1)
        given = {"ih": {"kernel": gates(params.w_x), "bias": gates(b)}}
        given["hh"] = {"kernel": gates(params.w_h), "bias": jnp.zeros(4 * H)}
        (c, h), ys = jax.lax.scan(lambda carry, x: other.apply({"params": given}, carry, x), (c, h), xs)
        return sj.LSTMState(h, c), ys

    def both(*variables):
        slopes = [
            jax.grad(lambda *v, run=run: (run(*v)[1] * weights).sum(), (0, 1, 2, 3))(*variables)
            for run in (ours, theirs)
        ]
        return (ours(*variables), theirs(*variables)), slopes

    values, gradients = jax.jit(both)(params, xs, h, c)
    for a, b in zip(*map(jax.tree.leaves, values)):
        np.testing.assert_allclose(a, b, **OUTPUTS)
    for a, b in zip(*map(jax.tree.leaves, gradients)):
        np.testing.assert_allclose(a, b, **GRADIENTS)
