"""What is computed: a cell over a batch of sequences from given weights, its loss and its gradients."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj


def users_lstm(size: int, hidden: int, *, dtype: Any = None) -> sj.Cell:
    """An LSTM as a user writes it, its gates normalised together."""
    inner = sj.lstm(size, hidden, dtype=dtype)

    def step(params: Any, state: Any, x: jax.Array) -> tuple:
        h, c = state
        a = sj.dot(x, params.w_x, dtype) + sj.dot(h, params.w_h, dtype) + params.b
        a = (a - a.mean(-1, keepdims=True)) * jax.lax.rsqrt(a.var(-1, keepdims=True) + 1e-5)
        i, f, g, o = jnp.split(a, 4, -1)
        c = (jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)).astype(c.dtype)
        h = (jax.nn.sigmoid(o) * jnp.tanh(c)).astype(h.dtype)
        return sj.LSTMState(h, c), h

    return inner._replace(step=step)


# With heads or blocks their number is in the name.
CELLS: dict[str, Callable[..., sj.Cell]] = {
    "elman": sj.elman,
    "pass_through": sj.pass_through,
    "lstm": sj.lstm,
    "peephole_lstm": sj.peephole_lstm,
    "coupled_lstm": sj.coupled_lstm,
    "multiplicative_lstm": sj.multiplicative_lstm,
    "layer_norm_lstm": sj.layer_norm_lstm,
    "gru": sj.gru,
    "gru_before": functools.partial(sj.gru, reset="before"),
    "layer_norm_gru": sj.layer_norm_gru,
    "users_lstm": users_lstm,
    **{f"headwise_lstm_{heads}": functools.partial(sj.headwise_lstm, heads=heads) for heads in (24, 12, 6, 3)},
    "headwise_gru_8": functools.partial(sj.headwise_gru, heads=8),
    "mingru": sj.cells.mingru,
    "lru": sj.cells.lru,
    "linear_attention_8": functools.partial(sj.cells.linear_attention, heads=8),
    "mlstm_8": functools.partial(sj.cells.mlstm, heads=8),
}
DTYPES = ("float32", "bfloat16", "float16", "float64")
LOSSES = ("square", "random")
LAST = 128


class Problem(NamedTuple):
    """One row of a benchmark.

    Attributes:
      cell: a name of `CELLS`.
      ticks: T.
      batch: B.
      input_size: d.
      hidden_size: h.
      dtype: of weights, inputs and the operands of products.
      loss: ``"square"``, the mean of y², or ``"random"``, Σ y r with fixed normal r: narrow floats cannot hold
        the gradient of a mean over many ticks.
      inputs_too: whether inputs get a gradient, as in every layer but the lowest.
    """

    cell: str
    ticks: int
    batch: int
    input_size: int
    hidden_size: int
    dtype: str = "float32"
    loss: str = "square"
    inputs_too: bool = False

    @property
    def wide(self) -> str:
        """The dtype in which the loss is summed and the truth is computed."""
        return "float64" if self.dtype == "float64" else "float32"

    def make(self, cell: str, **options: Any) -> sj.Cell:
        """The cell, or its variant of another name."""
        return CELLS[cell](self.input_size, self.hidden_size, **options)


class Result(NamedTuple):
    """What is compared: the loss, the outputs of the last ticks (forward) or the gradients (train)."""

    loss: float
    arrays: dict[str, np.ndarray]


def parameters(problem: Problem, cell: str) -> Any:
    """Weights in NumPy, the same on every machine: uniform as torch draws them, vectors around their start.

    They are rounded to the problem's dtype and kept in a wide one, so that every library starts from the same.
    """
    rng = np.random.default_rng(0)
    width = problem.hidden_size**-0.5

    def draw(leaf: jax.Array) -> np.ndarray:
        noise = rng.uniform(-width, width, leaf.shape)
        values = noise if leaf.ndim > 1 else np.asarray(leaf, np.float64) + noise
        return _rounded(values, problem)

    return jax.tree.map(draw, problem.make(cell).init(jax.random.key(0)))


@functools.lru_cache(maxsize=1)
def inputs(problem: Problem) -> np.ndarray:
    """``[T, B, d]`` of normal draws."""
    return _normal(1, problem, problem.input_size)


@functools.lru_cache(maxsize=1)
def loss_weights(problem: Problem) -> np.ndarray | None:
    """``[T, B, h]`` of normal draws for the random loss, None for the other."""
    return _normal(2, problem, problem.hidden_size) if problem.loss == "random" else None


def result(problem: Problem, ys: np.ndarray) -> Result:
    """Of outputs ``[T, B, h]``: their mean square, and the last ticks, which depend on all before."""
    parts = (ys[start : start + 1024] for start in range(0, len(ys), 1024))
    squares = sum(float(np.square(part, dtype=np.float64).sum()) for part in parts)
    return Result(squares / ys.size, {"ys": np.asarray(ys[-LAST:], problem.wide)})


def named(tree: Any) -> dict[str, np.ndarray]:
    """The leaves of a tree by their path, on the host."""
    paths = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path).lstrip("."): np.asarray(leaf) for path, leaf in paths}


def error(got: Result, expected: Result) -> tuple[float, str]:
    """The largest difference relative to the largest value of its array, and where it is."""
    if got.arrays.keys() != expected.arrays.keys():
        raise ValueError(f"expected the arrays {list(expected.arrays)}, got {list(got.arrays)}")
    errors = {"loss": abs(got.loss - expected.loss) / max(abs(expected.loss), 1e-30)}
    for name, truth in expected.arrays.items():
        value = got.arrays[name]
        if value.shape != truth.shape:
            raise ValueError(f"expected {name} of shape {truth.shape}, got {value.shape}")
        scale = float(np.abs(truth).max()) or 1.0
        errors[name] = float(np.abs(value.astype(truth.dtype) - truth).max()) / scale
    where = max(errors, key=lambda name: errors[name] if errors[name] == errors[name] else np.inf)
    return errors[where], where


def tolerance(problem: Problem, *, coarse_products: bool = False) -> float:
    """What rounding may do: sums of many ticks in another order, and TF32 products where they are allowed.

    A gradient summed over time in a narrow dtype, as some libraries do, is hardly bounded: it is reported.
    """
    exact = 3e-2 if coarse_products else 1e-3
    return {"float64": 1e-9, "float32": exact, "float16": 0.3, "bfloat16": 0.3}[problem.dtype]


def _normal(seed: int, problem: Problem, size: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    wide = np.dtype(problem.wide).type
    values = rng.standard_normal((problem.ticks, problem.batch, size), dtype=wide)
    return _rounded(values, problem)


def _rounded(values: np.ndarray, problem: Problem) -> np.ndarray:
    if problem.dtype != problem.wide:
        values = values.astype(jnp.dtype(problem.dtype))
    return values.astype(problem.wide)
