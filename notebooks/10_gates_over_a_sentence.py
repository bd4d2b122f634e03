# %% [markdown]
# # 10. Gates over a sentence, unit by unit
#
# An LSTM keeps a memory $c$ and three gates that decide what to forget, what to write and what to show:
#
# $$ i, f, o = \sigma(x W + h U + b), \quad g = \tanh(x W + h U + b), \qquad
#    c' = f \odot c + i \odot g, \quad h' = o \odot \tanh(c'). $$
#
# What do single units learn? The sentences here are like
#
# > The **cats** , which already ate very slowly indeed , **were** full .
#
# The verb must agree with a noun eight words back, and nothing between tells its number. A network that predicts the
# next word has to carry that one bit.

# %%
# %matplotlib inline
import functools

import jax
import numpy as np
import optax
from IPython.display import Markdown

import seqjax as sj
from seqjax import gradients
from seqjax.gradients import figures

# %%
units, longest = 16, 4
make = functools.partial(sj.lstm, b_init=sj.initializers.forget_bias(3.0))  # a cell that starts by keeping
rng = np.random.default_rng(0)
words = sj.tasks.Vocabulary.build([list(sj.tasks.agreement(0).source_symbols)], specials=())


def sentences(count, fillers):
    """Word numbers, time first, of sentences with that many filler words."""
    drawn = sj.tasks.agreement(fillers).draw(rng, count)
    return words.encode([w for pair in drawn for w in (*pair.source, *pair.target)]).reshape(count, -1).T


def batch(count):
    """Sentences of all lengths from 0 to 4 filler words, padded; a mask says where they are."""
    parts = [sentences(count, fillers) for fillers in range(longest + 1)]
    T = max(map(len, parts))
    padded = np.concatenate([np.pad(part, ((0, T - len(part)), (0, 0))) for part in parts], 1)
    real = np.concatenate([np.broadcast_to(np.arange(T)[:, None] < len(p), (T, count)) for p in parts], 1)
    return sj.Batch(padded[:-1], padded[1:], mask=real[1:])


model = sj.serial(sj.embedding(len(words), 12), sj.recurrent(make(12, units)), sj.dense(units, len(words)))
optimizer = optax.adam(1e-2)
update = sj.train_step(sj.objective(model, sj.cross_entropy), optimizer, clip=sj.clip_by_global_norm(1.0))
train = sj.train_state(model.init(jax.random.key(0)), optimizer)
for _ in range(2000):
    train, _, metrics = update(train, model.initial_state(train.params, (40,)), batch(8))
print(f"cross-entropy {metrics.loss:.3f} nats a word")

# %%
test = sentences(400, 3)
plural = np.isin(
    np.array(words.symbols)[test[1]], [f"{noun}s" for noun in ("cat", "dog", "horse", "rabbit", "goat", "hen")]
)
state = model.initial_state(train.params, (400,))
_, logits = model.apply(train.params, state, test[:-1])
verb = 9  # with three filler words, the tick of the second comma, after which the verb comes
was, were = words.encode(["was", "were"])
agrees = (logits[verb, :, were] > logits[verb, :, was]) == plural
print(f"the right number: {agrees.mean():.1%} of 400 sentences")

# %% [markdown]
# ## Which unit carries the number?
#
# `gradients.with_gates` makes every gate of any cell an output, read off the equations of its step; `sj.with_states`
# does the same for the state. For each unit: how far apart are its memories for plural and singular nouns, at the word
# where they are closest, as a part of the largest value it ever has?

# %%
embedding, cell_params, _ = train.params
cell = make(12, units)
look = sj.with_states(gradients.with_gates(cell))
xs = sj.embedding(len(words), 12).apply(embedding, (), test[:-1])[1]
_, ((_, gates), states) = sj.unroll(look, cell_params, cell.initial_state(cell_params, (400,)), xs)

c = np.asarray(states.c)
memory = c / np.abs(c).max((0, 1))  # each unit on a scale of its own
apart = np.abs(memory[:, plural].mean(1) - memory[:, ~plural].mean(1))[2 : verb + 1].min(0)  # from noun to verb
order = np.argsort(-apart)
number_unit = int(order[0])
print("apart, from noun to verb:", {int(u): float(apart[u].round(2)) for u in order[:4]}, "of at most 2")

# %%
shown = int(np.argmax(plural))
symbols = [words.symbols[s] for s in test[:-1, shown]]
forget, write, show = gates["0 logistic"], gates["1 logistic"], gates["3 logistic"]
rows = {
    "memory c, largest |c| of the unit = 1": memory,
    "forget gate f (1 keeps)": forget,
    "input gate i (1 writes)": write,
    "output gate o (1 shows)": show,
}
figures.gates({name: row[:, shown] for name, row in rows.items()}, symbols, dict.fromkeys(rows, order))

# %% [markdown]
# **Figure 1.** *An LSTM reads one sentence: a row a unit, a column a word.* Units are sorted by how well they keep the
# noun's number; the top row is the best. Its forget gate stays near 1 (bright) almost everywhere: what is in its memory
# is kept. Other units open and close with the words: they hold the place in the sentence.

# %% [markdown]
# As a table, the number unit reads the sentence so; three of its memories are left out. They follow from
# $c' = f c + i g$.

# %%
candidate = gates["2 tanh"]
columns = [np.asarray(row)[: verb + 1, shown, number_unit] for row in (forget, write, candidate, c)]
hidden = (3, 5, 7)
lines = ["| word | f | i | g | c |", "|---|---|---|---|---|"]
for t, row in enumerate(zip(*columns)):
    kept = "?" if t in hidden else f"{row[3]:+.2f}"
    lines.append(f"| {symbols[t]} | {row[0]:.2f} | {row[1]:.2f} | {row[2]:+.2f} | {kept} |")
Markdown("\n".join(lines))

# %%
f, i, g, kept = columns
answers = [float(f[t] * kept[t - 1] + i[t] * g[t]) for t in hidden]
print("answers:", *(f"{symbols[t]} {answer:+.2f}" for t, answer in zip(hidden, answers)))

# %%
figure, axes = figures.panels(1, 2, height=2.7, sharey=True)
for panel, (name, unit) in zip(axes[0], {"the number unit": number_unit, "another unit": int(order[-1])}.items()):
    for which, colour, style, label in (
        (plural, figures.COLOURS[0], "-", "plural"),
        (~plural, figures.COLOURS[1], "--", "singular"),
    ):
        low, middle, high = np.quantile(memory[:, which, unit], (0.1, 0.5, 0.9), axis=1)
        panel.fill_between(range(len(middle)), low, high, color=colour, alpha=0.2, linewidth=0)
        panel.plot(middle, color=colour, linestyle=style, label=label)
    panel.axvspan(verb - 0.5, verb + 0.5, color="0.88", linewidth=0)
    panel.set_xticks([0, 1, 2, 5, 9, 10], ["The", "noun", ",", "ate", ",", "verb"], rotation=45)
    panel.set_title(name, fontsize="medium")
axes[0, 0].set_ylabel("memory c, scaled")
figures.legend(axes[0, 0])
figure

# %% [markdown]
# **Figure 2.** *All 400 sentences.* Lines are medians, bands eight tenths of the sentences, grey the tick at which the
# verb is predicted. Left: at the noun the lines part, and from there they run side by side to the verb. The unit counts
# words as well, up to "already" and down again, but with a forget gate near 1 whatever has been added stays, and so
# does the difference: the constant-error carousel at work. Right: a unit that lives with the words.
#
# Is it the only one that knows? Set units to zero before the verb, the best carriers first, and ask again.

# %%
before = jax.tree.map(lambda s: s[verb - 1], states)
agreement = []
for removed in range(units + 1):
    gone = np.isin(np.arange(units), order[:removed])
    maimed = jax.tree.map(lambda leaf, gone=gone: np.where(gone, 0, leaf), before)
    _, y = cell.step(cell_params, maimed, xs[verb])
    guess = sj.dense(units, len(words)).apply(train.params[2], (), y[None])[1][0]
    agreement.append(float(((guess[:, were] > guess[:, was]) == plural).mean()))
print("agreement with 0, 1, 2 … units removed:", *(f"{a:.2f}" for a in agreement))

# %% [markdown]
# What shows most clearly to us need not be all: here the network knows the number until two units are gone.

# %%
assert agrees.mean() > 0.98
np.testing.assert_allclose(answers, kept[list(hidden)], atol=1e-5)
assert apart[number_unit] > 0.2
assert np.median(apart) < 0.1
assert np.asarray(forget)[3:verb, :, number_unit].mean() > 0.8  # it keeps
assert agreement[0] > 0.98
assert agreement[-1] < 0.7

# %% [markdown]
# ## Questions
#
# 1. Fill in the three question marks of the table. Which gate has to be near what for the number to be kept?
# 2. The unit counts words as well. Why does that not disturb the number?
# 3. A GRU has no memory besides its output. Where does it keep the number?
#
# Where the answers are: the cell below the table; Figure 2, left; `python -m seqjax gradients gates`, which makes the
# same table for a GRU and compares resets with lengths of memory.
