"""A hidden Markov model thought out by hand, three tags and four words, and a network of the same weights."""

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from seqjax import hmm
from seqjax.base import Array, Cell
from seqjax.cells.elman import ElmanParams

# Rows: determiner, noun, verb; columns of the words: ball, hit, John, the.
TAGS, WORDS = ("Det", "Noun", "Verb"), ("ball", "hit", "John", "the")
TRANSITION = np.array([[0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.8, 0.1, 0.1]])
EMISSION = np.array([[0.01, 0.01, 0.01, 0.97], [0.49, 0.01, 0.49, 0.01], [0.01, 0.97, 0.01, 0.01]])


def markov_model() -> hmm.HMM:
    """Its model, the first tag uniform."""
    return hmm.from_probabilities(np.full(3, 1 / 3), TRANSITION, EMISSION)


def network() -> tuple[Cell[ElmanParams, Array], ElmanParams]:
    """h' = softmax(U h + W x - 1), from h = 0, over one-hot words: the probabilities as weights, products as sums."""
    params = ElmanParams(jnp.array(EMISSION.T), jnp.array(TRANSITION), -jnp.ones(len(TAGS)))
    return sj.elman(len(WORDS), len(TAGS), activation=jax.nn.softmax), params
