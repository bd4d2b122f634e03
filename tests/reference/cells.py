"""One tick of every cell in NumPy float64, written from the equations, gate by gate and for a single example.

A reference is ``step(p, state, x) -> (state, y)`` with the parameters of the package's cell as NumPy arrays.
It takes the gates' blocks by name, in the order that the cell's docstring states.
"""

from types import SimpleNamespace

import numpy as np


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def relu(a):
    return np.maximum(a, 0)


def blocks(w, names):
    """The block of each gate by name; zeros for a bias that is absent, in a block or altogether."""
    if w is None:
        return SimpleNamespace(**dict.fromkeys(names, 0.0))
    if hasattr(w, "recurrent"):
        w = w.input + w.recurrent
    parts = w if isinstance(w, tuple) else np.split(w, len(names), axis=-1)
    parts = [sum(part) if isinstance(part, tuple) else part for part in parts]
    return SimpleNamespace(**{name: 0.0 if part is None else part for name, part in zip(names, parts)})


def standardized(a, epsilon=1e-5):
    return (a - np.mean(a)) / np.sqrt(np.var(a) + epsilon)


def elman(p, h, x, phi=np.tanh):
    bias = 0.0 if p.b is None else p.b
    h = phi(x @ p.w_x + h @ p.w_h + bias)
    return h, h


def elman_relu(p, h, x):
    return elman(p, h, x, relu)


def pass_through(p, h, x):
    W, U, b = blocks(p.w_x, "nz"), blocks(p.w_h, "nz"), blocks(p.b, "nz")
    candidate = relu(x @ W.n + h @ U.n + b.n)
    z = sigmoid(x @ W.z + h @ U.z + b.z)
    h = z * h + (1 - z) * candidate
    return h, h


def carousel(p, state, x):
    h, c = state
    c = c + np.tanh(x @ p.w_x + h @ p.w_h + p.b)
    h = np.tanh(c)
    return (h, c), h


def lstm_1997(p, state, x):
    h, c = state
    W, U, b = blocks(p.w_x, "igo"), blocks(p.w_h, "igo"), blocks(p.b, "igo")
    i = sigmoid(x @ W.i + h @ U.i + b.i)
    g = np.tanh(x @ W.g + h @ U.g + b.g)
    o = sigmoid(x @ W.o + h @ U.o + b.o)
    c = c + i * g
    h = o * np.tanh(c)
    return (h, c), h


def lstm(p, state, x):
    h, c = state
    W, U, b = blocks(p.w_x, "ifgo"), blocks(p.w_h, "ifgo"), blocks(p.b, "ifgo")
    i = sigmoid(x @ W.i + h @ U.i + b.i)
    f = sigmoid(x @ W.f + h @ U.f + b.f)
    g = np.tanh(x @ W.g + h @ U.g + b.g)
    o = sigmoid(x @ W.o + h @ U.o + b.o)
    c = f * c + i * g
    h = o * np.tanh(c)
    return (h, c), h


def peephole_lstm(peep):
    """``peep(c, P)`` is ``c * P`` for diagonal peepholes, ``c @ P`` for full ones."""

    def step(p, state, x):
        h, c = state
        W, U, b = blocks(p.w_x, "ifgo"), blocks(p.w_h, "ifgo"), blocks(p.b, "ifgo")
        P = blocks(p.w_c, "ifo")
        i = sigmoid(x @ W.i + h @ U.i + peep(c, P.i) + b.i)
        f = sigmoid(x @ W.f + h @ U.f + peep(c, P.f) + b.f)
        g = np.tanh(x @ W.g + h @ U.g + b.g)
        new_c = f * c + i * g
        o = sigmoid(x @ W.o + h @ U.o + peep(new_c, P.o) + b.o)
        h = o * np.tanh(new_c)
        return (h, new_c), h

    return step


peephole_diagonal, peephole_full = peephole_lstm(np.multiply), peephole_lstm(np.matmul)


def five_equation_lstm(p, state, x):
    h, c = state
    W, U = blocks(p.w_x, "fio"), blocks(p.w_h, "fio")
    f = sigmoid(h @ U.f + x @ W.f)
    i = sigmoid(h @ U.i + x @ W.i)
    o = sigmoid(h @ U.o + x @ W.o)
    c = f * c + i * x
    h = o * c
    return (h, c), h


def reset_lstm(p, state, x):
    """With one matrix over [a, x] a gate, as in the equations' source."""
    a, c = state
    W, b = blocks(np.concatenate([p.w_h, p.w_x]), "rufog"), blocks(p.b, "rufog")
    ax = np.concatenate([a, x])
    r, u, f, o = (sigmoid(ax @ w + bias) for w, bias in [(W.r, b.r), (W.u, b.u), (W.f, b.f), (W.o, b.o)])
    candidate = np.tanh(np.concatenate([r * a, x]) @ W.g + b.g)
    c = u * candidate + f * c
    a = o * c
    return (a, c), a


def coupled_lstm(p, state, x):
    h, c = state
    W, U, b = blocks(p.w_x, "fgo"), blocks(p.w_h, "fgo"), blocks(p.b, "fgo")
    f = sigmoid(x @ W.f + h @ U.f + b.f)
    g = np.tanh(x @ W.g + h @ U.g + b.g)
    o = sigmoid(x @ W.o + h @ U.o + b.o)
    i = 1 - f
    c = f * c + i * g
    h = o * np.tanh(c)
    return (h, c), h


def projected_lstm(p, state, x):
    (_, c), wide = lstm(p, state, x)
    h = wide @ p.w_p
    return (h, c), h


def gru_after(p, h, x):
    W, U, b = blocks(p.w_x, "rzn"), blocks(p.w_h, "rzn"), blocks(p.b, "rzn")
    r = sigmoid(x @ W.r + h @ U.r + b.r)
    z = sigmoid(x @ W.z + h @ U.z + b.z)
    inner = 0.0 if p.b_n is None else p.b_n
    n = np.tanh(x @ W.n + b.n + r * (h @ U.n + inner))
    h = z * h + (1 - z) * n
    return h, h


def gru_before(p, h, x):
    W, U, b = blocks(p.w_x, "rzn"), blocks(p.w_h, "rzn"), blocks(p.b, "rzn")
    r = sigmoid(x @ W.r + h @ U.r + b.r)
    z = sigmoid(x @ W.z + h @ U.z + b.z)
    n = np.tanh(x @ W.n + (r * h) @ U.n + b.n)
    h = z * h + (1 - z) * n
    return h, h


def multiplicative_rnn(p, h, x):
    m = (x @ p.w_mx) * (h @ p.w_mh)
    h = np.tanh(x @ p.w_x + m @ p.w_h + p.b)
    return h, h


def multiplicative_lstm(p, state, x):
    h, c = state
    m = (x @ p.w_mx) * (h @ p.w_mh)
    (h, c), y = lstm(p, (m, c), x)
    return (h, c), y


def layer_norm_elman(p, h, x):
    h = np.tanh(standardized(x @ p.w_x + h @ p.w_h) * p.gain + p.b)
    return h, h


def layer_norm_lstm(p, state, x):
    h, c = state
    W, U, b, gain = (blocks(w, "ifgo") for w in (p.w_x, p.w_h, p.b, p.gain))
    i = sigmoid(standardized(x @ W.i + h @ U.i) * gain.i + b.i)
    f = sigmoid(standardized(x @ W.f + h @ U.f) * gain.f + b.f)
    g = np.tanh(standardized(x @ W.g + h @ U.g) * gain.g + b.g)
    o = sigmoid(standardized(x @ W.o + h @ U.o) * gain.o + b.o)
    c = f * c + i * g
    h = o * np.tanh(c)
    return (h, c), h


def layer_norm_gru(p, h, x):
    W, U, b, gain = (blocks(w, "rzn") for w in (p.w_x, p.w_h, p.b, p.gain))
    r = sigmoid(standardized(x @ W.r + h @ U.r) * gain.r + b.r)
    z = sigmoid(standardized(x @ W.z + h @ U.z) * gain.z + b.z)
    n = np.tanh(standardized(x @ W.n + (r * h) @ U.n) * gain.n + b.n)
    h = z * h + (1 - z) * n
    return h, h


def minimal_gated_unit(p, h, x):
    W, U, b = blocks(p.w_x, "un"), blocks(p.w_h, "un"), blocks(p.b, "un")
    u = sigmoid(x @ W.u + h @ U.u + b.u)
    n = np.tanh(x @ W.n + (u * h) @ U.n + b.n)
    h = (1 - u) * h + u * n
    return h, h


def gated_lstm(
    p,
    state,
    x,
    forget=True,
    coupled=False,
    peepholes=None,
    reset=False,
    squash=True,
    normalise=None,
    epsilon=1e-5,
    projection_size=None,
):
    h, c = state
    i, f = ("" if coupled else "u" if reset else "i"), ("f" if forget else "")
    names = "r" + i + f + "og" if reset else i + f + "go"
    W, U, b = blocks(p.w_x, names), blocks(p.w_h, names), blocks(p.b, names)
    gain = blocks(p.gain, names)
    P = blocks(p.w_c, i + f + "o")

    def summed(gate, h):
        s = x @ getattr(W, gate) + h @ getattr(U, gate)
        if normalise == "layer":
            s = standardized(s, epsilon) * getattr(gain, gate)
        return s + getattr(b, gate)

    def open_(gate, c):
        seen = {None: 0.0, "diagonal": c * getattr(P, gate), "full": np.dot(c, getattr(P, gate))}[peepholes]
        return sigmoid(summed(gate, h) + seen)

    g = np.tanh(summed("g", sigmoid(summed("r", h)) * h if reset else h))
    f = open_("f", c) if forget else 1.0
    i = 1 - f if coupled else open_(i, c)
    c = f * c + i * g
    h = open_("o", c) * (np.tanh(c) if squash else c)
    if projection_size:
        h = h @ p.w_p
    return (h, c), h


def gated_gru(p, h, x, reset="after", inner_bias=None, normalise=None, epsilon=1e-5):
    W, U, b, gain = (blocks(w, "rzn") for w in (p.w_x, p.w_h, p.b, p.gain))
    inner = 0.0 if p.b_n is None else p.b_n

    def finished(gate, s):
        if normalise == "layer":
            s = standardized(s, epsilon) * getattr(gain, gate)
        return s + getattr(b, gate)

    r = sigmoid(finished("r", x @ W.r + h @ U.r))
    z = sigmoid(finished("z", x @ W.z + h @ U.z))
    recurrent = r * (h @ U.n + inner) if reset == "after" else (r * h) @ U.n
    h = z * h + (1 - z) * np.tanh(finished("n", x @ W.n + recurrent))
    return h, h


def in_heads(step, names):
    """A cell head by head: head k reads its columns of each gate's block of W and b, its own U and its own state."""

    def headed(p, state, x):
        heads, size = p.w_h.shape[:2]
        per_head = lambda w, k: np.concatenate([g.reshape(*g.shape[:-1], heads, size)[..., k, :] for g in w], -1)
        results = []
        for k in range(heads):
            split = lambda w: np.split(w, len(names), axis=-1)
            b = None if p.b is None else per_head(split(p.b), k)
            b_n = None if getattr(p, "b_n", None) is None else p.b_n[k]
            own = SimpleNamespace(w_x=per_head(split(p.w_x), k), w_h=p.w_h[k], b=b, b_n=b_n)
            one = tuple(leaf[k] for leaf in state) if isinstance(state, tuple) else state[k]
            results.append(step(own, one, x))
        states, ys = zip(*results)
        joined = tuple(map(np.stack, zip(*states))) if isinstance(state, tuple) else np.stack(states)
        return joined, np.concatenate(ys)

    return headed


def slstm_head(p, state, x):
    """Sums of exponentials as they are; c and n are handed on divided by exp(m)."""
    h, c, n, m = state
    W, U, b = (blocks(w, "ifzo") for w in (p.w_x, p.w_h, p.b))
    i, f = x @ W.i + h @ U.i + b.i, sigmoid(x @ W.f + h @ U.f + b.f)
    z, o = np.tanh(x @ W.z + h @ U.z + b.z), sigmoid(x @ W.o + h @ U.o + b.o)
    c = f * c * np.exp(m) + np.exp(i) * z
    n = f * n * np.exp(m) + np.exp(i)
    m = np.maximum(np.log(f) + m, i)
    h = o * c / n
    return (h, c / np.exp(m), n / np.exp(m), m), h


headwise_elman, headwise_lstm = in_heads(elman, "h"), in_heads(lstm, "ifgo")
headwise_gru, slstm = in_heads(gru_after, "rzn"), in_heads(slstm_head, "ifzo")


def convolution(x, w):
    """``x [*places, d]`` with ``w [*kernel, d, m]``, place by place: its middle on the place, zeros outside."""
    kernel, places = w.shape[:-2], x.shape[:-1]
    y = np.zeros((*places, w.shape[-1]))
    for place in np.ndindex(places):
        for tap in np.ndindex(kernel):
            seen = tuple(at + t - (size - 1) // 2 for at, t, size in zip(place, tap, kernel))
            if all(0 <= at < size for at, size in zip(seen, places)):
                y[place] += x[seen] @ w[tap]
    return y


def conv_lstm(p, state, x):
    h, c = state
    W, U, b = blocks(p.w_x, "ifgo"), blocks(p.w_h, "ifgo"), blocks(p.b, "ifgo")
    P = blocks(p.w_c, "ifo")
    i = sigmoid(convolution(x, W.i) + convolution(h, U.i) + c * P.i + b.i)
    f = sigmoid(convolution(x, W.f) + convolution(h, U.f) + c * P.f + b.f)
    c = f * c + i * np.tanh(convolution(x, W.g) + convolution(h, U.g) + b.g)
    o = sigmoid(convolution(x, W.o) + convolution(h, U.o) + c * P.o + b.o)
    h = o * np.tanh(c)
    return (h, c), h


def over_channels(p, x):
    return x if p.w_x is None else x @ p.w_x


def softplus(a):
    return np.log1p(np.exp(a))


def mingru(p, h, x, candidate="linear"):
    W, b = blocks(p.w_x, "un"), blocks(p.b, "un")
    u = sigmoid(x @ W.u + b.u)
    n = x @ W.n + b.n
    if candidate == "positive":
        n = np.where(n >= 0, n + 0.5, sigmoid(n))
    h = (1 - u) * h + u * n
    return h, h


def minlstm(p, h, x):
    W, b = blocks(p.w_x, "ifn"), blocks(p.b, "ifn")
    i, f = sigmoid(x @ W.i + b.i), sigmoid(x @ W.f + b.f)
    h = f / (f + i) * h + i / (f + i) * (x @ W.n + b.n)
    return h, h


def lru(p, h, x, dt=1.0):
    x = over_channels(p, x)
    a = np.exp(-np.exp(p.nu) + 1j * np.exp(p.theta))
    gamma = np.sqrt(1 - np.abs(a) ** 2) if p.log_gamma is None else np.exp(p.log_gamma)
    h = np.exp(dt * (-np.exp(p.nu) + 1j * np.exp(p.theta))) * h + gamma * (x @ (p.b_real + 1j * p.b_imag))
    return h, (h @ (p.c_real + 1j * p.c_imag)).real + p.d * x


def rglru(p, h, x):
    x = over_channels(p, x)
    heads, size = p.w_gates.shape[:2]
    gates = [own @ w for own, w in zip(x.reshape(heads, size), p.w_gates)]
    r, i = (np.concatenate([g[k * size : (k + 1) * size] for g in gates]) for k in range(2))
    b_r, b_i = np.split(p.b, 2)
    a = np.exp(-8 * softplus(p.decay) * sigmoid(r + b_r))
    h = a * h + np.sqrt(1 - a**2) * sigmoid(i + b_i) * x
    return h, h


def s5(p, h, x, dt=1.0):
    x = over_channels(p, x)
    rate = -np.exp(p.log_decay) + 1j * p.frequency
    a = np.exp(np.exp(p.log_step) * dt * rate)
    h = a * h + (a - 1) / rate * (x @ (p.b_real + 1j * p.b_imag))
    return h, 2 * (h @ (p.c_real + 1j * p.c_imag)).real + p.d * x


def selective_state_space(p, h, x, dt=1.0):
    x = over_channels(p, x)
    delta = dt * softplus(x @ p.w_low @ p.w_step + p.b_step)
    A, B, C = -np.exp(p.log_a), x @ p.w_b, x @ p.w_c
    h = np.exp(delta[:, None] * A) * h + np.outer(delta * x, B)
    return h, h @ C + p.d * x


def head_of(a, heads):
    """``[heads k]`` as a row a head."""
    return a.reshape(heads, -1)


def keyed(p, x, S):
    """q, k, v, each ``[heads, ...]``, from W's blocks as wide as S has them."""
    heads, key, _ = S.shape
    q, k, v = np.split(x @ p.w_x, [heads * key, 2 * heads * key])
    return head_of(q, heads), head_of(k, heads), head_of(v, heads)


def head_decay(p, x):
    return np.exp(-np.exp(p.log_rate) * softplus(x @ p.w + p.b))


def attention_decay(p, x, S, decay):
    """``[heads, k]``: what is left of each row of S."""
    heads, key = S.shape[:2]
    if decay == "head":
        return np.array([[1 - 2.0 ** (-5 - j)] * key for j in range(heads)])
    if decay == "input":
        return np.repeat(head_decay(p.decay, x)[:, None], key, 1)
    if decay == "channel":
        return head_of(sigmoid(x @ p.decay.w_low @ p.decay.w + p.decay.b) ** (1 / 16), heads)
    return np.ones((heads, key))


def linear_attention(p, S, x, decay=None):
    q, k, v = keyed(p, x, S)
    k = k / np.sqrt(k.shape[-1])
    a = attention_decay(p, x, S, decay)
    S = np.stack([np.diag(a[j]) @ S[j] + np.outer(k[j], v[j]) for j in range(len(S))])
    return S, np.concatenate([q[j] @ S[j] for j in range(len(S))])


def mlstm(p, state, x):
    """Sums of exponentials as they are; C and n are handed on divided by exp(m)."""
    C, n, m = state
    heads, key, value = C.shape
    borders = np.cumsum([heads * key, heads * key, heads * value])
    q, k, v, o = (head_of(a, heads) for a in np.split(x @ p.w_x, borders))
    b_q, b_k, b_v, b_o = (head_of(a, heads) for a in np.split(p.b, borders))
    q, k, v, o = q + b_q, k / np.sqrt(key) + b_k, v + b_v, sigmoid(o + b_o)
    i, f = np.split(x @ p.w_gates + p.b_gates, 2)
    f = sigmoid(f)
    Cs, ns, ys = [], [], []
    for j in range(heads):
        Cs.append(f[j] * C[j] * np.exp(m[j]) + np.exp(i[j]) * np.outer(k[j], v[j]))
        ns.append(f[j] * n[j] * np.exp(m[j]) + np.exp(i[j]) * k[j])
        ys.append(o[j] * (q[j] @ Cs[j]) / max(abs(q[j] @ ns[j]), 1))
    m = np.maximum(np.log(f) + m, i)
    return (np.stack(Cs) / np.exp(m)[:, None, None], np.stack(ns) / np.exp(m)[:, None], m), np.concatenate(ys)


def delta_rule(p, S, x, gated=False, beta=1.0):
    q, k, v = keyed(p, x, S)
    b, a = beta * sigmoid(x @ p.w_beta), head_decay(p.decay, x) if gated else np.ones(len(S))
    new, ys = [], []
    for j in range(len(S)):
        unit_q, unit_k = q[j] / np.linalg.norm(q[j]), k[j] / np.linalg.norm(k[j])
        new.append(a[j] * (S[j] - b[j] * np.outer(unit_k, unit_k @ S[j])) + b[j] * np.outer(unit_k, v[j]))
        ys.append(unit_q @ new[-1])
    return np.stack(new), np.concatenate(ys)


def m2rnn(p, S, x):
    q, k, v = keyed(p, x, S)
    f = head_decay(p.forget, x)
    new = [f[j] * S[j] + (1 - f[j]) * np.tanh(S[j] @ p.w_h[j] + np.outer(k[j], v[j])) for j in range(len(S))]
    return np.stack(new), np.concatenate([new[j].T @ q[j] + p.w[j] * v[j] for j in range(len(S))])


def echo_state(p, h, x, leak=1.0):
    h = (1 - leak) * h + leak * np.tanh(x @ p.w_x + h @ p.w_h + p.b)
    return h, h


def sparse_echo_state(p, h, x, leak=1.0):
    """Unit j reads the units j - d for the distances d that were drawn."""
    connections, size = p.w_h.shape
    distances = np.random.default_rng(0).choice(size, connections, replace=False)
    reads = [sum(h[(j - d) % size] * p.w_h[k, j] for k, d in enumerate(distances)) for j in range(size)]
    h = (1 - leak) * h + leak * np.tanh(x @ p.w_x + np.array(reads) + p.b)
    return h, h


def trajectory(step, p, state, xs):
    """Outputs ``[T, ...]`` and last state of one example, by a loop."""
    ys = []
    for x in xs:
        state, y = step(p, state, x)
        ys.append(y)
    return state, np.stack(ys)
