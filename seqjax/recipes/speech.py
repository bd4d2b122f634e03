"""Speech to symbols: frames are read, what was said comes out, and nobody says which frame belongs to what.

    p(symbols | frames) = Σ_π ∏_t softmax(y_t)[π_t]      over all ways π to place the symbols and blanks in time

Connectionist temporal classification sums over those ways by the forward algorithm of hidden Markov models. Beside the
network that reads in both directions, on the same batches, one that sees a single frame at a time: it cannot average
the noise of the frames of one symbol, nor tell a blink from a symbol.

References:
  Graves et al. (2006), Connectionist temporal classification. https://doi.org/10.1145/1143844.1143891
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from seqjax.base import PyTree
from seqjax.recipes.pictures import curves
from seqjax.recipes.running import beside, drawing, learning
from seqjax.recipes.running.asking import Asked, Reply, numbers
from seqjax.recipes.running.cells import CELLS, CellName
from seqjax.recipes.running.courses import Course, trains
from seqjax.recipes.running.options import bad_input, check_not_negative, check_sizes
from seqjax.recipes.running.run import Run
from seqjax.tasks import applications
from seqjax.tasks.applications import Speech

HELD_BACK, SHOWN = 1000, 3
BOTH, ALONE = "both_ways", "frame_by_frame"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(learning.LearningOptions):
    """Trains a recogniser of generated speech without alignments, and beside it one that sees single frames."""

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
    steps: int = 600

    def check(self, who: str) -> None:
        """Refuses sizes out of range."""
        super().check(who)
        check_sizes(who, self, "symbols", "features", "longest", "hidden_size")
        check_not_negative(who, self, "noise")


@trains
def main(options: Options) -> Course:
    """``python -m seqjax speech``."""

    # Data: utterances drawn anew for every update.
    def draw(step: int | None, count: int) -> Speech:
        sizes = {"symbols": options.symbols, "features": options.features, "longest": options.longest}
        return applications.speech(learning.generator(options, step), count, noise=options.noise, **sizes)

    def batch_of(step: int) -> sj.Batch:
        said = draw(step, options.batch_size)
        return sj.Batch(said.frames, sj.Labels(jnp.asarray(said.texts), jnp.asarray(said.text_mask)), said.mask)

    with bad_input("speech"):
        held_back = draw(None, HELD_BACK)

    # Models: one output a symbol, and one for the blank.
    readers = readers_of(options)
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

    folder = Run.start("speech", options, {"held_back": HELD_BACK})
    print(
        f"utterances of 1 to {options.longest} of {options.symbols} symbols, 2 to 5 frames each, noise "
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
    print()
    for b in range(SHOWN):
        heard = "   ".join(f"{name.replace('_', ' ')} {letters(sequences[b])}" for name, sequences in said.items())
        print(f"said {letters(true[b]):{options.longest}}   heard: {heard}")
    path = drawing.save(folder, "spikes", "spikes", **shown(held_back, found))
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
    learning.conclude(folder, "share of wrong symbols", outcome.numbers, {"saying nothing": 1.0})
    print(f"run folder {folder.folder}, curves {curve}, outputs tick by tick {path}")


def readers_of(options: Options) -> dict[str, sj.Layer]:
    """The network that reads in both directions, and the one that sees single frames."""
    size, outputs, cell = options.hidden_size, options.symbols + 1, CELLS[options.cell]
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
    readers = readers_of(options)
    model, params = readers[BOTH], learning.trained(run, beside.begin(options, readers))[BOTH]

    def reply(question: str) -> Reply:
        frames = numbers(question, options.features)[:, None]
        _, ys = model.apply(params, model.initial_state(params, (1,)), jnp.asarray(frames))
        (heard,) = best_paths(np.asarray(ys), np.ones(frames.shape[:2], bool))
        return Reply(letters(heard))

    kind = f"frames of {options.features} numbers, apart by semicolons"
    return Asked(kind, "; ".join([" ".join(["1"] * options.features)] * 2), reply)


def texts(said: Speech) -> list[list[int]]:
    """The symbols of each utterance."""
    return [[int(x) for x in said.texts[said.text_mask[:, b], b]] for b in range(said.texts.shape[1])]


def best_paths(ys: np.ndarray, mask: np.ndarray) -> list[list[int]]:
    """The likeliest output at every frame, repetitions merged, then blanks dropped."""
    path = np.where(mask, ys.argmax(-1), 0)
    new = np.concatenate([path[:1] != 0, (path[1:] != path[:-1]) & (path[1:] != 0)])
    return [[int(x) for x in path[new[:, b], b]] for b in range(path.shape[1])]


def error_rate(found: list[list[int]], true: list[list[int]]) -> float:
    """Insertions, deletions and substitutions, as a share of the symbols said."""
    return sum(map(edits, found, true)) / sum(map(len, true))


def edits(found: list[int], true: list[int]) -> int:
    """Fewest insertions, deletions and substitutions from one sequence to the other.

    >>> edits([1, 2, 3], [2, 3, 3, 4])
    3
    """
    row = list(range(len(true) + 1))
    for i, x in enumerate(found, 1):
        last, row = row, [i]
        for j, y in enumerate(true, 1):
            row.append(min(last[j] + 1, row[-1] + 1, last[j - 1] + (x != y)))
    return row[-1]


def letters(symbols: list[int]) -> str:
    """Symbols as letters: 1 is A."""
    return "".join(chr(ord("A") + x - 1) if x <= 26 else f"<{x}>" for x in symbols)


def shown(said: Speech, outputs: dict[str, np.ndarray]) -> dict[str, Any]:
    """The utterance of most frames: what sounds in each, and what each model makes of it."""
    lengths = said.mask.sum(0)
    b, length = int(lengths.argmax()), int(lengths.max())
    sounding = said.alignment[:length, b].tolist()
    models = {name.replace("_", " "): ys[:length, b].T for name, ys in outputs.items()}
    return {
        "sounding": [letters([x]) for x in sounding],
        "blank": {name: ys[0] for name, ys in models.items()},
        "symbols": {name: {letters([x]): ys[x] for x in dict.fromkeys(sounding)} for name, ys in models.items()},
    }
