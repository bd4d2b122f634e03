"""What the split engine and the memory schedules cost and save, beside plain scan, in one process.

    python -m benchmarks.engines            # about four minutes on two cores

1. An LSTM of 128 units, 8 sequences of 16,384 ticks, one scalar loss a tick: time of a training step beside plain
   scan, and the compiler's temporaries.
2. The gradient of a vmapped unroll beside the batched one.
3. Microseconds a tick against T, which should not change.

Results are compared before they are timed; rounds are interleaved, figures are medians.
"""

import argparse
import pathlib
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from benchmarks.record import Records

SETTINGS = (("scan", "all"), ("split", "all"), ("split", "carries"), ("split", "sqrt"), ("split", "log"))


def interleaved(functions: dict[str, Callable], rounds: int) -> dict[str, float]:
    """Median seconds of each, one call of every function a round."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, f in functions.items():
            start = time.perf_counter()
            jax.block_until_ready(f())
            times[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in times.items()}


def loss_cell(hidden: int) -> sj.Cell:
    """An LSTM whose output is its mean square: one scalar loss a tick and example."""
    inner = sj.lstm(hidden, hidden)

    def step(params: sj.LSTMParams, state: sj.LSTMState, x: jax.Array) -> tuple[sj.LSTMState, jax.Array]:
        state, y = inner.step(params, state, x)
        return state, (y**2).mean(-1)

    return inner._replace(step=step)


def agree(a: object, b: object) -> None:
    """Raises if two results differ by more than float32 rounding over a long sum."""
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        np.testing.assert_allclose(x, y, rtol=2e-3, atol=2e-5 * float(jnp.abs(y).max()))


def schedules(rounds: int) -> list[dict]:
    """Time and temporaries of every setting."""
    length, batch, hidden = 16_384, 8, 128
    cell = loss_cell(hidden)
    params = cell.init(jax.random.key(0))
    state = cell.initial_state(params, (batch,))
    xs = jax.random.normal(jax.random.key(1), (length, batch, hidden))
    functions, bytes_of, expected = {}, {}, None
    for engine, memory in SETTINGS:

        def value(params: sj.LSTMParams, engine: str = engine, memory: str = memory) -> jax.Array:
            return sj.unroll(cell, params, state, xs, engine=engine, memory=memory)[1].mean()

        compiled = jax.jit(jax.value_and_grad(value)).lower(params).compile()
        result = compiled(params)
        expected = result if expected is None else expected
        agree(result, expected)
        functions[f"{engine} {memory}"] = lambda compiled=compiled: compiled(params)
        bytes_of[f"{engine} {memory}"] = compiled.memory_analysis().temp_size_in_bytes
    seconds = interleaved(functions, rounds)
    plain = seconds["scan all"]
    return [
        {"what": name, "seconds": s, "of_scan": s / plain, "megabytes": bytes_of[name] / 1e6}
        for name, s in seconds.items()
    ]


def vmapped(rounds: int) -> dict:
    """The gradient of a sum over vmapped sequences, beside the gradient of the batch."""
    length, batch, hidden = 1024, 8, 128
    cell = sj.lstm(hidden, hidden)
    params = cell.init(jax.random.key(0))
    xs = jax.random.normal(jax.random.key(1), (length, batch, hidden))
    state = cell.initial_state(params, (batch,))

    def batched(params: sj.LSTMParams) -> jax.Array:
        return (sj.unroll(cell, params, state, xs, engine="split")[1] ** 2).mean()

    def mapped(params: sj.LSTMParams) -> jax.Array:
        one = lambda s, x: (sj.unroll(cell, params, s, x, engine="split")[1] ** 2).mean()
        return jax.vmap(one, (0, 1))(state, xs).mean()

    functions = {name: jax.jit(jax.grad(f)) for name, f in (("batched", batched), ("vmapped", mapped))}
    agree(functions["vmapped"](params), functions["batched"](params))
    seconds = interleaved({name: lambda f=f: f(params) for name, f in functions.items()}, 2 * rounds)
    return {"what": "grad(vmap) of batched", "ratio": seconds["vmapped"] / seconds["batched"]}


def per_tick(rounds: int) -> list[dict]:
    """Microseconds a tick of a training step against T."""
    batch, hidden = 1, 64
    cell = loss_cell(hidden)
    params = cell.init(jax.random.key(0))
    state = cell.initial_state(params, (batch,))
    functions, lengths = {}, (1024, 4096, 16_384, 65_536, 262_144)
    for length in lengths:
        xs = jax.random.normal(jax.random.key(1), (length, batch, hidden))
        f = jax.jit(jax.grad(lambda p, xs=xs: sj.unroll(cell, p, state, xs, engine="split", memory="all")[1].mean()))
        jax.block_until_ready(f(params))
        functions[str(length)] = lambda f=f: f(params)
    seconds = interleaved(functions, rounds)
    return [
        {"what": f"T = {length:,}", "microseconds_a_tick": 1e6 * seconds[str(length)] / length} for length in lengths
    ]


def main() -> None:
    """Measures, prints and keeps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="calls of each (default: 5)")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("benchmarks/results/engines.jsonl"))
    options = parser.parse_args()
    records = Records(options.out)
    for part in (schedules, vmapped, per_tick):
        found = part(options.rounds)
        for row in found if isinstance(found, list) else [found]:
            records.write(row)
            print("   ".join(f"{k} {v:.4g}" if isinstance(v, float) else str(v) for k, v in row.items()), flush=True)


if __name__ == "__main__":
    main()
