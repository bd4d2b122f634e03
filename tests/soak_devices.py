"""A program by itself: updates over host devices without a wait, with evaluation, sampling and checkpoints between.

``python tests/soak_devices.py DEVICES UPDATES FOLDER``: where threads wait for each other, XLA ends it after a minute.
"""

import sys
from pathlib import Path

import jax
import numpy as np
import optax

import seqjax as sj
from seqjax.recipes.running import checkpoints


def main(devices: int, updates: int, folder: Path) -> None:
    model = sj.serial(sj.embedding(50, 32), sj.recurrent(sj.lstm(32, 32)), sj.dense(32, 50))
    optimizer, rng = optax.sgd(0.1), np.random.default_rng(0)
    objective = sj.objective(model, sj.cross_entropy)
    step = sj.train_step(objective, optimizer, clip=sj.clip_by_global_norm(1.0), devices=devices)
    train = sj.train_state(model.init(jax.random.key(0)), optimizer)
    state = start = model.initial_state(train.params, (20,))
    measure = jax.jit(objective)
    for n in range(1, updates + 1):
        x = rng.integers(50, size=(21, 20), dtype=np.int32)
        batch = sj.Batch(x[:-1], x[1:])
        train, state, metrics = step(train, state, batch)
        if n % 100 == 0:
            # shared as the update's own are, so that XLA sums over devices here too; with the wait that is asked of it
            tally = jax.block_until_ready(measure(train.params, state, batch))[1]
            params = jax.device_put(train.params, jax.devices()[0])
            symbols = sj.sample(model, params, start, 0, length=20, key=jax.random.key(n)).symbols
            print(n, float(metrics.loss), float(tally.sum), int(symbols.sum()), flush=True)
        if n % 500 == 0:
            checkpoints.save(folder, n, train)
    print("done", float(metrics.loss))


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
