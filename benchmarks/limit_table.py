"""What `benchmarks.limit` tells of eight shapes: times over the limit, and what is chosen over the best there is."""

import statistics
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

import seqjax as sj
from benchmarks.tables import PASSES, Row, Runs, by, key, table
from benchmarks.versions import Read
from seqjax.recipes.running import devices as spreading


def limits(read: Read) -> tuple[str, str]:
    """Times the limit of `benchmarks.limit`: a line a cell, pass, engine and number of devices; a column a shape."""
    found = [row for row in read("limit") if "limit_s" in row]
    lines = []
    for (cell, which), members in by(found, "cell", "pass").items():
        for name, devices in (("seqjax auto", 1), ("seqjax auto", 2), ("seqjax scan/all", 1)):
            chosen = [row for row in members if key(row) == name and row["devices"] in (devices, alone(row))]
            ratios: dict[Any, Runs] = {}
            for row in chosen:
                ratios.setdefault(shape_of(row), []).append(row["median_s"] / row["limit_s"])
            at = {shape: statistics.median(ratio) for shape, ratio in ratios.items()}
            words = f"{cell.replace('_', ' ')}, {PASSES[which]}, {'scan' if 'scan' in name else 'auto'} ×{devices}"
            mean = statistics.geometric_mean(at.values())
            cells = (f"{at[shape]:.2f}" if shape in at else "" for shape in shapes_of(found))
            lines.append([words, *cells, f"{mean:.2f}"])
    head = ["cell, pass, engine × devices", *shape_heads(found), "mean"]
    return table(head, lines), f"; {of_shapes(found)}; geometric means"


def choices(read: Read) -> tuple[str, str]:
    """What is chosen over the best of what can be: a line a cell and pass, a column a shape."""
    found = read("limit")
    lines = []
    for (cell, which), members in by(found, "cell", "pass").items():
        line = [f"{cell.replace('_', ' ')}, {PASSES[which]}"]
        for shape in shapes_of(found):
            here = [row for row in members if shape_of(row) == shape]
            count = spread_over(cell, shape)
            ratios = [ratio for runs in by(here, "run").values() for ratio in over_best(runs, count)]
            line.append(f"{statistics.median(ratios):.2f}")
        lines.append(line)
    return table(["cell, pass", *shape_heads(found)], lines), f"; {of_shapes(found)}"


def over_best(found: Sequence[Row], devices: int) -> Runs:
    """Of one run: the time of ``auto`` on so many devices over the least, one program's being the mean of its times."""
    programs: dict[Any, Runs] = {}
    for row in (row for row in found if "median_s" in row):
        programs.setdefault(program_of(row), []).append(row["median_s"])
    at = {program: statistics.mean(times) for program, times in programs.items()}
    mine = [row for row in found if key(row) == "seqjax auto" and row["devices"] == devices and "median_s" in row]
    return [at[program_of(row)] / min(at.values()) for row in mine]


def program_of(row: Row) -> Any:
    """What is run: ``auto`` is the very program of the engine that it chose, unless it says more than its choice."""
    plan = row["plan"]
    reasons = [why for why in plan["why"] if not why.startswith(f"{plan['engine']}: ")]
    return row["devices"], str(plan | {"why": reasons})


def spread_over(cell: str, shape: tuple[int, int, int]) -> int:
    """On how many of two devices a command trains such a model."""
    _, batch, hidden = shape
    params = jax.eval_shape(getattr(sj, cell)(hidden, hidden, dtype=jnp.float32).init, jax.random.key(0))
    return spreading.best(2, batch, params)


def alone(row: Row) -> int:
    """One sequence is never spread: the devices of its rows, otherwise none."""
    return 1 if row["batch"] == 1 else 0


def shape_of(row: Row) -> tuple[int, int, int]:
    """T, B and h."""
    return row["ticks"], row["batch"], row["hidden_size"]


def shapes_of(found: Sequence[Row]) -> list[tuple[int, int, int]]:
    """Of all rows, in their order."""
    return list(dict.fromkeys(map(shape_of, found)))


def shape_heads(found: Sequence[Row]) -> list[str]:
    """A column's head each."""
    return [", ".join(f"{n:,}" for n in shape) for shape in shapes_of(found)]


def of_shapes(found: Sequence[Row]) -> str:
    """What the numbers are, in words."""
    runs = [len({row.get("run", 1) for row in members}) for members in by(found, "cell", "pass").values()]
    over_runs = "one run" if max(runs) == 1 else f"medians of {' or '.join(map(str, sorted({*runs})))} runs"
    return f"T, B, h in the head; medians of {min(row['rounds'] for row in found)} rounds or more, {over_runs}"
