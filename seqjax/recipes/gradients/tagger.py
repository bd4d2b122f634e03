"""A tagger whose weights were set by hand, learned from there until it is as sure as the exact filter."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

import seqjax as sj
from seqjax import hmm
from seqjax.base import Array, PyTree
from seqjax.recipes.gradients.experiment import DrawnOptions, LearningOptions, Report
from seqjax.recipes.language import textbook
from seqjax.recipes.running.options import check_positive, check_sizes

LENGTH, TESTED = 20, 500


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(LearningOptions, DrawnOptions):
    """Learns on from the weights of a tagger set by hand, until it has the exact filter's confidence."""

    steps: int = 4000
    """Parameter updates at most."""
    learning_rate: float = 1e-2
    within: float = 0.002
    """How near its mean confidence must come to the filter's."""
    batch_size: int = 64
    """Sentences of the model an update."""
    every: int = 100
    """Updates between two looks at it."""

    def check(self, who: str) -> None:
        """Refuses sizes out of range."""
        super().check(who)
        check_sizes(who, self, "batch_size", "every")
        check_positive(who, self, "within")


def main(options: Options, report: Report) -> None:
    """``python -m seqjax gradients tagger``."""
    model, (cell, by_hand) = textbook.markov_model(), textbook.network()
    key, tested = jax.random.split(jax.random.key(options.seed))
    tags, words = hmm.sample(model, tested, LENGTH, (20 if options.small else TESTED,))
    exact = filtered(model, words)
    believes = jax.jit(lambda params, words: belief(cell, params, words))

    updates, confidence, params = [0], [sure(believes(by_hand, words))], by_hand
    learn = step(cell, model, options)
    state = optax.adam(options.learning_rate).init(params)
    while updates[-1] < options.steps and abs(confidence[-1] - sure(exact)) > options.within:
        count = min(options.every, options.steps - updates[-1])
        keys = jax.random.split(jax.random.fold_in(key, updates[-1]), count)
        params, state = learn(params, state, keys)
        updates.append(updates[-1] + count)
        confidence.append(sure(believes(params, words)))

    found = {
        "exact filter": exact,
        "set by hand": believes(by_hand, words),
        "learned from there": believes(params, words),
    }
    report.say(
        f"Taggers of {len(textbook.TAGS)} tags over {words.shape[1]} sentences of {LENGTH} words drawn from the model; "
        "the network is h' = softmax(U h + W x + b), learned on -ln h[true tag]."
    )
    report.table(
        ["tagger", "mean confidence", "right tags", "cross-entropy (nats a tag)", "KL from the filter (nats)"],
        [
            [name, f"{sure(p):.4f}", f"{right(p, tags):.2%}", f"{nats(p, tags):.4f}", f"{apart(exact, p):.5f}"]
            for name, p in found.items()
        ],
    )
    reached = abs(confidence[-1] - sure(exact)) <= options.within
    report.say(
        f"After {updates[-1]:,} updates the mean confidence {'is' if reached else 'is not'} within {options.within:g} "
        f"of the filter's: {confidence[-1]:.4f} and {sure(exact):.4f}; it began at {confidence[0]:.4f}."
    )
    report.say(
        "A filter multiplies where the network adds, so that its weights would be logarithms of the model's "
        "probabilities. Root mean square distance from those, each row less its mean, which a softmax does not see: "
        + "; ".join(
            f"{which}, transitions {distance(of.w_h, textbook.TRANSITION):.2f}, words "
            f"{distance(of.w_x, textbook.EMISSION.T):.2f}"
            for which, of in (("set by hand", by_hand), ("learned", params))
        )
        + "."
    )
    sentence = ["John", "hit", "the", "ball"]
    xs = jnp.array([textbook.WORDS.index(word) for word in sentence])[:, None]
    beliefs = {"exact filter": filtered(model, xs)} | {
        name: believes(of, xs) for name, of in (("set by hand", by_hand), ("learned from there", params))
    }
    report.draw(
        "tagger",
        "tagger",
        words=sentence,
        tags=textbook.TAGS,
        beliefs={name: table[:, 0] for name, table in beliefs.items()},
        updates=updates,
        confidence=confidence,
        exact=sure(exact),
    )


def step(cell: sj.Cell, model: hmm.HMM, options: Options) -> Callable:
    """``(params, optimizer's state, keys) -> (params, state)``: an update for each key, on sentences drawn by it."""
    optimizer = optax.adam(options.learning_rate)

    def loss(params: PyTree, key: Array) -> Array:
        tags, words = hmm.sample(model, key, LENGTH, (options.batch_size,))
        return -jnp.log(jnp.take_along_axis(belief(cell, params, words), tags[..., None], -1)).mean()

    def update(carry: tuple, key: Array) -> tuple[tuple, None]:
        params, state = carry
        with jax.numpy_dtype_promotion("standard"):
            moves, state = optimizer.update(jax.grad(loss)(params, key), state, params)
            return (optax.apply_updates(params, moves), state), None

    return jax.jit(lambda params, state, keys: jax.lax.scan(update, (params, state), keys)[0])


def filtered(model: hmm.HMM, words: Array) -> Array:
    """P(tag | words so far), ``[T, B, N]``."""
    return jnp.exp(hmm.forward(model, words).log_filtered)


def belief(cell: sj.Cell, params: PyTree, words: Array) -> Array:
    """The network's, ``[T, B, N]``."""
    xs = jax.nn.one_hot(words, len(textbook.WORDS), dtype=params.w_x.dtype)
    return sj.unroll(cell, params, cell.initial_state(params, words.shape[1:]), xs)[1]


def sure(beliefs: Array) -> float:
    """Mean probability of the likeliest tag."""
    return float(beliefs.max(-1).mean())


def right(beliefs: Array, tags: Array) -> float:
    """Share of tags that are the likeliest."""
    return float((beliefs.argmax(-1) == tags).mean())


def nats(beliefs: Array, tags: Array) -> float:
    """Mean -ln p(true tag)."""
    return float(-jnp.log(jnp.take_along_axis(beliefs, tags[..., None], -1)).mean())


def apart(exact: Array, beliefs: Array) -> float:
    """Mean KL(exact ‖ beliefs)."""
    return float((exact * (jnp.log(exact) - jnp.log(beliefs))).sum(-1).mean())


def distance(weights: Array, probabilities: np.ndarray) -> float:
    """Root mean square of weights less logarithms, both without what a softmax over the last axis does not see."""
    rows = [np.asarray(table, np.float64) for table in (weights, np.log(probabilities))]
    one, other = (table - table.mean(-1, keepdims=True) for table in rows)
    return float(((one - other) ** 2).mean() ** 0.5)
