# %% [markdown]
# # 12. A hidden Markov model is a recurrence
#
# A hidden Markov model draws a chain of states $z_1 z_2 \dots$ with transition probabilities $A_{ij} = P(z_{t+1} = j
# \mid z_t = i)$ and at each tick a symbol with $P(x_t \mid z_t)$. What is known about the state after $t$ symbols is
# computed by a recurrence. Its state is the prediction $p_t = P(z_t \mid x_1 \dots x_{t-1})$, and a tick is
#
# $$ y_t \propto p_t \odot P(x_t \mid z), \qquad p_{t+1} = y_t A : $$
#
# a multiplication, a normalisation and a matrix product. It is a cell like the others, only its parameters were thought
# out rather than trained.

# %%
# %matplotlib inline
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax

import seqjax as sj
from seqjax import hmm
from seqjax.gradients import figures, lessons

jax.config.update("jax_enable_x64", True)

# %% [markdown]
# ## A tagger by design
#
# Determiners are followed by nouns, nouns by verbs, verbs by determiners, eight times in ten each.

# %%
tags, words = ("Det", "Noun", "Verb"), ("ball", "hit", "John", "the")
transition = np.array([[1, 8, 1], [1, 1, 8], [8, 1, 1]]) / 10
emission = np.array([[1, 1, 1, 97], [49, 1, 49, 1], [1, 97, 1, 1]]) / 100
model = hmm.from_probabilities(np.ones(3) / 3, transition, emission)
sentence = [words.index(word) for word in ["John", "hit", "the", "ball"]]
xs = jnp.array(sentence)

cell = hmm.cell(model)
_, ys = sj.unroll(cell, model, cell.initial_state(model), xs)
filtered = np.exp(ys)

# %% [markdown]
# An approximate tagger is closer still to an Elman network, with the softmax as its nonlinearity and products turned
# into sums:
#
# $$ h_t = \mathrm{softmax}(h_{t-1} A + P(x_t \mid z) - 1), \qquad h_0 = 0. $$

# %%
approximate = sj.elman(4, 3, activation=lambda a: jax.nn.softmax(a - 1), b_init=None)
weights = sj.ElmanParams(jnp.asarray(emission.T), jnp.asarray(transition), None)
_, soft = sj.unroll(approximate, weights, jnp.zeros(3), jax.nn.one_hot(xs, 4))

figure, axes = figures.panels(1, 2, height=2.6, sharey=True)
for panel, (name, probabilities) in zip(axes[0], {"exact": filtered, "approximate": soft}.items()):
    for tag, (line, colour) in enumerate(zip(np.asarray(probabilities).T, figures.COLOURS)):
        panel.bar(np.arange(4) + 0.26 * (tag - 1), line, 0.24, color=colour, label=tags[tag])
    panel.set_xticks(range(4), ["John", "hit", "the", "ball"])
    panel.set_title(name, fontsize="medium")
axes[0, 0].set(ylabel="probability of the tag", ylim=(0, 1))
figures.legend(axes[0, 1], loc="upper right")
figure

# %% [markdown]
# **Figure 1.** *Belief after each word.* The exact filter is nearly certain; the approximation, whose products have
# become sums, is in doubt everywhere and yet prefers the same tag at every word.

# %%
np.testing.assert_allclose(
    filtered,
    [[0.0196, 0.9608, 0.0196], [0.0015, 0.0015, 0.9970], [0.9974, 0.0013, 0.0013], [0.0026, 0.9949, 0.0026]],
    atol=1e-4,
)
np.testing.assert_allclose(
    soft, [[0.277, 0.447, 0.277], [0.202, 0.202, 0.595], [0.632, 0.184, 0.184], [0.237, 0.525, 0.237]], atol=6e-4
)
assert (filtered.argmax(1) == np.asarray(soft).argmax(1)).all()
assert [tags[k] for k in hmm.viterbi(model, xs).states] == ["Noun", "Verb", "Det", "Noun"]

# %% [markdown]
# ## Learning on from there
#
# The approximation has the right form and the wrong weights: a filter multiplies, so that its weights would be
# logarithms. Gradient descent finds them, from sentences that the model draws and from their true tags alone; the exact
# filter is not shown to it.


# %%
def beliefs(params, drawn):
    return sj.unroll(approximate, params, jnp.zeros((drawn.shape[1], 3)), jax.nn.one_hot(drawn, 4))[1]


def loss(params, key):
    true, drawn = hmm.sample(model, key, 20, (32,))
    return -jnp.log(jnp.take_along_axis(beliefs(params, drawn), true[..., None], -1)).mean(), ()


keys = jax.random.split(jax.random.key(0), 1500)
learned = jax.jit(lambda keys: lessons.descend(loss, weights, optax.adam(0.01), keys).params)(keys)
_, drawn = hmm.sample(model, jax.random.key(1), 20, (500,))
exact = jnp.exp(hmm.forward(model, drawn).log_filtered)
confidence = {
    name: float(p.max(-1).mean())
    for name, p in (("exact", exact), ("set by hand", beliefs(weights, drawn)), ("learned", beliefs(learned, drawn)))
}
print("mean probability of the likeliest tag:", {name: round(value, 4) for name, value in confidence.items()})
assert confidence["set by hand"] < 0.7
assert abs(confidence["learned"] - confidence["exact"]) < 0.01

# %% [markdown]
# ## Against enumeration
#
# Four words and three tags make 81 paths. Summing over all of them is the definition; the recurrence must agree.

# %%
start = np.ones(3) / 3
likelihood, last = 0.0, np.zeros(3)
for path in itertools.product(range(3), repeat=4):
    p = start[path[0]] * np.prod(transition[path[:-1], path[1:]]) * np.prod(emission[path, sentence])
    likelihood += p
    last[path[-1]] += p
np.testing.assert_allclose(likelihood, 0.0389795, rtol=1e-5)
np.testing.assert_allclose(filtered[-1], last / likelihood, rtol=1e-10)
np.testing.assert_allclose(hmm.forward(model, xs).log_likelihood, np.log(likelihood), rtol=1e-10)

# %% [markdown]
# Being a cell it has a gradient: of the log-likelihood with respect to the logarithms of the transition
# probabilities, that is how often each transition is expected to have been used, the quantity that the Baum-Welch
# algorithm needs.

# %%
gradient = jax.grad(lambda m: hmm.forward(m, xs).log_likelihood)(model)
counts = np.zeros((3, 3))
for path in itertools.product(range(3), repeat=4):
    p = start[path[0]] * np.prod(transition[path[:-1], path[1:]]) * np.prod(emission[path, sentence])
    np.add.at(counts, (path[:-1], path[1:]), p / likelihood)
np.testing.assert_allclose(gradient.log_transition, counts, rtol=1e-8, atol=1e-12)
print("expected uses of each transition, three in all:", np.round(counts, 3), sep="\n")

# %% [markdown]
# ## Questions
#
# 1. Which of the two tables of weights does learning change more, and towards what?
# 2. Why can the learned network not be exactly the filter?
# 3. Which expected count would be 3 if every transition were certain?
#
# Where the answers are: `python -m seqjax gradients tagger` tells the distances to the logarithms; $\ln (p A)$ is
# linear in $p$ only where $p$ is certain; the last cell.
