"""Cells against torch and ONNX: copied weights, random initial states, lengths with an empty row, float64.

By stored vectors (tests/reference/libraries.py writes them), live where they are installed. The frameworks of JAX are
in test_interop_parity.py.
"""

import numpy as np
import pytest
from reference import libraries, parity

TOLERANCE = {True: 1e-8, False: 1e-10}  # gradients; outputs and states


@pytest.mark.parametrize("name", [*libraries.TORCH, *libraries.ONNX])
def test_equals_the_library(name):
    """Outputs, last states, and torch's every gradient: weights, both biases, inputs, initial states."""
    found, expected = parity.numbers(name)
    assert found.keys() == expected.keys()
    for k, value in expected.items():
        tolerance = TOLERANCE[k.startswith("gradient_")]
        np.testing.assert_allclose(found[k], value, rtol=tolerance, atol=tolerance, err_msg=k)


@pytest.mark.parametrize("name", libraries.TORCH)
def test_stored_vectors_are_torch(name):
    pytest.importorskip("torch")
    inputs, expected = libraries.load(name)
    results = libraries.torch_results(name, inputs)
    assert results.keys() == expected.keys()
    for k, value in results.items():
        np.testing.assert_allclose(value, expected[k], rtol=1e-12, atol=1e-13, err_msg=k)


@pytest.mark.parametrize("name", libraries.ONNX)
def test_stored_vectors_are_onnx(name):
    pytest.importorskip("onnx")
    inputs, expected = libraries.load(name)
    for k, value in libraries.onnx_results(name, inputs).items():
        np.testing.assert_allclose(value, expected[k], rtol=1e-12, atol=1e-13, err_msg=k)
