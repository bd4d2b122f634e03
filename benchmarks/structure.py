"""What ten compiled programs are made of, beside what was stored: operations, loops and bytes, no times.

python -m benchmarks.structure            # the table
python -m benchmarks.structure --check    # what differs from the stored figures (status 1)
python -m benchmarks.structure --write    # stores them, for these versions of JAX and jaxlib

Of the jaxpr: loops, products, equations in loops, bytes that loops stack. Of the optimised HLO: while loops, dots,
fusions and copies in loops, temporaries, and XLA's floating-point operations and bytes, of a loop once. Products and
dots are told by depth: ``0/3/2`` are none outside loops, three in loops, two in loops of loops; the others from the
first loop on. None of it depends on the machine: in float32 all were the same for each of XLA's instruction sets from
SSE4.2 to AVX-512, on one core and on two, with one host device and with eight, and with LLVM's optimisation, which is
switched off here because it takes most of the time. The HLO does depend on XLA: its figures are compared only with
those of the same versions on the same architecture.
"""

import argparse
import json
import os
import platform
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jaxlib
from jax.extend import core

import seqjax as sj
from benchmarks import record
from seqjax.hmm import crf

STORED = record.ROOT / "benchmarks" / "results" / "structure.json"
ANEW = "To store what is meant: python -m benchmarks.structure --write"
FLAGS = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
TICKS, BATCH, INPUT, HIDDEN = 128, 16, 32, 64  # four chunks of 32 ticks in the split engine
KEY = jax.eval_shape(lambda: jax.random.key(0))


class Kind(NamedTuple):
    """How far a figure may be off, relative to what is stored: by the same versions, and by others."""

    same: float
    other: float


# Loops and products are what an engine decides: any other number is another program. Single equations come and go with
# a line of code, within a twentieth. One more value kept at each tick is a fortieth of the bytes of a stack of two.
# From JAX 0.10 to 0.12 equations differ by up to 6 %, and bytes by a value in nineteen.
COUNTS, OPERATIONS, BYTES = Kind(0, 0), Kind(0.05, 0.1), Kind(0.01, 0.1)
JAXPR = {"loops": COUNTS, "products": COUNTS, "equations in loops": OPERATIONS, "stacked bytes": BYTES}
HLO = {
    "whiles": COUNTS,
    "dots": COUNTS,
    "fusions in loops": OPERATIONS,
    "copies in loops": OPERATIONS,
    "flops": BYTES,
    "bytes accessed": BYTES,
    "temporaries": BYTES,
}

Figures = dict[str, Any]
Program = tuple[Callable, tuple]


def training(cell: sj.Cell, memory: str = "auto") -> Program:
    """Value and gradient, in the parameters, of mean(y²)."""

    def loss(params: Any, xs: jax.Array) -> jax.Array:
        start = cell.initial_state(params, (BATCH,))
        return jnp.square(sj.unroll(cell, params, start, xs, memory=memory)[1]).mean()

    return jax.value_and_grad(loss), (jax.eval_shape(cell.init, KEY), floats(INPUT))


def sampling() -> Program:
    """Symbols drawn from a language model."""
    model = sj.models.language_model(50, HIDDEN)

    def write(params: Any, key: jax.Array) -> jax.Array:
        start, first = model.initial_state(params, (BATCH,)), jnp.zeros(BATCH, jnp.int32)
        return sj.sample(model, params, start, first, length=TICKS, key=key, temperature=0.8).symbols

    return write, (jax.eval_shape(model.init, KEY), KEY)


def tagging() -> Program:
    """Value and gradient of a conditional random field's loss, in its parameters and in the scores of the ticks."""

    def loss(params: crf.CRFParams, scores: jax.Array) -> jax.Array:
        return crf.loss(params, scores, jnp.zeros((TICKS, BATCH), jnp.int32)).mean()

    params = jax.eval_shape(lambda key: crf.init(key, tags=9), KEY)
    return jax.value_and_grad(loss, (0, 1)), (params, floats(9))


def floats(size: int) -> jax.ShapeDtypeStruct:
    """The type of inputs."""
    return jax.ShapeDtypeStruct((TICKS, BATCH, size), jnp.float32)


PROGRAMS: dict[str, Callable[[], Program]] = {
    "lstm": lambda: training(sj.lstm(INPUT, HIDDEN)),
    "lstm, memory sqrt": lambda: training(sj.lstm(INPUT, HIDDEN), "sqrt"),
    "gru": lambda: training(sj.gru(INPUT, HIDDEN)),
    "layer-norm lstm": lambda: training(sj.cells.layer_norm_lstm(INPUT, HIDDEN)),
    "stack of two lstms": lambda: training(sj.stack(sj.lstm(INPUT, HIDDEN), sj.lstm(HIDDEN, HIDDEN))),
    "mingru": lambda: training(sj.cells.mingru(INPUT, HIDDEN)),
    "linear attention": lambda: training(sj.cells.linear_attention(INPUT, HIDDEN, heads=2, decay="head")),
    "delta rule": lambda: training(sj.cells.delta_rule(INPUT, HIDDEN, heads=2)),
    "sampling": sampling,
    "crf": tagging,
}


def of_jaxpr(jaxpr: core.Jaxpr) -> Figures:
    """Loops, products and equations in them, and the bytes that they stack, times the loops around them."""
    found: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))

    def walk(jaxpr: core.Jaxpr, depth: int, times: int) -> None:
        for e in jaxpr.eqns:
            name, inside = e.primitive.name, [getattr(sub, "jaxpr", sub) for sub in core.jaxprs_in_params(e.params)]
            loop = name in ("scan", "while")
            found["loops"][0] += loop
            found["products"][depth] += name == "dot_general"
            found["equations in loops"][depth] += not inside
            if name == "scan":
                pairs = zip(e.outvars, inside[0].outvars)
                stacks = [v.aval for v, of_a_tick in pairs if v.aval.ndim > of_a_tick.aval.ndim]
                found["stacked bytes"][0] += times * sum(a.size * a.dtype.itemsize for a in stacks)
            for sub in inside:
                walk(sub, depth + loop, times * (e.params["length"] if name == "scan" else 1))

    walk(jaxpr, 0, 1)
    return {
        "loops": found["loops"][0],
        "products": _by_depth(found["products"]),
        "equations in loops": _by_depth(found["equations in loops"])[1:],
        "stacked bytes": found["stacked bytes"][0],
    }


def of_hlo(text: str) -> Figures:
    """While loops, dots, and fusions and copies in loops, of an optimised program as XLA prints it."""
    operations, calls = defaultdict(list), defaultdict(list)
    computation = entry = ""
    for line in text.splitlines():
        if head := re.match(r"(ENTRY )?%?([\w.-]+) .*\{$", line):
            computation = head[2]
            entry = computation if head[1] else entry
        elif operation := re.match(r"\s+(?:ROOT )?%?[\w.-]+ = (?:\(.*?\)|\S+) ([\w-]+)\(", line):
            operations[computation].append(operation[1])
            for names in re.findall(r"(?:calls|to_apply|body|condition|branch_computations)=(\{.*?\}|[\w.%-]+)", line):
                called = re.findall(r"[\w.-]+", names)
                calls[computation] += [(name, operation[1] == "while") for name in called]
    depths: dict[str, int] = {}

    def reach(computation: str, depth: int) -> None:
        if depths.get(computation, -1) < depth:
            depths[computation] = depth
            for name, loop in calls[computation]:
                reach(name, depth + loop)

    reach(entry, 0)

    def count(kind: str) -> list[int]:
        found: dict[int, int] = defaultdict(int)
        for computation, depth in depths.items():
            found[depth] += operations[computation].count(kind)
        return _by_depth(found)

    return {
        "whiles": sum(count("while")),
        "dots": count("dot"),
        "fusions in loops": count("fusion")[1:],
        "copies in loops": count("copy")[1:],
    }


def figures(program: Program) -> Figures:
    """All that is counted of one program, compiled."""
    function, arguments = program
    traced = jax.jit(function).trace(*arguments)
    compiled = traced.lower().compile()
    costs = compiled.cost_analysis()
    bytes_of = compiled.memory_analysis()
    return (
        of_jaxpr(traced.jaxpr.jaxpr)
        | of_hlo(compiled.as_text())
        | {
            "flops": int(costs["flops"]),
            "bytes accessed": int(costs["bytes accessed"]),
            "temporaries": bytes_of.temp_size_in_bytes,
        }
    )


def versions() -> str:
    """What the optimised HLO depends on."""
    return f"jax {jax.__version__}, jaxlib {jaxlib.__version__}, {platform.machine()}"


def reference(stored: Mapping[str, Any], now: str) -> tuple[str, dict[str, float]]:
    """With which stored versions these are compared, and how far each figure may be off."""
    if now in stored:
        return now, {name: kind.same for name, kind in (JAXPR | HLO).items()}
    return list(stored)[-1], {name: kind.other for name, kind in JAXPR.items()}


def differences(expected: Mapping[str, Any], got: Mapping[str, Any], limits: Mapping[str, float]) -> Iterator[str]:
    """Of every figure further off than it may be, a sentence."""
    for name, limit in limits.items():
        before, after = (value if isinstance(value, list) else [value] for value in (expected[name], got[name]))
        if len(before) != len(after) or any(abs(b - a) > limit * b for b, a in zip(before, after)):
            within = f" within {limit:.0%}" if limit else ""
            yield f"expected {name} {shown(expected[name])}{within}, got {shown(got[name])}."


def shown(value: int | list[int]) -> str:
    """A number, or those of every depth.

    >>> shown([0, 3, 2])
    '0/3/2'
    """
    return "/".join(map(str, value)) if isinstance(value, list) else f"{value:,}"


def check(found: Mapping[str, Figures], stored: Mapping[str, Any], now: str) -> list[str]:
    """A sentence for every figure that is off, and how to store what is meant."""
    beside, limits = reference(stored, now)
    off = [
        f"{name}: {sentence}"
        for name, got in found.items()
        for sentence in (
            differences(stored[beside][name], got, limits) if name in stored[beside] else ["nothing is stored of it."]
        )
    ]
    return [*off, ANEW] if off else []


def main(argv: list[str] | None = None) -> int:
    """Prints the table, or what differs, or stores it: status 1 if something differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", nargs="*", metavar="PROGRAM", help=f"of {', '.join(map(repr, PROGRAMS))}; all")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="say what differs from the stored figures")
    what.add_argument("--write", action="store_true", help="store the figures for these versions")
    parser.add_argument("--stored", type=Path, default=STORED, metavar="FILE")
    options = parser.parse_args(argv)
    if unknown := set(options.programs) - set(PROGRAMS):
        parser.error(f"expected programs of {', '.join(map(repr, PROGRAMS))}, got {sorted(unknown)}.")

    os.environ["XLA_FLAGS"] = FLAGS
    for name, value in {"platforms": "cpu", "enable_x64": False, "enable_compilation_cache": False}.items():
        jax.config.update(f"jax_{name}", value)
    found = {name: figures(PROGRAMS[name]()) for name in options.programs or PROGRAMS}
    stored = json.loads(options.stored.read_text("utf-8")) if options.stored.exists() else {}
    now = versions()
    if options.check:
        beside, _ = reference(stored, now)
        if beside != now:
            print(f"{now} is not stored: only jaxprs are compared, with those of {beside}. {ANEW}")
        off = check(found, stored, now)
        print("\n".join(off or [f"As stored: {', '.join(found)}."]))
        return 1 if off else 0
    if options.write:
        options.stored.write_text(written(stored | {now: stored.get(now, {}) | found}), "utf-8")
    print(table(found))
    return 0


def table(found: Mapping[str, Figures]) -> str:
    """A row a program."""
    names = [*JAXPR, *HLO]
    rows = [["", *names], *([program, *(shown(f[name]) for name in names)] for program, f in found.items())]
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows)


def _by_depth(found: Mapping[int, int]) -> list[int]:
    return [found.get(depth, 0) for depth in range(max(found) + 1)]


def written(stored: Mapping[str, Any]) -> str:
    """A line a program, oldest versions first: what changes is seen."""
    order = sorted(stored, key=lambda name: [int(n) for n in re.findall(r"\d+", name)])
    blocks = [
        f" {json.dumps(name)}: {{\n"
        + ",\n".join(f"  {json.dumps(program)}: {json.dumps(f)}" for program, f in stored[name].items())
        + "\n }"
        for name in order
    ]
    return "{\n" + ",\n".join(blocks) + "\n}\n"


if __name__ == "__main__":
    sys.exit(main())
