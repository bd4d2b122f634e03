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
from seqjax.base import PyTree
from seqjax.recipes.pictures import automaton, curves
from seqjax.recipes.running import drawing, learning, optimizers
from seqjax.recipes.running.courses import Course, trains
from seqjax.recipes.running.options import BadInput, TextOrNone, bad_input, check_sizes
from seqjax.recipes.running.run import Run

LONGEST, READ, LONG = 12, 8, 1000  # letters of strings that are all tried, that are all read, and of random ones
MOST_STRINGS, MOST_READ = 2**20, 2**16
MOST_WEIGHTS, MOST_PRODUCTS = 2**26, 2**41  # between the units of the compiled network, and to try all strings
HELD = 2**24  # numbers of the strings tried together


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(learning.LearningOptions):
    """Compiles a regular expression into a network, and reads an automaton out of a trained one."""

    pattern: str = "(a|b)*abb"
    """A regular expression."""
    alphabet: TextOrNone = None
    """The letters; those in the pattern if not given."""
    hidden_size: int = 6
    """Units of the gated network that learns the language."""
    steps: int = 1500
    """Its parameter updates in all, those before a --resume included."""
    batch_size: int = 64
    """Strings an update, each of 16 letters, labelled at every letter."""
    learning_rate: float = 1e-2
    schedule: optimizers.Schedule = "constant"

    def check(self, who: str) -> None:
        """Refuses sizes out of range."""
        super().check(who)
        check_sizes(who, self, "hidden_size")


@trains
def main(options: Options) -> Course:
    """``python -m seqjax automaton``."""
    with bad_input("automaton"):
        dfa = automata.regex(options.pattern, options.alphabet)
    symbols, units = len(dfa.alphabet), dfa.transition.size + 1
    longest = longest_tried(symbols, units)
    each = symbols + 2 * units  # numbers that a letter of a string takes
    batch = max(1, HELD // (longest * each))
    letters = "".join(map(str, dfa.alphabet))
    facts = {"states": len(dfa.accepting), "vocabularies": {"letters": letters}}
    folder = Run.start("automaton", options, facts)
    print(f"{options.pattern!r} over {letters!r}: a minimal automaton of {len(dfa.accepting)} states")

    # An automaton as a network: exact.
    print(
        f"trying all {symbols**longest:,} strings of {longest} letters, {batch:,} at a time: about "
        f"{4 * (units**2 + batch * longest * each) / 1e6:,.0f} MB"
    )
    long = learning.generator(options).integers(symbols, size=(LONG, 100))
    cell, weights = automata.compile(dfa)
    some = np.array_split(long, min(long.shape[1], -(-LONG * long.shape[1] * each // HELD)), 1)
    tested = longest * symbols**longest + long.size
    tried = itertools.chain(all_strings(symbols, longest, batch), some)
    wrong = sum(int((decisions(cell, weights, s, symbols) != accepted(dfa, s)).sum()) for s in tried)
    print(
        f"compiled: {weights.b.size} threshold units, {wrong} wrong answers on all strings of {longest} letters and "
        f"{long.shape[1]} of {LONG:,}, at every letter"
    )

    # A network as an automaton: learned from random strings labelled at every letter, then read.
    model = sj.serial(sj.recurrent(sj.gru(symbols, options.hidden_size)), sj.dense(options.hidden_size, 2))
    model = sj.mixed_precision(model, options.products)
    params = model.init(jax.random.key(options.seed))
    network, truth = sj.as_cell(model), accepted(dfa, long)

    def batch_of(step: int) -> sj.Batch:
        strings = learning.generator(options, step).integers(symbols, size=(16, options.batch_size))
        return sj.Batch(jax.nn.one_hot(strings, symbols), jnp.array(accepted(dfa, strings), jnp.int32))

    def evaluate(params: PyTree) -> dict[str, float]:
        return {"network_accuracy": float((decisions(network, params, long, symbols) == truth).mean())}

    outcome = yield from learning.learn(
        folder,
        options,
        learning.begin(options, params, model.initial_state(params, (options.batch_size,))),
        sj.objective(model, sj.cross_entropy),
        batch_of,
        work=options.batch_size,
        unit="strings",
        evaluate=evaluate,
        show_evaluation=f"strings of {LONG:,} letters: {{network_accuracy:.2%}} of letters right",
        best=learning.highest("network_accuracy"),
    )

    # What came out
    found, length = None, min(READ, longest, longest_of(symbols, MOST_READ))
    try:
        found = automata.extract(
            network,
            outcome.params,
            jnp.eye(symbols),
            lambda logits: logits[..., 1] > logits[..., 0],
            length=length,
            alphabet=dfa.alphabet,
        )
    except ValueError as error:
        print(f"read out of it: nothing ({error})")
    figures: dict[str, float | None] = {"GRU": outcome.numbers["network_accuracy"], "read out of it": None}
    line = f"strings of {LONG:,} letters: the GRU is right at {figures['GRU']:.2%} of letters"
    if found is not None:
        same = automata.equivalent(found.dfa, dfa, empty=False)
        figures["read out of it"] = float((accepted(found.dfa, long) == truth).mean())
        print(
            f"read out of it: {len(found.dfa.accepting)} states from {found.clusters} clusters, "
            f"{'the same' if same else 'another'} language (but for the empty string, of which a network says "
            "nothing)"
        )
        line += f", the automaton read out of it at {figures['read out of it']:.2%}"
    commoner = float(max(truth.mean(), 1 - truth.mean()))
    print(f"{line}, the commoner answer at {commoner:.2%}")
    learning.conclude(folder, "accuracy", figures | {"compiled": 1 - wrong / tested}, {"the commoner answer": commoner})
    curve = curves.draw(
        folder,
        {"strings held back": "network_accuracy"},
        levels={"the commoner answer": commoner},
        y_label="letters right (share)",
        name="accuracy",
    )
    shown = automaton.numbers(dfa, *prefixes(network, outcome.params, dfa, length))
    path = drawing.save(folder, "automaton", "automaton", **shown)
    print(f"run folder {folder.folder}, figure {path}, learning curve {curve}")


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
