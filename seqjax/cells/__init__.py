"""Cells: one tick of a recurrence, ``state', y = step(params, state, x)``, written as its equation.

A cell is three functions. Take the gated recurrent unit, d = 3 numbers in, h = 4 units:

>>> import jax, jax.numpy as jnp
>>> from seqjax import cells
>>> cell = cells.gru(3, 4)
>>> cell
gru(3, 4)
>>> params = cell.init(jax.random.key(0))
>>> params.w_x.shape, params.w_h.shape, params.b.shape  # gates r, z, n side by side
((3, 12), (4, 12), (12,))
>>> state = cell.initial_state(params, (32,))  # any batch axes; zeros
>>> state, y = cell.step(params, state, jnp.ones((32, 3)))
>>> y.shape
(32, 4)

In order of reading:

1. `elman`: the simple network, and how a cell is written: gates' names, a step, `factory.from_gates`. Its sizes and the
   keywords of its weights are those of all cells: `WeightOptions`.
2. `pass_through` and `carousel`: a gate that copies the state, a state that is only added to. `minimal_gated_unit`.
3. `gated`: `gated_lstm` and `gated_gru`, the choices of the literature as options that combine, and their presets:
   `lstm`, `lstm_1997`, `peephole`, `coupled`, `projected`, `normalized`, `gru`. `unsquashed`: two of their relatives.

   >>> cells.gated_lstm(3, 4, peepholes="diagonal", coupled=True, normalise="layer", projection_size=2)
   gated_lstm(3, 4, coupled=True, peepholes='diagonal', normalise='layer', projection_size=2)

4. `multiplicative`: the input chooses the recurrent weights. `headwise`, `slstm`: block-diagonal ones, in heads.
   `reservoir`: fixed ones. `conv_lstm`: convolutions over pictures.
5. Linear in the state, so that engines need not wait for one tick to begin the next. Numbers, h' = a ⊙ h + b with a and
   b of the input alone (`channels`): `minimal_linear`, `lru`, `rglru`, `s5`, `selective`. Matrices, S' = a ⊙ S + k vᵀ
   (`memory`): `linear_attention`, `mlstm`, `delta_rule`; and one that is not linear, `m2rnn`.
6. `registry`: the one table of all cells, from which tests, README and commands are made.

To add a cell: a file such as minimal_gated_unit.py, its tick in NumPy in tests/reference/cells.py, an entry in the
registry. Cells that transform others (`stack`, `zoneout`) are in `seqjax.transforms`.
"""

from seqjax.cells.carousel import CarouselParams, carousel
from seqjax.cells.conv_lstm import ConvLSTMParams, conv_lstm
from seqjax.cells.coupled import CoupledLSTMParams, coupled_lstm
from seqjax.cells.delta_rule import DeltaRuleParams, delta_rule
from seqjax.cells.elman import ElmanParams, elman
from seqjax.cells.factory import GateWeights, WeightOptions
from seqjax.cells.gated import GatedGRUParams, GatedLSTMParams, gated_gru, gated_lstm
from seqjax.cells.gru import GRUParams, gru, swap_update_gate
from seqjax.cells.headwise import HeadwiseGRUParams, HeadwiseParams, headwise_elman, headwise_gru, headwise_lstm
from seqjax.cells.linear_attention import ChannelDecay, LinearAttentionParams, linear_attention
from seqjax.cells.lru import LRUParams, lru
from seqjax.cells.lstm import LSTMParams, lstm
from seqjax.cells.lstm_1997 import LSTM1997Params, lstm_1997
from seqjax.cells.m2rnn import M2RNNParams, m2rnn
from seqjax.cells.memory import HeadDecay
from seqjax.cells.minimal_gated_unit import minimal_gated_unit
from seqjax.cells.minimal_linear import InputGateParams, mingru, minlstm
from seqjax.cells.mlstm import MLSTMParams, MLSTMState, mlstm
from seqjax.cells.multiplicative import MultiplicativeParams, multiplicative_lstm, multiplicative_rnn
from seqjax.cells.normalized import (
    LayerNormElmanParams,
    LayerNormGRUParams,
    LayerNormLSTMParams,
    layer_norm_elman,
    layer_norm_gru,
    layer_norm_lstm,
)
from seqjax.cells.pass_through import PassThroughParams, pass_through
from seqjax.cells.peephole import PeepholeLSTMParams, peephole_lstm
from seqjax.cells.projected import ProjectedLSTMParams, projected_lstm
from seqjax.cells.reservoir import EchoStateParams, SparseEchoStateParams, echo_state, sparse_echo_state
from seqjax.cells.rglru import RGLRUParams, rglru
from seqjax.cells.s5 import S5Params, s5
from seqjax.cells.selective import SelectiveParams, selective_state_space
from seqjax.cells.slstm import SLSTMParams, SLSTMState, slstm
from seqjax.cells.states import LSTMState
from seqjax.cells.unsquashed import FiveEquationLSTMParams, ResetLSTMParams, five_equation_lstm, reset_lstm

__all__ = [
    "CarouselParams",
    "ChannelDecay",
    "ConvLSTMParams",
    "CoupledLSTMParams",
    "DeltaRuleParams",
    "EchoStateParams",
    "ElmanParams",
    "FiveEquationLSTMParams",
    "GRUParams",
    "GateWeights",
    "GatedGRUParams",
    "GatedLSTMParams",
    "HeadDecay",
    "HeadwiseGRUParams",
    "HeadwiseParams",
    "InputGateParams",
    "LRUParams",
    "LSTM1997Params",
    "LSTMParams",
    "LSTMState",
    "LayerNormElmanParams",
    "LayerNormGRUParams",
    "LayerNormLSTMParams",
    "LinearAttentionParams",
    "M2RNNParams",
    "MLSTMParams",
    "MLSTMState",
    "MultiplicativeParams",
    "PassThroughParams",
    "PeepholeLSTMParams",
    "ProjectedLSTMParams",
    "RGLRUParams",
    "ResetLSTMParams",
    "S5Params",
    "SLSTMParams",
    "SLSTMState",
    "SelectiveParams",
    "SparseEchoStateParams",
    "WeightOptions",
    "carousel",
    "conv_lstm",
    "coupled_lstm",
    "delta_rule",
    "echo_state",
    "elman",
    "five_equation_lstm",
    "gated_gru",
    "gated_lstm",
    "gru",
    "headwise_elman",
    "headwise_gru",
    "headwise_lstm",
    "layer_norm_elman",
    "layer_norm_gru",
    "layer_norm_lstm",
    "linear_attention",
    "lru",
    "lstm",
    "lstm_1997",
    "m2rnn",
    "mingru",
    "minimal_gated_unit",
    "minlstm",
    "mlstm",
    "multiplicative_lstm",
    "multiplicative_rnn",
    "pass_through",
    "peephole_lstm",
    "projected_lstm",
    "reset_lstm",
    "rglru",
    "s5",
    "selective_state_space",
    "slstm",
    "sparse_echo_state",
    "swap_update_gate",
]
