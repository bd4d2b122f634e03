"""The embedded Reber grammar: short dependencies everywhere, and one that spans the whole string."""

import numpy as np

from seqjax.tasks.problem import Examples, Problem, at_least, balanced

_LEGAL = {0: "TP", 1: "SX", 2: "TV", 3: "XS", 4: "PV", 5: "E"}
_NEXT = {(0, "T"): 1, (0, "P"): 2, (1, "S"): 1, (1, "X"): 3, (2, "T"): 2, (2, "V"): 4}
_NEXT |= {(3, "X"): 2, (3, "S"): 5, (4, "P"): 3, (4, "V"): 5}
SYMBOLS = "BTPSXVE"


def embedded_reber(length: int = 40) -> Problem:
    """The embedded Reber grammar: predict the next symbol; the last but one repeats the second.

        B (T | P) <Reber string> (the same T | P) E

    The answer that counts is that last but one symbol, T or P at even odds: everything else follows from the
    symbols just before. ``scored`` marks it, targets hold the next symbol at every tick, and `reber_legal`
    says which symbols the grammar allows. Symbols are numbered as in ``SYMBOLS``, BTPSXVE.

    Args:
      length: strings longer than this are drawn again.

    Returns:
      A problem with ``xs`` and targets ``[length - 1, B]``.

    References:
      Fahlman (1991), The recurrent cascade-correlation architecture.
      https://papers.nips.cc/paper/1990/hash/4b0a59ddf11c58e7446c9df0da541a84-Abstract.html
    """
    length = at_least("embedded_reber", length, 10)

    def string(rng: np.random.Generator, outer: str) -> str:
        while True:
            text, node = "B", 0
            while node != 5:
                symbol = _LEGAL[node][rng.integers(2)]
                text, node = text + symbol, _NEXT[node, symbol]
            text = f"B{outer}{text}E{outer}E"
            if len(text) <= length:
                return text

    def draw(rng: np.random.Generator, count: int) -> Examples:
        strings = [string(rng, "TP"[label]) for label in balanced(rng, count, 2)]
        ids = np.zeros((length, count), np.int32)
        for i, text in enumerate(strings):
            ids[: len(text), i] = [SYMBOLS.index(symbol) for symbol in text]
        lengths = np.array([len(text) for text in strings])
        ticks = np.arange(length - 1)[:, None]
        return Examples(ids[:-1], ids[1:], ticks < lengths - 1, ticks == lengths - 3)

    return Problem(draw, 7, 7, "accuracy", 1 / 2)


def reber_legal(text: str) -> list[str]:
    """The symbols that may follow each prefix of a string of the embedded Reber grammar.

    Raises:
      ValueError: a string that leaves the grammar.

    >>> reber_legal("BTBP")
    ['TP', 'B', 'TP', 'TV']
    """
    legal = ["TP", "B", "TP"][: len(text)]
    node: int | None = 0
    for i, symbol in enumerate(text):
        allowed = "B" if i == 0 else legal[i - 1]
        if symbol not in allowed or not allowed:
            raise ValueError(f"reber_legal: expected one of {allowed!r} at position {i} of {text!r}, got {symbol!r}.")
        if i >= 3:
            if node is None:
                legal.append("E" if symbol in "TP" else "")
            elif node == 5:
                node = None
                legal.append(text[1])
            else:
                node = _NEXT[node, symbol]
                legal.append(_LEGAL[node])
    return legal
