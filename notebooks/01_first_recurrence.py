# %% [markdown]
# # 1. A first recurrence
#
# A recurrence reads a sequence one tick at a time and keeps a state:
#
# $$ s_t,\; y_t = \mathrm{step}(\theta,\; s_{t-1},\; x_t), \qquad t = 1 \dots T. $$
#
# The simplest one that learns is the Elman network. Its state is a layer of units that see the input and the
# units' own last values,
#
# $$ h_t = \tanh(x_t W + h_{t-1} U + b), \qquad y_t = h_t. $$
#
# This notebook runs it three ways, differentiates it by hand, and trains it.

# %%
# %matplotlib inline
import jax
import jax.numpy as jnp
import numpy as np
import optax

import seqjax as sj
from seqjax import gradients
from seqjax.gradients import figures

jax.config.update("jax_enable_x64", True)

# %% [markdown]
# ## One tick, then many
#
# A `Cell` is three functions: `init` draws parameters, `initial_state` makes the state before the first tick, `step`
# is the equation above. Time leads in every array: inputs are `[T, batch, features]`.

# %%
T, B, d, h = 12, 4, 3, 5
cell = sj.elman(d, h)
params = cell.init(jax.random.key(0))
state = cell.initial_state(params, (B,))
xs = jax.random.normal(jax.random.key(1), (T, B, d))

by_hand, s = [], state
for x in xs:
    s = jnp.tanh(x @ params.w_x + s @ params.w_h + params.b)
    by_hand.append(s)

last, ys = sj.unroll(cell, params, state, xs)
np.testing.assert_allclose(ys, jnp.stack(by_hand), rtol=1e-12)

# %% [markdown]
# `unroll` is that loop, compiled. Two properties make it useful for real data. A sequence can be cut into chunks, with
# the state carried from one to the next; and where a mask says that a tick is padding, the state is held, so that
# nothing behind the end of a short sequence can change anything, not even NaN.

# %%
middle, first_half = sj.unroll(cell, params, state, xs[:7])
_, second_half = sj.unroll(cell, params, middle, xs[7:])
np.testing.assert_allclose(jnp.concatenate([first_half, second_half]), ys, rtol=1e-12)

lengths = jnp.array([12, 9, 5, 1])
mask = sj.masks.from_lengths(lengths, T)
junk = jnp.where(mask[..., None], xs, jnp.nan)
held, padded = sj.unroll(cell, params, state, junk, mask=mask)
for b, n in enumerate(lengths):
    np.testing.assert_allclose(held[b], ys[n - 1, b], rtol=1e-12)
    np.testing.assert_array_equal(padded[n:, b], 0)

# %% [markdown]
# ## Backpropagation through time, by hand
#
# Write $\bar v$ for $\partial L / \partial v$. Unrolled over time the network is an ordinary deep network whose layers
# share their weights, so the chain rule runs from the last tick to the first. With $a_t = x_t W + h_{t-1} U + b$,
#
# $$ \bar h_t = \bar y_t + \bar a_{t+1} U^\top, \qquad \bar a_t = \bar h_t \odot (1 - h_t^2), $$
#
# $$ \bar W = \sum_t x_t^\top \bar a_t, \qquad \bar U = \sum_t h_{t-1}^\top \bar a_t, \qquad \bar b = \sum_t \bar a_t,
# \qquad \bar x_t = \bar a_t W^\top. $$
#
# `gradients.elman_bptt` is these lines; automatic differentiation must agree.

# %%
ys_bar = jax.random.normal(jax.random.key(2), ys.shape)
hand = gradients.elman_bptt(params, state, xs, ys_bar, jnp.zeros_like(state))


def loss(params, state, xs):
    return (sj.unroll(cell, params, state, xs)[1] * ys_bar).sum()


machine = jax.grad(loss, argnums=(0, 1, 2))(params, state, xs)
for ours, theirs in zip(jax.tree.leaves(tuple(hand)), jax.tree.leaves(machine)):
    np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)

# %% [markdown]
# The sums over $t$ are what sharing means. Give every tick a copy of the parameters of its own, and the gradient of the
# shared ones is the sum of the gradients of the copies:
#
# $$ \frac{dL}{d\theta} = \sum_{t=1}^{T} \frac{\partial L}{\partial \theta_t}. $$

# %%
copies = gradients.untied_gradients(cell, params, state, xs, lambda ys: (ys * ys_bar).sum())
np.testing.assert_allclose(copies.w_h.sum(0), machine[0].w_h, rtol=1e-10, atol=1e-12)
copies.w_h.shape  # one gradient of U a tick

# %% [markdown]
# Unrolled, the loop is a graph in which every tick has a copy of the step. Along its edges go the state, forwards, and
# $dL/ds_t$, backwards. For a loss on the output of the fourth tick:


# %%
def fourth(ys):
    return ys[3, 0].sum()


first = (state[:1], xs[:4, :1])
along = gradients.flow(cell, params, *first, fourth, probes=1).loss_gradient[:, 0]
copies = gradients.untied_gradients(cell, params, *first, fourth)
shares = jnp.sqrt(sum((leaf.reshape(4, -1) ** 2).sum(1) for leaf in jax.tree.leaves(copies)))
figures.unrolled(along, shares)

# %% [markdown]
# **Figure 1.** *A recurrence, folded and unrolled.* Black arrows go forwards. Dashed ones carry $dL/ds_t$ back, with
# its norm; below, the norm of what each copy of the parameters contributes to the gradient of the shared ones.

# %% [markdown]
# ## Learning to echo
#
# The task: say every symbol again, three ticks later. A model is a stack of layers; `train_step` takes one batch and
# returns new parameters.

# %%
symbols, delay = 4, 3
model = sj.serial(sj.embedding(symbols, 8), sj.recurrent(sj.elman(8, 24)), sj.dense(24, symbols))
optimizer = optax.adam(1e-2)
update = sj.train_step(sj.objective(model, sj.cross_entropy), optimizer, clip=sj.clip_by_global_norm(1.0))
train = sj.train_state(model.init(jax.random.key(0)), optimizer)
history = []
for n in range(300):
    heard = jax.random.randint(jax.random.key(n), (20, 32), 0, symbols)
    said = jnp.pad(heard[:-delay], ((delay, 0), (0, 0)))
    train, _, metrics = update(train, model.initial_state(train.params, (32,)), sj.Batch(heard, said))
    history.append(metrics.loss)
history = np.array(history)

# %%
figure, ((panel,),) = figures.panels(height=2.6, width=5.0)
panel.plot(history, color=figures.COLOURS[0])
panel.axhline(np.log(symbols), color="black", linestyle="--", linewidth=1, label="blind guessing, ln 4")
panel.set(xlabel="updates", ylabel="cross-entropy (nats/symbol)", ylim=(0, None))
figures.legend(panel)
figure

# %% [markdown]
# **Figure 2.** *Learning to repeat what was heard three ticks ago.* Within a hundred updates the
# network goes from guessing to making no mistake, though nothing but its 24 numbers of state connects a symbol with
# its repetition.

# %%
heard = jax.random.randint(jax.random.key(999), (200, 8), 0, symbols)
_, logits = model.apply(train.params, model.initial_state(train.params, (8,)), heard)
accuracy = (logits.argmax(-1)[delay:] == heard[:-delay]).mean()
assert history[0] > 1.2
assert history[-1] < 0.05
assert accuracy > 0.99
print(f"accuracy on 200 ticks, ten times the training length: {accuracy:.3f}")

# %% [markdown]
# ## Questions
#
# 1. Why is the gradient of a shared weight a *sum* over ticks, and what would an average change?
# 2. What does padding have to do with the gradient, if the outputs there are never looked at?
#
# Where the answers are: Figure 1 and the cell below it; `help(sj.unroll)` and the cell with `junk`; contract 6 of a
# mask is tested in `tests/test_masks.py`.
