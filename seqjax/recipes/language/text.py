"""What the text recipes share: a text on every machine, windows of one, scoring, and writing."""

import ast
import re
import sysconfig
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np

import seqjax as sj
from seqjax.base import PyTree
from seqjax.objectives import Objective
from seqjax.recipes.running.options import BadInput
from seqjax.tasks.stored import Sliced, Streamed
from seqjax.tasks.texts import window

SOURCE_CHARACTERS = 1_500_000
SCORED = 5_000_000  # characters held back that are scored, at most
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


def scorer(model: sj.Layer) -> Objective:
    """The objective over targets ``(character, scored)``: cross-entropy where ``scored`` only."""
    return jax.jit(sj.objective(model, lambda logits, targets, mask: sj.cross_entropy(logits, *targets)))


def log_loss(
    measure: Objective,
    model: sj.Layer,
    params: PyTree,
    numbers: Sliced,
    *,
    columns: int,
    lead: int,
    end: int | None = None,
) -> tuple[float, int]:
    """Minus the log-probability of every character but the first, given those before it, in nats.

    To be quick, the text is read in columns side by side, each with ``lead`` characters before its own to
    warm up the state; they are not scored. One column is the exact value. Behind every symbol ``end`` the model
    starts anew, if one is given. No more of the text is in memory than is read at once.

    Returns:
      The sum in nats, and how many characters it is over.
    """
    count = len(numbers) - 1
    rows = -(-count // columns)
    size = min(TICKS, lead + rows)
    state, nats = model.initial_state(params, (columns,)), 0.0
    for first in range(-lead, rows, size):
        tick = np.arange(first, first + size)[:, None]
        place = tick + rows * np.arange(columns)
        real = (tick < rows) & (place >= 0) & (place < count)
        place = place.clip(0, count - 1)
        pieces = [numbers[low : high + 2] for low, high in place[[0, -1]].T.tolist()]
        xs, targets = (
            np.stack([piece[at - at[0] + ahead] for piece, at in zip(pieces, place.T)], 1) for ahead in (0, 1)
        )
        xs, reset = restart(xs, end)
        batch = sj.Batch(xs, (targets, real & (tick >= 0)), mask=real, reset=reset)
        state, tally = measure(params, state, batch)
        nats += float(tally.sum)
    return nats, count


def restart(xs: np.ndarray, end: int | None) -> tuple[np.ndarray, np.ndarray | None]:
    """What a model reads that starts anew behind every symbol ``end``, from nothing, and where; all if None."""
    return (xs, None) if end is None else (np.where(xs == end, sj.models.NOTHING, xs), xs == end)


class Windows:
    """The windows of contiguous streams, in order; behind every symbol ``end`` the model starts anew."""

    def __init__(self, numbers: Streamed, batch_size: int, window: int, end: int | None):
        """Nothing is read yet."""
        self._numbers, self._batch_size, self._window, self._end = numbers, batch_size, window, end

    def __len__(self) -> int:
        """How many."""
        return (len(self._numbers) // self._batch_size - 1) // self._window

    def __getitem__(self, number: int) -> sj.Batch:
        """One of them, from 0."""
        ticks = window(self._numbers, len(self._numbers), self._batch_size, self._window, number)
        xs, reset = restart(ticks[:-1], self._end)
        return sj.Batch(xs, ticks[1:], None, reset)


def windows_of(who: str, train: Streamed, batch_size: int, window: int, end: int | None) -> Windows:
    """The windows of a text to learn from, of one at least."""
    if len(train) < batch_size * (window + 1):
        raise BadInput(
            f"{who}: expected a text of which nine tenths are at least {batch_size * (window + 1):,} symbols, to fill "
            f"{batch_size} streams of one window of {window}, got {len(train):,}. "
            "Give a longer text, or lower --batch-size or --window."
        )
    return Windows(train, batch_size, window, end)


def write(
    model: sj.Layer, params: PyTree, prompt: np.ndarray, *, length: int, temperature: float, seed: int, **narrowing: Any
) -> np.ndarray:
    """Reads the prompt ``[n]``, then writes ``length`` symbols; the likeliest ones at temperature 0.

    ``narrowing`` is what `seqjax.sample` takes besides: ``top_k``, ``top_p``, ``typical_p``.
    """
    state = model.initial_state(params)
    if len(prompt) > 1:
        state, _ = model.apply(params, state, prompt[:-1])
    key = jax.random.key(seed) if temperature else None
    narrowing |= {"length": length, "temperature": temperature or 1.0}
    decoded = sj.sample(model, params, state, prompt[-1], key=key, **narrowing)
    return np.asarray(decoded.symbols)
