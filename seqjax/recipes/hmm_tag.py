"""Tagging words with a hidden Markov model: filtered, smoothed, the best taggings, and a network beside it.

    P(tags, words) = P(z_1) Π_t P(z_t | z_{t-1}) Π_t P(x_t | z_t)

Without files the model is a textbook's: three tags, four words. Trained on a treebank, its probabilities are relative
frequencies, and words seen once or never share the probabilities of their endings.

References:
  Rabiner (1989), A tutorial on hidden Markov models and selected applications in speech recognition.
  https://doi.org/10.1109/5.18626
  Brants (2000), TnT: a statistical part-of-speech tagger. https://aclanthology.org/A00-1031/
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from seqjax import hmm, masks, tasks
from seqjax.base import Array
from seqjax.recipes.language.tagging import check_tags
from seqjax.recipes.language.textbook import TAGS, WORDS, markov_model, network
from seqjax.recipes.pictures import lattice
from seqjax.recipes.running import drawing, learning, splits
from seqjax.recipes.running.options import (
    BadInput,
    DrawingOptions,
    FileOrNone,
    FolderOrNone,
    bad_input,
    check_positive,
    check_sizes,
)
from seqjax.recipes.running.run import Run


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(DrawingOptions, splits.SplitOptions):
    """Tags a sentence, and draws the lattice of tags with the most probable path.

    There is no --products: probabilities are summed to the last digit, and nothing is trained by gradient.
    """

    sentence: str = "John hit the ball"
    """Words, separated by spaces."""
    data: FileOrNone = None
    """Tagged sentences (CoNLL-U), the last tenth of them held back; a model of three tags and four words if not given.
    All of --train is learned from: nothing is chosen by what is held back."""
    smoothing: float = 0.1
    """Added to every count of two tags in a row, and a hundredth of it to every count of a word with a tag."""
    paths: int = 3
    """How many of the best taggings to print."""
    run_dir: FolderOrNone = None
    """New folder for the run's files; runs/RECIPE-DATE-TIME if not given."""

    def check(self, who: str) -> None:
        """Refuses numbers out of range and a measurement without a model."""
        super().check(who)
        check_sizes(who, self, "paths")
        check_positive(who, self, "smoothing")


def main(options: Options) -> None:
    """``python -m seqjax hmm-tag``."""
    # Model: a textbook's, or the frequencies of a treebank.
    words = options.sentence.split()
    if not words:
        raise BadInput("hmm-tag: expected --sentence to hold at least one word, got none. Give some words.")
    with bad_input("hmm-tag"):
        train, held_back, test = splits.read(options, tasks.read_conllu, list[tasks.Sentence])
        if options.data is not None:
            train, held_back = train[: len(train) * 9 // 10], train[len(train) * 9 // 10 :]
        given = options.data is not None or options.train is not None
        tagger = learn(train, options.smoothing) if given else textbook()
        check_tags(tagger.tags, [*(held_back or ()), *(test or ())])
    kept = {"vocabularies": {"tags": list(tagger.tags), "symbols": list(tagger.symbols)}}
    facts = {"tags": list(tagger.tags), "symbols": len(tagger.symbols)} | splits.facts(options)
    folder = Run.create("hmm-tag", options, facts | kept)
    print(f"{len(tagger.tags)} tags, {len(tagger.symbols):,} words and endings")
    tested = None if test is None else splits.Measured(0, evaluate(tagger, test))
    if held_back is None and tested is not None:
        learning.conclude(folder, "accuracy", {}, {}, tested)
    if held_back is not None:
        report = evaluate(tagger, held_back)
        folder.log(step=0, **report)
        learning.conclude(folder, "accuracy", report, {"commonest tag": report["commonest"]}, tested)
        unknown = "no word is unknown"
        if "unknown" in report:
            unknown = f"{report['unknown']:.2%} of unknown words, which are {report['unknown_share']:.1%}"
        print(
            f"{len(held_back):,} sentences held back: {report['best_path']:.2%} of tags right on the best path, "
            f"{report['posterior']:.2%} tag by tag; {unknown}; the commonest tag of each word "
            f"{report['commonest']:.2%}, chance {1 / len(tagger.tags):.2%}"
        )

    # One sentence: what is known after each word, what is known in the end, and the taggings as a whole.
    model, xs = tagger.model, tagger.encode(words)
    best, likelihood = hmm.viterbi(model, xs), hmm.forward(model, xs).log_likelihood
    columns = {
        "words so far": jnp.exp(hmm.forward(model, xs).log_filtered),
        "all words": jnp.exp(hmm.posterior(model, xs).log_marginals),
    }
    if not given:
        columns["network"] = approximation(xs)
    if len(tagger.tags) <= lattice.ALL:
        print(f"\n{table(words, tagger.tags, best.states, columns)}")
    for word in dict.fromkeys(word for word in words if word not in tagger.symbols):
        known = next((f"read as {ending}" for ending in endings(word) if ending in tagger.symbols), None)
        print(f"{word!r} is unknown: {known or 'no word of its ending is known either, its neighbours decide'}")
    print(f"\nln P(words) = {likelihood:.4f}; the best taggings:")
    several = hmm.top_paths(model, xs, options.paths)
    for path, log_prob in zip(several.states.T, several.log_prob):
        if log_prob > -np.inf:
            tagged = " ".join(f"{word}/{tagger.tags[tag]}" for word, tag in zip(words, path))
            print(f"{np.exp(log_prob - likelihood):8.2%}  {tagged}")
    picture = drawing.save(folder, "lattice", "lattice", **lattice.numbers(model, tagger.tags, words, xs))
    print(f"run folder {folder.folder}, lattice {picture}")


class Tagger(NamedTuple):
    """A model and what its numbers mean; unknown words are looked up by their ending."""

    tags: tuple[str, ...]
    symbols: dict[str, int]
    model: hmm.HMM

    def symbol(self, word: str) -> int:
        """The number of a word, or of the longest ending known, or `hmm.MISSING`."""
        return next((self.symbols[s] for s in (word, *endings(word)) if s in self.symbols), hmm.MISSING)

    def encode(self, words: Sequence[str]) -> np.ndarray:
        """The numbers of all words, ``[T]``."""
        return np.array([self.symbol(word) for word in words], np.int32)


def textbook() -> Tagger:
    """Three tags, four words, the first tag uniform."""
    return Tagger(TAGS, {word: i for i, word in enumerate(WORDS)}, markov_model())


def approximation(xs: np.ndarray) -> Array:
    """The textbook's network for the same task; its tags ``[T, 3]``."""
    cell, params = network()
    known = jax.nn.one_hot(xs, len(WORDS), dtype=params.w_x.dtype)
    return sj.unroll(cell, params, cell.initial_state(params), known)[1]


def endings(word: str) -> list[str]:
    """Classes of words that look like this one, the narrowest first."""
    if any(letter.isdigit() for letter in word):
        return ["<number>"]
    shape = "Word" if word[:1].isupper() else "word"
    return [f"<{shape} …{word[-n:].lower()}>" for n in (4, 3, 2, 1) if len(word) > n] + [f"<{shape}>"]


def learn(sentences: Sequence[tasks.Sentence], smoothing: float) -> Tagger:
    """Relative frequencies. Words seen once count as their endings, so that endings stand for words never seen."""
    seen = Counter(word for sentence in sentences for word in sentence.words)
    rare = Counter(ending for word, count in seen.items() if count == 1 for ending in endings(word))
    names = [word for word, count in seen.items() if count > 1] + [ending for ending, n in rare.items() if n > 1]
    if not names:
        raise ValueError("learn: expected a word or an ending that comes twice, got none. Give more sentences.")
    tags = tuple(sorted({tag for sentence in sentences for tag in sentence.tags}))
    symbols, numbers = {name: i for i, name in enumerate(names)}, {tag: i for i, tag in enumerate(tags)}
    initial, transition = np.full(len(tags), smoothing), np.full((len(tags),) * 2, smoothing)
    emission = np.full((len(tags), len(symbols)), 0.01 * smoothing)
    for sentence in sentences:
        states = [numbers[tag] for tag in sentence.tags]
        initial[states[0]] += 1
        np.add.at(transition, (states[:-1], states[1:]), 1)
        for word, state in zip(sentence.words, states):
            for name in [word] if seen[word] > 1 else endings(word):
                if name in symbols:
                    emission[state, symbols[name]] += 1
    rows = (p / p.sum(-1, keepdims=True) for p in (initial, transition, emission))
    return Tagger(tags, symbols, hmm.from_probabilities(*rows))


def evaluate(tagger: Tagger, sentences: Sequence[tasks.Sentence]) -> dict[str, float]:
    """Shares of tags that are right: best path, posterior, unknown words if any, and each word's commonest tag."""
    numbers = {tag: i for i, tag in enumerate(tagger.tags)}
    lengths = np.array([len(sentence.words) for sentence in sentences])
    mask = np.asarray(masks.from_lengths(jnp.array(lengths), int(lengths.max())))
    xs, truth, known = np.zeros(mask.shape, np.int32), np.full(mask.shape, -1), np.zeros(mask.shape, bool)
    for b, sentence in enumerate(sentences):
        xs[: lengths[b], b] = tagger.encode(sentence.words)
        truth[: lengths[b], b] = [numbers.get(tag, -1) for tag in sentence.tags]
        known[: lengths[b], b] = [word in tagger.symbols for word in sentence.words]
    path = np.asarray(hmm.viterbi(tagger.model, xs, mask=jnp.array(mask)).states) == truth
    marginals = hmm.posterior(tagger.model, xs, mask=jnp.array(mask)).log_marginals
    likely = np.asarray(marginals).argmax(-1) == truth
    tags, words = np.asarray(prior(tagger.model)), np.asarray(tagger.model.log_emission)
    commonest = (tags[:, None] + words).argmax(0)[np.maximum(xs, 0)] == truth
    unknown = mask & ~known
    return {
        "best_path": float(path[mask].mean()),
        "posterior": float(likely[mask].mean()),
        **({"unknown": float(path[unknown].mean())} if unknown.any() else {}),
        "unknown_share": float(unknown.sum() / mask.sum()),
        "commonest": float(commonest[mask].mean()),
    }


def prior(model: hmm.HMM) -> np.ndarray:
    """ln of the share of each tag in the long run."""
    values, vectors = np.linalg.eig(np.exp(np.asarray(model.log_transition, np.float64)).T)
    shares = np.abs(vectors[:, np.abs(values - 1).argmin()])
    return np.log(shares / shares.sum())


def table(words: Sequence[str], tags: Sequence[str], best: Array, columns: Mapping[str, Array]) -> str:
    """One line a word: its tag on the best path, and the probabilities of all tags ``[T, N]`` in each column."""
    first, wide = max(map(len, words)) + 2, 6 * len(tags) + 3
    names = " ".join(f"{tag:5.5}" for tag in tags)
    lines = [
        f"{'':{first + 6}}" + "".join(f"{name:{wide}}" for name in columns),
        f"{'':{first}}{'best':6}" + f"{names:{wide}}" * len(columns),
    ]
    for t, word in enumerate(words):
        cells = [" ".join(f"{p:.3f}" for p in column[t]) for column in columns.values()]
        lines.append(f"{word:{first}}{tags[int(best[t])]:6}" + "".join(f"{cell:{wide}}" for cell in cells))
    return "\n".join(line.rstrip() for line in lines)
