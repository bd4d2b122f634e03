"""A word language model: the probability of sentences, the words that may come next, sentences of its own.

    p(w_1 … w_n <eos>) = Π_t p(w_t | w_1 … w_{t-1}) · p(<eos> | w_1 … w_n)      p(w_t | …) = softmax(h_t W + b)

Every sentence starts from nothing: a state and an input of zeros. Rare words are read and predicted as <unk>, or with
--split subwords spelled in pieces; in bits a character each pays for what it cannot name, so that these compare. Over
many words --softmax adaptive or sampled looks at few of them. With --preset the model, its training and its carried
state are those of Zaremba, Sutskever and Vinyals.

The text may be larger than memory, which holds its different words: it is read in place, its words are numbers in a
temporary file (in TMPDIR). Of the last tenth, held back, at most five million characters are scored.

References:
  Mikolov et al. (2010), Recurrent neural network based language model.
  https://doi.org/10.21437/Interspeech.2010-343
  Zaremba, Sutskever and Vinyals (2014), Recurrent neural network regularization. https://arxiv.org/abs/1409.2329
  Chen, Grangier and Auli (2016), Strategies for training large vocabulary neural language models.
  https://arxiv.org/abs/1512.04906
"""

import dataclasses
import functools
from typing import Literal

import jax.numpy as jnp
import numpy as np

import seqjax as sj
from seqjax.base import PyTree
from seqjax.recipes.language import characters, words
from seqjax.recipes.language.ngrams import ngram_nats
from seqjax.recipes.language.salads import ASKED, salads
from seqjax.recipes.language.speaker import Speaker, language_model, ranked
from seqjax.recipes.language.text import documentation, log_loss, scorer, windows_of
from seqjax.recipes.language.word_model import WordOptions, begin, facts_of, kept_symbols, set_up, symbols_of
from seqjax.recipes.pictures import curves
from seqjax.recipes.running import learning, splits
from seqjax.recipes.running.asking import Asked, NoQuestion, Reply, unknown
from seqjax.recipes.running.courses import Course, trains
from seqjax.recipes.running.options import DataFile, FolderOrNone, bad_input, check_positive
from seqjax.recipes.running.patience import Patience
from seqjax.recipes.running.run import Run

SENTENCES, SHOWN = 6, 3  # written at the end; shown with words swapped
TEXTS = {"documentation": "documentation of the standard library", "salads": "salads and pairs by rule"}
UNCOUNTED = 10**6  # words learned from, where nothing but the rates of a preset depends on it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(WordOptions):
    """Trains a word language model, ranks sentences and writes some with it."""

    whole, generated = "text", ("about",)

    text: DataFile = None
    """Any UTF-8 text, a sentence a line, the last tenth of it held back; the one named by --about if not given."""
    about: Literal["documentation", "salads"] = "documentation"
    """Without --text: the documentation of Python's standard library, or sentences by rule of pears in salads and pairs
    of shoes; then "the apple and pear salad" and "the apple and pair salad" are ranked if --rank is not given."""
    steps: int = 1500
    learning_rate: float = 5e-3
    rank: tuple[str, ...] = ()
    """Sentences to order by their probability."""
    prompt: tuple[str, ...] = ()
    """Beginnings to name the likeliest next words for; the commonest pairs of words if not given."""
    temperature: float = 0.8
    """Of the sentences written: 1 draws from the model's own distribution."""
    characters: FolderOrNone = None
    """The folder of a charlm run, to compare with in bits a character."""

    def check(self, who: str) -> None:
        """Refuses what is out of range."""
        super().check(who)
        check_positive(who, self, "temperature")


@trains
def main(options: Options) -> Course:
    """``python -m seqjax wordlm``."""
    # Data: sentences as one stream of words, and the part that is never trained on.
    with bad_input("wordlm"):
        text = data(options)
        vocabulary = symbols_of(options, text)
        train, asked = words.number(vocabulary, text.train()), words.asked(vocabulary, text, text.held_back)
        test = None if text.test is None else words.asked(vocabulary, text, text.test)
    held_back = asked.numbers
    floors = dict(zip(("unigram", "bigram"), np.exp(ngram_nats(train, held_back, len(vocabulary), 2)).tolist()))
    beside = {} if options.characters is None else {"characters": characters.character_row(options.characters, text)}

    # Model and training: windows of streams, the state carried from each to the next.
    used, method = set_up(options, vocabulary, len(train))
    end = vocabulary.eos if options.preset == "none" else None
    windows = windows_of("wordlm", train, used.batch_size, used.window, end)
    model = method.model
    print(method.told, end="")
    start = begin(used, method)
    measure = scorer(model)

    def evaluate(params: PyTree, part: words.Asked = asked) -> dict[str, float]:
        nats, count = log_loss(measure, model, params, part.numbers, columns=16, lead=64, end=end)
        bits = sj.bits_per_character(nats + part.spelling, part.characters)
        return {"validation_perplexity": float(np.exp(nats / count)), "validation_bits": bits}

    facts = {
        **splits.facts(options),
        "sha256": text.sha256,
        "vocabulary": len(vocabulary),
        "floors": floors,
        **facts_of(vocabulary),
    }
    free = ("text", "train", "held_back", "rank", "prompt", "temperature", "characters")
    folder = Run.start("wordlm", options, facts, free=free)
    text.copy(folder.folder)
    known = f"{len(vocabulary):,} known"
    if vocabulary.unk is not None:
        known += f", {float(np.mean(held_back == vocabulary.unk)):.1%} of those held back are not"
    print(
        f"{splits.told(options, TEXTS[options.about])}: {len(train):,} {options.unit} to learn from, "
        f"{len(held_back):,} held back, {known}\n"
        f"perplexity of the unigram model {floors['unigram']:.1f}, of the bigram model {floors['bigram']:.1f}; "
        f"model: {learning.parameter_count(start.train.params):,} parameters"
    )
    per_window = 1 if method.divide_by == "count" else used.window
    outcome = yield from learning.learn(
        folder,
        used,
        start,
        method.objective,
        lambda step: windows[step % len(windows)],
        goes_on=lambda step: step % len(windows) > 0,
        optimizer=method.optimizer,
        clip=method.clip,
        divide_by=method.divide_by,
        show="perplexity {perplexity:.1f}",
        extra=lambda loss: {"perplexity": jnp.exp(loss / per_window)},
        work=used.batch_size * used.window,
        unit=options.unit,
        evaluate=evaluate,
        patience=Patience(folder, options.patience, "validation_perplexity") if options.patience else None,
        show_evaluation="validation perplexity {validation_perplexity:.2f} {validation_bits:.3f} bits/char",
        best=learning.lowest("validation_perplexity"),
        test=None if test is None else functools.partial(evaluate, part=test),
    )

    # What came out
    speaker = Speaker(model, outcome.params, vocabulary)
    print("\nlikeliest next words:")
    split = functools.partial(words.split, at=options.split, lower=options.lower)
    for prompt in map(split, options.prompt or words.commonest_pairs(text.train())):
        following = "  ".join(f"{word} {p:.3f}" for word, p in speaker.next_words(prompt, 6))
        print(f"  {' '.join(prompt) + ' …':24}{following}{speaker.note(prompt)}")
    rank = options.rank or (ASKED if options.about == "salads" else ())
    print("\nsentences by their probability (ln p):")
    for sentence, score in speaker.ranked(list(map(split, rank))):
        print(f"  {score:9.2f}  {words.told(sentence)}{speaker.note(sentence)}")
    duels = speaker.against_swapped(text.held_back, np.random.default_rng(options.seed))
    for duel in [] if rank else duels[:SHOWN]:
        print(
            f"  {duel.score:9.2f}  {words.told(duel.sentence)}\n  {duel.swapped_score:9.2f}  {words.told(duel.swapped)}"
        )
    print("\nsentences of its own:")
    for sentence in speaker.written(SENTENCES, temperature=options.temperature, seed=options.seed):
        print(f"  {words.told(sentence)}")
    print(
        f"\nof {len(duels)} sentences held back, {words.share([duel.score > duel.swapped_score for duel in duels])} "
        "are likelier than with two neighbouring words swapped (chance 50%)"
    )
    rows = {options.unit: (outcome.numbers["validation_bits"], len(held_back), outcome.seconds)}
    rows |= beside
    for name, (bits, ticks, seconds) in rows.items():
        print(f"{name + ':':12} {bits:.4f} bits a character in {ticks:,} ticks; {seconds:.0f} s of training")
    print(
        f"validation perplexity {outcome.numbers['validation_perplexity']:.2f}; unigram model {floors['unigram']:.2f}, "
        f"bigram model {floors['bigram']:.2f}; {outcome.steps} steps in {outcome.seconds:.0f} s"
    )
    figures = outcome.numbers | {f"bits_{name}": bits for name, (bits, _, _) in rows.items()}
    learning.conclude(folder, "perplexity, bits a character", figures, floors, outcome.test)
    if options.characters is None:
        print(
            f"To compare with characters: python -m seqjax charlm {text.options(folder.folder)}, then "
            f"{folder.resume_command()} --characters CHARLM_RUN"
        )
    picture = curves.draw(
        folder,
        {"training": "perplexity", "validation": "validation_perplexity"},
        levels={f"{name} model, validation": level for name, level in floors.items()},
        x_scale=used.batch_size * used.window / 1e6,
        x_label=f"{options.unit} read (millions)",
        y_label=f"perplexity ({options.unit})",
        y_scale="log",
        name="perplexity",
    )
    print(f"run folder {folder.folder}, learning curve {picture}")


def to_ask(run: Run) -> Asked:
    """Beginnings of sentences, and sentences to rank."""
    options = run.options(Options)
    split = functools.partial(words.split, at=options.split, lower=options.lower)
    vocabulary = kept_symbols(run) or words.vocabulary_of(data(options), options.vocabulary)
    used, method = set_up(options, vocabulary, UNCOUNTED)
    speaker = Speaker(method.model, learning.trained(run, begin(used, method)), vocabulary)

    def reply(asked: list[str]) -> Reply:
        sentences = [split(sentence) for sentence in asked]
        odd = unknown([word for sentence in sentences for word in sentence], vocabulary)
        if not all(sentences):
            raise NoQuestion("without words")
        if len(sentences) == 1:
            return Reply(words.told(speaker.going_on(sentences[0])), odd)
        found = speaker.ranked(sentences)
        return ranked([words.told(sentence) for sentence, _ in found], [score for _, score in found], odd)

    return language_model(reply, speaker.example)


def data(options: Options) -> words.Words:
    """The text, to learn from and held back."""
    text = salads if options.about == "salads" else documentation
    return words.read_split("wordlm", options, default=text, at=options.split, lower=options.lower)
