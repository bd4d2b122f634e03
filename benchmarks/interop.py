"""Recurrent cells of nnx, Linen and Equinox: run by their own library's loop, and wrapped and run by ours.

python -m benchmarks.interop             # six shapes, LSTM and GRU
python -m benchmarks.interop --quick     # T 1,024, batch 8, 128 units alone

A training step: the mean of y² and its gradient by every parameter, float32, one device. Results are proven equal, then
timed in interleaved rounds.
"""

import argparse
import itertools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import flax.linen as nn
import jax
import numpy as np
from flax import nnx

import seqjax as sj
from benchmarks import report, timing
from benchmarks.record import Records

TOLERANCE = 1e-3  # of the largest number of an array: sums of many ticks in another order
COARSE = 3e-2  # where products are of TF32 or bfloat16


class Row(NamedTuple):
    """One library's cell, and a batch of sequences."""

    library: str
    cell: str
    ticks: int
    batch: int
    hidden_size: int


SHAPES = ((1024, 8, 128), (1024, 8, 64), (256, 32, 128), (256, 32, 256), (4096, 8, 128), (1024, 1, 128))
RUN = Callable[[Any, jax.Array], jax.Array]


def of_nnx(row: Row) -> tuple[Any, RUN, RUN]:
    """Parameters, ``nnx.RNN``, and the same cell wrapped."""
    kind = {"lstm": nnx.OptimizedLSTMCell, "gru": nnx.GRUCell}[row.cell]
    module = kind(row.hidden_size, row.hidden_size, rngs=nnx.Rngs(0))
    graph, params = nnx.split(module)
    theirs = lambda params, xs: nnx.RNN(nnx.merge(graph, params), time_major=True)(xs)
    return params, theirs, ours(sj.interop.from_nnx(module))


def of_linen(row: Row) -> tuple[Any, RUN, RUN]:
    """The same by ``nn.RNN``."""
    module = {"lstm": nn.OptimizedLSTMCell, "gru": nn.GRUCell}[row.cell](row.hidden_size)
    cell = sj.interop.from_linen(module, row.hidden_size)
    rnn = nn.RNN(module, time_major=True)
    theirs = lambda params, xs: rnn.apply({"params": {"cell": params}}, xs)
    return cell.init(jax.random.key(0)), theirs, ours(cell)


def of_equinox(row: Row) -> tuple[Any, RUN, RUN]:
    """The same by the scan that Equinox's documentation tells users to write."""
    kind = {"lstm": eqx.nn.LSTMCell, "gru": eqx.nn.GRUCell}[row.cell]
    module = kind(row.hidden_size, row.hidden_size, key=jax.random.key(0))
    cell = sj.interop.from_equinox(module)
    params = cell.init(jax.random.key(0))

    def theirs(params: Any, xs: jax.Array) -> jax.Array:
        def tick(state: Any, x: jax.Array) -> tuple[Any, jax.Array]:
            state = jax.vmap(eqx.combine(params, module))(x, state)
            return state, state[0] if row.cell == "lstm" else state

        return jax.lax.scan(tick, cell.initial_state(params, (row.batch,)), xs)[1]

    return params, theirs, ours(cell)


LIBRARIES = {"nnx": of_nnx, "linen": of_linen, "equinox": of_equinox}


def ours(cell: sj.Cell) -> RUN:
    """`seqjax.unroll` as it chooses itself."""
    return lambda params, xs: sj.unroll(cell, params, cell.initial_state(params, xs.shape[1:-1]), xs)[1]


def measure(row: Row, rounds: int, seconds: float) -> dict[str, Any]:
    """Proves both equal, then times them in turns."""
    params, *runs = LIBRARIES[row.library](row)
    xs = jax.random.normal(jax.random.key(1), (row.ticks, row.batch, row.hidden_size))
    calls = {}
    for name, run in zip(("theirs", "ours"), runs):
        step = jax.jit(jax.value_and_grad(lambda params, run=run: (run(params, xs) ** 2).mean()))
        program = step.lower(params).compile()
        calls[name] = lambda program=program: jax.block_until_ready(program(params))
    error = difference(calls["ours"](), calls["theirs"]())
    line: dict[str, Any] = row._asdict() | {"pass": "train", "dtype": "float32", "error": error}
    exact = jax.default_backend() == "cpu" or jax.config.jax_default_matmul_precision == "highest"
    if not error < (TOLERANCE if exact else COARSE):
        return line | {"skipped": f"differs by {error:.1e}"}
    taken = timing.interleave(calls, rounds=rounds, seconds=seconds)
    line["speed_up"] = taken["theirs"].median / taken["ours"].median
    return line | {name: report.times(times) for name, times in taken.items()}


def difference(found: Any, expected: Any) -> float:
    """The largest, relative to the largest number of its array."""
    pairs = zip(map(np.asarray, jax.tree.leaves(found)), map(np.asarray, jax.tree.leaves(expected)), strict=True)
    return max(float(np.abs(a - b).max() / (np.abs(b).max() or 1.0)) for a, b in pairs)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the first shape alone")
    parser.add_argument("--shape", type=int, nargs=3, action="append", metavar=("T", "B", "H"), help="another shape")
    parser.add_argument("--libraries", nargs="+", choices=LIBRARIES, default=list(LIBRARIES))
    parser.add_argument("--cells", nargs="+", choices=["lstm", "gru"], default=["lstm", "gru"])
    parser.add_argument("--rounds", type=int, default=15, help="how often each is timed at most (default: 15)")
    parser.add_argument("--seconds", type=float, default=30, help="no further round after so many (default: 30)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "interop.jsonl")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures; status 1 if any result was wrong."""
    chosen = parse(argv)
    records, wrong = Records(chosen.out), False
    for shape, library, cell in itertools.product(
        chosen.shape or SHAPES[: 1 if chosen.quick else None], chosen.libraries, chosen.cells
    ):
        line = measure(Row(library, cell, *shape), chosen.rounds, chosen.seconds)
        records.write(line)
        wrong |= "skipped" in line
        told = line.get("skipped") or (
            f"{line['theirs']['median_s'] * 1e3:.1f} ms theirs, {line['ours']['median_s'] * 1e3:.1f} ms ours, "
            f"{line['speed_up']:.2f} times as fast"
        )
        print(f"{library} {cell}, T {shape[0]:,}, batch {shape[1]}, {shape[2]} units: {told}", flush=True)
    print(chosen.out)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
