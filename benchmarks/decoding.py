"""How many symbols a second, the likeliest, drawn ones or the best sequence: compiled loop, Python loops, torch.

There are two Python loops: one calls the jitted step and makes its choice with JAX functions, as one writes
it first; in the other the choice is part of the jitted step and nothing but one call a symbol is left to
save. Sampling and beam search with an LSTM language model, the same weights everywhere. Before anything is
timed, all must write the likeliest symbol each time and find best sequences that are equally probable, judged
by the model in float64. Timed beside them: the model's step in a compiled loop that chooses nothing, which no
way of decoding can beat; how many times as long the Python loop takes is the most that can be gained.
`python -m benchmarks.decoding --help`

    limit: x W, h U and h V a symbol and a look at its logits, each so many times one behind the other · gates
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from benchmarks import limit, memory, paths

# Nats a text. A choice is off by at most twice the error of its logits, a best sequence by twice that of its sum: of
# 200 symbols on a CPU some 1e-5. Products in TF32 have three digits: 1e-3 a tick and, of both signs, some 0.03 in all.
# The second symbol is 0.026 behind the likeliest (median, 10,000 symbols), and who takes it takes it more than once.
LOST, LOST_ELSEWHERE = 1e-3, 0.05
STEP = "step_alone"


class Row(NamedTuple):
    """One model and one way of decoding; ``width`` 0 samples, 1 takes the likeliest symbol, more is a beam."""

    vocabulary_size: int
    hidden_size: int
    batch: int
    length: int
    width: int


class Writer(NamedTuple):
    """``greedy() -> symbols [L, B]``, or ``() -> [L]`` of the best sequence in beam search; ``run()`` is timed."""

    check: Callable[[], np.ndarray]
    run: Callable[[], Any]


def writer(row: Row, search: Callable, greedy: Callable, draw: Callable) -> Writer:
    """What a row asks for; drawn texts are judged by the likeliest ones, which come from the same loop."""
    return {0: Writer(greedy, draw), 1: Writer(greedy, greedy)}.get(row.width, Writer(search, search))


def model(row: Row) -> tuple[sj.Layer, Any]:
    """An untrained model with weights large enough to have opinions."""
    layer = sj.models.language_model(row.vocabulary_size, row.hidden_size)
    return layer, jax.tree.map(lambda p: 2 * p, layer.init(jax.random.key(0)))


def compiled(row: Row) -> Writer:
    """`seqjax.sample` and `seqjax.beam_search`."""
    layer, params = model(row)
    state, first = layer.initial_state(params, (row.batch,)), jnp.zeros(row.batch, jnp.int32)
    key = jax.random.key(1)

    def search() -> np.ndarray:
        found = sj.beam_search(layer, params, state, first, length=row.length, width=row.width)
        return np.asarray(found.symbols[0])

    def greedy() -> np.ndarray:
        return np.asarray(sj.sample(layer, params, state, first, length=row.length).symbols)

    def draw() -> np.ndarray:
        return np.asarray(sj.sample(layer, params, state, first, length=row.length, key=key, temperature=0.8).symbols)

    return writer(row, search, greedy, draw)


def python_loop(row: Row) -> Writer:
    """The same step, jitted; the choice is made between its calls."""
    layer, params = model(row)
    tick = jax.jit(sj.as_cell(layer).step)
    first = jnp.zeros(row.batch, jnp.int32)

    def write(key: jax.Array | None) -> np.ndarray:
        state, symbol, written = layer.initial_state(params, (row.batch,)), first, []
        for _ in range(row.length):
            state, logits = tick(params, state, symbol)
            if key is None:
                symbol = logits.argmax(-1)
            else:
                key, draw = jax.random.split(key)
                symbol = jax.random.categorical(draw, logits / 0.8)
            written.append(np.asarray(symbol))
        return np.stack(written)

    def search() -> np.ndarray:
        state = layer.initial_state(params, (row.width * row.batch,))
        totals = np.full((row.width, row.batch), -np.inf, np.float32)
        totals[0] = 0
        symbol, lanes, written = np.zeros(row.width * row.batch, np.int32), np.arange(row.batch), []
        for _ in range(row.length):
            state, logits = tick(params, state, symbol)
            log_probs = np.asarray(jax.nn.log_softmax(logits)).reshape(row.width, row.batch, -1)
            flat = (totals[..., None] + log_probs).swapaxes(0, 1).reshape(row.batch, -1)
            place = np.argpartition(-flat, row.width - 1)[:, : row.width]
            order = np.argsort(-np.take_along_axis(flat, place, 1), axis=1)
            place = np.take_along_axis(place, order, 1)
            totals = np.take_along_axis(flat, place, 1).T
            parent, chosen = np.divmod(place.T, row.vocabulary_size)
            rows = (parent * row.batch + lanes).reshape(-1)
            state = jax.tree.map(lambda s, rows=rows: s[rows], state)
            symbol = chosen.reshape(-1).astype(np.int32)
            written.append((chosen, parent))
        return trace_back(written)

    return writer(row, search, lambda: write(None), lambda: write(jax.random.key(1)))


def fused_loop(row: Row) -> Writer:
    """Step and choice jitted together; called from Python once a symbol, which stays on the device."""
    layer, params = model(row)
    cell = sj.as_cell(layer)
    first = jnp.zeros(row.batch, jnp.int32)

    @jax.jit
    def greedy_tick(state: Any, symbol: jax.Array) -> tuple[Any, jax.Array]:
        state, logits = cell.step(params, state, symbol)
        return state, logits.argmax(-1).astype(jnp.int32)

    @jax.jit
    def draw_tick(state: Any, symbol: jax.Array, key: jax.Array) -> tuple[Any, jax.Array, jax.Array]:
        key, draw = jax.random.split(key)
        state, logits = cell.step(params, state, symbol)
        return state, jax.random.categorical(draw, logits / 0.8).astype(jnp.int32), key

    @jax.jit
    def beam_tick(state: Any, symbol: jax.Array, totals: jax.Array) -> tuple[Any, jax.Array, jax.Array, jax.Array]:
        state, logits = jax.vmap(lambda s, w: cell.step(params, s, w))(state, symbol)
        grown = totals[..., None] + jax.nn.log_softmax(logits)
        flat = jnp.moveaxis(grown, 0, 1).reshape(row.batch, -1)
        totals, place = jax.lax.top_k(flat, row.width)
        parent, symbol = jnp.divmod(place.T, row.vocabulary_size)
        state = jax.tree.map(lambda s: s[parent, jnp.arange(row.batch)], state)
        return state, symbol.astype(jnp.int32), totals.T, parent

    def greedy() -> np.ndarray:
        state, symbol, written = layer.initial_state(params, (row.batch,)), first, []
        for _ in range(row.length):
            state, symbol = greedy_tick(state, symbol)
            written.append(symbol)
        return np.stack(written)

    def draw() -> np.ndarray:
        state, symbol, written, key = layer.initial_state(params, (row.batch,)), first, [], jax.random.key(1)
        for _ in range(row.length):
            state, symbol, key = draw_tick(state, symbol, key)
            written.append(symbol)
        return np.stack(written)

    def search() -> np.ndarray:
        state = layer.initial_state(params, (row.batch,))
        state = jax.tree.map(lambda s: jnp.broadcast_to(s, (row.width, *s.shape)), state)
        symbol = jnp.broadcast_to(first, (row.width, row.batch))
        totals = jnp.where(jnp.arange(row.width)[:, None] == 0, jnp.zeros(row.batch), -jnp.inf)
        written = []
        for _ in range(row.length):
            state, symbol, totals, parent = beam_tick(state, symbol, totals)
            written.append((symbol, parent))
        return trace_back([(np.asarray(s), np.asarray(p)) for s, p in written])

    return writer(row, search, greedy, draw)


def step_alone(row: Row) -> Callable[[], Any]:
    """The model's step in a compiled loop: the next symbol is 0 or 1, by the first logit alone."""
    layer, params = model(row)
    cell, rows = sj.as_cell(layer), (max(row.width, 1) * row.batch,)

    @jax.jit
    def run(params: Any) -> Any:
        def tick(_: int, loop: tuple[Any, jax.Array]) -> tuple[Any, jax.Array]:
            state, logits = cell.step(params, *loop)
            return state, (jax.lax.optimization_barrier(logits)[..., 0] > 0).astype(jnp.int32)

        start = layer.initial_state(params, rows), jnp.zeros(rows, jnp.int32)
        return jax.lax.fori_loop(0, row.length, tick, start)

    return lambda: jax.block_until_ready(run(params))


def trace_back(written: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The best sequence ``[L, B]`` from symbols and parents ``[K, B]`` of every tick."""
    batch = np.arange(written[0][0].shape[1])
    place, symbols = np.zeros(len(batch), int), []
    for symbol, parent in reversed(written):
        symbols.append(symbol[place, batch])
        place = parent[place, batch]
    return np.stack(symbols[::-1])


def torch_loop(row: Row) -> Writer:
    """torch.nn.LSTM one tick at a time, without gradients, on all cores or the accelerator."""
    import torch

    from benchmarks.record import cores

    torch.set_num_threads(cores())
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    _, ((embedding, cell), readout) = model(row)
    size = row.hidden_size
    look_up = torch.nn.Embedding(row.vocabulary_size, size).to(device)
    lstm = sj.interop.torch.to_module(sj.lstm(size, size), cell).to(device)
    linear = torch.nn.Linear(size, row.vocabulary_size).to(device)
    with torch.no_grad():
        weights = (look_up.weight, linear.weight, linear.bias)
        for weight, value in zip(weights, (embedding.w, readout.w.T, readout.b)):
            weight.copy_(torch.from_numpy(np.array(value)))

    @torch.no_grad()
    def tick(state: Any, symbol: torch.Tensor) -> tuple[Any, torch.Tensor]:
        h, state = lstm(look_up(symbol)[None], state)
        return state, linear(h[0])

    def start(rows: int) -> Any:
        return (torch.zeros(1, rows, size, device=device), torch.zeros(1, rows, size, device=device))

    @torch.no_grad()
    def write(choose: Callable[[torch.Tensor], torch.Tensor]) -> np.ndarray:
        state, symbol = start(row.batch), torch.zeros(row.batch, dtype=torch.long, device=device)
        written = []
        for _ in range(row.length):
            state, logits = tick(state, symbol)
            symbol = choose(logits)
            written.append(symbol)
        return torch.stack(written).cpu().numpy()

    @torch.no_grad()
    def search() -> np.ndarray:
        k, b = row.width, row.batch
        state, symbol = start(k * b), torch.zeros(k * b, dtype=torch.long, device=device)
        totals = torch.full((k, b), -torch.inf, device=device)
        totals[0] = 0
        lanes, written = torch.arange(b, device=device), []
        for _ in range(row.length):
            state, logits = tick(state, symbol)
            grown = totals[..., None] + torch.log_softmax(logits, -1).reshape(k, b, -1)
            totals, place = torch.topk(grown.transpose(0, 1).reshape(b, -1), k)
            totals, place = totals.T, place.T
            parent, chosen = place // row.vocabulary_size, place % row.vocabulary_size
            state = tuple(s[:, (parent * b + lanes).reshape(-1)] for s in state)
            symbol = chosen.reshape(-1)
            written.append((chosen, parent))
        return trace_back([(s.cpu().numpy(), p.cpu().numpy()) for s, p in written])

    def drawn(logits: torch.Tensor) -> torch.Tensor:
        return torch.multinomial(torch.softmax(logits / 0.8, -1), 1)[:, 0]

    return writer(row, search, lambda: write(lambda logits: logits.argmax(-1)), lambda: write(drawn))


def scratch(row: Row) -> dict[str, int]:
    """Bytes that the compiled sampling loop needs beside its result, at two lengths: they should be equal."""
    layer, params = model(row)
    state, first = layer.initial_state(params, (row.batch,)), jnp.zeros(row.batch, jnp.int32)
    found = {}
    for length in (100, 100_000):

        def write(params: Any, key: jax.Array, length: int = length) -> jax.Array:
            return sj.sample(layer, params, state, first, length=length, key=key).symbols

        asked = memory.of_compiled(jax.jit(write).lower(params, jax.random.key(0)).compile(), 1)
        if asked is not None:
            found[str(length)] = asked.temporaries
    return found


def log_probs(row: Row, symbols: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """By the model in float64, of every text in ``[L]`` or ``[L, B]``: those of its symbols, and the highest."""
    layer, params = model(row)
    for text in symbols.reshape(row.length, row.batch).T:
        with jax.enable_x64(True):
            exact = jax.tree.map(lambda p: jnp.asarray(p, jnp.float64), params)
            read = jnp.asarray(np.append(0, text[:-1]), jnp.int32)
            values = np.asarray(jax.nn.log_softmax(layer.apply(exact, layer.initial_state(exact, ()), read)[1]))
        yield values[np.arange(row.length), text], values.max(-1)


def judge(row: Row, texts: dict[str, np.ndarray]) -> None:
    """Refuses texts that are less probable than they should be; which of two equally probable ones is nobody's fault.

    Behind a near tie greedy texts go separate ways and are not equally probable: each is judged by its own beginnings,
    at every tick against the symbol that it should have taken. A best sequence is judged against the one that the
    compiled loop found.

    Raises:
      SystemExit: a text that is wrong.
    """
    limit = LOST if jax.default_backend() == "cpu" else LOST_ELSEWHERE
    aim = [chosen.sum() for chosen, _ in log_probs(row, texts["compiled"])] if row.width > 1 else []
    for name, symbols in texts.items():
        for b, (chosen, highest) in enumerate(log_probs(row, symbols)):
            lost = abs(chosen.sum() - aim[b]) if row.width > 1 else (highest - chosen).sum()
            if not lost <= limit:
                beside = "off the compiled loop's" if row.width > 1 else "below the likeliest symbols'"
                raise SystemExit(f"{name}: expected log-probabilities within {limit}, text {b} is {lost:.3g} {beside}.")


def parts(row: Row) -> dict[str, Callable[[], Any]]:
    """What the limit is made of."""
    lanes, size, symbols = max(row.width, 1) * row.batch, row.hidden_size, row.vocabulary_size
    shape = (row.batch, symbols) if row.width < 2 else (row.width, row.batch, symbols)
    logits = jax.random.normal(jax.random.key(0), shape)

    def gates(c: jax.Array, z: jax.Array) -> jax.Array:
        i, f, g, o = jnp.split(z, 4, -1)
        return jax.nn.sigmoid(o) * jnp.tanh(jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g))

    c, z = jnp.zeros((row.length, lanes, size)), jnp.zeros((row.length, lanes, 4 * size))
    return {
        **paths.product("x W", lanes, size, 4 * size, row.length),
        **paths.product("h U", lanes, size, 4 * size, row.length),
        **paths.product("h V", lanes, size, symbols, row.length),
        "gates": paths.compiled(gates, c, z).run,
        f"look, {row.length} times": paths.compiled(looks(row), logits).run,
    }


def looks(row: Row) -> Callable[[jax.Array], jax.Array]:
    """What no way to choose does without: the highest logit, for draws and beams the sum of exponentials too."""
    look = jnp.max if row.width == 1 else jax.nn.logsumexp

    def run(logits: jax.Array) -> jax.Array:
        def tick(last: jax.Array, _: None) -> tuple[jax.Array, None]:
            return look(logits + 1e-30 * last[..., None], axis=-1), None  # nothing that stays the same each time

        return jax.lax.scan(tick, jnp.zeros(logits.shape[:-1]), None, length=row.length)[0]

    return run


def measure(row: Row, rounds: int, seconds: float) -> dict[str, Any]:
    """Symbols a second of every writer, after all have been found to agree."""
    writers, missing = {"compiled": compiled(row), "python_loop": python_loop(row), "fused_loop": fused_loop(row)}, {}
    try:
        writers["torch"] = torch_loop(row)
    except ImportError as lacking:
        missing["torch"] = f"{lacking.name} is not installed"
    judge(row, {name: writer.check() for name, writer in writers.items()})
    runs = {name: w.run for name, w in writers.items()}
    found = paths.timed(runs, parts(row) | {STEP: step_alone(row)}, rounds, seconds)
    alone = found["limit"].pop(STEP)
    symbols = row.length * row.batch
    rates = {name: round(symbols / s) for name, s in (found["seconds"] | {STEP: alone}).items()}
    return found | {
        "limit_s": limit.total(found["limit"]),
        "symbols_a_second": rates,
        "times_the_python_loop": round(rates["compiled"] / rates["python_loop"], 2),
        "times_the_fused_loop": round(rates["compiled"] / rates["fused_loop"], 2),
        "most_times_the_python_loop": round(rates[STEP] / rates["python_loop"], 2),
        "scratch_bytes": None if row.width else scratch(row),
        "missing": missing,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measures every row and writes one JSON line each."""
    parser = paths.parser(__doc__, "decoding")
    parser.add_argument("--vocabulary", type=int, nargs="+", default=[65, 10_000], help="symbols (65 10000)")
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 256], help="units of the LSTM layer (64 256)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 32], help="sequences side by side (1 32)")
    parser.add_argument("--length", type=int, default=200, help="symbols to write (200)")
    parser.add_argument("--width", type=int, nargs="+", default=[0, 1, 5], help="0 samples, 1: likeliest, a beam")
    options = parser.parse_args(argv)
    shapes = itertools.product(options.vocabulary, options.hidden, options.batch, [options.length], options.width)
    each = lambda row: measure(row, options.rounds, options.seconds)
    paths.keep(itertools.starmap(Row, shapes), each, "decoding", options.out)


if __name__ == "__main__":
    main()
