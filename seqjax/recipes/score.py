"""How well a trained character language model predicts a text, which is read in place."""

import dataclasses

import tyro

import seqjax as sj
from seqjax.base import PyTree
from seqjax.recipes.language import characters
from seqjax.recipes.language.text import log_loss, scorer
from seqjax.recipes.running.options import BadInput, File, Folder, ReadingOptions, bad_input
from seqjax.tasks.stored import Sliced
from seqjax.tasks.texts import open_text


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(ReadingOptions):
    """Measures how well a trained character language model predicts a text."""

    run: tyro.conf.Positional[Folder]
    """The folder of a charlm run."""
    text: File
    """A UTF-8 text in the characters of the training text."""

    def check(self, who: str) -> None:
        """Files are checked when they are read."""
        super().check(who)


def main(options: Options) -> None:
    """``python -m seqjax score RUN --text FILE``."""
    model, params, vocabulary = characters.trained("score", options.run)
    with bad_input("score"):
        text = open_text(options.text)
    numbers = characters.in_place(f"score: expected {options.text}", vocabulary, text)
    if len(numbers) < 2:
        raise BadInput(f"score: expected a text of at least 2 characters, got {len(numbers)}. Give a longer one.")
    nats, count = -log_probability(model, params, numbers), len(numbers) - 1
    print(f"{count:,} characters after the first")
    print(f"{sj.bits_per_character(nats / count):.4f} bits a character, {nats / count:.4f} nats a character")
    print(f"log-probability {-nats:.4f} nats")


def log_probability(model: sj.Layer, params: PyTree, numbers: Sliced) -> float:
    """Of every character but the first, given those before it, in nats."""
    nats, _ = log_loss(scorer(model), model, params, numbers, columns=1, lead=0)
    return -nats
