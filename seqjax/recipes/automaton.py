"""An automaton as a recurrent network, and a recurrent network as an automaton.

A regular expression becomes a minimal automaton, the automaton a network of threshold units that is exact on every
string. The other way round, a gated network learns the language from examples; its states cluster, and the clusters
are an automaton, which can be compared with the true one.

References:
  Minsky (1967), Computation: finite and infinite machines, chapter 3.
  Giles et al. (1992), Learning and extracting finite state automata with second-order recurrent neural networks.
  https://doi.org/10.1162/neco.1992.4.3.393
"""

import dataclasses
import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from seqjax import automata
from seqjax.recipes.pictures import automaton
from seqjax.recipes.running import optimizers, trackers
from seqjax.recipes.running.loop import LIMIT
from seqjax.recipes.running.options import (
    BadInput,
    FolderOrNone,
    TextOrNone,
    Track,
    bad_input,
    check_positive,
    check_seed,
    check_sizes,
)
from seqjax.recipes.running.run import Run
from seqjax.recipes.running.trackers import Tracker

LONGEST, READ, LONG = 12, 8, 1000  # letters of strings that are all tried, that are all read, and of random ones
MOST_STRINGS, MOST_READ = 2**20, 2**16
MOST_WEIGHTS, MOST_PRODUCTS = 2**26, 2**41  # between the units of the compiled network, and to try all strings
HELD = 2**24  # numbers of the strings tried together


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Compiles a regular expression into a network, and reads an automaton out of a trained one."""

    pattern: str = "(a|b)*abb"
    """A regular expression."""
    alphabet: TextOrNone = None
    """The letters; those in the pattern if not given."""
    hidden_size: int = 6
    """Units of the gated network that learns the language."""
    steps: int = 1500
    """Its parameter updates."""
    batch_size: int = 64
    """Strings an update, each of 16 letters, labelled at every letter."""
    learning_rate: float = 1e-2
    """Of the optimizer, at its highest."""
    optimizer: optimizers.Optimizer = "adam"
    """Of Optax, at its defaults but for the rate; momentum is Nesterov's, 0.9."""
    schedule: optimizers.Schedule = "constant"
    """Of the rate: it rises over 5 % of the steps, then falls to a tenth along a cosine or a line, or as 1/√n; constant
    does neither."""
    seed: int = 0
    """Another seed, other weights and strings."""
    run_dir: FolderOrNone = None
    """New folder for the run's files; runs/RECIPE-DATE-TIME if not given."""
    track: Track | None = None
    """A dashboard beside the JSON lines: TensorBoard, in the run's folder tensorboard, or Weights & Biases, in the
    project seqjax."""

    def check(self, who: str) -> None:
        """Refuses sizes out of range."""
        check_sizes(who, self, "hidden_size", "steps", "batch_size")
        check_positive(who, self, "learning_rate")
        check_seed(who, self.seed)


def main(options: Options) -> None:
    """``python -m seqjax automaton``."""
    with bad_input("automaton"):
        dfa = automata.regex(options.pattern, options.alphabet)
    symbols, units = len(dfa.alphabet), dfa.transition.size + 1
    longest = longest_tried(symbols, units)
    each = symbols + 2 * units  # numbers that a letter of a string takes
    batch = max(1, HELD // (longest * each))
    letters = "".join(map(str, dfa.alphabet))
    folder = Run.create("automaton", options, {"states": len(dfa.accepting), "vocabularies": {"letters": letters}})
    print(f"{options.pattern!r} over {letters!r}: a minimal automaton of {len(dfa.accepting)} states")
    rng = np.random.default_rng(options.seed)

    # An automaton as a network: exact.
    print(
        f"trying all {symbols**longest:,} strings of {longest} letters, {batch:,} at a time: about "
        f"{4 * (units**2 + batch * longest * each) / 1e6:,.0f} MB"
    )
    long = rng.integers(symbols, size=(LONG, 100))
    cell, weights = automata.compile(dfa)
    some = np.array_split(long, min(long.shape[1], -(-LONG * long.shape[1] * each // HELD)), 1)
    tried = itertools.chain(all_strings(symbols, longest, batch), some)
    wrong = sum(int((decisions(cell, weights, s, symbols) != accepted(dfa, s)).sum()) for s in tried)
    print(
        f"compiled: {weights.b.size} threshold units, {wrong} wrong answers on all strings of {longest} letters and "
        f"{long.shape[1]} of {LONG:,}, at every letter"
    )

    # A network as an automaton: learned, then read.
    with trackers.following(folder) as tracker:
        model, params, loss = learn(options, dfa, rng, tracker)
        network = sj.as_cell(model)
        print(
            f"learned: a GRU of {options.hidden_size} units, loss {loss:.4f} nats a letter after {options.steps} steps"
        )
        found, length = None, min(READ, longest, longest_of(symbols, MOST_READ))
        try:
            found = automata.extract(
                network,
                params,
                jnp.eye(symbols),
                lambda logits: logits[..., 1] > logits[..., 0],
                length=length,
                alphabet=dfa.alphabet,
            )
        except ValueError as error:
            print(f"read out of it: nothing ({error})")
        truth = accepted(dfa, long)
        right = float((decisions(network, params, long, symbols) == truth).mean())
        summary = {"wrong": wrong, "loss": loss, "network_accuracy": right}
        line = f"strings of {LONG:,} letters: the GRU is right at {right:.2%} of letters"
        if found is not None:
            same = automata.equivalent(found.dfa, dfa, empty=False)
            read = float((accepted(found.dfa, long) == truth).mean())
            print(
                f"read out of it: {len(found.dfa.accepting)} states from {found.clusters} clusters, "
                f"{'the same' if same else 'another'} language (but for the empty string, of which a network says "
                "nothing)"
            )
            line += f", the automaton read out of it at {read:.2%}"
            summary |= {"same_language": float(same), "automaton_accuracy": read}
        print(f"{line}, the commoner answer at {max(truth.mean(), 1 - truth.mean()):.2%}")
        tracker.log(options.steps, summary)

    path = folder.folder / "automaton.png"
    automaton.draw(path, dfa, *prefixes(network, params, dfa, length))
    print(f"run folder {folder.folder}, figure {path}")


def longest_of(symbols: int, most: int) -> int:
    """Letters of the longest strings of which there are at most so many.

    >>> longest_of(2, 2**20), longest_of(62, 2**20)
    (20, 3)
    """
    return max((n for n in range(1, LONGEST + 9) if symbols**n <= most), default=0)


def longest_tried(symbols: int, units: int) -> int:
    """Letters of the strings that are all tried; refuses what would take too much memory before any is taken."""
    if longest_of(symbols, MOST_STRINGS) < 3:
        raise BadInput(
            f"automaton: expected at most {round(MOST_STRINGS ** (1 / 3))} letters, got {symbols}. "
            "Name fewer in --pattern or --alphabet."
        )
    if units**2 > MOST_WEIGHTS:
        raise BadInput(
            f"automaton: expected an automaton whose states times letters are below {round(MOST_WEIGHTS**0.5):,}, so "
            f"that its network has at most {4 * MOST_WEIGHTS / 1e6:,.0f} MB of weights, got {units - 1:,}. "
            "Give a shorter --pattern or fewer letters."
        )
    return max(n for n in range(1, LONGEST + 1) if symbols**n <= min(MOST_STRINGS, MOST_PRODUCTS // (n * units**2)))


def all_strings(symbols: int, length: int, batch: int) -> Iterator[np.ndarray]:
    """Every string of a length in order, so many at a time, ``[length, batch]``."""
    count = symbols**length
    for start in range(0, count, batch):
        yield np.stack(np.unravel_index(np.arange(start, min(start + batch, count)), (symbols,) * length))


def accepted(dfa: automata.DFA, strings: np.ndarray) -> np.ndarray:
    """Whether each prefix is accepted, ``[T, *B]``."""
    return dfa.accepting[automata.run(dfa, strings)]


def decisions(cell: sj.Cell, params: object, strings: np.ndarray, symbols: int) -> np.ndarray:
    """What a network says of each prefix, ``[T, *B]``: a unit above 1/2, or the second of two logits the larger."""
    xs = jax.nn.one_hot(strings, symbols)
    _, ys = sj.unroll(cell, params, cell.initial_state(params, strings.shape[1:]), xs)
    ys = np.asarray(ys)
    return ys[..., 0] > 0.5 if ys.shape[-1] == 1 else ys[..., 1] > ys[..., 0]


def learn(
    options: Options, dfa: automata.DFA, rng: np.random.Generator, tracker: Tracker
) -> tuple[sj.Layer, object, float]:
    """A GRU with a readout, trained on random strings labelled at every letter; its parameters and last loss."""
    symbols = len(dfa.alphabet)
    model = sj.serial(sj.recurrent(sj.gru(symbols, options.hidden_size)), sj.dense(options.hidden_size, 2))
    params = model.init(jax.random.key(options.seed))
    rate = optimizers.schedule(options.schedule, options.learning_rate, options.steps)
    optimizer = optimizers.OPTIMIZERS[options.optimizer](rate)
    objective = sj.objective(model, sj.cross_entropy)
    update = sj.train_step(objective, optimizer)
    train, start = sj.train_state(params, optimizer), model.initial_state(params, (options.batch_size,))
    loss = 0.0
    for step in range(1, options.steps + 1):
        strings = rng.integers(symbols, size=(16, options.batch_size))
        batch = sj.Batch(jax.nn.one_hot(strings, symbols), jnp.array(accepted(dfa, strings), jnp.int32))
        train, _, metrics = update(train, start, batch)
        if step % max(1, options.steps // 10) == 0 or step == options.steps:
            loss = float(metrics.loss)
            if int(metrics.skipped) >= LIMIT:
                place = sj.first_nonfinite(objective, train.params, start, batch)
                raise BadInput(f"automaton: expected finite numbers in training, got others, first at {place}.")
            tracker.log(step, {"loss": loss})
    return model, train.params, loss


def prefixes(cell: sj.Cell, params: object, dfa: automata.DFA, length: int) -> tuple[np.ndarray, np.ndarray]:
    """The network's states after every string up to a length ``[P, h]``, and the automaton's ``[P]``."""
    symbols, points, labels = len(dfa.alphabet), [], []
    for n in range(1, length + 1):
        strings = np.array(list(itertools.product(range(symbols), repeat=n))).T
        xs = jax.nn.one_hot(strings, symbols)
        state, _ = sj.unroll(cell, params, cell.initial_state(params, strings.shape[1:]), xs)
        points.append(np.concatenate([np.asarray(leaf) for leaf in jax.tree.leaves(state)], -1))
        labels.append(automata.run(dfa, strings)[-1])
    return np.concatenate(points), np.concatenate(labels)
