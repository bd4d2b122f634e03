"""The recurrences that can be asked for by name, and the convolutional network that stands beside them."""

import itertools
from typing import TYPE_CHECKING, Literal

import seqjax as sj
from seqjax import models
from seqjax.cells.registry import COMMANDS
from seqjax.models.body import MakeCell

# Every cell of the registry that sizes alone make; a command's ``--cell`` is one of these names.
CELLS: dict[str, MakeCell] = dict(COMMANDS)
if TYPE_CHECKING:
    CellName = str
else:
    CellName = Literal[tuple(CELLS)]


def convolutions(input_size: int, channels: int, *, ticks: int, dropout: float = 0.0) -> sj.Layer:
    """A temporal convolutional network of seven taps with as many blocks as it takes to see so many ticks.

    >>> layer = convolutions(1, 4, ticks=784)  # 7 blocks see 1,525
    """
    blocks = next(n for n in itertools.count(1) if models.receptive_field(n) >= ticks)
    return models.temporal_convolution(input_size, [channels] * blocks, dropout=dropout)
