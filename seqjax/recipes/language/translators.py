"""Two kinds of translators as the recipe asks them: trained on batches of pairs, and put to use on sentences."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import sacrebleu

import seqjax as sj
from seqjax import models, tasks
from seqjax.base import PyTree
from seqjax.decoding import Coverage, Diversity
from seqjax.recipes.running.asking import Asked, Reply, Several, encode, rounded, unknown
from seqjax.tasks.vocabulary import SPECIALS, Vocabulary


class Languages(NamedTuple):
    """The vocabularies of both sides."""

    source: Vocabulary
    target: Vocabulary

    @property
    def specials(self) -> list[int]:
        """The numbers of ``<pad>``, ``<unk>``, ``<bos>`` and ``<eos>`` in the target."""
        return self.target.encode(SPECIALS).tolist()


class Line(NamedTuple):
    """A pair as words, and the target as it was written."""

    source: tuple[str, ...]
    target: tuple[str, ...]
    text: str


class Translator(NamedTuple):
    """What is trained and asked: ``translate(params, sources, length) -> sentences of words``.

    ``search(params, sources, length, several)`` are the hypotheses of a beam; None for one that does not search.
    """

    init: Callable
    memory: Callable
    objective: Callable
    translate: Callable[[PyTree, tasks.Padded, int], list[tuple[str, ...]]]
    search: Callable[[PyTree, tasks.Padded, int, Several], sj.decoding.Hypotheses] | None = None


def attention(state: PyTree) -> jax.Array:
    """Where a decoder has looked last, ``[B, S]``."""
    return state.weights


def searching(
    model: models.Conditional, words: Languages, beam: int, length_penalty: float, coverage: float
) -> Translator:
    """An encoder and a decoder; translations are found by beam search."""
    objective = models.conditional_objective(model, sj.cross_entropy)
    pad, unk, bos, eos = words.specials

    def search(params: PyTree, sources: tasks.Padded, length: int, several: Several) -> sj.decoding.Hypotheses:
        source = condition(sources)
        decoder_params, state = jax.jit(model.encode)(params, source)
        wide, groups = max(beam, several.answers), several.groups
        if groups > 1:  # every group has its answers: of a wider beam all the best may be of one
            wide = -(-several.answers // groups) * groups
        return sj.beam_search(
            model.decoder,
            decoder_params,
            state,
            jnp.full(len(sources.lengths), bos),
            length=length,
            width=wide,
            eos=eos,
            length_penalty=length_penalty,
            diversity=Diversity(groups, several.diversity),
            coverage=Coverage(attention, coverage, source.mask) if coverage else None,
            forbidden=[pad, unk, bos],
        )

    def translate(params: PyTree, sources: tasks.Padded, length: int) -> list[tuple[str, ...]]:
        return decoded(search(params, sources, length, Several(1)).symbols[0], words)

    return Translator(
        model.init,
        lambda params, size: (),
        lambda params, state, batch, key: objective(params, state, batch._replace(xs=batch.xs[:2]), key),
        translate,
        search,
    )


def asked(translator: Translator, params: PyTree, words: Languages, longest: int, *, numbers: bool) -> Asked:
    """A translator that searches, asked for sentences of so many words at most, or for numbers in English."""

    def read(question: str) -> tuple[list[str], tasks.Padded, str]:
        said = tasks.words(question.replace("-", " ") if numbers else question, lower=numbers)
        source = tasks.pad([encode(said, words.source, "words")], length=rounded(len(said)))
        return said, source, "" if len(said) <= longest else f"longer than the {longest} words it has learned from"

    def reply(question: str) -> Reply:
        said, source, note = read(question)
        (found,) = translator.translate(params, source, longest + 2)
        return Reply(" ".join(found), unknown(said, words.source), note)

    def several_to(question: str, several: Several) -> Reply:
        said, source, note = read(question)
        assert translator.search is not None
        found = translator.search(params, source, longest + 2, several)
        answers: dict[tuple[str, ...], float] = {}
        for score, answer in zip(found.scores[:, 0].tolist(), decoded(found.symbols[:, :, 0].T, words)):
            if score > -np.inf:  # several groups may end with the same one
                answers.setdefault(answer, score)
        lines = [f"{score:9.2f}  {' '.join(answer)}" for answer, score in answers.items()][: several.answers]
        few = "" if len(lines) == several.answers else f"only {len(lines)} that differ"
        return Reply("\n".join(lines), unknown(said, words.source), "; ".join(filter(None, (note, few))))

    kind = "a number spelled in English" if numbers else "a sentence to translate"
    example = "seventy-one thousand and two" if numbers else words.source.symbols[2]
    return Asked(kind, example, reply, several=several_to)


def word_by_word(model: sj.Layer, words: Languages) -> Translator:
    """A network that says a word at every word it reads: nothing that it has not read yet can help it."""
    objective = sj.objective(model, sj.cross_entropy)

    def translate(params: PyTree, sources: tasks.Padded, length: int) -> list[tuple[str, ...]]:
        state = model.initial_state(params, (len(sources.lengths),))
        return decoded(jax.jit(model.apply)(params, state, on_ticks(sources.values, length))[1].argmax(-1), words)

    return Translator(
        model.init,
        lambda params, size: model.initial_state(params, (size,)),
        lambda params, state, batch, key: objective(params, state, batch._replace(xs=batch.xs[2]), key),
        translate,
    )


def batch(source: tasks.Padded, target: tasks.Padded, words: Languages) -> sj.Batch:
    """Reads (source, target moved by one, source on the target's ticks), writes the target."""
    moved = np.concatenate([np.full_like(target.values[:1], words.specials[2]), target.values[:-1]])
    mask = np.arange(len(target.values))[:, None] < target.lengths
    return sj.Batch((condition(source), moved, on_ticks(source.values, len(mask))), target.values, mask)


def condition(source: tasks.Padded) -> models.Source:
    """What the encoder reads."""
    mask = np.arange(len(source.values))[:, None] < source.lengths
    return models.Source(jnp.asarray(source.values), jnp.asarray(mask))


def on_ticks(symbols: np.ndarray, length: int) -> np.ndarray:
    """The source for ``length`` ticks, padding behind its end."""
    return np.pad(symbols[:length], ((0, max(0, length - len(symbols))), (0, 0)))


def decoded(symbols: jax.Array, words: Languages) -> list[tuple[str, ...]]:
    """``[L, B]`` as sentences of words, up to the end of each."""
    return [tuple(words.target.decode(column)) for column in np.asarray(symbols).T]


def looked_at(
    model: models.Conditional, words: Languages, params: PyTree, source: tuple[str, ...], length: int
) -> tuple[np.ndarray, list[str]]:
    """Where the decoder looks as it writes: weights ``[T, S]``, and the words it writes, likeliest each time."""
    cell = sj.as_cell(model.decoder)
    decoder_params, state = model.encode(params, condition(tasks.pad([words.source.encode(source)])))
    *_, symbol, eos = words.specials
    weights: list[np.ndarray] = []
    said: list[str] = []
    while symbol != eos and len(said) < length:
        state, logits = cell.step(decoder_params, state, jnp.array([symbol]))
        symbol = int(logits[0].argmax())
        weights.append(np.asarray(state.weights[0]))
        said.append(words.target.symbols[symbol])
    return np.array(weights), said


def numbers_spelled(seed: int, count: int) -> list[Line]:
    """Numbers in English and French."""
    drawn = tasks.number_spelling().draw(np.random.default_rng(seed), count)
    return [Line(tuple(pair.source), tuple(pair.target), " ".join(pair.target)) for pair in drawn]


def read_lines(path: str) -> list[Line]:
    """The pairs of a file."""
    pairs = [(str(pair.source), str(pair.target)) for pair in tasks.read_pairs(path)]
    return [Line(tuple(tasks.words(x)), tuple(tasks.words(y)), y) for x, y in pairs]


def short(lines: Sequence[Line], longest: int) -> list[Line]:
    """Those of words on both sides and of not too many; the others are told."""
    kept = [line for line in lines if all(0 < len(side) <= longest for side in (line.source, line.target))]
    if len(kept) < len(lines):
        print(f"{len(lines) - len(kept):,} pairs without words or of more than {longest} are left out")
    return kept


def bleu(found: Sequence[Sequence[str]], texts: list[str]) -> float:
    """BLEU of the corpus, words tokenised as mteval-v13a does."""
    return sacrebleu.corpus_bleu([" ".join(sentence) for sentence in found], [texts], tokenize="13a").score
