"""What the gradient of a cell stacks along time, beside the least that its equations need.

python -m benchmarks.kept    # the table of docs/performance.md

In numbers a tick, sequence and unit: *kept* by the forward loop for the backward one, and *ε*, the cotangents that the
backward loop hands on to the products behind it. The least of both is counted by hand: every result of a product in a
loop, or a pointwise function of it as large, and every state; of ε every sum that a weight or an input enters. Whatever
a pointwise equation gives back, a transcendental one too, is not needed.
"""

from typing import NamedTuple

import jax

from seqjax.cells.registry import REGISTRY
from seqjax.engines.equations import jaxprs
from seqjax.engines.split.engine import Split
from seqjax.engines.split.linearize import moving_operands
from seqjax.unroll import checked

TICKS, BATCH, UNITS = 32, 4, 64


class Least(NamedTuple):
    """Numbers a unit, and of what."""

    kept: int
    epsilon: int
    why: str


LEAST = {
    "elman": Least(1, 1, "h; z̄"),
    "lstm": Least(6, 4, "i, f, g, o, c, h; tanh c is a function of c"),
    "peephole_lstm": Least(6, 4, "as the LSTM"),
    "gru": Least(5, 4, "r, z, n, h, and h U of the candidate, which r multiplies: it has a sum of its own"),
    "gru_before": Least(4, 3, "r, z, n, h"),
    "minimal_gated_unit": Least(3, 2, "f, n, h"),
    "layer_norm_lstm": Least(10, 4, "i, f, g, o, their four normed sums, c, h"),
    "layer_norm_gru": Least(7, 3, "r, z, n, their three normed sums, h"),
    "multiplicative_lstm": Least(6, 4, "i, f, g, o, c, h; the product is small here, 5 of 64 units"),
    "slstm": Least(8, 4, "four gates as sums, c, n, m, h; their exponentials are functions of them"),
}


class Found(NamedTuple):
    """Numbers a tick, sequence and unit that a cell's gradient stacks."""

    kept: float
    epsilon: float


def found(name: str) -> Found:
    """Of the split engine, all activations kept, all weights and inputs moving."""
    cell = REGISTRY[name].sized(UNITS, UNITS)
    params = jax.eval_shape(cell.init, jax.random.key(0))
    state = jax.eval_shape(lambda params: cell.initial_state(params, (BATCH,)), params)
    xs = jax.ShapeDtypeStruct((TICKS, BATCH, UNITS), jax.tree.leaves(params)[0].dtype)
    given: list[Split] = []
    jax.eval_shape(lambda *values: given.append(Split(checked(cell, *values))), params, state, xs)
    unit = BATCH * UNITS * xs.dtype.itemsize
    loops = [placed.loop for part in given[0].parts for placed in part.loops]
    roots = {v for loop in loops for v in moving_operands(loop, [*loop.invariant, *loop.x]).roots}
    return Found(given[0].costs().all / unit, sum(jaxprs.nbytes(v.aval) for v in roots) / unit)


def table() -> str:
    """In Markdown."""
    rows = ["| cell | kept | least | ε | least | of what |", "|---|---|---|---|---|---|"]
    for name, least in LEAST.items():
        kept, epsilon = found(name)
        rows.append(f"| `{name}` | {kept:.3g} | {least.kept} | {epsilon:.3g} | {least.epsilon} | {least.why} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
