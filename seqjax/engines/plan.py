"""Which engine runs a recurrence, and how much memory it may keep."""

from collections.abc import Callable

from seqjax import checks
from seqjax.base import PyTree
from seqjax.engines.scan import scan

ENGINES = ("auto", "scan")
MEMORY = ("auto", "all")


def engine(
    name: str, memory: str | int, step: Callable, params: PyTree, state: PyTree, xs: PyTree, *, length: int
) -> Callable:
    """The engine by name, or by the rules for ``"auto"``."""
    checks.choice("unroll", "engine", name, ENGINES)
    checks.choice("unroll", "memory", memory, MEMORY)
    return scan
