"""Every cell of the package and thirty odd steps beside `jax.lax.scan` of the same step: is any shape slower?

python -m benchmarks.sweep                  # all, some 7 minutes on two cores
python -m benchmarks.sweep register lstm    # those whose names hold one of these
python -m benchmarks.sweep --ticks 1000 --batch 1 --units 32   # of other sizes, cells alone

One device, float32, the forward pass and value with gradient in everything that has one. Results must agree first;
then rounds are interleaved, and the median of their ratios is told.
"""

import argparse
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import seqjax as sj
from benchmarks import record
from benchmarks.memory import of_compiled
from benchmarks.sweep_steps import cell_of, odd_steps
from benchmarks.timing import interleave
from seqjax.cells.registry import REGISTRY

RESULTS = record.ROOT / "benchmarks" / "results" / "sweep.jsonl"
INPUTS = 16
FAR = 2e-3  # of the largest number of a leaf, in float32 over 512 ticks


class Sizes(NamedTuple):
    """T, B and h."""

    ticks: int = 512
    batch: int = 8
    units: int = 64


USUAL = Sizes()


class Row(NamedTuple):
    """A recurrence and what it is run on."""

    cell: sj.Cell
    params: Any
    state: Any
    xs: Any


def cells(sizes: Sizes = USUAL) -> dict[str, Callable[[], Row]]:
    """The registry's; if nothing else is asked for, at sizes that people start with."""

    def row(entry: Any) -> Row:
        inputs = INPUTS if entry.input_size == 3 else sizes.units
        cell = entry.sized(inputs, sizes.units)
        params = floats32(cell.init(jax.random.key(0)))
        shape = (*entry.sizes.get("shape", ()), inputs)
        xs = jax.random.normal(jax.random.key(1), (sizes.ticks, sizes.batch, *shape))
        return Row(cell, params, floats32(cell.initial_state(params, (sizes.batch,))), xs)

    return {name: functools.partial(row, entry) for name, entry in REGISTRY.items()}


def odd() -> dict[str, Callable[[], Row]]:
    """The odd steps."""

    def row(name: str) -> Row:
        made = odd_steps()[name]
        noise = jax.random.normal(jax.random.key(1), (USUAL.ticks, *made.x.shape))
        return Row(cell_of(made), made.params, made.state, noise)

    return {name: functools.partial(row, name) for name in odd_steps()}


def floats32(tree: Any) -> Any:
    """As a training has them."""
    return jax.tree.map(lambda v: v.astype(jnp.float32) if v.dtype == jnp.float64 else v, tree)


def programs(row: Row) -> "dict[str, dict[str, Program]]":
    """Forwards and with the gradient, each plain and by `seqjax.unroll`."""
    moving, tree = jax.tree.flatten((row.params, row.state, row.xs))
    varied = [i for i, v in enumerate(moving) if is_float(v)]

    def plain(params: Any, state: Any, xs: Any) -> Any:
        return lax.scan(lambda s, x: row.cell.step(params, s, x), state, xs)

    def ours(params: Any, state: Any, xs: Any) -> Any:
        return sj.unroll(row.cell, params, state, xs)

    def loss(run: Callable, some: list) -> jax.Array:
        full = list(moving)
        for i, value in zip(varied, some):
            full[i] = value
        leaves = [v for v in jax.tree.leaves(run(*tree.unflatten(full))) if is_float(v)]
        return sum(jnp.vdot(v, jnp.cos(jnp.arange(v.size, dtype=jnp.float32)).reshape(v.shape)).real for v in leaves)

    some = [moving[i] for i in varied]
    runs = {"scan": plain, "auto": ours}
    training = {n: jax.value_and_grad(functools.partial(loss, f)) for n, f in runs.items()}
    return {
        "forward": {n: compiled(f, *tree.unflatten(moving)) for n, f in runs.items()},
        "training": {n: compiled(f, some) for n, f in training.items()},
    }


class Program(NamedTuple):
    """A compiled program for its arguments, and its temporaries."""

    call: Callable[[], Any]
    bytes: int | None


def compiled(f: Callable, *args: Any) -> Program:
    """``f`` for these arguments."""
    program = jax.jit(f).lower(*args).compile()
    used = of_compiled(program, 1)
    return Program(lambda: jax.block_until_ready(program(*args)), used and used.temporaries)


def apart(a: Any, b: Any) -> float:
    """How far results differ, as a part of the largest number of a leaf."""
    pairs = [(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True) if is_float(x)]
    return max(float(jnp.abs(x - y).max() / jnp.maximum(jnp.abs(x).max(), 1e-6)) for x, y in pairs)


def is_float(x: jax.Array) -> bool:
    """Whether a leaf has a tangent."""
    return jnp.issubdtype(x.dtype, jnp.inexact)


def measure(name: str, row: Row, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Two lines, forward and training."""
    lines = []
    for kind, both in programs(row).items():
        calls = {n: program.call for n, program in both.items()}
        far = apart(calls["scan"](), calls["auto"]())
        if not far < FAR:
            print(f"{name}, {kind}: not timed, differs from scan by {far:.1g}", file=sys.stderr, flush=True)
            continue
        timed = interleave(calls, rounds=rounds, seconds=seconds, least=5, settle=0.0)
        ratios = np.array(timed["auto"].seconds) / np.array(timed["scan"].seconds)
        lines.append(
            {
                "step": name,
                "kind": kind,
                "times_scan": round(float(np.median(ratios)), 3),  # within rounds, as machines drift
                "spread": [round(float(q), 3) for q in np.quantile(ratios, [0.25, 0.75])],
                "scan_ms": round(1e3 * timed["scan"].median, 3),
                "bytes": {n: program.bytes for n, program in both.items()},
            }
        )
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and tells, the slowest last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="TEXT", help="only steps whose name holds one of these")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--seconds", type=float, default=1.5, help="of a row, after which no round starts (1.5)")
    parser.add_argument("--results", default=str(RESULTS), metavar="FILE", help="JSON lines are added to it")
    for name, size in USUAL._asdict().items():
        parser.add_argument(f"--{name}", type=int, default=size, metavar="N", help=f"({size})")
    chosen = parser.parse_args(argv)
    sizes = Sizes(chosen.ticks, chosen.batch, chosen.units)
    rows = {**(odd() if sizes == USUAL else {}), **cells(sizes)}
    rows = {n: r for n, r in rows.items() if not chosen.names or any(text in n for text in chosen.names)}
    if not rows:
        parser.error(f"expected parts of names of steps, got {' '.join(chosen.names)!r}. Try 'lstm'.")
    records, lines = record.Records(Path(chosen.results)), []
    for name, make in rows.items():
        for line in measure(name, make(), chosen.rounds, chosen.seconds):
            records.write(line | ({} if sizes == USUAL else sizes._asdict()))
            lines.append(line)
            print(told(line), file=sys.stderr, flush=True)
    print("\n".join(told(line) for line in sorted(lines, key=lambda line: line["times_scan"])))
    return 0


def told(line: dict[str, Any]) -> str:
    """A line for people."""
    low, high = line["spread"]
    scan, auto = ((line["bytes"][n] or 0) / 1e6 for n in ("scan", "auto"))
    return (
        f"{line['times_scan']:6.2f} ({low:.2f} to {high:.2f}) × scan's {line['scan_ms']:8.2f} ms, "
        f"{auto:8.2f} MB for {scan:8.2f}: {line['step']}, {line['kind']}"
    )


if __name__ == "__main__":
    sys.exit(main())
