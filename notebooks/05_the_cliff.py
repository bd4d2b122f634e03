# %% [markdown]
# # 5. The cliff, and what clipping does
#
# One sigmoid unit, no input, fifty ticks, and a loss on the last state:
#
# $$ h_t = \sigma(w\, h_{t-1} + b), \qquad L(w, b) = (h_{50} - 0.7)^2, \qquad h_0 = \tfrac12. $$
#
# For $w > 4$ the map has two attractors, one near 0 and one near 1 (notebook 3). Which of them the run falls to changes
# abruptly along the line $b = -w/2$, where $h_0 = \tfrac12$ lies on the boundary of the basins. The loss jumps with it.

# %%
# %matplotlib inline
import jax
import jax.numpy as jnp
import numpy as np

from seqjax import gradients
from seqjax.gradients import figures

jax.config.update("jax_enable_x64", True)

# %% [markdown]
# Gradient descent with and without clipping. Clipping by norm leaves the direction alone and bounds the length:
#
# $$ g \leftarrow \eta\, \frac{g}{\|g\|} \quad \text{if } \|g\| > \eta. $$


# %%
def bent(w, low, high, n):
    """n biases below the wall b = -w/2 and n above it: the wall becomes a line of the grid."""
    step = jnp.linspace(0, 1, n)[:, None]
    wall = -w / 2
    return jnp.concatenate([low + (wall - low) * (1 - step[::-1]), wall + (high - wall) * step[1:]])


w = jnp.linspace(4, 5, 121)
b = bent(w, -2.7, -1.9, 60)
grid = gradients.Point(jnp.broadcast_to(w, b.shape), b)
surface = gradients.cliff_loss(grid)
start = gradients.Point(4.6, -2.6)
paths = {
    "without clipping": gradients.cliff_descent(start, 0.5, 40),
    "clipped": gradients.cliff_descent(start, 0.5, 40, clip=0.1),
}
figures.cliff(grid, surface, paths)

# %% [markdown]
# **Figure 1.** *The cliff.* Left: the loss over the two parameters, a plateau, a wall and a valley at its foot.
# Right: the same from above, with two descents from one starting point. Both walk down the plateau. The plain one
# (squares) is flung far across the valley each time it touches the wall, and at last out of the picture (arrow), to a
# place where the unit is saturated and the gradient is zero for good. The clipped one (dots) meets the same wall with
# the same huge gradients and takes a step of the usual size: it descends along the foot of the wall to the minimum.

# %%
even = gradients.Point(*jnp.meshgrid(w, jnp.linspace(-2.7, -1.9, 240)))
slope = jax.grad(lambda point: gradients.cliff_loss(point).sum())(even)
norms = np.hypot(slope.w, slope.b)
print(f"norm of the gradient on this map: median {np.median(norms):.3f}, largest {norms.max():.0f}")

(plain, plain_loss), (clipped, clipped_loss) = paths.values()
print(f"plain: ends at w = {plain.w[-1]:.2f}, b = {plain.b[-1]:.2f}, loss {plain_loss[-1]:.4f}")
print(f"clipped: lowest loss {clipped_loss.min():.5f}")
assert norms.max() > 100 * np.median(norms)
assert plain.b[-1] > b.max() + 1  # out of the picture
np.testing.assert_allclose(plain_loss[-1], 0.09, rtol=1e-4)  # (1 - 0.7)², the saturated unit
steps = np.hypot(np.diff(clipped.w), np.diff(clipped.b))
assert steps.max() <= 0.5 * 0.1 + 1e-12
assert clipped_loss.min() < 1e-3
# The wall is where the starting state lies on the boundary between the basins.
across = np.asarray(gradients.cliff_loss(even))[:, 100]
np.testing.assert_allclose(even.b[np.argmax(np.abs(np.diff(across))), 100], -w[100] / 2, atol=0.01)

# %% [markdown]
# ## What clipping costs: a bias
#
# Gradients of single examples, or of minibatches, are clipped one by one, and $E[\mathrm{clip}(g)]$ is not
# $\mathrm{clip}(E[g])$: a rare, large gradient is outvoted. Take one gradient of 10 and nine of -1. Their mean is 0.1;
# clipped to 1 their mean is -0.8, and descent goes uphill.

# %%
each = jnp.array([[10.0]] + 9 * [[-1.0]])
thresholds = jnp.geomspace(0.1, 20.0, 200)
pairs = ((each[:, None] + each) / 2).reshape(-1, 1)  # all minibatches of two
found = {
    "one example": gradients.clipping_bias(each, thresholds),
    "2 examples": gradients.clipping_bias(pairs, thresholds),
}
figures.clipping(
    thresholds,
    0.1,
    {name: bias.mean_of_clipped for name, bias in found.items()},
    {name: bias.cosine for name, bias in found.items()},
    {name: bias.rate for name, bias in found.items()},
)

# %% [markdown]
# **Figure 2.** *The mean of clipped gradients against the clipped mean.* **a** Their norms; where a line dips to zero
# the mean changes its sign. **b** The cosine between the two: in one dimension it is 1 or -1. **c** The share that is
# clipped. Minibatches are wrong up to a lower threshold. `python -m seqjax gradients
# clipping` does the same with a network's gradients.

# %%
at = gradients.clipping_bias(each, jnp.array([1.0, 15.0]))
np.testing.assert_allclose(at.mean_of_clipped, [0.8, 0.1], rtol=1e-12)
np.testing.assert_allclose(at.cosine, [-1, 1], rtol=1e-12)
turned = {name: float(thresholds[np.flatnonzero(bias.cosine < 0)[-1]]) for name, bias in found.items()}
print("the sign is wrong up to a threshold of", {name: round(value, 2) for name, value in turned.items()})
np.testing.assert_allclose(turned["one example"], 9.0, atol=0.3)
assert turned["2 examples"] < turned["one example"]

# %% [markdown]
# ## Questions
#
# 1. Why does the clipped descent zigzag along the wall?
# 2. Clipping keeps the direction of one gradient. Why does it not keep the direction of their mean?
# 3. Which batch size would make the bias of Figure 2 vanish at threshold 1?
#
# Where the answers are: the gradient on the wall points across it, Figure 1; the docstring of
# `gradients.clipping_bias`; all ten at once, for then there is one gradient only, their mean of 0.1.
