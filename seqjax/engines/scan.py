"""The plain engine: `jax.lax.scan` over the step, differentiated by JAX. Every other engine is compared with it."""

from typing import Any

import jax

from seqjax.base import PyTree
from seqjax.engines import costs, memory
from seqjax.engines.base import Costs, Problem, Work
from seqjax.engines.memory import Schedule

# Values a tick that are assumed for each of the state's, as the step is not traced to be counted: an LSTM computes 15.
VALUES = 32


def prepare(problem: Problem) -> "Scan":
    """`jax.lax.scan` over the step."""
    return Scan(problem)


class Scan:
    """A step, run by `jax.lax.scan`."""

    name = "scan"
    forwards = ""
    keeps = ("all", "carries", "nothing")

    def __init__(self, problem: Problem, why: tuple[str, ...] = ()):
        """Wraps masks and resets into the step."""
        self.why, self.length, self.reverse = why, problem.length, problem.reverse
        self.step, self.params, self.state, self.xs = problem.wrapped()

    def run(self, schedule: Schedule) -> tuple[PyTree, PyTree]:
        """With ``keep="carries"`` the gradient recomputes every tick from the state before it."""
        if schedule.keep != "nothing":
            return self._chunk(self.params, self.state, self.xs, length=self.length, keep=schedule.keep)
        leaves, tree = jax.tree.flatten(self.state)
        inputs, inputs_tree = jax.tree.flatten(self.xs)
        y_tree: Any = None

        def chunk(state: list, xs: list, *, length: int) -> tuple[list, list]:
            nonlocal y_tree
            trees = tree.unflatten(state), inputs_tree.unflatten(xs)
            new, ys = self._chunk(self.params, *trees, length=length, keep="all")
            ys, y_tree = jax.tree.flatten(ys)
            return jax.tree.leaves(new), ys

        state, ys = memory.run(chunk, leaves, inputs, schedule, length=self.length, reverse=self.reverse)
        return tree.unflatten(state), y_tree.unflatten(ys)

    def _chunk(self, params: PyTree, state: PyTree, xs: PyTree, *, length: int, keep: str) -> tuple[PyTree, PyTree]:
        def body(state: PyTree, x: PyTree) -> tuple[PyTree, PyTree]:
            return self.step(params, state, x)

        if keep == "carries":
            body = jax.checkpoint(body, prevent_cse=False)
        return memory.scan(body, state, xs, length=length, reverse=self.reverse)

    def chunk(self, length: int, *, keep: str = "carries", forwards: bool = False) -> int:
        """All of time: there is no batched work that chunks could keep small."""
        return length

    def tick_bytes(self) -> int:
        """A guess from the size of the state."""
        return VALUES * costs.state_bytes(self.state)

    def costs(self) -> Costs:
        """Counted from a short chunk."""
        counted = costs.kept_bytes(self._chunk, self.params, self.state, self.xs)
        # A chunk that runs again has inputs, outputs and cotangents of its own.
        return counted._replace(at_work={"nothing": counted.all + counted.inputs + 2 * counted.outputs}, tickwise=True)

    def work(self) -> Work:
        """Everything is in one loop."""
        return Work()
