"""Runs that ask for their updates, so that several can be under way at once and have them made in one program.

A command that trains is a generator: it yields an `Update` where it wants one made, is sent what came out, and goes on.
Decorated by `trains` it is a function that runs by itself; `together` runs several, each as if it were alone.
"""

import contextlib
import functools
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqjax.base import PyTree
from seqjax.buffers import apart, owned
from seqjax.devices import in_turn, placed, shares_of
from seqjax.engines import platforms
from seqjax.recipes.running import lock
from seqjax.recipes.running.devices import recurrent_bytes
from seqjax.room import memory_of_device
from seqjax.stepping import Step

SHARE = 2  # part of the device's memory for updates made together; the rest is for evaluations

Answer = tuple[PyTree, PyTree, PyTree]


class Update(NamedTuple):
    """What a run asks for: ``step(*given) -> (train, state, metrics)``, and its number from 1."""

    step: Step
    given: tuple[PyTree, PyTree, PyTree]
    number: int


Course = Generator[Update, Answer, None]


def trains(course: Callable[[Any], Course]) -> Callable[[Any], None]:
    """Makes a function that runs from end to end of one that yields its updates; that one is its ``course``."""

    @functools.wraps(course)
    def main(options: Any) -> None:
        with lock.kept():
            together({"": course(options)}, lambda name: contextlib.nullcontext())

    main.course = course  # type: ignore[attr-defined]
    return main


def together(
    courses: Mapping[str, Course],
    turn: Callable[[str], contextlib.AbstractContextManager],
    *,
    seen: Callable[[Mapping[str, Update]], None] = lambda waiting: None,
    catch: tuple[type[BaseException], ...] = (),
    tell: Callable[[str], None] = print,
) -> dict[str, BaseException]:
    """Runs to their ends, a turn each between updates.

    Args:
      courses: by name.
      turn: what surrounds a run's turns.
      seen: is shown what all that are under way ask for, before it is made.
      catch: errors that end a run but not the others.
      tell: is told how updates are made, where there is a choice.

    Returns:
      The errors that were caught, by name.
    """
    makers, failures, waiting = Makers(tell), {}, dict[str, Update]()

    def go(name: str, proceed: Callable[[], Update]) -> None:
        waiting.pop(name, None)
        try:
            with turn(name):
                waiting[name] = proceed()
        except StopIteration:
            return
        except catch as error:
            failures[name] = error

    try:
        for name, course in courses.items():
            go(name, functools.partial(next, course))
        while waiting:
            asked = dict(waiting)
            try:
                seen(asked)
                answers = makers.make(list(asked.values()))
            except BaseException as error:
                for name in asked:
                    go(name, functools.partial(courses[name].throw, error))
            else:
                for name, answer in zip(asked, answers):
                    go(name, functools.partial(courses[name].send, answer))
    finally:
        for course in courses.values():
            course.close()
    return failures


class Makers:
    """Makes updates: those of one program and one shape together, where memory allows."""

    def __init__(self, tell: Callable[[str], None]):
        """Knows no program yet."""
        self.tell, self.told = tell, set[str]()
        self.programs: list[tuple[Step, PyTree, str]] = []
        self.same_as: dict[Step, Step] = {}
        self.joint: dict[tuple, Callable | None] = {}

    def make(self, updates: Sequence[Update]) -> list[Answer]:
        """What comes out of each."""
        if len(updates) == 1:
            return [update.step(*update.given) for update in updates]
        alike: dict[tuple, list[int]] = {}
        for i, update in enumerate(updates):
            leaves, tree = jax.tree.flatten(update.given)
            form = tree, tuple(jax.typeof(leaf) for leaf in leaves)
            alike.setdefault((self._first_of(update), form), []).append(i)
        if len(alike) > 1:
            self._say("where shapes or programs differ, as vocabularies may, updates are made one after the other")
        answers: dict[int, Answer] = {}
        for (step, form), places in alike.items():
            answers |= zip(places, self._made(step, [updates[i].given for i in places], form))
        return [answers[i] for i in range(len(updates))]

    def _first_of(self, update: Update) -> Step:
        """The first step that was the same program, constants included: the text that is compiled tells."""
        step = update.step
        if step not in self.same_as:
            known = (first for first, given, text in self.programs if _text(step, given) == text)
            self.same_as[step] = next(known, step)
            if self.same_as[step] is step:
                given = jax.eval_shape(lambda given: given, update.given)
                self.programs.append((step, given, _text(step, given) or "none"))
        return self.same_as[step]

    def _made(self, step: Step, given: list[Answer], form: tuple) -> list[Answer]:
        """Updates by one step, with arguments of one form."""
        if step.mesh is not None:
            given = [placed(step.mesh, shares_of(one[2], step.in_front), one) for one in given]
        joint = self._joint(step, given, form) if len(given) > 1 else None
        if joint is None:
            return [step(*one) for one in given]
        arguments = apart(*owned(tuple(zip(*given))))
        return joint(*arguments) if step.mesh is None else in_turn(step.mesh, joint, arguments)

    def _joint(self, step: Step, given: list[Answer], form: tuple) -> Callable | None:
        """So many updates as one program, where that is faster and its memory as the compiler tells it is there."""
        key = step, len(given), form
        if key not in self.joint:
            weights = recurrent_bytes(given[0][0].params)
            # Three together, times as fast as one after the other, batches over two cores, by `python -m
            # benchmarks.seeds --devices 2`: an LSTM of 8 units 2.1, 16 1.8, 32 1.3, 64 0.96, 128 0.99. What is saved is
            # the overhead of each operation.
            if weights > platforms.planned().together:
                reason = f"on a CPU that is faster for {weights / 1e3:,.0f} kB of recurrent weights"
                self.joint[key] = None
            else:
                joint = side_by_side(step)
                used = joint.lower(*zip(*given)).compile().memory_analysis()
                parts = {"temp": 1, "argument": 1, "output": 1, "alias": -1}
                needed = sum(sign * getattr(used, f"{part}_size_in_bytes", 0) for part, sign in parts.items())
                allowed = memory_of_device() // SHARE
                reason = f"{needed / 1e6:,.1f} MB for {len(given)} at once, of {allowed / 1e6:,.0f} MB allowed"
                self.joint[key] = joint if needed <= allowed else None
            how = "together" if self.joint[key] else "one after the other"
            self._say(f"updates are made {how}", f": {reason}")
        return self.joint[key]

    def _say(self, line: str, more: str = "") -> None:
        """Once."""
        if line not in self.told:
            self.told.add(line)
            self.tell(line + more)


def _text(step: Step, given: PyTree) -> str | None:
    """The program of a step for such arguments; None if they are not its own."""
    with contextlib.suppress(TypeError, ValueError):
        return step.lower(*given).as_text()
    return None


def side_by_side(step: Step) -> Any:
    """``(trains, states, batches) -> answers``, each a sequence over runs."""

    @functools.partial(jax.jit, donate_argnums=0)
    def joint(*given: Sequence[PyTree]) -> list[Answer]:
        stacked = [jax.tree.map(lambda *leaves: jnp.stack(leaves), *each) for each in given]
        answers = jax.vmap(step)(*stacked)
        return [jax.tree.map(lambda leaf: leaf[i], answers) for i in range(len(given[0]))]  # noqa: B023

    return joint
