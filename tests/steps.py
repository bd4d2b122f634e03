"""Steps of every kind a user may write, for engines to be compared on: name -> (step, params, state, xs)."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

T, B, D, H = 13, 3, 5, 4


def normal(i, *shape):
    return jnp.asarray(0.3 * np.random.default_rng(i).standard_normal(shape))


W, U, BIAS = normal(1, D, 4 * H), normal(2, H, 4 * H), normal(3, 4 * H)
H0, C0, XS = normal(4, B, H), normal(5, B, H), normal(6, T, B, D)
SQUARE = normal(7, H, H)
MASK = jnp.arange(T)[:, None] < jnp.array([13, 5, 0])
RESET = jax.random.bernoulli(jax.random.key(9), 0.2, (T, B))


def gates(z, c):
    i, f, g, o = jnp.split(z, 4, -1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def lstm(p, s, x):
    w, u, b = p
    h, c = gates(x @ w + s[0] @ u + b, s[1])
    return (h, c), h


def gru_after(p, h, x):
    w, u, b, c = p
    a, v = x @ w + b, h @ u
    r, z = jnp.split(jax.nn.sigmoid(a[..., : 2 * H] + v[..., : 2 * H]), 2, -1)
    n = jnp.tanh(a[..., 2 * H :] + r * (v[..., 2 * H :] + c))
    h = z * h + (1 - z) * n
    return h, h


def gru_before(p, h, x):
    w, u, b, v, q, d, readout = p
    r, z = jnp.split(jax.nn.sigmoid(x @ w + h @ u + b), 2, -1)
    h = z * h + (1 - z) * jnp.tanh(x @ v + (r * h) @ q + d)
    return h, jax.nn.relu(h @ readout)


def concatenated(p, s, x):
    w, b = p
    h, c = gates(jnp.concatenate([x, s[0]], -1) @ w + b, s[1])
    return (h, c), h


def concatenated_right(p, h, x):
    h = jnp.tanh(jnp.einsum("kd,bd->bk", p, jnp.concatenate([h, x], -1)))
    return h, h


def tied(p, h, x):
    h = jnp.tanh((h @ p) @ p.T * jnp.diag(p) + x[..., :H] @ p)
    return h, h @ p


def layer_norm(p, s, x):
    w, u, b, gain = p
    a = x @ w + s[0] @ u
    a = (a - a.mean(-1, keepdims=True)) / jnp.sqrt(a.var(-1, keepdims=True) + 1e-5) * gain + b
    h, c = gates(a, s[1])
    return (h, c), h


def stacked(p, s, x):
    s1, y = lstm(p[0], s[0], x)
    s2, y = lstm(p[1], s[1], y)
    return (s1, s2), y


def integers(p, s, x):
    count, h, nothing, scale = s
    table, u = p
    h = jnp.tanh(table[x] + h @ u * ((count % 3 + 1)[:, None]).astype(h.dtype) * scale)
    return (count + 1, h, nothing, scale), (h, count)


def custom_jvp(u, h, x):
    product = jax.jit(lambda a, b: a @ b)
    h = jax.nn.relu(product(h, u) + x[..., :H]) - 0.1 * jax.nn.silu(h)
    return h, jax.nn.logsumexp(h, -1)


@jax.custom_vjp
def clipped(x):
    return x


clipped.defvjp(lambda x: (x, None), lambda _, g: (jnp.clip(g, -0.01, 0.01),))


def custom_vjp(u, h, x):
    h = jnp.tanh(clipped(h) @ u + x[..., :H])
    return h, h


def inner_loops(u, h, x):
    h = lax.fori_loop(0, 3, lambda i, h: jnp.tanh(h @ u), h)
    h = lax.cond(x.sum() > 0, lambda h: 2 * h, lambda h: h @ u, h) + 0.1 * x[..., :H]
    return jnp.tanh(h), h


def inner_scan(u, h, x):
    h, _ = lax.scan(lambda h, w: (jnp.tanh(h @ u + w), None), h, jnp.stack([x[..., :H], x[..., 1:]]))
    return h, h.sum(-1)


def readout_cond(u, h, x):
    h = jnp.tanh(h @ u + x[..., :H])
    return h, lax.cond(x[0, 0] > 0, jnp.sin, jnp.cos, x)


def zoneout(p, s, x):
    (h, c), key = s
    key, sub = jax.random.split(key)
    h_new, c = gates(x @ p[0] + h @ p[1] + p[2], c)
    h = jnp.where(jax.random.bernoulli(sub, 0.3, h.shape), h, h_new)
    return ((h, c), key), h


def zoneout_rbg(p, s, x):
    """Draws from a generator whose numbers change if it is batched."""
    return zoneout(p, s, x)


def cond_in_the_loop(u, h, x):
    """A branch on the state: it stays in the loop, and may not be batched when activations are recomputed."""
    h = lax.cond(h.sum() > 0, lambda h: jnp.tanh(h @ u), lambda h: jnp.sin(h @ u + 1.0), h) + x[..., :H]
    return h, h


def rematerialised(p, s, x):
    return jax.checkpoint(lstm)(p, s, x)


def masked(p, s, x):
    x, mask, reset = x
    fresh = (H0, C0)
    choose = lambda m, a, b: jax.tree.map(lambda a, b: jnp.where(m[:, None], a, b), a, b)
    s = choose(reset, fresh, s)
    new, y = lstm(p, s, jnp.where(mask[:, None], x, 0.0))
    return choose(mask, new, s), jnp.where(mask[:, None], y, 0.0)


def delay(u, s, x):
    """The state's first leaf delays the input by one tick, its second delays the first by another."""
    return (x, s[0], jnp.tanh(s[1][..., :H] + s[2] @ u)), s[2]


def swapped(u, s, x):
    a, b = s
    return (jnp.tanh(b @ u), a + x[..., :H]), a * b


def feed_forward(w, s, x):
    return s, x @ w


def constant_state(p, s, x):
    """A drawn mask that travels in the state unchanged, as variational dropout does."""
    mask, inner = s
    inner, y = lstm(p, inner, x * mask)
    return (mask, inner), y


def loss_in_step(p, s, x):
    x, target = x
    s, h = lstm(p[0], s, x)
    logits = h @ p[1]
    return s, -jnp.take_along_axis(jax.nn.log_softmax(logits), target[..., None], -1)[..., 0]


def helper_mixes(p, s, x):
    mix = jax.jit(lambda x, h, w, u, b: x @ w + h @ u + b)
    h, c = gates(mix(x, s[0], *p), s[1])
    return (h, c), (h, {"c": c})


def convolution(p, h, x):
    """A recurrence whose product is a convolution over features."""
    conv = lambda a, k: lax.conv_general_dilated(
        a[..., None], k, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
    )[..., 0]
    h = jnp.tanh(conv(h, p[0]) + conv(x[..., :H], p[1]))
    return h, h


def heads(p, h, x):
    """Block-diagonal recurrent weights."""
    split = h.reshape(*h.shape[:-1], 2, H // 2)
    h = jnp.tanh(jnp.einsum("bnh,nhk->bnk", split, p[0]).reshape(h.shape) + x @ p[1])
    return h, h


def diagonal(p, h, x):
    a = jax.nn.sigmoid(p[0] + x[..., :H])
    h = a * h + (1 - a) * (x @ p[1])
    return h, h * p[0]


def literal_state(u, s, x):
    """A state leaf that is a constant, and an output that is one."""
    flag, h = s
    h = jnp.tanh(h @ u + x[..., :H] * flag)
    return (jnp.ones_like(flag) * 0.5, h), (h, jnp.zeros(3), 1.0)


def frozen(u, h, x):
    h = jnp.tanh(h @ lax.stop_gradient(u) + x[..., :H] @ u)
    return h, h


def two_readers(p, s, x):
    """Two recurrences that read the same input and meet in the output."""
    a, y = lstm(p[0], s[0], x)
    b, z = lstm(p[1], s[1], x)
    return (a, b), y * z


STEPS = {
    "lstm": (lstm, (W, U, BIAS), (H0, C0), XS),
    "gru_after": (gru_after, (W[:, : 3 * H], U[:, : 3 * H], BIAS[: 3 * H], BIAS[:H]), H0, XS),
    "gru_before": (
        gru_before,
        (W[:, : 2 * H], U[:, : 2 * H], BIAS[: 2 * H], W[:, :H], SQUARE, BIAS[:H], normal(8, H, 5)),
        H0,
        XS,
    ),
    "concatenated": (concatenated, (normal(1, D + H, 4 * H), BIAS), (H0, C0), XS),
    "concatenated_right": (concatenated_right, normal(1, H, D + H), H0, XS),
    "tied": (tied, SQUARE, H0, XS),
    "layer_norm": (layer_norm, (W, U, BIAS, normal(8, 4 * H)), (H0, C0), XS),
    "stacked": (
        stacked,
        ((W, U, BIAS), (normal(11, H, 4 * H), normal(12, H, 4 * H), BIAS)),
        ((H0, C0), (C0, H0)),
        XS,
    ),
    "integers": (
        integers,
        (normal(1, 7, H), SQUARE),
        (jnp.arange(B), H0, None, jnp.full((B, H), 0.5)),
        jax.random.randint(jax.random.key(3), (T, B), 0, 7),
    ),
    "custom_jvp": (custom_jvp, SQUARE, H0, XS),
    "custom_vjp": (custom_vjp, SQUARE, H0, XS),
    "inner_loops": (inner_loops, SQUARE, H0, XS),
    "inner_scan": (inner_scan, SQUARE, H0, XS),
    "readout_cond": (readout_cond, SQUARE, H0, XS),
    "zoneout": (zoneout, (W, U, BIAS), ((H0, C0), jax.random.key(5)), XS),
    "zoneout_rbg": (zoneout_rbg, (W, U, BIAS), ((H0, C0), jax.random.key(5, impl="rbg")), XS),
    "cond_in_the_loop": (cond_in_the_loop, SQUARE, H0, XS),
    "rematerialised": (rematerialised, (W, U, BIAS), (H0, C0), XS),
    "masked": (masked, (W, U, BIAS), (H0, C0), (jnp.where(MASK[..., None], XS, jnp.nan), MASK, RESET)),
    "delay": (delay, SQUARE, (XS[0], XS[1], H0), XS),
    "swapped": (swapped, SQUARE, (H0, C0), XS),
    "feed_forward": (feed_forward, W, H0, XS),
    "constant_state": (constant_state, (W, U, BIAS), (XS[3], (H0, C0)), XS),
    "loss_in_step": (
        loss_in_step,
        ((W, U, BIAS), normal(8, H, 7)),
        (H0, C0),
        (XS, jax.random.randint(jax.random.key(3), (T, B), 0, 7)),
    ),
    "helper_mixes": (helper_mixes, (W, U, BIAS), (H0, C0), XS),
    "convolution": (convolution, (normal(8, 3, 1, 1), normal(9, 3, 1, 1)), H0, XS),
    "heads": (heads, (normal(8, 2, H // 2, H // 2), W[:, :H]), H0, XS),
    "diagonal": (diagonal, (BIAS[:H], W[:, :H]), H0, XS),
    "literal_state": (literal_state, SQUARE, (jnp.ones((B, 1)), H0), XS),
    "frozen": (frozen, SQUARE, H0, XS),
    "two_readers": (two_readers, ((W, U, BIAS), (2 * W, -U, BIAS)), ((H0, C0), (C0, H0)), XS),
}
