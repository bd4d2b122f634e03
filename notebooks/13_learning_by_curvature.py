# %% [markdown]
# # 13. Learning by curvature
#
# A gradient that has vanished need not be the end. Along a direction in which the loss is nearly flat its curvature is
# small as well, and a step that divides the one by the other is large. That is Newton's method, with the Gauss-Newton
# matrix in place of the Hessian,
#
# $$ G = J^\top H J, \qquad J = \frac{dz}{d\theta}, \quad H = \frac{d^2 L}{dz^2}, \qquad
#    (G + \lambda I)\, \delta = -\nabla L, $$
#
# which is never below zero where $L$ is convex in the outputs $z$. No matrix is formed: conjugate gradients ask only
# for products $G v$, and one is $J v$ (forward mode through the recurrence), then $H$, then $J^\top$ (reverse mode).
# Each costs about as much as a gradient. The method is called Hessian-free; with it Martens and Sutskever trained
# plain recurrent networks on long-memory problems in 2011.

# %%
# %matplotlib inline
import jax
import jax.numpy as jnp
import numpy as np
import optax

import seqjax as sj
from seqjax import gradients
from seqjax.gradients import figures

# %% [markdown]
# ## A product is the product
#
# For a network of three units the matrix fits on a page, so that it can be formed column by column and compared.

# %%
tiny = sj.elman(2, 3)
tiny_params = tiny.init(jax.random.key(0))
flat, restore = jax.flatten_util.ravel_pytree(tiny_params)
xs = jax.random.normal(jax.random.key(1), (10, 4, 2))


def outputs(params):
    return sj.unroll(tiny, params, tiny.initial_state(params, (4,)), xs)[1]


def loss(z):
    return -jax.nn.log_softmax(z)[..., 0].mean()


product = gradients.gauss_newton_product(outputs, loss, tiny_params)
columns = jax.vmap(lambda v: jax.flatten_util.ravel_pytree(product(restore(v)))[0])(jnp.eye(flat.size))
jacobian = jax.jacobian(lambda v: outputs(restore(v)).ravel())(flat)
hessian = jax.hessian(lambda z: loss(z.reshape(10, 4, 3)))(outputs(tiny_params).ravel())
np.testing.assert_allclose(columns, jacobian.T @ hessian @ jacobian, atol=1e-6)
values = np.linalg.eigvalsh(columns)
print(f"{flat.size} parameters; the eigenvalues of G reach from {values[0]:.0e} to {values[-1]:.2f}")

# %% [markdown]
# In one direction the loss bends hundreds of times more than in another, with three units and ten ticks. A learning
# rate that suits the first does next to nothing in the second.
#
# ## A problem of memory
#
# *Temporal order*: among thirty symbols an X or Y comes early and another one half-way; in which of the four possible
# orders? Everything else is noise. The network is a plain tanh network of 24 units. Plain gradient descent and Adam
# may take as many gradients as Hessian-free learning takes products.

# %%
problem = sj.tasks.temporal_order(30)
rng = np.random.default_rng(0)


def questions(count):
    xs, targets, mask, _ = problem.draw(rng, count)
    one_hot = np.eye(problem.input_size, dtype=np.float32)[xs]
    return gradients.Questions(jnp.asarray(one_hot), jnp.asarray(targets), jnp.asarray(mask))


train, test = questions(500), questions(500)
units, updates, products = 24, 22, 40  # conjugate gradients take at most so many products an update


def learn(updates, optimizer=None):
    return gradients.train_recall(
        sj.elman(problem.input_size, units),
        jax.random.key(0),
        train,
        test,
        output_size=units,
        answers=problem.output_size,
        updates=updates,
        optimizer=optimizer,
        iterations=products,
    )


runs = {
    "Hessian-free": (learn(updates), products),
    "gradient descent": (learn(updates * products, optax.sgd(3e-3)), 1),
    "Adam": (learn(updates * products, optax.adam(3e-3)), 1),
}
figures.recall({"temporal order, 30 ticks": runs})

# %% [markdown]
# **Figure 1.** *One set of 500 sequences, learned in three ways.* All start on the plateau of blind guessing at
# $\ln 4$. Gradient descent has only begun to leave it; with three times its rate it is thrown about, and where it ends
# then depends on rounding. Hessian-free learning creeps along the plateau for a dozen updates, then falls by a factor
# each update, as Newton's method does near its goal. Adam, which came later, divides every parameter's gradient by its
# usual size: a little curvature, for free. It leaves the plateau long before, then slows down. Both solve the problem.
# What Hessian-free learning has for itself is that no rate had to be tuned: the damping follows from how well the last
# quadratic model predicted. What it does not have is the noise that keeps a network from learning 500 sequences by
# heart: from two other starts, `jax.random.key(1)` and `key(2)`, it brings their loss below 0.06, too, and is right on
# 67% and 54% of new ones, Adam on 99% of both.

# %%
for name, (run, _) in runs.items():
    print(f"{name:17s} loss {float(run.loss[-1]):.4f}   right on {float(run.score):.1%} of 500 new sequences")
newton, plain = runs["Hessian-free"][0], runs["gradient descent"][0]
assert abs(newton.loss[0] - np.log(4)) < 0.3
assert newton.loss[-1] < 0.02
assert newton.score > 0.95
assert plain.loss[-1] > 0.5
assert plain.score < 0.8

# %% [markdown]
# ## Questions
#
# 1. Why is $G$ never below zero where the Hessian may be?
# 2. What does an update cost, counted in gradients?
#
# Where the answers are: the first equation, with $H$ of a convex loss; the docstring of
# `sj.curvature.gauss_newton_product`, and the axis of Figure 1.
