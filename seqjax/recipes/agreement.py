"""Agreement over a distance: a verb that is singular or plural as a noun many words before it.

    "The cats, which already ate very slowly and then …, were full."      p(w_{t+1} | w_1 … w_t) = softmax(h_t W + b)

Language models with different memories read the same sentences. The verb is "was" or "were" as the noun was singular or
plural, any number of words before it, and nothing in between tells. A model that sees the last few words only, trained
beside them, shows what can be had without a memory: one half.

References:
  Elman (1991), Distributed representations, simple recurrent networks, and grammatical structure.
  https://doi.org/10.1007/BF00114844
  Linzen, Dupoux and Goldberg (2016), Assessing the ability of LSTMs to learn syntax-sensitive dependencies.
  https://arxiv.org/abs/1611.01368
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from seqjax import models, tasks
from seqjax.base import PyTree
from seqjax.models.body import MakeCell
from seqjax.recipes.pictures import curves
from seqjax.recipes.running import asking, beside, drawing, learning
from seqjax.recipes.running.courses import Course, trains
from seqjax.recipes.running.options import bad_input, check_not_negative, check_sizes
from seqjax.recipes.running.run import Run, vocabularies
from seqjax.tasks.sentences import agreement_sentence

CELLS: dict[str, MakeCell] = {"Elman": sj.elman, "GRU": sj.gru, "LSTM": sj.lstm}
EACH, MEASURED = 200, 12
VERBS = ("was", "were")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(learning.LearningOptions):
    """Trains language models with and without a memory, and asks them for the verb, ever further from its noun."""

    gap: int = 20
    """Words between the clause's verb and the comma in training: from none to so many."""
    reach: int = 60
    """Most words there when the models are asked."""
    window: int = 5
    """Last words that the memoryless model sees, 1 to 5: never the noun."""
    hidden_size: int = 64
    """Units of each model."""
    embedding_size: int = 32
    """Features a word."""
    steps: int = 2500

    def check(self, who: str) -> None:
        """Refuses sizes out of range, and a window that reaches from the verb to the noun."""
        super().check(who)
        check_sizes(who, self, "reach", "hidden_size", "embedding_size")
        check_not_negative(who, self, "gap")
        if not 1 <= self.window <= 5:
            raise ValueError(f"{who}: expected --window from 1 to 5, short of the noun, got {self.window}. Set it.")


@trains
def main(options: Options) -> Course:
    """``python -m seqjax agreement``."""
    # Data: sentences drawn anew for every update, each with a gap of its own.
    vocabulary = known_words()
    gaps = np.unique(np.linspace(0, options.reach, MEASURED + 1).astype(int))
    asked = sentences(vocabulary, learning.generator(options), np.repeat(gaps, EACH))

    # Models
    with bad_input("agreement"):
        readers = readers_of(options, len(vocabulary))
    start = beside.begin(options, readers)

    # Training
    def batch_of(step: int) -> sj.Batch:
        rng = learning.generator(options, step)
        return sentences(vocabulary, rng, rng.integers(0, options.gap + 1, options.batch_size)).batch

    logits = {name: jax.jit(model.apply) for name, model in readers.items()}

    def odds(params: dict[str, PyTree], asked: Sentences) -> dict[str, np.ndarray]:
        """ln p(right verb) - ln p(wrong verb), for each model and sentence."""
        found = {}
        for name, model in readers.items():
            state = model.initial_state(params[name], (len(asked.at),))
            ys = np.asarray(logits[name](params[name], state, asked.batch.xs)[1])
            was, were = (ys[asked.at, np.arange(len(asked.at)), vocabulary.encode([verb])[0]] for verb in VERBS)
            found[name] = (were - was) * np.where(asked.plural, 1, -1)
        return found

    def evaluate(params: dict[str, PyTree]) -> dict[str, float]:
        near = asked.gaps <= options.gap
        right = {name: ratio > 0 for name, ratio in odds(params, asked).items()}
        numbers = {f"trained_{name}": float(hits[near].mean()) for name, hits in right.items()}
        return numbers | {f"beyond_{name}": float(hits[~near].mean()) for name, hits in right.items() if (~near).any()}

    folder = Run.start("agreement", options, {"words": len(vocabulary)} | vocabularies(words=vocabulary))
    print(
        f"{len(vocabulary) - 1} words; gaps of 0 to {options.gap} in training, to {options.reach} when asked; "
        "a guess between was and were is right for 50 %"
    )
    outcome = yield from learning.learn(
        folder,
        options,
        start,
        beside.together({name: sj.objective(model, sj.cross_entropy) for name, model in readers.items()}),
        batch_of,
        clip=beside.clip_each(options.clip),
        extra=beside.mean_loss(readers),
        work=options.batch_size,
        unit="sentences",
        evaluate=evaluate,
        show_evaluation="right verbs: " + "  ".join(f"{name} {{trained_{name}:.1%}}" for name in readers),
        best=learning.highest(*(f"trained_{name}" for name in readers)),
    )

    # What came out
    found = odds(outcome.params, asked)
    for place, gap in enumerate(gaps[:: max(1, (len(gaps) - 1) // 3)]):
        b = int(np.flatnonzero(asked.gaps == gap)[place % 2])  # now singular, now plural
        print("\n" + shortened(asked.words[b]))
        right, wrong = VERBS[int(asked.plural[b])], VERBS[1 - int(asked.plural[b])]
        for name, ratios in found.items():
            said = right if ratios[b] > 0 else wrong
            print(f"  {name:14} … {said:5} p({right}) / p({wrong}) = {np.exp(ratios[b]):.3g}")
    table = {name: [float((ratio[asked.gaps == gap] > 0).mean()) for gap in gaps] for name, ratio in found.items()}
    print("\nright verbs\n" + f"{'gap':16}" + "".join(f"{gap:>7}" for gap in gaps))
    for name, shares in table.items():
        print(f"{name:16}" + "".join(f"{share:7.1%}" for share in shares))
    means = {name: [float(ratio[asked.gaps == gap].mean()) for gap in gaps] for name, ratio in found.items()}
    path = drawing.save(folder, "gaps", "gaps", gaps=gaps, shares=table, odds=means, trained=options.gap)
    curve = curves.draw(
        folder,
        {name: f"trained_{name}" for name in readers},
        levels={"chance": 0.5},
        x_scale=options.batch_size / 1000,
        x_label="sentences read (thousands)",
        y_label="right verbs, gaps as in training (share)",
        name="accuracy",
    )
    results = ", ".join(f"{name} {outcome.numbers['trained_' + name]:.1%}" for name in readers)
    print(f"\ngaps as in training: {results} (chance 50 %); {outcome.steps} steps in {outcome.seconds:.0f} s")
    learning.conclude(folder, "share of right verbs", outcome.numbers, {"chance": 0.5})
    print(f"run folder {folder.folder}, accuracy against gap {path}, learning curve {curve}")


def known_words() -> tasks.Vocabulary:
    """All words there are."""
    return tasks.Vocabulary([tasks.PAD, *tasks.agreement(0).source_symbols])


def readers_of(options: Options, size: int) -> dict[str, sj.Layer]:
    """The language models by name, the memoryless one last."""
    hidden, embedded = options.hidden_size, options.embedding_size
    readers = {
        name: models.language_model(size, hidden, embedding_size=embedded, cell=cell) for name, cell in CELLS.items()
    }
    readers[f"last {options.window} word{'s' * (options.window > 1)}"] = models.fixed_window_model(
        size, hidden, window=options.window, embedding_size=embedded
    )
    return {name: sj.mixed_precision(model, options.products) for name, model in readers.items()}


def to_ask(run: Run) -> asking.Asked:
    """Beginnings of sentences whose verb is asked for, was or were."""
    options, words = run.options(Options), known_words()
    readers = readers_of(options, len(words))
    params = learning.trained(run, beside.begin(options, readers))
    verbs = words.encode(VERBS)

    def reply(question: str) -> asking.Reply:
        said = asking.encode(tasks.words(question), words, "words")
        answers = []
        for name, model in readers.items():
            _, ys = model.apply(params[name], model.initial_state(params[name]), jnp.asarray(said))
            was, were = np.asarray(jax.nn.softmax(ys[-1]))[verbs]
            answers.append(f"{name}: {VERBS[int(were > was)]} (was {was:.3f}, were {were:.3f})")
        return asking.Reply(", ".join(answers))

    return asking.Asked("the beginning of a sentence, up to was or were", "The cats, which already ate,", reply)


class Sentences(NamedTuple):
    """Sentences as a batch and as words; of each its gap, whether the noun is plural, and the tick before the verb."""

    batch: sj.Batch
    words: list[tuple[str, ...]]
    gaps: np.ndarray
    plural: np.ndarray
    at: np.ndarray


def sentences(vocabulary: tasks.Vocabulary, rng: np.random.Generator, gaps: np.ndarray) -> Sentences:
    """A sentence for every gap, every second one plural, to be read word by word."""
    plural = np.arange(len(gaps)) % 2 == 1
    pairs = [agreement_sentence(rng, int(gap), bool(many)) for gap, many in zip(gaps, plural)]
    words = [(*pair.source, *pair.target) for pair in pairs]
    ids, lengths = tasks.pad([vocabulary.encode(sentence) for sentence in words])
    mask = np.arange(len(ids) - 1)[:, None] < lengths - 1
    return Sentences(
        sj.Batch(ids[:-1], ids[1:], mask), words, gaps, plural, np.array([len(p.source) - 1 for p in pairs])
    )


def shortened(words: Sequence[str], most: int = 8) -> str:
    """The words before the verb, the middle of many left out."""
    before = [*words[:-3]]
    if len(before) > 2 * most:
        before = [*before[:most], f"[{len(before) - 2 * most + 2} words]", *before[2 - most :]]
    return " ".join(before).replace(" ,", ",")
