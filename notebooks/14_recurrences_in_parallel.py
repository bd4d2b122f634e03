# %% [markdown]
# # 14. From $h' = a h + b$ to a chunk of products
#
# A recurrence goes tick by tick. One that is linear in its state need not: all of its states follow from products that
# can be taken at once. Ten figures, each with its equation, lead from one number of state to matrices that are written
# and read by keys. Every one is computed and compared with the plain scan.

# %%
# %matplotlib inline
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.colors import LinearSegmentedColormap, LogNorm

import seqjax as sj
from seqjax.engines.linear.algebra import MAX_PLUS, Ticks
from seqjax.engines.linear.diagonal import How, recurrence
from seqjax.engines.linear.matrix.decay import decays
from seqjax.engines.linear.matrix.triangular import inverse
from seqjax.gradients import figures

jax.config.update("jax_enable_x64", True)
rng = np.random.default_rng(0)
BLUE, RED, GREEN, PURPLE, ORANGE = figures.COLOURS
shades = LinearSegmentedColormap.from_list("shades", ["white", BLUE])
greens = LinearSegmentedColormap.from_list("greens", ["white", GREEN])
signs = LinearSegmentedColormap.from_list("signs", [RED, "white", BLUE])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def cell_of(step, *shape):
    """A cell without parameters whose state starts at zero."""
    start = lambda params, batch=(), *, key=None: jnp.zeros((*batch, *shape))
    return sj.Cell(lambda key: (), start, lambda params, s, x: step(s, x))


def scan(step, first, xs, **options):
    """The last state and the outputs, tick by tick."""
    return sj.unroll(cell_of(step, *np.shape(first)), (), jnp.asarray(first), xs, engine="scan", **options)


def picture(panel, values, title="", cmap=signs, limit=None, **options):
    """A matrix, rows downwards; signed ones are white at zero."""
    limit = np.abs(values).max() if limit is None else limit
    bounds = {} if "norm" in options else {"vmin": -limit if cmap is signs else 0, "vmax": limit}
    drawn = panel.imshow(values, cmap=cmap, interpolation="nearest", **bounds, **options)
    panel.set(xticks=[], yticks=[])
    panel.set_title(title, fontsize="medium")
    panel.spines[:].set(visible=True, linewidth=0.5)
    return drawn


def between(panel, sign):
    """A sign on the right of a picture."""
    panel.text(1.12, 0.5, sign, transform=panel.transAxes, ha="center", va="center", fontsize="x-large")


# %% [markdown]
# ## 1. A sum over paths
#
# $$ h_t = a_t h_{t-1} + b_t \quad\Longrightarrow\quad h_t = \sum_{s \le t} \Big( \prod_{r=s+1}^{t} a_r \Big)\, b_s $$
#
# What entered at $s$ reaches $t$ on one path, and is multiplied by the factors along it. The minimal GRU is of this
# kind: $a = 1 - u$ and $b = u \odot n$ see the input only.

# %%
T = 16
cell = sj.cells.mingru(3, 1, candidate="positive", dtype=float)
params = cell.init(jax.random.key(2))
params = params._replace(b=jnp.array([-1.5, 0.0]))
xs = rng.normal(size=(T, 3))
_, states = sj.unroll(cell, params, cell.initial_state(params), xs, engine="scan")

before_u, before_n = (xs @ params.w_x + params.b).T
a = 1 - sigmoid(before_u)
b = sigmoid(before_u) * np.where(before_n >= 0, before_n + 0.5, sigmoid(before_n))
parts = np.array([[a[s + 1 : t + 1].prod() * b[s] if s <= t else 0 for s in range(T)] for t in range(T)])

figure, axes = figures.panels(1, 2, height=2.4, width_ratios=[1.2, 1])
panel = axes[0, 0]


def arrow(end, begin, on_path):
    style = {"arrowstyle": "-|>", "color": RED if on_path else "0.55", "linewidth": 1.6 if on_path else 0.9}
    panel.annotate("", end, begin, arrowprops=style)


for t in range(7):
    panel.text(t, 1, f"$h_{t}$", ha="center", va="center", color=RED if t >= 3 else "black")
    if t:
        arrow((t - 0.22, 1), (t - 0.78, 1), t > 3)
        panel.text(t - 0.5, 1.1, f"$a_{t}$", ha="center", color=RED if t > 3 else "0.3")
        arrow((t, 0.86), (t, 0.36), t == 3)
        panel.text(t, 0.24, f"$b_{t}$", ha="center", va="center", color=RED if t == 3 else "black")
panel.text(4.5, 1.36, "$a_6\\, a_5\\, a_4\\, b_3$", ha="center", color=RED)
panel.set(xlim=(-0.3, 6.4), ylim=(0.05, 1.55))
panel.axis("off")

panel, below, ticks = axes[0, 1], np.zeros(T), np.arange(1, T + 1)
for s in range(T):
    colour = RED if s == 2 else shades(0.25 + 0.75 * s / T)
    panel.bar(ticks, parts[:, s], 0.9, below, color=colour, edgecolor="white", linewidth=0.3)
    below += parts[:, s]
panel.plot(ticks, states[:, 0], "o", color="black", markersize=3.5, label="scan")
panel.set(xlabel="tick $t$", ylabel="$h_t$", xlim=(0.3, T + 0.7), ylim=(0, 1.12 * states.max()))
figures.legend(panel, loc="upper left")
figures.letters(axes)
np.testing.assert_allclose(parts.sum(1), states[:, 0], rtol=1e-12)
figure

# %% [markdown]
# **Figure 1.** *One path from each input to each state.* **a** The path of $b_3$ to $h_6$. **b** A unit of a minimal
# GRU: each shade is what one input has left at tick $t$, red the third one. The parts add up to the states of the scan.
#
# ## 2. A triangular matrix
#
# $$ h = D b, \qquad D_{ts} = \begin{cases} a_{s+1} \cdots a_t & s \le t \\ 0 & s > t \end{cases} $$

# %%
T = 48
gate = sigmoid(2.5 + 2.5 * rng.normal(size=T))
cases = {"$a = 0.9$": np.full(T, 0.9), "$a_t$ from the input": gate, "two resets": gate.copy()}
b = rng.normal(size=T)
reset = np.isin(np.arange(T), (17, 34))
step = lambda h, x: (x[0] * h + x[1],) * 2


def unrolled(a):
    return np.array([[a[s + 1 : t + 1].prod() if s <= t else 0.0 for s in range(len(a))] for t in range(len(a))])


figure, axes = figures.panels(1, 3, height=2.35)
for panel, (name, a) in zip(axes[0], cases.items()):
    options = {"reset": reset} if name == "two resets" else {}
    D = unrolled(np.where(reset, 0, a) if options else a)
    np.testing.assert_allclose(D @ b, scan(step, 0.0, (a, b), **options)[1], rtol=1e-10, atol=1e-12)
    drawn = picture(panel, D, name, shades, 1)
    panel.set(xlabel="written at $s$")
axes[0, 0].set(ylabel="read at $t$")
figure.colorbar(drawn, ax=axes, shrink=0.8, label="$D_{ts}$").outline.set_visible(False)
figures.letters(axes)
figure

# %% [markdown]
# **Figure 2.** *Who hears whom.* **a** A fixed decay looks back equally far from everywhere. **b** A gate closes now
# and then, and nothing passes. **c** A reset is a factor of zero: blocks that know nothing of each other.
#
# ## 3. Stretches of time and their summaries
#
# Two ticks after one another are one tick of the same kind,
#
# $$ (a_2, b_2) \circ (a_1, b_1) = (a_2 a_1,\; a_2 b_1 + b_2), $$
#
# and so are stretches of any length. Below the diagonal blocks $D$ has rank one: one number passes a border.

# %%
T, K = 32, 8
a, b = sigmoid(3 + 1.5 * rng.normal(size=T)), rng.normal(size=T)
states = scan(step, 0.0, (a, b))[1]

alone, product = np.zeros(T), np.ones(T)  # each stretch from nothing; the product of its factors so far
for k in range(K):
    here = np.arange(0, T, K) + k
    alone[here] = (a[here] * alone[here - 1] if k else 0) + b[here]
    product[here] = a[here] * (product[here - 1] if k else 1)
first = [0.0]  # before each stretch
for end in range(K - 1, T, K):
    first.append(product[end] * first[-1] + alone[end])
np.testing.assert_allclose(alone + product * np.repeat(first[:-1], K), states, rtol=1e-10)
for how in (How("lanes", lanes=4), How("tree")):
    found = recurrence(Ticks(jnp.asarray(a), jnp.asarray(b), None), jnp.zeros(()), how)
    np.testing.assert_allclose(found, states, rtol=1e-10)

D = unrolled(a)
assert all(np.linalg.matrix_rank(D[t : t + K, s : s + K]) == 1 for t in range(0, T, K) for s in range(0, t, K))
figure, axes = figures.panels(1, 2, height=2.5, width_ratios=[1, 1.7])
panel = axes[0, 0]
inside = np.kron(np.eye(T // K), np.ones((K, K))) > 0
picture(panel, np.ma.array(D, mask=inside), "", greens, 1)
panel.imshow(np.ma.array(D, mask=~inside), cmap=shades, vmin=0, vmax=1, interpolation="nearest")
for border in range(K, T, K):
    panel.axhline(border - 0.5, color="0.6", linewidth=0.5)
    panel.axvline(border - 0.5, color="0.6", linewidth=0.5)
panel.set(xlabel="$s$", ylabel="$t$")
panel, ticks = axes[0, 1], np.arange(1, T + 1)
for begin in range(0, T, K):
    span = slice(begin, begin + K)
    label = {"label": "from nothing"} if not begin else {}
    panel.plot(np.append(begin, ticks[span]), np.append(0, alone[span]), color=BLUE, linewidth=1, **label)
    panel.axvline(begin + K, color="0.85", linewidth=0.8, zorder=0)
panel.plot(np.append(0, ticks), np.append(0, states), color="black", linewidth=1.8, label="scan", zorder=1)
panel.plot(np.arange(0, T + 1, K), first, "s", color=GREEN, markersize=6, label="first states", zorder=3)
panel.set(xlabel="tick $t$", xlim=(-0.5, T + 0.5), ylim=(None, np.ptp(states) / 3 + max(states.max(), alone.max())))
figures.legend(panel, loc="upper left", ncols=3, columnspacing=1.2)
figures.letters(axes)
figure

# %% [markdown]
# **Figure 3.** *Four stretches of eight ticks.* **a** Blue: within a stretch. Green: blocks of rank one, (factors
# before $t$) × (factors behind $s$). **b** All stretches run side by side from nothing (blue); a loop over four
# summaries gives the states at their borders (green); from these all of them run again. A tree of summaries has
# $\log_2 T$ levels.
#
# ## 4. The derivative is the recurrence backwards
#
# $$ \lambda_t = \frac{dL}{dh_t} = \bar h_t + a_{t+1} \lambda_{t+1}, \qquad \bar b_t = \lambda_t, \qquad
#    \bar a_t = \lambda_t h_{t-1} $$
#
# with $\bar h_t = \partial L / \partial h_t$, what the loss says of $h_t$ directly. The same factors, so that the same
# forms run it; $a$ and $h$ have to be kept, and nothing else.

# %%
T = 32
a, b = sigmoid(2.2 + rng.normal(size=T)), rng.normal(size=T)
direct = np.zeros(T)
direct[[9, 20, 31]] = 0.8, -0.6, 1.0
loss = lambda a, b: jnp.vdot(direct, sj.unroll(cell_of(step), (), jnp.zeros(()), (a, b), engine="linear")[1])
a_bar, b_bar = jax.grad(loss, (0, 1))(jnp.asarray(a), jnp.asarray(b))
turned = (np.append(a[1:], 0)[::-1], direct[::-1])
adjoint = np.asarray(scan(step, 0.0, turned)[1])[::-1]
np.testing.assert_allclose(b_bar, adjoint, rtol=1e-10, atol=1e-14)
states = np.asarray(scan(step, 0.0, (a, b))[1])
np.testing.assert_allclose(a_bar, adjoint * np.append(0, states[:-1]), rtol=1e-10, atol=1e-14)


def numbers_kept(run, length):
    """A tick, by the backward pass."""
    kept = jax.eval_shape(lambda a, b: jax.vjp(run, a, b)[1], *[jax.ShapeDtypeStruct((length,), float)] * 2)
    return sum(leaf.size for leaf in jax.tree.leaves(kept)) / length


def through_a_tree(a, b):
    joined = lambda early, late: (late[0] * early[0], late[0] * early[1] + late[1])
    return jax.lax.associative_scan(joined, (a, b))[1]


tree = lambda a, b: recurrence(Ticks(a, b, None), jnp.zeros(()), How("tree"))
lengths = 2 ** np.arange(4, 15)
kept = {name: [numbers_kept(run, n) for n in lengths] for name, run in (("tree", through_a_tree), ("ours", tree))}
assert max(kept["ours"]) <= 2 + 1 / 8
assert kept["tree"][-1] > 2 * kept["ours"][-1]

figure, axes = figures.panels(1, 2, height=2.4, width_ratios=[1.5, 1])
panel, ticks = axes[0, 0], np.arange(1, T + 1)
panel.axhline(0, color="0.8", linewidth=0.8)
heard = direct != 0
panel.vlines(ticks[heard], 0, direct[heard], color=RED, linewidth=3, label="$\\bar h_t$")
panel.plot(ticks, adjoint, color=BLUE, label="$\\lambda$, backwards")
panel.plot(ticks, b_bar, "o", color="black", markersize=2.5, label="$\\bar b$, by jax.grad")
panel.set(xlabel="tick $t$", ylim=(-1.0, 1.5))
figures.legend(panel, loc="upper left", ncols=3, columnspacing=1.0, handlelength=1.4)
panel = axes[0, 1]
panel.semilogx(lengths, kept["tree"], "s-", color=RED, markersize=3.5, base=2, label="through the tree")
panel.semilogx(lengths, kept["ours"], "o-", color=BLUE, markersize=3.5, base=2, label="$a$ and $h$")
panel.set(xlabel="ticks $T$", ylabel="numbers kept a tick", ylim=(0, 7), yticks=[0, 2, 4, 6])
panel.set_xticks(2 ** np.arange(4, 15, 2))
figures.legend(panel, loc="upper left")
figures.letters(axes)
figure

# %% [markdown]
# **Figure 4.** *Backwards through time.* **a** A loss that looks at three ticks (red), and what each state is worth to
# it. **b** What the backward pass reads: of a tree that is differentiated as it stands, and of the reverse recurrence.
#
# ## 5. Complex factors on a ring
#
# $$ a = e^{-e^{\nu} + i e^{\theta}}, \qquad h_t \ni a^{t-s} b_s = |a|^{t-s}\, e^{i \omega (t-s)}\, b_s,
#    \qquad \omega = e^{\theta} $$
#
# A complex number turns while it shrinks. The linear recurrent unit has a number of them, drawn on a ring: the radius
# says how long each remembers, the angle how it tells one distance from another.

# %%
rings = {
    "$0.5 \\leq |a| \\leq 0.9$": ({"r_min": 0.5, "r_max": 0.9}, RED),
    "$0.95 \\leq |a| \\leq 0.999$, angle up to $\\pi/5$": (
        {"r_min": 0.95, "r_max": 0.999, "max_phase": np.pi / 5},
        BLUE,
    ),
}
T = 80
figure, axes = figures.panels(1, 2, height=2.7, width_ratios=[1, 1.35])
circle = np.exp(1j * np.linspace(0, 2 * np.pi, 200))
axes[0, 0].plot(circle.real, circle.imag, color="0.6", linewidth=0.8)
for name, (options, colour) in rings.items():
    cell = sj.cells.lru(1, 1, state_size=150, dtype=float, **options)
    params = cell.init(jax.random.key(1))
    a = np.exp(-np.exp(params.nu) + 1j * np.exp(params.theta))
    assert (np.abs(a) >= options["r_min"]).all()
    assert (np.abs(a) <= options["r_max"]).all()
    axes[0, 0].plot(a.real, a.imag, ".", color=colour, markersize=4)
    # The answer to an impulse in one number of the state, by the cell itself.
    which = int(np.argsort(np.abs(a))[-40])
    one = np.eye(150)[which]
    only = params._replace(c_real=jnp.asarray(one[:, None]), c_imag=jnp.zeros((150, 1)), d=jnp.zeros(1))
    _, ys = sj.unroll(cell, only, jnp.asarray(one + 0j), jnp.zeros((T, 1)))
    exact = a[which] ** np.arange(T + 1)
    np.testing.assert_allclose(ys[:, 0], exact[1:].real, atol=1e-12)
    axes[0, 0].plot(a[which].real, a[which].imag, "o", color=colour, markersize=7, markerfacecolor="white")
    axes[0, 1].plot(exact.real, color=colour, label=name)
    for sign in (1, -1):
        axes[0, 1].plot(sign * np.abs(exact), color=colour, linewidth=0.7, linestyle=":")
axes[0, 0].set(aspect="equal", xlabel="Re $a$", ylabel="Im $a$", xticks=[-1, 0, 1], yticks=[-1, 0, 1])
axes[0, 1].set(xlabel="distance $t - s$", ylabel="Re $a^{t-s}$", ylim=(-1.05, 1.6), yticks=[-1, 0, 1])
figures.legend(axes[0, 1], loc="upper right")
figures.letters(axes)
figure

# %% [markdown]
# **Figure 5.** *Where the factors lie, and what they do.* **a** Two starts of 150 numbers each, beside the unit circle.
# **b** What an impulse leaves in the circled ones, with $\pm |a|^{t-s}$ dotted.
#
# ## 6. A matrix for a state
#
# $$ S_t = a_t S_{t-1} + k_t v_t^\top, \qquad y_t = q_t^\top S_t = \sum_{s \le t} (q_t \cdot k_s)\, D_{ts}\, v_s^\top $$
#
# Each tick adds an outer product: the key says where, the value what. A query reads, of each value, as much as it
# resembles its key. Number by number this is $h' = a h + b$ again, but with $k v^\top$ for $b$ all of time's would fill
# $T \times m \times n$ numbers.

# %%
m, n, T = 8, 6, 4
keys, values = unit(rng.normal(size=(T, m))), unit(rng.normal(size=(T, n)))
outer = lambda k, v: k[..., :, None] * v[..., None, :]
write = lambda s, x: (s + outer(*x),) * 2
S = np.asarray(scan(write, np.zeros((m, n)), (keys, values))[1])
limit = 0.75 * np.abs(S).max()

figure, axes = figures.panels(2, 5, height=3.1, width_ratios=[1, 1, 1, 1, 1.5])
for t in range(T):
    picture(axes[0, t], outer(keys, values)[t], f"$k_{t + 1} v_{t + 1}^\\top$", limit=limit, aspect="auto")
    picture(axes[1, t], S[t], f"$S_{t + 1}$", limit=limit, aspect="auto")
    np.testing.assert_allclose(S[t], keys[: t + 1].T @ values[: t + 1], atol=1e-12)
axes[0, 0].set_ylabel("written")
axes[1, 0].set_ylabel("the sum so far")
for panel, which in zip(axes[:, 4], (0, 3)):
    read = keys[which] @ S[-1]
    similar = keys @ keys[which]
    np.testing.assert_allclose(read, similar @ values, atol=1e-12)
    panel.axhline(0, color="0.8", linewidth=0.8)
    places = np.arange(1, n + 1)
    panel.bar(places, values[which], 0.6, color="0.8", label=f"$v_{which + 1}$")
    panel.plot(places, read, "o", color=BLUE, markersize=4.5, label=f"$k_{which + 1}^\\top S_4$")
    panel.set(xticks=[], yticks=[-1, 0, 1], ylim=(-1.1, 1.7))
    figures.legend(panel, loc="upper right", ncols=2, columnspacing=0.8, handletextpad=0.3, handlelength=1)
figure

# %% [markdown]
# **Figure 6.** *Written by outer products, read by keys.* Above, what each of four ticks writes; below, their sum. On
# the right what the first and the last key read of it: their value, and as much of others as the keys overlap.
#
# ## 7. A chunk of $C$ ticks is a masked product
#
# With queries, keys and values of a chunk as rows of $Q$, $K$, $V$, and $\Lambda_t = a_1 \cdots a_t$,
#
# $$ Y = \underbrace{(Q K^\top \odot D)}_{A}\, V + (\Lambda \odot Q)\, S_0, \qquad
#    S_C = \Lambda_C S_0 + \sum_s D_{Cs}\, k_s v_s^\top . $$
#
# The first term is attention without a softmax within the chunk, the second what the state before it has to say.
# Products of $C \times C$, $C \times m$ and $m \times n$; nothing has $C \times m \times n$ numbers.

# %%
C, m, n = 32, 12, 16
Q, K, V = (rng.normal(size=(C, size)) / np.sqrt(size) for size in (m, m, n))
a, S0 = sigmoid(3 + 1.2 * rng.normal(size=C)), rng.normal(size=(m, n)) / 3


def attend(s, x):
    s = x["a"][..., None, None] * s + outer(x["k"], x["v"])
    return s, jnp.einsum("...m,...mn->...n", x["q"], s)


inputs = {"a": a, "q": Q, "k": K, "v": V}
last, Y = scan(attend, S0, inputs)
D, passed = unrolled(a), a.cumprod()
A = (Q @ K.T) * D
within, old = A @ V, (passed[:, None] * Q) @ S0
np.testing.assert_allclose(within + old, Y, atol=1e-12)
np.testing.assert_allclose(passed[-1] * S0 + (D[-1][:, None] * K).T @ V, last, atol=1e-12)
for name in ("auto", "linear"):  # the package finds the same by itself
    found = sj.unroll(cell_of(attend, m, n), (), jnp.asarray(S0), inputs, engine=name)
    np.testing.assert_allclose(found[1], Y, atol=1e-12)
    np.testing.assert_allclose(found[0], last, atol=1e-12)

figure, axes = figures.panels(2, 3, height=4.1)
rows = (
    [(Q @ K.T, "$QK^\\top$"), (D, "$D$"), (A, "$A$")],
    [(within, "$AV$"), (old, "$(\\Lambda \\odot Q)\\,S_0$"), (Y, "$Y$")],
)
for line, drawn in zip(axes, rows):
    limit = 0.8 * np.abs(drawn[2][0]).max()
    for panel, (values, name) in zip(line, drawn):
        picture(panel, values, name, *((shades, 1) if values is D else (signs, limit)), aspect="auto")
for line, (first_sign, second_sign) in zip(axes, (("⊙", "="), ("+", "="))):
    between(line[0], first_sign)
    between(line[1], second_sign)
figure.get_layout_engine().set(wspace=0.16, hspace=0.06)
figure

# %% [markdown]
# **Figure 7.** *One chunk.* Above, scores of all pairs of ticks, the decays between them and their product. Below, what
# is read of the chunk itself fills the rows as time goes down, while what the state before it has to say fades. The sum
# is what the scan puts out.
#
# ## 8. Decays by halving
#
# $D_{ts} = a_{s+1} \cdots a_{t-1}$ for all pairs of a chunk: $P_{t-1} / P_s$ with running products $P$ divides zero by
# zero behind a closed gate; $\exp(L_{t-1} - L_s)$ with running sums of $\ln a$ subtracts large numbers, and $-\infty$
# from itself. Cut the chunk in two halves instead. For $s$ in the early and $t$ in the late one
#
# $$ D_{ts} = (\text{product of the late half before } t) \times (\text{product of the early half behind } s), $$
#
# and within a half the same again. No quotient, no logarithm.

# %%
C = 64
a = sigmoid(1 + 3 * rng.normal(size=C)).astype(np.float32)
a[40] = 0.0
exact = np.array([[a[s + 1 : t].astype(float).prod() if s < t else 0.0 for s in range(C)] for t in range(C)])
with np.errstate(all="ignore"):
    P, L = np.cumprod(a, dtype=np.float32), np.cumsum(np.log(a), dtype=np.float32)
    P, L = np.append(np.float32(1), P), np.append(np.float32(0), L)  # of the first t factors
    quotients, logarithms = P[:-1, None] / P[None, 1:], np.exp(L[:-1, None] - L[None, 1:])
ones = jnp.ones((C, 1), jnp.float32)
halving = np.asarray(decays(jnp.asarray(a[:, None])).between(ones, ones))
lower = np.arange(C)[:, None] > np.arange(C)
errors = {}
for name, found in {"quotients": quotients, "logarithms": logarithms, "halving": halving}.items():
    assert found.dtype == np.float32
    with np.errstate(all="ignore"):
        errors[name] = np.where(lower, np.abs(found - exact) / np.maximum(exact, np.finfo(np.float32).tiny), 0)
    wrong = ~np.isfinite(errors[name])
    share = wrong.sum() / lower.sum()
    print(f"{name:10s} largest relative error {errors[name][~wrong].max():.0e}, not finite {share:4.0%}")
assert errors["halving"].max() < 1e-6
assert errors["logarithms"][np.isfinite(errors["logarithms"])].max() > 5e-6
assert not np.isfinite(errors["quotients"]).all()

figure, axes = figures.panels(1, 4, height=1.9)
level = np.full((C, C), np.nan)
for depth in range(6):
    half = C >> (depth + 1)
    for begin in range(0, C, 2 * half):
        level[begin + half : begin + 2 * half, begin : begin + half] = 1 - depth / 6
picture(axes[0, 0], level, "levels", shades, 1)
bad = shades.with_extremes(bad=RED, under="white")
for panel, (name, error) in zip(axes[0, 1:], errors.items()):
    drawn = picture(panel, np.where(lower, np.maximum(error, 1e-12), 1e-12), name, bad, norm=LogNorm(1e-8, 1e-5))
for panel in axes[0]:
    panel.plot([-0.5, C - 0.5], [-0.5, C - 0.5], color="0.6", linewidth=0.5)
figure.colorbar(drawn, ax=axes, shrink=0.9, label="relative error").outline.set_visible(False)
figures.letters(axes)
figure

# %% [markdown]
# **Figure 8.** *Products of decays in single precision; the gate is shut once, after forty ticks.* **a** Each square is
# one outer product of two halves. **b**, **c** Red is not a number; logarithms lose a digit and more besides. **d**
# Right to the last digit, and exactly zero behind the gate.
#
# ## 9. The delta rule: a triangular system
#
# A write that corrects what its key reads,
#
# $$ S_t = S_{t-1} + k_t u_t^\top, \qquad u_t = \beta_t\, (v_t - S_{t-1}^\top k_t), $$
#
# depends on the writes before it. With $S_{t-1} = S_0 + \sum_{s<t} k_s u_s^\top$ all corrections of a chunk solve one
# system, once a chunk and not once a tick:
#
# $$ (I - N)\, U = \mathrm{diag}(\beta)\, (V - K S_0), \qquad N_{ts} = -\beta_t\, (k_t \cdot k_s) \text{ for } s < t. $$
#
# $N$ lies strictly below the diagonal, so that $(I - N)^{-1}$ exists, and can be taken by halves again.

# %%
C, m, n = 32, 12, 16
K, V = unit(rng.normal(size=(C, m)) + 0.4), rng.normal(size=(C, n))
beta, S0 = np.where(rng.uniform(size=C) < 0.5, 1.0, 0.7), rng.normal(size=(m, n)) / 2
N = -np.tril(beta[:, None] * (K @ K.T), -1)
solved = np.asarray(inverse(jnp.asarray(N)))
np.testing.assert_allclose(solved, np.linalg.inv(np.eye(C) - N), atol=1e-10)
U = solved @ (beta[:, None] * (V - K @ S0))


def correct(s, x):
    u = x["b"][..., None] * (x["v"] - jnp.einsum("...m,...mn->...n", x["k"], s))
    return s + outer(x["k"], u), u


inputs = {"b": beta, "k": K, "v": V}
last, by_scan = scan(correct, S0, inputs)
np.testing.assert_allclose(U, by_scan, atol=1e-11)
np.testing.assert_allclose(S0 + K.T @ U, last, atol=1e-11)
found = sj.unroll(cell_of(correct, m, n), (), jnp.asarray(S0), inputs, engine="linear")
np.testing.assert_allclose(found[0], last, atol=1e-11)

# What a key reads some ticks after its value was written, as a distance from that value; over many sequences.
many = 200
K2, V2 = unit(rng.normal(size=(C, many, m))), unit(rng.normal(size=(C, many, n)))
summed = np.einsum("tbm,tbn->bmn", K2, V2)
corrected = scan(correct, np.zeros((many, m, n)), {"b": np.ones((C, many)), "k": K2, "v": V2})[0]
misses = {
    name: np.linalg.norm(np.einsum("tbm,bmn->tbn", K2, S) - V2, axis=-1).mean(1)[::-1]
    for name, S in (("sum", summed), ("delta rule", np.asarray(corrected)))
}
assert misses["delta rule"][0] < 1e-6
assert (misses["delta rule"] < misses["sum"]).all()

figure, axes = figures.panels(1, 4, height=1.95, width_ratios=[1, 1, 1, 1.35])
picture(axes[0, 0], N, "$N$", limit=0.8)
picture(axes[0, 1], solved, "$(I - N)^{-1}$", limit=0.8)
picture(axes[0, 2], U, "$U$", aspect="auto")
panel = axes[0, 3]
panel.plot(misses["sum"], color=RED, label="sum")
panel.plot(misses["delta rule"], color=BLUE, label="delta rule")
panel.set(xlabel="ticks since it was written", ylabel="$\\| k^\\top S - v \\|$", ylim=(0, None))
panel.axhline(1, color="0.6", linewidth=0.8, linestyle="--")
figures.legend(panel, loc="lower right")
figures.letters(axes)
figure

# %% [markdown]
# **Figure 9.** *Corrections of a chunk at once.* **a** How the reads depend on earlier writes. **b** The inverse, which
# is triangular too. **c** All corrections; they are those of the scan. **d** What it is for: the distance between a
# value of norm one and what its key reads later; to read nothing would be the dashed line. Twelve rows hold the last
# few of thirty-two values, where their sum holds none.
#
# ## 10. A recurrence of maxima
#
# The mLSTM has $f_t = \sigma(\tilde f_t)$ for a decay and $i_t = e^{\tilde\imath_t}$ for a weight, which overflows. It
# divides its matrix by $e^{m_t}$, where
#
# $$ m_t = \max(\ln f_t + m_{t-1},\; \tilde\imath_t)
#    = \max_{s \le t} \Big( \tilde\imath_s + \sum_{r=s+1}^t \ln f_r \Big). $$
#
# That is Figure 1 with sums for products and a maximum for the sum: an algebra in which all of the above holds, chunks
# and trees included. No exponent is above zero then:
#
# $$ \frac{C_t}{e^{m_t}} = e^{\ln f_t + m_{t-1} - m_t}\, \frac{C_{t-1}}{e^{m_{t-1}}} +
#    e^{\tilde\imath_t - m_t}\, k_t v_t^\top . $$

# %%
T, h = 60, 4
raw_i, raw_f = 55 * rng.normal(size=T), np.minimum(rng.normal(size=T), -0.5) - 0.5
cell = sj.cells.mlstm(h + 2, h, dtype=jnp.float32)
params = cell.init(jax.random.key(0))
# The last two inputs are the gates, as they are.
params = params._replace(
    w_x=params.w_x.at[h:].set(0), w_gates=jnp.eye(h + 2, dtype=jnp.float32)[:, h:], b_gates=jnp.zeros(2, jnp.float32)
)
xs = np.concatenate([rng.normal(size=(T, h)), raw_i[:, None], raw_f[:, None]], 1).astype(np.float32)


def with_stabiliser(params, state, x):
    state, y = cell.step(params, state, x)
    return state, (state.m[0], y)


watched = sj.Cell(cell.init, cell.initial_state, with_stabiliser)
_, (m, ys) = sj.unroll(watched, params, cell.initial_state(params), xs)
log_f = -np.logaddexp(0, -raw_f)
ticks = Ticks(jnp.asarray(log_f), jnp.asarray(raw_i), None)
for how in (How("loop"), How("tree"), How("lanes", lanes=6)):
    found = recurrence(ticks, jnp.asarray(-jnp.inf), how, MAX_PLUS)
    np.testing.assert_allclose(found, m, rtol=1e-5)


def without(dtype):
    """The equations without a stabiliser."""
    q, k, v, o = np.split(xs[:, :h].astype(dtype) @ np.asarray(params.w_x[:h], dtype), 4, axis=-1)
    C, norm, out = np.zeros((h, h), dtype), np.zeros(h, dtype), []
    i, f = np.exp(raw_i.astype(dtype)), sigmoid(raw_f).astype(dtype)
    for t in range(T):
        key = k[t] * dtype(h**-0.5)
        C, norm = f[t] * C + i[t] * outer(key, v[t]), f[t] * norm + i[t] * key
        out.append(sigmoid(o[t]) * (q[t] @ C) / max(abs(q[t] @ norm), 1))
    return np.array(out)


exact = without(np.float64)
with np.errstate(all="ignore"):
    narrow = without(np.float32)
failed = int(np.flatnonzero(~np.isfinite(narrow).all(1))[0])
print(f"float32 without a stabiliser: not finite from tick {failed + 1} on")
np.testing.assert_allclose(ys, exact, rtol=2e-3, atol=1e-4)
np.testing.assert_allclose(narrow[:failed], exact[:failed], rtol=2e-3, atol=1e-4)

figure, axes = figures.panels(1, 2, height=2.6, width_ratios=[1.3, 1])
panel, places = axes[0, 0], np.arange(1, T + 1)
lines = raw_i[:, None] + np.cumsum(log_f)[None] - np.cumsum(log_f)[:, None]
for s in range(T):
    panel.plot(places[s:], lines[s, s:], color="0.8", linewidth=0.6)
panel.plot(places, raw_i, ".", color=RED, markersize=4, label="$\\tilde\\imath_s$")
panel.plot(places, m, color=BLUE, linewidth=1.8, label="$m_t$, by the cell")
panel.axhline(np.log(np.finfo(np.float32).max), color="black", linewidth=0.7, linestyle="--")
panel.text(1, 91, "$e^x$ overflows", ha="left", va="bottom", fontsize="small")
panel.set(xlabel="tick", ylim=(-115, 185), xlim=(0, T + 1))
figures.legend(panel, loc="upper left", ncols=2)
panel = axes[0, 1]
panel.axvspan(failed + 0.5, T + 0.5, color=RED, alpha=0.12, linewidth=0)
panel.plot(places, exact[:, 0], color="black", linewidth=0.9, label="the equations, float64")
panel.plot(places, ys[:, 0], "o", color=BLUE, markersize=3.2, label="the cell, float32")
low, high = exact[:, 0].min(), exact[:, 0].max()
panel.set(xlabel="tick", ylabel="$y$", xlim=(0, T + 1), ylim=(low - 0.1 * (high - low), high + 0.45 * (high - low)))
figures.legend(panel, loc="upper left")
figures.letters(axes)
figure

# %% [markdown]
# **Figure 10.** *The stabiliser is the highest of falling lines.* **a** Each input's line (grey) falls by $-\ln f$ a
# tick; $m$ is their upper envelope, found by the same forms as sums of products. **b** An output of the mLSTM; without
# a stabiliser single precision has lost it where the ground is red.
#
# ## All of it in one cell
#
# Nothing has to be said for this: the package reads the step's equations, and `sj.explain` says what it found.

# %%
cell = sj.cells.mlstm(8, 64, heads=2)
params = cell.init(jax.random.key(0))
state, xs = cell.initial_state(params, (3,)), jnp.asarray(rng.normal(size=(200, 3, 8)), jnp.float32)
for loop in sj.explain(cell, params, state, xs).loops:
    print(f"{', '.join(loop.state):22s} {loop.way}")
by_scan, found = (sj.unroll(cell, params, state, xs, engine=engine)[1] for engine in ("scan", "auto"))
assert [loop.way.split(",")[1] for loop in sj.explain(cell, params, state, xs).loops].count(" a matrix by chunks") == 1
np.testing.assert_allclose(found, by_scan, atol=1e-5)

# %% [markdown]
# ## Questions
#
# 1. What makes a recurrence fit for a chunk of products, and which of the gated cells are?
# 2. What does the backward pass of a linear recurrence have to keep?
# 3. When is the scan faster all the same?
#
# Where the answers are: section 1; section 4; [docs/parallel.md](../docs/parallel.md).
