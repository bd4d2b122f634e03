"""Which of many cases run every time: one of each kind, and what defines a cell or layer for all of them."""

import pytest


def quick(cases, *chosen):
    """The cases, of which only the chosen ones run every time; the others are marked slow."""
    assert set(chosen) <= set(cases), f"no such case: {sorted(set(chosen) - set(cases))}"
    return [case if case in chosen else pytest.param(case, marks=pytest.mark.slow) for case in cases]


def all_but(cases, *slow):
    """The cases, of which the slow ones do not run every time."""
    return quick(cases, *(case for case in cases if case not in slow))
