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
import numpy as np
import optax

import seqjax as sj
from seqjax import gradients
from seqjax.gradients import figures

# %% [markdown]
# The tanh network, the GRU and the LSTM have four units each and the same number of updates. The LSTM starts with its
# forget gate wide open (a bias of 5: $\sigma(5) = 0.993$), the GRU with its copying gate as open.

# %%
cells = {
    "tanh": sj.elman(1, 4),
    "GRU": sj.gru(1, 4, b_init=sj.initializers.chrono(200.0)),
    "LSTM": sj.lstm(1, 4, b_init=sj.initializers.forget_bias(5.0)),
}
lengths = [5, 15, 30, 60]
adam = optax.adam(0.02)


def probability(cell, length):
    return float(
        gradients.latch_probability(
            cell, 4, jax.random.key(0), length, optimizer=adam, runs=32, steps=250, batch=8, noise=0.5
        )
    )


probabilities = {name: [probability(cell, length) for length in lengths] for name, cell in cells.items()}
figures.latch(lengths, probabilities)

# %% [markdown]
# **Figure 1.** *The share of 32 runs that learn the latch in 250 updates.* Five ticks are easy for all. The longer the
# bit has to be kept, the fewer tanh networks find out how. The gated cells, whose states start out as memories, fall
# off far more slowly: at sixty ticks three times as many of them learn it.

# %%
for name, line in probabilities.items():
    print(f"{name:5s}", "  ".join(f"T = {t}: {p:.2f}" for t, p in zip(lengths, line)))
tanh, lstm = np.array(probabilities["tanh"]), np.array(probabilities["LSTM"])
assert tanh[0] > 0.9
assert tanh[-1] < 0.4
assert lstm[-1] > tanh[-1] + 0.3
assert probabilities["GRU"][-1] > tanh[-1] + 0.3
