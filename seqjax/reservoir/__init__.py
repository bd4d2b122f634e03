"""What surrounds a reservoir: ridge readouts, free runs, memory capacity, and whether it forgets its past.

Feedback is an input. While the readout is fitted, the teacher stands in for it (teacher forcing); in a free run the
network's own output takes its place:

    h_t = cell(h_{t-1}, [u_t, y_{t-1}])        y_t = h_t V + x_t R + c
"""

from seqjax.cells.reservoir import dense
from seqjax.reservoir.memory import Bounds, Forgetting, bounds, forgetting, memory_capacity
from seqjax.reservoir.readout import Fit, Readout, fit, fit_stream, free_run, read

__all__ = [
    "Bounds",
    "Fit",
    "Forgetting",
    "Readout",
    "bounds",
    "dense",
    "fit",
    "fit_stream",
    "forgetting",
    "free_run",
    "memory_capacity",
    "read",
]
