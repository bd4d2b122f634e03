"""The command line of `benchmarks.bptt`: which rows, which candidates, how long."""

import argparse
import datetime
import itertools
import math
import os
from collections.abc import Sequence
from pathlib import Path

import jax
from rich.console import Console

from benchmarks import peers, record
from benchmarks.candidates import Candidate
from benchmarks.problem import CELLS, DTYPES, LOSSES, Problem

TICKS = (256, 1024, 4096, 16384, 65536)
QUICK_TICKS = (256, 1024, 4096)
ROWS = (
    (256, 32, 128),
    (1024, 8, 64),
    (1024, 8, 128),
    (4096, 8, 128),
    (256, 32, 256),
    (128, 64, 256),
    (128, 64, 512),
    (1024, 1, 128),
)
SETTINGS = ("auto/auto", "split/all", "split/carries", "split/sqrt", "split/log", "scan/all")
QUICK_SETTINGS = ("auto/auto", "split/sqrt")
HEADLINE_TICKS = (256, 1024, 4096, 16384)
HEADLINE_SETTINGS, HEADLINE_PEERS = ("auto/auto", "split/sqrt"), ("flax", "equinox", "torch")
PASSES = ("forward", "train")
RESULTS = record.ROOT / "benchmarks" / "results"


def parse(description: str | None, argv: Sequence[str] | None) -> argparse.Namespace:
    """The options, with the defaults that depend on others filled in."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_argument_group("what is measured")
    which.add_argument("--quick", action="store_true", help="fewer lengths, settings and rounds")
    which.add_argument("--headline", action="store_true", help="what benchmarks.headline tells: 40 minutes")
    which.add_argument("--tiny", action="store_true", help="the same of two short lengths, to try it: a minute")
    which.add_argument("--rows", action="store_true", help="eight shapes instead of a sweep over T")
    which.add_argument("--shapes", nargs="+", type=shape, metavar="T,B,h", help="these shapes instead")
    which.add_argument("--cells", nargs="+", choices=CELLS, metavar="CELL", help=", ".join(CELLS))
    which.add_argument("--ticks", nargs="+", type=int, metavar="T", help=f"sequence lengths {TICKS}")
    which.add_argument("--batch", nargs="+", type=int, default=[8], metavar="B", help="sequences (8)")
    which.add_argument("--hidden", nargs="+", type=int, default=[128], metavar="h", help="units (128)")
    which.add_argument("--input", type=int, metavar="d", help="features; as many as units if not given")
    which.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["float32"], help="of weights and inputs")
    which.add_argument("--passes", nargs="+", choices=PASSES, help="forward: all outputs; train: + gradients")
    which.add_argument("--loss", choices=LOSSES, help="square: mean y²; random: Σ y r, for narrow dtypes")
    which.add_argument("--inputs-too", action="store_true", help="gradients of inputs as well as of weights")
    who = parser.add_argument_group("who takes part")
    who.add_argument("--ours", nargs="*", metavar="ENGINE/MEMORY", help=f"settings ({' '.join(SETTINGS)})")
    who.add_argument("--peers", nargs="*", choices=peers.LIBRARIES, default=list(peers.LIBRARIES))
    who.add_argument("--devices", nargs="+", type=int, metavar="N", help="devices the batch is spread over")
    who.add_argument(
        "--spread-peers",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="other JAX libraries over as many devices as ours (they are)",
    )
    who.add_argument(
        "--limit",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="products, pointwise work and traffic of each row alone, as the least that can be hoped for (yes)",
    )
    who.add_argument("--precision", choices=("default", "highest"), default="default")
    how = parser.add_argument_group("how long and how much")
    how.add_argument("--runs", type=int, help="everything so many times, each compiled anew (1)")
    how.add_argument("--from-run", type=int, default=1, metavar="N", help="go on behind run N - 1, which is kept (1)")
    how.add_argument("--rounds", type=int, help="at most (20)")
    how.add_argument("--minutes", type=float, default=math.inf, help="no row or candidate begins after so many")
    how.add_argument("--seconds", type=float, help="after which no further round starts, if there are 5 (60)")
    how.add_argument("--call-limit", type=float, default=120, help="seconds; slower ones are skipped (120)")
    how.add_argument("--memory-limit", type=float, default=0, metavar="GB", help="(70 %% of what is free)")
    where = parser.add_argument_group("where it goes")
    where.add_argument("--out", type=Path, default=RESULTS, metavar="DIR")
    where.add_argument("--name", help="of the files; bptt-DATE-TIME if not given")
    where.add_argument("--no-plots", dest="plots", action="store_false")
    chosen = parser.parse_args(argv)

    if chosen.tiny:
        chosen.headline, chosen.plots = True, False
        chosen.ticks, chosen.batch, chosen.hidden = chosen.ticks or [8, 16], [4], [6]
        chosen.rounds, chosen.seconds = chosen.rounds or 2, chosen.seconds or 1e-3
    if chosen.headline:
        chosen.cells = chosen.cells or ["lstm", "gru", "elman"]
        chosen.ticks = chosen.ticks or HEADLINE_TICKS
        chosen.ours = HEADLINE_SETTINGS if chosen.ours is None else chosen.ours
        chosen.peers = [name for name in HEADLINE_PEERS if name in chosen.peers]
        chosen.runs, chosen.seconds = chosen.runs or 3, chosen.seconds or 6
        chosen.name = chosen.name or "bptt"
    chosen.runs = chosen.runs or 1
    quick = chosen.quick
    chosen.shapes = chosen.shapes or (ROWS if chosen.rows else None)
    chosen.cells = chosen.cells or (["lstm", "gru"] if chosen.rows else ["lstm"])
    chosen.ticks = sorted(chosen.ticks or (QUICK_TICKS if quick else TICKS))
    chosen.passes = chosen.passes or (["train"] if chosen.rows else list(PASSES))
    chosen.ours = list((QUICK_SETTINGS if quick else SETTINGS) if chosen.ours is None else chosen.ours)
    chosen.rounds = chosen.rounds or (7 if quick else 20)
    chosen.seconds = chosen.seconds or (4 if quick else 60)
    chosen.name = chosen.name or f"bptt-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    for setting in chosen.ours:
        if setting.count("/") != 1:
            parser.error(f"--ours: expected ENGINE/MEMORY, got {setting!r}. Write auto/auto or split/256MB.")
    for name in ("ticks", "batch", "hidden", "devices"):
        if any(value < 1 for value in getattr(chosen, name) or ()):
            parser.error(f"--{name}: expected numbers of at least 1, got {getattr(chosen, name)}.")
    return chosen


def shape(words: str) -> tuple[int, int, int]:
    """T, B, h.

    >>> shape("1024,8,128")
    (1024, 8, 128)
    """
    ticks, batch, hidden = (int(word) for word in words.split(","))
    if min(ticks, batch, hidden) < 1:
        raise ValueError(words)
    return ticks, batch, hidden


def set_up(chosen: argparse.Namespace) -> None:
    """Settings of JAX and torch that must be made before either does anything."""
    # Other libraries need memory on the same accelerator.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    # A program found in a cache was not compiled.
    jax.config.update("jax_enable_compilation_cache", False)
    wanted = max(chosen.devices or [record.cores()])
    if jax.config.jax_num_cpu_devices < wanted:
        jax.config.update("jax_num_cpu_devices", wanted)
    if "float64" in chosen.dtypes:
        jax.config.update("jax_enable_x64", True)
    if chosen.precision == "highest":
        jax.config.update("jax_default_matmul_precision", "highest")
    there = jax.device_count()
    if chosen.devices is None:
        chosen.devices = [1, there] if jax.default_backend() == "cpu" and there > 1 else [1]
    if max(chosen.devices) > there:
        raise SystemExit(f"--devices: expected at most {there}, got {max(chosen.devices)}.")
    torch = peers.find("torch") if "torch" in chosen.peers else None
    if torch is not None:
        torch.set_precision(exact=chosen.precision == "highest")


def candidates(chosen: argparse.Namespace, console: Console) -> list[Candidate]:
    """In the order of the tables: ours, then the others that are installed."""
    found = []
    for setting, devices in itertools.product(chosen.ours, chosen.devices):
        engine, memory = setting.split("/")
        found.append(Candidate("seqjax", devices, engine, int(memory) if memory.isdigit() else memory))
    for name in chosen.peers:
        if peers.find(name) is None:
            console.print(f"{name}: not installed, left out", style="dim")
            continue
        spread = chosen.spread_peers and name in peers.JAX_LIBRARIES
        found += [Candidate(name, devices) for devices in (chosen.devices if spread else [1])]
    return found


def problems(chosen: argparse.Namespace) -> list[Problem]:
    """The rows; a sweep goes from short to long, so that what will take too long is known."""
    shapes = chosen.shapes or list(itertools.product(chosen.ticks, chosen.batch, chosen.hidden))
    rows = []
    for cell, dtype, (ticks, batch, hidden) in itertools.product(chosen.cells, chosen.dtypes, shapes):
        loss = chosen.loss or ("random" if dtype in ("bfloat16", "float16") else "square")
        size = chosen.input or hidden
        rows.append(Problem(cell, ticks, batch, size, hidden, dtype, loss, chosen.inputs_too))
    return rows
