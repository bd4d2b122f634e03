"""Hidden Markov models learned from a text that nobody labelled: what do its characters fall into?

    E: counts of starts, steps and emissions, as the model expects them given the text      M: every row ∝ its counts

From two states and the letters of English come vowels and consonants. Every number of states is learned from several
random starts, for expectation maximisation ends in whatever maximum is near; the likeliest of the training text is
kept, and measured on text held back, beside models that count.

References:
  Cave and Neuwirth (1980), Hidden Markov models for English. In: Hidden Markov analysis, IDA-CRD.
  Rabiner (1989), A tutorial on hidden Markov models and selected applications in speech recognition.
  https://doi.org/10.1109/5.18626
"""

import dataclasses
import re
from typing import Literal, NamedTuple, cast

import jax
import numpy as np

from seqjax import hmm
from seqjax.recipes.language.ngrams import ngram_nats
from seqjax.recipes.language.text import documentation
from seqjax.recipes.pictures import curves
from seqjax.recipes.running import drawing, learning
from seqjax.recipes.running.options import (
    DrawingOptions,
    FileOrNone,
    FolderOrNone,
    bad_input,
    check_not_negative,
    check_seed,
    check_sizes,
)
from seqjax.recipes.running.run import Run, digest, vocabularies
from seqjax.tasks.batches import streams
from seqjax.tasks.texts import read_text
from seqjax.tasks.vocabulary import Vocabulary

MOST = 5  # numbers of states, a line each in the figure
LIKELIEST = 8  # symbols that are printed of each state
SHOWN = 40  # symbols in a figure, the commonest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(DrawingOptions):
    """Learns hidden Markov models of the characters of a text, and shows what their states stand for."""

    text: FileOrNone = None
    """Any UTF-8 text; the documentation of Python's standard library if not given."""
    symbols: Literal["letters", "characters"] = "letters"
    """Letters in lower case with a space for all that is between them, or the characters as they are."""
    most: int = 50_000
    """Symbols to read, from the beginning; the last tenth of them is held back."""
    states: tuple[int, ...] = (2, 3)
    """Hidden states: a model for each number."""
    restarts: int = 5
    """Random starts of each."""
    steps: int = 100
    """Of expectation maximisation."""
    window: int = 500
    """Symbols of a sequence: the text to learn from is cut into such."""
    smoothing: float = 0.01
    """Added to every expected count of a symbol in a state; with 0 what was never seen is impossible."""
    seed: int = 0
    """Decides the random starts."""
    run_dir: FolderOrNone = None
    """New folder for the run's files; runs/RECIPE-DATE-TIME if not given."""

    def check(self, who: str) -> None:
        """Refuses sizes out of range, and a number of states twice."""
        super().check(who)
        check_sizes(who, self, "most", "restarts", "steps", "window")
        check_not_negative(who, self, "smoothing")
        check_seed(who, self.seed)
        if not 0 < len(set(self.states)) == len(self.states) <= MOST or min(self.states) < 1:
            raise ValueError(
                f"{who}: expected --states to be up to {MOST} numbers of at least 1 that differ, got {self.states}. "
                "Correct them."
            )


def main(options: Options) -> None:
    """``python -m seqjax hmm-learn``."""
    # Data: one stream of symbols, its last tenth held back; sequences to learn from, side by side.
    with bad_input("hmm-learn"):
        text = documentation(3 * options.most) if options.text is None else read_text(options.text)
        text = (letters(text) if options.symbols == "letters" else text)[: options.most]
        vocabulary = Vocabulary.build([text], specials=())
        numbers = vocabulary.encode(text)
        train, held_back = np.split(numbers, [int(0.9 * len(numbers))])
        xs = streams(train, max(1, len(train) // options.window))
        check_seen(options.smoothing, vocabulary, xs, held_back)
    kind, size = options.symbols[:-1], len(vocabulary)
    floors = dict(zip(("unigrams, counted", "bigrams, counted"), ngram_nats(train, held_back, size, 2)))
    folder = Run.create("hmm-learn", options, {"sha256": digest(text)} | vocabularies(symbols=vocabulary))
    print(
        f"{options.text or 'documentation of the standard library'}: {xs.size:,} {options.symbols} to learn from, "
        f"{len(held_back):,} held back, {size} kinds"
    )

    # Learning: of each number of states the start that ends likeliest.
    names = [shown(symbol) for symbol in vocabulary.symbols]
    learned, courses, figures = dict[str, hmm.HMM](), dict[str, np.ndarray](), dict[str, float | None]()
    for states in options.states:
        fits = [learn(options, states, size, xs, restart) for restart in range(options.restarts)]
        model, course = min(fits, key=lambda fit: float(fit[1][-1]))
        found = ordered(model, xs)
        learned[f"{states} states"], courses[f"nats_{states}"] = found.model, course
        nats = figures[f"{states} states"] = nats_of(found.model, held_back)
        ends = " ".join(f"{course[-1]:.4f}" for _, course in fits)
        print(f"\n{states} states: {nats:.4f} nats a {kind} held back; in training, by start: {ends}")
        print(table(found, names))
        told = picture_of(found, names)
        print(f"figure {drawing.save(folder, f'states_{states}', 'hidden states', **told)}")
    for step in range(options.steps + 1):
        folder.log(step, **{name: float(course[step]) for name, course in courses.items()})
    folder.save(options.steps, learned)

    # What came out: a table, the learning curve.
    print(f"\n{'held back':20}{f'nats a {kind}':>18}{'parameters':>12}")
    for name, value in floors.items():
        print(f"{name:20}{value:18.4f}")
    for states in options.states:
        free = (states - 1) + states * (states - 1) + states * (size - 1)
        print(f"{f'{states} states':20}{figures[f'{states} states']:18.4f}{free:12,}")
    picture = curves.draw(
        folder,
        {f"{states} states": f"nats_{states}" for states in options.states},
        levels={"unigrams, counted (held back)": floors["unigrams, counted"]},
        x_label="steps of expectation maximisation",
        y_label=f"-ln p (nats/{kind}, training)",
        name="likelihood",
    )
    learning.conclude(folder, f"nats a {kind}", figures, floors)
    print(f"run folder {folder.folder}, learning curve {picture}")


class Found(NamedTuple):
    """A model whose first state is the commonest, and the share of symbols in each state."""

    model: hmm.HMM
    shares: np.ndarray


def letters(text: str) -> str:
    """Lower case, one space for all that is between letters.

    >>> letters("It's 5 o'clock!")
    'it s o clock '
    """
    return re.sub(r"[\W\d_]+", " ", text.lower())


def check_seen(smoothing: float, vocabulary: Vocabulary, train: np.ndarray, held_back: np.ndarray) -> None:
    """Refuses held-back symbols of which nothing could be learned and nothing is added."""
    unseen = np.setdiff1d(held_back, train)
    if len(unseen) and not smoothing:
        raise ValueError(
            f"expected --smoothing above 0, as {vocabulary.symbols[unseen[0]]!r} is in the text held back only, got 0. "
            "Raise it, or give more text."
        )


def learn(options: Options, states: int, symbols: int, xs: np.ndarray, restart: int) -> tuple[hmm.HMM, np.ndarray]:
    """One start, rows drawn uniformly from all distributions: the model after so many steps, and its nats a symbol."""
    start = hmm.random(jax.random.fold_in(jax.random.key(options.seed), restart), states, symbols)
    prior = hmm.Prior(emission=options.smoothing) if options.smoothing else None
    fit = hmm.fit(start, xs, steps=options.steps, prior=prior)
    return cast(hmm.HMM, fit.model), -np.asarray(fit.log_likelihood) / xs.size


def ordered(model: hmm.HMM, xs: np.ndarray) -> Found:
    """The same model with its states from the commonest to the rarest."""
    shares = np.exp(np.asarray(hmm.posterior(model, xs).log_marginals)).mean((0, 1))
    order = np.argsort(-shares)
    again = hmm.HMM(model.log_initial[order], model.log_transition[order][:, order], model.log_emission[order])
    return Found(again, shares[order])


def nats_of(model: hmm.HMM, xs: np.ndarray) -> float:
    """The mean of -ln p(x_t | x_1 … x_{t-1}) over all symbols but the first."""
    whole, first = (float(hmm.forward(model, part).log_likelihood) for part in (xs, xs[:1]))
    return (first - whole) / (len(xs) - 1)


def shown(symbol: str) -> str:
    r"""A character that can be seen.

    >>> shown("a"), shown(" "), shown("\n")
    ('a', '␣', '\\n')
    """
    return "␣" if symbol == " " else repr(symbol)[1:-1]


def table(found: Found, names: list[str]) -> str:
    """A line a state: its share, where it goes, its likeliest symbols."""
    goes, emits = (np.exp(np.asarray(p)) for p in found.model[1:])
    lines = []
    for state, share in enumerate(found.shares):
        likely = np.argsort(-emits[state])[:LIKELIEST]
        said = "  ".join(f"{names[i]} {emits[state, i]:.3f}" for i in likely)
        then = " ".join(f"{p:.2f}" for p in goes[state])
        lines.append(f"  state {state + 1}, {share:6.1%}, goes on to {then}: {said}")
    return "\n".join(lines)


def picture_of(found: Found, names: list[str]) -> dict:
    """What the figure shows: symbols by the state that they are likeliest in, there by how likely."""
    goes, emits = (np.exp(np.asarray(p)) for p in found.model[1:])
    joint = found.shares[:, None] * emits
    common = np.argsort(-joint.sum(0))[:SHOWN]
    order = common[np.lexsort((-emits.max(0)[common], joint.argmax(0)[common]))]
    return {"transition": goes, "emission": emits[:, order], "symbols": [names[i] for i in order]}
