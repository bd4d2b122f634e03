"""Sums read and written digit by digit: one network reads "27+815", another writes "842".

    s_0 = the reader's last state      p(y_t | y_1 … y_{t-1}, x) = softmax(h_t W + b)_{y_t}

Nobody tells the networks what a digit is worth or that tens are carried. Read from its end, the sum brings the digits
that matter first close to where they are needed.

References:
  Sutskever, Vinyals and Le (2014), Sequence to sequence learning with neural networks.
  https://arxiv.org/abs/1409.3215
  Zaremba and Sutskever (2014), Learning to execute. https://arxiv.org/abs/1410.4615
"""

import dataclasses
import re

import numpy as np

import seqjax as sj
from seqjax import tasks
from seqjax.recipes.language.pairs import PairOptions, Pairs, network, read, some, train_pairs, writer, written_from
from seqjax.recipes.running import learning
from seqjax.recipes.running.asking import Asked, NoQuestion, Reply
from seqjax.recipes.running.courses import Course, trains
from seqjax.recipes.running.options import BadInput, check_sizes
from seqjax.recipes.running.run import Run

HELD_BACK, SHOWN = 2000, 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(PairOptions):
    """Trains an encoder-decoder to add, and lets it add numbers that it has never seen together."""

    digits: int = 3
    """Of the largest number; up to 9."""
    examples: int = 50_000
    """Sums to learn from."""
    reverse: bool = True
    """Read the sum from its end."""
    steps: int = 6000

    def check(self, who: str) -> None:
        """Refuses sizes out of range."""
        super().check(who)
        check_sizes(who, self, "digits", "examples")
        if self.digits > 9:
            raise ValueError(f"{who}: expected --digits of at most 9, got {self.digits}. Lower it.")


@trains
def main(options: Options) -> Course:
    """``python -m seqjax addition``."""
    # Data: different sums, so that none held back was seen in training, the other way round neither.
    sums = different_sums(options, options.examples + HELD_BACK)
    held_back, train = sums[:HELD_BACK], sums[HELD_BACK:]
    problem = tasks.addition(options.digits)
    pairs = Pairs.of(problem.source_symbols, problem.target_symbols, sums)
    fields = pairs.encode(train)
    plan = tasks.buckets(np.array([(len(x), len(y)) for x, y in zip(*fields)]), shapes=1, size=options.batch_size)
    drawn = learning.numbered(fields, plan, options.batch_size, seed=options.seed)

    def batch_of(step: int) -> sj.Batch:
        source, target = drawn(step).fields
        return written_from(read(source), target)

    # Training
    learned = yield from train_pairs(
        "addition",
        options,
        pairs,
        network(options, pairs, reverse=options.reverse),
        batch_of,
        held_back,
        {"sums": len(sums)},
        told=f"sums of {options.digits} digits: {len(train):,} to learn from, {len(held_back):,} held back",
        unit="sums",
        words=("sums", "digits"),
    )

    # What came out
    symbols, right, _ = learned.answers
    print()
    for b in some(right, SHOWN):
        said = "".join(pairs.target.decode(symbols[:, b]))
        verdict = "right" if right[b] else f"wrong, it is {held_back[b].target}"
        print(f"{held_back[b].source:>{pairs.source_length}} = {said:<{pairs.target_length}} {verdict}")
    epoch = options.batch_size / len(train)
    updates = f"{learned.outcome.steps * epoch:.0f} epochs"
    learned.conclude(("chance", problem.chance), x_scale=epoch, x_label="epochs", updates=updates)


def to_ask(run: Run) -> Asked:
    """Sums of two numbers."""
    options = run.options(Options)
    problem = tasks.addition(options.digits)
    pairs = Pairs.of(problem.source_symbols, problem.target_symbols, [tasks.Pair("", "")])
    write = writer(run, options, pairs, reverse=options.reverse)

    def reply(question: str) -> Reply:
        asked = re.fullmatch(r"\s*([0-9]+)\s*\+\s*([0-9]+)\s*=?\s*", question)
        if asked is None:
            raise NoQuestion()
        longer = max(map(len, asked.groups())) > options.digits
        note = f"of more digits than the {options.digits} it has learned from" if longer else ""
        return Reply(write("+".join(asked.groups())), note=note)

    return Asked("a sum of two whole numbers", "27+815"[: 2 * options.digits + 1], reply)


def different_sums(options: Options, count: int) -> list[tasks.Pair]:
    """So many sums, no two of the same two numbers."""
    numbers = 10**options.digits
    possible = numbers * (numbers + 1) // 2
    if 2 * count > possible:
        raise BadInput(
            f"addition: expected at most half of the {possible:,} sums of --digits {options.digits} in use, got "
            f"{options.examples:,} to learn from and {HELD_BACK:,} held back. Lower --examples or raise --digits."
        )
    rng, problem = learning.generator(options), tasks.addition(options.digits)
    found: dict[frozenset[str], tasks.Pair] = {}
    while len(found) < count:
        for pair in problem.draw(rng, count):
            found.setdefault(frozenset(str(pair.source).split("+")), pair)
    return list(found.values())[:count]
