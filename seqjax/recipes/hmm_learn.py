"""Hidden Markov models learned from a text that nobody labelled: what do its characters fall into?

    E: counts of starts, steps and emissions, as the model expects them given the text      M: every row ∝ its counts

From two states and the letters of English come vowels and consonants. Every number of states is learned from several
random starts, for expectation maximisation ends in whatever maximum is near; the likeliest of the training text is
kept, and measured on text held back, beside models that count. A run is asked for the likeliest states of a text.

References:
  Cave and Neuwirth (1980), Hidden Markov models for English. In: Hidden Markov analysis, IDA-CRD.
  Rabiner (1989), A tutorial on hidden Markov models and selected applications in speech recognition.
  https://doi.org/10.1109/5.18626
"""

import dataclasses
import functools
import re
from collections import Counter
from collections.abc import Generator, Mapping
from typing import Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

import seqjax as sj
from seqjax import hmm
from seqjax.base import Array, PyTree
from seqjax.recipes.language.ngrams import ngram_nats
from seqjax.recipes.language.states import explained, nats_of, ordered, picture_of, shown, table
from seqjax.recipes.language.text import documentation
from seqjax.recipes.pictures import curves
from seqjax.recipes.running import drawing, learning, loop, splits
from seqjax.recipes.running.asking import Asked
from seqjax.recipes.running.courses import Course, trains
from seqjax.recipes.running.options import BadInput, DataFile, RunOptions, bad_input, check_not_negative, check_sizes
from seqjax.recipes.running.run import Run, digest, kept, vocabularies
from seqjax.tasks.batches import streams
from seqjax.tasks.texts import read_text
from seqjax.tasks.vocabulary import Vocabulary

MOST = 5  # numbers of states, a line each in the figure


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(RunOptions, splits.SplitOptions):
    """Learns hidden Markov models of the characters of a text, and shows what their states stand for.

    There is no --products: probabilities are summed to the last digit, and nothing is trained by gradient.
    """

    whole = "text"

    text: DataFile = None
    """Any UTF-8 text, the last tenth of which is held back; the documentation of Python's standard library if not
    given."""
    symbols: Literal["letters", "characters"] = "letters"
    """Letters in lower case with a space for all that is between them, or the characters as they are."""
    most: int = 50_000
    """Symbols to read of each text, from its beginning."""
    states: tuple[int, ...] = (2, 3)
    """Hidden states: a model for each number."""
    restarts: int = 5
    """Random starts of each."""
    seed: int = 0
    """Decides the random starts."""
    steps: int = 100
    """Of expectation maximisation in all, those before a --resume included."""
    window: int = 500
    """Symbols of a sequence: the text to learn from is cut into such."""
    smoothing: float = 0.01
    """Added to every expected count of a symbol in a state; with 0 what was never seen is impossible."""

    def check(self, who: str) -> None:
        """Refuses sizes out of range, and a number of states twice."""
        super().check(who)
        check_sizes(who, self, "most", "restarts")
        if self.window < 2:
            raise ValueError(f"{who}: expected --window of at least 2, got {self.window}. There is no step in one.")
        check_not_negative(who, self, "smoothing")
        if not 0 < len(set(self.states)) == len(self.states) <= MOST or min(self.states) < 1:
            raise ValueError(
                f"{who}: expected --states to be up to {MOST} numbers of at least 1 that differ, got {self.states}. "
                "Correct them."
            )


@trains
def main(options: Options) -> Course:
    """``python -m seqjax hmm-learn``."""
    # Data: one stream of symbols, its last tenth or another text held back; sequences to learn from, side by side.
    with bad_input("hmm-learn"):
        text = read(options)
        xs = streams(text.train, max(1, len(text.train) // options.window))
        check_seen(options.smoothing, text, xs)
    kind, size = options.symbols[:-1], len(text.vocabulary)
    floors = dict(zip(("unigrams, counted", "bigrams, counted"), ngram_nats(text.train, text.held_back, size, 2)))
    facts = {"sha256": text.sha256} | vocabularies(symbols=text.vocabulary) | splits.facts(options)
    folder = Run.start("hmm-learn", options, facts, free=("text", "train", "held_back"))
    print(
        f"{splits.told(options, 'documentation of the standard library')}: {xs.size:,} {options.symbols} to learn "
        f"from, {len(text.held_back):,} held back, {size} kinds"
    )

    # Learning: every start of every number of states a step at a time.
    prior = hmm.Prior(emission=options.smoothing) if options.smoothing else None

    @jax.jit
    def improve(models: hmm.HMM) -> Starts:
        fit = jax.vmap(lambda model: hmm.fit(model, xs, steps=1, prior=prior))(models)
        return Starts(cast(hmm.HMM, fit.model), -fit.log_likelihood[:, -1] / xs.size)

    def advance(state: learning.Training, step: int) -> Generator[Any, Any, tuple[learning.Training, dict]]:
        yield from ()  # no update is made elsewhere
        starts = {name: improve(some.models) for name, some in state.memory.items()}
        nats = {name: some.nats.min() for name, some in starts.items()}
        numbers = {"loss": jnp.stack([*nats.values()]).mean(), "skipped": state.train.skipped}
        return training(starts), numbers | {f"training_{name}": least for name, least in nats.items()}

    def evaluate(part: np.ndarray, models: Mapping[str, hmm.HMM]) -> dict[str, float]:
        return {f"nats_{name}": nats_of(model, part) for name, model in models.items()}

    start = begin(options, size)
    _, state = yield from loop.train(
        folder,
        start,
        advance,
        steps=options.steps,
        show=f"in training {{loss:.4f}} {{speed:,.0f}} {options.symbols}/s",
        work=xs.size * options.restarts * len(options.states),
        unit=options.symbols,
        evaluate=lambda state: evaluate(text.held_back, state.train.params),
        show_evaluation=f"nats a {kind} held back: "
        + "  ".join(f"{told(name)} {{nats_{name}:.4f}}" for name in start.memory),
        log_every=1,
        evaluate_every=max(1, options.steps // learning.EVALUATIONS),
        best=learning.lowest(*(f"nats_{name}" for name in start.memory)),
        sound=without_nan,
    )
    tested = None
    if text.test is not None:
        tested = splits.measured(folder, start, learning.params_of, functools.partial(evaluate, text.test))

    # What came out: what the states stand for, a table, the learning curve.
    figures, names = dict[str, float](), [shown(symbol) for symbol in text.vocabulary.symbols]
    for name, starts in state.memory.items():
        found = ordered(state.train.params[name], options.window)
        nats = figures[told(name)] = nats_of(found.model, text.held_back)
        ends = " ".join(f"{end:.4f}" for end in starts.nats)
        print(f"\n{told(name)}: {nats:.4f} nats a {kind} held back; in training, by start: {ends}")
        print(table(found, names))
        picture = drawing.save(folder, f"states_{len(found.shares)}", "hidden states", **picture_of(found, names))
        print(f"figure {picture}")
    print(f"\n{'held back':20}{f'nats a {kind}':>18}{'free parameters':>17}")
    for name, value in floors.items():
        print(f"{name:20}{value:18.4f}")
    for states, (name, value) in zip(options.states, figures.items()):
        free = (states - 1) + states * (states - 1) + states * (size - 1)
        print(f"{name:20}{value:18.4f}{free:17,}")
    curve = curves.draw(
        folder,
        {told(name): f"training_{name}" for name in start.memory},
        levels={"unigrams, counted (held back)": floors["unigrams, counted"]},
        x_label="steps of expectation maximisation",
        y_label=f"-ln p (nats/{kind}, training)",
        name="likelihood",
    )
    learning.conclude(folder, f"nats a {kind}", figures, floors, tested)
    print(f"run folder {folder.folder}, learning curve {curve}")


class Text(NamedTuple):
    """Texts as numbers: to learn from, held back, to test with or None; their symbols; a digest of the first."""

    train: np.ndarray
    held_back: np.ndarray
    test: np.ndarray | None
    vocabulary: Vocabulary
    sha256: str


class Starts(NamedTuple):
    """Models of one number of states, an axis of starts in front, and nats a symbol of the training text."""

    models: hmm.HMM
    nats: Array


def read(options: Options) -> Text:
    """The texts of a run; where nothing else is held back it is the last tenth of what is learned from."""

    def of(text: str) -> str:
        return (letters(text) if options.symbols == "letters" else text)[: options.most]

    whole, held_back, test = splits.read(
        options, lambda path: of(read_text(path)), lambda: of(documentation(3 * options.most))
    )
    counts = Counter(whole) | dict.fromkeys(set((held_back or "") + (test or "")) - set(whole), 0)
    vocabulary = Vocabulary.counted(counts, specials=(), at_least=0)
    learned = int(0.9 * len(whole)) if held_back is None else len(whole)
    train, held_back = whole[:learned], whole[learned:] if held_back is None else held_back
    if short := [part for part in (held_back, test) if part is not None and len(part) < 2]:
        raise BadInput(
            f"hmm-learn: expected at least 2 {options.symbols} to measure on, got {len(short[0])}. Give a longer text."
        )
    tested = None if test is None else vocabulary.encode(test)
    return Text(vocabulary.encode(train), vocabulary.encode(held_back), tested, vocabulary, digest(whole))


def letters(text: str) -> str:
    """Lower case, one space for all that is between letters.

    >>> letters("It's 5 o'clock!")
    'it s o clock '
    """
    return re.sub(r"[\W\d_]+", " ", text.lower())


def check_seen(smoothing: float, text: Text, train: np.ndarray) -> None:
    """Refuses symbols to measure on of which nothing could be learned and nothing is added."""
    for part, where in ((text.held_back, "held back"), (text.test, "to test with")):
        unseen = np.setdiff1d(train if part is None else part, train)
        if len(unseen) and not smoothing:
            raise ValueError(
                f"expected --smoothing above 0, as {text.vocabulary.symbols[unseen[0]]!r} is in the text {where} only, "
                "got 0. Raise it, or give more text."
            )


def begin(options: Options, size: int) -> learning.Training:
    """All starts, rows drawn uniformly from all distributions; nothing is known of how likely they are."""
    keys = [jax.random.fold_in(jax.random.key(options.seed), restart) for restart in range(options.restarts)]
    drawn = {
        f"{states}_state{'s' * (states > 1)}": [hmm.random(key, states, size) for key in keys]
        for states in options.states
    }
    return training(
        {
            name: Starts(jax.tree.map(lambda *leaves: jnp.stack(leaves), *models), jnp.full(len(keys), jnp.inf))
            for name, models in drawn.items()
        }
    )


def training(starts: Mapping[str, Starts]) -> learning.Training:
    """What decides the next step, all starts; the parameters are those of the likeliest."""
    likeliest = lambda some: jax.tree.map(lambda p: p[some.nats.argmin()], some.models)
    best = {name: likeliest(some) for name, some in starts.items()}
    return learning.Training(sj.train_state(best, optax.identity()), dict(starts))


def without_nan(state: PyTree) -> bool:
    """Whether every number is one, or infinite: ln 0 is no fault."""
    return not any(np.isnan(leaf).any() for leaf in jax.tree.leaves(jax.device_get(state)))


def told(name: str) -> str:
    """The name of a model in words."""
    return name.replace("_", " ")


def to_ask(run: Run) -> Asked:
    """Texts, whose symbols' likeliest states are told."""
    options, known = run.options(Options), kept(run, "symbols")
    assert known is not None
    (vocabulary,) = known
    params = learning.trained(run, begin(options, len(vocabulary)))
    models = {told(name): ordered(model, options.window).model for name, model in params.items()}
    form = letters if options.symbols == "letters" else str
    return Asked("a text", "the cat", lambda text: explained(models, vocabulary, form(text)))
