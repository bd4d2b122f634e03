"""Music frame by frame: which of the 88 keys sound next, given all that sounded so far.

    apart        p(x_{t+1, j} = 1 | x_1 … x_t) = σ(h_t W + b)_j
    together     p(x_{t+1, j} = 1 | x_1 … x_t, x_{t+1, i<j}) = σ(b_tj + v_j · tanh(c_t + Σ_{i<j} x_{t+1, i} e_i))

Keys said apart cannot say a chord: where two chords are likely, so is any mixture of their keys. The measure is nats a
frame, summed over keys. Two models without a network stand beside it: how often each key sounds at all, and how often
given whether it sounds now; and of music by rule the floors of who knows the rules and says keys together, or apart.
At the end the network plays on from the beginning of a piece that it has never heard.

References:
  Boulanger-Lewandowski, Bengio and Vincent (2012), Modeling temporal dependencies in high-dimensional sequences.
  https://arxiv.org/abs/1206.6392
  Bai, Kolter and Koltun (2018), An empirical evaluation of generic convolutional and recurrent networks for
  sequence modeling. https://arxiv.org/abs/1803.01271
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from seqjax import models, tasks
from seqjax.base import Array, PyTree
from seqjax.objectives import Objective
from seqjax.recipes.pictures import curves, piano_roll
from seqjax.recipes.running import drawing, learning, splits
from seqjax.recipes.running.asking import Asked, NoQuestion, Reply
from seqjax.recipes.running.cells import CELLS, CellName
from seqjax.recipes.running.courses import Course, trains
from seqjax.recipes.running.forecasts import loss, marginal, markov, next_frames, sounding
from seqjax.recipes.running.options import (
    BadInput,
    FileOrNone,
    bad_input,
    check_left_out,
    check_not_negative,
    check_positive,
    check_rates,
    check_sizes,
    younger,
)
from seqjax.recipes.running.run import Run, digest
from seqjax.tasks.frames import KEYS, LOWEST

PIECES, FRAMES, EVALUATIONS = {"train": 600, "valid": 100, "test": 100}, 64, 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(learning.LearningOptions, splits.SplitOptions):
    """Trains a network on piano rolls, and writes what it plays as a MIDI file and a picture."""

    data: FileOrNone = None
    """Piano rolls (.mat with traindata, validdata, testdata); four voices that follow rules if not given. Of --train,
    --held-back and --test each is read for its own part."""
    model: CellName | Literal["tcn"] = "lstm"
    """A recurrent network by its cell, or a temporal convolutional one."""
    hidden_size: int = 150
    """Units, or channels of each convolution."""
    together: int | None = younger(None, before=0)
    """Units of an output that says each key given those below it; 0 says each by itself. 32 for music by rule, 0 for
    files, if not given."""
    layers: int = 0
    """Recurrent layers, or blocks of convolutions whose dilations double; 0 for one layer, or two blocks."""
    width: int = 3
    """Taps of each convolution."""
    dropout: float = 0.3
    """Rate before and behind each layer, in [0, 1)."""
    prompt: int = 16
    """Frames of a piece held back that the network goes on from."""
    length: int = 64
    """Frames to play."""
    temperature: float = 1.0
    """1 draws each key with the model's own probability; less is surer of likely keys, and leaves out unlikely ones."""
    batch_size: int = 16
    steps: int = 2400

    def check(self, who: str) -> None:
        """Refuses numbers out of range."""
        super().check(who)
        check_sizes(who, self, "hidden_size", "width", "prompt", "length")
        check_not_negative(who, self, "layers", *(["together"] if self.together is not None else []))
        if self.model != "tcn":
            check_left_out(who, self, f"--model {self.model}", "width")
        check_rates(who, self, "dropout")
        check_positive(who, self, "temperature")


@trains
def main(options: Options) -> Course:
    """``python -m seqjax music``."""
    # Data: pieces as rolls [T, 88], some to learn from, some to choose when to stop by, some to measure on.
    with bad_input("music"):
        pieces = pieces_of(options)
        for split, rolls in pieces.items():
            if not rolls or min(map(len, rolls)) < 2 or rolls[0].shape[1] != KEYS:
                shapes = sorted({roll.shape for roll in rolls})[:3]
                raise BadInput(
                    f"music: expected {split} pieces of at least two frames of {KEYS} keys, got {shapes}. "
                    "Check the file."
                )
        plan = tasks.buckets(np.array([len(roll) for roll in pieces["train"]]), shapes=2, size=options.batch_size)
        drawn = learning.numbered([pieces["train"]], plan, options.batch_size, seed=options.seed)
        player = player_of(options)
    held_back = {split: next_frames(tasks.pad(rolls)) for split, rolls in pieces.items() if split != "train"}
    asked = pieces.get("test", pieces["valid"])
    floors = {
        "each key's frequency": marginal(pieces["train"], asked),
        "each key given itself": markov(pieces["train"], asked),
    }
    if not splits.told(options, ""):
        floors["the rules themselves"] = tasks.music_floor(FRAMES - 1)
        floors["the rules, keys apart"] = tasks.music_floor(FRAMES - 1, together=False)

    # Training
    share = np.concatenate(pieces["train"]).mean(0).clip(1e-3, 1 - 1e-3)
    params = player.sounding(player.init(jax.random.key(options.seed)), np.log(share / (1 - share)))
    start = begin(options, player, params)
    objective = player.objective
    measure = jax.jit(objective)

    def evaluate(params: PyTree, split: str = "valid") -> dict[str, float]:
        state = player.initial_state(params, held_back[split].xs.shape[1:2])
        return {split: float(measure(params, state, held_back[split])[1].mean)}

    frames = np.concatenate([roll for rolls in pieces.values() for roll in rolls])
    facts = splits.facts(options) or {"sha256": digest(frames)}
    folder = Run.start("music", options, facts, free=("prompt", "length", "temperature"))
    to_beat = ", ".join(f"{name} {floor:.4f}" for name, floor in floors.items())
    print(
        f"{splits.told(options, 'four voices by rule')}: {len(pieces['train'])} pieces to learn from, {len(asked)} "
        f"to measure on; {to_beat} nats a frame\n"
        f"model: {options.model}, {learning.parameter_count(params):,} parameters"
    )
    outcome = yield from learning.learn(
        folder,
        options,
        start,
        objective,
        lambda step: next_frames(drawn(step).fields[0]),
        show="loss {loss:.3f}",
        work=options.batch_size,
        unit="pieces",
        evaluate=evaluate,
        show_evaluation="validation {valid:.4f} nats/frame",
        evaluations=EVALUATIONS,
        best=learning.lowest("valid"),
        test=functools.partial(evaluate, split="test") if "test" in pieces else None,
    )

    # What came out
    prompt = asked[0][: options.prompt]
    played = play(player, outcome.params, prompt, options)
    midi = folder.folder / "played.mid"
    piano_roll.write_midi(midi, played)
    real = asked[0][: len(played)]
    picture = drawing.save(folder, "played", "piano roll", real=real, played=played, prompt=len(prompt))
    curve = curves.draw(
        folder,
        {"training": "loss", "validation": "valid"},
        levels=floors,
        x_scale=options.batch_size / len(pieces["train"]),
        x_label="epochs",
        y_label="cross-entropy (nats/frame)",
    )
    best = min(record["valid"] for record in folder.metrics() if "valid" in record)
    print(
        f"\nvalidation {outcome.numbers['valid']:.4f} nats a frame, {best:.4f} where it was lowest; {to_beat}; "
        f"{outcome.steps} steps in {outcome.seconds:.0f} s"
    )
    figures = {"validation": best, **(outcome.test.numbers if outcome.test else {})}
    learning.conclude(folder, "nats a frame", figures, floors, outcome.test)
    print(
        f"played on from {len(prompt)} frames: {played[len(prompt) :].sum(1).mean():.2f} keys a frame (pieces: "
        f"{np.concatenate(asked).sum(1).mean():.2f})"
    )
    print(f"run folder {folder.folder}, music {midi}, piano roll {picture}, loss curve {curve}")


def begin(options: Options, player: "Player", params: PyTree) -> learning.Training:
    """What training starts from."""
    memory = player.initial_state(params, (options.batch_size,))
    return learning.begin(options, params, memory, noise=options.dropout > 0)


def to_ask(run: Run) -> Asked:
    """Beginnings of pieces to play on from."""
    options = run.options(Options)
    player = player_of(options)
    params = learning.trained(run, begin(options, player, player.init(jax.random.key(options.seed))))
    last = LOWEST + KEYS - 1

    def reply(question: str) -> Reply:
        frames = question.strip(" ;").split(";")
        try:
            keys = [[int(key) - LOWEST for key in frame.split()] for frame in frames]
        except ValueError:
            raise NoQuestion("with something that is no number of a key") from None
        if not any(keys) or not all(0 <= key < KEYS for frame in keys for key in frame):
            raise NoQuestion("without a key" if not any(keys) else f"with a key outside {LOWEST} to {last}")
        prompt = np.zeros((len(keys), KEYS), np.float32)
        for frame, sound in zip(prompt, keys):
            frame[sound] = 1
        played = play(player, params, prompt, options)[len(prompt) :]
        return Reply("; ".join(" ".join(str(LOWEST + key) for key in np.flatnonzero(frame)) for frame in played))

    return Asked(
        f"frames of keys from {LOWEST} to {last}, 60 the middle C, apart by semicolons", "60 64 67; 60 65 69", reply
    )


def pieces_of(options: Options) -> dict[str, list[np.ndarray]]:
    """Rolls by the parts ``train``, ``valid`` and, if there is one, ``test``."""
    given = splits.files(options)
    if not given:
        return four_voices(options) if options.data is None else tasks.read_piano_rolls(options.data)
    found = tasks.read_piano_rolls(given["train"], ["train"] if "held_back" in given else ["train", "valid"])
    for name, part in (("held_back", "valid"), ("test", "test")):
        if name in given:
            found |= tasks.read_piano_rolls(given[name], [part])
    return found


def four_voices(options: Options) -> dict[str, list[np.ndarray]]:
    """Pieces by rule: chords of a key, every second phrase the one before once more."""
    problem, rng = tasks.four_voices(FRAMES - 1), learning.generator(options)
    pieces = {}
    for split, count in PIECES.items():
        xs, targets, _, _ = problem.draw(rng, count)
        pieces[split] = list(np.moveaxis(np.concatenate([xs, targets[-1:]]), 1, 0))
    return pieces


class Player(NamedTuple):
    """A network of frames: how it starts and is trained; ``read`` runs it, ``draw`` the next frame from what it says.

    ``sounding(params, logits [88])`` lets it begin with keys that sound so often.
    """

    init: Callable[[Array], PyTree]
    initial_state: Callable[..., PyTree]
    objective: Objective
    sounding: Callable[[PyTree, np.ndarray], PyTree]
    read: Callable[[PyTree], tuple[sj.Layer, PyTree]]
    draw: Callable[[PyTree, Array, Array], Array]


def player_of(options: Options) -> Player:
    """Frames to the next frame, its keys together or apart."""
    units = options.together if options.together is not None else 32 * (not splits.told(options, ""))
    if options.model == "tcn":
        channels = [options.hidden_size] * (options.layers or 2)
        body = models.temporal_convolution(KEYS, channels, width=options.width, dropout=options.dropout)
    else:
        layers, rate = options.layers or 1, options.dropout
        body = models.deep(KEYS, options.hidden_size, cell=CELLS[options.model], layers=layers, rate=rate)
    if not units:
        model = sj.mixed_precision(sj.serial(body, sj.dense(options.hidden_size, KEYS)), options.products)
        return Player(
            model.init,
            model.initial_state,
            sj.objective(model, loss),
            lambda params, logits: (*params[:-1], sounding(params[-1], logits)),
            lambda params: (model, params),
            lambda params, key, logits: models.draw_keys(key, logits / options.temperature),
        )
    body, output = sj.mixed_precision(body, options.products), models.nade(options.hidden_size, KEYS, units)
    of_pairs = output._replace(loss=lambda params, hs, targets, mask=None, key=None: output.loss(params, hs, *targets))
    return Player(
        lambda key: (body.init(key), output.init(jax.random.fold_in(key, 1))),
        lambda params, batch=(): body.initial_state(params[0], batch),
        models.output_objective(body, of_pairs),
        lambda params, logits: (params[0], params[1]._replace(bias=sounding(params[1].bias, logits))),
        lambda params: (body, params[0]),
        lambda params, key, hs: output.draw(params[1], key, hs, options.temperature),
    )


def play(player: Player, params: PyTree, prompt: np.ndarray, options: Options) -> np.ndarray:
    """The prompt, then what the network plays on: ``[prompt + length, 88]``."""
    model, read = player.read(params)
    xs = jnp.asarray(prompt, jax.tree.leaves(read)[0].dtype)
    state = model.initial_state(read)
    if len(xs) > 1:
        state, _ = model.apply(read, state, xs[:-1])
    key, draw = jax.random.key(options.seed), functools.partial(player.draw, params)
    _, frames = sj.free_run(model, read, state, xs[-1], length=options.length, draw=draw, key=key)
    return np.concatenate([prompt, np.asarray(frames)]).astype(np.float32)
