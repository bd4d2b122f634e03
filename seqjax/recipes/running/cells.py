"""The recurrences that can be asked for by name, blocks around them, and what stands beside them."""

import functools
import inspect
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import seqjax as sj
from seqjax import models
from seqjax.cells.registry import COMMANDS
from seqjax.models.body import MakeCell
from seqjax.models.deep_blocks import MakeBlock
from seqjax.recipes.running.options import check_left_out

UNITS = 64  # of a head whose state is a matrix: a tick costs as many operations a unit


def heads_of(size: int) -> int:
    """The divisor of ``size`` that makes heads of about 64 units.

    >>> [heads_of(size) for size in (16, 64, 200, 256)]
    [1, 1, 4, 4]
    """
    return min((n for n in range(1, size + 1) if size % n == 0), key=lambda n: abs(size / n - UNITS))


def in_heads(name: str) -> MakeCell:
    """The cell of that name, in heads of about 64 units if its state is a matrix.

    >>> in_heads("gated-delta-rule")(32, 256)
    delta_rule(32, 256, heads=4, gated=True, beta=2.0)
    """
    make: Callable[..., sj.Cell] = COMMANDS[name]
    if "key_size" not in inspect.signature(make).parameters:
        return make

    def made(input_size: int, hidden_size: int) -> sj.Cell:
        return make(input_size, hidden_size, heads=heads_of(hidden_size))

    made.__name__ = name.replace("-", "_")
    return made


# Every cell of the registry that sizes alone make; a command's ``--cell`` is one of these names.
CELLS: dict[str, MakeCell] = {name: in_heads(name) for name in COMMANDS}
if TYPE_CHECKING:
    CellName = str
else:
    CellName = Literal[tuple(CELLS)]

# Blocks around a cell by name.
BLOCKS: dict[str, Callable[..., sj.Layer]] = {
    "griffin": models.griffin_block,
    "mamba": models.mamba_block,
    "minimal": models.minimal_block,
    "xlstm": models.xlstm_block,
    "s5": models.s5_block,
}
BlockName = Literal["none", "griffin", "mamba", "minimal", "xlstm", "s5", "attention"]
MULTIPLES = {"xlstm": 2, "attention": 8}  # of what the size of these blocks must be, with four heads


def check_block(who: str, options: Any) -> None:
    """Refuses a cell beside attention, and a size that the block cannot divide."""
    if options.block == "attention":
        check_left_out(who, options, "--block attention", "cell")
    multiple = MULTIPLES.get(options.block, 1)
    if options.hidden_size % multiple:
        raise ValueError(
            f"{who}: expected --hidden-size to be a multiple of {multiple} with --block {options.block}, got "
            f"{options.hidden_size}. Change it."
        )


def block_of(name: BlockName, cell: str) -> MakeBlock:
    """The block around a cell; the one of attention has none.

    >>> block_of("griffin", "gru")(4)
    griffin_block(4, cell=gru)
    """
    return models.attention_block if name == "attention" else functools.partial(BLOCKS[name], cell=CELLS[cell])


def convolutions(input_size: int, channels: int, *, ticks: int, dropout: float = 0.0) -> sj.Layer:
    """A temporal convolutional network of seven taps with as many blocks as it takes to see so many ticks.

    >>> layer = convolutions(1, 4, ticks=784)  # 7 blocks see 1,525
    """
    blocks = next(n for n in itertools.count(1) if models.receptive_field(n) >= ticks)
    return models.temporal_convolution(input_size, [channels] * blocks, dropout=dropout)
