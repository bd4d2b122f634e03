"""Hidden Markov models: inference, decoding, learning and sampling, all in the log domain.

Any record with ``log_initial [N]``, ``log_transition`` (``[N, N]``, row i, column j: from i to j; ``[T-1, N, N]`` or a
function of the inputs where it changes from step to step) and ``evidence(xs) -> [T, *B, N]`` is a model here: `HMM`,
`GaussianHMM`, and `Chain`, whose observations are the evidence itself (the scores of a network, say). Inference does
not ask that rows sum to 1: over any potentials, p(xs) below reads as their partition function; `crf` is built on that.

    >>> import jax
    >>> from seqjax import hmm
    >>> model = hmm.random(jax.random.key(0), 3, 5)
    >>> states, xs = hmm.sample(model, jax.random.key(1), 20)
    >>> hmm.posterior(model, xs).log_marginals.shape, hmm.viterbi(model, xs).states.shape
    ((20, 3), (20,))

In order of reading:

- `HMM`, `GaussianHMM`, `Chain`, and how they are made: `random`, `from_probabilities`, `normalise`. (models, on rows;
  what is asked of a model in observations, transitions that change in varying)
- `forward`, `backward`, `posterior`, `expected_counts`: sums over paths. (inference, on messages;
  what is expected, and so derivatives, in likelihood)
- `fixed_lag`, and `lag_cell` a tick at a time: the posterior after a few more ticks. (lagged)
- `viterbi`, `top_paths`, `sample_paths`, `sample`, `log_joint`: paths. (paths)
- `fit`: expectation maximisation, with pseudo-counts from a `Prior`. (learning)
- `cell`, `viterbi_cell`, `belief_cell`: the same as recurrences, a tick at a time. (cells)
- `crf`: linear-chain conditional random fields.
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
from seqjax.hmm.lagged import LagState, fixed_lag, lag_cell
from seqjax.hmm.learning import Fit, Prior, fit
from seqjax.hmm.models import (
    HMM,
    MISSING,
    Chain,
    GaussianHMM,
    from_probabilities,
    random,
    random_gaussian,
)
from seqjax.hmm.paths import Path, backtrack, log_joint, sample, sample_paths, top_paths, viterbi
from seqjax.hmm.rows import check, normalise

__all__ = [
    "HMM",
    "MISSING",
    "Backward",
    "Chain",
    "Counts",
    "Fit",
    "Forward",
    "GaussianHMM",
    "LagState",
    "Path",
    "Posterior",
    "Prior",
    "backtrack",
    "backward",
    "belief_cell",
    "cell",
    "check",
    "crf",
    "expected_counts",
    "fit",
    "fixed_lag",
    "forward",
    "from_probabilities",
    "lag_cell",
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
