"""Regular expressions to automata: parse, Thompson's construction, subsets, minimisation."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from seqjax.automata.dfa import DFA, minimise, table

MOST = 1000  # the largest count of a repetition
LARGEST = 5000  # states
DEEPEST = 100  # groups inside each other


def regex(pattern: str, alphabet: Sequence[str] | None = None) -> DFA:
    r"""The smallest automaton that accepts the strings which a regular expression matches as a whole.

    The notation: characters, ``.`` (any symbol), ``[abc]``, ``[a-z]``, ``[^abc]``, grouping ``( )``, alternatives
    ``|``, repetition ``*``, ``+``, ``?``, ``{m}``, ``{m,}``, ``{m,n}``, and ``\`` before a character that would
    otherwise mean something. An empty alternative matches the empty string. There are no anchors (the whole string is
    always matched), no classes such as ``\d``, no back-references or look-around.

    Args:
      pattern: the expression.
      alphabet: the symbols, single characters; those named in the pattern if None.

    Returns:
      The automaton.

    Raises:
      ValueError: the expression is not valid, with the position, names a character outside the alphabet, or takes more
        than 5,000 states.

    Example:
      >>> from seqjax import automata
      >>> ends_in_ab = automata.regex("(a|b)*ab")
      >>> ends_in_ab.accepting[automata.run(ends_in_ab, "aabab")].tolist()
      [False, False, True, False, True]

    References:
      Thompson (1968), Regular expression search algorithm. https://doi.org/10.1145/363347.363387
    """
    parser = _Parser(pattern)
    tree = parser.parse()
    symbols = tuple(sorted(parser.named)) if alphabet is None else tuple(alphabet)
    if not symbols or len(set(symbols)) != len(symbols) or any(len(s) != 1 for s in symbols):
        raise ValueError(
            f"regex: expected an alphabet of different single characters, got {symbols!r}. "
            "Pass alphabet= where the pattern names no character."
        )
    if unknown := parser.named - set(symbols):
        raise ValueError(
            f"regex: expected characters out of {''.join(symbols)!r}, got {min(unknown)!r} in {pattern!r}. "
            "Enlarge the alphabet."
        )
    steps = _Steps(frozenset(symbols))
    start, end = steps.state(), steps.state()
    steps.build(tree, start, end)
    return minimise(_subsets(steps, start, end, symbols))


class _Symbols(NamedTuple):
    """One symbol out of a set, or out of its complement."""

    named: frozenset[str]
    complement: bool = False


class _Sequence(NamedTuple):
    parts: list


class _Either(NamedTuple):
    parts: list


class _Repeat(NamedTuple):
    part: object
    least: int
    most: int | None


class _Parser:
    """Recursive descent from a pattern to a tree."""

    def __init__(self, pattern: str):
        self.pattern, self.at, self.depth = pattern, 0, 0
        self.named: set[str] = set()

    def parse(self) -> object:
        tree = self.either()
        if self.at < len(self.pattern):
            raise self.error("the end of the pattern", "Open the group first, or write \\) for the character.")
        return tree

    def either(self) -> object:
        parts = [self.sequence()]
        while self.skip("|"):
            parts.append(self.sequence())
        return _Either(parts)

    def sequence(self) -> object:
        parts = []
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            parts.append(self.repeat())
        return _Sequence(parts)

    def repeat(self) -> object:
        part = self.atom()
        while self.at < len(self.pattern):
            if self.skip("*"):
                part = _Repeat(part, 0, None)
            elif self.skip("+"):
                part = _Repeat(part, 1, None)
            elif self.skip("?"):
                part = _Repeat(part, 0, 1)
            elif self.pattern[self.at] == "{":
                part = _Repeat(part, *self.counts())
            else:
                break
        return part

    def counts(self) -> tuple[int, int | None]:
        found = re.compile(r"\{(\d+)(,?)(\d*)\}").match(self.pattern, self.at)
        if not found or (found[3] and not found[2]):
            raise self.error("{m}, {m,} or {m,n}", "Write \\{ for the character.")
        least = int(found[1])
        most = least if not found[2] else int(found[3]) if found[3] else None
        if max(least, most or 0) > MOST or (most is not None and most < least):
            raise self.error(f"counts that rise, up to {MOST}", "Repeat less often.")
        self.at = found.end()
        return least, most

    def atom(self) -> object:
        if self.depth < DEEPEST and self.skip("("):
            self.depth += 1
            tree = self.either()
            self.depth -= 1
            if not self.skip(")"):
                raise self.error("')'", "Close the group.")
            return tree
        if self.pattern[self.at] == "(":
            raise self.error(f"at most {DEEPEST} groups inside each other", "Leave out what groups nothing.")
        if self.skip("."):
            return _Symbols(frozenset(), complement=True)
        if self.skip("["):
            return self.character_class()
        if self.pattern[self.at] in "*+?{":
            raise self.error("something to repeat", "Write \\ before it for the character.")
        if self.pattern[self.at] in "^$":
            raise self.error("a character", "Leave the anchor out, or write \\ before it for the character.")
        if self.pattern[self.at] in "]}":
            raise self.error("a character", "Write \\ before it for the character.")
        return _Symbols(frozenset(self.character()))

    def character_class(self) -> _Symbols:
        complement = self.skip("^")
        named: set = set()
        while not self.skip("]"):
            first = self.character()
            last = first
            if self.pattern[self.at : self.at + 1] == "-" and self.pattern[self.at + 1 : self.at + 2] not in ("]", ""):
                self.at += 1
                last = self.character()
            if last < first:
                raise self.error(f"a range that rises from {first!r}", "Swap its ends.")
            named.update(map(chr, range(ord(first), ord(last) + 1)))
        if not named:
            raise self.error("a class that is not empty", "Name its characters, or use . for any.")
        self.named |= named
        return _Symbols(frozenset(named), complement)

    def character(self) -> str:
        escaped = self.skip("\\")
        if escaped and self.pattern[self.at : self.at + 1].isalnum():
            raise self.error("a mark after \\", "There are no classes such as \\d: write [0-9].")
        if self.at == len(self.pattern):
            raise self.error("a character", "Finish the pattern.")
        self.at += 1
        self.named.add(self.pattern[self.at - 1])
        return self.pattern[self.at - 1]

    def skip(self, mark: str) -> bool:
        if self.pattern[self.at : self.at + 1] != mark:
            return False
        self.at += 1
        return True

    def error(self, expected: str, remedy: str) -> ValueError:
        got = repr(self.pattern[self.at]) if self.at < len(self.pattern) else "the end"
        return ValueError(f"regex: expected {expected} at position {self.at} of {self.pattern!r}, got {got}. {remedy}")


class _Steps:
    """A nondeterministic automaton under construction: free steps, and steps on symbols."""

    def __init__(self, alphabet: frozenset[str]):
        self.alphabet = alphabet
        self.free: list[list[int]] = []
        self.reading: list[list[tuple[frozenset[str], int]]] = []

    def state(self) -> int:
        _check_size(len(self.free) // 20)  # a deterministic automaton can be as much smaller
        self.free.append([])
        self.reading.append([])
        return len(self.free) - 1

    def build(self, tree: object, start: int, end: int) -> None:
        """Adds what leads from ``start`` to ``end`` by exactly the strings of the tree."""
        match tree:
            case _Symbols(named, complement):
                self.reading[start].append((self.alphabet - named if complement else named, end))
            case _Either(parts):
                for part in parts:
                    self.build(part, start, end)
            case _Sequence(parts):
                for part in parts:
                    after = self.state()
                    self.build(part, start, after)
                    start = after
                self.free[start].append(end)
            case _Repeat(part, least, most):
                for _ in range(least):
                    after = self.state()
                    self.build(part, start, after)
                    start = after
                if most is None:
                    loop = self.state()
                    self.free[start].append(loop)
                    self.build(part, loop, loop)
                    start = loop
                for _ in range((most or least) - least):
                    self.free[start].append(end)
                    after = self.state()
                    self.build(part, start, after)
                    start = after
                self.free[start].append(end)

    def closure(self, states: set[int]) -> frozenset[int]:
        """The states and all that free steps reach from them."""
        reached, todo = set(states), list(states)
        while todo:
            for target in self.free[todo.pop()]:
                if target not in reached:
                    reached.add(target)
                    todo.append(target)
        return frozenset(reached)


def _subsets(steps: _Steps, start: int, end: int, symbols: tuple[str, ...]) -> DFA:
    first = steps.closure({start})
    numbers, queue, rows = {first: 0}, [first], []
    for subset in queue:
        row = []
        for symbol in symbols:
            reached = {target for q in subset for named, target in steps.reading[q] if symbol in named}
            after = steps.closure(reached)
            if after not in numbers:
                _check_size(len(numbers))
                numbers[after] = len(numbers)
                queue.append(after)
            row.append(numbers[after])
        rows.append(row)
    return table(rows, [number for subset, number in numbers.items() if end in subset], alphabet=symbols)


def _check_size(states: int) -> None:
    if states >= LARGEST:
        raise ValueError(
            f"regex: expected an automaton of at most {LARGEST:,} states, got more. Repeat less often, or nest less."
        )
