"""Do the bytes that `seqjax.explain` predicts hold? Random cells, sizes and settings beside what the compiler says.

python -m benchmarks.predicted                  # 30 cases; a line for each, then the shares within 15 %
python -m benchmarks.predicted --cases 210 --seed 1

A case is a cell of the registry, a number of ticks, sequences and units, an engine and a memory setting, drawn at
random; of it value and gradient of a sum of squares are compiled, not run, and the compiler's temporary bytes are set
beside the prediction. Printed, not recorded: nothing in it depends on the machine but the compiler's choices.
"""

import argparse
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from seqjax.cells.registry import REGISTRY

WITHIN = 0.15
LEFT_OUT = ("echo_state", "sparse_echo_state")  # they draw their parameters on the host, where eigenvalues are found
ENGINES, MEMORIES = ("auto", "split", "scan"), ("auto", "all", "carries", "sqrt", "log", 16, 64)
TICKS, SEQUENCES, UNITS = (64, 2048), (1, 64), (16, 256)  # drawn evenly in the logarithm


class Case(NamedTuple):
    """What is compiled."""

    cell: str
    ticks: int
    sequences: int
    units: int
    engine: str
    memory: str | int


class Found(NamedTuple):
    """Bytes of a case, and whether the plan runs chunks a second time."""

    predicted: int
    taken: int
    again: bool

    @property
    def ratio(self) -> float:
        """Of what is predicted to what is taken."""
        return self.predicted / self.taken


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a line a case and the shares."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.predicted", description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(argv)
    rng, results = np.random.default_rng(chosen.seed), []
    print(f"{'cell':24}{'T':>6}{'B':>4}{'h':>5} {'engine':7}{'memory':>8}{'predicted':>14}{'taken':>14}{'ratio':>7}")
    while len(results) < chosen.cases:
        case = draw(rng)
        results.append(found(case))
        taken = results[-1]
        print(
            f"{case.cell:24}{case.ticks:6}{case.sequences:4}{case.units:5} {case.engine:7}{case.memory!s:>8}"
            f"{taken.predicted:14,}{taken.taken:14,}{taken.ratio:7.2f}",
            flush=True,
        )
    print(told("what is kept is read", [f for f in results if not f.again]))
    print(told("chunks run again", [f for f in results if f.again]))
    print(told("all", results))
    return 0


def draw(rng: np.random.Generator) -> Case:
    """One of them at random."""
    ticks, sequences, units = (round(float(np.exp(rng.uniform(*np.log(ends))))) for ends in (TICKS, SEQUENCES, UNITS))
    name = str(
        rng.choice([name for name, entry in REGISTRY.items() if len(entry.input_shape) == 1 and name not in LEFT_OUT])
    )
    return Case(name, ticks, sequences, units // 8 * 8, str(rng.choice(ENGINES)), MEMORIES[rng.integers(len(MEMORIES))])


def found(case: Case) -> Found:
    """What is predicted, and what the compiler asks for."""
    cell = REGISTRY[case.cell].sized(case.units, case.units)
    params = jax.eval_shape(cell.init, jax.random.key(0))
    state = jax.eval_shape(lambda params: cell.initial_state(params, (case.sequences,)), params)
    xs = jax.ShapeDtypeStruct((case.ticks, case.sequences, case.units), jnp.float32)
    settings = {"engine": case.engine, "memory": case.memory}

    def loss(params, state, xs):
        return sum((y**2).sum() for y in jax.tree.leaves(sj.unroll(cell, params, state, xs, **settings)[1]))

    compiled = jax.jit(jax.value_and_grad(loss)).lower(params, state, xs).compile()
    plan = sj.explain(cell, params, state, xs, **settings)
    return Found(plan.total_bytes, compiled.memory_analysis().temp_size_in_bytes, plan.keep == "nothing")


def told(what: str, results: Sequence[Found]) -> str:
    """Share within 15 %, median and ends."""
    ratios = sorted(f.ratio for f in results)
    if not ratios:
        return f"{what}: none"
    share = np.mean([abs(r - 1) <= WITHIN for r in ratios])
    large = [f for f in results if f.taken >= 2**20]
    of_large = f"{np.mean([abs(f.ratio - 1) <= WITHIN for f in large]):.0%} of {len(large)}" if large else "none"
    return (
        f"{what}: {share:.0%} of {len(ratios)} within {WITHIN:.0%} ({of_large} that take a megabyte or more), "
        f"median {statistics.median(ratios):.2f}, {ratios[0]:.2f} to {ratios[-1]:.2f}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
