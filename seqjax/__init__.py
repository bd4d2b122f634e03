"""seqjax: recurrent sequence models in JAX. Write a recurrence once; run it every way that matters."""

from seqjax import automata, gradients, hmm, initializers, masks, models, reservoir, tasks
from seqjax.averaging import averaged, averaging
from seqjax.base import Cell, Layer, Noise, redraw
from seqjax.cells.carousel import CarouselParams, carousel
from seqjax.cells.coupled import CoupledLSTMParams, coupled_lstm
from seqjax.cells.elman import ElmanParams, elman
from seqjax.cells.gru import GRUParams, gru, swap_update_gate
from seqjax.cells.headwise import HeadwiseGRUParams, HeadwiseParams, headwise_elman, headwise_gru, headwise_lstm
from seqjax.cells.lstm import LSTMParams, lstm
from seqjax.cells.lstm_1997 import LSTM1997Params, lstm_1997
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
from seqjax.cells.slstm import SLSTMParams, SLSTMState, slstm
from seqjax.cells.states import LSTMState
from seqjax.cells.unsquashed import (
    FiveEquationLSTMParams,
    ResetLSTMParams,
    five_equation_lstm,
    reset_lstm,
)
from seqjax.chunks import over_chunks
from seqjax.decoding import (
    Decoded,
    Hypotheses,
    Rule,
    as_cell,
    beam_search,
    ensemble,
    forbid,
    free_run,
    no_repeat,
    sample,
    state_machine,
)
from seqjax.layers.attention import AttendParams, AttendState, Memory, attend
from seqjax.layers.bidirectional import BidirectionalParams, BidirectionalState, bidirectional
from seqjax.layers.compose import residual, serial
from seqjax.layers.conv import ConvParams, ConvState, causal_conv
from seqjax.layers.dense import DenseParams, dense, feed_forward
from seqjax.layers.dropout import dropout
from seqjax.layers.embedding import EmbeddingParams, TiedParams, embedding, tied_embedding
from seqjax.layers.norm import LayerNormParams, layer_norm
from seqjax.layers.pointwise import pointwise
from seqjax.layers.recurrent import recurrent
from seqjax.layers.weight_norm import WeightNormParams, weight_norm
from seqjax.losses import (
    Labels,
    Tally,
    bits_per_character,
    cross_entropy,
    ctc,
    mean_squared_error,
    multi_label_cross_entropy,
    norm_stabiliser,
    tally,
)
from seqjax.objectives import Batch, objective
from seqjax.products import dot, recurrent_input
from seqjax.records import maker
from seqjax.summary import Summary, summary
from seqjax.training import Metrics, TrainState, clip_by_global_norm, train_state, train_step
from seqjax.transforms.compose import stack
from seqjax.transforms.initial_states import (
    FirstBiasParams,
    FirstBiasState,
    LearnedInitialStateParams,
    first_bias,
    learned_initial_state,
    random_initial_state,
)
from seqjax.transforms.memoryless import memoryless
from seqjax.transforms.regularizers import recurrent_dropout, variational_dropout, weight_drop, zoneout
from seqjax.transforms.trajectory import perturbed, with_states, zero_perturbation
from seqjax.truncated import truncated, windows
from seqjax.unroll import explain, unroll

__version__ = "0.1.0"

__all__ = [
    "AttendParams",
    "AttendState",
    "Batch",
    "BidirectionalParams",
    "BidirectionalState",
    "CarouselParams",
    "Cell",
    "ConvParams",
    "ConvState",
    "CoupledLSTMParams",
    "Decoded",
    "DenseParams",
    "EchoStateParams",
    "ElmanParams",
    "EmbeddingParams",
    "FirstBiasParams",
    "FirstBiasState",
    "FiveEquationLSTMParams",
    "GRUParams",
    "HeadwiseGRUParams",
    "HeadwiseParams",
    "Hypotheses",
    "LSTM1997Params",
    "LSTMParams",
    "LSTMState",
    "Labels",
    "Layer",
    "LayerNormElmanParams",
    "LayerNormGRUParams",
    "LayerNormLSTMParams",
    "LayerNormParams",
    "LearnedInitialStateParams",
    "Memory",
    "Metrics",
    "MultiplicativeParams",
    "Noise",
    "PassThroughParams",
    "PeepholeLSTMParams",
    "ProjectedLSTMParams",
    "ResetLSTMParams",
    "Rule",
    "SLSTMParams",
    "SLSTMState",
    "SparseEchoStateParams",
    "Summary",
    "Tally",
    "TiedParams",
    "TrainState",
    "WeightNormParams",
    "as_cell",
    "attend",
    "automata",
    "averaged",
    "averaging",
    "beam_search",
    "bidirectional",
    "bits_per_character",
    "carousel",
    "causal_conv",
    "clip_by_global_norm",
    "coupled_lstm",
    "cross_entropy",
    "ctc",
    "dense",
    "dot",
    "dropout",
    "echo_state",
    "elman",
    "embedding",
    "ensemble",
    "explain",
    "feed_forward",
    "first_bias",
    "five_equation_lstm",
    "forbid",
    "free_run",
    "gradients",
    "gru",
    "headwise_elman",
    "headwise_gru",
    "headwise_lstm",
    "hmm",
    "initializers",
    "layer_norm",
    "layer_norm_elman",
    "layer_norm_gru",
    "layer_norm_lstm",
    "learned_initial_state",
    "lstm",
    "lstm_1997",
    "maker",
    "masks",
    "mean_squared_error",
    "memoryless",
    "models",
    "multi_label_cross_entropy",
    "multiplicative_lstm",
    "multiplicative_rnn",
    "no_repeat",
    "norm_stabiliser",
    "objective",
    "over_chunks",
    "pass_through",
    "peephole_lstm",
    "perturbed",
    "pointwise",
    "projected_lstm",
    "random_initial_state",
    "recurrent",
    "recurrent_dropout",
    "recurrent_input",
    "redraw",
    "reservoir",
    "reset_lstm",
    "residual",
    "sample",
    "serial",
    "slstm",
    "sparse_echo_state",
    "stack",
    "state_machine",
    "summary",
    "swap_update_gate",
    "tally",
    "tasks",
    "tied_embedding",
    "train_state",
    "train_step",
    "truncated",
    "unroll",
    "variational_dropout",
    "weight_drop",
    "weight_norm",
    "windows",
    "with_states",
    "zero_perturbation",
    "zoneout",
]
