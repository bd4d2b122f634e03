"""What would run and why, in words and numbers."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from seqjax.engines.costs import Costs, total_bytes
from seqjax.engines.jaxprs import Equation
from seqjax.engines.plan import Plan


class LoopReport(NamedTuple):
    """One loop: its place, what it carries and what it computes a tick.

    Attributes:
      stage: its place in the program.
      state: types of the state's leaves it carries.
      products: matrix products a tick, forwards; the backward loop has as many, unless two share a weight.
      equations: equations a tick.
      deferred: weights whose gradient is one product behind the backward loop.
    """

    stage: int
    state: tuple[str, ...]
    products: int
    equations: int
    deferred: tuple[str, ...]


class Explanation(NamedTuple):
    """The plan of one `seqjax.unroll`; ``print`` it.

    Attributes:
      engine: what runs.
      why: the reasons, in order.
      ticks: T.
      chunk: ticks a chunk.
      keep: what a chunk keeps for its gradient: all, carries or nothing.
      blocks: ticks a block where chunks nest.
      once: work done once, as primitive names and counts.
      before: per stage, work lifted in front of the loop.
      loops: the loops.
      behind: work lifted behind the last loop.
      bytes_a_tick: kept for the gradient, by ``memory=``.
      total_bytes: predicted for this plan.
    """

    engine: str
    why: tuple[str, ...]
    ticks: int
    chunk: int
    keep: str
    blocks: tuple[int, ...]
    once: dict[str, int]
    before: tuple[dict[str, int], ...]
    loops: tuple[LoopReport, ...]
    behind: dict[str, int]
    bytes_a_tick: dict[str, int]
    total_bytes: int

    def __str__(self) -> str:
        """The plan in words."""
        nested = f", nested in blocks of {', '.join(map(str, self.blocks))}" if self.blocks else ""
        lines = [
            f"engine {self.engine}: {'; '.join(self.why)}",
            f"{self.ticks} ticks in chunks of {self.chunk}{nested}; a chunk keeps {self.keep} for its gradient",
        ]
        if self.once:
            lines.append(f"once: {_listed(self.once)}")
        for stage, work in enumerate(self.before):
            if work:
                lines.append(f"stage {stage}, a chunk at a time: {_listed(work)}")
            for loop in (loop for loop in self.loops if loop.stage == stage):
                gone = f"; gradient of {', '.join(loop.deferred)} behind the loop" if loop.deferred else ""
                lines.append(
                    f"stage {stage}, loop over {', '.join(loop.state) or 'ticks'}: "
                    f"{loop.products} products, {loop.equations} equations a tick{gone}"
                )
        if self.behind:
            lines.append(f"behind the loops, a chunk at a time: {_listed(self.behind)}")
        costs = ", ".join(f"{name} {value:,}" for name, value in self.bytes_a_tick.items())
        lines.append(f"predicted bytes a tick: {costs}; this plan {self.total_bytes:,} bytes")
        return "\n".join(lines)


def explain(plan: Plan, costs: Costs, length: int) -> Explanation:
    """Describes a plan."""
    once: dict[str, int] = {}
    before: list[dict[str, int]] = []
    loops: list[LoopReport] = []
    behind: dict[str, int] = {}
    if plan.prepared is not None:
        once = _work(plan.prepared.program.once)
        for stage, (parts, (batched, _), loop) in enumerate(plan.prepared.parts):
            if loop.equations or loop.state:
                before.append(_work(batched))
                loops.append(
                    LoopReport(
                        stage,
                        tuple(v.aval.str_short() for v in loop.state),
                        sum(e.primitive.name == "dot_general" for e in parts.looped),
                        len(parts.looped),
                        tuple(dict.fromkeys(d.variable.aval.str_short() for d in loop.deferred if d.is_product)),
                    )
                )
            else:
                behind = _work(batched)
    return Explanation(
        engine=plan.engine,
        why=plan.why,
        ticks=length,
        chunk=plan.schedule.chunk,
        keep=plan.schedule.keep,
        blocks=plan.schedule.blocks,
        once=once,
        before=tuple(before),
        loops=tuple(loops),
        behind=behind,
        bytes_a_tick=costs._asdict(),
        total_bytes=total_bytes(plan.schedule, length, costs),
    )


def _work(equations: Sequence[Equation]) -> dict[str, int]:
    """Primitives by count, without those that only move or reshape."""
    moves = {
        "broadcast_in_dim",
        "reshape",
        "squeeze",
        "expand_dims",
        "slice",
        "split",
        "transpose",
        "concatenate",
    }
    return dict(Counter(e.primitive.name for e in equations if e.primitive.name not in moves))


def _listed(work: dict[str, int]) -> str:
    return ", ".join(f"{name} ×{count}" if count > 1 else name for name, count in work.items())
