"""Which engine, memory and chunk are fastest for a recurrence at its shapes: measured, not guessed.

1. `candidates`: what is tried, without what would be the same program twice.
2. `programs`: a candidate as a program, a training step or a forward pass, and how far its results are from the scan's.
3. `rounds`: the clock, and who is timed when.
4. `table`: what is printed.
5. `tuner`: `tune`, the door.

What it finds is a `seqjax.Settings`; `seqjax.settings` keeps these in files.
"""

from seqjax.tuning.tuner import tune

__all__ = ["tune"]
