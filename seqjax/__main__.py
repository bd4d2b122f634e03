"""The door to the recipes: ``python -m seqjax --help``."""

import ast
import dataclasses
import importlib
import importlib.util
import inspect
import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from seqjax import leaving

PROGRAM = "python -m seqjax"
SMALLER = "Make the sizes smaller, or give less data."
REMEDY = "Install them by: python -m pip install 'seqjax[recipes]'"

# A command is a module with `Options` and ``main(options)``; it is imported when it is called.
COMMANDS = {
    "compare": "seqjax.recipes.compare",
    "charlm": "seqjax.recipes.charlm",
    "wordlm": "seqjax.recipes.wordlm",
    "ngramlm": "seqjax.recipes.ngramlm",
    "ask": "seqjax.recipes.ask",
    "sample": "seqjax.recipes.sample",
    "score": "seqjax.recipes.score",
    "hmm-tag": "seqjax.recipes.hmm_tag",
    "hmm-learn": "seqjax.recipes.hmm_learn",
    "automaton": "seqjax.recipes.automaton",
    "reservoir": "seqjax.recipes.reservoir",
    "memory": "seqjax.recipes.memory",
    "classify": "seqjax.recipes.classify",
    "tag": "seqjax.recipes.tag",
    "translate": "seqjax.recipes.translate",
    "addition": "seqjax.recipes.addition",
    "execute": "seqjax.recipes.execute",
    "agreement": "seqjax.recipes.agreement",
    "caption": "seqjax.recipes.caption",
    "music": "seqjax.recipes.music",
    "forecast": "seqjax.recipes.forecast",
    "speech": "seqjax.recipes.speech",
    "gradients": "seqjax.recipes.gradients",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command: status 0, or one sentence on stderr and 2, 1 or 130.

    2 is for bad input, 1 for a run that had begun and could not go on, 130 for Ctrl-C.

    Args:
      argv: the command and its options; if None those of the process, which is then the command's own.

    Returns:
      The exit status.

    Raises:
      SystemExit: after --help (status 0), and for options that do not parse (status 2).
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # XLA's start-up notes are not about the person's run
    for stream in (sys.stdout, sys.stderr):  # a console that lacks a letter gets its number: no run ends for that
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    alone = argv is None
    argv = sys.argv[1:] if argv is None else list(argv)
    for word in argv:
        if any("\ud800" <= letter <= "\udfff" for letter in word):
            return _say(f"seqjax: expected arguments in UTF-8, got {word!a}. Type it in UTF-8.", 2)
    name = argv[0].replace("_", "-") if argv else ""
    try:
        return _command(name, argv, alone=alone)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "seqjax":
            raise
        return _say(f"seqjax: expected the libraries of the recipes, got no module {error.name}. {REMEDY}", 2)
    except KeyboardInterrupt:
        return _say(f"{name if name in COMMANDS else 'seqjax'}: stopped.", 130)


def _command(name: str, argv: list[str], *, alone: bool) -> int:
    import jax
    import tyro

    if name not in COMMANDS:
        tyro.extras.subcommand_cli_from_dict(
            {command: _described(module) for command, module in COMMANDS.items()},
            prog=PROGRAM,
            description="Recurrent sequence models at work. Every command has its own --help.",
            args=argv,
        )
        return 2
    recipe = importlib.import_module(COMMANDS[name])

    from seqjax.recipes.comparing import several
    from seqjax.recipes.pictures.seeds import draw
    from seqjax.recipes.running import cache, devices, folders, launching, lock, processes, seeds
    from seqjax.recipes.running.loop import Interrupted, told
    from seqjax.recipes.running.options import BadInput, Ended, RunOptions, bad_input
    from seqjax.room import NoRoom
    from seqjax.settings import books
    from seqjax.tasks.archives import at_most

    if alone:
        leaving.who = name
        leaving.last.append(lock.give_all_back)
    devices.make()
    trains = issubclass(recipe.Options, RunOptions)
    description = f"{inspect.getdoc(recipe.Options)}" + trains * f"\n\n{several.HELP}"

    def parse(words: list[str], **default: Any) -> Any:
        return tyro.cli(recipe.Options, prog=f"{PROGRAM} {name}", description=description, args=words, **default)

    words = several.apart(recipe.Options, argv[1:]) if trains else [argv[1:]]
    each = [parse(one) for one in words]
    tasks = {getattr(options, "task", None) for options in each}
    own = recipe.Options.of_task.get(*tasks) if trains and len(tasks) == 1 else None
    if own:  # where tasks are compared, all else is the same
        each = [parse(one, default=dataclasses.replace(recipe.Options(), **own)) for one in words]
    options = each[0]
    count = getattr(options, "processes", 1)
    if count > 1 and len(each) == 1 and not launching.told():
        return launching.launch(count, argv)
    taken: list[Path] = []  # folders in which something was begun
    try:
        if len(each) > 1:
            several.check(name, each)
        if count == 0 or count > 1:
            launching.join(name)
        if trains and options.resume is not None:
            made = several.saved(name, options.resume, recipe.Options, words)
            # Processes are of this start, not of the one that made it.
            now: dict[str, Any] = {"processes": count} if hasattr(options, "processes") else {}
            each = [parse(words[0], default=dataclasses.replace(saved, **now)) for saved in made]
        with bad_input(name):
            books.of_environment()
            for options in each:
                options.check(name)
            if trains and len(each) == 1:
                each = [processes.placed(options, lambda: folders.named(name))]
        if alone:  # what a caller of this function has set stays
            cache.use()

        def run(options: Any) -> int | None:
            if getattr(options, "seeds", ()):
                return seeds.main(name, recipe.main.course, options, draw)
            return recipe.main(options)

        with lock.kept(taken), at_most(getattr(options, "largest", 1) * 1e9):
            return (several.main(name, each, run) if len(each) > 1 else run(each[0])) or 0
    except BadInput as error:
        return _say(processes.by() + str(error), 2)
    except NoRoom as error:
        return _say(f"{name}: {str(error).removeprefix(f'{name}: ')}", 2)
    except MemoryError as error:
        return _say(f"{name}: expected data that fit in memory, got {str(error) or 'more'}. {SMALLER}", 2)
    except jax.errors.JaxRuntimeError as error:
        if not str(error).startswith("RESOURCE_EXHAUSTED"):
            raise
        return _say(f"{name}: expected arrays that fit in memory, got {str(error).splitlines()[0]} {SMALLER}", 2)
    except Ended as error:
        return _say(processes.by() + str(error), 1)
    except OSError as error:
        kept = f" What was saved in {taken[0]} is kept." if taken else ""
        return _say(f"{processes.by()}{name}: {told(error)}.{kept}", 1 if taken else 2)
    except Interrupted as stop:
        status = _say(str(stop), leaving.STATUS) if processes.first() else leaving.STATUS
        processes.leave()
        return status
    return 0


def _described(module: str) -> Callable[[], None]:
    """A stand-in for a command in the list of all: what its `Options` say of it, read without importing it."""
    source: str = importlib.util.find_spec(module).origin  # type: ignore[union-attr, assignment]
    tree = ast.parse(Path(source).read_text("utf-8"))
    (options,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Options")
    stand_in: Callable[[], None] = lambda: None
    stand_in.__doc__ = ast.get_docstring(options)
    return stand_in


def _say(sentence: str, status: int) -> int:
    print(sentence, file=sys.stderr)
    return status


if __name__ == "__main__":
    leaving.end(main())
