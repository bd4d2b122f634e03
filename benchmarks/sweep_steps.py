"""Thirty steps as users write them, of kinds that no cell of the package is: large states, small answers."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

import seqjax as sj


class Odd(NamedTuple):
    """A step, its parameters, a state and the input of one tick, each with a batch axis where there is one."""

    step: Callable
    params: Any
    state: Any
    x: jax.Array


def normal(i: int, *shape: int, scale: float = 1.0) -> jax.Array:
    """Numbers."""
    return scale * jax.random.normal(jax.random.key(i), shape)


def weight(i: int, n: int, m: int) -> jax.Array:
    """A matrix whose products keep lengths about as they are."""
    return normal(i, n, m, scale=n**-0.5)


def shift_register(w: jax.Array, s: jax.Array, x: jax.Array) -> tuple:
    """The last 64 inputs, and a weighted sum of their squashes."""
    s = jnp.concatenate([x[:, None], s[:, :-1]], 1)
    return s, jnp.einsum("bkd,kd->b", jnp.tanh(s), w)


def fed_register(p: tuple, s: jax.Array, x: jax.Array) -> tuple:
    """The same with what is read added to what is written."""
    w, v = p
    y = jnp.tanh(jnp.einsum("bkd,kd->b", s, w))
    return jnp.concatenate([(x + y[:, None] * v)[:, None], s[:, :-1]], 1), y


def fast_weights(p: tuple, s: tuple, x: jax.Array) -> tuple:
    """``A' = .95 A + .5 h hᵀ``, ``h' = tanh(x W + h U + h A')``."""
    (w, u), (a, h) = p, s
    a = 0.95 * a + 0.5 * h[:, :, None] * h[:, None, :]
    h = jnp.tanh(x @ w + h @ u + jnp.einsum("bi,bij->bj", h, a) / 8)
    return (a, h), h[:, 0]


def fast_weights_sum(p: tuple, s: tuple, x: jax.Array) -> tuple:
    """The same, of which the sum of the matrix is told."""
    s, _ = fast_weights(p, s, x)
    return s, jnp.tanh(s[0]).sum((1, 2))


def three_scalars(r: jax.Array, s: tuple, x: jax.Array) -> tuple:
    """Three coupled logistic maps."""
    a, b, c = s
    f = lambda v: r * v * (1 - v)
    new = (0.9 * f(a) + 0.1 * f(b), 0.9 * f(b) + 0.1 * f(c), 0.9 * f(c) + 0.1 * f(a))
    return new, sum(new) + x[..., 0]


def written_memory(p: tuple, m: jax.Array, x: jax.Array) -> tuple:
    """A memory that is written and read at places found by likeness."""
    key, value, query = (x @ w for w in p)
    at = jax.nn.softmax(jnp.einsum("bnd,bd->bn", m, key))
    m = m * (1 - 0.5 * at[:, :, None]) + jnp.tanh(at[:, :, None] * value[:, None])
    return m, jnp.einsum("bn,bnd->bd", jax.nn.softmax(jnp.einsum("bnd,bd->bn", m, query)), m)


def ring_attention(p: tuple, s: tuple, x: jax.Array) -> tuple:
    """Attention over the last 32 states that it made itself."""
    (w, u), (cache, h) = p, s
    read = jnp.einsum("bn,bnd->bd", jax.nn.softmax(jnp.einsum("bnd,bd->bn", cache, h)), cache)
    h = jnp.tanh(x @ w + read @ u)
    return (jnp.concatenate([h[:, None], cache[:, :-1]], 1), h), h


def forward_algorithm(a: jax.Array, alpha: jax.Array, x: jax.Array) -> tuple:
    """log of a hidden Markov model's forward variables, of which the sum is told."""
    alpha = jax.nn.logsumexp(alpha[:, :, None] + jax.nn.log_softmax(a), 1) + x
    return alpha, jax.nn.logsumexp(alpha, -1)


def viterbi(a: jax.Array, alpha: jax.Array, x: jax.Array) -> tuple:
    """The most probable path's."""
    alpha = (alpha[:, :, None] + a).max(1) + x
    return alpha, alpha.max(-1)


def wide(p: tuple, h: jax.Array, x: jax.Array) -> tuple:
    """Thousands of units that know nothing of each other but their mean."""
    a, b = p
    h = jnp.tanh(a * h + b * x[:, :1])
    return h, h.mean(-1)


def elman(p: tuple, h: jax.Array, x: jax.Array) -> tuple:
    """An Elman network with its readout."""
    w, u, v = p
    h = jnp.tanh(x @ w + h @ u)
    return h, h @ v


def multiplicative(p: tuple, h: jax.Array, x: jax.Array) -> tuple:
    """Input and state multiplied."""
    w, u, v = p
    h = jnp.tanh((x @ w) * (h @ u) + 0.5 * x @ w)
    return h, h @ v


def long_short(p: tuple, s: tuple, x: jax.Array) -> tuple:
    """An LSTM of which one number is told."""
    (w, u, b), (h, c) = p, s
    i, f, g, o = jnp.split(x @ w + h @ u + b, 4, -1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h, c), jnp.square(h).mean(-1)


def two_long_short(p: tuple, s: tuple, x: jax.Array) -> tuple:
    """Two of them, the second of the mean squares of the first."""
    first, y = long_short(p[0], s[0], x)
    second, y = long_short(p[1], s[1], y[:, None] * x)
    return (first, second), y


def picture(k: jax.Array, s: jax.Array, x: jax.Array) -> tuple:
    """A picture that is convolved again and again."""
    s = jnp.tanh(lax.conv_general_dilated(s, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")))
    s = s + x[:, None, None, :4]
    return s, s.mean((1, 2, 3))


def kalman(p: tuple, s: tuple, x: jax.Array) -> tuple:
    """A Kalman filter of four numbers, of which two are seen."""
    (a, q), (mean, cov) = p, s
    mean, cov = mean @ a.T, a @ cov @ a.T + jnp.eye(4) * jnp.square(q)
    gain = cov[:, :, :2] @ jnp.linalg.inv(cov[:, :2, :2] + 0.1 * jnp.eye(2))
    mean = mean + jnp.einsum("bij,bj->bi", gain, x[:, :2] - mean[:, :2])
    return (mean, cov - gain @ cov[:, :2]), mean[:, 0]


def descent(p: tuple, s: tuple, x: jax.Array) -> tuple:
    """Weights that learn as they run, by momentum, of a line through what is seen."""
    rate, momentum = p
    w, m = s
    error = jnp.einsum("bd,bd->b", w, x) - x[:, 0]
    m = jax.nn.sigmoid(momentum) * m + error[:, None] * x
    return (w - 0.01 * jax.nn.sigmoid(rate) * m, m), jnp.square(error)


def oscillators(p: tuple, angle: jax.Array, x: jax.Array) -> tuple:
    """Kuramoto's, of which the order is told."""
    natural, coupling = p
    s, c = jnp.sin(angle), jnp.cos(angle)
    pull = s.mean(-1, keepdims=True) * c - c.mean(-1, keepdims=True) * s
    angle = angle + 0.1 * (natural + coupling * pull + x[:, :1])
    return angle, jnp.square(s.mean(-1)) + jnp.square(c.mean(-1))


def lorenz(p: jax.Array, s: jax.Array, x: jax.Array) -> tuple:
    """Lorenz's equations, a step of Runge and Kutta's."""

    def slope(s: jax.Array) -> jax.Array:
        a, b, c = s[..., 0], s[..., 1], s[..., 2]
        return jnp.stack([p[0] * (b - a), a * (p[1] - c) - b, a * b - p[2] * c], -1)

    k1 = slope(s)
    k2 = slope(s + 0.005 * k1)
    k3 = slope(s + 0.005 * k2)
    s = s + 0.01 / 6 * (k1 + 2 * k2 + 2 * k3 + slope(s + 0.01 * k3))
    return s, s[..., 0] + x[:, 0]


def lattice(p: jax.Array, s: jax.Array, x: jax.Array) -> tuple:
    """Neighbours in a ring."""
    f = jnp.sin(p * s)
    s = 0.8 * f + 0.1 * (jnp.roll(f, 1, -1) + jnp.roll(f, -1, -1)) + 0.01 * x[:, :1]
    return s, s[:, 0]


def branches(p: tuple, h: jax.Array, x: jax.Array) -> tuple:
    """Another product where the first number of the first input is positive."""
    w, u, v = p
    h = lax.cond(x[0, 0] > 0, lambda h: jnp.tanh(h @ u + x @ w), lambda h: jnp.tanh(h @ v), h)
    return h, h[:, 0]


def pondering(p: tuple, h: jax.Array, x: jax.Array) -> tuple:
    """Three turns a tick."""
    w, u, v = p
    seen = x @ w
    h = lax.fori_loop(0, 3, lambda _, h: jnp.tanh(seen + h @ u), h)
    return h, h @ v


def table(p: jax.Array, s: jax.Array, x: jax.Array) -> tuple:
    """Rows of a table, one of which is read and written at every tick."""
    row = jnp.argmax(x, -1)
    read = jax.vmap(lambda s, i: s[i])(s, row)
    new = jnp.tanh(read @ p + x)
    return jax.vmap(lambda s, i, v: s.at[i].set(v))(s, row, new), read


def neural_stack(p: tuple, s: tuple, x: jax.Array) -> tuple:
    """A stack of 32 places that is pushed and popped by halves."""
    w, v = p
    push, pop, stay = jnp.moveaxis(jax.nn.softmax(x @ w), -1, 0)
    value = jnp.tanh(x @ v)
    down = jnp.concatenate([value[:, None], s[:, :-1]], 1)
    up = jnp.concatenate([s[:, 1:], jnp.zeros_like(s[:, :1])], 1)
    each = lambda g: g[:, None, None]
    s = each(push) * down + each(pop) * up + each(stay) * s
    return s, jnp.tanh(s[:, 0])


def spiking(p: tuple, s: tuple, x: jax.Array) -> tuple:
    """Leaky units that fire, softly."""
    (w, u), (v, z) = p, s
    v = 0.9 * v * (1 - z) + x @ w + z @ u
    z = jax.nn.sigmoid(5 * (v - 1))
    return (v, z), z.mean(-1)


def noisy(p: tuple, s: tuple, x: jax.Array) -> tuple:
    """A key that is carried, and noise by it."""
    (w, u), (key, h) = p, s
    key, now = jax.random.split(key)
    h = jnp.tanh(x @ w + h @ u + 0.1 * jax.random.normal(now, h.shape))
    return (key, h), h[:, 0]


def moments(p: jax.Array, s: tuple, x: jax.Array) -> tuple:
    """Running means of powers, each at a rate of its own."""
    rates = jax.nn.sigmoid(p)
    new = tuple(rates[i] * m + (1 - rates[i]) * x ** (i + 1) for i, m in enumerate(s))
    return new, (new[1] - jnp.square(new[0])).sum(-1)


def exponential_gates(p: tuple, s: tuple, x: jax.Array) -> tuple:
    """Exponential gates with a stabiliser and a normaliser."""
    (w, u), (h, c, n, m) = p, s
    i, f, g, o = jnp.split(x @ w + h @ u, 4, -1)
    top = jnp.maximum(jax.nn.log_sigmoid(f) + m, i)
    old, new = jnp.exp(jax.nn.log_sigmoid(f) + m - top), jnp.exp(i - top)
    c, n = old * c + new * jnp.tanh(g), old * n + new
    h = jax.nn.sigmoid(o) * c / n
    return (h, c, n, top), h


B, D, H = 8, 16, 32
ZERO = jnp.zeros


def odd_steps() -> dict[str, Odd]:
    """All of them, at sizes that take some milliseconds for 512 ticks."""
    x = normal(0, B, D)
    mixes = lambda h, out: (weight(1, D, h), weight(2, h, h), weight(3, h, out))
    gates = lambda h, d=D: (weight(1, d, 4 * h), weight(2, h, 4 * h), jnp.zeros(4 * h))
    fast = lambda n: Odd(fast_weights, mixes(n, 1)[:2], (ZERO((B, n, n)), ZERO((B, n))), x)
    pairs = lambda n: (ZERO((B, n)), ZERO((B, n)))
    return {
        "shift register 64 × 16": Odd(shift_register, normal(1, 64, D), ZERO((B, 64, D)), x),
        "shift register, fed back": Odd(fed_register, (normal(1, 64, D) / 9, normal(2, D)), ZERO((B, 64, D)), x),
        "fast weights 32 × 32": fast(32),
        "fast weights 64 × 64": fast(64),
        "fast weights, their sum": fast(32)._replace(step=fast_weights_sum),
        "three scalars": Odd(three_scalars, jnp.float32(3.2), tuple(0.1 * i + ZERO(B) for i in (1, 2, 3)), x),
        "memory written by likeness": Odd(written_memory, mixes(D, D), normal(4, B, 32, D), x),
        "attention over own states": Odd(ring_attention, mixes(H, 1)[:2], (ZERO((B, 32, H)), ZERO((B, H))), x),
        "forward algorithm, 16 states": Odd(forward_algorithm, normal(1, D, D), ZERO((B, D)), x),
        "forward algorithm, 64 chains": Odd(forward_algorithm, normal(1, 5, 5), ZERO((64, 5)), normal(0, 64, 5)),
        "Viterbi, 16 states": Odd(viterbi, normal(1, D, D), ZERO((B, D)), x),
        "4,096 units and their mean": Odd(wide, (normal(1, 4096), normal(2, 4096)), ZERO((B, 4096)), x),
        "Elman network, one number": Odd(elman, mixes(128, 1), ZERO((B, 128)), x),
        "Elman network, ten numbers": Odd(elman, mixes(128, 10), ZERO((B, 128)), x),
        "Elman network, no batch": Odd(elman, mixes(64, 10), ZERO(64), x[0]),
        "multiplicative network": Odd(multiplicative, mixes(64, 10), ZERO((B, 64)), x),
        "LSTM, one number": Odd(long_short, gates(64), pairs(64), x),
        "two LSTMs, one number": Odd(two_long_short, (gates(H), gates(H)), (pairs(H), pairs(H)), x),
        "a picture convolved": Odd(picture, normal(1, 3, 3, 4, 4) / 6, ZERO((B, 12, 12, 4)), x),
        "Kalman filter": Odd(kalman, (weight(1, 4, 4), normal(2, 4)), (ZERO((B, 4)), jnp.eye(4) + ZERO((B, 4, 4))), x),
        "descent with momentum": Odd(descent, (jnp.zeros(()), jnp.zeros(())), pairs(D), x),
        "oscillators": Odd(oscillators, (normal(1, 256), jnp.float32(2)), normal(2, B, 256), x),
        "Lorenz": Odd(lorenz, jnp.array([10.0, 28.0, 8 / 3]), 1 + ZERO((B, 3)), x),
        "a lattice": Odd(lattice, jnp.float32(2), normal(1, B, 512), x),
        "branches": Odd(branches, (*mixes(H, H)[:2], weight(3, H, H)), ZERO((B, H)), x),
        "three turns a tick": Odd(pondering, mixes(H, 10), ZERO((B, H)), x),
        "rows of a table": Odd(table, weight(1, D, D), normal(2, B, D, D), x),
        "a stack of 32 places": Odd(neural_stack, (weight(1, D, 3), weight(2, D, D)), ZERO((B, 32, D)), x),
        "spiking units": Odd(spiking, (weight(1, D, 256), weight(2, 256, 256)), pairs(256), x),
        "noise by a carried key": Odd(noisy, mixes(H, 1)[:2], (jax.random.key(1), ZERO((B, H))), x),
        "running moments": Odd(moments, jnp.array([1.0, 2.0, 3.0]), tuple(ZERO((B, D)) for _ in range(3)), x),
        "exponential gates": Odd(exponential_gates, gates(H)[:2], tuple(ZERO((B, H)) for _ in range(4)), x),
    }  # fmt: skip


def cell_of(odd: Odd) -> sj.Cell:
    """The step as a cell whose state is the given one."""
    return sj.Cell(lambda key: odd.params, lambda params, batch_shape=(), *, key=None: odd.state, odd.step)
