"""Small recurrent language models with decided opinions, what they write, and what may be written."""

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj

V, H, EOS = 6, 5, 1


def make(vocabulary_size=V, seed=0, scale=3.0):
    """A small recurrent model with decided opinions, as a layer, and its parameters."""
    layer = sj.serial(sj.embedding(vocabulary_size, 4), sj.recurrent(sj.elman(4, H)), sj.dense(H, vocabulary_size))
    params = layer.init(jax.random.key(seed))
    return layer, jax.tree.map(lambda p: scale * p, params)


LAYER, PARAMS = make()


def log_softmax(x):
    x = np.asarray(x)
    return x - x.max(-1, keepdims=True) - np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True))


@jax.jit
def _step(state, symbol):
    state, ys = LAYER.apply(PARAMS, state, symbol[None])
    return state, ys[0]


def step(state, symbol):
    """One example, one tick: the new state and the log-probabilities."""
    state, y = _step(state, jnp.asarray(symbol))
    return state, log_softmax(y)


@jax.jit
def _chunk(inputs):
    return LAYER.apply(PARAMS, LAYER.initial_state(PARAMS), inputs)[1]


def score(first, symbols):
    """Σ log p of a sequence by the model in one chunk."""
    inputs = np.zeros(20, int)
    inputs[: len(symbols)] = [first, *symbols[:-1]]
    return log_softmax(_chunk(inputs))[np.arange(len(symbols)), list(symbols)].sum()


def greedy_loop(first, length, eos=None, allowed=lambda symbols: range(V), prefix=()):
    symbols, state, last = [], LAYER.initial_state(PARAMS), first
    for t in range(length):
        state, log_probs = step(state, last)
        last = prefix[t] if t < len(prefix) else max(allowed(symbols), key=lambda w: log_probs[w])
        symbols.append(last)
        if last == eos:
            break
    return symbols


FIRST = jnp.array([0, 2, 3, 5], jnp.int32)


def states(batch=(4,)):
    return LAYER.initial_state(PARAMS, batch)


def rows(decoded):
    symbols = np.asarray(decoded.symbols)
    return [symbols[:n, b].tolist() for b, n in enumerate(decoded.lengths.tolist())]


def narrowed(log_probs, temperature=1.0, top_k=V, top_p=1.0, typical_p=1.0, forbidden=()):
    """The distribution that sampling should follow, by its definition."""
    p = np.exp(log_probs)
    p[list(forbidden)] = 0
    p = p ** (1 / temperature)
    order = np.argsort(-p)
    p[order[top_k:]] = 0
    p /= p.sum()
    keep, total = [], 0.0
    for w in order:
        if total >= top_p:
            break
        keep.append(w)
        total += p[w]
    q = np.zeros_like(p)
    q[keep] = p[keep]
    q /= q.sum()
    entropy = -sum(x * np.log(x) for x in q if x)
    keep, total = [], 0.0
    for w in sorted(np.flatnonzero(q), key=lambda w: abs(-np.log(q[w]) - entropy)):
        if total >= typical_p:
            break
        keep.append(w)
        total += q[w]
    r = np.zeros_like(q)
    r[keep] = q[keep]
    return r / r.sum()


# a b a b … then <eos> after b only; symbols 2 = a, 3 = b.
TABLE = np.full((3, V), -1)
TABLE[0, 2], TABLE[1, 3], TABLE[2, 2], TABLE[2, EOS] = 1, 2, 1, 0


def in_language(symbols):
    """Legal beginnings of (ab)+ <eos>."""
    text = "".join({2: "a", 3: "b", EOS: "."}.get(w, "?") for w in symbols)
    return (
        "?" not in text
        and ("ab" * len(text) + "...").startswith(text.rstrip("."))
        and ("." not in text or (text.endswith("b.") and text.count(".") == 1))
    )


BIG, BIG_PARAMS = make(30, seed=5, scale=2.0)
