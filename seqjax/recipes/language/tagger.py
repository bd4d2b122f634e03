"""The model of `tag`: a reader of words and of their characters, tag by tag or with a conditional random field."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

import seqjax as sj
from seqjax import models
from seqjax.base import PyTree
from seqjax.objectives import Objective
from seqjax.recipes.language.tagging import Answers, Code
from seqjax.recipes.running.cells import CELLS, CellName
from seqjax.recipes.running.learning import LearningOptions
from seqjax.recipes.running.options import check_rates, check_sizes


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaggerOptions(LearningOptions):
    """Those of the options that decide what a checkpoint holds."""

    cell: CellName = "lstm"
    """The recurrence."""
    layers: int = 1
    """Recurrent layers over the words."""
    hidden_size: int = 64
    """Units a layer and direction."""
    embedding_size: int = 64
    """Features a word."""
    character_size: int = 24
    """Features a character."""
    character_hidden_size: int = 24
    """Units of each reader of characters."""
    characters: int = 12
    """Characters read of a word: of a longer one the first third and the last two thirds of that many."""
    dropout: float = 0.3
    """Rate before and behind the recurrent layers, in [0, 1)."""
    crf: bool = False
    """Score tags together with their neighbours, by a conditional random field."""

    def check(self, who: str) -> None:
        """Refuses sizes and rates out of range."""
        super().check(who)
        check_sizes(who, self, "layers", "hidden_size", "embedding_size", "character_size", "character_hidden_size")
        check_sizes(who, self, "characters")
        check_rates(who, self, "dropout")


class Tagger(NamedTuple):
    """A model, what it is trained by, and the tags it answers."""

    model: sj.Layer
    objective: Objective
    answers: Answers


def tagger(options: TaggerOptions, code: Code, *, both_ways: bool) -> Tagger:
    """A reader of words and characters, tag by tag or with a conditional random field behind it."""
    scores = models.tagger(
        len(code.words),
        len(code.tags),
        embedding_size=options.embedding_size,
        hidden_size=options.hidden_size,
        characters=len(code.characters),
        character_size=options.character_size,
        character_hidden_size=options.character_hidden_size,
        cell=CELLS[options.cell],
        layers=options.layers,
        both_ways=both_ways,
        dropout=options.dropout,
    )
    scores = sj.mixed_precision(scores, options.products)
    if options.crf:
        model, objective = models.crf_tagger(scores, len(code.tags)), models.crf_objective(scores)
    else:
        model, objective = scores, sj.objective(scores, sj.cross_entropy)

    @jax.jit
    def answers(params: PyTree, words: models.Words, mask: jax.Array) -> jax.Array:
        _, ys = model.apply(params, model.initial_state(params, mask.shape[1:]), words, mask=mask)
        return ys if options.crf else jnp.argmax(ys, -1)

    return Tagger(model, objective, answers)
