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
