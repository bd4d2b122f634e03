"""Recurrences on a GPU: engines, kernels and memory beside torch (cuDNN), proven equal in the run.

    python -m benchmarks.gpu                  # at most nine minutes; the most telling rows first
    python -m benchmarks.gpu --rows 1,2       # some of them
    python -m benchmarks.gpu --tiny           # all of them at sizes for a CPU, kernels interpreted

Every candidate has the same weights, inputs and loss Σ y r, gradients are of weights and inputs, TF32 is allowed.
A candidate whose outputs or gradients differ from a float32 scan at full precision by more than the type allows is
reported as wrong, not timed. One JSON line a measurement, written as it is made.
"""

import argparse
import dataclasses
import os
import pathlib
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from benchmarks import record, timing
from benchmarks.gpu_torch import torch_candidates
from seqjax.engines import pallas

ORDER = (1, 5, 12, 3, 4, 2, 10, 6)
# Of a value's largest entry: a narrow type's rounding, taken at random at every one of T ticks. TF32 has 10 bits.
ROUNDING = {"bfloat16": 2**-8, "float16": 2**-10, "float32": 2**-10}


@dataclasses.dataclass(frozen=True)
class Case:
    """One problem: a cell's maker, its sizes and the type of its products; ``torch`` names torch's module."""

    cell: str
    ticks: int
    batch: int
    hidden: int
    dtype: str = "bfloat16"
    heads: int | None = None
    torch: str | None = None
    layers: int = 1
    both_ways: bool = False
    ragged: bool = False
    engines: tuple[tuple[str, str | int], ...] = (("scan", "all"), ("split", "all"), ("pallas", "all"))


def layer_normalised(size: int, hidden: int, *, dtype: Any, compute_dtype: Any) -> sj.Cell:
    """An LSTM as a user writes it, its gates normalised together."""
    inner = sj.lstm(size, hidden, dtype=dtype, compute_dtype=compute_dtype)

    def step(params: Any, state: Any, x: jax.Array) -> tuple:
        h, c = state
        a = sj.dot(x, params.w_x, compute_dtype) + sj.dot(h, params.w_h, compute_dtype) + params.b
        a = (a - a.mean(-1, keepdims=True)) * jax.lax.rsqrt(a.var(-1, keepdims=True) + 1e-5)
        i, f, g, o = jnp.split(a, 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return sj.LSTMState(h, c), h

    return inner._replace(step=step)


MAKERS: dict[str, Callable[..., sj.Cell]] = {
    "lstm": sj.lstm, "gru": sj.gru, "layer_norm_lstm": sj.layer_norm_lstm, "users_lstm": layer_normalised,
    "headwise_lstm": sj.headwise_lstm, "slstm": sj.slstm,
}  # fmt: skip


def cases(row: int, tiny: bool) -> list[Case]:
    """The problems of one row of the list, the most telling first."""
    T, B, H = (8, 4, 16) if tiny else (1024, 16, 768)
    schedules = tuple(("split", memory) for memory in ("all", "carries", "sqrt", "log"))
    match row:
        case 1:
            lstm = Case("lstm", T, B, H, torch="LSTM")
            single = dataclasses.replace(lstm, dtype="float32", engines=(*lstm.engines, ("cudnn", "all")))
            return [lstm, dataclasses.replace(lstm, dtype="float16"), single]
        case 2:
            sizes = [(2, 16)] if tiny else [(24, 32), (12, 64), (6, 128), (3, 256)]
            heads = [Case("headwise_lstm", T, B, n * k, heads=n) for n, k in sizes]
            return [*heads, dataclasses.replace(heads[0], cell="slstm")]
        case 3:
            lengths = (8, 16) if tiny else (256, 4096, 16_384, 65_536)
            return [Case("lstm", t, B, H, torch="LSTM", engines=(("split", "all"),)) for t in lengths]
        case 4:
            batches = (2, 5) if tiny else (2, 8, 32, 64, 128, 256)
            return [Case("lstm", T, b, H, torch="LSTM", engines=(("split", "all"),)) for b in batches]
        case 5:
            sizes = (16,) if tiny else (128, 512, 1024)
            return [Case("gru", T, 2 * B, h, torch="GRU") for h in sizes]
        case 6:
            t, b, h = (8, 4, 16) if tiny else (512, 64, 512)
            engines = (("scan", "all"), ("split", "all"))
            deep = Case("lstm", t, b, h, torch="LSTM", layers=3, ragged=True, engines=engines)
            return [deep, dataclasses.replace(deep, layers=1, both_ways=True)]
        case 10:
            lengths = (8, 32) if tiny else (1000, 10_000, 100_000, 1_000_000)
            size = (4, 16) if tiny else (8, 512)
            return [Case("lstm", t, *size, engines=(("scan", "all"), *schedules)) for t in lengths]
        case 12:
            sizes = (16,) if tiny else (512, 128)
            return [Case(cell, T, 2 * B, h) for h in sizes for cell in ("users_lstm", "lstm", "layer_norm_lstm")]
    raise ValueError(f"gpu: expected a row of {ORDER}, got {row}.")


class Problem:
    """A case's layers, weights, inputs and loss."""

    def __init__(self, case: Case):
        """Draws everything from fixed seeds."""
        self.case = case
        rng = np.random.default_rng(0)
        shape = (case.ticks, case.batch)
        width = case.hidden * (1 + case.both_ways)
        self.xs = jnp.asarray(rng.normal(size=(*shape, case.hidden)), jnp.float32)
        self.r = jnp.asarray(rng.normal(size=(*shape, width)), jnp.float32)
        self.lengths = None
        if case.ragged:
            self.lengths = jnp.asarray(rng.integers(case.ticks // 2, case.ticks + 1, case.batch), jnp.int32)
            self.lengths = -jnp.sort(-self.lengths)
        count = case.layers * (1 + case.both_ways)
        self.params = [self.cell("float32").init(jax.random.key(i)) for i in range(count)]

    def cell(self, dtype: str) -> sj.Cell:
        """The cell, its products in this type."""
        case = self.case
        heads = () if case.heads is None else (case.heads,)
        return MAKERS[case.cell](
            case.hidden, case.hidden, *heads, dtype=jnp.float32, compute_dtype=jnp.dtype(dtype)
        )  # fmt: skip

    def outputs(self, params: list, xs: jax.Array, dtype: str, engine: str, memory: str | int) -> jax.Array:
        """All layers, one behind the other; both directions side by side."""
        cell = self.cell(dtype)
        read = lambda p, x, reverse: sj.unroll(
            cell, p, cell.initial_state(p, x.shape[1:2]), x,
            lengths=self.lengths, reverse=reverse, engine=engine, memory=memory,
        )[1]  # fmt: skip
        if self.case.both_ways:
            return jnp.concatenate([read(p, xs, bool(i)) for i, p in enumerate(params)], -1)
        for p in params:
            xs = read(p, xs, False)
        return xs

    def functions(self, dtype: str, engine: str, memory: str | int) -> dict[str, Callable]:
        """Forward and training step, of ``(params, xs)``."""
        forward = lambda params, xs: self.outputs(params, xs, dtype, engine, memory)

        def train(params: list, xs: jax.Array) -> tuple:
            loss = lambda params, xs: (forward(params, xs) * self.r).sum()
            return jax.grad(loss, (0, 1))(params, xs)

        return {"forward": forward, "train": train}


def measure(case: Case, which: str, seconds: float, deadline: float) -> Iterator[dict[str, Any]]:
    """Every candidate on one case: compiled, compared with full precision, then timed in turns."""
    problem = Problem(case)
    arguments = (problem.params, problem.xs)
    truth = None
    if case.ticks <= 16_384:
        with jax.default_matmul_precision("highest"):
            exact = jax.jit(problem.functions("float32", "scan", "sqrt" if case.ticks > 4096 else "all")[which])
            truth = [np.asarray(leaf) for leaf in jax.tree.leaves(exact(*arguments))]
    calls: dict[str, Callable] = {}
    lines: dict[str, dict[str, Any]] = {}

    def admit(name: str, prepare: Callable[[], tuple[Callable, Callable, dict]]) -> dict[str, Any]:
        """Prepares, runs and compares; what fails is told."""
        line = {"candidate": name, "pass": which, **dataclasses.asdict(case)}
        try:
            if time.monotonic() > deadline:
                raise TimeoutError("no time left for this row")
            call, numbers, facts = prepare()
            line |= facts
            line["error"] = None if truth is None else difference(numbers(call()), truth)
            # Rounding errors of ticks and layers add up at random; torch keeps states and gates narrow as well.
            allowed = (case.ticks * case.layers) ** 0.5 * ROUNDING[case.dtype] * (2 if name == "torch" else 1)
            if line["error"] is not None and not line["error"] <= allowed:
                line["wrong"] = f"differs by {line['error']:.2g}, allowed {allowed:.2g}"
            else:
                calls[name] = call
        except Exception as failure:
            line["failed"] = f"{type(failure).__name__}: {str(failure)[:500]}"
        lines[name] = line
        return line

    for engine, memory in case.engines:

        def compiled(engine: str = engine, memory: str | int = memory) -> tuple[Callable, Callable, dict]:
            start = time.perf_counter()
            program = jax.jit(problem.functions(case.dtype, engine, memory)[which]).lower(*arguments).compile()
            facts = {"compile_s": time.perf_counter() - start}
            analysis = program.memory_analysis()
            if analysis is not None:
                facts["temporary_bytes"] = analysis.temp_size_in_bytes
            numbers = lambda result: [np.asarray(leaf) for leaf in jax.tree.leaves(result)]
            return lambda: jax.block_until_ready(program(*arguments)), numbers, facts

        admit(f"{engine} {memory}", compiled)
    for name, prepare in torch_candidates(problem, which):
        admit(name, prepare)
    if calls:
        for name, taken in timing.interleave(calls, rounds=30, seconds=seconds, least=3, settle=0).items():
            lines[name] |= {"median_s": taken.median, "least_s": taken.least, "rounds": len(taken.seconds)}
            lines[name]["microseconds_a_tick"] = 1e6 * taken.median / case.ticks
    yield from lines.values()


def difference(values: list[np.ndarray], truth: list[np.ndarray]) -> float:
    """The largest difference of any array, of that array's largest entry."""
    assert [v.shape for v in values] == [t.shape for t in truth]
    errors = (np.abs(v.astype(np.float64) - t).max() / max(np.abs(t).max(), 1e-30) for v, t in zip(values, truth))
    return max(map(float, errors))


def told(line: dict[str, Any]) -> str:
    """A line in words."""
    shape = f"{line['cell']} T {line['ticks']:,} B {line['batch']} h {line['hidden']}"
    shape += f" in {line['heads']} heads" if line["heads"] else ""
    outcome = line.get("failed") or line.get("wrong")
    if outcome is None and "median_s" in line:
        error = "" if line["error"] is None else f"   error {line['error']:.1e}"
        outcome = f"{1e3 * line['median_s']:.3f} ms   {line['microseconds_a_tick']:.2f} µs a tick{error}"
    return f"{shape} {line['dtype']} {line['pass']:8} {line['candidate']:16} {outcome}"


def main(argv: list[str] | None = None) -> int:
    """Measures row by row; status 1 if any result was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default=",".join(map(str, ORDER)), help="in this order (default: %(default)s)")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("benchmarks/results"))
    parser.add_argument("--tiny", action="store_true", help="small sizes, kernels interpreted: for a CPU")
    parser.add_argument("--minutes", type=float, default=9.0, help="the script ends after so many (default: 9)")
    parser.add_argument("--seconds", type=float, default=1.5, help="of timing for each case and pass (default: 1.5)")
    options = parser.parse_args(argv)
    start = time.monotonic()
    end = start + 60 * options.minutes
    # A compiler cannot be interrupted: what it has cost is kept, and the process ends.
    watchdog = threading.Timer(60 * options.minutes, lambda: (print("out of time", flush=True), os._exit(2)))
    watchdog.daemon = True
    watchdog.start()
    records = record.Records(options.out / ("gpu_tiny.jsonl" if options.tiny else "gpu.jsonl"))
    records.facts |= {"driver": driver()}
    print(records.facts, flush=True)
    wrong = False
    rows = [int(row) for row in options.rows.split(",")]
    with pallas.target("interpreter" if options.tiny else None):
        for i, row in enumerate(rows):
            # What is left is shared by the rows that are left, twice a share for this one.
            deadline = time.monotonic() + min(2 / (len(rows) - i + 1), 1) * (end - time.monotonic())
            print(f"row {row}: {time.monotonic() - start:.0f} s gone", flush=True)
            for case in cases(row, options.tiny):
                for which in ("train", "forward"):
                    try:
                        lines = list(measure(case, which, options.seconds, deadline))
                    except Exception:
                        lines = [{"failed": traceback.format_exc()[-1000:], "pass": which, "candidate": "all"}]
                        lines[0] |= dataclasses.asdict(case)
                    for line in lines:
                        records.write({"row": row, **line})
                        wrong |= "wrong" in line
                        print(told(line), flush=True)
    watchdog.cancel()
    print(f"{records.path}: {time.monotonic() - start:.0f} s", flush=True)
    return int(wrong)


def driver() -> str | None:
    """The version of NVIDIA's driver."""
    path = pathlib.Path("/proc/driver/nvidia/version")
    return path.read_text().splitlines()[0] if path.exists() else None


if __name__ == "__main__":
    sys.exit(main())
