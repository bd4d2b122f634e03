"""Several models trained on the same batches, each as if it were alone: comparisons and negative controls.

Their parameters and states are dictionaries by name. The loss that is descended is the sum of theirs, each gradient is
clipped by itself, and a command's optimizers treat every array apart: no model changes another's course. What is shown
is the mean of their losses.
"""

from collections.abc import Callable, Collection, Mapping

import jax
import jax.numpy as jnp
import optax

import seqjax as sj
from seqjax.base import Array, PyTree
from seqjax.objectives import Objective, fixed_by, trains
from seqjax.recipes.running import learning


def together(objectives: Mapping[str, Objective]) -> Objective:
    """One objective for all: losses are added, and must count the same answers."""

    @trains(lambda params: {name: fixed_by(objective, params[name]) for name, objective in objectives.items()})
    def run(
        params: dict[str, PyTree], state: dict[str, PyTree], batch: sj.Batch, key: Array | None = None
    ) -> tuple[dict[str, PyTree], sj.Tally]:
        keys = [None] * len(objectives) if key is None else list(jax.random.split(key, len(objectives)))
        states, tallies = {}, []
        for (name, objective), k in zip(objectives.items(), keys):
            states[name], tally = objective(params[name], state[name], batch, k)
            tallies.append(tally)
        return states, sj.Tally(jnp.stack([tally.sum for tally in tallies]).sum(), tallies[0].count)

    return run


def mean_loss(models: Collection) -> Callable[[Array], dict[str, Array]]:
    """For the bar and the records: the mean of the losses that `together` adds."""
    return lambda loss: {"loss": loss / len(models)}


def clip_each(threshold: float) -> optax.GradientTransformation:
    """`seqjax.clip_by_global_norm` for each model's gradient by itself."""
    clip = sj.clip_by_global_norm(threshold)

    def scale(gradient: dict[str, PyTree], params: PyTree | None) -> dict[str, PyTree]:
        return {name: clip.update(g, clip.init(g))[0] for name, g in gradient.items()}

    return optax.stateless(scale)


def parameters(inits: Mapping[str, Callable[[Array], PyTree]], key: Array) -> dict[str, PyTree]:
    """Parameters of each, drawn from one key: models of one structure start from the same numbers."""
    return {name: init(key) for name, init in inits.items()}


def begin(
    options: learning.LearningOptions, models: Mapping[str, sj.Layer], *, noise: bool = False
) -> learning.Training:
    """What training of all of them starts from, as `learning.begin`."""
    params = parameters({name: model.init for name, model in models.items()}, jax.random.key(options.seed))
    memory = {name: model.initial_state(params[name], (options.batch_size,)) for name, model in models.items()}
    return learning.begin(options, params, memory, noise=noise)
