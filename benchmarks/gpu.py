"""What to ask of a GPU first: rows of `benchmarks.bptt` in order, the most telling first, beside torch with cuDNN.

    python -m benchmarks.gpu                       # at most nine minutes
    python -m benchmarks.gpu --minutes 9 --out DIR # the results go there, each row as soon as it is measured
    python -m benchmarks.gpu --rows lstm,heads     # some of them
    python -m benchmarks.gpu --tiny                # all of them at sizes for a CPU, kernels interpreted

Every row has its share of the time that is left; what there is no time for, or is not there, is skipped by name. The
last row runs on the CPU too, in a process of its own. What was asked, and what came out, is told at the end.
"""

import argparse
import importlib
import os
import pathlib
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax

from benchmarks import bptt, record
from seqjax.engines import pallas

Line = dict[str, Any]
Shape = tuple[int, int, int]


class Row(NamedTuple):
    """One question: shapes T, B, h, and words for `benchmarks.bptt`."""

    shapes: tuple[Shape, ...]
    words: str


HEADS = (24, 12, 6, 3)  # of 32, 64, 128 and 256 units
GRID = tuple((t, b, h) for t in (128, 1024) for b in (1, 16, 128) for h in (64, 256, 1024))
OURS = "--ours auto/auto scan/all pallas/all"
ROWS = {
    "lstm": Row(((1024, 16, 768),), f"--cells lstm --dtypes bfloat16 float16 float32 {OURS} cudnn/all"),
    "gru": Row(tuple((1024, 32, h) for h in (128, 512, 1024)), f"--cells gru --dtypes bfloat16 {OURS}"),
    "heads": Row(
        ((1024, 16, 768),), f"--cells {' '.join(f'headwise_lstm_{n}' for n in HEADS)} --dtypes bfloat16 {OURS}"
    ),
    "blocks": Row(((512, 16, 512),), f"--cells headwise_gru_8 --dtypes bfloat16 float32 {OURS}"),
    "linear": Row(((4096, 8, 1536),), "--cells mingru lru linear_attention_8 mlstm_8 --ours auto/auto --limit"),
    "flax": Row(((1024, 16, 768), (1024, 8, 128)), ""),
    "odd": Row(((1024, 32, 512),), f"--cells users_lstm lstm layer_norm_lstm --dtypes bfloat16 {OURS}"),
    "lengths": Row(
        tuple((t, 16, 768) for t in (256, 4096, 16_384)),
        "--cells lstm --dtypes bfloat16 --passes train --ours auto/auto split/carries split/sqrt",
    ),
    "crossover": Row(GRID, "--cells lstm --passes train --ours auto/auto --peers"),
}
TINY = ((8, 4, 24),)

# Milliseconds asked of a training step: cell, shape, type, whose figure that is. Ours without a kernel.
ASKED = [
    ("lstm", (1024, 16, 768), "bfloat16", 12.0, "no kernel; cuDNN's persistent one took 5.19 with float16 on an H100"),
    ("headwise_gru_8", (512, 16, 512), "bfloat16", 15.0, "62.6 was published of another device"),
    *(
        (f"headwise_lstm_{n}", (1024, 16, 768), "bfloat16", ms, "FlashRNN's fused CUDA kernel on an H100")
        for n, ms in zip(HEADS, (8.20, 8.64, 9.02, 11.30))
    ),
]
LINEAR = ("mingru", "lru", "linear_attention_8", "mlstm_8")
NEWEST_CUDNN = 91_300  # 9.13
CROSSING = ("seqjax auto ×1", "lstm", "float32")
GRACE = 20  # seconds for a call that is under way when the time is over
KERNELS_PAY = 1.5  # times split, or they go


def words(row: Row, options: argparse.Namespace, minutes: float, name: str) -> list[str]:
    """The command line of one row."""
    shapes = [",".join(map(str, shape)) for shape in (TINY if options.tiny else row.shapes)]
    given = ["--shapes", *shapes, *row.words.split(), "--minutes", f"{minutes}", "--seconds", f"{options.seconds}"]
    given += ["--devices", "1", "--rounds", "30", "--no-plots", "--out", str(options.out), "--name", name]
    beside = [] if "--peers" in given else ["--peers", "torch"]
    beside += [] if "--passes" in given else ["--passes", "train", "forward"]
    beside += [] if "--limit" in given else ["--no-limit"]
    # Narrow types cannot hold the gradient of a mean over many ticks.
    return [*given, *beside, "--inputs-too", "--loss", "random"]


def flax(row: Row, options: argparse.Namespace, minutes: float, name: str) -> int:
    """Flax's cells, wrapped and run by us, beside its own loop."""
    interop = importlib.import_module("benchmarks.interop")
    shapes = [word for shape in (TINY if options.tiny else row.shapes) for word in ("--shape", *map(str, shape))]
    seconds = min(options.seconds, 60 * minutes / 8)
    told = ["--rounds", "30", "--seconds", f"{seconds}", "--out", str(options.out / f"{name}_interop.jsonl")]
    return int(interop.main([*shapes, "--libraries", "nnx", "linen", *told]))


def crossover(row: Row, options: argparse.Namespace, minutes: float, name: str) -> int:
    """The same on this device and on the CPU."""
    begin = time.monotonic()
    status = bptt.main(words(row, options, minutes / 2, name))
    left = max(0.0, minutes - (time.monotonic() - begin) / 60)
    command = [sys.executable, "-m", "benchmarks.bptt", *words(row, options, left, f"{name}_on_cpu")]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    try:
        done = subprocess.run(command, cwd=record.ROOT, env=environment, timeout=60 * left + GRACE, check=False)
    except subprocess.TimeoutExpired:
        print("crossover: the CPU was out of time", flush=True)
        return status
    return max(status, done.returncode)


def told(rows: Sequence[Line], on_cpu: Sequence[Line]) -> Iterator[str]:
    """What was asked, and what came out."""
    training = [row for row in rows if row.get("pass") == "train" and "median_s" in row]
    ours = [row for row in training if row["library"] == "seqjax"]
    for cell, shape, dtype, asked, whose in ASKED:
        here = [row for row in ours if (row["cell"], shape_of(row), row["dtype"]) == (cell, shape, dtype)]
        if here:
            best = min((row for row in here if row["engine"] != "pallas"), key=lambda row: row["median_s"])
            kernel = [1e3 * row["median_s"] for row in here if row["engine"] == "pallas"]
            more = f", {min(kernel):.2f} ms with a kernel" if kernel else ""
            yield (
                f"{cell} {shape} {dtype}: {1e3 * best['median_s']:.2f} ms by {best['candidate']}{more}; "
                f"asked {asked:g} ({whose})"
            )
    for row in ours:
        if row["cell"] in LINEAR and "limit" in row:
            floor = row["limit"]["stream"]
            yield f"{row['cell']} {shape_of(row)}: {row['median_s'] / floor:.1f} times the stream; asked 2"
    for row in training:
        if (version := row.get("cudnn")) and version < NEWEST_CUDNN:
            yield f"beside cuDNN {version}: {NEWEST_CUDNN} and newer were asked for"
            break
    if pairs := list(kernels(ours)):
        best = max(pairs)
        verdict = "they stay" if best >= KERNELS_PAY else "delete seqjax/engines/pallas/triton"
        yield f"kernels are at best {best:.2f} times as fast as split, asked {KERNELS_PAY}: {verdict}"
    there, here = (
        {shape_of(row): row["median_s"] for row in some if (row["candidate"], row["cell"], row["dtype"]) == CROSSING}
        for some in ([row for row in on_cpu if "median_s" in row], ours)
    )
    for shape in sorted(there.keys() & here.keys()):
        t, b, h = shape
        yield f"T {t:,} B {b} h {h}: {there[shape] / here[shape]:.2f} times as fast as on the CPU"


def kernels(ours: Iterable[Line]) -> Iterator[float]:
    """How many times as fast as auto the kernels are, row by row; interpreted on a CPU they tell nothing."""
    groups: dict[tuple, dict[str, float]] = {}
    for row in (row for row in ours if row["device"] != "cpu"):
        key = row["cell"], shape_of(row), row["dtype"]
        groups.setdefault(key, {})[row["engine"]] = row["median_s"]
    return (by["auto"] / by["pallas"] for by in groups.values() if {"auto", "pallas"} <= by.keys())


def shape_of(line: Line) -> Shape:
    """T, B, h."""
    return line["ticks"], line["batch"], line["hidden_size"]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=",".join(ROWS), help="in this order (default: %(default)s)")
    parser.add_argument("--out", type=pathlib.Path, default=record.ROOT / "benchmarks" / "results")
    parser.add_argument("--tiny", action="store_true", help="small sizes, kernels interpreted: for a CPU")
    parser.add_argument("--minutes", type=float, default=9.0, help="the script ends after so many (default: 9)")
    parser.add_argument("--seconds", type=float, default=1.5, help="of timing for each shape and pass (default: 1.5)")
    options = parser.parse_args(argv)
    for row in options.rows.split(","):
        if row not in ROWS:
            parser.error(f"--rows: expected some of {', '.join(ROWS)}, got {row!r}.")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Measures row by row; status 1 if any result was wrong, or a row failed."""
    options = parse(argv)
    chosen, name = options.rows.split(","), "gpu_tiny" if options.tiny else "gpu"
    start = time.monotonic()
    end = start + 57 * options.minutes  # the rest is for what is under way
    paths = (options.out / f"{name}.jsonl", options.out / f"{name}_on_cpu.jsonl")

    def tell() -> None:
        for line in told(*(record.read(path) if path.exists() else [] for path in paths)):
            print(line)
        print(f"{paths[0]}: {time.monotonic() - start:.0f} s", flush=True)

    def give_up() -> None:
        print("out of time", flush=True)
        tell()
        os._exit(2)

    # A compiler cannot be interrupted: what it has cost is kept, and the process ends.
    watchdog = threading.Timer(60 * options.minutes, give_up)
    watchdog.daemon = True
    watchdog.start()
    status = 0
    special = {"flax": flax, "crossover": crossover}
    with pallas.target("interpreter" if options.tiny else None):
        for place, row in enumerate(chosen):
            # What is left is shared by the rows that are left, twice a share for this one.
            left = len(chosen) - place
            minutes = max(0.0, min(2 / (left + 1), 1) * (end - time.monotonic()) / 60)
            print(f"{row}: {time.monotonic() - start:.0f} s gone, {minutes:.1f} minutes for it", flush=True)
            run = special.get(row, lambda row, *given: bptt.main(words(row, *given)))
            try:
                status |= run(ROWS[row], options, minutes, name)
            except ImportError as missing:
                print(f"{row}: skipped, {missing}", flush=True)
            except Exception:
                status = 1
                print(f"{row}: failed\n{traceback.format_exc()}", flush=True)
            jax.clear_caches()
    watchdog.cancel()
    tell()
    return status


if __name__ == "__main__":
    sys.exit(main())
