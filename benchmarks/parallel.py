"""Linear recurrences beside the scan of the same textbook step: time, temporaries, what is kept, time to compile.

Steps of their bare recurrence, so that nothing else is timed: ``h' = a ⊙ h + b`` and ``S' = a S + k vᵀ, y = qᵀ S'``,
with a decay of a number a head or a channel, and the delta rule. A training step: the gradient in all inputs of a
weighted sum of the outputs. Before anything is timed, every gradient must agree with the scan's.
`python -m benchmarks.parallel --help`
"""

import argparse
import functools
import importlib.util
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import seqjax as sj
from benchmarks.memory import of_compiled
from benchmarks.record import Records
from benchmarks.timing import interleave

FEW = 1024  # ticks of which a state each fits into memory
FAR = 1e-4  # relative to the largest entry of a gradient


class Row(NamedTuple):
    """What is measured: a step, T ticks, a batch of B; a matrix has four heads of ``units`` × ``units``."""

    step: str
    length: int
    batch: int
    units: int

    @property
    def heads(self) -> tuple[int, ...]:
        """The axes between batch and units."""
        return () if self.step == "diagonal" else (4,)


def read(q: jax.Array, s: jax.Array) -> jax.Array:
    """qᵀ S of every head."""
    return jnp.einsum("...k,...kv->...v", q, s)


def outer(k: jax.Array, v: jax.Array) -> jax.Array:
    """k vᵀ of every head."""
    return k[..., :, None] * v[..., None, :]


def diagonal(params: tuple, h: jax.Array, x: dict) -> tuple[jax.Array, jax.Array]:
    """``h' = a ⊙ h + b``."""
    h = x["a"] * h + x["b"]
    return h, h


def head(params: tuple, s: jax.Array, x: dict) -> tuple[jax.Array, jax.Array]:
    """``S' = a S + k vᵀ``."""
    s = x["a"][..., None, None] * s + outer(x["k"], x["v"])
    return s, read(x["q"], s)


def channel(params: tuple, s: jax.Array, x: dict) -> tuple[jax.Array, jax.Array]:
    """The same, a decay for every row."""
    s = x["a"][..., :, None] * s + outer(x["k"], x["v"])
    return s, read(x["q"], s)


def delta(params: tuple, s: jax.Array, x: dict) -> tuple[jax.Array, jax.Array]:
    """``S' = S + b k (vᵀ - kᵀ S)``."""
    s = s + x["a"][..., None, None] * outer(x["k"], x["v"] - read(x["k"], s))
    return s, read(x["q"], s)


STEPS: dict[str, Callable] = {"diagonal": diagonal, "head": head, "channel": channel, "delta": delta}


def inputs(row: Row) -> dict[str, jax.Array]:
    """Drawn; keys of length 1, decays around .95."""
    keys = jax.random.split(jax.random.key(0), 4)
    lead = (row.length, row.batch, *row.heads)
    wide = (*lead, row.units)
    a = jax.nn.sigmoid(3 + jax.random.normal(keys[0], wide if row.step in ("diagonal", "channel") else lead))
    if row.step == "diagonal":
        return {"a": a, "b": jax.random.normal(keys[1], wide)}
    q, k, v = (jax.random.normal(key, wide) for key in keys[1:])
    return {"a": a, "q": q / 8, "k": k / jnp.linalg.norm(k, axis=-1, keepdims=True), "v": v}


def state(row: Row) -> jax.Array:
    """Zeros."""
    return jnp.zeros((row.batch, *row.heads, row.units, *((row.units,) if row.heads else ())))


def least_bytes(row: Row) -> int:
    """Of a matrix: q, k, v, y and their cotangents, and a state every 64 ticks."""
    numbers = row.batch * math.prod(row.heads) * row.units
    return 4 * (8 * row.length * numbers + -(-row.length // 64) * numbers * row.units)


Run = Callable[[jax.Array, dict], jax.Array]


def plain(row: Row) -> Run:
    """`jax.lax.scan` of the step."""
    return lambda first, xs: lax.scan(lambda s, x: STEPS[row.step]((), s, x), first, xs)[1]


def ours(row: Row, memory: str, engine: str = "auto") -> Run:
    """`seqjax.unroll`."""
    cell = sj.Cell(lambda key: (), lambda params, batch_shape=(), *, key=None: state(row), STEPS[row.step])
    return lambda first, xs: sj.unroll(cell, (), first, xs, engine=engine, memory=memory)[1]


def associative(row: Row) -> Run:
    """`jax.lax.associative_scan`, differentiated by JAX, as it is written by hand."""

    def join(early: tuple, late: tuple) -> tuple:
        return late[0] * early[0], late[0] * early[1] + late[1]

    def run(first: jax.Array, xs: dict) -> jax.Array:
        a, b = lax.associative_scan(join, (xs["a"], xs["b"]))
        return a * first + b

    return run


def memax(row: Row) -> Run:
    """memax's scan over a semigroup, which is how its models run: a matrix is a state a tick there."""
    from memax.equinox.scans import semigroup_scan

    def join(early: tuple, late: tuple) -> tuple:
        return late[0] * early[0], late[0] * early[1] + late[1]

    def run(first: jax.Array, xs: dict) -> jax.Array:
        a, b = (xs["a"], xs["b"]) if row.step == "diagonal" else (xs["a"][..., None, None], outer(xs["k"], xs["v"]))
        states = semigroup_scan(join, (jnp.ones_like(a[0]), first), (a, b))[1]
        return states if row.step == "diagonal" else read(xs["q"], states)

    return run


def contenders(row: Row) -> dict[str, Run]:
    """By name, the scan first."""
    found = {"lax.scan": plain(row), "ours": ours(row, "auto")}
    short = row.step == "diagonal" or (row.step == "head" and row.length <= FEW)
    if short and importlib.util.find_spec("memax") is not None:
        found["memax"] = memax(row)
    if row.step == "diagonal":
        return {**found, "associative_scan": associative(row)}
    return {**found, "ours, sqrt": ours(row, "sqrt")}


def program(row: Row, run: Run) -> Any:
    """The gradient in all inputs, to be compiled."""

    def loss(xs: dict, first: jax.Array) -> jax.Array:
        ys = run(first, xs)
        return jnp.sum(ys * jnp.cos(jnp.arange(ys.shape[-1], dtype=ys.dtype)))

    return jax.jit(jax.grad(loss))


def far(found: dict, expected: dict) -> float:
    """The largest difference of any gradient, by its largest entry."""
    pairs = [(np.asarray(found[name]), np.asarray(expected[name])) for name in expected]
    return max(float(np.abs(x - y).max() / max(np.abs(y).max(), 1e-30)) for x, y in pairs)


def kept(row: Row, run: Run, xs: dict) -> int:
    """Bytes of what a gradient keeps."""
    first = state(row)
    residuals = jax.eval_shape(lambda xs: jax.vjp(functools.partial(run, first), xs)[1], xs)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(residuals))


def measure(row: Row, rounds: int, seconds: float, *, timed: bool = True) -> list[dict[str, Any]]:
    """A row of results for every contender."""
    xs, first = inputs(row), state(row)
    found, compiled, answers = [], {}, {}
    for name, run in contenders(row).items():
        began = time.perf_counter()
        compiled[name] = program(row, run).lower(xs, first).compile()
        taken = time.perf_counter() - began
        bytes_of = of_compiled(compiled[name], 1)
        found.append(
            {
                **row._asdict(),
                "candidate": name,
                "compile": taken,
                "temporaries": None if bytes_of is None else bytes_of.temporaries,
                "least": least_bytes(row) if row.heads else None,
                "kept": kept(row, run, xs),
            }
        )
        if timed:
            answers[name] = compiled[name](xs, first)
            found[-1]["error"] = far(answers[name], answers["lax.scan"])
            if not found[-1]["error"] < FAR:
                raise ValueError(
                    f"{name}: expected the gradients of a scan within {FAR}, got {found[-1]['error']:.1e}. "
                    "Nothing is timed."
                )
    if timed:
        calls = {
            name: functools.partial(lambda call: jax.block_until_ready(call(xs, first)), call)
            for name, call in compiled.items()
        }
        times = interleave(calls, rounds=rounds, seconds=seconds, untimed=1)
        base = times["lax.scan"].median
        for result in found:
            taken_by = times[result["candidate"]]
            result |= {"seconds": taken_by.median, "rounds": len(taken_by.seconds), "times": base / taken_by.median}
    return found


ROWS = (
    Row("head", 1024, 4, 64), Row("head", 4096, 4, 64), Row("channel", 1024, 4, 64), Row("delta", 1024, 4, 64),
    Row("diagonal", 1024, 8, 256), Row("diagonal", 4096, 8, 256), Row("diagonal", 32768, 8, 256),
    Row("diagonal", 262144, 1, 64),
)  # fmt: skip
# What a compiler says of them, without running.
COMPILED = (Row("head", 16384, 4, 64), Row("delta", 16384, 4, 64))
TINY = (Row("head", 64, 1, 8), Row("delta", 64, 1, 8), Row("diagonal", 64, 2, 8))


def line(result: dict[str, Any]) -> str:
    """A result as it is printed."""
    size = f"{result['step']:8} T {result['length']:<6} B {result['batch']} × {result['units']:<3}"
    temporaries = "-" if result["temporaries"] is None else f"{result['temporaries'] / 1e6:8.1f} MB"
    times = f"× {result['times']:5.2f}  {1e3 * result['seconds']:8.1f} ms" if "times" in result else " " * 20
    least = f", {result['temporaries'] / result['least']:.2f} of the least" if result["least"] else ""
    said = f"temporaries {temporaries}{least}, kept {result['kept'] / 1e6:.1f} MB, compile {result['compile']:.1f} s"
    return f"{size} {result['candidate']:17} {times}  {said}"


def main(argv: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="small rows, to try the program")
    parser.add_argument("--only", choices=STEPS, nargs="+", default=list(STEPS), help="steps")
    parser.add_argument("--rounds", type=int, default=9, help="interleaved rounds")
    parser.add_argument("--seconds", type=float, default=60.0, help="for the rounds of a row, at least five rounds")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/parallel.jsonl"), help="JSON lines")
    chosen = parser.parse_args(argv)
    records = Records(chosen.output)
    rows = [(row, True) for row in (TINY if chosen.tiny else ROWS)]
    rows += [] if chosen.tiny else [(row, False) for row in COMPILED]
    for row, timed in rows:
        if row.step in chosen.only:
            for result in measure(row, chosen.rounds, chosen.seconds, timed=timed):
                records.write(result)
                print(line(result), flush=True)


if __name__ == "__main__":
    main()
