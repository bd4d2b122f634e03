"""Speech to symbols: frames are read, what was said comes out, and nobody says which frame belongs to what.

    p(symbols | frames) = Σ_π ∏_t softmax(y_t)[π_t]      over all ways π to place the symbols and blanks in time

Connectionist temporal classification sums over those ways by the forward algorithm of hidden Markov models. Beside the
network that reads in both directions, on the same batches, one that sees a single frame at a time: it cannot average
the noise of the frames of one symbol, nor tell a blink from a symbol.

With ``--about salads`` symbols are words, two of which sound alike. The recogniser learns words in random order, so
that nothing says whether it is "pair" or "pear"; a language model that counts two words in a row says it, fused in a
prefix beam search:

    score(w) = log p(w | frames) + α log (q(w) / v^-|w|)      v^-|w| the probability of words in random order

References:
  Graves et al. (2006), Connectionist temporal classification. https://doi.org/10.1145/1143844.1143891
  Hannun et al. (2014), First-pass large vocabulary continuous speech recognition using bi-directional recurrent DNNs.
  https://arxiv.org/abs/1408.2873
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from seqjax.base import PyTree
from seqjax.decoding import Fusion, Hypotheses
from seqjax.recipes.language.salads import ASKED
from seqjax.recipes.language.spoken import ALIKE, LONGEST, Spoken, spelled_right, spoken
from seqjax.recipes.language.transcripts import best_paths, error_rate, heard, texts
from seqjax.recipes.pictures import curves
from seqjax.recipes.running import beside, drawing, learning
from seqjax.recipes.running.asking import Asked, Reply, numbers
from seqjax.recipes.running.cells import CELLS, CellName
from seqjax.recipes.running.courses import Course, trains
from seqjax.recipes.running.options import bad_input, check_left_out, check_not_negative, check_sizes
from seqjax.recipes.running.run import Run
from seqjax.tasks import applications
from seqjax.tasks.applications import Speech

HELD_BACK, SHOWN = 1000, 3
SENTENCES, BEST = 500, 4  # salads: spoken to measure on, and how many ways to hear one are shown
BOTH, ALONE = "both_ways", "frame_by_frame"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(learning.LearningOptions):
    """Trains a recogniser of generated speech without alignments, and beside it one that sees single frames."""

    about: Literal["symbols", "salads"] = "symbols"
    """Symbols in random order, or sentences by rule of pears in salads and pairs of shoes, which sound alike."""
    symbols: int = 8
    """Kinds of symbols."""
    features: int = 6
    """Numbers a frame; each symbol has a pattern of its own."""
    longest: int = 6
    """Symbols of an utterance, at most; each sounds for two to five frames."""
    noise: float = 0.5
    """Standard deviation of the noise on every number, where patterns are -1 and 1."""
    cell: CellName = "lstm"
    """The recurrence."""
    hidden_size: int = 64
    """Units a direction."""
    beam: int = 16
    """Beginnings kept side by side in the prefix search."""
    weight: float = 1.0
    """α, what the language model counts beside the recogniser."""
    steps: int = 600

    def check(self, who: str) -> None:
        """Refuses sizes out of range."""
        super().check(who)
        check_sizes(who, self, "symbols", "features", "longest", "hidden_size", "beam")
        check_not_negative(who, self, "noise", "weight")
        if self.about == "salads":
            check_left_out(who, self, "--about salads", "symbols", "longest")
        else:
            check_left_out(who, self, "symbols in random order, which no language model tells apart", "weight")


@trains
def main(options: Options) -> Course:
    """``python -m seqjax speech``."""

    # Data: utterances drawn anew for every update.
    with bad_input("speech"):
        language = spoken(options.features) if options.about == "salads" else None
    name_of = namer(language)

    def draw(step: int | None, count: int) -> Speech:
        if language is not None:
            return language.any_order(learning.generator(options, step), count, options.noise)
        sizes = {"symbols": options.symbols, "features": options.features, "longest": options.longest}
        return applications.speech(learning.generator(options, step), count, noise=options.noise, **sizes)

    def batch_of(step: int) -> sj.Batch:
        said = draw(step, options.batch_size)
        return sj.Batch(said.frames, sj.Labels(jnp.asarray(said.texts), jnp.asarray(said.text_mask)), said.mask)

    with bad_input("speech"):
        held_back = draw(None, HELD_BACK)

    # Models: one output a symbol, and one for the blank.
    readers = readers_of(options, language)
    start = beside.begin(options, readers)
    apply = {name: jax.jit(model.apply) for name, model in readers.items()}

    # Training
    def outputs_of(params: dict[str, PyTree], said: Speech) -> dict[str, np.ndarray]:
        """Probabilities ``[T, B, 1 + symbols]`` of each model."""
        found = {}
        for name, model in readers.items():
            state = model.initial_state(params[name], (said.mask.shape[1],))
            found[name] = np.asarray(jax.nn.softmax(apply[name](params[name], state, said.frames, mask=said.mask)[1]))
        return found

    def evaluate(params: dict[str, PyTree]) -> dict[str, float]:
        found = outputs_of(params, held_back)
        return {name: error_rate(best_paths(ys, held_back.mask), texts(held_back)) for name, ys in found.items()}

    folder = Run.start("speech", options, {"held_back": HELD_BACK}, free=("beam", "weight"))
    kinds, longest = (options.symbols, options.longest) if language is None else (len(language.words), LONGEST)
    print(
        f"utterances of 1 to {longest} of {kinds} symbols, 2 to 5 frames each, noise "
        f"{options.noise:g}; {HELD_BACK:,} held back; who says nothing is wrong about 100 % of the symbols"
    )
    outcome = yield from learning.learn(
        folder,
        options,
        start,
        beside.together({name: sj.objective(model, sj.ctc) for name, model in readers.items()}),
        batch_of,
        clip=beside.clip_each(options.clip),
        extra=beside.mean_loss(readers),
        work=options.batch_size,
        unit="utterances",
        evaluate=evaluate,
        show_evaluation=f"wrong symbols: both ways {{{BOTH}:.2%}}  frame by frame {{{ALONE}:.2%}}",
        best=learning.lowest(BOTH, ALONE),
    )

    # What came out
    found = outputs_of(outcome.params, held_back)
    true = texts(held_back)
    said = {name: best_paths(ys, held_back.mask) for name, ys in found.items()}
    said["prefix search"] = heard(search(found[BOTH], held_back.mask, options.beam))
    print()
    for b in range(SHOWN):
        told = "   ".join(f"{name.replace('_', ' ')} {name_of(sequences[b])}" for name, sequences in said.items())
        print(f"said {name_of(true[b]):{options.longest}}   heard: {told}")
    path = drawing.save(folder, "spikes", "spikes", **shown(held_back, found, name_of))
    curve = curves.draw(
        folder,
        {name.replace("_", " "): name for name in readers},
        levels={"saying nothing": 1.0},
        y_label="wrong symbols, held back (share of those said)",
        y_scale="log",
        name="errors",
    )
    print(
        f"\nwrong symbols: both ways {outcome.numbers[BOTH]:.2%}, frame by frame {outcome.numbers[ALONE]:.2%} (saying "
        f"nothing 100 %); {outcome.steps} steps in {outcome.seconds:.0f} s"
    )
    figures = outcome.numbers | {"prefix search": error_rate(said["prefix search"], true)}
    floors = {"saying nothing": 1.0}
    if language is not None:
        more, floors["pair or pear, commonest"] = told_apart(
            options, language, lambda said: outputs_of(outcome.params, said)[BOTH]
        )
        figures |= more
    learning.conclude(folder, "share of wrong symbols", figures, floors)
    print(f"run folder {folder.folder}, curves {curve}, outputs tick by tick {path}")


def told_apart(
    options: Options, language: Spoken, outputs_of: Callable[[Speech], np.ndarray]
) -> tuple[dict[str, float], float]:
    """Sentences held back, heard without and with the language model: figures, and that of the commonest spelling."""
    rng = np.random.default_rng((options.seed, 0, 1))
    sentences = [language.held_back[i] for i in rng.integers(0, len(language.held_back), SENTENCES)]
    said = language.said(rng, sentences, options.noise)
    ys, true, fusion = outputs_of(said), texts(said), language.fusion(options.weight)
    found = {
        "best path": best_paths(ys, said.mask),
        "prefix search": heard(search(ys, said.mask, options.beam)),
        "with a language model": heard(search(ys, said.mask, options.beam, fusion)),
    }
    spell = lambda sequences: [[language.words[x - 1] for x in sequence] for sequence in sequences]
    pears = [word for sentence in sentences for word in sentence if word in ALIKE]
    commonest = max(map(pears.count, ALIKE)) / len(pears)
    figures: dict[str, float] = {}
    print(f"\n{len(sentences)} sentences held back from the language model{'':9}wrong words   pair or pear right")
    for name, sequences in found.items():
        wrong, right = error_rate(sequences, true), spelled_right(spell(sequences), sentences)
        figures |= {f"{name}, sentences": wrong, f"{name}, pair or pear": right}
        print(f"{name:56}{wrong:11.2%}{right:21.2%}")
    print(f"{'always the commonest spelling':56}{'':11}{commonest:21.2%}")
    said = language.said(rng, [ASKED[0].split()], options.noise)
    ys = outputs_of(said)
    for name, how in (("without", None), ("with", fusion)):
        best = jax.tree.map(np.asarray, search(ys, said.mask, max(options.beam, BEST), how))
        print(f"\n{ASKED[0]!r}, {name} a language model:    score   ln p(words | frames)")
        for k in range(BEST):
            words = " ".join(spell([best.symbols[k, : best.lengths[k, 0], 0]])[0])
            print(f"  {words:40}{best.scores[k, 0]:12.2f}{best.log_probs[k, 0]:15.2f}")
    print()
    return figures, commonest


def search(ys: np.ndarray, mask: np.ndarray, width: int, fusion: Fusion | None = None) -> Hypotheses:
    """The best transcripts of probabilities ``[T, B, 1 + symbols]``."""
    return sj.decoding.ctc_beam_search(jnp.log(jnp.asarray(ys)), jnp.asarray(mask), width=width, fusion=fusion)


def namer(language: Spoken | None) -> Callable[[list[int]], str]:
    """What writes symbols out, as words or letters."""
    return letters if language is None else lambda symbols: " ".join(language.words[x - 1] for x in symbols)


def readers_of(options: Options, language: Spoken | None = None) -> dict[str, sj.Layer]:
    """The network that reads in both directions, and the one that sees single frames."""
    size, cell = options.hidden_size, CELLS[options.cell]
    outputs = 1 + (options.symbols if language is None else len(language.words))
    readers: dict[str, sj.Layer] = {
        BOTH: sj.serial(
            sj.bidirectional(cell(options.features, size), cell(options.features, size)), sj.dense(2 * size, outputs)
        ),
        ALONE: sj.serial(sj.dense(options.features, size, activation=jnp.tanh), sj.dense(size, outputs)),
    }
    return {name: sj.mixed_precision(model, options.products) for name, model in readers.items()}


def to_ask(run: Run) -> Asked:
    """Frames to be heard in both directions."""
    options = run.options(Options)
    language = spoken(options.features) if options.about == "salads" else None
    readers, fusion = readers_of(options, language), None if language is None else language.fusion(options.weight)
    model, params = readers[BOTH], learning.trained(run, beside.begin(options, readers))[BOTH]

    def reply(question: str) -> Reply:
        frames = numbers(question, options.features)[:, None]
        _, ys = model.apply(params, model.initial_state(params, (1,)), jnp.asarray(frames))
        found = sj.decoding.ctc_beam_search(ys, width=options.beam, fusion=fusion)
        return Reply(namer(language)(heard(found)[0]))

    kind = f"frames of {options.features} numbers, apart by semicolons"
    return Asked(kind, "; ".join([" ".join(["1"] * options.features)] * 2), reply)


def letters(symbols: list[int]) -> str:
    """Symbols as letters: 1 is A."""
    return "".join(chr(ord("A") + x - 1) if x <= 26 else f"<{x}>" for x in symbols)


def shown(said: Speech, outputs: dict[str, np.ndarray], name_of: Callable[[list[int]], str]) -> dict[str, Any]:
    """The utterance of most frames: what sounds in each, and what each model makes of it."""
    lengths = said.mask.sum(0)
    b, length = int(lengths.argmax()), int(lengths.max())
    sounding = said.alignment[:length, b].tolist()
    models = {name.replace("_", " "): ys[:length, b].T for name, ys in outputs.items()}
    return {
        "sounding": [name_of([x]) for x in sounding],
        "blank": {name: ys[0] for name, ys in models.items()},
        "symbols": {name: {name_of([x]): ys[x] for x in dict.fromkeys(sounding)} for name, ys in models.items()},
    }
