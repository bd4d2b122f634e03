"""What the text recipes share: a text on every machine, the bigram model to beat, scoring, and writing."""

import sysconfig
from pathlib import Path

import jax
import numpy as np

import seqjax as sj
from seqjax.base import PyTree
from seqjax.objectives import Objective

SOURCE_CHARACTERS = 1_500_000
TICKS = 512  # scored by one call: bounds the memory that the logits of a long text take


def standard_library(characters: int = SOURCE_CHARACTERS) -> str:
    """Python's own source on this machine: the standard library's top modules by name, up to ``characters``.

    The same for the same version of Python. The last module is whole, so there are somewhat more.

    Raises:
      FileNotFoundError: the library's source is not there, as in some frozen installations.
    """
    folder = Path(sysconfig.get_path("stdlib"))
    modules: list[str] = []
    for path in sorted(folder.glob("*.py")):
        if sum(map(len, modules)) >= characters:
            break
        modules.append(path.read_text("utf-8"))
    if not modules:
        raise FileNotFoundError(f"{folder}: expected the standard library's source, got none. Give a text of your own.")
    return "".join(modules)


def bigram_nats(train: np.ndarray, test: np.ndarray, symbols: int) -> float:
    """Nats a symbol of a bigram model with Witten-Bell smoothing on every symbol of ``test`` but the first.

        p(c | h) = (N(h, c) + T(h) p(c)) / (N(h) + T(h))      p(c) = (N(c) + T / V) / (N + T)

    N counts occurrences in ``train``, T the kinds of symbols that follow h, or that occur at all.

    Args:
      train: ``[n]``, symbols as numbers.
      test: ``[m]``.
      symbols: V.

    Returns:
      The mean of -ln p.

    References:
      Witten and Bell (1991), The zero-frequency problem: estimating the probabilities of novel events in
      adaptive text compression. https://doi.org/10.1109/18.87000

    >>> round(bigram_nats(np.array([0, 1, 0, 1, 0]), np.array([0, 1]), 2), 4)  # p = (2 + 1 · 3/7) / (2 + 1)
    0.2113
    """
    single = np.bincount(train, minlength=symbols).astype(float)
    kinds = np.count_nonzero(single)
    unigram = (single + kinds / symbols) / (single.sum() + kinds)
    pairs = np.zeros((symbols, symbols))
    np.add.at(pairs, (train[:-1], train[1:]), 1)
    followers = np.count_nonzero(pairs, axis=1)
    seen = pairs.sum(axis=1) + followers
    h, c = test[:-1], test[1:]
    smoothed = (pairs[h, c] + followers[h] * unigram[c]) / np.maximum(seen[h], 1)
    return float(-np.log(np.where(seen[h] > 0, smoothed, unigram[c])).mean())


def scorer(model: sj.Layer) -> Objective:
    """The objective over targets ``(character, scored)``: cross-entropy where ``scored`` only."""
    return jax.jit(sj.objective(model, lambda logits, targets, mask: sj.cross_entropy(logits, *targets)))


def log_loss(
    measure: Objective,
    model: sj.Layer,
    params: PyTree,
    numbers: np.ndarray,
    *,
    columns: int,
    lead: int,
) -> tuple[float, int]:
    """Minus the log-probability of every character but the first, given those before it, in nats.

    To be quick, the text is read in columns side by side, each with ``lead`` characters before its own to
    warm up the state; they are not scored. One column is the exact value.

    Returns:
      The sum in nats, and how many characters it is over.
    """
    count = len(numbers) - 1
    rows = -(-count // columns)
    tick = np.arange(-lead, rows)[:, None]
    place = tick + rows * np.arange(columns)
    real = (place >= 0) & (place < count)
    place = place.clip(0, count - 1)
    batch = sj.Batch(numbers[place], (numbers[place + 1], real & (tick >= 0)), mask=real)
    state, nats = model.initial_state(params, (columns,)), 0.0
    for window in sj.windows(batch, min(TICKS, lead + rows)):
        state, tally = measure(params, state, window)
        nats += float(tally.sum)
    return nats, count


def write(
    model: sj.Layer, params: PyTree, prompt: np.ndarray, *, length: int, temperature: float, seed: int
) -> np.ndarray:
    """Reads the prompt ``[n]``, then writes ``length`` symbols; the likeliest ones at temperature 0."""
    state = model.initial_state(params)
    if len(prompt) > 1:
        state, _ = model.apply(params, state, prompt[:-1])
    key = jax.random.key(seed) if temperature else None
    decoded = sj.sample(model, params, state, prompt[-1], length=length, key=key, temperature=temperature or 1.0)
    return np.asarray(decoded.symbols)
