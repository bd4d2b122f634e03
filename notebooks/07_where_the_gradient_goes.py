# %% [markdown]
# # 7. Where the gradient goes
#
# In a network of many units the scalar $w^T$ of notebook 2 becomes a product of Jacobians,
#
# $$ \frac{dL}{ds_t} = \sum_{u \ge t} \frac{\partial L}{\partial y_u}\frac{\partial y_u}{\partial s_u}
#    \frac{ds_u}{ds_t}, \qquad \frac{ds_T}{ds_t} = J_T\, J_{T-1} \cdots J_{t+1}, \qquad
#    J_t = \frac{\partial s_t}{\partial s_{t-1}}. $$
#
# `gradients.flow` measures it for any cell on a real batch: the norm of $dL/ds_t$, how much $ds_T/ds_t$ stretches a
# random direction, the effective memory (ticks until that has fallen to $1/e$), and how many units are saturated.

# %%
# %matplotlib inline
import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from seqjax import gradients
from seqjax.gradients import figures

jax.config.update("jax_enable_x64", True)

# %% [markdown]
# Three cells of 32 units with their usual initial parameters read the same noise; the loss looks at the last output.

# %%
T, B, d, h = 100, 32, 4, 32
xs = jax.random.normal(jax.random.key(0), (T, B, d))
cells = {
    "Elman": sj.elman(d, h),
    "LSTM": sj.lstm(d, h),
    "LSTM, forget bias 2": sj.lstm(d, h, b_init=sj.initializers.forget_bias(2.0)),
}
weights = jax.random.normal(jax.random.key(1), (h,))


def last_output(ys):
    return (ys[-1] @ weights).sum()


reports, params, states = {}, {}, {}
for name, cell in cells.items():
    params[name] = cell.init(jax.random.key(2))
    states[name] = cell.initial_state(params[name], (B,))
    reports[name] = gradients.flow(
        cell, params[name], states[name], xs, last_output, singular_values_at=(50,), probes=8
    )
figures.flow(reports)

# %% [markdown]
# **Figure 1.** *Gradient and stretch against the distance from the loss* (lines: median over 32 examples; bands: eight
# tenths of them). On a logarithmic scale a gradient that vanishes exponentially is a straight line, and its slope is
# the mean logarithm of the Jacobians' stretch. The Elman network starts with an orthogonal $U$, but every tanh takes
# its share. In the LSTM the forget gate sets the pace, $\sigma(1) = 0.73$ a tick by default and $\sigma(2) = 0.88$ with
# a bias of 2, and the paths through the other gates add to it: raised by one, that bias puts this network at the edge
# where gradients neither vanish nor explode. Where a line in **b** crosses the grey one lies the effective memory.

# %%
for name, report in reports.items():
    slope = float((report.log_stretch[-1] - report.log_stretch[0]).mean()) / (T - 1)
    values = report.singular_values[0].mean(0)
    print(
        f"{name:20s} memory {report.memory_length.mean():5.1f} ticks   loses {slope:.3f} nats a tick   "
        f"singular values of J: {values[0]:.2f} … {values[-1]:.2f}"
    )

# %% [markdown]
# ## Gradient by distance
#
# What learning sees is the gradient of the weights. Let every tick have a copy of them: $\partial L / \partial
# \theta_t$ is what tick $t$ has to say, and the sum over $t$ is the gradient.

# %%
distances = {
    name: gradients.weight_gradient_norms(
        cells[name], params[name], states[name], xs, lambda ys, _: ys[-1] @ weights, jnp.zeros(B)
    )
    for name in cells
}
figures.distance(distances)

# %% [markdown]
# **Figure 2.** *What each tick says about the weights.* In the Elman network the last few ticks speak; what came
# before is a thousandfold quieter within thirty. With an open forget gate ticks a hundred back have a say of the same
# order. The width of the bands is the variance over examples: it grows with the distance from the loss, so that what
# little is heard from far away is heard unevenly.

# %%
share = {}
for name, norm in distances.items():
    squares = (np.asarray(norm) ** 2).mean(1)
    share[name] = squares[: T - 20].sum() / squares.sum()
    spread = np.log(np.asarray(norm)[[0, T - 1]]).std(1)
    print(
        f"{name:20s} beyond 20 ticks: {share[name]:.1e} of the squared norm   "
        f"spread of ln: {spread[1]:.2f} near, {spread[0]:.2f} far"
    )

# %% [markdown]
# ## The rate is a Lyapunov exponent
#
# The largest Lyapunov exponent of the driven network is the slope of Figure 1b in the long run. A QR decomposition a
# tick measures it without ever forming the product.

# %%
long = jax.random.normal(jax.random.key(3), (1500, 4, d))
exponents = {}
for name, cell in cells.items():
    state = cell.initial_state(params[name], (4,))
    exponents[name] = gradients.lyapunov_exponents(cell, params[name], state, long, 2, skip=100)
    print(f"{name:20s} first two exponents {exponents[name].mean(0).round(3)} nats a tick")

# %%
memory = {name: float(report.memory_length.mean()) for name, report in reports.items()}
assert memory["Elman"] < 10
assert memory["LSTM, forget bias 2"] > 50
assert share["Elman"] < 1e-3
assert share["LSTM, forget bias 2"] > 0.3
first = {name: float(found[:, 0].mean()) for name, found in exponents.items()}
assert first["Elman"] < first["LSTM"] < -0.05 < first["LSTM, forget bias 2"] < 0.02
for name in ("Elman", "LSTM"):  # far from the end, the slope in the figure is the exponent
    late = (reports[name].log_stretch[-41] - reports[name].log_stretch[0]).mean() / (T - 41)
    np.testing.assert_allclose(-late, first[name], atol=0.03)
# The flow is the gradient: at the last tick that of the readout.
np.testing.assert_allclose(reports["Elman"].loss_gradient[-1], jnp.linalg.norm(weights), rtol=1e-12)

# %% [markdown]
# ## Questions
#
# 1. A forget gate of 0.88 alone would halve a gradient every five ticks. Why does the third line not fall?
# 2. The loss looks at the last output. How would Figure 1a look if it looked at all of them?
# 3. Which number says in advance how steep the lines are?
#
# Where the answers are: the caption of Figure 1; try `last_output` with `ys.sum(0)`; the last section.
