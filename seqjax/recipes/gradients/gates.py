"""The gates of one unit over one sentence, as a table and an exercise; resets against a unit's length of memory."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.stats

import seqjax as sj
from seqjax import gradients, tasks
from seqjax.base import Array, PyTree
from seqjax.gradients import lessons
from seqjax.recipes.gradients.experiment import DrawnOptions, LearningOptions, Report
from seqjax.recipes.running.options import check_sizes
from seqjax.tasks.sentences import agreement_sentence

LONGEST, SHOWN, EMBEDDED = 4, 3, 12  # filler words in training at most, in the sentence that is shown; features a word
NOUN, ASKED = 1, 200
VERBS = ("was", "were")
SLOWEST = 200.0  # ticks of the longest memory that a cell starts with


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(LearningOptions, DrawnOptions):
    """What the gates of an LSTM and of a GRU do over a sentence, unit by unit, with an exercise."""

    steps: int = 2500
    learning_rate: float = 1e-2
    hidden_size: int = 16
    """Units of each cell."""
    repeats: int = 5
    """GRUs whose units are asked for resets and memory."""

    def check(self, who: str) -> None:
        """Refuses sizes out of range."""
        super().check(who)
        check_sizes(who, self, "hidden_size", "repeats")


@dataclasses.dataclass(frozen=True)
class Reading:
    """What is read off a cell: columns of `with_gates`, the memory, and how a tick makes the new memory of them."""

    make: Callable[..., sj.Cell]
    columns: dict[str, str]
    memory: Callable[[PyTree], Array]
    equation: str
    update: Callable[..., np.ndarray]  # (memory before, *columns) -> memory


READINGS = {
    "LSTM": Reading(
        sj.lstm,
        {"0 logistic": "forget gate f", "1 logistic": "input gate i", "2 tanh": "candidate g"},
        lambda state: state.c,
        "c' = f c + i g",
        lambda c, f, i, g: f * c + i * g,
    ),
    "GRU": Reading(
        sj.gru,
        {"1 logistic": "update gate z", "2 tanh": "candidate n"},
        lambda state: state,
        "h' = z h + (1 - z) n",
        lambda h, z, n: z * h + (1 - z) * n,
    ),
}


def main(options: Options, report: Report) -> None:
    """``python -m seqjax gradients gates``."""
    vocabulary = tasks.Vocabulary([tasks.PAD, *tasks.agreement(0).source_symbols])
    drawn = batches(vocabulary, np.random.default_rng(options.seed), options.steps)
    asked, plural = sentences(vocabulary, np.random.default_rng(options.seed + 1), ASKED)
    words = [vocabulary.symbols[number] for number in asked[:, int(np.argmax(plural))]]
    report.say(
        "Networks that predict the next word of sentences such as: "
        + " ".join(words).replace(" ,", ",").replace(" .", ".")
        + " The verb must agree with the noun, so the noun's number has to be kept."
    )
    for name, reading in READINGS.items():
        exercise(report, options, name, reading, (vocabulary, drawn, asked, plural))
    resets(report, options, vocabulary, drawn, asked)


def exercise(report: Report, options: Options, name: str, reading: Reading, data: tuple) -> None:
    """The table of the unit that keeps the noun's number best, some of its memories left to the reader."""
    vocabulary, drawn, asked, plural = data
    cell = reading.make(EMBEDDED, options.hidden_size, b_init=sj.initializers.chrono(SLOWEST))
    params = learned(cell, options, len(vocabulary), drawn, options.seed)
    gates, states, logits = read(cell, params, asked)
    was, were = vocabulary.encode(VERBS)
    memory = np.asarray(reading.memory(states))
    due = len(asked) - 4  # the tick after which the verb comes
    unit, apart = keeper(memory, plural, due)
    agrees = float(((logits[due, :, were] > logits[due, :, was]) == plural).mean())
    b = int(np.argmax(plural))
    columns = [np.asarray(gates[gate])[:, b, unit] for gate in reading.columns]
    kept = memory[:, b, unit]
    hidden = [t for t in range(NOUN + 2, due) if t % 2]
    report.say(
        f"{name}: the verb agrees in {agrees:.0%} of {ASKED} sentences. Unit {unit} of {options.hidden_size}: its "
        f"memories for plural and singular nouns stay at least {apart:.2f} apart until the verb."
    )
    words = [vocabulary.symbols[number] for number in asked[:, b]]
    report.table(
        ["word", *reading.columns.values(), "memory"],
        [
            [words[t], *(f"{column[t]:z.2f}" for column in columns), "?" if t in hidden else f"{kept[t]:+z.2f}"]
            for t in range(due + 1)
        ],
    )
    answers = ", ".join(f"{words[t]} {reading.update(kept[t - 1], *(c[t] for c in columns)):+z.2f}" for t in hidden)
    moved = words[int(np.argmax(np.abs(np.diff(kept[: due + 1], prepend=0))))]
    report.say(
        f"Exercise: fill in the memories by {reading.equation}. At which word is most written, and which keeps it?\n"
        f"Answers: {answers}. Most moves at {moved!r}; from the noun to the verb the "
        f"{next(iter(reading.columns.values()))} is {columns[0][NOUN + 1 : due + 1].mean():.2f} on average."
    )
    order = np.argsort(-np.abs(memory[NOUN : due + 1, plural].mean(1) - memory[NOUN : due + 1, ~plural].mean(1)).min(0))
    shown = {title: np.asarray(gates[gate])[: due + 1, b] for gate, title in reading.columns.items()}
    scaled = memory[: due + 1, b] / np.abs(memory).max((0, 1))
    values = {"memory, largest of the unit = 1": scaled, **shown}
    report.draw(
        f"gates_{name.lower()}", "gates", values=values, symbols=words[: due + 1], units=dict.fromkeys(values, order)
    )


def resets(report: Report, options: Options, vocabulary: tasks.Vocabulary, drawn: Array, asked: np.ndarray) -> None:
    """How much each unit's reset gate shuts out, against how long its update gate keeps."""
    lengths, activity = [], []
    cell = sj.gru(EMBEDDED, options.hidden_size, b_init=sj.initializers.chrono(SLOWEST))
    for seed in range(options.seed, options.seed + (1 if options.small else options.repeats)):
        gates, *_ = read(cell, learned(cell, options, len(vocabulary), drawn, seed), asked)
        r, z = (np.asarray(gates[gate], np.float64) for gate in ("0 logistic", "1 logistic"))
        lengths += [*memory_length(z)]
        activity += [*(1 - r).mean((0, 1))]
    rank = scipy.stats.spearmanr(lengths, activity)
    short = np.array(lengths) <= np.median(lengths)
    low, high = (float(np.array(activity)[which].mean()) for which in (short, ~short))
    sure = "more than chance would" if rank.pvalue < 0.01 else "no more than chance might"
    report.say(
        f"{len(lengths)} units of GRUs: what a unit holds is kept by its update gate for {min(lengths):.1f} to "
        f"{max(lengths):.1f} ticks more, on average; reset activity, mean 1 - r, is {low:.2f} in the half "
        f"with the shorter memory and {high:.2f} in the other. Rank correlation {rank.statistic:+.2f} "
        f"(p = {rank.pvalue:.1g}): {sure}."
    )
    report.draw("resets", "reset activity", lengths=lengths, activity=activity, correlation=float(rank.statistic))


def memory_length(z: np.ndarray) -> np.ndarray:
    """How many ticks more what a unit holds is kept: mean of Σ_k z_(t+1) … z_(t+k) over the first half of ticks t.

    Args:
      z: update gates ``[T, B, h]``.

    Returns:
      ``[h]``, of every unit.

    >>> memory_length(np.full((4, 2, 1), 0.5))  # the mean of 1/2 + 1/4 + 1/8 and 1/2 + 1/4
    array([0.8125])
    """
    left = [np.zeros(z.shape[1:])]
    for later in z[:0:-1]:
        left.append(later * (1 + left[-1]))
    return np.mean(left[::-1][: len(z) // 2], (0, 1))


def keeper(memory: np.ndarray, plural: np.ndarray, due: int) -> tuple[int, float]:
    """The unit whose memories ``[T, B, h]`` of both numbers stay furthest apart from noun to verb, and how far."""
    scale = np.abs(memory).max((0, 1))
    apart = np.abs(memory[NOUN : due + 1, plural].mean(1) - memory[NOUN : due + 1, ~plural].mean(1)).min(0)
    unit = int(np.argmax(apart / scale))
    return unit, float(apart[unit])


def learned(cell: sj.Cell, options: Options, symbols: int, drawn: Array, seed: int) -> PyTree:
    """A language model's parameters: embedding, cell, readout."""
    embedding, readout = sj.embedding(symbols, EMBEDDED), sj.dense(options.hidden_size, symbols)
    model = sj.serial(embedding, sj.recurrent(cell), readout)

    def loss(params: PyTree, words: Array) -> tuple[Array, tuple]:
        state = model.initial_state(params, words.shape[1:])
        _, logits = model.apply(params, state, words[:-1])
        return sj.cross_entropy(logits, words[1:], words[1:] != 0).mean, ()

    optimizer = optax.chain(sj.clip_by_global_norm(1.0), optax.adam(options.learning_rate))
    run = jax.jit(lambda params, data: lessons.descend(loss, params, optimizer, data).params)
    return run(model.init(jax.random.key(seed)), drawn)


def read(cell: sj.Cell, params: PyTree, words: np.ndarray) -> tuple[dict[str, Array], PyTree, np.ndarray]:
    """Every gate and every state of the cell, tick by tick over the sentences, and the logits of the next word."""
    embedding, own, readout = params
    _, xs = sj.embedding(*embedding.w.shape).apply(embedding, (), jnp.asarray(words[:-1]))
    look = sj.transforms.with_states(gradients.with_gates(cell))
    _, ((ys, gates), states) = sj.unroll(look, own, cell.initial_state(own, words.shape[1:]), xs)
    return gates, states, np.asarray(sj.dense(*readout.w.shape).apply(readout, (), ys)[1])


def batches(vocabulary: tasks.Vocabulary, rng: np.random.Generator, steps: int, size: int = 40) -> Array:
    """``[steps, T, size]``: sentences with 0 to `LONGEST` filler words, 0 behind their ends."""
    texts = [said(rng, int(rng.integers(0, LONGEST + 1)), bool(rng.integers(2))) for _ in range(steps * size)]
    ids, _ = tasks.pad([vocabulary.encode(text) for text in texts])
    return jnp.asarray(ids.reshape(len(ids), steps, size).swapaxes(0, 1))


def sentences(vocabulary: tasks.Vocabulary, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """``[T, count]`` words of sentences of one length, and which are plural."""
    plural = np.arange(count) % 2 == 1
    return np.stack([vocabulary.encode(said(rng, SHOWN, bool(many))) for many in plural], 1), plural


def said(rng: np.random.Generator, fillers: int, plural: bool) -> Sequence[str]:
    """The words of a sentence."""
    pair = agreement_sentence(rng, fillers, plural)
    return (*pair.source, *pair.target)
