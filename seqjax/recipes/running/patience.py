"""Early stopping: training ends when a loss no longer falls, with the parameters of its lowest value."""

import math
from typing import NamedTuple

from flax.training.early_stopping import EarlyStopping

from seqjax.base import PyTree
from seqjax.recipes.running import checkpoints
from seqjax.recipes.running.run import Run


class Patience(NamedTuple):
    """Looks at one number of a run's evaluations. All it knows is in the run's folder, so that a run can be resumed.

    Attributes:
      run: whose records are looked at; the best parameters so far are in its folder ``best``.
      evaluations: how many without a lower value end the training.
      measure: the number's name, lower is better.
    """

    run: Run
    evaluations: int
    measure: str

    def over(self) -> bool:
        """Whether training should end."""
        stop = EarlyStopping(patience=self.evaluations - 1)
        for record in self._records():
            stop = stop.update(record[self.measure])
        return stop.should_stop

    def note(self, step: int, value: float, params: PyTree) -> None:
        """Keeps the parameters of an evaluation not yet recorded, if its value is the lowest so far."""
        if value < min((record[self.measure] for record in self._records()), default=math.inf):
            checkpoints.save(self.run.best, step, params)

    def lowest(self) -> dict[str, float]:
        """The record of the evaluation with the lowest value."""
        return min(self._records(), key=lambda record: record[self.measure])

    def _records(self) -> list[dict[str, float]]:
        return [record for record in self.run.metrics() if self.measure in record]
