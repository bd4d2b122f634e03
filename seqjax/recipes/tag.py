"""A tagger of words: parts of speech, or entities, from the words on both sides and how they are spelled.

    y_t = [forward_t, backward_t] W + b      over x_t = [embedding(word_t), its characters read from both ends]

Beside it, on the same batches, a tagger that reads from left to right only: what a word is often shows later, as with
"Alan Turing , the famous scientist" and "Alan Turing , the small village". Whatever asks for the words that follow is
beyond it.

References:
  Lample et al. (2016), Neural architectures for named entity recognition. https://arxiv.org/abs/1603.01360
  Plank, Søgaard and Goldberg (2016), Multilingual part-of-speech tagging with bidirectional long short-term memory
  models and auxiliary loss. https://arxiv.org/abs/1604.05529
"""

import dataclasses
import functools
from typing import ClassVar, Literal

import numpy as np

import seqjax as sj
from seqjax import tasks
from seqjax.base import PyTree
from seqjax.recipes.language.tagger import Tagger, TaggerOptions, tagger
from seqjax.recipes.language.tagging import (
    Code,
    aligned,
    ceilings,
    check_tags,
    columns,
    commonest,
    confusion,
    label,
    scores,
    strands,
    tag,
    told,
)
from seqjax.recipes.pictures import curves
from seqjax.recipes.running import beside, drawing, learning, splits
from seqjax.recipes.running.asking import Asked, NoQuestion, Reply
from seqjax.recipes.running.courses import Course, trains
from seqjax.recipes.running.options import (
    BadInput,
    FileOrNone,
    bad_input,
    check_not_negative,
    check_sizes,
    younger,
)
from seqjax.recipes.running.run import Run, digest, kept, vocabularies
from seqjax.tasks.vocabulary import UNK

SENTENCES = 2000, 500  # generated: to learn from, held back
SHOWN = 3, 13  # sentences, and how many words they have at most
BOTH, ONE = "both_ways", "left_to_right"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(TaggerOptions, splits.SplitOptions):
    """Trains a tagger that reads in both directions, and beside it one that does not look ahead."""

    generated = ("task",)
    # In one layer no direction knows what the other has found: a stop, and a start in its frame.
    of_task: ClassVar = {
        "dna": {
            "layers": 2,
            "dropout": 0.0,
            "characters": 1,
            "character_hidden_size": 2,
            "batch_size": 64,
            "learning_rate": 1e-2,
            "steps": 1000,
        }
    }

    task: Literal["entities", "parts-of-speech", "dna"] = "entities"
    """What the generated sentences are tagged with; files bring their own tags. Coding dna has defaults of its own: 2
    layers, dropout 0, 1 character read by 2 units, batches of 64, 1000 steps at a rate of 0.01."""
    homographs: bool = younger(True, before=False)
    """Parts of speech of words most of which have two; without, each has one, and nothing is left to context."""
    data: FileOrNone = None
    """Tagged sentences (CoNLL-U, universal tags), the last tenth of them held back; generated ones if not given."""
    steps: int = 300
    batch_size: int = 32
    learning_rate: float = 3e-3
    word_dropout: float = 0.25
    """α: in training a word seen n times is read as unknown, with its spelling, with probability α / (α + n)."""
    buckets: int = 2
    """Lengths that sentences are padded to: with more there is less padding, and more to compile."""
    control: bool = True
    """Train the tagger that reads from left to right only."""

    def check(self, who: str) -> None:
        """Refuses sizes and rates out of range."""
        super().check(who)
        check_sizes(who, self, "buckets")
        check_not_negative(who, self, "word_dropout")


@trains
def main(options: Options) -> Course:
    """``python -m seqjax tag``."""
    # Data: sentences, and everything in them as numbers.
    with bad_input("tag"):
        train, held_back, test = sentences(options)
        code = Code.of(train, options.characters)
        check_tags(code.tags.symbols, [*held_back, *(test or ())])
    floor = scores(commonest(train, held_back), held_back)
    measure = "f1" if "f1" in floor else "accuracy"
    examples = [code.encode(sentence) for sentence in train]
    lengths = np.array([len(example) for example in examples])
    plan = tasks.buckets(lengths, options.buckets, size=options.batch_size)
    drawn = learning.numbered([examples], plan, options.batch_size, seed=options.seed)
    seen = np.bincount(np.concatenate(examples)[:, 1], minlength=len(code.words))
    forgotten = options.word_dropout / np.maximum(options.word_dropout + seen, 1e-9)

    def batch_of(step: int) -> sj.Batch:
        (padded,) = drawn(step).fields
        ids = padded.values[..., 1]
        unknown = learning.generator(options, step).random(ids.shape) < forgotten[ids]
        ids[unknown] = code.words.encode([UNK])
        return columns(padded)

    # Model: the same twice, but for the direction.
    taggers, start = begin(options, code)

    # Training
    def evaluate(params: dict[str, PyTree], part: list[tasks.Sentence] = held_back) -> dict[str, float]:
        found = {
            name: tag(tagger.answers, params[name], code, part, buckets=options.buckets)
            for name, tagger in taggers.items()
        }
        return {f"{kind}_{name}": value for name, tags in found.items() for kind, value in scores(tags, part).items()}

    kept = vocabularies(words=code.words, characters=code.characters, tags=code.tags)
    facts: dict = {
        "sentences": len(train),
        "held_back": len(held_back),
        "tags": list(code.tags.symbols),
        "floor": floor,
    }
    sha256 = digest(*(f"{word}\t{tag}\n" for part in (train, held_back) for s in part for word, tag in zip(*s)))
    more = {"words": len(code.words), "sha256": sha256} | kept | splits.facts(options)
    folder = Run.start("tag", options, facts | more)
    print(
        f"{splits.told(options, 'generated sentences')}: {len(train):,} sentences to learn from, {len(held_back):,} "
        f"held back; {len(code.words):,} words, {len(code.tags)} tags; the commonest tag of each word: {told(floor)}; "
        f"{len(plan.members)} shapes of batches, {plan.waste:.0%} padding"
    )
    outcome = yield from learning.learn(
        folder,
        options,
        start,
        beside.together({name: tagger.objective for name, tagger in taggers.items()}),
        batch_of,
        clip=beside.clip_each(options.clip),
        extra=beside.mean_loss(taggers),
        work=options.batch_size,
        unit="sentences",
        evaluate=evaluate,
        show_evaluation=f"{measure}: " + "  ".join(f"{label(name)} {{{measure}_{name}:.2%}}" for name in taggers),
        best=learning.highest(*(f"{measure}_{name}" for name in taggers)),
        test=None if test is None else functools.partial(evaluate, part=test),
    )

    # What came out
    found = {
        name: tag(tagger.answers, outcome.params[name], code, held_back, buckets=options.buckets)
        for name, tagger in taggers.items()
    }
    picture = curves.draw(
        folder,
        {label(name): f"{measure}_{name}" for name in taggers},
        levels={"commonest tag of each word": floor[measure]},
        y_label={"f1": "F1 of entities, held back", "accuracy": "share of tags right, held back"}[measure],
        name=measure,
    )
    counts = {label(name): confusion(tags, held_back, code.tags) for name, tags in found.items()}
    told_apart = {"tables": counts, "names": code.tags.symbols, "x_label": "tag found", "y_label": "true tag"}
    table = drawing.save(folder, "confusion", "confusion", **told_apart)
    short = [i for i, sentence in enumerate(held_back) if len(sentence.words) <= SHOWN[1]]
    for i in short[: SHOWN[0]]:
        print("\n" + aligned(held_back[i], {name: tags[i] for name, tags in found.items()}))
    print()
    for name in taggers:
        print(f"{label(name)}: {told({kind: outcome.numbers[f'{kind}_{name}'] for kind in floor})}")
    print(f"commonest tag of each word: {told(floor)}; {outcome.steps} steps in {outcome.seconds:.0f} s")
    floors = {f"{kind}, commonest tag": x for kind, x in floor.items()}
    if by_rules(options):
        floors |= (best := ceilings(held_back))
        print("accuracy of " + ", of ".join(f"{name} {right:.2%}" for name, right in best.items()))
    learning.conclude(folder, "share right", outcome.numbers, floors, outcome.test)
    print(f"run folder {folder.folder}, curves {picture}, confusion {table}")


def begin(options: Options, code: Code) -> tuple[dict[str, Tagger], learning.Training]:
    """The taggers by name, and what their training starts from."""
    taggers = {name: tagger(options, code, both_ways=name == BOTH) for name in (BOTH, ONE)[: 1 + options.control]}
    readers = {name: tagger.model for name, tagger in taggers.items()}
    return taggers, beside.begin(options, readers, noise=options.dropout > 0)


def to_ask(run: Run) -> Asked:
    """Sentences to tag, or bases of a strand, with or without blanks between them."""
    options = run.options(Options)
    if symbols := kept(run, "words", "characters", "tags"):
        code = Code(symbols[0], symbols[1], symbols[2], options.characters)
    else:
        code = Code.of(sentences(options)[0], options.characters)
    taggers, start = begin(options, code)
    params = learning.trained(run, start)[BOTH]

    def reply(question: str) -> Reply:
        said = tuple("".join(question.upper().split()) if options.task == "dna" else tasks.words(question))
        if not said:
            raise NoQuestion("without words")
        (found,) = tag(taggers[BOTH].answers, params, code, [tasks.Sentence(said, ("",) * len(said))])
        strange = tuple(dict.fromkeys(word for word in said if word.lower() not in code.words))
        note = "read by their spelling alone" if strange else ""
        return Reply(" ".join(map("/".join, zip(said, found))), strange, note)

    sentence = "a sentence to tag", "Alan Turing , the famous scientist , is dear to us ."
    kind, example = ("a strand of DNA", "TTATGAAATAGTT") if options.task == "dna" else sentence
    return Asked(kind, example, reply)


def by_rules(options: Options) -> bool:
    """Whether sentences are those of `tasks.homograph_sentences`."""
    return not splits.told(options, "") and options.task == "parts-of-speech" and options.homographs


def sentences(options: Options) -> tuple[list[tasks.Sentence], list[tasks.Sentence], list[tasks.Sentence] | None]:
    """Sentences to learn from, those held back, and those of the test if there is one."""
    if options.data is not None or options.train is not None:
        train, held_back, test = splits.read(options, tasks.read_conllu, list[tasks.Sentence])
        if held_back is not None:
            return train, held_back, test
        if len(train) < 10:
            raise BadInput(
                f"tag: expected at least 10 sentences in {splits.told(options, '')}, got {len(train)}. Give more."
            )
        return train[: len(train) * 9 // 10], train[len(train) * 9 // 10 :], test
    if options.task == "dna":
        return *strands(options.seed), None
    by_task = {"entities": tasks.entity_sentences, "parts-of-speech": tasks.part_of_speech_sentences}
    problem = tasks.homograph_sentences() if by_rules(options) else by_task[options.task]()
    rng = np.random.default_rng(options.seed)
    both = [[tasks.Sentence(*map(tuple, pair)) for pair in problem.draw(rng, count)] for count in SENTENCES]
    return both[0], both[1], None
