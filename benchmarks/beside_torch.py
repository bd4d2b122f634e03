"""The character model trained beside the same model in torch: same initial weights, same batches, same schedule.

    python -m benchmarks.beside_torch --text FILE [--steps 1000]

Prints the training loss of both as they go and the nats a character on the last tenth of the text at the end. The two
differ by rounding alone, which training amplifies; what is compared is where they end.
"""

import argparse
import json
import pathlib
import time

import jax
import numpy as np
import torch

import seqjax as sj
from seqjax.recipes import charlm
from seqjax.recipes.language import characters
from seqjax.recipes.language.text import log_loss, scorer
from seqjax.recipes.running import learning
from seqjax.tasks.batches import streams
from seqjax.tasks.texts import read_text
from seqjax.tasks.vocabulary import Vocabulary


class TorchModel(torch.nn.Module):
    """Embedding, `torch.nn.LSTM`, logits."""

    def __init__(self, params: tuple, options: charlm.Options):
        """Copies the weights of our model."""
        super().__init__()
        (table, w_x, w_h, b), dense = (jax.tree.leaves(p) for p in params if jax.tree.leaves(p))
        weight, bias = sorted(dense, key=lambda leaf: -leaf.ndim)
        self.embedding = torch.nn.Embedding(*table.shape)
        cell = sj.lstm(w_x.shape[0], options.hidden_size)
        self.lstm = sj.interop.torch.to_module(cell, sj.cells.LSTMParams(w_x, w_h, b))
        self.dense = torch.nn.Linear(*weight.shape)
        copies = {
            self.embedding.weight: table,
            self.dense.weight: weight.T,
            self.dense.bias: bias,
        }
        with torch.no_grad():
            for parameter, value in copies.items():
                parameter.copy_(torch.from_numpy(np.array(value)))
        # Ours has one bias; two that move together would move twice as fast.
        self.lstm.bias_hh_l0.requires_grad_(False)

    def forward(self, xs: torch.Tensor, state: tuple | None) -> tuple[torch.Tensor, tuple]:
        """Logits and the state behind the last character."""
        ys, state = self.lstm(self.embedding(xs), state)
        return self.dense(ys), tuple(s.detach() for s in state)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", required=True, help="a UTF-8 text")
    parser.add_argument("--steps", type=int, default=1000, help="updates (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the initial weights (default: 0)")
    parser.add_argument("--out", type=pathlib.Path, default=None, help="a file to write the figures to, as JSON")
    return parser.parse_args()


def main() -> None:
    """Trains both, window by window."""
    given = arguments()
    options = charlm.Options(steps=given.steps, seed=given.seed)
    text = read_text(pathlib.Path(given.text))
    vocabulary = Vocabulary.build([text], specials=())
    numbers = vocabulary.encode(text)
    train, held_back = np.split(numbers, [int(0.9 * len(numbers))])
    columns = streams(train, options.batch_size)
    ticks = (len(columns) - 1) // options.window * options.window
    windows = list(sj.windows(sj.Batch(columns[:ticks], columns[1 : ticks + 1]), options.window))

    model, optimizer = characters.language_model(options, len(vocabulary)), learning.optimizer_of(options)
    objective = sj.truncated(model, sj.cross_entropy, options.window)
    update = sj.train_step(objective, optimizer, clip=sj.clip_by_global_norm(options.clip))
    ours = characters.initial(model, options)
    empty = ours.memory
    theirs = TorchModel(ours.train.params, options)
    adam = torch.optim.Adam([p for p in theirs.parameters() if p.requires_grad], lr=1.0)
    rate = learning.schedule_of(options)
    memory, seconds = None, {"seqjax": 0.0, "torch": 0.0}

    for step in range(options.steps):
        window = windows[step % len(windows)]
        if step % len(windows) == 0:
            ours, memory = ours._replace(memory=empty), None
        start = time.perf_counter()
        state, after, metrics = update(ours.train, ours.memory, window)
        ours = learning.Training(state, after)
        loss = float(metrics.loss)
        middle = time.perf_counter()
        logits, memory = theirs(torch.from_numpy(np.array(window.xs, np.int64)), memory)
        targets = torch.from_numpy(np.array(window.targets, np.int64))
        torch_loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        adam.zero_grad()
        torch_loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), options.clip)
        adam.param_groups[0]["lr"] = float(rate(step))
        adam.step()
        seconds["seqjax"] += middle - start
        seconds["torch"] += time.perf_counter() - middle
        if step < 3 or (step + 1) % 50 == 0:
            print(f"step {step + 1:5d}   seqjax {loss:.4f}   torch {torch_loss.item():.4f} nats", flush=True)

    nats, count = log_loss(scorer(model), model, ours.train.params, held_back, columns=32, lead=256)
    figures = {"seqjax": float(nats / count), "torch": torch_nats(theirs, held_back), "steps": options.steps}
    figures |= {f"{name}_seconds": value for name, value in seconds.items()}
    print(json.dumps(figures))
    if given.out is not None:
        given.out.write_text(json.dumps(figures) + "\n", "utf-8")


def torch_nats(model: TorchModel, held_back: np.ndarray, columns: int = 32, lead: int = 256) -> float:
    """Nats a character as `log_loss` counts them: contiguous columns, each led in by the characters before it."""
    numbers = torch.from_numpy(np.array(held_back, np.int64))
    total, count = 0.0, 0
    size = -(-(len(numbers) - 1) // columns)
    with torch.no_grad():
        for start in range(0, len(numbers) - 1, size):
            first = max(0, start - lead)
            piece = numbers[first : min(start + size, len(numbers) - 1) + 1]
            logits, _ = model(piece[:-1, None], None)
            losses = torch.nn.functional.cross_entropy(logits[:, 0], piece[1:], reduction="none")[start - first :]
            total, count = total + float(losses.double().sum()), count + len(losses)
    assert count == len(numbers) - 1
    return total / count


if __name__ == "__main__":
    main()
