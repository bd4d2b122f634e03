"""Early stopping: training ends when a loss no longer falls, with the parameters of its lowest value."""

from collections.abc import Mapping
from typing import NamedTuple

from flax.training.early_stopping import EarlyStopping

from seqjax.recipes.running.run import Run


class Patience(NamedTuple):
    """Looks at one number of a run's evaluations. All it knows is in the run's folder, so that a run can be resumed.

    Attributes:
      run: whose records are looked at; the checkpoint of the lowest value stays among its checkpoints.
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

    def improved(self, numbers: Mapping[str, float]) -> float | None:
        """The value of an evaluation that has just been recorded, if it is the lowest so far."""
        value = numbers[self.measure]
        return value if all(value < record[self.measure] for record in self._records()[:-1]) else None

    def lowest(self) -> dict[str, float]:
        """The record of the evaluation with the lowest value."""
        return min(self._records(), key=lambda record: record[self.measure])

    def _records(self) -> list[dict[str, float]]:
        return [record for record in self.run.metrics() if self.measure in record]
