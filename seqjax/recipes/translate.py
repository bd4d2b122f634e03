"""A translator: one network reads a sentence to its end, another writes the translation word by word.

    p(y_t | y_1 … y_{t-1}, x) = softmax([h_t, c_t] W + b)      h_t = lstm([e(y_{t-1}), c_{t-1}], h_{t-1})
    c_t = Σ_s α_ts m_s      α_t = softmax(score(h_t, m))       m = what the reader said at every word of x

With attention the writer looks back at every word read; without, all it has is what the reader ends with. Beside it, on
the same batches, the naive translator: one network that must say the n-th word as it reads the n-th.

References:
  Sutskever, Vinyals and Le (2014), Sequence to sequence learning with neural networks.
  https://arxiv.org/abs/1409.3215
  Cho et al. (2014), Learning phrase representations using RNN encoder-decoder. https://arxiv.org/abs/1406.1078
  Bahdanau, Cho and Bengio (2015), Neural machine translation by jointly learning to align and translate.
  https://arxiv.org/abs/1409.0473
  Post (2018), A call for clarity in reporting BLEU scores. https://arxiv.org/abs/1804.08771
"""

import dataclasses
import functools
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal

import jax
import numpy as np
import tyro

import seqjax as sj
from seqjax import models, tasks
from seqjax.base import PyTree
from seqjax.recipes.language.translators import (
    Languages,
    Line,
    Translator,
    asked,
    batch,
    bleu,
    looked_at,
    numbers_spelled,
    read_lines,
    searching,
    short,
    word_by_word,
)
from seqjax.recipes.pictures import curves
from seqjax.recipes.running import beside, drawing, learning, splits
from seqjax.recipes.running.asking import Asked
from seqjax.recipes.running.cells import CELLS, CellName
from seqjax.recipes.running.courses import Course, trains
from seqjax.recipes.running.learning import LearningOptions
from seqjax.recipes.running.options import BadInput, FileOrNone, bad_input, check_not_negative, check_rates, check_sizes
from seqjax.recipes.running.run import Run, digest, kept, vocabularies
from seqjax.tasks.vocabulary import PAD, SPECIALS, UNK, Vocabulary

GENERATED = 12_000
SHOWN = 5
MAIN, ALIGNED = "translator", "aligned"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(LearningOptions, splits.SplitOptions):
    """Trains an encoder and a decoder to translate, and beside them a translator that goes word by word."""

    data: FileOrNone = None
    """Pairs of sentences, one a line, separated by a tab; numbers spelled in English and French if not given."""
    held_back: Annotated[int | str, tyro.conf.arg(metavar="NUMBER|FILE")] = 500  # type: ignore[assignment]
    """Sentences to measure on, none of which is learned from: how many of --data or --train, or a file of their own."""
    longest: int = 20
    """Pairs with more words on either side are left out."""
    vocabulary: int = 10_000
    """Words known of either language, the most frequent ones; the four symbols that are no words included."""
    context: Literal["state", "every-tick", "attention"] = "attention"
    """What the decoder has of the source: the encoder's last state, that at every tick, or a look at every word."""
    reverse: bool = False
    """Read the source from its end."""
    both_ways: bool = False
    """Read the source in both directions."""
    beam: int = 4
    """Translations kept side by side in the search; 1 takes the likeliest word each time."""
    length_penalty: float = 0.6
    """0 ranks finished translations by log-probability, 1 nearly by its mean over words."""
    coverage: float = 0.0
    """β: what it costs a translation to have left out words of the source, by attention."""
    steps: int = 500
    batch_size: int = 64
    learning_rate: float = 4e-3
    cell: CellName = "lstm"
    """The recurrence."""
    layers: int = 1
    """Recurrent layers of encoder and decoder."""
    hidden_size: int = 128
    """Units a layer."""
    embedding_size: int = 64
    """Features a word."""
    dropout: float = 0.1
    """Rate on embeddings and before the output, in [0, 1)."""
    buckets: int = 3
    """Pairs of lengths that pairs are padded to: with more there is less padding, and more to compile."""
    control: bool = True
    """Train the aligned translator beside it."""

    def check(self, who: str) -> None:
        """Refuses sizes and rates out of range."""
        super().check(who)
        check_sizes(who, self, "longest", "vocabulary", "beam", "layers", "hidden_size", "embedding_size")
        check_sizes(who, self, "buckets")
        check_not_negative(who, self, "length_penalty", "coverage")
        if self.coverage and self.context != "attention":
            raise ValueError(f"{who}: expected no --coverage with --context {self.context}, got both. Leave one out.")
        if self.reverse and self.both_ways:
            raise ValueError(f"{who}: expected --reverse or --both-ways, got both. One of them reads from the end.")
        check_rates(who, self, "dropout")
        if self.vocabulary <= len(SPECIALS):
            raise ValueError(
                f"{who}: expected --vocabulary above {len(SPECIALS)}, the symbols that are no words, got "
                f"{self.vocabulary}. Raise it."
            )


@trains
def main(options: Options) -> Course:
    """``python -m seqjax translate``."""
    # Data: pairs of sentences as words, no source on both sides of the split.
    with bad_input("translate"):
        train, held_back, test = lines(options)
        words = source, target = languages(options, train)
        if options.beam > len(target):
            raise ValueError(
                f"expected --beam of at most the {len(target)} words to write with, got {options.beam}. Lower it."
            )
    read, written = [source.encode(p.source) for p in train], [target.encode(p.target, eos=True) for p in train]
    plan = tasks.buckets(
        np.array([(len(x), len(y)) for x, y in zip(read, written)]), options.buckets, size=options.batch_size
    )
    drawn = learning.numbered([read, written], plan, options.batch_size, seed=options.seed)

    # Models
    model = encoder_decoder(options, words)
    translators, start = begin(options, words, model)

    # Training
    def batch_of(step: int) -> sj.Batch:
        sources, targets = drawn(step).fields
        return batch(sources, targets, words)

    blind = Counter(p.target for p in held_back).most_common(1)[0][1] / len(held_back)
    length = max(map(len, written)) + 2

    def translated(params: dict[str, PyTree], part: list[Line]) -> dict[str, list[tuple[str, ...]]]:
        xs = tasks.pad([source.encode(p.source) for p in part])
        return {name: t.translate(params[name], xs, length) for name, t in translators.items()}

    def evaluate(params: dict[str, PyTree], part: list[Line] = held_back) -> dict[str, float]:
        numbers: dict[str, float] = {}
        for name, found in translated(params, part).items():
            exact = np.mean([f == p.target for f, p in zip(found, part)])
            numbers |= {f"exact_{name}": float(exact), f"bleu_{name}": bleu(found, [p.text for p in part])}
        return numbers

    facts: dict = {"pairs": len(train), "held_back": len(held_back), "source": len(source), "target": len(target)}
    sha256 = digest(*(f"{pair.source}\t{pair.target}\n" for pair in (*train, *held_back)))
    facts |= {"sha256": sha256} | vocabularies(source=source, target=target) | splits.facts(options)
    folder = Run.start("translate", options, facts)
    print(
        f"{splits.told(options, 'numbers in English and French')}: {len(train):,} pairs to learn from, "
        f"{len(held_back):,} held back; {len(source):,} and {len(target):,} words; "
        f"{len(plan.members)} shapes of batches, {plan.waste:.0%} padding"
    )
    outcome = yield from learning.learn(
        folder,
        options,
        start,
        beside.together({name: t.objective for name, t in translators.items()}),
        batch_of,
        clip=beside.clip_each(options.clip),
        extra=beside.mean_loss(translators),
        work=options.batch_size,
        unit="pairs",
        evaluate=evaluate,
        show_evaluation="  ".join(f"{n} exact {{exact_{n}:.1%}} BLEU {{bleu_{n}:.1f}}" for n in translators),
        best=learning.highest(*(f"exact_{name}" for name in translators)),
        test=None if test is None else functools.partial(evaluate, part=test),
    )

    # What came out
    picture = curves.draw(
        folder,
        {f"{name}": f"exact_{name}" for name in translators},
        levels={"commonest answer": blind},
        y_label="sentences translated exactly (share)",
        name="exact",
    )
    found = translated(outcome.params, held_back)
    for i in range(min(SHOWN, len(held_back))):
        print("\n" + " ".join(held_back[i].source) + "\n  = " + " ".join(held_back[i].target))
        for name in translators:
            right = found[name][i] == held_back[i].target
            print(f"  {name + ':':12} {'✓' if right else ' '.join(found[name][i])}")
    print()
    for name in translators:
        print(f"{name}: {{exact_{name}:.2%}} exact, BLEU (13a) {{bleu_{name}:.2f}}".format(**outcome.numbers))
    print(f"always the commonest answer: {blind:.2%} exact; {outcome.steps} steps in {outcome.seconds:.0f} s")
    if options.context == "attention":
        longest = max(range(len(held_back)), key=lambda i: len(held_back[i].source) * (len(held_back[i].source) <= 14))
        weights, said = looked_at(model, words, outcome.params[MAIN], held_back[longest].source, length)
        told = {"weights": weights, "read": held_back[longest].source, "written": said}
        print(f"where it looks {drawing.save(folder, 'attention', 'attention', **told)}")
    learning.conclude(folder, "share exact, BLEU", outcome.numbers, {"commonest answer": blind}, outcome.test)
    print(f"run folder {folder.folder}, curves {picture}")


def begin(
    options: Options, words: Languages, model: models.Conditional
) -> tuple[dict[str, Translator], learning.Training]:
    """The translators by name, and what their training starts from."""
    translators = {MAIN: searching(model, words, options.beam, options.length_penalty, options.coverage)}
    if options.control:
        translators[ALIGNED] = word_by_word(aligned(options, words), words)
    params = beside.parameters({name: t.init for name, t in translators.items()}, jax.random.key(options.seed))
    memory = {name: t.memory(params[name], options.batch_size) for name, t in translators.items()}
    return translators, learning.begin(options, params, memory, noise=options.dropout > 0)


def languages(options: Options, train: Sequence[Line]) -> Languages:
    """The words of both sides that the model knows."""
    source = Vocabulary.build([line.source for line in train], specials=(PAD, UNK), limit=options.vocabulary)
    target = Vocabulary.build([line.target for line in train], specials=SPECIALS, limit=options.vocabulary)
    return Languages(source, target)


def to_ask(run: Run) -> Asked:
    """Sentences to translate."""
    options = run.options(Options)
    kept_words = kept(run, "source", "target")
    words = Languages(*kept_words) if kept_words else languages(options, lines(options)[0])
    translators, start = begin(options, words, encoder_decoder(options, words))
    params = learning.trained(run, start)[MAIN]
    return asked(translators[MAIN], params, words, options.longest, numbers=not splits.told(options, ""))


def lines(options: Options) -> tuple[list[Line], list[Line], list[Line] | None]:
    """What to learn from, what is held back, and the test: of one file, one translation of each of so many sources."""
    given = splits.read(options, read_lines, lambda: numbers_spelled(options.seed, GENERATED))
    train, held_back, test = (None if part is None else short(part, options.longest) for part in given)
    of_source: dict[tuple[str, ...], list[Line]] = {}
    for line in train or ():
        of_source.setdefault(line.source, []).append(line)
    count = options.held_back if isinstance(options.held_back, int) else 0
    if len(of_source) < count + options.batch_size or held_back == [] or test == []:
        raise BadInput(
            f"translate: expected at least {count + options.batch_size} different sentences of at most "
            f"{options.longest} words, to hold {count} back and fill a batch, and one in every file, got "
            f"{len(of_source)}. Give more pairs, or lower --held-back or --batch-size."
        )
    sources = list(of_source)
    order = [sources[i] for i in np.random.default_rng(options.seed).permutation(len(sources))]
    learned = list(dict.fromkeys(line for source in order[count:] for line in of_source[source]))
    return learned, held_back or [of_source[source][0] for source in order[:count]], test


def encoder_decoder(options: Options, words: Languages) -> models.Conditional:
    """One network that reads and another that writes, each with its own parameters."""
    model = models.encoder_decoder(
        len(words.source),
        len(words.target),
        options.hidden_size,
        embedding_size=options.embedding_size,
        context="every_tick" if options.context == "every-tick" else options.context,
        cell=CELLS[options.cell],
        layers=options.layers,
        reverse_source=options.reverse,
        both_ways=options.both_ways,
        dropout=options.dropout,
    )
    return sj.mixed_precision(model, options.products)


def aligned(options: Options, words: Languages) -> sj.Layer:
    """One network in one direction that reads a word and writes a word."""
    model = models.tagger(
        len(words.source),
        len(words.target),
        embedding_size=options.embedding_size,
        hidden_size=options.hidden_size,
        cell=CELLS[options.cell],
        layers=options.layers,
        both_ways=False,
        dropout=options.dropout,
    )
    return sj.mixed_precision(model, options.products)
