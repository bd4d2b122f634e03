"""seqjax: recurrent sequence models in JAX. Write a recurrence once; run it every way that matters.

What one types first is here, in six groups; everything else is in its room: ``seqjax.cells.LSTMParams``,
``seqjax.tasks.copy_memory``, ``seqjax.gradients.flow``. Each room's page, ``help(seqjax.gradients)``, says what is in
it, in order of reading.
"""

from seqjax import leaving as leaving  # first: Ctrl-C while the rest is imported

# isort: split
import importlib
from typing import TYPE_CHECKING, Any

from seqjax import (
    automata,
    cells,
    curvature,
    decoding,
    gradients,
    hmm,
    initializers,
    interop,
    layers,
    losses,
    masks,
    models,
    products,
    reservoir,
    tasks,
    training,
    transforms,
)
from seqjax.average import averaged, averaging
from seqjax.base import Cell, Layer, Noise, redraw
from seqjax.cells import (
    carousel,
    coupled_lstm,
    echo_state,
    elman,
    five_equation_lstm,
    gru,
    headwise_elman,
    headwise_gru,
    headwise_lstm,
    layer_norm_elman,
    layer_norm_gru,
    layer_norm_lstm,
    lstm,
    lstm_1997,
    multiplicative_lstm,
    multiplicative_rnn,
    pass_through,
    peephole_lstm,
    projected_lstm,
    reset_lstm,
    slstm,
    sparse_echo_state,
)
from seqjax.chunks import over_chunks
from seqjax.clipping import clip_by_global_norm
from seqjax.decoding import (
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
from seqjax.fixing import fixed
from seqjax.layers import (
    bidirectional,
    causal_conv,
    dense,
    dropout,
    embedding,
    feed_forward,
    layer_norm,
    pointwise,
    recurrent,
    residual,
    serial,
    tied_embedding,
    weight_norm,
)
from seqjax.losses import (
    Labels,
    Tally,
    bits_per_character,
    cross_entropy,
    ctc,
    mean_squared_error,
    multi_label_cross_entropy,
    tally,
)
from seqjax.nonfinite import first_nonfinite
from seqjax.objectives import Batch, objective
from seqjax.precision import mixed_precision
from seqjax.records import maker
from seqjax.saving import load, save
from seqjax.serialized import register
from seqjax.sessions import Sessions
from seqjax.settings import Settings, tuned
from seqjax.summaries import Summary, summary
from seqjax.training import Metrics, TrainState, train_state, train_step
from seqjax.transforms import (
    learned_initial_state,
    memoryless,
    random_initial_state,
    recurrent_dropout,
    stack,
    variational_dropout,
    weight_drop,
    zoneout,
)
from seqjax.truncation import truncated, windows
from seqjax.tuning import tune
from seqjax.unroll import explain, unroll
from seqjax.version import __version__ as __version__

register()

# Recurrences and how they run.
__all__ = [
    "Cell",
    "Layer",
    "Noise",
    "Sessions",
    "Settings",
    "Summary",
    "explain",
    "load",
    "maker",
    "mixed_precision",
    "redraw",
    "save",
    "summary",
    "tune",
    "tuned",
    "unroll",
]
# Cells.
__all__ += [
    "carousel",
    "coupled_lstm",
    "echo_state",
    "elman",
    "five_equation_lstm",
    "gru",
    "headwise_elman",
    "headwise_gru",
    "headwise_lstm",
    "layer_norm_elman",
    "layer_norm_gru",
    "layer_norm_lstm",
    "lstm",
    "lstm_1997",
    "multiplicative_lstm",
    "multiplicative_rnn",
    "pass_through",
    "peephole_lstm",
    "projected_lstm",
    "reset_lstm",
    "slstm",
    "sparse_echo_state",
]
# Cells made from cells.
__all__ += [
    "learned_initial_state",
    "memoryless",
    "random_initial_state",
    "recurrent_dropout",
    "stack",
    "variational_dropout",
    "weight_drop",
    "zoneout",
]
# Layers.
__all__ += [
    "bidirectional",
    "causal_conv",
    "dense",
    "dropout",
    "embedding",
    "feed_forward",
    "layer_norm",
    "pointwise",
    "recurrent",
    "residual",
    "serial",
    "tied_embedding",
    "weight_norm",
]
# Learning.
__all__ += [
    "Batch",
    "Labels",
    "Metrics",
    "Tally",
    "TrainState",
    "averaged",
    "averaging",
    "bits_per_character",
    "clip_by_global_norm",
    "cross_entropy",
    "ctc",
    "first_nonfinite",
    "fixed",
    "mean_squared_error",
    "multi_label_cross_entropy",
    "objective",
    "over_chunks",
    "tally",
    "train_state",
    "train_step",
    "truncated",
    "windows",
]
# Decoding.
__all__ += [
    "Rule",
    "as_cell",
    "beam_search",
    "ensemble",
    "forbid",
    "free_run",
    "no_repeat",
    "sample",
    "state_machine",
]
# Rooms.
__all__ += [
    "automata",
    "cells",
    "curvature",
    "decoding",
    "gradients",
    "hmm",
    "initializers",
    "interop",
    "layers",
    "losses",
    "masks",
    "models",
    "products",
    "reservoir",
    "tasks",
    "training",
    "transforms",
]


def __dir__() -> list[str]:
    """What completion offers: the names above."""
    return [*__all__, "__version__"]


# Where to find what was once at the top. It is still reached there, and no longer listed.
_ELSEWHERE = {
    "cells": "CarouselParams CoupledLSTMParams EchoStateParams ElmanParams FiveEquationLSTMParams GRUParams "
    "HeadwiseGRUParams HeadwiseParams LSTM1997Params LSTMParams LSTMState LayerNormElmanParams "
    "LayerNormGRUParams LayerNormLSTMParams MultiplicativeParams PassThroughParams PeepholeLSTMParams "
    "ProjectedLSTMParams ResetLSTMParams SLSTMParams SLSTMState SparseEchoStateParams swap_update_gate",
    "decoding": "Decoded Hypotheses",
    "layers": "AttendParams AttendState BidirectionalParams BidirectionalState ConvParams ConvState DenseParams "
    "EmbeddingParams LayerNormParams Memory TiedParams WeightNormParams attend",
    "losses": "norm_stabiliser",
    "products": "dot recurrent_input",
    "transforms": "FirstBiasParams FirstBiasState LearnedInitialStateParams first_bias perturbed with_states "
    "zero_perturbation",
}

if not TYPE_CHECKING:  # so that a type checker still knows a misspelt name

    def __getattr__(name: str) -> Any:
        """What was once at the top, from its room."""
        for room, names in _ELSEWHERE.items():
            if name in names.split():
                return getattr(importlib.import_module(f"seqjax.{room}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
