"""How a recurrence is to be run, where it was measured: `Settings`, and files of them.

1. `cases`: a `Case` is what was measured: a step, its shapes and types, which flags it had, on which devices.
2. `record`: `Settings` are an engine, a memory, a chunk, a number of devices, and the case they are of.
3. `files`: many of them in a JSON file, of one set of versions.
4. `books`: where ``engine="auto"`` looks them up, and only while it is asked to: in `tuned`, by SEQJAX_SETTINGS, in a
   `seqjax.train_step` that was given some. `chosen` is what `seqjax.unroll` asks.

`seqjax.tune` measures them; nothing here runs anything.
"""

from seqjax.settings.books import tuned
from seqjax.settings.cases import Case
from seqjax.settings.record import Settings

__all__ = ["Case", "Settings", "tuned"]
