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
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from seqjax import hmm, masks, tasks
from seqjax.recipes.figure import COLOURS
from seqjax.recipes.options import BadInput, File, Folder, bad_input, check_positive, check_sizes
from seqjax.recipes.run import Run

# Rows: determiner, noun, verb; columns of the words: ball, hit, John, the.
TAGS, WORDS = ("Det", "Noun", "Verb"), ("ball", "hit", "John", "the")
TRANSITION = np.array([[0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.8, 0.1, 0.1]])
EMISSION = np.array([[0.01, 0.01, 0.01, 0.97], [0.49, 0.01, 0.49, 0.01], [0.01, 0.97, 0.01, 0.01]])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Tags a sentence, and draws the lattice of tags with the most probable path."""

    sentence: str = "John hit the ball"
    """Words, separated by spaces."""
    train: File | None = None
    """Tagged sentences to learn from (CoNLL-U); a model of three tags and four words if not given."""
    held_back: File | None = None
    """Tagged sentences to measure the tagger on (CoNLL-U); needs --train."""
    smoothing: float = 0.1
    """Added to every count of two tags in a row, and a hundredth of it to every count of a word with a tag."""
    paths: int = 3
    """How many of the best taggings to print."""
    run_dir: Folder | None = None
    """New folder for the run's files; runs/RECIPE-DATE-TIME if not given."""

    def check(self, who: str) -> None:
        """Refuses numbers out of range and a measurement without a model."""
        check_sizes(who, self, "paths")
        check_positive(who, self, "smoothing")
        if self.held_back is not None and self.train is None:
            raise ValueError(f"{who}: expected --train with --held-back, got none. Name the sentences to learn from.")


def main(options: Options) -> None:
    """``python -m seqjax hmm-tag``."""
    words = options.sentence.split()
    if not words:
        raise BadInput("hmm-tag: expected --sentence to hold at least one word, got none. Give some words.")
    with bad_input("hmm-tag"):
        tagger = textbook() if options.train is None else learn(tasks.read_conllu(options.train), options.smoothing)
        held_back = None if options.held_back is None else tasks.read_conllu(options.held_back)
        xs = np.array([tagger.symbol(word) for word in words], np.int32)
    facts = {"tags": list(tagger.tags), "symbols": len(tagger.symbols)}
    folder = Run.create("hmm-tag", options, facts)
    print(f"{len(tagger.tags)} tags, {len(tagger.symbols):,} words and endings")
    if held_back is not None:
        with bad_input("hmm-tag"):
            report = evaluate(tagger, held_back)
        folder.log(step=0, **report)
        print(
            f"{len(held_back):,} sentences held back: {report['best_path']:.2%} of tags right on the best path, "
            f"{report['posterior']:.2%} tag by tag, {report['unknown']:.2%} of {report['unknown_share']:.1%} unknown "
            f"words; the commonest tag of each word {report['commonest']:.2%}, chance {1 / len(tagger.tags):.2%}"
        )

    model = tagger.model
    best, several = hmm.viterbi(model, xs), hmm.top_paths(model, xs, options.paths)
    filtered, smoothed = hmm.forward(model, xs), hmm.posterior(model, xs)
    columns = {"so far": filtered.log_filtered, "in all": smoothed.log_marginals}
    if options.train is None:
        columns["network"] = jnp.log(approximation(xs))
    width = max(map(len, words)) + 2
    header = "".join(f"{name + ': ' + ' '.join(f'{tag:>5}' for tag in tagger.tags[:5]):<32}" for name in columns)
    if len(tagger.tags) <= 5:
        print(f"\n{'':{width}}{'best':7}{header}".rstrip())
        for t, word in enumerate(words):
            cells = [" ".join(f"{p:5.3f}" for p in np.exp(np.asarray(table[t]))) for table in columns.values()]
            row = "".join(f"{'':{len(name) + 2}}{cell}".ljust(32) for name, cell in zip(columns, cells))
            print(f"{word:{width}}{tagger.tags[int(best.states[t])]:7}{row}".rstrip())
    print(f"\nln P(words) = {filtered.log_likelihood:.4f}; the best taggings:")
    for rank in range(options.paths):
        if several.log_prob[rank] > -np.inf:
            share = np.exp(several.log_prob[rank] - filtered.log_likelihood)
            print(f"{share:8.2%}  " + " ".join(f"{w}/{tagger.tags[int(z)]}" for w, z in zip(words, several.states[:, rank])))
    path = folder.folder / "lattice.png"
    draw(path, tagger, words, xs)
    print(f"run folder {folder.folder}, lattice {path}")


class Tagger(NamedTuple):
    """A model and what its numbers mean; unknown words are looked up by their ending."""

    tags: tuple[str, ...]
    symbols: dict[str, int]
    model: hmm.HMM

    def symbol(self, word: str) -> int:
        """The number of a word, or of the longest ending known, or `hmm.MISSING`."""
        return next((self.symbols[s] for s in (word, *endings(word)) if s in self.symbols), hmm.MISSING)


def textbook() -> Tagger:
    """Three tags, four words, the first tag uniform."""
    model = hmm.from_probabilities(np.full(3, 1 / 3), TRANSITION, EMISSION)
    return Tagger(TAGS, {word: i for i, word in enumerate(WORDS)}, model)


def approximation(xs: np.ndarray) -> np.ndarray:
    """The textbook's network for the same task: h' = softmax(U h + W x - 1), from h = 0; its tags ``[T, 3]``."""
    cell = sj.elman(len(WORDS), len(TAGS), activation=jax.nn.softmax)
    params = sj.ElmanParams(jnp.array(EMISSION.T), jnp.array(TRANSITION), -jnp.ones(len(TAGS)))
    known = jax.nn.one_hot(xs, len(WORDS), dtype=params.w_x.dtype)
    return np.asarray(sj.unroll(cell, params, cell.initial_state(params), known)[1])


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
    """Shares of tags that are right: best path, posterior, unknown words, and each word's commonest tag."""
    numbers = {tag: i for i, tag in enumerate(tagger.tags)}
    lengths = np.array([len(sentence.words) for sentence in sentences])
    mask = np.asarray(masks.from_lengths(jnp.array(lengths), int(lengths.max())))
    xs, truth, known = np.zeros(mask.shape, np.int32), np.full(mask.shape, -1), np.zeros(mask.shape, bool)
    for b, sentence in enumerate(sentences):
        xs[: lengths[b], b] = [tagger.symbol(word) for word in sentence.words]
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
        "unknown": float(path[unknown].mean()) if unknown.any() else 1.0,
        "unknown_share": float(unknown.sum() / mask.sum()),
        "commonest": float(commonest[mask].mean()),
    }


def prior(model: hmm.HMM) -> np.ndarray:
    """ln of the share of each tag in the long run."""
    values, vectors = np.linalg.eig(np.exp(np.asarray(model.log_transition, np.float64)).T)
    shares = np.abs(vectors[:, np.abs(values - 1).argmin()])
    return np.log(shares / shares.sum())


def draw(path: Path, tagger: Tagger, words: Sequence[str], xs: np.ndarray) -> None:
    """The lattice: discs as large as p(tag | words), lines as wide as p(tag, next tag | words), the best path on top."""
    from matplotlib.figure import Figure

    model, count = tagger.model, len(tagger.tags)
    marginals = np.exp(np.asarray(hmm.posterior(model, xs).log_marginals))
    best = np.asarray(hmm.viterbi(model, xs).states)
    figure = Figure(figsize=(1.6 + 1.1 * len(words), 1.0 + 0.42 * count), layout="constrained")
    axes = figure.add_subplot()
    for t, pairs in enumerate(pair_marginals(model, xs)):
        for i, j in np.argwhere(pairs > 0.005):
            axes.plot([t, t + 1], [i, j], color="0.6", linewidth=4 * pairs[i, j], zorder=1, solid_capstyle="butt")
    axes.plot(best, color=COLOURS[1], linewidth=1.6, linestyle="--", zorder=2, label="most probable path")
    ticks, states = np.indices(marginals.shape)
    axes.scatter(ticks, states, s=4 + 260 * marginals, color=COLOURS[0], zorder=3, linewidths=0)
    for t, i in zip(*np.nonzero(marginals > 0.05)):
        axes.annotate(f"{marginals[t, i]:.2f}", (t, i - 0.36), ha="center", va="bottom", fontsize="x-small", zorder=4)
    axes.set_xticks(range(len(words)), words)
    axes.set_yticks(range(count), tagger.tags)
    axes.set_xlim(-0.5, len(words) - 0.5)
    axes.set_ylim(count - 0.5, -0.75)
    axes.set_xlabel("words; disc and line: probability given all of them")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.legend(frameon=False, fontsize="small", loc="lower right", bbox_to_anchor=(1, 1))
    figure.savefig(path, dpi=200)


def pair_marginals(model: hmm.HMM, xs: np.ndarray) -> np.ndarray:
    """p(z_t, z_{t+1} | x), ``[T-1, N, N]``."""
    before = np.asarray(hmm.forward(model, xs).log_filtered)[:-1, :, None]
    after = np.asarray(hmm.backward(model, xs).log_messages + model.evidence(xs))[1:, None, :]
    joint = before + np.asarray(model.log_transition) + after
    weights = np.exp(joint - joint.max((1, 2), keepdims=True))
    return weights / weights.sum((1, 2), keepdims=True)
