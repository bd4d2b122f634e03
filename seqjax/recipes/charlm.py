"""A character language model: read a text, predict each next character, then write on.

    p(x_{t+1} | x_1 … x_t) = softmax(h_t W + b)      h_t = lstm(embedding(x_t), state_{t-1})

The text is cut into contiguous streams side by side; truncated backpropagation walks down them window by
window and carries the state along. The last tenth is held back for validation, at most five million characters of it
scored. The text is read in place, so that it may be larger than memory.

References:
  Graves (2013), Generating sequences with recurrent neural networks. https://arxiv.org/abs/1308.0850
  Karpathy (2015), The unreasonable effectiveness of recurrent neural networks.
  https://karpathy.github.io/2015/05/21/rnn-effectiveness/
"""

import dataclasses
import functools

import numpy as np

import seqjax as sj
from seqjax.base import PyTree
from seqjax.recipes.language.characters import CharacterOptions, encode_prompt, initial, language_model, parts
from seqjax.recipes.language.ngrams import ngram_nats
from seqjax.recipes.language.text import SCORED, log_loss, scorer, standard_library, write
from seqjax.recipes.pictures import curves
from seqjax.recipes.running import learning, splits, watch
from seqjax.recipes.running.courses import Course, trains
from seqjax.recipes.running.options import (
    BadInput,
    DataFile,
    TextOrNone,
    bad_input,
    check_not_negative,
    check_sizes,
)
from seqjax.recipes.running.patience import Patience
from seqjax.recipes.running.run import Run
from seqjax.tasks.stored import First
from seqjax.tasks.texts import Numbers, Text, open_text, window
from seqjax.tasks.vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(CharacterOptions, splits.SplitOptions):
    """Trains a character language model, writes text with it, and keeps it in a run folder."""

    whole = "text"

    text: DataFile = None
    """Any UTF-8 text, the last tenth of which is held back; Python's own standard library if not given."""
    steps: int = 1000
    window: int = 128
    """Characters from update to update, through which gradients flow."""
    learning_rate: float = 4e-3
    prompt: TextOrNone = None
    """What the text written at the end begins with; a line break if not given."""
    length: int = 500
    """Characters to write at the end."""
    temperature: float = 0.8
    """1 writes from the model's own distribution, 0 the likeliest character each time."""
    watch_gradients: int = 0
    """Updates from one look at where the gradient goes to the next, kept in gradients.jsonl and gradients.png; 0 for
    none, as with blocks."""

    def check(self, who: str) -> None:
        """Refuses sizes and thresholds out of range."""
        super().check(who)
        check_sizes(who, self, "window", "length")
        check_not_negative(who, self, "temperature", "watch_gradients")
        if self.block != "none" and self.watch_gradients:
            raise ValueError(
                f"{who}: expected no --watch-gradients with --block {self.block}, got both. It looks at recurrences on "
                "top of each other with nothing between them: leave one of them out."
            )


@trains
def main(options: Options) -> Course:
    """``python -m seqjax charlm``."""
    # Data: texts as numbers, and the part that is never trained on.
    with bad_input("charlm"):
        given = splits.read(options, open_text, lambda: Text(standard_library().encode()))
        counts = {character: 0 for part in given if part for character in part.counts} | given.train.counts
        vocabulary = Vocabulary.counted(counts, specials=(), at_least=0)
        prompt = encode_prompt("charlm", vocabulary, options.prompt)
    text, numbers = given.train, Numbers(given.train, vocabulary)
    if given.held_back is None:
        learned = int(0.9 * len(text))
        held_back = numbers[learned : learned + SCORED]
    else:
        learned, held_back = len(text), Numbers(given.held_back, vocabulary)[:SCORED]
    test = None if given.test is None else Numbers(given.test, vocabulary)[:]
    shortest = options.batch_size * (options.window + 1)
    if learned < shortest or len(held_back) < 2 or (test is not None and len(test) < 2):
        least = shortest if given.held_back else max(-(-shortest * 10 // 9), 11)
        raise BadInput(
            f"charlm: expected at least {least} characters of text{', two' * bool(splits.files(options))}, so that "
            f"{'they' if given.held_back else 'nine tenths'} fill {options.batch_size} streams of one window of "
            f"{options.window}, got {len(text)}. Give a longer text, or lower --batch-size or --window."
        )
    bigram = ngram_nats(First(numbers, learned), held_back, len(vocabulary), 2)[1]

    # Model
    model = language_model(options, len(vocabulary))

    # Training: windows of the streams in order, the state carried from each to the next.
    windows = (learned // options.batch_size - 1) // options.window

    def batch_of(step: int) -> sj.Batch:
        ticks = window(numbers, learned, options.batch_size, options.window, step % windows)
        return sj.Batch(ticks[:-1], ticks[1:])

    start = initial(model, options)
    measure = scorer(model)

    def evaluate(params: PyTree, part: np.ndarray = held_back) -> dict[str, float]:
        nats, count = log_loss(measure, model, params, part, columns=32, lead=256)
        return {"validation_loss": nats / count, "validation_bits": sj.bits_per_character(nats / count)}

    facts = {
        **splits.facts(options),
        "sha256": text.sha256,
        "characters": len(text),
        "vocabulary": "".join(vocabulary.symbols),
        "bigram_loss": bigram,
    }
    free = ("text", "train", "held_back", "prompt", "length", "temperature", "watch_gradients")
    folder = Run.start("charlm", options, facts, free=free)
    size = sj.summary(model, batch_of(0).xs[:, 0])
    print(
        f"{splits.told(options, 'Python standard library')}: {len(text):,} characters of {len(vocabulary)} kinds; "
        f"bigram model {bigram:.3f} nats, {sj.bits_per_character(bigram):.3f} bits a character\n"
        f"model: {size.parameter_count:,} parameters, state of {size.state_size:,} numbers, "
        f"{sum(size.flop):,.0f} FLOP a character"
    )
    outcome = yield from learning.learn(
        folder,
        options,
        start,
        sj.truncated(model, sj.cross_entropy, options.window),
        batch_of,
        goes_on=lambda step: step % windows > 0,
        show="loss {loss:.3f} {bits:.3f} bits/char",
        extra=lambda loss: {"bits": sj.bits_per_character(loss)},
        work=options.batch_size * options.window,
        unit="characters",
        evaluate=evaluate,
        show_evaluation="validation {validation_loss:.4f} {validation_bits:.4f} bits/char",
        best=learning.lowest("validation_loss"),
        test=None if test is None else functools.partial(evaluate, part=test),
        patience=Patience(folder, options.patience, "validation_loss") if options.patience else None,
        watch=watch.watcher(folder, *parts(options, len(vocabulary)), options.watch_gradients)
        if options.watch_gradients
        else None,
    )

    # What came out
    picture = curves.draw(
        folder,
        {"training": "loss", "validation": "validation_loss"},
        levels={"bigram model, validation": bigram},
        x_scale=options.batch_size * options.window / 1e6,
        x_label="characters read (millions)",
        y_label="cross-entropy (nats/character)",
    )
    written = write(
        model,
        outcome.params,
        prompt,
        length=options.length,
        temperature=options.temperature,
        seed=options.seed,
    )
    print("\n" + "".join(vocabulary.decode([*prompt, *written])) + "\n")
    print(
        f"validation {outcome.numbers['validation_loss']:.4f} nats, {outcome.numbers['validation_bits']:.4f} bits a "
        f"character; bigram model {bigram:.4f} nats, {sj.bits_per_character(bigram):.4f} bits; "
        f"{outcome.steps} steps in {outcome.seconds:.0f} s"
    )
    learning.conclude(folder, "nats a character", outcome.numbers, {"bigrams": bigram}, outcome.test)
    print(f"run folder {folder.folder}, loss curve {picture}")
    if watch.records(folder):
        print(f"where the gradient went: {watch.draw(folder)}")
