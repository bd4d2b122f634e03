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
from typing import Literal

import jax
import numpy as np

import seqjax as sj
from seqjax import tasks
from seqjax.models import conditional_objective, encoder_decoder
from seqjax.recipes.language.pairs import Pairs, answerer, read, some, written_from
from seqjax.recipes.pictures import curves
from seqjax.recipes.running import learning
from seqjax.recipes.running.cells import CELLS, CellName
from seqjax.recipes.running.options import BadInput, check_sizes
from seqjax.recipes.running.run import Run

HELD_BACK, SHOWN = 2000, 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(learning.LearningOptions):
    """Trains an encoder-decoder to add, and lets it add numbers that it has never seen together."""

    digits: int = 3
    """Of the largest number; up to 9."""
    examples: int = 50_000
    """Sums to learn from."""
    reverse: bool = True
    """Read the sum from its end."""
    context: Literal["state", "every-tick", "attention"] = "state"
    """What the writer gets: the reader's last state, that at every tick, or a look at all its outputs."""
    cell: CellName = "lstm"
    """The recurrence."""
    layers: int = 1
    """Recurrent layers of each network."""
    hidden_size: int = 128
    """Units a layer."""
    embedding_size: int = 32
    """Features a symbol."""
    batch_size: int = 128
    learning_rate: float = 4e-3
    steps: int = 6000

    def check(self, who: str) -> None:
        """Refuses sizes out of range."""
        super().check(who)
        check_sizes(who, self, "digits", "examples", "layers", "hidden_size", "embedding_size")
        if self.digits > 9:
            raise ValueError(f"{who}: expected --digits of at most 9, got {self.digits}. Lower it.")


def main(options: Options) -> None:
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

    # Model: two networks with weights of their own.
    model = encoder_decoder(
        len(pairs.source),
        len(pairs.target),
        options.hidden_size,
        embedding_size=options.embedding_size,
        context=options.context.replace("-", "_"),
        cell=CELLS[options.cell],
        layers=options.layers,
        reverse_source=options.reverse,
    )
    params = model.init(jax.random.key(options.seed))

    # Training
    answer = answerer(model, pairs.target)
    asked = pairs.batch(held_back)
    folder = Run.start("addition", options, {"sums": len(sums)})
    print(
        f"sums of {options.digits} digits: {len(train):,} to learn from, {len(held_back):,} held back\n"
        f"model: {options.cell}, {learning.parameter_count(params):,} parameters"
    )
    outcome = learning.learn(
        folder,
        options,
        learning.begin(options, params),
        conditional_objective(model, sj.cross_entropy),
        batch_of,
        work=options.batch_size,
        unit="sums",
        evaluate=lambda params: answer(params, asked).numbers,
        show_evaluation="held back: {exact:.1%} of sums, {symbols:.1%} of digits right",
    )

    # What came out
    symbols, right, _ = answer(outcome.params, asked)
    print()
    for b in some(right, SHOWN):
        said = "".join(pairs.target.decode(symbols[:, b]))
        verdict = "right" if right[b] else f"wrong, it is {held_back[b].target}"
        print(f"{held_back[b].source:>{pairs.source_length}} = {said:<{pairs.target_length}} {verdict}")
    picture = curves.draw(
        folder,
        {"whole sums": "exact", "single digits, those before given": "symbols"},
        levels={"chance, whole sums": problem.chance},
        x_scale=options.batch_size / len(train),
        x_label="epochs",
        y_label="share right of those held back",
        name="accuracy.png",
    )
    epochs = outcome.steps * options.batch_size / len(train)
    print(
        f"\nheld back: {outcome.numbers['exact']:.2%} of sums right (chance {problem.chance:.2%}), "
        f"{outcome.numbers['symbols']:.2%} of digits; {epochs:.0f} epochs in {outcome.seconds:.0f} s"
    )
    learning.conclude(
        folder,
        "share right",
        {name: outcome.numbers[name] for name in ("exact", "symbols")},
        {"chance": problem.chance},
    )
    print(f"run folder {folder.folder}, learning curve {picture}")


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
