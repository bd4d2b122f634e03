"""Learning to execute: a network reads a program character by character, another writes what it prints.

    j=8584
    for x in range(8):j+=920
    b=(1500+j)
    print((b+7567))             25011.

Programs are drawn anew for every update. A curriculum decides how hard they are: how many digits their numbers have,
and how many operations are nested. Scrambled, they look to us as they look to the network before it has learned.

References:
  Zaremba and Sutskever (2014), Learning to execute. https://arxiv.org/abs/1410.4615
  Dehghani et al. (2018), Universal transformers, section 3.5. https://arxiv.org/abs/1807.03819
"""

import dataclasses
from collections.abc import Callable
from typing import Literal

import numpy as np

import seqjax as sj
from seqjax import tasks
from seqjax.recipes.language.pairs import PairOptions, Pairs, network, train_pairs, writer
from seqjax.recipes.running import learning
from seqjax.recipes.running.asking import Asked, NoQuestion, Reply
from seqjax.recipes.running.courses import Course, trains
from seqjax.recipes.running.options import bad_input, check_sizes
from seqjax.recipes.running.run import Run
from seqjax.tasks.execution import PROGRAM_SYMBOLS, RESULT_SYMBOLS, Difficulty, Strategy

HELD_BACK, SHOWN, EACH = 1000, 5, 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(PairOptions):
    """Trains an encoder-decoder to execute programs, and shows what it says they print."""

    length: int = 2
    """Digits of the largest numbers in a program; up to 9."""
    nesting: int = 1
    """Operations in a program."""
    curriculum: Literal["baseline", "naive", "mix", "combined"] = "combined"
    """baseline: always the hardest; naive: harder and harder; mix: of all kinds; combined: half naive, half mix."""
    judge: Literal["hardest", "mix"] = "hardest"
    """Programs held back: all of the hardest kind, or of all kinds."""
    scramble: bool = False
    """Write programs and results in another alphabet, one fixed permutation of ours."""
    steps: int = 3000

    def check(self, who: str) -> None:
        """Refuses sizes out of range."""
        super().check(who)
        check_sizes(who, self, "length", "nesting")
        if self.length > 9:
            raise ValueError(f"{who}: expected --length of at most 9, got {self.length}. Lower it.")


@trains
def main(options: Options) -> Course:
    """``python -m seqjax execute``."""
    # Data: programs and what they print
    with bad_input("execute"):
        rewrite = tasks.scramble(0) if options.scramble else str
        scrambled, sizes = 0 if options.scramble else None, (options.length, options.nesting)
        mixed = options.judge == "mix" and sizes != (1, 1)
        problem = tasks.execution(*sizes, mixed=mixed, scrambled=scrambled)
        longest = tasks.execution(*sizes, scrambled=scrambled).draw(np.random.default_rng(options.seed), 3000)
    pairs = Pairs.of(problem.source_symbols, problem.target_symbols, longest)

    def program(rng: np.random.Generator, length: int, nesting: int) -> tasks.Pair:
        """A program no longer than any of 3,000."""
        while True:
            source, target = tasks.program(rng, length, nesting)
            pair = tasks.Pair(rewrite(str(source)), rewrite(str(target)))
            if pairs.hold(pair):
                return pair

    def others(count: int, difficulty: Difficulty) -> list[tasks.Pair]:
        """Programs held back."""
        rng = learning.generator(options)
        return [program(rng, *difficulty(rng)) for _ in range(count)]

    def batch_of(step: int) -> sj.Batch:
        rng, progress = learning.generator(options, step), step / options.steps
        difficulty = tasks.curriculum(options.curriculum, *sizes, lambda: progress)
        return pairs.batch([program(rng, *difficulty(rng)) for _ in range(options.batch_size)])

    # Training
    judge: Strategy = "mix" if mixed else "baseline"
    held_back = others(HELD_BACK, tasks.curriculum(judge, *sizes, lambda: 1.0))
    learned = yield from train_pairs(
        "execute",
        options,
        pairs,
        network(options, pairs),
        batch_of,
        held_back,
        {"source_length": pairs.source_length},
        told=f"programs of {'1 to ' * mixed}{options.nesting} operation{'s' * (options.nesting > 1)} on numbers of up "
        f"to {options.length} digits, at most {pairs.source_length} characters; the commonest result is right for "
        f"{problem.chance:.2%}",
        unit="programs",
        words=("results", "characters"),
    )

    # What came out
    symbols, right, _ = learned.answers
    for b in range(SHOWN):
        said = "".join(pairs.target.decode(symbols[:, b]))
        print(f"\n{str(held_back[b].source).rstrip()}")
        print(f"    answered {said!r}, {'right' if right[b] else f'wrong, it prints {held_back[b].target!r}'}")
    print("\nwhole results right, by operations (down) and digits (across)")
    print("   " + "".join(f"{length:>8}" for length in range(1, options.length + 1)))
    for nesting in range(1, options.nesting + 1):
        kinds = [tasks.curriculum("baseline", length, nesting, lambda: 1.0) for length in range(1, options.length + 1)]
        batches = [pairs.batch(others(EACH, kind)) for kind in kinds]
        print(f"{nesting:3}" + "".join(f"{learned.answer(batch).numbers['exact']:8.1%}" for batch in batches))
    learned.conclude(
        ("commonest result", problem.chance),
        x_scale=options.batch_size / 1000,
        x_label="programs read (thousands)",
        updates=f"{learned.outcome.steps} steps",
    )


def to_ask(run: Run) -> Asked:
    """Programs to execute, each of which ends with the line that prints."""
    options = run.options(Options)
    symbols = sorted({*PROGRAM_SYMBOLS, *RESULT_SYMBOLS})
    write = writer(run, options, Pairs.of(symbols, symbols, [tasks.Pair("", "")]))
    longest = run.config["facts"]["source_length"]
    rewrite, read_back = alphabets(scrambled=options.scramble)

    def reply(question: str) -> Reply:
        program = question.strip("\n") + "\n"
        if not ends(program):
            raise NoQuestion("without the line that prints its result")
        note = f"longer than the {longest} characters it has learned from" if len(program) > longest else ""
        return Reply(read_back(write(rewrite(program))), note=note)

    return Asked("a program that ends with print(…)", "j=84\nprint((j+75))", reply, ends)


def alphabets(*, scrambled: bool) -> tuple[Callable[[str], str], Callable[[str], str]]:
    """From our alphabet to that of the programs it has learned from, and back."""
    if not scrambled:
        return str, str
    rewrite, symbols = tasks.scramble(0), "".join(sorted({*PROGRAM_SYMBOLS, *RESULT_SYMBOLS}))
    return rewrite, lambda text: text.translate(str.maketrans(rewrite(symbols), symbols))


def ends(program: str) -> bool:
    """Whether the last line prints."""
    return program.rstrip("\n").split("\n")[-1].startswith("print(")
