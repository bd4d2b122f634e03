"""Settings in a file: JSON, of one set of versions, written whole or not at all."""

import contextlib
import importlib.util
import json
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jaxlib

from seqjax.settings.cases import Case
from seqjax.settings.record import Settings
from seqjax.version import __version__

FORMAT = 1


def versions() -> dict[str, str]:
    """Those that measurements hold for."""
    return {"jax": jax.__version__, "jaxlib": jaxlib.__version__, "seqjax": __version__}


def read(path: str | os.PathLike) -> tuple[Settings, ...]:
    """The settings in a file.

    Raises:
      FileNotFoundError: there is none.
      ValueError: it is damaged or something else, of another format, or of other versions.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"tuned: expected a file of settings, got nothing at {path}. Write it with tune(…, path={str(path)!r})."
        )
    try:
        written = json.loads(path.read_text("utf-8"))
        made = written["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(path, error) from error
    if made != FORMAT:
        raise ValueError(
            f"tuned: expected settings of format {FORMAT} in {path}, got format {made!r}. Measure anew, into a new "
            "file."
        )
    try:
        theirs = dict(written["versions"])
        settings = tuple(map(_entry, written["settings"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(path, error) from error
    if theirs != versions():
        said = lambda names: ", ".join(f"{name} {version}" for name, version in names.items())
        raise ValueError(
            f"tuned: expected settings measured with {said(versions())}, got {path} of {said(theirs)}. "
            "Measure anew, into a new file: what is fastest changes with versions."
        )
    return settings


def add(path: str | os.PathLike, settings: Settings) -> None:
    """Adds settings to a file, in the place of older ones of the same case; makes it where there is none.

    Raises:
      FileNotFoundError: no such folder.
      ValueError: a file that `read` refuses.
    """
    path = pathlib.Path(path)
    with _alone(path.parent):
        others = [each for each in read(path) if each.of != settings.of] if path.exists() else []
        new = path.with_name(f"{path.name}.{os.getpid()}.new")
        try:
            new.write_text(_text([*others, settings]), "utf-8")
            os.replace(new, path)
        finally:
            new.unlink(missing_ok=True)


def writable(path: str | os.PathLike) -> None:
    """Refuses what `add` would refuse, before anything is measured."""
    path = pathlib.Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"tune: expected a folder to write {path.name} to, got nothing at {path.parent}. Make it first."
        )
    if path.exists():
        read(path)


@contextlib.contextmanager
def _alone(folder: pathlib.Path) -> Iterator[None]:
    """Keeps other processes waiting that add to a file of the folder, where the system has locks."""
    if importlib.util.find_spec("fcntl") is None:
        yield
        return
    import fcntl

    place = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(place, fcntl.LOCK_EX)
        yield
    finally:
        os.close(place)


def _text(settings: Iterable[Settings]) -> str:
    entries = [{**each._asdict(), "of": each.of and each.of._asdict()} for each in settings]
    return json.dumps({"format": FORMAT, "versions": versions(), "settings": entries}, indent=1) + "\n"


def _entry(written: dict[str, Any]) -> Settings:
    """An entry whose lists are tuples again."""
    of: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in written["of"].items()
    }
    if set(written) != set(Settings._fields) or set(of) != set(Case._fields):
        raise ValueError(f"other entries than {', '.join(Settings._fields)} of {', '.join(Case._fields)}")
    return Settings(**{**written, "of": Case(**of)})


def _damaged(path: pathlib.Path, error: Exception) -> ValueError:
    return ValueError(
        f"tuned: expected {path} to be a file of settings, got one that is damaged or something else "
        f"({type(error).__name__}: {error}). Delete it and measure anew with tune(…, path={str(path)!r})."
    )
