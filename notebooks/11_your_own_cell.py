# %% [markdown]
# # 11. Your own cell, on every engine
#
# A recurrence is written once, as its equation. How it is run, what is stored for the gradient and how the loop is
# arranged are decided elsewhere, and every way gives the same numbers. As an example a cell that is in no library:
# units that keep a share of their state which is learned, one a unit, and damp each other,
#
# $$ r = \sigma(\rho), \qquad h' = r \odot h + (1 - r) \odot \frac{z}{1 + \mathrm{mean}(z^2)}, \qquad
#    z = \tanh(x W + h U). $$

# %%
# %matplotlib inline
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from seqjax import gradients
from seqjax.gradients import figures

jax.config.update("jax_enable_x64", True)


class DampedParams(NamedTuple):
    """``w_x [d, h]``, ``w_h [h, h]``, ``rho [h]``."""

    w_x: jax.Array
    w_h: jax.Array
    rho: jax.Array


def damped(input_size, hidden_size):
    """Units that keep a learned share of their state and damp each other."""

    def init(key):
        in_key, rec_key, rho_key = jax.random.split(key, 3)
        return DampedParams(
            sj.initializers.input_weights(in_key, (input_size, hidden_size), float),
            sj.initializers.recurrent_weights(rec_key, (hidden_size, hidden_size), float),
            jax.random.uniform(rho_key, (hidden_size,), float, 0, 4),
        )

    def initial_state(params, batch_shape=(), *, key=None):
        return jnp.zeros((*batch_shape, hidden_size), params.rho.dtype)

    def step(params, h, x):
        z = jnp.tanh(x @ params.w_x + h @ params.w_h)
        keep = jax.nn.sigmoid(params.rho)
        h = keep * h + (1 - keep) * z / (1 + (z**2).mean(-1, keepdims=True))
        return h, h

    return sj.Cell(init, initial_state, step)


# %% [markdown]
# That is all. Batches, masks, chunks, resets, stacking, regularisers and training now work; so do the engines. Below,
# the gradient of one loss is taken in six ways.

# %%
T, B, d, h = 200, 4, 3, 16
cell = damped(d, h)
params = cell.init(jax.random.key(0))
state = cell.initial_state(params, (B,))
xs = jax.random.normal(jax.random.key(1), (T, B, d))
lengths = jnp.array([200, 150, 80, 3])


def loss(params, engine, memory):
    _, ys = sj.unroll(cell, params, state, xs, lengths=lengths, engine=engine, memory=memory)
    return (ys**2).sum()


ways = [("scan", "all"), ("scan", "sqrt"), ("split", "all"), ("split", "carries"), ("split", "log"), ("split", 16)]
found = {way: jax.grad(loss)(params, *way) for way in ways}
for way, gradient in found.items():
    for ours, reference in zip(jax.tree.leaves(gradient), jax.tree.leaves(found["scan", "all"])):
        np.testing.assert_allclose(ours, reference, rtol=1e-9, atol=1e-12)
    print(f"engine {way[0]:5s} memory {way[1]!s:8s} equal to plain scan")

# %% [markdown]
# The split engine reads the step's equations: $x W$ does not depend on the state, so it is one large product in front
# of the loop; the gradient of $U$ is one large product behind it. `sj.explain` says what would be done, and why.

# %%
print(sj.explain(cell, params, state, xs, engine="split", memory="sqrt"))

# %% [markdown]
# Cells make cells. A stack of the new cell and a GRU, with zoneout, is a cell again, and the laboratory of these
# notebooks works on it as on any other.

# %%
deep = sj.stack(cell, sj.zoneout(sj.gru(h, h), 0.1))
deep_params = deep.init(jax.random.key(2))
reports = {
    "damped": gradients.flow(cell, params, state, xs, lambda ys: ys[-1].sum()),
    "damped, then GRU": gradients.flow(
        deep, deep_params, deep.initial_state(deep_params, (B,)), xs, lambda ys: ys[-1].sum()
    ),
}
figures.flow(reports)

# %% [markdown]
# **Figure 1.** *The gradient in a cell that was written a minute ago.* Its units keep shares between $\sigma(0) =
# 0.5$ and $\sigma(4) = 0.98$: at first all of them count and the lines are steep, later only the slow ones are left.
# The memory is that of the slowest unit.

# %%
for name, report in reports.items():
    print(f"{name}: effective memory {report.memory_length.mean():.1f} ticks")
# The Jacobian of the step against finite differences.
s, x = 0.1 * jax.random.normal(jax.random.key(3), (h,)), xs[0, 0]
exact = jax.jacobian(lambda s: cell.step(params, s, x)[0])(s)
steps = 1e-6 * np.eye(h)
numeric = np.stack([(cell.step(params, s + e, x)[0] - cell.step(params, s - e, x)[0]) / 2e-6 for e in steps], 1)
np.testing.assert_allclose(exact, numeric, atol=1e-8)
found_by_library = gradients.step_jacobians(cell, params, s, x[None], [0])[0]
np.testing.assert_allclose(found_by_library, exact, rtol=1e-12)
slowest = jax.nn.sigmoid(params.rho).max()
late = reports["damped"].log_stretch
slope = float((late[100] - late[0]).mean()) / 100
assert abs(slope + float(jnp.log(slowest))) < 0.05

# %% [markdown]
# ## Questions
#
# 1. What would `sj.explain` say if the damping saw $h$ instead of $z$?
# 2. Why is the memory that of the slowest unit and not of the mean one?
#
# Where the answers are: change the step and ask again; Figure 1, and the sum over units in `help(sj.gradients.flow)`.
