"""States that several families of cells share."""

from typing import NamedTuple

import jax.numpy as jnp

from seqjax.base import Array
from seqjax.products import accumulator


class LSTMState(NamedTuple):
    """Hidden state ``h [*B, h]`` and cell state ``c [*B, h]``."""

    h: Array
    c: Array


def zeros(batch_shape: tuple[int, ...], size: int, w: Array) -> Array:
    """A state of zeros ``[*B, size]``, in the dtype in which products with the weights ``w`` are summed."""
    return jnp.zeros((*batch_shape, size), accumulator(w.dtype))


def lstm_zeros(batch_shape: tuple[int, ...], size: int, w: Array) -> LSTMState:
    """An `LSTMState` of zeros; two buffers, so that a state can be donated."""
    return LSTMState(zeros(batch_shape, size, w), zeros(batch_shape, size, w))
