"""``config.json`` of a run: what it was made with, and how later versions read it.

- ``format``: the number of the folder's format, 2; a run without one is of format 1;
- ``recipe``, ``options``, ``facts`` of the data, ``environment``;
- ``free``: the options that may change from start to start;
- ``digest``: SHA-256 of the recipe, the facts and all other options, which decide what is computed. Every checkpoint
  names it: configuration, vocabulary and arrays belong together;
- ``saved``: that there has been a checkpoint;
- ``compared``: the options of which this folder has a run for each value.

Any later version reads it. An option that is younger than the run has its default, which therefore is what was done
before there was the option, or what `options.younger` says was done; one that this version does not know is named and
left as it is.
"""

import dataclasses
import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import jax

from seqjax.recipes.running.options import BadInput, RunOptions, bad_input

Options = TypeVar("Options", bound=RunOptions)
FORMAT = 2
FILE = "config.json"


def digest_of(config: Mapping[str, Any]) -> str:
    """SHA-256 of what decides a run."""
    options = {name: value for name, value in config["options"].items() if name not in config["free"]}
    text = json.dumps([config["recipe"], options, config["facts"]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def stamped(config: Mapping[str, Any], free: Collection[str]) -> dict[str, Any]:
    """A configuration in today's format: with its number, the names of its free options, and a digest."""
    config = json.loads(json.dumps(config))
    new = {"format": FORMAT, **config, "free": sorted({*config.get("free", ()), *free})}
    return new | {"digest": digest_of(new)}


def changed(config: Mapping[str, Any], free: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with other values of its free options; one that is younger than the run is free from now on.

    The digest of a run that has one stays what it is, for its checkpoints name it.
    """
    had = config.get("free", list(free))
    new = {name: value for name, value in free.items() if name in had or name not in config["options"]}
    return stamped({**config, "options": config["options"] | new, "free": sorted({*had, *new})}, ())


def read(recipe: str, folder: Path, *, several: bool = False) -> dict[str, Any]:
    """The configuration of a run of this recipe, or of ``several`` of them; anything else is bad input."""
    path = folder / FILE
    wanted = f"{recipe}: expected {folder} to be the folder of a {recipe} run"
    remedy = f"Name a folder that `python -m seqjax {recipe}` made."
    try:
        config = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise BadInput(f"{wanted}, got no readable config.json in it ({error.strerror}). {remedy}") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{wanted}, got a config.json that is not JSON. {remedy}") from error
    whole = isinstance(config, dict) and all(isinstance(config.get(part), dict) for part in ("options", "facts"))
    if not whole or config.get("recipe") != recipe:
        got = f"a run of {config['recipe']}" if whole and "recipe" in config else "another kind of config.json"
        raise BadInput(f"{wanted}, got {got}. {remedy}")
    number = config.get("format", 1)
    if isinstance(number, int) and number > FORMAT:
        raise BadInput(
            f"{recipe}: expected a run of a format up to {FORMAT} in {folder}, got {number}. Use the version of seqjax "
            "that made it, or a later one."
        )
    if number != 1 and not (isinstance(config.get("free"), list) and config.get("digest") == digest_of(config)):
        raise BadInput(
            f"{recipe}: expected {path} as the run wrote it, got another recipe, other options or other facts of its "
            "data. Put back the file, or start a new run."
        )
    if not several and (config["options"].get("seeds") or config.get("compared")):
        kind = "several runs" if config.get("compared") else "several seeds"
        raise BadInput(f"{wanted}, got that of {kind}. Name one of the runs in it.")
    return config


def recipe_of(who: str, folder: str | Path) -> str:
    """The recipe that made the run in a folder, for whoever takes several."""
    try:
        found = json.loads((Path(folder) / FILE).read_text("utf-8"))["recipe"]
    except (OSError, ValueError, RecursionError, TypeError, KeyError) as error:
        raise BadInput(
            f"{who}: expected {folder} to be the folder of a run, got no config.json in it that names its recipe. Name "
            "a folder that a command of seqjax made."
        ) from error
    return str(found)


def options_of(config: Mapping[str, Any], folder: Path, kind: type[Options]) -> Options:
    """Those of ``kind`` that a run was made with, set to resume it.

    Of devices there are as many as this start has, which may be that of another machine, or of other processes.
    """
    recipe, path, fields = config["recipe"], folder / FILE, dataclasses.fields(kind)
    defaults = {field.name: field.metadata.get("before", field.default) for field in fields}
    younger = {name: value for name, value in defaults.items() if value is not dataclasses.MISSING}
    saved = younger | config["options"] | {"resume": str(folder), "run_dir": None}
    missing = ", ".join(sorted({field.name for field in fields} - saved.keys()))
    if missing:
        raise BadInput(
            f"{recipe}: expected the options of the run in {path}, got none of {missing}. Put back the file, or start "
            "a new run."
        )
    hints, given = get_type_hints(kind), dict[str, Any]()
    for field in fields:
        value = saved[field.name]
        if not _fits(value, hints[field.name]):
            raise BadInput(
                f"{recipe}: expected {field.name} in {path} as the run wrote it, got {value!r}. Put back the file, or "
                "start a new run."
            )
        given[field.name] = tuple(value) if isinstance(value, list) else value
    if given.get("devices", 0) > jax.device_count() or given.get("devices", 0) % jax.process_count():
        given["devices"] = 0
    options = kind(**given)
    with bad_input(f"{path}"):
        options.check(recipe)
    return options


def unknown(config: Mapping[str, Any], kind: type[RunOptions]) -> list[str]:
    """The options of a run that this version does not know."""
    return sorted(config["options"].keys() - {field.name for field in dataclasses.fields(kind)})


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value read from JSON is of an option's type."""
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is tuple:
        return isinstance(value, list | tuple) and all(_fits(one, get_args(hint)[0]) for one in value)
    if get_args(hint):
        return any(_fits(value, one) for one in get_args(hint))
    return type(value) is hint or (hint is float and type(value) is int)
