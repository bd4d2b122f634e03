"""Entities as spans: BIO tags to spans, and the F1 score over them."""

from collections.abc import Sequence
from typing import NamedTuple


class Span(NamedTuple):
    """Words ``start`` up to but not including ``stop`` are one entity."""

    start: int
    stop: int
    kind: str


class SpanScore(NamedTuple):
    """Shares of predicted spans that are right, of true spans that were found, and their harmonic mean."""

    precision: float
    recall: float
    f1: float


def spans(tags: Sequence[str]) -> list[Span]:
    """The entities of one sentence.

    ``B-x`` begins one, ``I-x`` goes on; an ``I-x`` with no ``x`` before it begins one too, as in the CoNLL
    script.

    Raises:
      ValueError: a tag that is neither ``O`` nor ``B-…`` nor ``I-…``.

    >>> spans(["O", "B-PER", "I-PER", "B-PER", "I-LOC"])
    [Span(start=1, stop=3, kind='PER'), Span(start=3, stop=4, kind='PER'), Span(start=4, stop=5, kind='LOC')]
    """
    found: list[Span] = []
    kind: str | None = None
    start = 0
    for i, tag in enumerate([*tags, "O"]):
        side, _, name = tag.partition("-")
        if tag != "O" and (side not in ("B", "I") or not name):
            raise ValueError(
                f"spans: expected O, B-kind or I-kind, got {tag!r} at position {i}. Convert the tags to BIO."
            )
        if kind is not None and (tag == "O" or side == "B" or name != kind):
            found.append(Span(start, i, kind))
            kind = None
        if tag != "O" and kind is None:
            kind, start = name, i
    return found


def span_f1(predicted: Sequence[Sequence[str]], true: Sequence[Sequence[str]]) -> SpanScore:
    """Precision, recall and F1 over the spans of many sentences; bounds and kind must both be right.

    Raises:
      ValueError: sentences or tags that do not line up.

    >>> span_f1([["B-PER", "O", "B-LOC"]], [["B-PER", "I-PER", "B-LOC"]])
    SpanScore(precision=0.5, recall=0.5, f1=0.5)
    """
    if [len(tags) for tags in predicted] != [len(tags) for tags in true]:
        raise ValueError("span_f1: expected as many tags in both, got sentences of other lengths. Predict every word.")
    pairs = [(set(spans(p)), set(spans(t))) for p, t in zip(predicted, true)]
    right = sum(len(p & t) for p, t in pairs)
    guessed, there = sum(len(p) for p, _ in pairs), sum(len(t) for _, t in pairs)
    precision = right / guessed if guessed else 0.0
    recall = right / there if there else 0.0
    return SpanScore(precision, recall, 2 * right / (guessed + there) if guessed + there else 0.0)
