"""``--cell lstm gru elman`` of every command that trains: a run for each, and all of them compared.

Any option that takes one name or one number may have several. ``FOLDER/cell-lstm`` and so on are runs like any other,
or sets of seeds; they are made one after the other, for their programs differ. A comparison that was stopped goes on by
``--resume FOLDER``.
"""

import dataclasses
import itertools
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from seqjax.recipes.comparing import comparison, reading
from seqjax.recipes.running import config, lock, loop
from seqjax.recipes.running.options import FREE, BadInput, Ended, RunOptions, flag
from seqjax.recipes.running.run import Run

HELP = (
    "Several values of an option that takes one name or number, as in --cell lstm gru, make a run of each and compare "
    "them in a figure and a table."
)


def apart(kind: type[RunOptions], words: Sequence[str]) -> list[list[str]]:
    """The words of each run, where options have several values; as they are where none has.

    >>> from seqjax.recipes.running.learning import LearningOptions
    >>> apart(LearningOptions, ["--steps", "9", "--optimizer", "adam", "sgd"])
    [['--steps', '9', '--optimizer', 'adam'], ['--steps', '9', '--optimizer', 'sgd']]
    """
    hints = get_type_hints(kind)
    pieces: list[list[list[str]]] = []
    for piece in split(words):
        name = piece[0].removeprefix("--").replace("-", "_")
        several = len(piece) > 2 and name not in FREE | {"seed"} and takes_one(hints.get(name))
        pieces.append([[piece[0], value] for value in piece[1:]] if several else [piece])
    return [list(itertools.chain(*chosen)) for chosen in itertools.product(*pieces)]


def split(words: Sequence[str]) -> Iterator[list[str]]:
    """Each option with what stands behind it."""
    piece: list[str] = []
    for word in words:
        if (word.startswith("--") or word == "-h") and piece:
            yield piece
            piece = []
        piece.append(word)
    if piece:
        yield piece


def takes_one(hint: Any) -> bool:
    """Whether an option takes one of some names, or one number."""
    if get_origin(hint) in (Union, types.UnionType):
        return all(get_origin(part) is Literal for part in get_args(hint))
    return get_origin(hint) is Literal or hint in (int, float)


def saved(recipe: str, folder: str, kind: type[RunOptions], words: Sequence[Sequence[str]]) -> list[RunOptions]:
    """The options of the run to resume, or of each that is compared in its folder; several values are refused."""
    if len(words) > 1:
        raise BadInput(f"{recipe}: expected one value of every option with --resume, got several. Start a new run.")
    whole = Run.open(recipe, folder, several=True)
    options, names = whole.config["options"], whole.config.get("compared", [])
    return [
        config.options_of({**whole.config, "options": options | dict(zip(names, values))}, Path(folder), kind)
        for values in itertools.product(*(options[name] for name in names))
    ]


@lock.kept()
def main(recipe: str, each: Sequence[RunOptions], run: Callable[[Any], Any]) -> None:
    """Makes a run of each, or goes on with those that were stopped, and compares them.

    Args:
      recipe: the command.
      each: the options, which differ in those that are compared.
      run: makes one.

    Raises:
      BadInput: options that cannot be compared; what ended one of the runs.
      Ended: one that had begun could not go on.
      Interrupted: Ctrl-C; the message says how to go on.
    """
    compared = differing(each)
    whole = folder_of(recipe, each, compared)
    failed: dict[str, BadInput | Ended] = {}
    for place, options in enumerate(each):
        name = name_of(options, compared)
        print(f"\n{name} ({place + 1} of {len(each)})")
        where = str(whole.folder / name)
        made = (whole.folder / name / config.FILE).exists()
        try:
            run(dataclasses.replace(options, run_dir=None if made else where, resume=where if made else None))
        except (BadInput, Ended) as error:
            failed[name] = error
        except loop.Interrupted as stop:
            raise loop.Interrupted(f"Stopped in {name}. Go on with: {whole.resume_command()}") from stop
    names = [name_of(options, compared) for options in each]
    if not any((whole.folder / name).exists() for name in names):
        whole.remove()
        raise next(iter(failed.values()))
    folders = [whole.folder / name for name in names if name not in failed]
    if folders:
        now = reading.read(recipe, folders)
        whole.config["options"] |= {name: now[0].options[name] for name in FREE & now[0].run.config["options"].keys()}
        whole.config.update(config.stamped(whole.config, FREE))
        whole.write_config()
        comparison.compare(whole, now)
    if failed:
        kind = Ended if any(isinstance(error, Ended) for error in failed.values()) else BadInput
        raise kind("\n".join(f"{name}: {error}" for name, error in failed.items()))


def differing(each: Sequence[RunOptions]) -> dict[str, list[Any]]:
    """The options that are compared, with their values."""
    values = {
        field.name: list(dict.fromkeys(getattr(options, field.name) for options in each))
        for field in dataclasses.fields(each[0])
    }
    return {name: found for name, found in values.items() if len(found) > 1}


def check(recipe: str, each: Sequence[RunOptions]) -> None:
    """Refuses a value that is there twice, and several processes."""
    count = 1
    for values in differing(each).values():
        count *= len(values)
    if count < len(each):
        raise BadInput(f"{recipe}: expected values that differ, got one of them twice. Leave out what is there twice.")
    processes = getattr(each[0], "processes", 1)
    if len(each) > 1 and processes != 1:
        raise BadInput(
            f"{recipe}: expected --processes 1 where several are compared, got {processes}. Make the runs one by one, "
            "and compare them by: python -m seqjax compare RUN RUN"
        )


def name_of(options: RunOptions, compared: Mapping[str, Any]) -> str:
    """The folder of one run in that of all."""
    return "-".join(f"{flag(name)[2:]}-{getattr(options, name)}" for name in compared)


def folder_of(recipe: str, each: Sequence[RunOptions], compared: Mapping[str, list[Any]]) -> Run:
    """The folder of all, whose configuration names what is compared."""
    first = each[0]
    if first.resume is not None:
        lock.take(recipe, Path(first.resume))
        whole = Run.open(recipe, first.resume, several=True)
        had = {name: whole.config["options"][name] for name in whole.config.get("compared", [])}
        if had != dict(compared):
            raise BadInput(
                f"{recipe}: expected the values of the comparison to resume, got others. Start a new one for that."
            )
        return whole
    values: Any = {name: tuple(found) for name, found in compared.items()}
    whole = Run.create(recipe, dataclasses.replace(first, **values), {})
    whole.config["compared"] = [*compared]
    whole.write_config()
    return whole
