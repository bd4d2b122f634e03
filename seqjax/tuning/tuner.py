"""The door: what is fastest for a recurrence, measured."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import chex
import jax

from seqjax import checks
from seqjax.base import Array, Cell, Params, State
from seqjax.buffers import owned
from seqjax.engines import plan
from seqjax.engines.base import Problem
from seqjax.engines.explain import Explanation
from seqjax.settings import Settings, files
from seqjax.settings.cases import case_of
from seqjax.tuning import rounds
from seqjax.tuning.candidates import ENGINES, MEMORY, Candidate, candidates, said
from seqjax.tuning.programs import Given, difference, numbers, placed, program, share, tolerance, widened
from seqjax.tuning.table import Row, table
from seqjax.unroll import checked, explain

# Of the time, for compiling, comparing and a first round each; the rest is for rounds.
BEFORE = 2 / 3
# That are measured whatever the time: the scan, and auto's own choice; and one with a memory that was asked for.
ALWAYS = 2


def tune(
    cell: Cell[Params, State],
    params: Params,
    state: State,
    xs: chex.ArrayTree | None,
    *,
    mask: Array | None = None,
    lengths: Array | None = None,
    reset: Array | None = None,
    length: int | None = None,
    reverse: bool = False,
    gradient: bool = True,
    engines: Sequence[str] = ENGINES,
    memory: Sequence[str | int] | None = None,
    chunks: Sequence[int] | None = None,
    devices: Sequence[int] = (1,),
    seconds: float = 60.0,
    path: str | os.PathLike | None = None,
    show: Callable[[str], Any] | None = print,
) -> Settings:
    """Measures which engine, memory and chunk are fastest for a recurrence, at these shapes, on this machine.

    Timed is a training step, the value and the gradient in params and state of a loss in which every output counts.
    Every candidate's results are compared with the scan's first; one whose numbers differ is named and dropped. Then
    all are timed in turns, and the one with the least median is returned. A table tells the times as parts of the
    scan's, the compiler's temporaries, and beside them the bytes that `seqjax.explain` predicts to be kept.

    The result goes into ``sj.unroll(…, settings=settings)``, `seqjax.recurrent`, or `seqjax.train_step`, which reads
    ``devices`` too; by way of a file ``engine="auto"`` finds it, where `seqjax.tuned` asks for that.

    Args:
      cell: as in `seqjax.unroll`, like all that follow.
      params: the parameters.
      state: the state before the first tick.
      xs: the inputs.
      mask: real ticks.
      lengths: in place of ``mask``.
      reset: first ticks of segments.
      length: T where ``xs`` is None.
      reverse: run backwards.
      gradient: whether a training step is measured, or the forward pass alone.
      engines: whom to try beside the scan, which everything is compared with; one that refuses this step says so.
      memory: what to keep for the gradient, as in `seqjax.unroll`, one of which the result has; all, carries, sqrt and
        log if None, for a forward pass all.
      chunks: ticks of a chunk to try beside the engine's own, where memory is all or carries; a half, twice and four
        times of these, and all of time if None.
      devices: numbers of devices to try, which share the first batch axis as in `seqjax.train_step`.
      seconds: for all of it, compiling included: two thirds for compiling, comparing and a first time each, the rest
        for more rounds, at most 20. What had no time is named. The scan and auto's choice are measured in any case.
      path: a file that the result is added to, for `seqjax.tuned`.
      show: is given the table; None for no table.

    Returns:
      The fastest `seqjax.Settings`, which know what they were measured for.

    Raises:
      ValueError: a problem that `seqjax.unroll` refuses or cannot differentiate, tracers in the place of arrays, a file
        of other versions, or nothing of what was asked could be measured.
      FileNotFoundError: no folder for the file.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> cell = sj.lstm(3, 4)
      >>> params = cell.init(jax.random.key(0))
      >>> state, xs = cell.initial_state(params, (2,)), jnp.ones((16, 2, 3))
      >>> settings = sj.tune(cell, params, state, xs, engines=("split",), memory=("all",), chunks=(), show=None)
      >>> state, ys = sj.unroll(cell, params, state, xs, settings=settings)
      >>> settings.engine in ("scan", "split"), settings.of.step
      (True, 'lstm(3, 4)')
    """
    begun = rounds.now()
    given = Given(*owned((params, state, xs, mask, lengths, reset)))
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(given)):
        raise ValueError(
            "tune: expected arrays to measure with, got tracers. Call it outside of jax.jit, jax.grad and jax.vmap, "
            "and give what it returns to unroll(…, settings=…) inside."
        )
    if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(given)):
        raise ValueError("tune: expected arrays to measure with, got shapes. Draw some: times hardly depend on values.")
    for engine in engines:
        checks.choice("tune", "engines", engine, ("auto", *plan.ENGINES))
    for name, counts in (("devices", devices), ("chunks", chunks or ())):
        if isinstance(counts, int) or (name == "devices" and not counts):
            raise ValueError(f"tune: expected {name} as a sequence of numbers, got {counts!r}. Write {name}=(1, 2).")
        checks.sizes("tune", **{f"{name}[{i}]": count for i, count in enumerate(counts)})
    if path is not None:
        files.writable(path)
    problem = checked(cell, *given[:3], **dict(zip(("mask", "lengths", "reset"), given[3:])), length=length)
    problem = problem._replace(reverse=reverse)
    given = Given(*(getattr(problem, name) for name in Given._fields))
    case = case_of(problem, gradient=gradient)
    tried = candidates(
        lambda settings: _explained(problem, settings),
        engines=engines,
        memory=memory if memory is not None else MEMORY if gradient else MEMORY[:1],
        chunks=chunks,
        devices=devices,
        gradient=gradient,
    )
    rows = measured(problem, given, tried, gradient=gradient, begun=begun, seconds=seconds)
    fastest = min(
        (row for row in rows if row.seconds and row.candidate.asked), key=lambda row: row.median, default=None
    )
    if show is not None:
        show(table(case, rows, fastest, rounds.now() - begun))
    if fastest is None:
        raise ValueError(
            f"tune: expected something with memory among {memory!r} that can be measured, got nothing: "
            f"{'; '.join(row.left_out for row in rows if row.left_out)}. Ask for others."
        )
    settings = fastest.candidate.settings._replace(of=case)
    if path is not None:
        files.add(path, settings)
    return settings


def measured(
    problem: Problem, given: Given, tried: Iterable[Candidate], *, gradient: bool, begun: float, seconds: float
) -> list[Row]:
    """Every candidate with its times, or the reason why it has none.

    Raises:
      Exception: the first one, the scan, fails.
    """
    allowed, right = tolerance(problem), list[list]()
    rows: list[Row] = []
    calls: dict[Settings, Callable[[], Any]] = {}
    taken: dict[Settings, list[float]] = {}
    for candidate in tried:
        if candidate.plan is None:
            rows.append(Row(candidate, left_out=f"refused: {candidate.refused}"))
            continue
        found = len(calls) >= ALWAYS and any(row.candidate.asked for row in rows if row.candidate.settings in calls)
        if found and rounds.now() - begun > BEFORE * seconds:
            rows.append(Row(candidate, left_out=f"not measured: two thirds of {seconds:g} s were over"))
            continue
        try:
            arrays = placed(given, candidate.settings.devices)
            compiled = program(problem, candidate.settings, gradient=gradient).lower(arrays).compile()
            result = numbers(compiled(arrays))
        except Exception as error:
            if not right:
                raise
            rows.append(Row(candidate, left_out=f"failed: {said(error)}"))
            continue
        right = right or [result, *_exact(problem, candidate, given, gradient)]
        apart = min(difference(result, each) for each in right)
        memory = compiled.memory_analysis()
        row = Row(candidate, (), None if memory is None else memory.temp_size_in_bytes)
        if not apart <= allowed:
            rows.append(row._replace(left_out=f"dropped: differs from scan by {apart:.2g}, allowed {allowed:.2g}"))
            continue
        calls[candidate.settings] = functools.partial(compiled, arrays)
        taken[candidate.settings] = [rounds.timed(candidate.settings, calls[candidate.settings])]
        rows.append(row)
    rounds.interleaved(calls, taken, begun + seconds)
    return [row._replace(seconds=tuple(taken.get(row.candidate.settings, ()))) for row in rows]


def _exact(problem: Problem, scan: Candidate, given: Given, gradient: bool) -> list[list]:
    """Of floats of few bits, what the scan computes with more of them, where the step takes these."""
    wide = widened(given)
    if jax.tree.map(jax.typeof, wide) != jax.tree.map(jax.typeof, given):
        with contextlib.suppress(TypeError, ValueError):
            run = program(problem, scan.settings, gradient=gradient)
            return [numbers(run(placed(wide, scan.settings.devices)))]
    return []


def _explained(problem: Problem, settings: Settings) -> Explanation:
    """The plan of what each device has of a problem."""
    each = share(problem, settings.devices)
    flags = {"mask": each.mask, "lengths": each.lengths, "reset": each.reset}
    ticks: dict[str, Any] = {**flags, "length": each.length, "reverse": each.reverse}
    return explain(each.cell, each.params, each.state, each.xs, **ticks, settings=settings)
