"""One path of the library beside others' ways to the same numbers: proven equal, then timed in turns with its limit.

A script brings the contenders of its path, the truth, and the parts that the path cannot do without: products,
pointwise work for all ticks at once, traffic. What all of them do with these is here. The limit is the sum of the
parts, each alone in the best shape that XLA has (`benchmarks.limit`); it is no bound, it tells how much of a time has a
name.
"""

import argparse
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import limit, memory, record
from benchmarks.timing import interleave, once

RESULTS = record.ROOT / "benchmarks" / "results"
OURS = ("ours", "compiled")  # what our contenders' names begin with


class Contender(NamedTuple):
    """Something to time.

    Attributes:
      run: runs once and returns when the result is there.
      read: what a run returned, in the form that is compared.
      bytes: temporaries of the compiled program.
    """

    run: Callable[[], Any]
    read: Callable[[Any], Any] = lambda result: result
    bytes: int | None = None


def compiled(f: Callable, *given: Any, read: Callable[[Any], Any] = lambda result: result) -> Contender:
    """``f`` for these arguments as one program."""
    program = jax.jit(f).lower(*given).compile()
    used = memory.of_compiled(program, 1)
    return Contender(lambda: jax.block_until_ready(program(*given)), read, used and used.temporaries)


def proven(
    row: Any, makers: Mapping[str, Callable[[], Contender]], error: Callable[[Any], float], far: float
) -> tuple[dict[str, Contender], dict[str, Any]]:
    """Contenders that gave the right result once, and what is known of each.

    Args:
      row: what is measured, for the complaint.
      makers: contenders by name; a library that is not installed is named as missing.
      error: how far a result is from the truth.
      far: from where on it is wrong.

    Raises:
      SystemExit: a result that is wrong. Nothing is timed.
    """
    there, missing, errors, first, grown = {}, {}, {}, {}, {}
    for name, make in makers.items():
        try:
            contender = make()
        except ImportError as lacking:
            missing[name] = f"{lacking.name} is not installed"
            continue
        try:
            (result, grown[name]), first[name] = once(lambda run=contender.run: memory.growth(run))
        except jax.errors.JaxRuntimeError as failure:
            if "RESOURCE_EXHAUSTED" not in str(failure):
                raise
            missing[name] = "needs more memory than there is"
            continue
        errors[name] = error(contender.read(result))
        if not errors[name] < far:
            raise SystemExit(f"{name} disagrees at {row}: its result is off by {errors[name]:.1e}")
        there[name] = contender
    return there, {
        "first_call_s": {name: round(s, 3) for name, s in first.items()},
        "relative_error": {name: float(f"{e:.1e}") for name, e in errors.items()},
        "temporary_bytes": {name: contender.bytes for name, contender in there.items()},
        "growth_bytes": {name: grown[name] for name in there},
        "missing": missing,
    }


def timed(
    runs: Mapping[str, Callable[[], Any]],
    parts: Mapping[str, Callable[[], Any]],
    rounds: int,
    seconds: float,
    times: int = 1,
    settle: float = 0.01,
) -> dict[str, Any]:
    """Seconds of every run and of every part of the limit, which is that of so many ``times`` all parts."""
    below = {f"limit: {name}": name for name in parts}
    calls = {**runs, **dict(zip(below, parts.values()))}
    taken = interleave(calls, rounds=rounds, seconds=seconds, settle=settle)
    named = {part: taken[name].median for name, part in below.items()}
    found = {name: t for name, t in taken.items() if name not in below}
    return {
        "seconds": {name: t.median for name, t in found.items()},
        "quartiles_s": {name: t.quartiles for name, t in found.items()},
        "rounds": min((len(t.seconds) for t in found.values()), default=0),
        **({"limit_s": times * limit.total(named), "limit": named} if parts else {}),
    }


def measure(
    row: Any,
    makers: Mapping[str, Callable[[], Contender]],
    error: Callable[[Any], float],
    far: float,
    parts: Mapping[str, Callable[[], Any]],
    rounds: int,
    seconds: float,
    **options: Any,
) -> dict[str, Any]:
    """One row: all contenders proven, then timed in turns with the parts of the limit."""
    there, facts = proven(row, makers, error, far)
    return facts | timed({name: c.run for name, c in there.items()}, parts, rounds, seconds, **options)


def is_ours(name: str) -> bool:
    """Whether a contender is of this library."""
    return name.startswith(OURS)


def best_peer(seconds: Mapping[str, float]) -> tuple[str, float] | None:
    """Name and seconds of the fastest contender that is not ours; None where none was there."""
    peers = {name: s for name, s in seconds.items() if not is_ours(name)}
    return min(peers.items(), key=lambda item: item[1]) if peers else None


def far_off(found: Any, expected: Any) -> float:
    """The largest difference of two trees' numbers, relative to the largest number of the array; NaN where one is."""
    pairs = zip(map(np.asarray, jax.tree.leaves(found)), map(np.asarray, jax.tree.leaves(expected)), strict=True)
    return float(np.max([np.abs(a - b).max() / (np.abs(b).max() or 1.0) for a, b in pairs]))


def product(name: str, rows: int, inner: int, outer: int, ticks: int) -> dict[str, Callable[[], Any]]:
    """``[rows, inner] @ [inner, outer]``, ticks times one behind the other, in ways of which the fastest counts."""
    rng = np.random.default_rng(0)
    value = jnp.asarray(rng.random((rows, inner)), jnp.float32)
    weight = rng.random((inner, outer))
    weight = jnp.asarray(weight / weight.sum(0), jnp.float32)  # means of means: neither grows nor vanishes
    ways = {"": (jnp.matmul, weight), limit.TURNED: (lambda v, w: v @ w.T, weight.T)}
    if rows * inner * outer <= 2**16:
        ways[limit.SUMS] = (lambda v, w: (v[:, :, None] * w).sum(1), weight)
    return {
        f"{name}, {ticks} times{way}": compiled(limit.repeated(f, ticks), value, w).run for way, (f, w) in ways.items()
    }


def stream(numbers: int) -> dict[str, Callable[[], Any]]:
    """Once over so many float32, half of them read and half of them written."""
    return {"stream": compiled(lambda a: a + 1, jnp.zeros(max(1, numbers // 2), jnp.float32)).run}


def divided(p: jax.Array) -> jax.Array:
    """Messages by their sums."""
    return p / p.sum(-1, keepdims=True)


def both_ways(f: Callable, *given: Any) -> Callable[[], Any]:
    """Value and derivative as one program, cotangents as arguments: of constants nothing is left to do."""

    def both(given: tuple, cotangent: Any) -> Any:
        out, pull = jax.vjp(f, *given)
        return out, pull(cotangent)

    cotangent = jax.tree.map(lambda t: jnp.ones(t.shape, t.dtype), jax.eval_shape(f, *given))
    return compiled(both, given, cotangent).run


def parser(description: str | None, name: str) -> argparse.ArgumentParser:
    """A command line with what all paths are asked."""
    found = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--rounds", type=int, default=15, help="at most (15)")
    found.add_argument("--seconds", type=float, default=10.0, help="of a row, after which no round starts (10)")
    found.add_argument("--out", type=Path, default=RESULTS / f"{name}.jsonl", metavar="FILE")
    return found


def keep(rows: Iterable[Any], measured: Callable[[Any], dict[str, Any]], name: str, out: Path) -> None:
    """Measures every row, writes one JSON line each, and tells it."""
    records = record.Records(out)
    for row in rows:
        line = {"benchmark": name, **row._asdict(), **measured(row)}
        records.write(line)
        print(f"{row}: {told(line)}", flush=True)


def told(line: Mapping[str, Any]) -> str:
    """A line for people."""
    said = [f"{name} {1e3 * s:,.2f} ms" for name, s in line["seconds"].items()]
    said += [f"limit {1e3 * line['limit_s']:,.2f} ms"] if "limit_s" in line else []
    return ", ".join([*said, *(f"{name}: {why}" for name, why in line["missing"].items())])
