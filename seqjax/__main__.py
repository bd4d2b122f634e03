"""The door to the recipes: ``python -m seqjax --help``."""

import os
import sys
from collections.abc import Sequence

PROGRAM = "python -m seqjax"
REMEDY = "Install them by: python -m pip install 'seqjax[recipes]'"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command: status 0, 2 for bad input (one sentence on stderr), or 130 after Ctrl-C.

    Args:
      argv: the command and its options; those of the process if None.

    Returns:
      The exit status.

    Raises:
      SystemExit: after --help (status 0), and for options that do not parse (status 2).
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # XLA's start-up notes are not about the person's run
    try:
        import tyro

        from seqjax.recipes import (
            addition,
            agreement,
            automaton,
            caption,
            charlm,
            classify,
            execute,
            forecast,
            hmm_tag,
            memory,
            music,
            ngramlm,
            reservoir,
            sample,
            score,
            speech,
            tag,
            translate,
            wordlm,
        )
        from seqjax.recipes.running import devices
        from seqjax.recipes.running.loop import Interrupted
        from seqjax.recipes.running.options import BadInput, RunOptions, bad_input
        from seqjax.recipes.running.run import Run
    except ModuleNotFoundError as error:
        return _say(f"seqjax: expected the libraries of the recipes, got no module {error.name}. {REMEDY}", 2)
    except KeyboardInterrupt:
        return _say("seqjax: stopped.", 130)

    devices.make()
    recipes = {
        "charlm": charlm,
        "wordlm": wordlm,
        "ngramlm": ngramlm,
        "sample": sample,
        "score": score,
        "hmm-tag": hmm_tag,
        "automaton": automaton,
        "reservoir": reservoir,
        "memory": memory,
        "classify": classify,
        "tag": tag,
        "translate": translate,
        "addition": addition,
        "execute": execute,
        "agreement": agreement,
        "caption": caption,
        "music": music,
        "forecast": forecast,
        "speech": speech,
    }
    argv = sys.argv[1:] if argv is None else list(argv)
    options = tyro.extras.subcommand_cli_from_dict(
        {name: recipe.Options for name, recipe in recipes.items()},
        prog=PROGRAM,
        description="Recurrent sequence models at work. Every command has its own --help.",
        args=argv,
    )
    name = next(name for name, recipe in recipes.items() if isinstance(options, recipe.Options))
    try:
        if isinstance(options, RunOptions) and options.resume is not None:
            saved = Run.open(name, options.resume).options(type(options))
            options = tyro.cli(type(options), prog=f"{PROGRAM} {name}", args=argv[1:], default=saved)
        with bad_input(name):
            options.check(name)
        recipes[name].main(options)
    except BadInput as error:
        return _say(str(error), 2)
    except Interrupted as stop:
        return _say(str(stop), 130)
    except KeyboardInterrupt:
        return _say(f"{name}: stopped.", 130)
    return 0


def _say(sentence: str, status: int) -> int:
    print(sentence, file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
