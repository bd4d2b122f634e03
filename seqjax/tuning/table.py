"""What `tune` prints."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from seqjax.settings import Case
from seqjax.tuning.candidates import Candidate

COLUMNS = ("engine", "memory", "chunk", "devices", "time", "spread", "temporaries", "predicted", "")


class Row(NamedTuple):
    """A candidate and what came of it.

    Attributes:
      candidate: who.
      seconds: of every round; empty where it was not measured.
      temporaries: bytes that the compiled program takes beside its arguments and results.
      left_out: why it was not measured.
    """

    candidate: Candidate
    seconds: tuple[float, ...] = ()
    temporaries: int | None = None
    left_out: str = ""

    @property
    def median(self) -> float:
        """Of the rounds, in seconds."""
        return float(np.median(self.seconds))


def table(case: Case, rows: Sequence[Row], fastest: Row | None, passed: float) -> str:
    """The rows, times as parts of the first one's, which is scan's."""
    reference = rows[0].median
    lines = [COLUMNS, *(_cells(row, reference, row is fastest) for row in rows if row.seconds)]
    wide = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS) - 1)]
    texts = []
    for line in lines:
        cells = [text.ljust(n) if i < 2 else text.rjust(n) for i, (text, n) in enumerate(zip(line, wide))]
        texts.append("  ".join([*cells, line[-1]]).rstrip())
    texts += _reasons(rows)
    what = "value and gradient" if case.gradient else "forward pass"
    rounds = max(len(row.seconds) for row in rows)
    said = f"scan {reference * 1e3:,.4g} ms = 1, medians and quartiles of up to {rounds} rounds, {passed:.0f} s in all"
    return "\n".join([f"{what} of {case}", said, *texts])


def _cells(row: Row, reference: float, fastest: bool) -> tuple[str, ...]:
    settings, plan = row.candidate.settings, row.candidate.plan
    assert plan is not None
    lower, upper = np.quantile(row.seconds, [0.25, 0.75]) / reference
    return (
        settings.engine,
        str(settings.memory),
        f"{plan.chunk:,}",
        str(settings.devices),
        f"{row.median / reference:.3f}",
        f"{lower:.3f} to {upper:.3f}",
        "" if row.temporaries is None else f"{row.temporaries:,}",
        f"{plan.total_bytes:,}",
        ", ".join(["fastest"] * fastest + ["auto's own"] * row.candidate.own),
    )


def _reasons(rows: Sequence[Row]) -> list[str]:
    """Who was not measured, by the reason."""
    named: dict[str, list[str]] = {}
    for row in rows:
        if row.left_out:
            settings = row.candidate.settings
            chunk = "" if settings.chunk is None else f" in chunks of {settings.chunk}"
            devices = f" on {settings.devices} devices" if settings.devices > 1 else ""
            named.setdefault(row.left_out, []).append(f"{settings.engine} {settings.memory}{chunk}{devices}")
    return [f"{', '.join(names)}: {reason}" for reason, names in named.items()]
