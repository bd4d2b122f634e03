"""What runs of each command are compared by: a number of their evaluations, with its unit.

Numbers of one unit are drawn over each other. The first measure of a command is its own; others are those that it
shares with another command, such as bits a character.
"""

import fnmatch
import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple


class Measure(NamedTuple):
    """A number of evaluations.

    Attributes:
      field: its name in a run's records; ``*`` stands for the name of a model, where several are trained side by side.
      label: the quantity and its unit.
      higher: whether more of it is better.
      log: whether it is drawn on a logarithmic scale.
      floors: the names of what learns nothing, in a run's result, that has the same unit.
    """

    field: str
    label: str
    higher: bool = False
    log: bool = False
    floors: str = "*"

    @property
    def axis(self) -> str:
        """The label, of what is held back.

        >>> Measure("exact", "sums right (share)").axis
        'sums right, held back (share)'
        """
        quantity, bracket, unit = self.label.partition(" (")
        return f"{quantity}, held back{bracket}{unit}"

    def models(self, names: Iterable[str]) -> dict[str, str]:
        """The fields among those of a record, by the name of the model.

        >>> Measure("nats_*", "cross-entropy (nats/word)").models(["step", "nats_recurrent"])
        {'recurrent': 'nats_recurrent'}
        """
        before, _, after = self.field.partition("*")
        found = (name for name in names if name != "step" and fnmatch.fnmatchcase(name, self.field))
        return {name.removeprefix(before).removesuffix(after) if "*" in self.field else "": name for name in found}

    def floor(self, floors: Mapping[str, float | None]) -> dict[str, float]:
        """Those of its unit that came to a number."""
        return {name: x for name, x in floors.items() if x is not None and fnmatch.fnmatchcase(name, self.floors)}


def of(recipe: str, options: Mapping[str, Any]) -> list[Measure]:
    """The measures of a command's runs, its own first; none for one whose runs are not trained by updates."""
    return MEASURES[recipe](options) if recipe in MEASURES else []


def share(field: str, what: str, floors: str = "*") -> Measure:
    """A share of what is held back that is right."""
    return Measure(field, f"{what} (share)", higher=True, floors=floors)


def of_memory(options: Mapping[str, Any]) -> list[Measure]:
    """By the task's own measure."""
    task = importlib.import_module("seqjax.recipes.memory").TASKS[options["task"]]
    kind = task.make(options["length"] or task.length).measure
    label = {"cross-entropy": "cross-entropy (nats/tick)", "accuracy": "right answers (share)"}.get(kind, kind)
    return [Measure("held_back", label, higher=kind == "accuracy", log=kind != "accuracy")]


def of_words(options: Mapping[str, Any]) -> list[Measure]:
    """Perplexities are of words: those of pieces compare with no others."""
    return (
        [BITS]
        if options["split"] == "subwords"
        else [Measure("validation_perplexity", "perplexity (words)", log=True), BITS]
    )


BITS = Measure("validation_bits", "bits a character", floors="")
MEASURES: dict[str, Callable[[Mapping[str, Any]], list[Measure]]] = {
    "charlm": lambda o: [Measure("validation_loss", "cross-entropy (nats/character)"), BITS],
    "wordlm": of_words,
    "ngramlm": lambda o: [Measure("nats_*", f"cross-entropy (nats/{o['symbols'][:-1]})", floors="[!1]*")],
    "hmm-learn": lambda o: [Measure("nats_*", f"cross-entropy (nats/{o['symbols'][:-1]})")],
    "classify": lambda o: [share("accuracy_*", "right answers")],
    "tag": lambda o: [share("f1_*", "F1 of entities", "f1,*"), share("accuracy_*", "tags right", "accuracy,*")],
    "translate": lambda o: [share("exact_*", "sentences translated exactly")],
    "addition": lambda o: [share("exact", "sums right")],
    "execute": lambda o: [share("exact", "results right")],
    "agreement": lambda o: [share("trained_*", "right verbs")],
    "automaton": lambda o: [share("network_accuracy", "letters right")],
    "caption": lambda o: [share("exact", "captions right")],
    "memory": of_memory,
    "music": lambda o: [Measure("valid", "cross-entropy (nats/frame)")],
    "forecast": lambda o: [
        Measure(
            "furthest",
            f"error {o['horizon']} ticks ahead (standard deviations)",
            log=True,
            floors=f"*, {o['horizon']} ahead",
        )
    ],
    "speech": lambda o: [Measure("*", "wrong symbols (share)", log=True)],
}
