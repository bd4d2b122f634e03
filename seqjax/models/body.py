"""What most models have in the middle: recurrent layers with dropout between them."""

from seqjax import checks
from seqjax.base import Layer
from seqjax.cells.lstm import lstm
from seqjax.engines.plan import EngineName
from seqjax.layers.blocks import MakeCell as MakeCell
from seqjax.layers.compose import serial
from seqjax.layers.directions import bidirectional
from seqjax.layers.noise import dropout
from seqjax.layers.recurrence import recurrent
from seqjax.records import maker


@maker
def deep(
    input_size: int,
    hidden_size: int,
    *,
    cell: MakeCell = lstm,
    layers: int = 1,
    both_ways: bool = False,
    rate: float = 0.0,
    engine: EngineName = "auto",
    memory: str | int = "auto",
) -> Layer:
    """Recurrent layers on top of each other, with dropout before each and behind the last.

        h^0 = x      h^l = recurrent(dropout(h^{l-1}))      y = dropout(h^L)

    Dropout never touches what goes from tick to tick (Zaremba et al. 2014); rate 0 leaves it out.

    Args:
      input_size: d.
      hidden_size: h, units a layer and direction.
      cell: ``(input_size, hidden_size) -> Cell`` whose output has size h, such as `seqjax.gru`.
      layers: L.
      both_ways: read in both directions; the output has size 2h.
      rate: probability of dropping.
      engine: as in `seqjax.unroll`.
      memory: as in `seqjax.unroll`.

    Returns:
      A layer ``[T, *B, d]`` to ``[T, *B, h]`` (2h in both directions).

    Raises:
      ValueError: a size below 1 or a rate outside [0, 1).

    Example:
      >>> import seqjax as sj
      >>> sj.models.deep(3, 4, cell=sj.gru, layers=2, both_ways=True, rate=0.5).name
      'deep'

    References:
      Zaremba, Sutskever and Vinyals (2014), Recurrent neural network regularization.
      https://arxiv.org/abs/1409.2329
    """
    checks.sizes("deep", input_size=input_size, hidden_size=hidden_size, layers=layers)
    checks.rate("deep", rate)
    drop = [dropout(rate)] if rate else []
    parts: list[Layer] = []
    for size in [input_size] + [hidden_size * (1 + both_ways)] * (layers - 1):
        if both_ways:
            read = bidirectional(cell(size, hidden_size), cell(size, hidden_size), engine=engine, memory=memory)
        else:
            read = recurrent(cell(size, hidden_size), engine=engine, memory=memory)
        parts += [*drop, read]
    return serial(*parts, *drop)
