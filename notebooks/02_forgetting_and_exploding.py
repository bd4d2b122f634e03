# %% [markdown]
# # 2. Forgetting and exploding
#
# Strip a recurrence to a single number and a single weight, without input:
#
# $$ h_t = w\, h_{t-1}, \qquad \frac{dh_T}{dh_0} = w^T. $$
#
# All trouble with long sequences is in this line. A weight 10 % above one multiplies a gradient by more than a hundred
# in fifty ticks; a weight 10 % below divides it by two hundred. There is no third way but $w = 1$ exactly.

# %%
# %matplotlib inline
import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from seqjax import gradients
from seqjax.gradients import figures

jax.config.update("jax_enable_x64", True)

# %%
weights = {"w = 1.1": 1.1, "w = 1": 1.0, "w = 0.9": 0.9, "w = 1/2": 0.5}
factors = {name: gradients.scalar_chain(w, 50) for name, w in weights.items()}
figures.chains(factors)

# %% [markdown]
# **Figure 1.** *Exponential forgetting and exploding.* Each line is a derivative found by differentiating the run. On a
# logarithmic scale they are straight: the only question is the sign of the slope, $\ln w$. With $w = 1/2$ a state has
# lost half of its influence after one tick, and after fifty what is left, $9 \cdot 10^{-16}$, is lost in the rounding
# of a single float and all but lost in that of a double.

# %%
np.testing.assert_allclose(factors["w = 1.1"][50], 117.39, rtol=1e-4)
np.testing.assert_allclose(factors["w = 0.9"][50], 0.005154, rtol=1e-4)
np.testing.assert_allclose(factors["w = 1.1"][49], 106.72, rtol=1e-4)
np.testing.assert_allclose(factors["w = 0.9"][49], 0.005726, rtol=1e-4)
np.testing.assert_allclose(factors["w = 1/2"], 0.5 ** np.arange(51.0))

# %% [markdown]
# ## Many units
#
# With a matrix $U$ in place of $w$ the factor is $\|U^T\|$: the largest eigenvalue decides in the long run, the
# singular values on the way. An orthogonal matrix has all of both at one.

# %%
n, T = 32, 50
draw = jax.random.normal(jax.random.key(0), (n, n)) / n**0.5
matrices = {
    "Gaussian": draw,
    "Gaussian / 1.5": draw / 1.5,
    "orthogonal": jnp.linalg.qr(draw)[0],
}
linear = sj.elman(1, n, activation=lambda a: a, b_init=None)
chains = {}
for name, u in matrices.items():
    run = sj.ElmanParams(jnp.zeros((1, n)), u, None)
    starts = jnp.eye(n)  # n starting states side by side: the rows of U^t
    _, rows = sj.unroll(linear, run, starts, jnp.zeros((T, n, 1)))
    norms = jnp.linalg.norm(rows, 2, axis=(1, 2))
    chains[name] = jnp.concatenate([jnp.ones(1), norms])
    largest = jnp.abs(jnp.linalg.eigvals(u)).max()
    print(f"{name:15s} largest |eigenvalue| {largest:.3f}   growth a tick, late {(norms[-1] / norms[-11]) ** 0.1:.3f}")
    np.testing.assert_allclose(norms[-1], jnp.linalg.norm(jnp.linalg.matrix_power(u, T), 2), rtol=1e-8)
figures.chains(chains)

# %% [markdown]
# **Figure 2.** *The same with 32 units.* The Gaussian matrix first stretches, whatever its eigenvalues, because its
# largest singular value is about two; then the largest eigenvalue sets the slope. The orthogonal matrix neither
# stretches nor shrinks at any time.

# %% [markdown]
# ## Random factors
#
# The Jacobian of a real network changes from tick to tick. Take the factors at random, $w_t \sim N(0, s^2)$:
#
# $$ E\Big[\prod_t w_t^2\Big] = s^{2T}, \qquad
#    \frac{1}{T}\, E \ln \Big|\prod_t w_t\Big| = \ln s - \frac{\gamma + \ln 2}{2} = \ln s - 0.635. $$
#
# At $s = 1$ the mean square says that nothing changes. Yet a typical product shrinks by $e^{-0.635} \approx 0.53$ a
# factor. Both are true: the mean is carried by products so rare that no training run meets one.

# %%
lengths = [1, 2, 5, 10, 15, 20, 30]
found = {s: [gradients.random_products(jax.random.key(t), s, t, 20_000) for t in lengths] for s in (0.9, 1.0, 1.1)}
figures.products(lengths, found)

# %% [markdown]
# **Figure 3.** *Lines are theory, dots 20,000 draws.* **a** The root mean square follows $s^T$ at first, then scatters,
# mostly below it: beyond ten factors even 20,000 draws seldom hold the rare giants that make up the mean. **b** The
# median vanishes for all three scales, and as fast as the mean logarithm says. To preserve the typical gradient one
# would need $s = e^{0.635} = 1.89$, and then the mean square explodes.

# %%
for s, moment in ((0.9, 0.1216), (1.0, 1.0), (1.1, 6.73)):
    ten = gradients.random_products(jax.random.key(0), s, 10, 100_000)
    np.testing.assert_allclose(ten.expected_second_moment, moment, rtol=1e-3)
    np.testing.assert_allclose(ten.mean_log, np.log(s) - 0.635, atol=3e-3)
at_one = found[1.0][-1]
assert float(at_one.typical) < 1e-6  # while the expected mean square is 1

# %% [markdown]
# ## A bounded state, an unbounded derivative
#
# With $\tanh$ the state cannot explode: $\|h_t\| \le \sqrt n$, whatever the weights are. Its derivative can.

# %%
runs = {f"gain {gain:g}": gradients.bounded_run(jax.random.key(0), 64, 100, gain) for gain in (0.8, 1.5, 3.0)}
figures.bounded(
    8.0, {name: run.norm for name, run in runs.items()}, {name: run.log_jacobian for name, run in runs.items()}
)

# %% [markdown]
# **Figure 4.** *The same runs, forwards and differentiated*: $h_t = \tanh(h_{t-1} U)$ with 64 units, no input, weights
# of standard deviation gain$/\sqrt n$. **a** No state passes the line $\sqrt n$. **b** The derivative by where the run
# began falls below one or rises above it, on and on.

# %%
for name, run in runs.items():
    tens = float(run.log_jacobian[-1]) / np.log(10)
    print(f"{name}: largest state {run.norm.max():.2f}, derivative after 100 ticks 10^{tens:.1f}")
    assert run.norm.max() < 8
assert runs["gain 0.8"].log_jacobian[-1] < -5 < 5 < runs["gain 3"].log_jacobian[-1]

# %% [markdown]
# ## Questions
#
# 1. A weight of 0.9 and a weight of 1.1: after how many ticks has either changed a gradient tenfold?
# 2. Why do the dots in Figure 3a fall below their lines, and the more draws, the later?
# 3. How can $\|h_t\|$ stand still while $\|dh_t/dh_0\|$ grows tenfold every few ticks?
#
# Where the answers are: $\ln 10 / |\ln w|$, Figure 1; the docstring of `gradients.RandomProducts`; Figure 4 and
# notebook 3, where it is the distance between two neighbouring runs that grows. `python -m seqjax gradients chain` and
# `bounded`.
