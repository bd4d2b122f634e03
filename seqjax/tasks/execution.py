"""Learning to execute: short programs and what they print, and sums of numbers."""

import itertools
import string
from collections.abc import Callable
from typing import Literal

import numpy as np

from seqjax import checks
from seqjax.tasks.problem import Pair, TextProblem, pick, whole

DIGITS = tuple(string.digits)
PROGRAM_SYMBOLS = tuple(sorted(set(string.digits + string.ascii_lowercase + "=()+-*<>:\n ")))
RESULT_SYMBOLS = (*DIGITS, "-", ".")

Strategy = Literal["baseline", "naive", "mix", "combined"]
Difficulty = Callable[[np.random.Generator], tuple[int, int]]


def program(rng: np.random.Generator, length: int, nesting: int) -> Pair:
    """One program of the Python language and what it prints.

    The program combines ``nesting`` operations: sums, differences, products, assignments, conditional
    expressions and loops. Each takes the value so far and fresh numbers of at most ``length`` digits; factors
    and loop counts stay below ``4 length``, so that one pass over the program suffices to execute it.

    Args:
      rng: where the choices come from.
      length: the largest number of digits.
      nesting: how many operations.

    Returns:
      The source, lines ending in a line break, and the printed number followed by a full stop.

    Example:
      >>> import numpy as np
      >>> pair = program(np.random.default_rng(3), length=2, nesting=2)
      >>> pair.target
      '28.'

    References:
      Zaremba and Sutskever (2014), Learning to execute. https://arxiv.org/abs/1410.4615
    """
    _check_program(length, nesting)
    names = iter(rng.permutation([c for c in string.ascii_lowercase if c not in "xlo"]))
    lines: list[str] = []

    def number() -> int:
        return int(rng.integers(10**length))

    def small() -> int:
        return int(rng.integers(1, 4 * length))

    def bind(expression: str) -> str:
        name = next(names)
        lines.append(f"{name}={_bare(expression)}")
        return name

    value = number()
    expression = str(value)
    for _ in range(nesting):
        kind = pick(rng, ("sum", "product", "assign", "if", "for"))
        other = number()
        if kind == "assign":
            expression = bind(expression)
            kind = "sum"
        if kind == "sum":
            sign = pick(rng, (1, -1))
            if rng.integers(2):
                expression, value = f"({expression}{'+-'[sign < 0]}{other})", value + sign * other
            else:
                expression, value = f"({other}{'+-'[sign < 0]}{expression})", other + sign * value
        elif kind == "product":
            factor = small()
            expression = f"({expression}*{factor})" if rng.integers(2) else f"({factor}*{expression})"
            value *= factor
        elif kind == "if":
            a, b, sign = number(), number(), pick(rng, "<>")
            first = rng.integers(2)
            yes, no = ((expression, value), (str(other), other))[:: 1 if first else -1]
            holds = a < b if sign == "<" else a > b
            expression, value = f"({yes[0]} if {a}{sign}{b} else {no[0]})", (yes if holds else no)[1]
        else:
            count, sign = small(), pick(rng, (1, -1))
            name = bind(expression)
            lines.append(f"for x in range({count}):{name}{'+-'[sign < 0]}={other}")
            expression, value = name, value + sign * count * other
    lines.append(f"print({expression if not _conditional(expression) else _bare(expression)})")
    return Pair("\n".join(lines) + "\n", f"{value}.")


def _check_program(length: int, nesting: int) -> None:
    _check_digits("program", "length", length)
    checks.sizes("program", nesting=nesting)
    if nesting > 20:
        raise ValueError(f"program: expected a nesting of at most 20, got {nesting}: variables run out. Lower it.")


def _check_digits(who: str, name: str, value: int) -> None:
    checks.sizes(who, **{name: value})
    if value > 18:
        raise ValueError(f"{who}: expected {name} of at most 18 digits, got {value}: 64 bits hold no more. Lower it.")


def _conditional(expression: str) -> bool:
    """Whether a parenthesised expression is a conditional one at its top."""
    depth = 0
    for i, character in enumerate(expression):
        depth += (character == "(") - (character == ")")
        if depth == 1 and expression.startswith(" if ", i):
            return True
    return False


def _bare(expression: str) -> str:
    return expression[1:-1] if _conditional(expression) else expression


def execution(length: int, nesting: int, *, mixed: bool = False, scrambled: int | None = None) -> TextProblem:
    """Programs to execute: read the source one character at a time, write what it prints.

    Args:
      length: digits of the numbers in it.
      nesting: how many operations it combines.
      mixed: programs of all kinds up to these sizes, as the strategy ``"mix"`` of `curriculum` draws them.
      scrambled: seed of one fixed permutation of the alphabet, applied to source and target alike: what a
        reader sees who knows no digits. None leaves the programs legible.

    Returns:
      A problem of pairs of strings; chance is the share of one answer in 250,000 programs, the most frequent answer
      of as many others.
    """
    _check_program(length, nesting)
    rewrite = None if scrambled is None else scramble(scrambled)
    symbols = tuple(sorted({*PROGRAM_SYMBOLS, *RESULT_SYMBOLS}))
    difficulty = curriculum("mix" if mixed else "baseline", length, nesting, lambda: 1.0)
    kinds = list(itertools.product(range(1, length + 1), range(1, nesting + 1))) if mixed else [(length, nesting)]

    def draw(rng: np.random.Generator, count: int) -> list[Pair]:
        pairs = [program(rng, *difficulty(rng)) for _ in range(count)]
        return pairs if rewrite is None else [Pair(*map(rewrite, map(str, pair))) for pair in pairs]

    def printed(rng: np.random.Generator) -> np.ndarray:
        return np.concatenate([results(rng, *kind, 250_000 // len(kinds)) for kind in kinds])

    rng = np.random.default_rng(0)
    found, counts = np.unique(printed(rng), return_counts=True)
    chance = float((printed(rng) == found[counts.argmax()]).mean())
    return TextProblem(draw, symbols, symbols, "exact match", chance)


def results(rng: np.random.Generator, length: int, nesting: int, count: int) -> np.ndarray:
    """What ``count`` programs print, distributed as those of `program`; numbers of more than 64 bits wrap around."""

    def number() -> np.ndarray:
        return rng.integers(10**length, size=count)

    values = number()
    for _ in range(nesting):
        kind, first, sign = rng.integers(5, size=count), rng.integers(2, size=count) == 1, rng.choice((1, -1), count)
        other, small = number(), rng.integers(1, 4 * length, count)
        sums = np.where(first, values + sign * other, other + sign * values)
        products, either = values * small, np.where(first, values, other)
        loops = values + sign * small * other
        values = np.select([kind <= 1, kind == 2, kind == 3], [sums, products, either], loops)
    return values


def scramble(seed: int) -> Callable[[str], str]:
    """One fixed permutation of the programs' alphabet, as a function of texts."""
    whole("scramble", 0, seed=seed)
    symbols = sorted({*PROGRAM_SYMBOLS, *RESULT_SYMBOLS})
    shuffled = np.random.default_rng(seed).permutation(symbols)
    table = str.maketrans(dict(zip(symbols, map(str, shuffled))))
    return lambda text: text.translate(table)


def curriculum(strategy: Strategy, length: int, nesting: int, progress: Callable[[], float]) -> Difficulty:
    """How hard the next program is, as training goes on: ``difficulty(rng) -> (length, nesting)``.

        baseline    always (length, nesting)
        naive       both grow with progress from 1 to their targets
        mix         each drawn anew from 1 to its target
        combined    one of naive and mix at even odds

    In the paper the naive strategy raises one after the other, each time that learning comes to rest; here progress
    is the caller's, and both rise together.

    Args:
      strategy: one of these names.
      length: the target length.
      nesting: the target nesting.
      progress: returns how far training is, from 0 to 1; asked at every draw.

    Returns:
      The function that draws a difficulty.

    Raises:
      ValueError: an unknown strategy, or a target below 1.

    References:
      Zaremba and Sutskever (2014), Learning to execute, section 5. https://arxiv.org/abs/1410.4615
    """
    checks.choice("curriculum", "strategy", strategy, ("baseline", "naive", "mix", "combined"))
    checks.sizes("curriculum", length=length, nesting=nesting)

    def naive(rng: np.random.Generator) -> tuple[int, int]:
        share = min(max(progress(), 0.0), 1.0)
        return min(int(share * length) + 1, length), min(int(share * nesting) + 1, nesting)

    def mix(rng: np.random.Generator) -> tuple[int, int]:
        return int(rng.integers(1, length + 1)), int(rng.integers(1, nesting + 1))

    draws = {"baseline": lambda rng: (length, nesting), "naive": naive, "mix": mix}
    return draws.get(strategy, lambda rng: (naive, mix)[rng.integers(2)](rng))


def addition(digits: int) -> TextProblem:
    """Sums of two whole numbers of at most ``digits`` digits: ``"27+815"`` → ``"842"``.

    Args:
      digits: the largest number of digits.

    Returns:
      A problem of pairs of strings; chance is that of the most frequent sum, 10^digits - 1.

    Example:
      >>> addition(3).draw(np.random.default_rng(0), 1)
      [Pair(source='850+636', target='1486')]
    """
    _check_digits("addition", "digits", digits)

    def draw(rng: np.random.Generator, count: int) -> list[Pair]:
        return [Pair(f"{a}+{b}", str(a + b)) for a, b in rng.integers(0, 10**digits, (count, 2)).tolist()]

    return TextProblem(draw, (*DIGITS, "+"), DIGITS, "exact match", 10.0**-digits)
