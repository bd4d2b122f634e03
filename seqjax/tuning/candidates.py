"""What is tried: engines × memory × chunks × devices, each program once."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from seqjax.engines.explain import Explanation
from seqjax.settings import Settings

ENGINES = ("scan", "split", "linear", "auto")
MEMORY = ("all", "carries", "sqrt", "log")
# Whose chunks are the engine's own, and may be others.
IN_CHUNKS = ("all", "carries")
# Engines that run all of time in one piece.
WHOLE = ("scan", "cudnn")

Explain = Callable[[Settings], Explanation]


class Candidate(NamedTuple):
    """One way of running a recurrence.

    Attributes:
      settings: how.
      plan: what `seqjax.explain` says of it; None where it cannot be run.
      own: whether ``engine="auto"`` chooses it by itself.
      asked: whether its memory was asked for, so that it may be chosen; else it is there to be compared with.
      refused: why it cannot be run.
    """

    settings: Settings
    plan: Explanation | None
    own: bool = False
    asked: bool = True
    refused: str = ""


def candidates(
    explain: Explain,
    *,
    engines: Sequence[str],
    memory: Sequence[str | int],
    chunks: Sequence[int] | None,
    devices: Sequence[int],
    gradient: bool,
) -> Iterator[Candidate]:
    """What is to be measured: the plain scan, auto's own choice, and the rest, memory by memory.

    Args:
      explain: what would run.
      engines: names.
      memory: names, numbers of ticks or budgets.
      chunks: ticks of a chunk beside the engine's own; None for a half, twice, four times of those, and all of time.
      devices: numbers of devices.
      gradient: whether one is taken: what is refused only there, and what runs only without.
    """
    seen: list = []

    def look(settings: Settings) -> Candidate:
        try:
            plan = explain(settings)
        except Exception as error:
            return Candidate(settings, None, refused=said(error))
        if gradient and plan.refusal:
            return Candidate(settings, None, refused=plan.refusal)
        return Candidate(settings, plan._replace(forwards="") if gradient else plan)

    def new(candidate: Candidate) -> Iterator[Candidate]:
        """Nothing where the program, or the refusal, is that of one before."""
        what = candidate.settings.devices, _program(candidate) or (candidate.settings.engine, candidate.refused)
        if what not in seen:
            seen.append(what)
            yield candidate._replace(asked=candidate.settings.memory in (*memory, "auto"))

    for count in devices:
        plain, own = look(Settings("scan", "all", devices=count)), look(Settings("auto", "auto", devices=count))
        yield from new(plain._replace(own=_same(plain, own)))
        if "auto" in engines:
            engine = own.plan.engine if own.plan else "auto"
            named = (look(_settings(name, keep, count)) for name in (engine, "auto") for keep in MEMORY)
            yield from new(next((each for each in named if _same(each, own)), own)._replace(own=True))
    for keep in memory:
        for engine in engines:
            for count in devices:
                each = look(_settings(engine, keep, count))
                yield from new(each)
                if each.plan is not None and keep in IN_CHUNKS and each.plan.engine not in WHOLE:
                    for chunk in around(each.plan.chunk, each.plan.ticks) if chunks is None else chunks:
                        yield from new(look(each.settings._replace(chunk=chunk)))


def around(chunk: int, ticks: int) -> list[int]:
    """Chunks to try beside an engine's own: a half, twice, four times, all of time.

    >>> around(32, 256), around(1, 1)
    ([16, 64, 128, 256], [])
    """
    tried = (chunk // 2, 2 * chunk, 4 * chunk, ticks)
    return [each for each in dict.fromkeys(tried) if 0 < each <= ticks and each != chunk]


def _settings(engine: str, memory: str | int, devices: int) -> Settings:
    return Settings(engine, memory, devices=devices)  # type: ignore[arg-type]


def said(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _program(candidate: Candidate) -> Explanation | None:
    """What makes a candidate another program."""
    return candidate.plan and candidate.plan._replace(why=())


def _same(one: Candidate, other: Candidate) -> bool:
    return one.plan is not None and _program(one) == _program(other)
