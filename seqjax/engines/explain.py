"""What would run and why, in words and numbers."""

from typing import NamedTuple

from seqjax import symbolic
from seqjax.engines.base import LoopReport
from seqjax.engines.costs import total_bytes
from seqjax.engines.plan import Plan


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
                way = f"{loop.way}, " if loop.way else ""
                gone = f"; gradient of {', '.join(loop.deferred)} behind the loop" if loop.deferred else ""
                lines.append(
                    f"stage {stage}, loop over {', '.join(loop.state) or 'ticks'}: "
                    f"{way}{loop.products} products, {loop.equations} equations a tick{gone}"
                )
        if self.behind:
            lines.append(f"behind the loops, a chunk at a time: {_listed(self.behind)}")
        costs = ", ".join(f"{name} {value:,}" for name, value in self.bytes_a_tick.items())
        total = f"{self.total_bytes:,}" if symbolic.known(self.total_bytes) else str(self.total_bytes)
        lines.append(f"predicted bytes a tick: {costs}; this plan {total} bytes")
        return "\n".join(lines)


def explain(plan: Plan, length: int) -> Explanation:
    """Describes a plan."""
    prepared, schedule, costs = plan.prepared, plan.schedule, plan.prepared.costs()
    return Explanation(
        engine=prepared.name,
        why=plan.why,
        ticks=length,
        **schedule._asdict(),
        **prepared.work()._asdict(),
        bytes_a_tick=costs._asdict(),
        total_bytes=total_bytes(schedule, length, costs),
    )


def _listed(work: dict[str, int]) -> str:
    return ", ".join(f"{name} ×{count}" if count > 1 else name for name, count in work.items())
