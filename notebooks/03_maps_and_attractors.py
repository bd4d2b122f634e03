# %% [markdown]
# # 3. Maps and attractors
#
# A network without input is an iterated map. What it remembers of its beginning is decided by where iteration leads:
# to a fixed point, round a cycle, or nowhere. This notebook looks at the simplest map that does all three, then at a
# network of two units that was trained to keep one bit.

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
# ## The logistic map
#
# $$ x_{t+1} = r\, x_t (1 - x_t) $$
#
# At $r = 3.5$ it ends in a cycle. The iterates can be drawn one after the other, or as a cobweb: up to the parabola,
# across to the diagonal, again and again.

# %%
orbits = {}
for start in (0.1, 0.6):
    x = jnp.array(start)
    _, xs = sj.unroll(gradients.logistic_map, jnp.array(3.5), x, None, length=30)
    orbits[f"$x_0$ = {start}"] = jnp.append(x, xs)
cycle = gradients.bifurcation(jnp.array([3.5]))[:4, 0]
figures.iterates(3.5, orbits, cycle)

# %% [markdown]
# **Figure 1.** *The iterates of $3.5\, x (1 - x)$.* **a** From two starts to one cycle of four (grey lines). **b** The
# first of them as a cobweb; dots are the cycle.
#
# How fast neighbouring starting points part is the Lyapunov exponent,
#
# $$ \lambda = \lim_{T \to \infty} \frac{1}{T} \sum_t \ln |f'(x_t)|, $$
#
# the growth rate of the gradient $dx_T/dx_0$. Below zero, the past is forgotten; above, gradients explode.

# %%
rates = jnp.linspace(2.5, 4.0, 700)
orbit = gradients.bifurcation(rates, keep=96)
exponents = gradients.lyapunov_exponents(
    gradients.logistic_map, rates, jnp.full(rates.shape, 0.3), None, length=2000, skip=500
)[:, 0]
figures.bifurcation(rates, orbit, exponents)

# %% [markdown]
# **Figure 2.** *The logistic map.* **a** Where iteration ends up: one point, then two, four, eight …, then chaos with
# windows of order in it. **b** The exponent touches zero where a branch splits, dives where the cycle passes through
# $x = 1/2$ (there $f' = 0$), and is above zero in chaos: no parameter in that region can be trained by gradient through
# many iterations.

# %%
assert gradients.period(gradients.bifurcation(jnp.array([3.5])))[0] == 4
np.testing.assert_allclose(orbits["$x_0$ = 0.1"][1:3], [0.315, 3.5 * 0.315 * 0.685], rtol=1e-14)
assert np.abs(np.subtract.outer(np.asarray(cycle), np.asarray(orbits["$x_0$ = 0.1"][-4:]))).min(1).max() < 0.01
chaos = gradients.lyapunov_exponents(gradients.logistic_map, jnp.array(4.0), jnp.array(0.3), None, length=20_000)
np.testing.assert_allclose(chaos[0], np.log(2), atol=2e-3)
print(f"at r = 4: {chaos[0]:.4f} nats an iteration, ln 2 = {np.log(2):.4f}")

# %% [markdown]
# Two more exponents are known exactly: those of a linear map are the logarithms of its eigenvalues' moduli, and a
# rotation, which only turns, has none at all.

# %%
linear = sj.elman(1, 2, activation=lambda a: a, b_init=None)
turn = jnp.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
for u, expected in ((turn, [0.0, 0.0]), (jnp.array([[2.0, 1.0], [0.0, 0.5]]), [np.log(2), -np.log(2)])):
    run = sj.ElmanParams(jnp.zeros((1, 2)), u, None)
    found = gradients.lyapunov_exponents(linear, run, jnp.ones(2), jnp.zeros((1000, 1)), skip=100)
    np.testing.assert_allclose(found, expected, atol=1e-3)

# %% [markdown]
# ## A network of two units that keeps one bit
#
# The first input, $+1$ or $-1$, names a class; noise follows. Whoever is to tell the class at the end has to keep it,
# and a network does so by moving to one of two attractors.

# %%
cell = sj.elman(1, 2)
latch = gradients.train_latch(cell, 2, jax.random.key(3), 20, optimizer=optax.adam(0.03), steps=400)
print(f"right on {latch.accuracy:.0%} of new sequences of 20 ticks")

grid = jnp.linspace(-1, 1, 161)
states = jnp.stack(jnp.meshgrid(grid, grid), -1)
net = latch.params[0]
reports = {T: gradients.basins(cell, net, states, jnp.zeros(1), T) for T in (3, 6)}
ends = gradients.basins(cell, net, states, jnp.zeros(1), 300).end
attractors = gradients.attractors(ends)

rng = np.random.default_rng(0)
xs = 0.2 * rng.standard_normal((15, 2, 1))
xs[0, :, 0] = 1, -1
_, path = sj.unroll(cell, net, cell.initial_state(net, (2,)), jnp.asarray(xs))
path = jnp.concatenate([jnp.zeros((1, 2, 2)), path])
figures.basins(grid, grid, reports, attractors, path)

# %% [markdown]
# **Figure 3.** *A trained network of two units.* Left: every point of the plane is a state, coloured by the attractor
# it falls to; dots are the attractors, and the black lines two noisy runs, one of each class, from the origin. Middle
# and right: how much the state after 3 and 6 ticks moves with the first one. On the boundary between the basins is a
# ridge that gets narrower and higher with time: a hair's breadth decides where the run ends. Everywhere else the
# gradient has vanished, because whatever falls to a fixed point forgets where it came from. **Remembering robustly and
# having a gradient exclude each other**: a bit is safe exactly where $ds_T/ds_0$ is zero.

# %%
assert latch.accuracy >= 0.95
counts = np.bincount(attractors.index.ravel())
assert (counts[:2] > 0.3 * counts.sum()).all()  # two basins that share the plane
one, other = map(jnp.asarray, attractors.points[:2])
for point in (one, other):  # fixed points, and stable ones
    np.testing.assert_allclose(cell.step(net, point, jnp.zeros(1))[0], point, atol=1e-6)
    local = jax.jacobian(lambda s: cell.step(net, s, jnp.zeros(1))[0])(point)
    assert np.abs(np.linalg.eigvals(local)).max() < 1

# %% [markdown]
# Walk from one attractor to the other and halve the way to the boundary fifty times: there the gradient grows from tick
# to tick, while at the attractor it falls.

# %%
near, far = one, other
for _ in range(50):
    middle = (near + far) / 2
    end = gradients.basins(cell, net, middle, jnp.zeros(1), 300).end
    near, far = (middle, far) if jnp.abs(end - one).max() < 0.1 else (near, middle)
ridge = [float(gradients.basins(cell, net, near, jnp.zeros(1), T).log_gradient) for T in (3, 6, 12)]
inside = [float(gradients.basins(cell, net, one, jnp.zeros(1), T).log_gradient) for T in (3, 6, 12)]
print("ln of the gradient after 3, 6, 12 ticks:", np.round(ridge, 1), "on the boundary,", np.round(inside, 1), "inside")
assert ridge[0] > 0
assert (np.diff(ridge) > 1).all()
assert inside[0] < -2
assert (np.diff(inside) < -2).all()

# %% [markdown]
# ## Questions
#
# 1. At which $r$ does the cycle of two begin, and what is $f'$ at the fixed point there?
# 2. Why does the exponent dive where the cycle passes through $x = 1/2$?
# 3. A bit is safe at an attractor. Why can it not be learned there?
#
# Where the answers are: Figure 2, at $r = 3$, $f' = 2 - r$; $f'(1/2) = 0$; Figure 3 and notebook 4. `python -m seqjax
# gradients maps --rate 3.2` draws another cobweb.
