"""What was said and what was heard, as lists of symbols, and how far they are apart."""

import numpy as np

from seqjax.decoding import Hypotheses
from seqjax.tasks.applications import Speech


def heard(found: Hypotheses) -> list[list[int]]:
    """The best of each."""
    symbols, lengths = np.asarray(found.symbols[0]), np.asarray(found.lengths[0])
    return [[int(x) for x in symbols[:n, b]] for b, n in enumerate(lengths)]


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
