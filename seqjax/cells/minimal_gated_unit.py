"""The minimal gated unit."""

from typing import Unpack

from seqjax.base import Array, Cell
from seqjax.cells.factory import GateOptions, GateWeights, from_gates, weighted
from seqjax.cells.sums import through_reset
from seqjax.records import maker


@maker
@weighted()
def minimal_gated_unit(input_size: int, hidden_size: int, **options: Unpack[GateOptions]) -> Cell[GateWeights, Array]:
    """A GRU whose one gate resets and updates: a third fewer parameters.

        u = σ(x W + h U + b)             n = tanh(x W + (u ⊙ h) U + b)
        h' = (1-u) ⊙ h + u ⊙ n           y = h'

    State and output h ``[*B, h]``; gate order u, n. The paper calls u f: what it lets in is new.

    Example:
      >>> import jax, seqjax as sj
      >>> sj.cells.minimal_gated_unit(3, 2).init(jax.random.key(0)).w_h.shape
      (2, 4)

    References:
      Zhou, Wu, Zhang and Zhou (2016), Minimal gated unit for RNNs. https://arxiv.org/abs/1603.09420
    """

    def step(params: GateWeights, h: Array, x: Array) -> tuple[Array, Array]:
        (a,), candidate = through_reset(params, h, x, 2, options["compute_dtype"])
        u = options["gate_activation"](a)
        h = (1 - u) * h + u * options["activation"](candidate(u))
        return h, h

    return from_gates("minimal_gated_unit", ("u", "n"), input_size, hidden_size, step, options)
