"""Which engine runs a recurrence, in chunks of what length, and what its gradient keeps."""

import contextlib
import contextvars
import math
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import jax

from seqjax import checks, symbolic
from seqjax.base import PyTree
from seqjax.engines import cudnn, pallas, platforms, scan
from seqjax.engines.base import Prepared, Problem, UnsupportedError
from seqjax.engines.costs import predicted
from seqjax.engines.equations.jaxprs import is_float
from seqjax.engines.equations.linear_call import never_transposed
from seqjax.engines.linear import engine as linear
from seqjax.engines.memory import Schedule, blocks, divisor
from seqjax.engines.split import engine as split
from seqjax.room import memory_of_device

# Every engine by its name. An entry makes it known: to `unroll` and `explain`, to errors, to the laws.
ENGINES: dict[str, Callable[[Problem], Prepared]] = {
    "scan": scan.prepare,
    "split": split.prepare,
    "linear": linear.prepare,
    "pallas": pallas.prepare,
    "cudnn": cudnn.prepare,
}
EngineName = Literal["auto", "scan", "split", "linear", "pallas", "cudnn"]
MEMORY = ("auto", "all", "carries", "sqrt", "log")
UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
# Parts of the device's memory: a quarter for what is kept under ``memory="auto"``; where all values of all ticks
# together take half of that, nothing need be counted first.
BUDGET, EASY = 4, 8
# The least chunk of ``memory="sqrt"`` and ``"log"``, not measured: fewer ticks would leave little to batch.
NARROWEST_CHUNK = 16


class Plan(NamedTuple):
    """The choice: an engine ready to run, its schedule and the reasons.

    Attributes:
      prepared: the engine.
      schedule: of time.
      why: the reasons, in order.
      refusal: why no gradient is taken, where memory allows none; what keeps nothing runs all the same.
    """

    prepared: Prepared
    schedule: Schedule
    why: tuple[str, ...]
    refusal: str = ""

    def run(self) -> tuple[PyTree, PyTree]:
        """The last state and the outputs."""
        result = self.prepared.run(self.schedule)
        if not self.refusal:
            return result
        guarded = lambda leaf: never_transposed(leaf, self.refusal) if is_float(jax.typeof(leaf)) else leaf
        return jax.tree.map(guarded, result)


_WRITTEN = contextvars.ContextVar("written", default=False)


@contextlib.contextmanager
def as_written() -> Iterator[None]:
    """While it lasts, every recurrence is run as its equations stand, by scan: for who counts them."""
    token = _WRITTEN.set(True)
    try:
        yield
    finally:
        _WRITTEN.reset(token)


def runs_as_written() -> bool:
    """Whether `as_written` is asked for."""
    return _WRITTEN.get()


def choose(problem: Problem, engine: str, memory: str | int, chunk: int | None = None) -> Plan:
    """Chooses by name, or by the rules for ``"auto"``, each with the measurement that justifies it."""
    checks.choice("unroll", "engine", engine, ("auto", *ENGINES))
    budget = _budget(memory)
    why: tuple[str, ...] = ()
    if problem.time_axis is not None:
        checks.choice("unroll", "engine", engine, ("auto", "linear"))
        engine = "linear"
    problem = problem.settled()
    engine, chunk = ("scan", None) if _WRITTEN.get() else (engine, chunk)
    prepare: Callable[[Problem], Prepared] = ENGINES.get(engine, scan.prepare)
    if engine == "auto":
        # Measured on two cores, float32, a training step of an LSTM, times faster than plain scan (medians of 60
        # interleaved rounds): 8 × 128 units 1.5 at 2 ticks, 1.4 at 4, 1.5 at 8, 1.8 at 32, 1.9 at 1,024; 32 × 256
        # units 1.6, 1.2, 1.4, 1.1. At one tick there is no loop to split.
        # Of a number of ticks that is not known no chunk is the right one, and in one piece all of time's batched work
        # would be in memory at once.
        known = symbolic.known(problem.length)
        engine = "split" if known and problem.length > 1 else "scan"
        why = (f"{engine}: {problem.length} ticks" + (", no number to cut into chunks" if not known else ""),)
        # A recurrence that is linear number by number is never slower run as one, and 1.35 to 2.1 times as fast as a
        # scan of the textbook step, interleaved on two cores; a matrix state up to 14 times (`linear.matrix.way`).
        # Blocks are left to ticks (`linear.dense`).
        if engine == "split":
            prepare = linear.mixed
    try:
        prepared = prepare(problem)
    except UnsupportedError as unsupported:
        # What scan cannot run, nothing can; and by its own name an engine refuses with an error that says so.
        prepared = ENGINES["scan"](problem)
        why = (*why, f"scan: {unsupported}")
    asked = None if chunk is None else _asked(prepared, memory, chunk, problem)
    ticks = lambda keep: prepared.chunk(problem.length, keep=keep) if asked is None else asked
    refusal = ""
    if symbols := problem.symbols():
        schedule, reason = _schedule_of_symbols(prepared, memory, budget, problem.length, ticks, symbols)
        counted = ", ".join(symbol for symbol in symbols if symbol != str(problem.length))
        why = (*why, f"bytes are those of {counted} = {symbolic.SYMBOL}") if counted else why
    else:
        schedule, reason, refusal = _schedule(prepared, memory, budget, problem.length, ticks)
        if chunk is None and schedule.keep != "nothing":
            schedule = schedule._replace(chunk_forwards=prepared.chunk(problem.length, forwards=True))
    return Plan(prepared, schedule, (*why, *prepared.why, reason, *_unmeasured(prepared, engine)), refusal)


def _unmeasured(prepared: Prepared, engine: str) -> tuple[str, ...]:
    """What is to be said of rules that decided something and were measured nowhere."""
    platform = platforms.planned()
    if platform.measured or not (engine == "auto" or isinstance(prepared, split.Split)):
        return ()
    return (f"rules for {platform.name} are estimates, measured nowhere: seqjax.tune measures",)


def _asked(prepared: Prepared, memory: str | int, chunk: int, problem: Problem) -> int:
    """Ticks of a chunk as the caller wants them, in the place of those that the engine does best with."""
    checks.sizes("unroll", chunk=chunk)
    if not isinstance(prepared, split.Split) or problem.time_axis is not None or not symbolic.known(problem.length):
        raise ValueError(
            f"unroll: expected an engine that cuts a number of ticks into chunks for chunk={chunk}, got "
            f"{prepared.name!r} over {problem.length}. Leave chunk out, or use engine='split'."
        )
    if memory in ("sqrt", "log") or isinstance(memory, int):
        raise ValueError(
            f"unroll: expected memory='all', 'carries', 'auto' or a budget beside chunk={chunk}, got {memory!r}, which "
            "says itself how time is cut. Leave one of them out; memory=128 keeps states every 128 ticks."
        )
    return min(chunk, problem.length)


def listed() -> str:
    """The table of engines for documentation: each by its name and what its ``prepare`` says of itself."""
    entries = []
    for name, prepare in ENGINES.items():
        said = (prepare.__doc__ or "").partition("Raises:")[0]
        entries.append(f'- ``"{name}"``: {" ".join(said.split())}')
    entries.append('- ``"auto"``: chosen by the rules in `seqjax.engines.plan`.')
    return "\n".join(textwrap.fill(entry, 114, subsequent_indent="  ") for entry in entries)


def _schedule(
    prepared: Prepared, memory: str | int, budget: int | None, length: int, ticks: Callable[[str], int]
) -> tuple[Schedule, str, str]:
    """The schedule, its reason, and why there is no gradient if no schedule keeps within the budget.

    ``ticks`` a chunk by what it keeps, where memory does not say itself how time is cut.
    """
    everything = Schedule(ticks("all"), "all"), "all activations kept", ""
    if set(prepared.keeps) == {"all"}:
        if memory not in ("auto", "all"):
            raise ValueError(
                f"unroll: expected memory='auto' or 'all' for engine={prepared.name!r}, which keeps all activations, "
                f"got {memory!r}. Use engine='split', which takes any."
            )
        return everything
    if memory == "all" or (memory == "auto" and length * prepared.tick_bytes() < memory_of_device() // EASY):
        return everything
    if isinstance(memory, int):
        return Schedule(min(memory, length), "nothing"), f"states kept every {memory} ticks", ""
    if budget is None and memory != "auto":
        return _by_name(memory, prepared, length, ticks), memory, ""
    budget = budget if budget is not None else memory_of_device() // BUDGET
    costs = prepared.costs()
    for name in ("all", "carries", "sqrt", "log"):
        schedule = _by_name(name, prepared, length, ticks)
        total = predicted(schedule, length, costs).total
        if total <= budget:
            return schedule, f"{name}: {total:,} of {budget:,} bytes", ""
    refusal = (
        f"unroll: expected memory to allow at least {total:,} bytes for {length} ticks, got {budget:,}. "
        "Raise memory, or make the batch smaller."
    )
    return schedule, f"forwards only: a gradient takes at least {total:,} bytes, of {budget:,}", refusal


def _schedule_of_symbols(
    prepared: Prepared,
    memory: str | int,
    budget: int | None,
    length: int,
    ticks: Callable[[str], int],
    symbols: tuple[str, ...],
) -> tuple[Schedule, str]:
    """Where sizes are symbols of `jax.export`: their bytes are not known, and a symbolic length has no chunks."""
    named = ", ".join(symbols)
    if budget is not None:
        raise ValueError(
            f"unroll: expected sizes that are numbers for a budget of memory, got the symbols {named}. "
            "Choose memory by a name such as 'sqrt'."
        )
    if memory == "auto":
        return Schedule(ticks("all"), "all"), f"all activations kept: bytes depend on {named}"
    if symbolic.known(length):
        return _schedule(prepared, memory, budget, length, ticks)[:2]
    if memory not in ("all", "carries"):
        raise ValueError(
            f"unroll: expected memory='all' or 'carries' for {length} ticks, which is no number to cut into chunks, "
            f"got {memory!r}. Choose one of them, or export with a length that is a number."
        )
    return Schedule(length, str(memory)), f"{memory} of all ticks: {length} is no number to cut into chunks"


def _by_name(name: str, prepared: Prepared, length: int, ticks: Callable[[str], int]) -> Schedule:
    if name in ("all", "carries"):
        return Schedule(ticks(name), name)
    costs = prepared.costs()
    best = math.sqrt(length * costs.state / (2 * costs.all)) if costs.all else length
    chunk = divisor(length, max(NARROWEST_CHUNK, round(best)))
    if name == "sqrt":
        return Schedule(chunk, "nothing")
    # What a chunk takes at work is most of what is left: a quarter of what is fastest.
    chunk = min(chunk, divisor(length, max(NARROWEST_CHUNK, ticks("carries") // 4)))
    return Schedule(chunk, "nothing", blocks(length, chunk))


def check_options(engine: object, memory: object) -> None:
    """Options of a type that they can have; which of them there are is looked up where they are needed."""
    if not isinstance(engine, str):
        checks.choice("unroll", "engine", engine, ("auto", *ENGINES))
    if not isinstance(memory, str | int):
        _budget(memory)  # type: ignore[arg-type]


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
