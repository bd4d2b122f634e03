# %% [markdown]
# # 6. Depth: plain and residual stacks
#
# Depth multiplies Jacobians as time does, with another matrix at each layer:
#
# $$ \text{plain:}\quad x_l = F_l(x_{l-1}), \quad \frac{dx_L}{dx_0} = \prod_l F_l'; \qquad
#    \text{residual:}\quad x_l = x_{l-1} + F_l(x_{l-1}), \quad \frac{dx_L}{dx_0} = \prod_l (I + F_l'). $$
#
# The identity in every factor is a path on which nothing multiplies the gradient. Here
# $F_l(x) = \tanh(x W_l)$ with random weights, and what is followed are the singular values of the product.

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
key, size, depth = jax.random.key(0), 32, 60
stretches = {
    "plain": gradients.depth_stretch(key, size, depth),
    "residual": gradients.depth_stretch(key, size, depth, residual=True),
}
figures.depth(stretches)

# %% [markdown]
# **Figure 1.** *Singular values of $dx_l/dx_0$, from the largest to the smallest, layer by layer.* In the plain stack
# the largest stays near one (the weights have been scaled for that), yet the middle one loses a power of ten every
# six layers: after sixty, of 32 directions only a few still carry a gradient. (The smallest end at the last digit of
# a double, 16 powers of ten below the largest.) In the residual stack the middle direction keeps size one at any
# depth.

# %% [markdown]
# ## The identity at the start
#
# The residual block of a feed-forward network is
#
# $$ z = x W_1 + b_1, \qquad a = \phi(z), \qquad v = x + a W_2, \qquad
#    \frac{dv}{dx} = I + \big( W_1\, \mathrm{diag}(\phi'(z))\, W_2 \big)^{\!\top}. $$
#
# With $W_2 = 0$ a stack of any depth is the identity, gradient included: one starts from a network that does nothing
# and learns what to add.

# %%
block = sj.feed_forward(8, 16, activation=jnp.tanh)
(first, second) = block.init(jax.random.key(1))
x = jax.random.normal(jax.random.key(2), (1, 8))
apply = lambda params, x: block.apply(params, ((), ()), x)[1]

found = jax.jacobian(lambda x: apply((first, second), x[None])[0])(x[0])
z = x[0] @ first.w + first.b
by_hand = np.eye(8) + (first.w @ np.diag(1 - np.tanh(z) ** 2) @ second.w).T
np.testing.assert_allclose(found, by_hand, rtol=1e-10, atol=1e-12)

nothing = second._replace(w=jnp.zeros_like(second.w))
np.testing.assert_array_equal(apply((first, nothing), x), x)

# %%
tens = {name: np.asarray(logs) / np.log(10) for name, logs in stretches.items()}
middle = {name: np.median(t, axis=1) for name, t in tens.items()}
for name in tens:
    print(f"{name:9s} middle singular value after {depth} layers: 10^{middle[name][-1]:.1f}")
assert middle["plain"][-1] < -8
assert abs(middle["residual"][-1]) < 0.5
assert tens["plain"][-1, 0] - middle["plain"][-1] > 8

# %% [markdown]
# ## Questions
#
# 1. What is the derivative of a residual stack whose last weights are all zero?
# 2. Time multiplies by the same matrix, depth by another one at each layer. Which of the two can be kept at size one?
#
# Where the answers are: the assertion under "The identity at the start"; Figure 1, and notebook 2 with an orthogonal
# matrix. `python -m seqjax gradients depth --scale 1.5`.
