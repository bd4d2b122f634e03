"""Who takes part: a library with its settings, proven right before it is timed."""

from typing import Any, NamedTuple

import jax

from benchmarks import memory, ours, peers, problem, program, timing
from benchmarks.peers import plain_scan
from benchmarks.problem import Problem, Result


class Candidate(NamedTuple):
    """Something that may run a row: a library, for ours with its settings, over so many devices."""

    library: str
    devices: int
    engine: str | None = None
    memory: str | int | None = None

    @property
    def name(self) -> str:
        """As in tables, plots and records; torch has no devices on a CPU, its threads use every core."""
        auto = (self.engine, self.memory) == ("auto", "auto")
        settings = "" if self.engine is None else " auto" if auto else f" {self.engine}/{self.memory}"
        return self.library + settings + ("" if self.library == "torch" else f" ×{self.devices}")

    def share(self, batch: int) -> int:
        """Over how many devices a batch can be spread evenly, this many at most."""
        return max(n for n in range(1, self.devices + 1) if batch % n == 0)

    def variant(self, row: Problem) -> str | None:
        """The cell that it runs for this row, None if it has none or cannot spread the batch."""
        if self.devices > 1 and self.share(row.batch) == 1:
            return None
        if self.library == "seqjax":
            return row.cell
        module = peers.find(self.library)
        if row.dtype not in getattr(module, "DTYPES", problem.DTYPES):
            return None
        return module.CELLS.get(row.cell)

    def runner(self, row: Problem, which: str) -> program.Runner:
        """Compiled and fed."""
        if self.library == "torch":
            return peers.find("torch").runner(row, which)
        if self.library == "seqjax":
            adapter = ours.adapter(row, self.engine, self.memory)
        else:
            adapter = peers.find(self.library).adapter(row)
        return program.compiled(adapter, row, self.variant(row), which, self.share(row.batch))


class Limits(NamedTuple):
    """What a candidate may take: bytes, seconds a call."""

    bytes: float
    seconds: float

    def check(self, verb: str, *, seconds: float = 0, taken: float = 0) -> None:
        """Raises `Unmeasured` beyond them."""
        if taken > self.bytes:
            raise Unmeasured(f"{verb} {taken / 1e9:.1f} GB of {self.bytes / 1e9:.1f}")
        if seconds > self.seconds:
            raise Unmeasured(f"{verb} {seconds:.0f} s a call, more than {self.seconds:.0f}")


class Unmeasured(Exception):
    """Why a candidate is not timed on a row."""


def proven(
    candidate: Candidate,
    row: Problem,
    which: str,
    limits: Limits,
    truths: dict[str, Result],
) -> tuple[program.Runner, dict[str, Any]]:
    """A candidate that has run once and agreed with the truth, and what that showed."""
    try:
        runner = candidate.runner(row, which)
        if runner.bytes is not None:
            limits.check("asks for", taken=sum(runner.bytes))
        (value, growth), first_call_s = timing.once(lambda: runner.growth(runner.call))
    except (RuntimeError, ValueError) as failure:
        if str(failure).startswith("unroll: expected"):  # an engine that refuses the row, or is not there
            raise Unmeasured(str(failure).splitlines()[0]) from failure
        if any(words in str(failure) for words in ("RESOURCE_EXHAUSTED", "out of memory", "memory to allow")):
            raise Unmeasured(str(failure).splitlines()[0]) from failure
        raise
    limits.check("took", seconds=first_call_s)
    variant = candidate.variant(row)
    if variant not in truths:
        truths[variant] = truth(row, variant, which)
    error, where = problem.error(runner.result(value), truths[variant])
    exact = jax.default_backend() == "cpu" or jax.config.jax_default_matmul_precision == "highest"
    tolerance = problem.tolerance(row, coarse_products=not exact)
    if not error <= tolerance and row.dtype in ("float32", "float64"):
        raise Unmeasured(f"differs by {error:.1e} in {where}, more than {tolerance:.0e}")
    taken = runner.bytes or memory.Bytes(None, None, None)
    plan = None
    if candidate.library == "seqjax":
        plan = ours.plan(row, candidate.engine, candidate.memory, candidate.share(row.batch))
    return runner, {
        "plan": plan,
        "trace_s": runner.trace_s,
        "compile_s": runner.compile_s,
        "first_call_s": first_call_s,
        "temporary_bytes": taken.temporaries,
        "argument_bytes": taken.arguments,
        "output_bytes": taken.outputs,
        "growth_bytes": growth,
        "error": error,
        "error_in": where,
    }


def truth(row: Problem, cell: str, which: str) -> Result:
    """Of the equations, scanned in a wide dtype with exact products."""
    adapter = plain_scan.truth(row, cell)
    with jax.default_matmul_precision("highest"):
        runner = program.compiled(adapter, row, cell, which, dtype=row.wide)
    return runner.result(runner.call())


def describe(candidate: Candidate, row: Problem, which: str) -> dict[str, Any]:
    """The part of a record that is known beforehand."""
    line = {
        "benchmark": "bptt",
        "device": jax.devices()[0].device_kind,
        **row._asdict(),
        "pass": which,
        "candidate": candidate.name,
        "library": candidate.library,
        "devices": candidate.share(row.batch),
        "variant": candidate.variant(row),
    }
    if candidate.library == "torch":
        line |= {"cudnn": peers.find("torch").cudnn()}
    if candidate.library == "seqjax":
        line |= {"engine": candidate.engine, "memory": candidate.memory}
    return line
