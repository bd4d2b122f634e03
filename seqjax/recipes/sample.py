"""Text from a trained character language model."""

import dataclasses
from typing import Any

import numpy as np
import tyro

import seqjax as sj
from seqjax.base import PyTree
from seqjax.recipes.language import characters
from seqjax.recipes.language.text import write
from seqjax.recipes.running.options import (
    Folder,
    TextOrNone,
    check_left_out,
    check_not_negative,
    check_seed,
    check_sizes,
    flag,
)
from seqjax.tasks.vocabulary import Vocabulary

NARROWING = ("top_k", "top_p", "typical_p")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Writes text with a trained character language model."""

    run: tyro.conf.Positional[Folder]
    """The folder of a charlm run."""
    prompt: TextOrNone = None
    """What the text begins with; a line break if not given."""
    length: int = 500
    """Characters to write."""
    temperature: float = 0.8
    """1 is the model's own distribution, 0 the likeliest character each time."""
    top_k: int | None = None
    """Draw among the so many likeliest characters."""
    top_p: float | None = None
    """Draw among the fewest characters with at least this probability in all."""
    typical_p: float | None = None
    """The same of those characters that are about as surprising as the next one is expected to be."""
    seed: int = 0
    """Another seed, another text."""

    def check(self, who: str) -> None:
        """Refuses numbers out of range."""
        check_sizes(who, self, "length")
        check_not_negative(who, self, "temperature")
        check_seed(who, self.seed)
        if self.temperature == 0:
            check_left_out(who, self, "--temperature 0", *NARROWING)
        for name in NARROWING:
            value, most = getattr(self, name), 1 if name != "top_k" else float("inf")
            if value is not None and not 0 < value <= most:
                raise ValueError(
                    f"{who}: expected {flag(name)} above 0{' and at most 1' * (most == 1)}, got {value}. Leave it out."
                )


def main(options: Options) -> None:
    """``python -m seqjax sample RUN``."""
    model, params, vocabulary = characters.trained("sample", options.run)
    prompt = characters.encode_prompt("sample", vocabulary, options.prompt)
    print(written(model, params, vocabulary, prompt, options))


def narrowing(options: Options) -> dict[str, Any]:
    """How a draw is narrowed, as `seqjax.sample` takes it."""
    return {name: getattr(options, name) for name in NARROWING}


def written(model: sj.Layer, params: PyTree, vocabulary: Vocabulary, prompt: np.ndarray, options: Options) -> str:
    """The prompt, and how the model goes on with it."""
    how = narrowing(options) | {"length": options.length, "temperature": options.temperature, "seed": options.seed}
    more = write(model, params, prompt, **how)
    return "".join(vocabulary.decode([*prompt, *more]))
