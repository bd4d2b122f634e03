# %% [markdown]
# # 4. The latch: how long can a bit be learned?
#
# Notebook 3 showed that a bit kept at an attractor has no gradient. The consequence for learning can be measured. The
# first input $x_1 = \pm 1$ is the class, everything later is noise,
#
# $$ x_t \sim N(0, \sigma^2), \qquad t = 2 \dots T, $$
#
# and the class is asked for at tick $T$. Train many networks from different starts and count how many succeed. That is
# the experiment by which Bengio, Simard and Frasconi showed in 1994 that gradient descent becomes increasingly
# inefficient as the span of the dependencies grows.

# %%
# %matplotlib inline
import jax
import optax

import seqjax as sj
from seqjax import gradients
from seqjax.gradients import figures

# %% [markdown]
# The first network is a single unit, $h_t = \tanh(w h_{t-1} + u x_t + b)$, as in 1994; the others have four units each.
# All get the same number of updates. The gates of the GRU and the LSTM start with memories of all lengths up to two
# hundred ticks: the bias of a forget gate is $\ln(\tau - 1)$ with $\tau$ drawn between 2 and 200.

# %%
slow_gates = sj.initializers.chrono(200.0)
cells = {
    "one tanh unit": (sj.elman(1, 1), 1),
    "tanh": (sj.elman(1, 4), 4),
    "GRU": (sj.gru(1, 4, b_init=slow_gates), 4),
    "LSTM": (sj.lstm(1, 4, b_init=slow_gates), 4),
}
lengths = [5, 8, 12, 20, 30, 42, 60]
adam = optax.adam(0.02)


def probability(cell, size, length):
    return float(
        gradients.latch_probability(
            cell, size, jax.random.key(0), length, optimizer=adam, runs=32, steps=300, batch=8, noise=0.2
        )
    )


probabilities = {name: [probability(*cell, length) for length in lengths] for name, cell in cells.items()}
figures.latch(lengths, probabilities)

# %% [markdown]
# **Figure 1.** *The share of 32 runs that learn the latch in 300 updates.* Five ticks are easy for all. The longer the
# bit has to be kept, the fewer tanh networks find out how: at sixty ticks one single unit in eight, and half of the
# networks of four. For the gated cells, whose states start out as memories, sixty ticks are no harder than five.

# %%
for name, line in probabilities.items():
    print(f"{name:13s}", "  ".join(f"T = {t}: {p:.2f}" for t, p in zip(lengths, line)))
unit, tanh, gru, lstm = probabilities.values()
assert min(unit[0], tanh[0], gru[0], lstm[0]) > 0.8
assert unit[-1] < 0.3
assert tanh[-1] < 0.7
assert min(gru[-1], lstm[-1]) > 0.85
