"""What the states of a hidden Markov model of a text stand for: told, drawn, measured, and asked.

States are numbered from the commonest to the rarest.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from seqjax import hmm
from seqjax.recipes.running.asking import NoQuestion, Reply, rounded, unknown
from seqjax.recipes.running.options import BadInput
from seqjax.tasks.vocabulary import Vocabulary

LIKELIEST = 8  # symbols that are printed of each state
SHOWN = 40  # symbols in a figure, the commonest


class Ordered(NamedTuple):
    """A model whose first state is the commonest, and the share of ticks in each state."""

    model: hmm.HMM
    shares: np.ndarray


def ordered(model: hmm.HMM, ticks: int) -> Ordered:
    """The same model with its states from the commonest to the rarest of so many ticks, as it expects them.

    >>> found = ordered(hmm.from_probabilities([1.0, 0.0], [[0.2, 0.8], [0.0, 1.0]], np.eye(2)), 3)
    >>> [round(share, 2) for share in found.shares.tolist()], np.exp(found.model.log_initial).tolist()
    ([0.59, 0.41], [0.0, 1.0])
    """
    exact = (np.exp(np.asarray(p, np.float64)) for p in model[:2])
    belief, goes = (p / p.sum(-1, keepdims=True) for p in exact)  # which float32 is not, over a million ticks
    shares = np.zeros_like(belief)
    for _ in range(ticks):
        shares += belief / ticks
        belief = belief @ goes
    order = np.argsort(-shares, kind="stable")
    again = hmm.HMM(model.log_initial[order], model.log_transition[order][:, order], model.log_emission[order])
    return Ordered(again, shares[order])


def nats_of(model: hmm.HMM, xs: np.ndarray) -> float:
    """The mean of -ln p(x_t | x_1 … x_{t-1}) over all symbols but the first."""
    whole, first = (float(hmm.forward(model, part).log_likelihood) for part in (xs, xs[:1]))
    nats = (first - whole) / (len(xs) - 1)
    if not np.isfinite(nats):
        states = len(model.log_initial)
        raise BadInput(
            f"hmm-learn: expected a text to measure on that is possible, got one that is not with {states} states. "
            "Raise --smoothing."
        )
    return nats


def shown(symbol: str) -> str:
    r"""A character that can be seen.

    >>> shown("a"), shown(" "), shown("\n")
    ('a', '␣', '\\n')
    """
    return "␣" if symbol == " " else repr(symbol)[1:-1]


def table(found: Ordered, names: Sequence[str]) -> str:
    """A line a state: its share, where it goes, its likeliest symbols."""
    goes, emits = (np.exp(np.asarray(p)) for p in found.model[1:])
    lines = []
    for state, share in enumerate(found.shares):
        likely = np.argsort(-emits[state])[:LIKELIEST]
        said = "  ".join(f"{names[i]} {emits[state, i]:.3f}" for i in likely)
        next_ones = np.argsort(-goes[state])[:LIKELIEST]
        then = " ".join(f"{p:.2f}" for p in goes[state])
        if len(goes) > LIKELIEST:
            then = " ".join(f"{i + 1} ({goes[state, i]:.2f})" for i in next_ones)
        lines.append(f"  state {state + 1}, {share:6.1%}, goes on to {then}: {said}")
    return "\n".join(lines)


def picture_of(found: Ordered, names: Sequence[str]) -> dict:
    """What the figure shows: symbols by the state that they are likeliest in, there by how likely."""
    goes, emits = (np.exp(np.asarray(p)) for p in found.model[1:])
    joint = found.shares[:, None] * emits
    common = np.argsort(-joint.sum(0))[:SHOWN]
    order = common[np.lexsort((-emits.max(0)[common], joint.argmax(0)[common]))]
    return {"transition": goes, "emission": emits[:, order], "symbols": [names[i] for i in order]}


def explained(models: Mapping[str, hmm.HMM], vocabulary: Vocabulary, text: str) -> Reply:
    """The likeliest state of every symbol of a text, and ln p of the text, a line a model.

    An unknown symbol says nothing of its state, which its neighbours decide; ln p is of the others.
    """
    if not text:
        raise NoQuestion("without symbols")
    numbers = np.full(rounded(len(text)), hmm.MISSING)
    numbers[: len(text)] = [vocabulary.encode(symbol)[0] if symbol in vocabulary else hmm.MISSING for symbol in text]
    if (numbers == hmm.MISSING).all():
        raise NoQuestion("without a symbol that the model knows")
    mask, lines = jnp.arange(len(numbers)) < len(text), []
    for name, model in models.items():
        likelihood = float(hmm.forward(model, numbers, mask=mask).log_likelihood)
        path = np.asarray(hmm.viterbi(model, numbers, mask=mask).states)[: len(text)]
        said = " ".join(f"{shown(symbol)}{state + 1}" for symbol, state in zip(text, path))
        lines.append(f"{name}: {said}, ln p {likelihood:.2f}" if likelihood > -np.inf else f"{name}: impossible")
    return Reply("\n".join(lines), unknown(text, vocabulary))
