"""Text from a trained character language model."""

import dataclasses

import numpy as np
import tyro

import seqjax as sj
from seqjax.base import PyTree
from seqjax.recipes.language import characters
from seqjax.recipes.language.text import write
from seqjax.recipes.running.options import Folder, TextOrNone, check_not_negative, check_seed, check_sizes
from seqjax.tasks.vocabulary import Vocabulary


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
    seed: int = 0
    """Another seed, another text."""

    def check(self, who: str) -> None:
        """Refuses numbers out of range."""
        check_sizes(who, self, "length")
        check_not_negative(who, self, "temperature")
        check_seed(who, self.seed)


def main(options: Options) -> None:
    """``python -m seqjax sample RUN``."""
    model, params, vocabulary = characters.trained("sample", options.run)
    prompt = characters.encode_prompt("sample", vocabulary, options.prompt)
    print(written(model, params, vocabulary, prompt, options))


def written(model: sj.Layer, params: PyTree, vocabulary: Vocabulary, prompt: np.ndarray, options: Options) -> str:
    """The prompt, and how the model goes on with it."""
    more = write(model, params, prompt, length=options.length, temperature=options.temperature, seed=options.seed)
    return "".join(vocabulary.decode([*prompt, *more]))
