"""Models that count n-grams, to beat: in one pass, and in memory that grows with the text that is measured on."""

import numpy as np

from seqjax.tasks.stored import Sliced

PIECE = 2**20  # symbols counted at once
DENSE = 2**22  # numbers that are counted in a table, not in a list of those that come


def ngram_nats(train: Sliced, test: np.ndarray, symbols: int, order: int) -> list[float]:
    """Nats a symbol of n-gram models with Witten-Bell smoothing on every symbol of ``test`` but the first.

        p_n(c | h) = (N(h, c) + T(h) p_{n-1}(c | h')) / (N(h) + T(h))      p_0(c) = 1 / V

    h are the n - 1 symbols before, h' all but the first of them. N counts occurrences in ``train``, T the kinds of
    symbols that follow h. Where h does not occur p_n is p_{n-1}. Histories that are not in ``test`` are not counted.

    Args:
      train: ``[n]``, symbols as numbers, read a piece at a time.
      test: ``[m]``.
      symbols: V.
      order: the highest n; 1 for the unigram model, 2 for the bigram model.

    Returns:
      The mean of -ln p, of each n from 1 on.

    References:
      Witten and Bell (1991), The zero-frequency problem: estimating the probabilities of novel events in
      adaptive text compression. https://doi.org/10.1109/18.87000

    >>> round(ngram_nats(np.array([0, 1, 0, 1, 0]), np.array([0, 1]), 2, 2)[-1], 4)  # p = (2 + 1 · 3/7) / (2 + 1)
    0.2113
    """
    histories, places, counts = [np.zeros(len(test), np.int32)], list[_Places](), [_Counts(symbols)]
    for back in range(1, order):
        longer = _longer(histories[-1], test, back, symbols)
        known = np.unique(longer[longer >= 0])
        places.append(_Places(known, counts[-1].size))
        histories.append(places[-1](longer).astype(np.int32))
        counts.append(_Counts(max(1, len(known)) * symbols))
    for start in range(0, len(train), PIECE):
        before = min(order - 1, start)
        x = np.asarray(train[start - before : start + PIECE])
        history = np.zeros(len(x), np.int32)
        for back in range(order):
            if back:
                history = places[back - 1](_longer(history, x, back, symbols))
            real = history[before:] >= 0
            counts[back].add(history[before:][real].astype(np.int64) * symbols + x[before:][real])
    p, nats = np.full(len(test), 1 / symbols), []
    for found, counted in zip(histories, counts):
        real, at = found >= 0, np.maximum(found, 0)
        n, t = (each[at] for each in counted.rows(symbols))
        pairs = counted.of(at.astype(np.int64) * symbols + test)
        p = np.where(real & (n > 0), (pairs + t * p) / np.maximum(n + t, 1), p)
        nats.append(float(-np.log(p[1:]).mean()))
    return nats


def _longer(history: np.ndarray, x: np.ndarray, back: int, symbols: int) -> np.ndarray:
    """Histories and the symbol before each, as numbers; -1 where there is none."""
    found = np.full(len(x), -1, np.int64)
    found[back:] = np.where(history[back:] >= 0, history[back:].astype(np.int64) * symbols + x[:-back], -1)
    return found


class _Places:
    """Where numbers below ``size`` are among the known ones, which are in order; -1 where they are not, of -1 too."""

    def __init__(self, known: np.ndarray, size: int):
        self._known, self._table = known, None
        if size <= DENSE:
            self._table = np.full(size + 1, -1, np.int32)
            self._table[known] = np.arange(len(known))

    def __call__(self, numbers: np.ndarray) -> np.ndarray:
        if self._table is not None:
            return self._table[numbers]
        if not len(self._known):
            return np.full(len(numbers), -1)
        at = np.searchsorted(self._known, numbers).clip(max=len(self._known) - 1)
        return np.where(self._known[at] == numbers, at, -1)


class _Counts:
    """How often each number below ``size`` comes."""

    def __init__(self, size: int):
        self.size = size
        self._keys, self._counts = np.arange(size if size <= DENSE else 0), np.zeros(size if size <= DENSE else 0, int)

    def add(self, numbers: np.ndarray) -> None:
        if self.size <= DENSE:
            self._counts += np.bincount(numbers, minlength=self.size)
            return
        keys, counts = np.unique(numbers, return_counts=True)
        at = _Places(self._keys, self.size)(keys)
        self._counts[at[at >= 0]] += counts[at >= 0]
        keys, counts = keys[at < 0], counts[at < 0]
        at = np.searchsorted(self._keys, keys)
        self._keys, self._counts = np.insert(self._keys, at, keys), np.insert(self._counts, at, counts)

    def of(self, numbers: np.ndarray) -> np.ndarray:
        """How often each of these has come."""
        at = _Places(self._keys, self.size)(numbers)
        return np.where(at >= 0, self._counts[at], 0) if len(self._counts) else np.zeros(len(numbers))

    def rows(self, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Of each stretch of so many numbers, how often any of it has come, and how many of it have."""
        row, rows = self._keys // width, -(-self.size // width)
        return np.bincount(row, self._counts, rows), np.bincount(row[self._counts > 0], minlength=rows)
