"""The recurrences that can be asked for by name."""

import functools
from typing import Literal

import jax

import seqjax as sj
from seqjax.models.body import MakeCell

CellName = Literal[
    "elman",
    "elman-relu",
    "irnn",
    "pass-through",
    "gru",
    "lstm",
    "peephole-lstm",
    "layer-norm-lstm",
    "multiplicative-lstm",
]

CELLS: dict[str, MakeCell] = {
    "elman": sj.elman,
    "elman-relu": functools.partial(sj.elman, activation=jax.nn.relu),
    "irnn": functools.partial(sj.elman, activation=jax.nn.relu, w_h_init=sj.initializers.identity()),
    "pass-through": sj.pass_through,
    "gru": sj.gru,
    "lstm": sj.lstm,
    "peephole-lstm": sj.peephole_lstm,
    "layer-norm-lstm": sj.layer_norm_lstm,
    "multiplicative-lstm": sj.multiplicative_lstm,
}
