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
from IPython.display import Markdown

import seqjax as sj
from seqjax import gradients
from seqjax.gradients import figures

# %% [markdown]
# The first network is a single unit, $h_t = \tanh(w h_{t-1} + u x_t + b)$, as in 1994; the others have four units each.
# All get the same number of updates, and all biases start at zero, but for one more LSTM whose gates start with
# memories of all lengths up to two hundred ticks: the bias of its forget gate is $\ln(\tau - 1)$ with $\tau$ drawn
# between 2 and 200.

# %%
zero, slow = sj.initializers.zero_bias, sj.initializers.chrono(200.0)
cells = {
    "one tanh unit": (sj.elman(1, 1), 1),
    "tanh": (sj.elman(1, 4), 4),
    "GRU": (sj.gru(1, 4, b_init=zero), 4),
    "LSTM": (sj.lstm(1, 4, b_init=zero), 4),
    "LSTM, slow gates": (sj.lstm(1, 4, b_init=slow), 4),
}
lengths, runs = [5, 8, 12, 18, 25, 35, 45, 60], 20
options = {"optimizer": optax.adam(0.02), "runs": runs, "steps": 300, "batch": 8, "noise": 0.2}
probabilities = {
    name: gradients.latch_probability(*cell, jax.random.key(0), lengths, **options).tolist()
    for name, cell in cells.items()
}
figures.latch(lengths, probabilities, runs)

# %% [markdown]
# **Figure 1.** *The share of 20 runs that learn the latch in 300 updates*, with intervals that cover 95 % (Wilson's).
# Twenty runs tell a half from nearly all, and no more: where bars overlap, nothing is said. The table has the numbers.

# %%
lines = ["| network | " + " | ".join(f"T = {t}" for t in lengths) + " |", "|---" * (1 + len(lengths)) + "|"]
for name, line in probabilities.items():
    bars = [gradients.wilson(share, runs) for share in line]
    lines.append(f"| {name} | " + " | ".join(f"{p:.2f} ({a:.2f}-{b:.2f})" for p, (a, b) in zip(line, bars)) + " |")
Markdown("\n".join(lines))

# %% [markdown]
# All find five ticks easy. The longer the bit has to be kept, the fewer find out how. With equal biases the gated cells
# give up first: a gate that starts at one half forgets a half a tick (notebook 2), while a tanh network starts with an
# orthogonal matrix. What makes a gated cell remember is where its gates start: with slow gates sixty ticks are hardly
# harder than five.

# %%
unit, tanh, gru, lstm, slow_gates = probabilities.values()
assert min(line[0] for line in probabilities.values()) > 0.8
assert max(unit[-1], gru[-1], lstm[-1]) < 0.4
assert max(gru[-1], lstm[-1]) < tanh[-1] < slow_gates[-1]
assert slow_gates[-1] > 0.8

# %% [markdown]
# ## Questions
#
# 1. Two networks succeed in 12 and in 16 of 20 runs. Is the second better?
# 2. Which of the differences above are the cell's, and which are those of the biases it starts from?
# 3. What would noise of half the size change?
#
# Where the answers are: `gradients.wilson(12 / 20, 20)` and `gradients.wilson(16 / 20, 20)` overlap; compare the two
# LSTMs in Figure 1; `python -m seqjax gradients latch --noise 0.1`.
