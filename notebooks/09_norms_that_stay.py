# %% [markdown]
# # 9. Norms that stay: the norm-stabiliser
#
# A recurrence is trained on sequences of some length and used on longer ones. Nothing in the loss says what its state
# should do after the last tick of training, and a rectified-linear network, whose units have no upper bound, may let it
# grow. Krueger and Memisevic (2016) add a penalty on changes of the state's norm,
#
# $$ \beta\, \frac{1}{T} \sum_{t=1}^{T} \big( \|h_t\| - \|h_{t-1}\| \big)^2 . $$
#
# It leaves the direction of the state free. Here a rectified-linear network that starts with $U = I$ (the IRNN)
# learns to predict the next letter of generated English sentences, thirty letters at a time, and then reads a
# thousand.

# %%
# %matplotlib inline
import jax
import numpy as np
import optax

import seqjax as sj
from seqjax import gradients
from seqjax.gradients import figures

# %%
rng = np.random.default_rng(0)
sentences = sj.tasks.entity_sentences().draw(rng, 4000)
text = " ".join(" ".join(pair.source) for pair in sentences).replace(" ,", ",").replace(" .", ".")
letters = sj.tasks.Vocabulary.build([text], specials=())
symbols = letters.encode(text).astype(np.int32)
print(text[:110], "…", f"{len(symbols):,} characters of {len(letters)} kinds", sep="\n")

T, beyond, updates, batch = 30, 1000, 800, 16
learned, held_back = symbols[:-30_000], symbols[-30_000:]


def excerpts(source, length, *shape):
    starts = rng.integers(0, len(source) - length, shape)
    return np.moveaxis(source[starts[..., None] + np.arange(length)], -1, -2)


train = excerpts(learned, T + 1, updates, batch)
longer = excerpts(held_back, beyond + 1, 8)

# %%
cell = sj.elman(len(letters), 64, activation=jax.nn.relu, w_h_init=sj.initializers.identity())
optimizer = optax.chain(sj.clip_by_global_norm(1.0), optax.adam(5e-4))
runs = {
    f"β = {beta:g}": gradients.norms_beyond(
        cell, 64, jax.random.key(0), train, longer, symbols=len(letters), beta=beta, optimizer=optimizer
    )
    for beta in (0.0, 1.0, 5.0)
}
figures.norms(runs, T)

# %% [markdown]
# **Figure 1.** *A thousand ticks after training on thirty* (grey: the length of training; bands: eight tenths of eight
# texts). **a** Without the penalty the norm goes on growing where training stopped looking. With it, it stays where it
# was. **b** What that is worth: inside the training length all three predict about as well; beyond it the untreated
# network's predictions decay, and the others' do not.

# %%
rows = {}
for name, run in runs.items():
    norm, loss = np.asarray(run.norm).mean(1), np.asarray(run.loss).mean(1)
    rows[name] = norm[T - 1], norm[-100:].mean(), loss[10:T].mean(), loss[-500:].mean()
    print(
        f"{name}: norm {rows[name][0]:5.1f} at tick {T}, {rows[name][1]:5.1f} at the end; "
        f"loss {rows[name][2]:.2f} nats inside, {rows[name][3]:.2f} beyond"
    )
assert rows["β = 0"][1] > 2 * rows["β = 0"][0]
assert rows["β = 0"][3] > 2 * rows["β = 0"][2]
for name in ("β = 1", "β = 5"):
    assert rows[name][1] < 1.3 * rows[name][0]
    assert rows[name][3] < 1.4 * rows[name][2]

# %% [markdown]
# ## Questions
#
# 1. The penalty leaves the direction of the state free. What would go wrong if it did not?
# 2. Why does the loss of the untreated network rise only after the training length?
#
# Where the answers are: the equation at the top, and the loss inside the training length in the last cell; Figure 1,
# where grey is what training has seen.
