"""States that several families of cells share."""

from typing import NamedTuple

from seqjax.base import Array


class LSTMState(NamedTuple):
    """Hidden state ``h [*B, h]`` and cell state ``c [*B, h]``."""

    h: Array
    c: Array
