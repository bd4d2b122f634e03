"""Which engine runs a recurrence, in chunks of what length, and what its gradient keeps."""

import functools
import itertools
import math
import os
import re
from collections.abc import Callable
from typing import NamedTuple

import jax

from seqjax import checks
from seqjax.base import PyTree
from seqjax.engines import jaxprs
from seqjax.engines.chunked import Schedule, kept
from seqjax.engines.distribute import UnsupportedError
from seqjax.engines.scan import scan
from seqjax.engines.split import Split, split

ENGINES = ("auto", "scan", "split")
MEMORY = ("auto", "all", "carries", "sqrt", "log")
UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
FAN = 8


class Costs(NamedTuple):
    """Bytes a tick, by what is kept for the gradient.

    Attributes:
      state: a, the state at one tick.
      all: r, everything the backward pass reads.
      carries: what ``memory="carries"`` keeps.
    """

    state: int
    all: int
    carries: int


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
        # Below about 8 ticks a loop's fixed cost outweighs what is lifted out of it.
        engine = "split" if length >= 8 else "scan"
        why.append(f"{engine}: {length} ticks")
    prepared = None
    if engine == "split":
        try:
            prepared = Split(step, params, state, xs)
        except UnsupportedError as refusal:
            engine = "scan"
            why.append(f"scan: {refusal}")
    costs = functools.cache(lambda: predict(prepared, step, params, state, xs))
    schedule, reason = _schedule(engine, memory, budget, length, prepared, costs)
    return Plan(engine, schedule, (*why, reason), prepared)


def predict(prepared: Split | None, step: Callable, params: PyTree, state: PyTree, xs: PyTree) -> Costs:
    """Bytes a tick that a gradient keeps, counted from the residuals of a short chunk."""
    leaves, tree = jax.tree.flatten(state)
    inputs, inputs_tree = jax.tree.flatten(xs)
    ticks = min([4, *(x.shape[0] for x in inputs)])
    chunk_types = [jaxprs.trace(lambda x: x[:ticks], jax.typeof(x)).out_avals[0] for x in inputs]

    def bytes_a_tick(keep: str) -> int:
        def chunk(state: list, xs: list, params: PyTree) -> tuple:
            if prepared is None:
                state, xs = tree.unflatten(state), inputs_tree.unflatten(xs)
                return scan(step, params, state, xs, schedule=Schedule(ticks, keep), length=ticks, reverse=False)
            early = prepared.early(params, tree.unflatten(state))

            def run(state: list, xs: list) -> tuple[list, list]:
                recompute = keep == "carries"
                return prepared.chunk(early, state, xs, length=ticks, reverse=False, recompute=recompute)

            return kept(run, keep, in_loop=True)(state, xs)

        def residuals(*values: jax.Array) -> list:
            s, x, p = (
                values[: len(leaves)],
                values[len(leaves) : len(leaves) + len(inputs)],
                values[len(leaves) + len(inputs) :],
            )
            pullback = jax.vjp(chunk, list(s), list(x), jax.tree.unflatten(jax.tree.structure(params), p))[1]
            return jax.tree.leaves(pullback)

        flat = [*map(jax.typeof, leaves), *chunk_types, *map(jax.typeof, jax.tree.leaves(params))]
        jaxpr = jaxprs.trace(residuals, *flat).jaxpr
        given = set(jaxpr.invars)
        varying = jaxprs.dependent(jaxpr.eqns, jaxpr.invars[: len(leaves) + len(inputs)])
        found = {v for v in jaxpr.outvars if not jaxprs.is_literal(v) and v in varying and v not in given}
        return sum(jaxprs.nbytes(v.aval) for v in found if v.aval.ndim and v.aval.shape[0] == ticks) // ticks

    a = sum(jaxprs.nbytes(jax.typeof(leaf)) for leaf in leaves)
    return Costs(a, bytes_a_tick("all"), bytes_a_tick("carries"))


def _schedule(
    engine: str, memory: str | int, budget: int | None, length: int, prepared: Split | None, costs: Callable
) -> tuple[Schedule, str]:
    if memory == "all" or (memory == "auto" and _fits_easily(prepared, length)):
        return Schedule(_batch_chunk(prepared, length), "all"), "all activations kept"
    if isinstance(memory, int):
        return Schedule(min(memory, length), "nothing"), f"states kept every {memory} ticks"
    if budget is None and memory != "auto":
        return _by_name(memory, length, prepared, costs()), memory
    budget = budget if budget is not None else _memory_of_device() // 4
    for name in ("all", "carries", "sqrt", "log"):
        schedule = (
            Schedule(_batch_chunk(prepared, length), "all")
            if name == "all"
            else _by_name(name, length, prepared, costs())
        )
        total = total_bytes(schedule, length, costs())
        if total <= budget:
            return schedule, f"{name}: {total:,} of {budget:,} bytes"
    raise ValueError(
        f"unroll: expected memory to allow at least {total:,} bytes for {length} ticks, got {budget:,}. "
        "Raise memory, or make the batch smaller."
    )


def _by_name(name: str, length: int, prepared: Split | None, costs: Costs) -> Schedule:
    if name == "carries":
        return Schedule(_batch_chunk(prepared, length), "carries")
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


def total_bytes(schedule: Schedule, length: int, costs: Costs) -> int:
    """Bytes that a gradient over ``length`` ticks keeps by a schedule; twice r inside the chunk at work."""
    at_work = 2 * costs.all * min(schedule.chunk, length)
    if schedule.keep != "nothing":
        return length * (costs.all if schedule.keep == "all" else costs.carries) + at_work
    sizes = [schedule.chunk, *schedule.blocks, length]
    borders = sum(math.ceil(outer / inner) for inner, outer in itertools.pairwise(sizes))
    return borders * costs.state + at_work


def _batch_chunk(prepared: Split | None, length: int) -> int:
    """Ticks whose batched work is large enough for a product and small enough for a cache."""
    if prepared is None:
        return length
    if prepared.late:
        # A chunk's gradient is rounded once to the narrow type of the cast weights: many chunks, small roundings.
        return divisor(length, 32)
    return divisor(length, max(32, 2**19 // max(prepared.batched_bytes, 1)))


def divisor(length: int, target: int) -> int:
    """A chunk near the target, within a factor of two, that divides the length; the target where none does.

    Without a remainder the inputs need not be copied, and only one chunk is compiled.
    """
    if length <= target:
        return length
    near = [k for k in range(-(-target // 2), 2 * target + 1) if length % k == 0]
    return min(near, key=lambda k: abs(math.log(k / target)), default=target)


def _fits_easily(prepared: Split | None, length: int) -> bool:
    """Whether every value of every tick together is small beside the device's memory."""
    return prepared is not None and length * prepared.tick_bytes < _memory_of_device() // 8


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
