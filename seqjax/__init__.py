"""seqjax: recurrent sequence models in JAX. Write a recurrence once; run it every way that matters."""

from seqjax import initializers, masks
from seqjax.base import Cell, Layer, Noise, redraw
from seqjax.cells.elman import ElmanParams, elman
from seqjax.cells.gru import GRUParams, gru, swap_update_gate
from seqjax.cells.lstm import LSTMParams, lstm
from seqjax.cells.normalized import LayerNormLSTMParams, layer_norm_lstm
from seqjax.cells.states import LSTMState
from seqjax.products import dot, recurrent_input
from seqjax.transforms import stack, zoneout
from seqjax.unroll import unroll

__version__ = "0.1.0"

__all__ = [
    "Cell",
    "ElmanParams",
    "GRUParams",
    "LSTMParams",
    "LSTMState",
    "Layer",
    "LayerNormLSTMParams",
    "Noise",
    "dot",
    "elman",
    "gru",
    "initializers",
    "layer_norm_lstm",
    "lstm",
    "masks",
    "recurrent_input",
    "redraw",
    "stack",
    "swap_update_gate",
    "unroll",
    "zoneout",
]
