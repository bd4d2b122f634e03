"""Reading an automaton out of a network: its states fall into clusters, and a cluster is a state."""

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import checks
from seqjax.automata.dfa import DFA, minimise, run
from seqjax.base import Array, Cell, PyTree
from seqjax.transforms.trajectory import with_states
from seqjax.unroll import unroll


class Extraction(NamedTuple):
    """What was read out of a network.

    Attributes:
      dfa: the automaton, minimal.
      agreement: the share of strings on which it decides like the network.
      clusters: how many clusters of states were needed.
      centres: their centres ``[clusters, h]``, the leaves of the state side by side.
    """

    dfa: DFA
    agreement: float
    clusters: int
    centres: np.ndarray


def extract(
    cell: Cell,
    params: PyTree,
    inputs: PyTree,
    accepts: Callable[[PyTree], Array],
    *,
    length: int = 8,
    max_clusters: int = 20,
    agreement: float = 1.0,
    alphabet: Sequence[Hashable] | None = None,
) -> Extraction:
    """An automaton that decides like a trained network.

    The network reads every string up to a length. Its states are clustered, with as few clusters as it takes; the
    member nearest to a cluster's centre shows where each symbol leads from there. The first automaton that agrees
    with the network on the strings is minimised and returned.

    Args:
      cell: the network's recurrence.
      params: its parameters.
      inputs: the input of each symbol, leaves ``[V, ...]`` (``jnp.eye(V)`` for one-hot symbols).
      accepts: the decision, from outputs ``y [*B, ...]`` to ``[*B]`` of bool.
      length: of the longest strings; there are ``V**length`` of them.
      max_clusters: the most clusters to try.
      agreement: the share of strings (of lengths 1 to ``length``) that must be decided alike.
      alphabet: names of the symbols; 0 … V-1 if None.

    Returns:
      The automaton and how well it agrees. A network decides only after its first tick; where no string leads back to
      the start's cluster, the empty string is decided so that the automaton is smaller.

    Raises:
      ValueError: no automaton of up to ``max_clusters`` states agrees.

    References:
      Giles, Miller, Chen, Chen, Sun and Lee (1992), Learning and extracting finite state automata with second-order
      recurrent neural networks. https://doi.org/10.1162/neco.1992.4.3.393
      Omlin and Giles (1996), Extraction of rules from discrete-time recurrent neural networks.
      https://doi.org/10.1016/0893-6080(95)00086-0
    """
    checks.sizes("extract", length=length, max_clusters=max_clusters)
    symbols = len(jax.tree.leaves(inputs)[0])
    names = tuple(range(symbols)) if alphabet is None else tuple(alphabet)
    if len(names) != symbols:
        raise ValueError(f"extract: expected {symbols} symbols in alphabet, got {len(names)}. Name each input once.")
    points, decisions, strings = _read(cell, params, inputs, accepts, symbols, length)
    # Points are prefixes by length, then order: from n, symbol a leads to point n V + 1 + a.
    inner = np.arange((len(points) - 1) // symbols) if symbols > 1 else np.arange(length)
    successor = inner[:, None] * symbols + 1 + np.arange(symbols)
    best = 0.0
    for clusters in range(1, max_clusters + 1):
        member, centres = _cluster(points, clusters)
        shows = inner[_distance(points[inner], centres).argmin(0)]
        votes = np.zeros((clusters, 2))
        np.add.at(votes, (member[1:], decisions[1:].astype(int)), 1)
        dfa = DFA(member[successor[shows]].astype(np.int32), votes[:, 1] > votes[:, 0], int(member[0]), names)
        states = run(dfa, strings)
        decided = np.concatenate([dfa.accepting[states[t, s]] for t, s in enumerate(_prefixes(symbols, length))])
        best = max(best, agreed := float((decided == decisions[1:]).mean()))
        if agreed >= agreement:
            flags = [dfa.accepting]
            if not votes[dfa.start].any():
                flags.append(np.where(np.arange(clusters) == dfa.start, True, dfa.accepting))
            smallest = min((minimise(dfa._replace(accepting=f)) for f in flags), key=lambda d: len(d.accepting))
            return Extraction(smallest, agreed, clusters, centres)
    raise ValueError(
        f"extract: expected an automaton of at most {max_clusters} states to agree on {agreement:.4g} of the strings, "
        f"got {best:.4g} at best. Train the network further, or raise max_clusters or lower agreement."
    )


def _read(
    cell: Cell, params: PyTree, inputs: PyTree, accepts: Callable, symbols: int, length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """States ``[P, h]`` and decisions ``[P]`` after every prefix, the empty one first, and the strings ``[T, V^T]``."""
    strings = np.stack([g.ravel() for g in np.meshgrid(*[np.arange(symbols, dtype=np.int32)] * length, indexing="ij")])

    start = cell.initial_state(params, strings.shape[1:])
    xs = jax.tree.map(lambda leaf: jnp.asarray(leaf)[strings], inputs)
    _, (ys, states) = unroll(with_states(cell), params, start, xs)

    def flat(state: PyTree, axes: int) -> np.ndarray:
        leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(state)]
        return np.concatenate([leaf.reshape(*leaf.shape[:axes], -1) for leaf in leaves], -1)

    after, decided = flat(states, 2), np.asarray(accepts(ys))
    prefixes = list(enumerate(_prefixes(symbols, length)))
    points = np.concatenate([flat(start, 1)[:1], *(after[t, s] for t, s in prefixes)])
    return points, np.concatenate([[False], *(decided[t, s] for t, s in prefixes)]), strings


def _prefixes(symbols: int, length: int) -> list[slice]:
    """For each tick, one of the sorted strings a prefix."""
    return [slice(None, None, symbols ** (length - t - 1)) for t in range(length)]


def _cluster(points: np.ndarray, clusters: int, rounds: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """k-means from centres that lie farthest apart, the first point first; ``(member [P], centres [k, h])``."""
    chosen, nearest = [0], _distance(points, points[:1])[:, 0]
    while len(chosen) < clusters:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, _distance(points, points[chosen[-1:]])[:, 0])
    centres = points[chosen]
    for _ in range(rounds):
        member = _distance(points, centres).argmin(1)
        moved = np.stack([points[member == k].mean(0) if (member == k).any() else c for k, c in enumerate(centres)])
        if np.array_equal(moved, centres):
            break
        centres = moved
    return _distance(points, centres).argmin(1), centres


def _distance(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Squared distances ``[P, k]``."""
    return np.stack([((points - centre) ** 2).sum(-1) for centre in centres], -1)
