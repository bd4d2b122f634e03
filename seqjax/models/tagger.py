"""One label a word, from the words on both sides and their characters."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax import checks
from seqjax.base import Array, Layer, drawn_state
from seqjax.cells.lstm import lstm
from seqjax.layers.affine import dense
from seqjax.layers.compose import serial
from seqjax.layers.inner import split
from seqjax.layers.symbols import embedding, look_up, standard_normal
from seqjax.layers.ticks import mapped
from seqjax.models.body import MakeCell, deep
from seqjax.records import maker
from seqjax.unroll import unroll


class Words(NamedTuple):
    """Words ``ids [T, *B]`` and their ``characters [T, *B, C]``, right-padded with 0."""

    ids: Array
    characters: Array


class SpellingParams(NamedTuple):
    """``words [v, d]``, ``characters [c, e]``, and two readers of characters."""

    words: Array
    characters: Array
    forward: tuple
    backward: tuple


@maker
def spelled_words(
    vocabulary_size: int,
    size: int,
    characters: int,
    character_size: int,
    hidden_size: int,
    *,
    cell: MakeCell = lstm,
) -> Layer:
    """Words as vectors that know how they are written.

        y = [W[word], forward reader's last output, backward reader's last output]

    Two recurrent readers run over the characters of each word, from both ends. Character 0 is padding.

    Args:
      vocabulary_size: v, of words.
      size: d, features a word.
      characters: c, how many characters, padding included.
      character_size: e, features a character.
      hidden_size: h, units a reader.
      cell: ``(input_size, hidden_size) -> Cell``.

    Returns:
      A layer from `Words` to ``[T, *B, d + 2h]``.

    Raises:
      ValueError: a size below 1.

    References:
      Ling et al. (2015), Finding function in form: compositional character models for open vocabulary word
      representation. https://arxiv.org/abs/1508.02096
    """
    checks.sizes("spelled_words", vocabulary_size=vocabulary_size, size=size, characters=characters)
    reader = cell(character_size, hidden_size)

    def init(key: Array) -> SpellingParams:
        keys = jax.random.split(key, 4)
        kind = jnp.zeros(()).dtype
        return SpellingParams(
            standard_normal(keys[0], (vocabulary_size, size), kind),
            standard_normal(keys[1], (characters, character_size), kind),
            reader.init(keys[2]),
            reader.init(keys[3]),
        )

    def function(params: SpellingParams, words: Words, key: Array | None) -> Array:
        # the batch in front of the words, so that noise is drawn by its first axis
        letters = jnp.moveaxis(words.characters, (-1, 0), (0, -1))
        mask = letters != 0
        xs = look_up("spelled_words", params.characters, letters)
        read = []
        both = (params.forward, False), (params.backward, True)
        for (p, reverse), state_key in zip(both, split(key, 2)):
            state = drawn_state(reader, p, letters.shape[1:], state_key)
            _, ys = unroll(reader, p, state, xs, mask=mask, reverse=reverse)
            end = jnp.maximum(mask.sum(0) - 1, 0)
            last = jnp.zeros_like(end) if reverse else end
            read.append(jnp.take_along_axis(ys, last[None, ..., None], 0)[0])
        vectors = look_up("spelled_words", params.words, words.ids)
        read = [jnp.moveaxis(y, -2, 0).astype(vectors.dtype) for y in read]
        return jnp.concatenate([vectors, *read], axis=-1)

    return mapped("spelled_words", function, init)


@maker
def tagger(
    vocabulary_size: int,
    tags: int,
    *,
    embedding_size: int = 100,
    hidden_size: int = 100,
    characters: int | None = None,
    character_size: int = 25,
    character_hidden_size: int = 25,
    cell: MakeCell = lstm,
    layers: int = 1,
    both_ways: bool = True,
    dropout: float = 0.0,
) -> Layer:
    """A label for every word: aligned many to many.

        y_t = dense(bidirectional(x)_t)      x_t = embedding(word_t), and its spelling where characters are
        given

    Args:
      vocabulary_size: v, of words.
      tags: how many labels.
      embedding_size: features a word.
      hidden_size: units a layer and direction.
      characters: how many characters there are, padding (0) included; the input is `Words` then, else word
        numbers.
      character_size: features a character.
      character_hidden_size: units of each reader of characters.
      cell: ``(input_size, hidden_size) -> Cell``.
      layers: recurrent layers.
      both_ways: read in both directions; one direction is the control that cannot see later words.
      dropout: rate before each recurrent layer and behind the last.

    Returns:
      A layer to logits ``[T, *B, tags]``.

    Raises:
      ValueError: a size below 1 or a rate outside [0, 1).

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> model = sj.models.tagger(50, 7, embedding_size=8, hidden_size=8, characters=30)
      >>> params = model.init(jax.random.key(0))
      >>> words = sj.models.Words(jnp.ones((5, 2), int), jnp.ones((5, 2, 9), int))
      >>> model.apply(params, model.initial_state(params, (2,)), words)[1].shape
      (5, 2, 7)

    References:
      Lample et al. (2016), Neural architectures for named entity recognition. https://arxiv.org/abs/1603.01360
      Plank, Søgaard and Goldberg (2016), Multilingual part-of-speech tagging with bidirectional long
      short-term memory models and auxiliary loss. https://arxiv.org/abs/1604.05529
    """
    checks.sizes("tagger", tags=tags)
    if characters is None:
        words, size = embedding(vocabulary_size, embedding_size), embedding_size
    else:
        words = spelled_words(
            vocabulary_size, embedding_size, characters, character_size, character_hidden_size, cell=cell
        )
        size = embedding_size + 2 * character_hidden_size
    body = deep(size, hidden_size, cell=cell, layers=layers, both_ways=both_ways, rate=dropout)
    return serial(words, body, dense(hidden_size * (1 + both_ways), tags))
