"""The recurrences that can be asked for by name, and the convolutional network that stands beside them."""

import functools
import itertools
from typing import Literal

import jax

import seqjax as sj
from seqjax import models
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


def convolutions(input_size: int, channels: int, *, ticks: int, dropout: float = 0.0) -> sj.Layer:
    """A temporal convolutional network of seven taps with as many blocks as it takes to see so many ticks.

    >>> layer = convolutions(1, 4, ticks=784)  # 7 blocks see 1,525
    """
    blocks = next(n for n in itertools.count(1) if models.receptive_field(n) >= ticks)
    return models.temporal_convolution(input_size, [channels] * blocks, dropout=dropout)
