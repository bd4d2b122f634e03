"""Where ``engine="auto"`` looks settings up while it is asked to: in a file, or in those of a training step."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax

from seqjax.engines import plan
from seqjax.engines.base import Problem
from seqjax.settings import files, record
from seqjax.settings.cases import Case, case_of
from seqjax.settings.record import Settings

VARIABLE = "SEQJAX_SETTINGS"


class Chosen(NamedTuple):
    """What `unroll` is to do, as static arguments, and where that comes from."""

    engine: str
    memory: str | int
    chunk: int | None = None
    why: tuple[str, ...] = ()


class Book:
    """Settings to look up.

    Two books are never the same: what was compiled while one was open is not taken for another's.

    Attributes:
      name: what errors and reasons call it.
      found: whether anything has been found in it.
    """

    def __init__(self, name: str, settings: Iterable[Settings], gradient: bool = True):
        """Keeps the settings of training steps, or of forward passes; those of no case hold for every recurrence."""
        settings = tuple(settings)
        self.name, self.gradient, self.found, self.settings = name, gradient, False, settings
        self.anywhere = next((each for each in settings if each.of is None), None)
        known = [(each.of, each) for each in settings if each.of is not None and each.of.gradient == gradient]
        self.shares = {case.share(each.devices): each for case, each in known}
        self.known: dict[Case, Settings] = dict(known)

    def look_up(self, problem: Problem) -> Settings | None:
        """The settings of a problem; None where its step is not known at all.

        Raises:
          ValueError: the step is known at other shapes only.
        """
        case = case_of(problem, gradient=self.gradient)
        settings = self.known.get(case) or self.shares.get(case) or self.anywhere
        others = [other for other in self.known if other.step == case.step]
        if settings is None and others:
            listed = "; or ".join(other.unlike(case) for other in others)
            raise ValueError(
                f"unroll: expected {self.name} to know {case}, which it knows otherwise only, got {listed}. "
                "Tune for this shape too, give the engine by name, or leave the context."
            )
        self.found = self.found or settings is not None
        return settings


# Of no book that is asked for the one that the environment names, if any, is taken.
_open = jax.make_user_context(None)


@contextlib.contextmanager
def asked(book: Book) -> Iterator[None]:
    """While it lasts, ``engine="auto"`` looks into this book; jitted functions are traced anew for it."""
    with _open(book):
        yield


@contextlib.contextmanager
def tuned(path: str | os.PathLike, *, gradient: bool = True) -> Iterator[None]:
    """While it lasts, ``engine="auto"`` does what was measured to be fastest, by a file that `seqjax.tune` wrote.

    It is asked where ``engine`` and ``memory`` are both ``"auto"``. A step that the file does not know is run by auto's
    own rules, and `seqjax.explain` says so. One that it knows at other shapes only is refused: measure these too.
    Jitted functions are compiled anew inside; other threads do not ask. For commands the variable SEQJAX_SETTINGS names
    such a file, which is read once a process.

    Args:
      path: of the file.
      gradient: look up what was measured for training steps; False for what was measured for forward passes,
        ``tune(…, gradient=False)``.

    Yields:
      Nothing.

    Raises:
      FileNotFoundError: no file.
      ValueError: it is damaged, or of other versions of jax, jaxlib or seqjax.

    Example:
      >>> import jax, jax.numpy as jnp, tempfile, seqjax as sj
      >>> cell = sj.gru(3, 4)
      >>> params = cell.init(jax.random.key(0))
      >>> given = cell, params, cell.initial_state(params, (2,)), jnp.ones((5, 2, 3))
      >>> path = tempfile.mkdtemp() + "/settings.json"
      >>> settings = sj.tune(*given, engines=("scan", "split"), memory=("all",), chunks=(), path=path, show=None)
      >>> with sj.tuned(path):
      ...     state, ys = sj.unroll(*given)
      ...     sj.explain(*given).engine == settings.engine
      True
    """
    with asked(_book(os.fspath(path), _stamp(path), gradient)):
        yield


def asking(settings: Settings, objective: Callable) -> Callable:
    """An objective whose recurrences with ``engine="auto"`` are run by these settings; `seqjax.train_step` makes it.

    Raises:
      ValueError: when it is called, if it has no recurrence that the settings are of.
    """
    book = Book("settings", [settings], settings.of is None or settings.of.gradient)

    def run(*args: Any) -> Any:
        with asked(book):
            result = objective(*args)
        if not book.found and settings._replace(devices=1) != Settings():
            raise ValueError(
                f"train_step: expected a model with engine='auto' for {settings.of or 'any recurrence'}, which the "
                "settings are of, got none. Tune the cell of this model, or leave settings out."
            )
        return result

    return run


def chosen(problem: Problem, engine: str, memory: str | int, settings: Settings | None) -> Chosen:
    """How to run a problem: as asked, or by settings, those of an open book included.

    Raises:
      TypeError: something else than settings.
      ValueError: settings of something else, or beside an engine or a memory.
    """
    written = plan.runs_as_written()
    book = _open.value
    if settings is not None:
        record.checked("unroll", settings, engine, memory)
        if not written and settings.of is not None:
            record.refuse_other("unroll", settings, case_of(problem, gradient=settings.of.gradient))
        if book is not None and settings in book.settings:
            book.found = True
        return _of("settings", settings)
    if engine != "auto" or memory != "auto" or written or problem.time_axis is not None:
        return Chosen(engine, memory)
    book = book or of_environment()
    if book is None:
        return Chosen(engine, memory)
    found = book.look_up(problem)
    if found is None:
        return Chosen(engine, memory, None, (f"{book.name} does not know this step",))
    return _of(book.name, found)


def _of(name: str, settings: Settings) -> Chosen:
    engine, memory, chunk, *_ = settings
    said = f"{name}: engine {engine}, memory {memory}" + ("" if chunk is None else f", chunk {chunk}")
    return Chosen(engine, memory, chunk, (said,))


def of_environment() -> Book | None:
    """The book of the file that the variable SEQJAX_SETTINGS names; None where it names none."""
    path = os.environ.get(VARIABLE)
    return _book(path, None, True) if path else None


@functools.lru_cache(maxsize=64)
def _book(path: str, stamp: tuple | None, gradient: bool) -> Book:
    """One book for one state of a file, so that what was compiled for it is found again."""
    return Book(path, files.read(path), gradient)


def _stamp(path: str | os.PathLike) -> tuple | None:
    with contextlib.suppress(OSError):
        stat = os.stat(path)
        return stat.st_mtime_ns, stat.st_size, stat.st_ino
    return None
