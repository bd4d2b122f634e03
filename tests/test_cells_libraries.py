"""Cells against other libraries: copied weights, random initial states, lengths with an empty row, float64.

torch and ONNX by stored vectors (tests/reference/libraries.py writes them), live where they are installed.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import libraries

import seqjax as sj

D, H, P, T, B = libraries.D, libraries.H, libraries.P, libraries.T, libraries.B
OUTPUTS = {"rtol": 1e-10, "atol": 1e-10}
GRADIENTS = {"rtol": 1e-8, "atol": 1e-8}


KINDS = {name: name for name in libraries.TORCH} | {"projected_lstm": "lstm"}


@pytest.fixture(params=KINDS)
def torch_case(request):
    inputs, results = libraries.load(request.param)
    return request.param, inputs, results


def test_equals_torch(torch_case):
    """Outputs, last states, and every gradient: weights, both biases, inputs, initial states."""
    name, inputs, expected = torch_case
    lengths = inputs["lengths"]
    assert 0 in lengths
    cotangents = {k[10:]: v for k, v in inputs.items() if k.startswith("cotangent_")}
    variables = {k: jnp.asarray(v) for k, v in inputs.items() if not k.startswith(("cotangent_", "lengths"))}
    padding = np.arange(T)[:, None] >= lengths
    variables["xs"] = jnp.where(padding[..., None], jnp.nan, variables["xs"])

    def run(v):
        weights = {k: w for k, w in v.items() if k.endswith("_l0")}
        layer, params = sj.interop.torch.from_state_dict(KINDS[name], weights)
        state = sj.interop.torch.state_from(layer, *(v[k][None] for k in "hc" if k in v))
        state, ys = layer.apply(params, state, v["xs"], lengths=lengths)
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


@pytest.mark.parametrize("name", libraries.ONNX)
def test_equals_onnx_operators(name):
    """``LSTM`` with peepholes and ``GRU`` with ``linear_before_reset=0``."""
    inputs, expected = libraries.load(name)
    tensors = {k: w for k, w in inputs.items() if k in "WRBP"}
    layer, params = sj.interop.onnx.from_state_dict(name.split("_")[0], tensors)
    state = sj.interop.onnx.state_from(layer, *(inputs[k] for k in ("initial_h", "initial_c") if k in inputs))
    state, ys = layer.apply(params, state, jnp.asarray(inputs["X"]))
    np.testing.assert_allclose(ys, expected["Y"][:, 0], **OUTPUTS)
    for s, k in zip(jax.tree.leaves(state), ("Y_h", "Y_c")):
        np.testing.assert_allclose(s, expected[k][0], **OUTPUTS)


@pytest.mark.parametrize("name", libraries.ONNX)
def test_stored_vectors_are_onnx(name):
    pytest.importorskip("onnx")
    inputs, expected = libraries.load(name)
    for k, value in libraries.onnx_results(name, inputs).items():
        np.testing.assert_allclose(value, expected[k], rtol=1e-12, atol=1e-13, err_msg=k)
