"""What the text recipes share: a text on every machine, n-gram models to beat, scoring, and writing."""

import ast
import re
import sysconfig
import warnings
from pathlib import Path

import jax
import numpy as np
import scipy.sparse

import seqjax as sj
from seqjax.base import PyTree
from seqjax.objectives import Objective
from seqjax.recipes.running.options import BadInput
from seqjax.tasks.batches import streams
from seqjax.tasks.texts import Numbers

SOURCE_CHARACTERS = 1_500_000
PIECE = 2**22  # characters counted at once
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


def documentation(characters: int = SOURCE_CHARACTERS) -> str:
    """English on every machine: the sentences that document Python's standard library, one a line.

    Modules by path, of each the documentation strings in order, up to ``characters``; examples, tables and repeated
    sentences are left out. The same for the same version of Python.

    Raises:
      FileNotFoundError: the library's source is not there, as in some frozen installations.
    """
    folder = Path(sysconfig.get_path("stdlib"))
    written: dict[str, None] = {}
    size = 0
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).parts
        if {"site-packages", "dist-packages", "test", "tests", "idle_test"} & set(parts):
            continue
        for sentence in documented(path.read_bytes()):
            if sentence not in written:
                written[sentence] = None
                size += len(sentence) + 1
        if size >= characters:
            break
    if not written:
        raise FileNotFoundError(f"{folder}: expected the standard library's source, got none. Give a text of your own.")
    return "".join(f"{sentence}\n" for sentence in written)


def documented(source: bytes) -> list[str]:
    """The sentences in a module's documentation strings: whole ones of four words or more."""
    try:
        with warnings.catch_warnings(action="ignore"):  # odd escapes in old modules
            tree = ast.parse(source)
    except (SyntaxError, ValueError):  # some modules are examples of what cannot be parsed
        return []
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    strings = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, kinds)]
    paragraphs = [" ".join(part.split()) for text in strings for part in re.split(r"\n\s*\n", text)]
    sentences = [s for p in paragraphs for s in re.split(r"(?<=[.!?]) (?=[A-Z])", p)]
    return [s for s in sentences if re.fullmatch(r"[A-Z][\w ,;:'\"()/.-]+[.!?]", s) and len(s.split()) >= 4]


def ngram_nats(train: np.ndarray, test: np.ndarray, symbols: int, order: int) -> float:
    """Nats a symbol of an n-gram model with Witten-Bell smoothing on every symbol of ``test`` but the first.

        p_n(c | h) = (N(h, c) + T(h) p_{n-1}(c | h')) / (N(h) + T(h))      p_0(c) = 1 / V

    h are the n - 1 symbols before, h' all but the first of them. N counts occurrences in ``train``, T the kinds of
    symbols that follow h. Where h does not occur p_n is p_{n-1}.

    Args:
      train: ``[n]``, symbols as numbers.
      test: ``[m]``.
      symbols: V.
      order: n; 1 for the unigram model, 2 for the bigram model.

    Returns:
      The mean of -ln p.

    References:
      Witten and Bell (1991), The zero-frequency problem: estimating the probabilities of novel events in
      adaptive text compression. https://doi.org/10.1109/18.87000

    >>> round(ngram_nats(np.array([0, 1, 0, 1, 0]), np.array([0, 1]), 2, 2), 4)  # p = (2 + 1 · 3/7) / (2 + 1)
    0.2113
    """
    both = np.concatenate([train, test]).astype(np.int64)
    place = np.concatenate([np.arange(len(train)), np.arange(len(test))])
    learned = np.arange(len(both)) < len(train)
    p, history = np.full(len(both), 1 / symbols), np.zeros(len(both), np.int64)
    for back in range(order):
        if back:  # histories and what follows them, as numbers
            history = np.unique(history * symbols + np.roll(both, back), return_inverse=True)[1]
        following = np.unique(history * symbols + both, return_inverse=True)[1]
        counted = learned & (place >= back)
        seen, pairs = np.bincount(history[counted]), np.bincount(following[counted], minlength=following.max() + 1)
        _, first = np.unique(following[counted], return_index=True)
        kinds = np.bincount(history[counted][first], minlength=len(seen))
        known = (place >= back) & (history < len(seen))
        n, t = (np.where(known, count[np.where(known, history, 0)], 0) for count in (seen, kinds))
        p = np.where(n > 0, (pairs[following] + t * p) / np.maximum(n + t, 1), p)
    return float(-np.log(p[len(train) + 1 :]).mean())


def bigram_nats(numbers: Numbers, learned: int, test: np.ndarray, symbols: int) -> float:
    """`ngram_nats` of order 2 in little memory: of pairs counted piece by piece.

    Args:
      numbers: ``[n]``, read a piece at a time.
      learned: how many of them, from the first, are counted.
      test: ``[m]``.
      symbols: V.
    """
    shape = (symbols, symbols)

    def pairs(part: np.ndarray) -> scipy.sparse.csr_array:
        return scipy.sparse.coo_array((np.ones(len(part) - 1), (part[:-1], part[1:])), shape).tocsr()

    counted = scipy.sparse.csr_array(shape)
    for start in range(0, learned - 1, PIECE):
        counted = counted + pairs(numbers[start : min(start + PIECE + 1, learned)])
    seen = counted.sum(axis=0)
    seen[numbers[0:1]] += 1
    alone = (seen + (seen > 0).sum() / symbols) / (learned + (seen > 0).sum())
    asked = pairs(test).tocoo()
    n, t = counted.sum(axis=1)[asked.row], np.diff(counted.indptr)[asked.row]
    p = (counted[asked.row, asked.col] + t * alone[asked.col]) / np.maximum(n + t, 1)
    return float(-(asked.data * np.log(np.where(n > 0, p, alone[asked.col]))).sum() / (len(test) - 1))


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
    end: int | None = None,
) -> tuple[float, int]:
    """Minus the log-probability of every character but the first, given those before it, in nats.

    To be quick, the text is read in columns side by side, each with ``lead`` characters before its own to
    warm up the state; they are not scored. One column is the exact value. Behind every symbol ``end`` the model
    starts anew, if one is given.

    Returns:
      The sum in nats, and how many characters it is over.
    """
    count = len(numbers) - 1
    rows = -(-count // columns)
    tick = np.arange(-lead, rows)[:, None]
    place = tick + rows * np.arange(columns)
    real = (place >= 0) & (place < count)
    place = place.clip(0, count - 1)
    xs, reset = restart(numbers[place], end)
    batch = sj.Batch(xs, (numbers[place + 1], real & (tick >= 0)), mask=real, reset=reset)
    state, nats = model.initial_state(params, (columns,)), 0.0
    for window in sj.windows(batch, min(TICKS, lead + rows)):
        state, tally = measure(params, state, window)
        nats += float(tally.sum)
    return nats, count


def restart(xs: np.ndarray, end: int | None) -> tuple[np.ndarray, np.ndarray | None]:
    """What a model reads that starts anew behind every symbol ``end``, from nothing, and where; all if None."""
    return (xs, None) if end is None else (np.where(xs == end, sj.models.NOTHING, xs), xs == end)


def windows_of(who: str, train: np.ndarray, batch_size: int, window: int, end: int | None) -> list[sj.Batch]:
    """The windows of contiguous streams, in order; behind every symbol ``end`` the model starts anew."""
    if len(train) < batch_size * (window + 1):
        raise BadInput(
            f"{who}: expected a text of which nine tenths are at least {batch_size * (window + 1):,} symbols, to fill "
            f"{batch_size} streams of one window of {window}, got {len(train):,}. "
            "Give a longer text, or lower --batch-size or --window."
        )
    columns = streams(train, batch_size)
    ticks = (len(columns) - 1) // window * window
    xs, reset = restart(columns[:ticks], end)
    return list(sj.windows(sj.Batch(xs, columns[1 : ticks + 1], None, reset), window))


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
