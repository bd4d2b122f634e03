"""One character model in three libraries: embedding, recurrent layers, logits; clipped gradients, Adam.

Each trains on a window at a time and carries its state to the next, from the same weights.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import seqjax as sj
from benchmarks import limit, peers, problem
from seqjax.models.language_model import SymbolParams

LEARNING_RATE, CLIP = 2e-3, 1.0
CELLS = {"lstm": sj.lstm, "gru": sj.gru}
WINDOWS = 8


class Model(NamedTuple):
    """One row: sizes of the model and of what it reads."""

    cell: str
    layers: int
    hidden_size: int
    batch: int
    window: int
    embedding_size: int = 64
    symbols: int = 96

    def sizes(self) -> list[tuple[int, int]]:
        """Inputs and units of the recurrent layers."""
        return [(self.embedding_size if n == 0 else self.hidden_size, self.hidden_size) for n in range(self.layers)]


class Trainer(NamedTuple):
    """A model in training.

    Attributes:
      step: trains on the window with this number and returns its mean loss before the update, when all is done.
      params: the parameters now, in our layout, by name.
    """

    step: Callable[[int], Any]
    params: Callable[[], dict[str, np.ndarray]]


def layer(model: Model) -> sj.Layer:
    """The model in our terms."""
    return sj.models.language_model(
        model.symbols,
        model.hidden_size,
        embedding_size=model.embedding_size,
        cell=CELLS[model.cell],
        layers=model.layers,
    )


def recurrent(model: Model) -> list[sj.Layer]:
    """Its recurrent layers alone."""
    return [sj.recurrent(CELLS[model.cell](*sizes)) for sizes in model.sizes()]


def start(model: Model) -> tuple:
    """The parameters all begin with."""
    return layer(model).init(jax.random.key(0))


@functools.lru_cache(maxsize=1)
def windows(model: Model) -> list[tuple[np.ndarray, np.ndarray]]:
    """Symbols ``[T, B]`` and their successors, of streams in which some symbols are frequent and some are rare."""
    rng = np.random.default_rng(0)
    weights = 1 / np.arange(1, model.symbols + 1)
    shape = (WINDOWS * model.window + 1, model.batch)
    streams = rng.choice(model.symbols, shape, p=weights / weights.sum()).astype(np.int32)
    cuts = range(0, WINDOWS * model.window, model.window)
    return [(streams[k : k + model.window], streams[k + 1 : k + 1 + model.window]) for k in cuts]


def limit_runners(model: Model, devices: int) -> dict[str, Callable[[], Any]]:
    """The parts of an update that no way of training does without (`benchmarks.limit`), on a device's share each."""
    rows, size, symbols = model.window * model.batch // devices, model.hidden_size, model.symbols
    found = {}
    for number, (d, h) in enumerate(model.sizes(), 1):
        layer_row = problem.Problem(model.cell, model.window, model.batch, d, h, inputs_too=True)
        found |= {f"layer {number}: {name}": part for name, part in limit.parts(layer_row, "train", devices).items()}
    floats = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)
    hs, logits, ints = floats(rows, size), floats(rows, symbols), jax.ShapeDtypeStruct((rows,), jnp.int32)

    def entropy(logits: jax.Array, targets: jax.Array) -> tuple:
        loss = lambda z: optax.softmax_cross_entropy_with_integer_labels(z, targets).mean()
        return jax.value_and_grad(loss)(logits)

    def looked_up(table: jax.Array, symbols: jax.Array, cotangent: jax.Array) -> tuple:
        out, pull = jax.vjp(lambda table: table[symbols], table)
        return out, pull(cotangent)

    def adam(p: jax.Array, m: jax.Array, v: jax.Array, g: jax.Array) -> tuple:
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        return p - LEARNING_RATE * m / (jnp.sqrt(v) + 1e-8), m, v

    count = sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(layer(model).init, jax.random.key(0))))
    found |= {
        "logits": limit.Part(jnp.matmul, (hs, floats(size, symbols))),
        "logits, back": limit.Part(lambda z, w: z @ w.T, (logits, floats(size, symbols))),
        "logits, gradient": limit.Part(lambda h, z: h.T @ z, (hs, logits)),
        "cross-entropy": limit.Part(entropy, (logits, ints)),
        "look-up": limit.Part(
            looked_up, (floats(symbols, model.embedding_size), ints, floats(rows, model.embedding_size))
        ),
        "Adam": limit.Part(adam, (floats(count),) * 4),
    }
    return {name: limit.compiled(part, devices) for name, part in found.items()}


def ours(model: Model, devices: int) -> Trainer:
    """`seqjax.train_step` as the recipe uses it."""
    net = layer(model)
    objective = sj.truncated(net, sj.cross_entropy, model.window)
    optimizer = optax.adam(LEARNING_RATE)
    clip = sj.clip_by_global_norm(CLIP)
    update = sj.train_step(objective, optimizer, clip=clip, devices=devices if devices > 1 else None)
    params = start(model)
    train, memory = sj.train_state(params, optimizer), net.initial_state(params, (model.batch,))

    def step(number: int) -> Any:
        nonlocal train, memory
        batch = sj.Batch(*windows(model)[number % WINDOWS])
        train, memory, metrics = jax.block_until_ready(update(train, memory, batch))
        return metrics.loss

    return Trainer(step, lambda: problem.named(train.params))


def flax(model: Model) -> Trainer:
    """linen modules, Optax, one jitted function whose state is donated."""
    import flax.linen as nn

    modules = peers.find("flax").MODULES
    names = [f"recurrent_{n}" for n in range(model.layers)]

    class Network(nn.Module):
        @nn.compact
        def __call__(self, symbols: jax.Array, carries: list) -> tuple[list, jax.Array]:
            xs = nn.Embed(model.symbols, model.embedding_size, name="embedding")(symbols)
            new = []
            for name, carry in zip(names, carries):
                cell = modules[model.cell](model.hidden_size, name=name)
                rnn = nn.RNN(cell, time_major=True, return_carry=True)
                carry, xs = rnn(xs, initial_carry=carry)
                new.append(carry)
            return new, nn.Dense(model.symbols, name="dense")(xs)

    network = Network()
    optimizer = optax.chain(optax.clip_by_global_norm(CLIP), optax.adam(LEARNING_RATE))
    (embedding, first), *others, dense = start(model)
    trees = [sj.interop.flax.to_state_dict(*pair)["cell"] for pair in zip(recurrent(model), [first, *others])]
    params = {
        "embedding": {"embedding": embedding.w},
        "dense": {"kernel": dense.w, "bias": dense.b},
        **dict(zip(names, trees)),
    }
    params = jax.tree.map(jnp.copy, params)
    zeros = jnp.zeros((model.batch, model.hidden_size), jnp.float32)
    carries = [(zeros, zeros) if model.cell == "lstm" else zeros for _ in names]
    carries = jax.tree.map(jnp.copy, carries)
    opt_state = optimizer.init(params)

    @functools.partial(jax.jit, donate_argnums=(0, 1, 2))
    def update(params: Any, opt_state: Any, carries: Any, symbols: jax.Array, targets: jax.Array) -> tuple:
        def loss(params: Any) -> tuple[jax.Array, Any]:
            new, logits = network.apply({"params": params}, symbols, carries)
            return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean(), new

        (value, carries_), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, carries_, value

    def step(number: int) -> Any:
        nonlocal params, opt_state, carries
        new = jax.block_until_ready(update(params, opt_state, carries, *windows(model)[number % WINDOWS]))
        params, opt_state, carries, value = new
        return value

    def named() -> dict[str, np.ndarray]:
        first, *others = (sj.interop.flax.from_state_dict(model.cell, params[name])[1] for name in names)
        dense = sj.DenseParams(params["dense"]["kernel"], params["dense"]["bias"])
        return problem.named(((SymbolParams(params["embedding"]["embedding"]), first), *others, dense))

    return Trainer(step, named)


def torch(model: Model) -> Trainer:
    """nn modules and fused Adam. torch's second bias is held at zero, where we have one only."""
    import torch

    convert = peers.find("torch")
    (embedding, first), *others, dense = jax.tree.map(np.asarray, start(model))
    embed = torch.nn.Embedding(model.symbols, model.embedding_size).to(convert.DEVICE)
    rnn = sj.interop.torch.to_module(sj.serial(*recurrent(model)), (first, *others)).to(convert.DEVICE)
    out = torch.nn.Linear(model.hidden_size, model.symbols).to(convert.DEVICE)
    with torch.no_grad():
        embed.weight.copy_(torch.from_numpy(np.array(embedding.w)))
        out.weight.copy_(torch.from_numpy(np.array(dense.w.T)))
        out.bias.copy_(torch.from_numpy(np.array(dense.b)))
    for number in range(model.layers):
        second = getattr(rnn, f"bias_hh_l{number}")
        if model.cell == "lstm":
            second.requires_grad_(False)
        else:
            free = torch.zeros_like(second)
            free[2 * model.hidden_size :] = 1
            second.register_hook(lambda gradient, free=free: gradient * free)
    trained = [p for module in (embed, rnn, out) for p in module.parameters() if p.requires_grad]
    adam = torch.optim.Adam(trained, LEARNING_RATE, fused=True)
    data = [[torch.from_numpy(w).long().to(convert.DEVICE) for w in pair] for pair in windows(model)]
    state = None

    def step(number: int) -> Any:
        nonlocal state
        symbols, targets = data[number % WINDOWS]
        adam.zero_grad(set_to_none=True)
        hs, state = rnn(embed(symbols), state)
        loss = torch.nn.functional.cross_entropy(out(hs).flatten(0, 1), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, CLIP)
        adam.step()
        state = tuple(s.detach() for s in state) if model.cell == "lstm" else state.detach()
        convert.wait()
        return loss.detach()

    def named() -> dict[str, np.ndarray]:
        params = convert.unload(model.cell, rnn, convert.numpy, add=True)
        first, *others = params if model.layers > 1 else [params]
        dense = sj.DenseParams(convert.numpy(out.weight).T, convert.numpy(out.bias))
        return problem.named(((SymbolParams(convert.numpy(embed.weight)), first), *others, dense))

    return Trainer(step, named)
