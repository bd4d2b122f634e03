"""Sentences by rule: what sounds alike is told apart by the words around it, a pear in a salad, a pair of shoes."""

import itertools

import numpy as np

FRUITS = ("apple", "pear", "plum", "peach", "orange", "melon")
DISHES = ("salad", "tart", "cake", "pie")
CLOTHES = ("shoes", "socks", "gloves", "trousers", "boots")
KINDS = ("old", "new", "warm", "small")
WHOSE = ("the", "my", "our", "this", "that")

ASKED = ("the apple and pear salad", "the apple and pair salad")


def salads() -> str:
    """A text of these sentences, one a line, in one order; the sentence that is asked about is not among them."""
    dishes = [
        f"{whose} {one} and {other} {dish}"
        for whose, (one, other), dish in itertools.product(WHOSE, itertools.permutations(FRUITS, 2), DISHES)
    ]
    pairs = [f"{whose} pair of {clothes}" for whose, clothes in itertools.product(WHOSE, CLOTHES)]
    pairs += [f"{whose} pair of {kind} {clothes}" for whose, kind, clothes in itertools.product(WHOSE, KINDS, CLOTHES)]
    sentences = [sentence for sentence in dishes + pairs if sentence not in ASKED]
    return "".join(f"{sentences[i]}\n" for i in np.random.default_rng(0).permutation(len(sentences)))
