# %% [markdown]
# # 8. Remedies, side by side
#
# The adding problem: a sequence of random numbers, two of them marked, one in each half; at the end their sum is asked
# for. Whoever answers 1 every time has a squared error of 1/6. To do better a network must carry a number across the
# sequence, and to learn that, a gradient has to come all the way back.
#
# Ten networks get the same batches, the same optimizer and the same number of updates. Each is an Elman network with
# one thing changed, but for the gated cells and the reservoir; all but the first clip the gradient to norm 1.

# %%
# %matplotlib inline
import jax
import numpy as np
import optax
from IPython.display import Markdown

import seqjax as sj
from seqjax import gradients
from seqjax.gradients import figures

# %%
T, batch, updates = 30, 20, 1200
problem = sj.tasks.adding(T)
rng = np.random.default_rng(0)
many, test = problem.draw(rng, updates * batch), problem.draw(rng, 200)
xs = many.xs.reshape(T, updates, batch, 2).swapaxes(0, 1)
targets = many.targets.reshape(updates, batch, 1)
adam = optax.adam(3e-3)

trials = {
    name: gradients.try_remedy(remedy, jax.random.key(0), (xs, targets), (test.xs, test.targets), adam)
    for name, remedy in gradients.remedies(2, 32).items()
}
figures.remedies(trials, problem.chance)

# %% [markdown]
# **Figure 1.** *Learning curves on the adding problem over 30 ticks* (mean over 20 updates; the number in each title is
# the error on 200 new sequences; grey is the plain network, dotted the best blind answer). What can be said of them is
# made of the numbers in the table below:

# %%
Markdown(figures.told(trials, problem.chance))

# %%
Markdown(figures.table(trials))

# %% [markdown]
# **Table 1.** *Errors and gradients.* The last two columns are the ratio of the state's gradient at the first tick to
# that at the last, before and after learning: where it is $10^{-6}$ at the start, the first half of the sequence might
# as well not exist. One seed each: small differences mean nothing. `python -m seqjax gradients remedies` tries all ten
# over 100 ticks and three seeds.

# %%
error = {name: float(trial.test_error) for name, trial in trials.items()}
assert error["plain tanh"] > 0.6 * problem.chance
assert error["clipping"] > 0.6 * problem.chance
assert error["GRU"] < 0.1 * problem.chance
assert error["LSTM"] < 0.1 * problem.chance
assert error["identity weights, relu"] < 0.1 * problem.chance
ratio = {name: float((t.first_gradient[0] / t.first_gradient[-1]).mean()) for name, t in trials.items()}
assert ratio["plain tanh"] < 1e-4 * ratio["orthogonal weights"]

# %% [markdown]
# ## Questions
#
# 1. Which remedy lets a gradient through at the start and yet is not among those that learned? What else does it take?
# 2. Clipping changes nothing for a gradient that vanishes. How can one tell from Table 1 that it does not explode?
# 3. What would three seeds and a hundred ticks change?
#
# Where the answers are: the sentences under Figure 1; the column of largest norms; `python -m seqjax gradients
# remedies`.
