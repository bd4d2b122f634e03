"""Every optimizer of Optax in a training step: it descends, compiles once, and equals a plain Optax loop."""

import functools

import jax
import numpy as np
import optax
import pytest
from laws import assert_close
from marks import all_but, quick
from optax import contrib

import seqjax as sj

pytestmark = pytest.mark.filterwarnings("ignore:Specifying a key will be required")

WITH_RATE = {
    (optax, 0.03): "adabelief adadelta adafactor adagrad adam adamax adamaxw adamw adan amsgrad fromage lamb lars lion "
    "nadam nadamw noisy_sgd novograd optimistic_gradient_descent optimistic_adam_v2 radam rmsprop rprop sgd sign_sgd "
    "sm3 yogi",
    (optax, 1.0): "lbfgs polyak_sgd",
    (contrib, 0.03): "acprop ademamix adopt dadapt_adamw galore madgrad muon schedule_free_adamw schedule_free_sgd "
    "simplified_ademamix sophia",
}
OPTIMIZERS = {
    name: functools.partial(getattr(room, name), rate)
    for (room, rate), names in WITH_RATE.items()
    for name in names.split()
}
OPTIMIZERS |= {name: getattr(contrib, name) for name in ("cocob", "dog", "dowg", "momo", "momo_adam", "prodigy")}
OPTIMIZERS |= {
    "apply_every": lambda: optax.chain(optax.sgd(0.03), optax.apply_every(2)),
    "apply_if_finite": lambda: optax.apply_if_finite(optax.sgd(0.03), 3),
    "averaging": lambda: sj.averaging(optax.lbfgs()),
    "backtracking": lambda: optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(15)),
    "inject_hyperparams": lambda: optax.inject_hyperparams(optax.sgd)(learning_rate=0.03),
    "masked": lambda: optax.masked(optax.sgd(0.03), True),
    "mechanize": lambda: contrib.mechanize(optax.sgd(0.03)),
    "MultiSteps": lambda: optax.MultiSteps(optax.sgd(0.03), 2).gradient_transformation(),
    "partition": lambda: optax.partition({"a": optax.adam(0.03)}, "a"),
    "reduce_on_plateau": lambda: optax.chain(optax.sgd(0.03), contrib.reduce_on_plateau()),
    "sam": lambda: contrib.sam(optax.sgd(0.03), optax.sgd(0.01), opaque_mode=True),
    "schedule": lambda: optax.sgd(optax.cosine_decay_schedule(0.03, 30)),
    "snapshot": lambda: optax.chain(optax.sgd(0.03), optax.snapshot("updates", lambda u: optax.tree.norm(u))),
}
SLOW_TO_START = {"adadelta", "cocob", "dadapt_adamw", "dog", "dowg", "mechanize", "momo", "momo_adam", "prodigy"}
# the value too, a loop inside, parameters kept, a function asked for
SPREAD = (
    "adamw",
    "lbfgs",
    "polyak_sgd",
    "reduce_on_plateau",
    "dog",
    "prodigy",
    "mechanize",
    "sam",
    "sophia",
    "averaging",
)

MODEL = sj.dense(3, 2)
PARAMS = MODEL.init(jax.random.key(0))
RNG = np.random.default_rng(0)
XS = RNG.normal(size=(5, 4, 3))
BATCH = sj.Batch(XS, XS @ RNG.normal(size=(3, 2)) + 1)
OBJECTIVE = sj.objective(MODEL, sj.mean_squared_error)


def mean_loss(params):
    return ((BATCH.xs @ params.w + params.b - BATCH.targets) ** 2).mean()


def trained(name, updates, spread=None):
    optimizer = OPTIMIZERS[name]()
    step, train = sj.train_step(OBJECTIVE, optimizer, devices=spread), sj.train_state(PARAMS, optimizer)
    found = []
    for _ in range(updates):
        train, _, metrics = step(train, (), BATCH)
        found.append(metrics.loss)
    return train, found


@pytest.mark.parametrize("name", quick(OPTIMIZERS, *SPREAD, "adam", "sgd", "partition", "schedule", "snapshot"))
def test_an_optimizer_of_optax_descends(name):
    train, losses = trained(name, 12)
    assert_close(losses[0], mean_loss(PARAMS))
    after = float(mean_loss(train.params))
    assert after < (1 if name in SLOW_TO_START else 0.95) * float(losses[0])
    assert train.step == 12


@pytest.mark.parametrize("name", all_but(SPREAD, "averaging"))
def test_an_optimizer_over_devices_is_that_of_one(name):
    one, two = trained(name, 4)[0], trained(name, 4, 2)[0]
    assert_close(one.params, two.params, rtol=1e-7, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lbfgs", "polyak_sgd", "prodigy", "reduce_on_plateau", "mechanize", "sophia"])
def test_what_is_told_equals_a_plain_optax_loop(name):
    optimizer, params = OPTIMIZERS[name](), PARAMS
    update, state = optax.with_extra_args_support(optimizer).update, optimizer.init(params)
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(3):
            value, gradient = jax.value_and_grad(mean_loss)(params)
            told = {"value": value, "grad": gradient, "value_fn": mean_loss}
            told = {"obj_fn": mean_loss} if name == "sophia" else told
            updates, state = update(gradient, state, params, **told)
            params = optax.apply_updates(params, updates)
    assert_close(trained(name, 3)[0].params, params, rtol=1e-6, atol=1e-8)
