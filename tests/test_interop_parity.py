"""Weight passports against other frameworks: their weights, first states, outputs and all gradients, by stored vectors.

Live where a framework is installed. torch and ONNX are in test_cells_libraries.py.
"""

import importlib.util
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import quick
from reference import frameworks, libraries, parity
from reference.frameworks import CASES

import seqjax as sj

MODULES = parity.PASSPORTS
STYLES = {"nnx_lstm": "nnx", "nnx_optimized_lstm": "nnx dense", "nnx_gru": "nnx dense", "nnx_simple": "nnx dense"}


def passport(name):
    return getattr(sj.interop, MODULES[CASES[name].framework])


def weights_of(inputs):
    return frameworks.nested({k[2:]: w for k, w in inputs.items() if k.startswith("w|")})


@pytest.mark.parametrize("name", CASES)
def test_equals_the_framework(name):
    """Outputs, last states and every gradient: of weights in their own layout, of inputs and of first states."""
    found, expected = parity.numbers(name)
    outputs, gradients = (1e-10, 1e-8) if CASES[name].dtype == "float64" else (1e-5, 1e-5)
    assert found.keys() == expected.keys()
    for k, value in expected.items():
        tolerance = gradients if k.startswith("gradient_") else outputs
        np.testing.assert_allclose(found[k], value, rtol=tolerance, atol=tolerance, err_msg=k)


@pytest.mark.parametrize("name", CASES)
def test_weights_come_back_to_the_bit(name):
    inputs, _ = frameworks.load(name)
    weights = weights_of(inputs)
    layer, params = passport(name).from_state_dict(CASES[name].kind, weights)
    style = {"style": STYLES[name]} if name in STYLES else {}
    back = passport(name).to_state_dict(layer, params, **style)
    back = back["cell"] if isinstance(back, dict) and set(back) == {"cell"} else back
    flat = frameworks.flat(back)
    assert flat.keys() == frameworks.flat(weights).keys()
    for path, w in frameworks.flat(weights).items():
        assert isinstance(flat[path], np.ndarray)
        assert flat[path].dtype == w.dtype
        np.testing.assert_array_equal(flat[path], w, err_msg=path)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_stored_vectors_are_the_frameworks(name):
    if importlib.util.find_spec(MODULES[CASES[name].framework]) is None:
        pytest.skip("not installed")
    inputs, expected = frameworks.load(name)
    tolerance = 1e-11 if CASES[name].dtype == "float64" else 1e-5
    for k, value in frameworks.live(name, inputs).items():
        np.testing.assert_allclose(value, expected[k], rtol=tolerance, atol=tolerance, err_msg=k)


@pytest.mark.parametrize("name", quick(["linen_lstm", "haiku_lstm", "equinox_gru"], "haiku_lstm"))
def test_verify_finds_other_weights(name):
    """As they are, weights agree; with two gates in each other's place, or a bias moved, the numbers tell."""
    case, module = CASES[name], passport(name)
    weights = jax.tree.map(jnp.asarray, weights_of(frameworks.load(name)[0]))
    _, params = module.from_state_dict(case.kind, weights, verify=True)
    assert jax.tree.leaves(params)[0].dtype == jnp.float64
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.verified, "ours", lambda who, layer, params, xs, states: theirs_moved(layer, params, xs))
        with pytest.raises(ValueError, match=r": expected outputs equal within 1e-10 in float64, got .*These are not"):
            module.from_state_dict(case.kind, weights, verify=True)


def theirs_moved(layer, params, xs):
    """What other parameters give."""
    params = params._replace(b=params.b + 0.01)
    return np.asarray(layer.apply(params, layer.initial_state(params, xs.shape[1:-1]), xs)[1])


def test_the_ledger_is_of_these_cases():
    """Every stored case is a row; what the page says is what the tests find, within their tolerance."""
    stored = {row.stored for row in parity.SAME}
    assert stored == {*libraries.TORCH, *libraries.ONNX, *CASES}
    text = parity.PAGE.read_text("utf-8")
    rounded = re.compile(r"\d(\.\d)?e-\d+")
    exact = parity.page(lambda name: (0.0, None if name in libraries.ONNX else 0.0))
    assert rounded.sub("·", text) == rounded.sub("·", exact)
    for row in text.splitlines():
        largest = 1e-5 if "| Keras |" in row else 1e-8
        assert all(float(number[0]) <= largest for number in re.finditer(rounded, row)), row


@pytest.mark.slow
def test_keras_layers_of_the_backend_torch_are_read():
    """In a process of its own: a backend is chosen once."""
    if not all(map(importlib.util.find_spec, ("keras", "torch"))):
        pytest.skip("keras and torch are not both installed")
    program = (
        "import keras, seqjax as sj; made = keras.layers.GRU(4); made.build((None, None, 3)); "
        "print(keras.backend.backend(), sj.interop.keras.from_module(made, verify=True)[0].name)"
    )
    options = {"env": os.environ | {"KERAS_BACKEND": "torch"}, "capture_output": True, "text": True, "check": False}
    done = subprocess.run([sys.executable, "-c", program], **options)
    assert done.stdout == "torch recurrent\n", done.stderr
