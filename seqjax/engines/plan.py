"""Which engine runs a recurrence, in chunks of what length, and what its gradient keeps."""

import functools
import math
import os
import re
from collections.abc import Callable
from typing import NamedTuple

import jax

from seqjax import checks
from seqjax.base import PyTree
from seqjax.engines import jaxprs, pallas
from seqjax.engines.chunked import Schedule
from seqjax.engines.costs import Costs, predict, total_bytes
from seqjax.engines.distribute import UnsupportedError
from seqjax.engines.scan import scan
from seqjax.engines.split import Split, split

ENGINES = ("auto", "scan", "split", "pallas", "cudnn")
MEMORY = ("auto", "all", "carries", "sqrt", "log")
UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
FAN = 8


class Plan(NamedTuple):
    """The choice: an engine by name, its schedule and the reasons."""

    engine: str
    schedule: Schedule
    why: tuple[str, ...]
    prepared: Split | None

    def run(
        self, step: Callable, params: PyTree, state: PyTree, xs: PyTree, *, length: int, reverse: bool
    ) -> tuple[PyTree, PyTree]:
        """Runs the step as planned."""
        if self.prepared is not None:
            return split(self.prepared, params, state, xs, schedule=self.schedule, length=length, reverse=reverse)
        return scan(step, params, state, xs, schedule=self.schedule, length=length, reverse=reverse)


def choose(
    engine: str, memory: str | int, step: Callable, params: PyTree, state: PyTree, xs: PyTree, *, length: int
) -> Plan:
    """Chooses by name, or by the rules for ``"auto"``, each with the measurement that justifies it."""
    checks.choice("unroll", "engine", engine, ENGINES)
    budget = _budget(memory)
    why = []
    if engine == "auto":
        # Measured on two cores, float32, a training step of an LSTM, times faster than plain scan (medians of 60
        # interleaved rounds): 8 × 128 units 1.5 at 2 ticks, 1.4 at 4, 1.5 at 8, 1.8 at 32, 1.9 at 1,024; 32 × 256
        # units 1.6, 1.2, 1.4, 1.1. At one tick there is no loop to split.
        engine = "split" if length > 1 else "scan"
        why.append(f"{engine}: {length} ticks")
    prepared = None
    if engine == "split":
        try:
            prepared = Split(step, params, state, xs)
        except UnsupportedError as refusal:
            engine = "scan"
            why.append(f"scan: {refusal}")
    elif engine == "pallas":
        prepared, kernels = pallas.prepare(step, params, state, xs)
        why += kernels
    costs = functools.cache(lambda: predict(prepared, step, params, state, xs))
    schedule, reason = _schedule(memory, budget, length, prepared, state, costs)
    return Plan(engine, schedule, (*why, reason), prepared)


def _schedule(
    memory: str | int,
    budget: int | None,
    length: int,
    prepared: Split | None,
    state: PyTree,
    costs: Callable[[], Costs],
) -> tuple[Schedule, str]:
    if memory == "all" or (memory == "auto" and _fits_easily(prepared, state, length)):
        return Schedule(_batch_chunk(prepared, length), "all"), "all activations kept"
    if isinstance(memory, int):
        return Schedule(min(memory, length), "nothing"), f"states kept every {memory} ticks"
    if budget is None and memory != "auto":
        return _by_name(memory, length, prepared, costs()), memory
    budget = budget if budget is not None else _memory_of_device() // 4
    for name in ("all", "carries", "sqrt", "log"):
        schedule = _by_name(name, length, prepared, costs())
        total = total_bytes(schedule, length, costs())
        if total <= budget:
            return schedule, f"{name}: {total:,} of {budget:,} bytes"
    raise ValueError(
        f"unroll: expected memory to allow at least {total:,} bytes for {length} ticks, got {budget:,}. "
        "Raise memory, or make the batch smaller."
    )


def _by_name(name: str, length: int, prepared: Split | None, costs: Costs) -> Schedule:
    if name in ("all", "carries"):
        return Schedule(_batch_chunk(prepared, length), name)
    best = math.sqrt(length * costs.state / (2 * costs.all)) if costs.all else length
    chunk = divisor(length, max(16, round(best)))
    if name == "sqrt":
        return Schedule(chunk, "nothing")
    chunk = min(chunk, _batch_chunk(prepared, length))
    return Schedule(chunk, "nothing", blocks(length, chunk))


def blocks(length: int, chunk: int) -> tuple[int, ...]:
    """Nested blocks of about 8 chunks or smaller blocks each, without a remainder where the length allows.

    >>> blocks(16384, 32), blocks(10007, 32)
    ((256, 2048), (256, 2048))
    """
    sizes = []
    size = chunk
    while length > 2 * FAN * size:
        fans = [n for n in range(FAN // 2, 2 * FAN + 1) if length % (size * n) == 0]
        size *= min(fans, key=lambda n: abs(math.log(n / FAN)), default=FAN)
        sizes.append(size)
    return tuple(sizes)


def _batch_chunk(prepared: Split | None, length: int) -> int:
    """Ticks whose batched work is large enough for a product and small enough for a cache."""
    if prepared is None or prepared.ticks.all_at_once:
        return length
    if prepared.late:
        # A chunk's gradient is rounded once to the narrow type of the cast weights: many chunks, small roundings.
        return divisor(length, 32)
    # Half a megabyte of batched values, at least 8 ticks. Measured, an LSTM's training step on one core in ms with
    # chunks of 8, 32, 64, 128 ticks and all of T (B, h: batched values a tick): 16, 128 (32 KB): 36.9, 41.4, 42.9,
    # 47.0, 47.7 for 256 ticks; 16, 256 (64 KB): 130, 137, 149, 153, 155 for 256; 4, 128 (8 KB): 42.0, 37.8, 38.0, 40.7,
    # 49.1 for 1,024.
    return divisor(length, max(8, 2**19 // max(prepared.batched_bytes, 1)))


def divisor(length: int, target: int) -> int:
    """A chunk near the target, within a factor of two, that divides the length; the target where none does.

    Without a remainder the inputs need not be copied, and only one chunk is compiled.
    """
    if length <= target:
        return length
    near = [k for k in range(-(-target // 2), 2 * target + 1) if length % k == 0]
    return min(near, key=lambda k: abs(math.log(k / target)), default=target)


def _fits_easily(prepared: Split | None, state: PyTree, length: int) -> bool:
    """Whether every value of every tick together is small beside the device's memory; needs no trace.

    Where the step was not traced, 32 values a tick are assumed for each of the state's (an LSTM computes 15).
    """
    state_bytes = sum(jaxprs.nbytes(jax.typeof(leaf)) for leaf in jax.tree.leaves(state))
    tick_bytes = 32 * state_bytes if prepared is None else prepared.tick_bytes
    return length * tick_bytes < _memory_of_device() // 8


@functools.cache
def _memory_of_device() -> int:
    """Bytes of memory of the default device; of the machine on a CPU."""
    device = jax.devices()[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _budget(memory: str | int) -> int | None:
    """Bytes of a budget such as ``"256MB"``; None for a name or a number of ticks."""
    if isinstance(memory, int) and not isinstance(memory, bool):
        checks.sizes("unroll", memory=memory)
        return None
    if memory in MEMORY:
        return None
    match = (
        re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?i?B)\s*", memory, re.IGNORECASE) if isinstance(memory, str) else None
    )
    if match is None:
        raise ValueError(
            f"unroll: expected memory to be one of {', '.join(map(repr, MEMORY))}, a chunk of ticks such as 128, "
            f"or a budget such as '256MB', got {memory!r}. Choose one of them."
        )
    return int(float(match[1]) * UNITS[match[2].upper()])
