"""Options that makers take from what surrounds them, where they are given none."""

import contextlib
import contextvars
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Options = tuple[tuple[str, Any], ...]

_OPTIONS: contextvars.ContextVar[Options] = contextvars.ContextVar("options", default=())
_TAKEN: contextvars.ContextVar[list | None] = contextvars.ContextVar("taken", default=None)


def options() -> Options:
    """Those given around here, with their names. They belong to what is made: it may hold records that took them."""
    return _OPTIONS.get()


@contextlib.contextmanager
def given(values: Mapping[str, Any]) -> Iterator[list[Callable]]:
    """While it lasts, makers that take these options and are given None, or nothing, take these values.

    Yields:
      A list, of the makers that did.
    """
    taken = _TAKEN.get()
    taken = [] if taken is None else taken
    tokens = _OPTIONS.set(tuple(values.items())), _TAKEN.set(taken)
    try:
        yield taken
    finally:
        _OPTIONS.reset(tokens[0])
        _TAKEN.reset(tokens[1])


def filled(make: Callable, parameters: list[inspect.Parameter], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The keywords of a call, with what surrounds it where there is none."""
    if not _OPTIONS.get():
        return kwargs
    names = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    found = {name: value for name, value in _OPTIONS.get() if name in names and kwargs.get(name) is None}
    taken = _TAKEN.get()
    if found and taken is not None:
        taken.append(make)
    return kwargs | found
