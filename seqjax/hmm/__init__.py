"""Hidden Markov models: inference, decoding, learning and sampling, all in the log domain.

Any record with ``log_initial [N]``, ``log_transition [N, N]`` (row i, column j: from i to j) and
``evidence(xs) -> [T, *B, N]`` is a model here: `HMM`, `GaussianHMM`, and `Chain`, whose observations are the evidence
itself (the scores of a network, say). Inference does not ask that rows sum to 1: over any potentials, p(xs) below
reads as their partition function; `crf` is built on that.
"""

from seqjax.hmm import crf
from seqjax.hmm.cells import belief_cell, cell, viterbi_cell
from seqjax.hmm.inference import (
    Backward,
    Counts,
    Forward,
    Posterior,
    backward,
    expected_counts,
    forward,
    posterior,
)
from seqjax.hmm.learning import Fit, fit
from seqjax.hmm.models import (
    HMM,
    MISSING,
    Chain,
    GaussianHMM,
    check,
    from_probabilities,
    normalise,
    random,
    random_gaussian,
)
from seqjax.hmm.paths import Path, backtrack, log_joint, sample, sample_paths, top_paths, viterbi

__all__ = [
    "HMM",
    "MISSING",
    "Backward",
    "Chain",
    "Counts",
    "Fit",
    "Forward",
    "GaussianHMM",
    "Path",
    "Posterior",
    "backtrack",
    "backward",
    "belief_cell",
    "cell",
    "check",
    "crf",
    "expected_counts",
    "fit",
    "forward",
    "from_probabilities",
    "log_joint",
    "normalise",
    "posterior",
    "random",
    "random_gaussian",
    "sample",
    "sample_paths",
    "top_paths",
    "viterbi",
    "viterbi_cell",
]
