"""What would run and why, in words and numbers."""

from typing import NamedTuple

from seqjax import symbolic
from seqjax.engines.base import LoopReport
from seqjax.engines.costs import predicted
from seqjax.engines.plan import Plan


class Explanation(NamedTuple):
    """The plan of one `seqjax.unroll`; ``print`` it.

    Attributes:
      engine: what runs.
      why: the reasons, in order.
      forwards: why a pass of which no gradient is taken runs the step as it stands; empty where it does not.
      refusal: why no gradient can be taken; empty where it can.
      ticks: T.
      chunk: ticks a chunk.
      keep: what a chunk keeps for its gradient: all, carries or nothing.
      blocks: ticks a block where chunks nest.
      chunk_forwards: ticks a chunk of a pass of which no gradient is taken.
      once: work done once, as primitive names and counts.
      before: per stage, work lifted in front of the loop.
      loops: the loops.
      behind: work lifted behind the last loop.
      bytes_a_tick: kept for the gradient, by ``memory=``.
      predicted: bytes that value and gradient take by this plan, as ``kept``, ``outputs`` and ``at_work``: see
        `seqjax.engines.costs.predicted`.
      total_bytes: their sum.
    """

    engine: str
    why: tuple[str, ...]
    forwards: str
    refusal: str
    ticks: int
    chunk: int
    keep: str
    blocks: tuple[int, ...]
    chunk_forwards: int
    once: dict[str, int]
    before: tuple[dict[str, int], ...]
    loops: tuple[LoopReport, ...]
    behind: dict[str, int]
    bytes_a_tick: dict[str, int]
    predicted: dict[str, int]
    total_bytes: int

    def __str__(self) -> str:
        """The plan in words."""
        nested = f", nested in blocks of {', '.join(map(str, self.blocks))}" if self.blocks else ""
        if self.chunk_forwards != self.chunk and not self.forwards:
            nested += f" (of {self.chunk_forwards} where no gradient is taken)"
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
        lines.append(f"kept for a gradient, in bytes a tick: {_numbers(self.bytes_a_tick)}")
        parts = _numbers({name.replace("_", " "): value for name, value in self.predicted.items()})
        lines.append(f"predicted bytes of value and gradient: {_number(self.total_bytes)}: {parts}")
        return "\n".join(lines)


def explain(plan: Plan, length: int) -> Explanation:
    """Describes a plan."""
    prepared, schedule, costs = plan.prepared, plan.schedule, plan.prepared.costs()
    bytes_of_plan = predicted(schedule, length, costs)
    return Explanation(
        engine=prepared.name,
        why=plan.why,
        forwards=prepared.forwards,
        refusal=plan.refusal,
        ticks=length,
        **schedule._replace(chunk_forwards=schedule.chunk_forwards or schedule.chunk)._asdict(),
        **prepared.work()._asdict(),
        bytes_a_tick={"state": costs.state, "all": costs.all, "carries": costs.carries},
        predicted=bytes_of_plan._asdict(),
        total_bytes=bytes_of_plan.total,
    )


def _numbers(values: dict[str, int]) -> str:
    return ", ".join(f"{name} {_number(value)}" for name, value in values.items())


def _number(value: int) -> str:
    return f"{value:,}" if symbolic.known(value) else str(value)


def _listed(work: dict[str, int]) -> str:
    return ", ".join(f"{name} ×{count}" if count > 1 else name for name, count in work.items())
