"""Cells that are linear in their state: what their papers say of them, in closed forms, in time and at the start."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from laws import assert_close, loss
from marks import quick
from reference import cells as reference

import seqjax as sj
from seqjax.cells.s5 import legs

D, H, T = 3, 4, 9
drawn = functools.partial(zoo.drawn, scale=0.5)


def run(cell, params, xs, batch=()):
    return sj.unroll(cell, params, cell.initial_state(params, batch), xs, engine="scan")


def inputs(length=T, size=D):
    return jax.random.normal(jax.random.key(3), (length, size))


# ---- numbers


@pytest.mark.parametrize("name", quick(["mingru", "minlstm"], "mingru"))
def test_the_recurrence_in_logarithms(name):
    """ln h_t = A_t + ln(exp(ln h_0) + Σ_s exp(ln b_s - A_s)), A the sum of ln a: all at once, all numbers positive."""
    cell = getattr(sj.cells, name)(D, H, candidate="positive")
    p, xs, start = jax.tree.map(np.asarray, drawn(cell)), np.asarray(inputs()), np.full(H, 0.5)
    _, ys = sj.unroll(cell, jax.tree.map(jnp.asarray, p), jnp.asarray(start), jnp.asarray(xs))
    *gates, n = np.split(xs @ p.w_x + p.b, 2 if name == "mingru" else 3, axis=-1)
    softplus = lambda a: np.logaddexp(0, a)
    ratio = gates[0] if name == "mingru" else softplus(-gates[1]) - softplus(-gates[0])  # σ of it is let in
    log_a, log_b = -softplus(ratio), -softplus(-ratio) + np.where(n >= 0, np.log(np.maximum(n, 0) + 0.5), -softplus(-n))
    kept = np.cumsum(log_a, axis=0)
    log_h = kept + np.logaddexp.accumulate(np.concatenate([np.log(start)[None], log_b - kept]))[1:]
    np.testing.assert_allclose(ys, np.exp(log_h), rtol=1e-12)


def test_shut_gates_of_minlstm_are_still_shares_of_one():
    """σ(-800) is zero in any float: f / (f+i) is 1/2 where both gates are as far shut."""
    cell = sj.cells.minlstm(D, H)
    params = cell.init(jax.random.key(0))._replace(
        w_x=jnp.zeros((D, 3 * H)), b=jnp.repeat(jnp.array([-800.0, -800, 2]), H)
    )
    value, gradient = jax.value_and_grad(lambda p: cell.step(p, jnp.ones(H), jnp.ones(D))[1].sum())(params)
    assert value == pytest.approx(1.5 * H)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))


MAKERS = {
    "lru": lambda **o: sj.cells.lru(D, H, **o),
    "s5": lambda **o: sj.cells.s5(D, H, **o),
    "selective_state_space": lambda **o: sj.cells.selective_state_space(D, H, state_size=5, **o),
}


@pytest.mark.parametrize("name", MAKERS)
def test_time_steps(name):
    """dt = 1 is no dt; any dt is that of the equations; a masked tick takes no time."""
    cell = MAKERS[name]()
    params, xs = drawn(cell), inputs()
    dt = jnp.exp(jax.random.normal(jax.random.key(4), (T,)))
    mask = jnp.arange(T) != 4

    @jax.jit
    def found(params):
        masked = sj.unroll(cell, params, cell.initial_state(params), (xs, dt), mask=mask)[0]
        some = jax.tree.map(lambda x: x[mask], (xs, dt))
        return (
            run(cell, params, xs),
            run(cell, params, (xs, jnp.ones(T))),
            run(cell, params, (xs, dt)),
            masked,
            run(cell, params, some)[0],
        )

    plain, ones, timed, masked, without = found(params)
    assert_close(plain, ones)
    assert_close(masked, without)
    p, h = jax.tree.map(np.asarray, params), np.zeros_like(plain[0])
    for t in range(T):
        h, y = getattr(reference, name)(p, h, np.asarray(xs[t]), float(dt[t]))
        np.testing.assert_allclose(timed[1][t], y, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", MAKERS)
def test_time_composes(name):
    """A gap s and then t is s + t: with nothing before (lru), the input held (s5), nothing written (selective)."""
    cell = MAKERS[name]()
    params, x = drawn(cell), inputs()[0]
    if name == "selective_state_space":
        params = params._replace(w_b=0 * params.w_b)
    first = 0 * x if name == "lru" else x
    start = cell.initial_state(params)
    start = start + jax.random.normal(jax.random.key(5), start.shape, start.dtype)
    step = lambda h, x, dt: cell.step(params, h, (x, jnp.asarray(dt)))
    twice = step(step(start, first, 0.7)[0], x, 1.6)
    assert_close(twice, step(start, x, 2.3))
    assert np.abs(twice[0] - step(start, x, 1.6)[0]).max() > 1e-3


def test_pairs_that_are_none():
    cell = sj.cells.lru(D, H)
    params = cell.init(jax.random.key(0))
    state, x = cell.initial_state(params, (2,)), jnp.ones((2, D))
    with pytest.raises(
        ValueError, match=r"lru: expected dt of the inputs' batch shape \(2,\), got \(2, 1\).*feature axis"
    ):
        cell.step(params, state, (x, jnp.ones((2, 1))))
    with pytest.raises(ValueError, match=r"lru: expected inputs x, or a pair \(x, dt\), got 3 parts"):
        cell.step(params, state, (x, jnp.ones(2), x))
    with pytest.raises(ValueError, match=r"lru: expected inputs of size 3, got 5"):
        cell.step(params, state, (jnp.ones((2, 5)), jnp.ones(2)))


def test_the_ring():
    """|a| between the radii, uniform by area; γ as it is or learned; gradients reach through 10,000 ticks."""
    make = lambda **o: sj.cells.lru(2, 400, r_min=0.9, r_max=0.999, max_phase=math.pi / 10, **o).init(jax.random.key(0))
    params = make(learned_gamma=True)
    r, angle = np.exp(-np.exp(params.nu)), np.exp(params.theta)
    assert 0.9 <= r.min() <= r.max() <= 0.999
    assert np.mean(r**2) == pytest.approx((0.9**2 + 0.999**2) / 2, abs=0.01)
    assert 0 < angle.min() < angle.max() < math.pi / 10
    np.testing.assert_allclose(np.exp(params.log_gamma), np.sqrt(1 - r**2), rtol=1e-6)
    assert make().log_gamma is None


@pytest.mark.parametrize("make", [sj.cells.lru, sj.cells.s5, sj.cells.rglru], ids=lambda make: make.__name__)
def test_the_first_input_reaches_ten_thousand_ticks(make):
    """In float32, from the published start; of an LRU on its outer ring."""
    cell = make(2, 64, dtype=jnp.float32, **({"r_min": 0.999, "r_max": 0.9999} if make is sj.cells.lru else {}))
    params = cell.init(jax.random.key(0))
    xs = jnp.zeros((10_000, 2), jnp.float32).at[0].set(1)
    last = lambda x: jnp.abs(run(cell, params, xs.at[0].set(x))[0]).sum()
    reached = np.abs(jax.jit(jax.grad(last))(jnp.ones(2, jnp.float32)))
    assert np.isfinite(reached).all()
    if make is not sj.cells.rglru:  # a is at most 0.999 where r = 1, and r = 1/2 at rest: 0.9995^10,000
        assert reached.min() > 0


def test_rglru_starts_between_its_bounds():
    params = sj.cells.rglru(8, 8000, heads=1000).init(jax.random.key(0))
    a = np.exp(-8 * reference.softplus(params.decay))
    assert 0.9 <= a.min() < 0.902 < 0.997 < a.max() <= 0.999
    assert np.mean(a) == pytest.approx(0.9495, abs=2e-3)


def test_gates_that_are_shut_leave_gradients_finite():
    """r = 0 to the last bit: a = 1 and √(1 - a²) = 0, whose derivative is infinite."""
    cell = sj.cells.rglru(H, H)
    params = cell.init(jax.random.key(0))._replace(b=jnp.full(2 * H, -1000.0))
    value, gradient = jax.value_and_grad(lambda p: cell.step(p, jnp.ones(H), jnp.ones(H))[1].sum())(params)
    assert value == H
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))
    cell = sj.cells.lru(H, H)
    params = cell.init(jax.random.key(0))
    gradient = jax.grad(lambda p: cell.step(p, cell.initial_state(p), jnp.ones(H))[1].sum())(
        params._replace(nu=-1000 + 0 * params.nu)
    )
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))


def test_modes_of_hippo():
    """V Λ Vᴴ, with the conjugates, is the normal part of LegS, as its paper writes that matrix."""
    size = 5
    frequencies, v = legs(size)
    n = np.arange(2 * size)
    hippo = -np.tril(np.sqrt(np.outer(2 * n + 1, 2 * n + 1)), -1) - np.diag(n + 1.0)
    normal = hippo + np.outer(np.sqrt(n + 0.5), np.sqrt(n + 0.5))
    eigenvalues = -0.5 + 1j * frequencies
    both = (v * eigenvalues) @ v.conj().T + ((v * eigenvalues) @ v.conj().T).conj()
    np.testing.assert_allclose(both, normal, atol=1e-12)
    params = sj.cells.s5(2, 3, state_size=10, blocks=2).init(jax.random.key(0))
    np.testing.assert_allclose(params.frequency, np.tile(frequencies, 2), rtol=1e-12)
    step = np.exp(params.log_step)
    assert 0.001 <= step.min() < step.max() <= 0.1


# ---- matrices


def keyed(cell, params, xs, heads, key, value):
    """Queries, keys and values of all ticks, ``[T, heads, ...]``."""
    q, k, v = np.split(np.asarray(xs @ params.w_x), [heads * key, 2 * heads * key], axis=-1)
    return (a.reshape(len(xs), heads, -1) for a in (q, k, v))


@pytest.mark.parametrize("decay", [None, "head", "input", "channel"])
def test_linear_attention_is_attention_without_softmax(decay):
    """y_t = Σ_{s≤t} Σ_i q_ti k_si (a_{s+1} … a_t)_i v_s: quadratic in T, no state at all."""
    heads, key, value = 2, 3, 4
    cell = sj.cells.linear_attention(D, heads * value, heads=heads, key_size=key, decay=decay)
    params, xs = drawn(cell), inputs()
    _, ys = jax.jit(lambda p: run(cell, p, xs))(params)
    q, k, v = keyed(cell, params, xs, heads, key, value)
    p, blank = jax.tree.map(np.asarray, params), np.zeros((heads, key, value))
    a = np.stack([reference.attention_decay(p, x, blank, decay) for x in np.asarray(xs)])
    expected = np.zeros((T, heads, value))
    for t in range(T):
        for s in range(t + 1):
            weight = (q[t] * k[s] / np.sqrt(key) * a[s + 1 : t + 1].prod(0)).sum(-1)
            expected[t] += weight[:, None] * v[s]
    np.testing.assert_allclose(ys, expected.reshape(T, -1), rtol=1e-11, atol=1e-12)
    assert 0 < a.min() <= a.max() <= 1


def test_mlstm_equals_its_equations_without_a_stabiliser():
    cell = sj.cells.mlstm(D, 8, heads=2, key_size=3)
    params, xs = drawn(cell, scale=1.0), 2 * inputs()
    (c, n, m), ys = run(cell, params, xs)
    p = jax.tree.map(np.asarray, params)
    C, N, borders = np.zeros((2, 3, 4)), np.zeros((2, 3)), [6, 12, 20]
    for x, y in zip(np.asarray(xs), ys):
        a = [w.reshape(2, -1) for w in np.split(x @ p.w_x, borders)]
        b = [w.reshape(2, -1) for w in np.split(p.b, borders)]
        q, k, v, o = a[0] + b[0], a[1] / np.sqrt(3) + b[1], a[2] + b[2], reference.sigmoid(a[3] + b[3])
        i, f = np.split(x @ p.w_gates + p.b_gates, 2)
        i, f = np.exp(i), reference.sigmoid(f)
        C = f[:, None, None] * C + i[:, None, None] * k[:, :, None] * v[:, None, :]
        N = f[:, None] * N + i[:, None] * k
        weight = np.maximum(np.abs((q * N).sum(-1)), 1)
        np.testing.assert_allclose(y, (o * np.einsum("hk,hkv->hv", q, C) / weight[:, None]).ravel(), rtol=1e-10)
    np.testing.assert_allclose(c * np.exp(m)[:, None, None], C, rtol=1e-10)
    np.testing.assert_allclose(n * np.exp(m)[:, None], N, rtol=1e-10)


@pytest.mark.parametrize("gate", [-100.0, 100.0])
def test_exponential_gates_stay_finite(gate):
    """In float32, where exp(100) is infinite: values and gradients, over all inputs and with inputs of zero."""
    cell = sj.cells.mlstm(D, H, heads=2, dtype=jnp.float32)
    params = cell.init(jax.random.key(0))
    params = params._replace(b_gates=params.b_gates.at[:2].set(gate))
    for xs in (inputs().astype(jnp.float32), jnp.zeros((T, D), jnp.float32)):
        found = jax.jit(jax.value_and_grad(lambda p, xs=xs: loss(run(cell, p, xs)[1])))(params)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


def test_mlstm_starts_as_published():
    params = sj.cells.mlstm(D, 64, heads=32).init(jax.random.key(0))
    i, f = np.split(params.b_gates, 2)
    np.testing.assert_allclose(f, np.linspace(3, 6, 32), rtol=1e-6)
    assert 0.05 < i.std() < 0.15
    assert (params.w_gates == 0).all()


def test_a_write_replaces():
    """At b = 1 the key reads what was written, to the bit of rounding; writing again replaces; other keys are left."""
    cell = sj.cells.delta_rule(D + 1, 5, key_size=D, beta=2.0)  # σ(0) = 1/2, so b = 1
    params = cell.init(jax.random.key(0))
    to_key = jnp.eye(D + 1, D)
    to_value = jnp.zeros((D + 1, 5)).at[D].set(1.0)  # the last input is written in all places
    params = params._replace(w_x=jnp.concatenate([to_key, to_key, to_value], 1), w_beta=0 * params.w_beta)
    key, other = jnp.array([0.6, 0.0, -0.8]), jnp.array([0.0, 2.0, 0.0])
    write = lambda k, v: jnp.append(k, v)
    state, y = cell.step(params, cell.initial_state(params), write(key, 3.0))
    np.testing.assert_allclose(y, 3.0, rtol=1e-14)
    state, y = cell.step(params, state, write(other, -1.0))
    np.testing.assert_allclose(y, -1.0, rtol=1e-14)
    np.testing.assert_allclose(jnp.einsum("k,hkv->v", key, state), 3.0, rtol=1e-14)
    state, y = cell.step(params, state, write(5 * key, 7.0))
    np.testing.assert_allclose(y, 7.0, rtol=1e-14)
    np.testing.assert_allclose(jnp.einsum("k,hkv->v", other / 2, state), -1.0, rtol=1e-14)


@pytest.mark.parametrize(("beta", "least"), [(1.0, 0.0), (2.0, -1.0)])
def test_eigenvalues_of_the_delta_rule(beta, least):
    """Along its key a state is multiplied by 1 - b: never negative up to β = 1, down to -1 at β = 2."""
    cell = sj.cells.delta_rule(D, H, beta=beta)
    params = cell.init(jax.random.key(0))
    x, start = jnp.ones(D), cell.initial_state(params)
    full = params._replace(w_beta=jnp.full((D, 1), 1000.0))
    jacobian = jax.jacobian(lambda s: cell.step(full, s, x)[0])(start).reshape(H * H, H * H)
    np.testing.assert_allclose(np.linalg.eigvalsh(jacobian).min(), least, atol=1e-12)
    np.testing.assert_allclose(np.linalg.eigvalsh(jacobian).max(), 1, atol=1e-12)


def test_a_row_of_m2rnn_is_a_gated_elman_network():
    """h' = f h + (1-f) tanh(h W + k v), y = q h' + w ⊙ v."""
    cell = sj.cells.m2rnn(D, H, key_size=1)
    p, xs = drawn(cell), inputs()
    _, ys = run(cell, p, xs)
    h = np.zeros(H)
    for x, y in zip(np.asarray(xs), ys):
        q, k, v = x @ p.w_x[:, 0], x @ p.w_x[:, 1], x @ p.w_x[:, 2:]
        f = reference.head_decay(p.forget, x)[0]
        h = f * h + (1 - f) * np.tanh(h @ p.w_h[0] + k * v)
        np.testing.assert_allclose(y, q * h + p.w[0] * v, rtol=1e-11)


# ---- all


def test_bad_options():
    cells = sj.cells
    for make in (cells.mingru, cells.minlstm):
        with pytest.raises(
            ValueError, match=rf"{make.__name__}: expected candidate to be one of 'linear', 'positive', got"
        ):
            make(3, 4, candidate="log")
    for options in ({"r_min": 0.9, "r_max": 0.9}, {"r_min": -0.1}, {"r_max": 1.1}):
        with pytest.raises(ValueError, match=r"lru: expected 0 ≤ r_min < r_max ≤ 1, got"):
            cells.lru(3, 4, **options)
    with pytest.raises(ValueError, match=r"lru: expected 0 ≤ 0 < max_phase ≤ 6.28.*got 0 and 7"):
        cells.lru(3, 4, max_phase=7)
    with pytest.raises(ValueError, match=r"s5: expected blocks to divide state_size=4, got 3\. Change one of them"):
        cells.s5(3, 4, blocks=3)
    with pytest.raises(ValueError, match=r"lru: expected state_size to be a whole number of at least 1, got 0"):
        cells.lru(3, 4, state_size=0)
    for make in (cells.s5, cells.selective_state_space):
        with pytest.raises(ValueError, match=rf"{make.__name__}: expected 0 < step_min < step_max, got 0\.1 and 0\.1"):
            make(3, 4, step_min=0.1)
    with pytest.raises(
        ValueError, match=r"selective_state_space: expected rank to be a whole number of at least 1, got 0"
    ):
        cells.selective_state_space(3, 4, rank=0)
    for make in (cells.rglru, cells.linear_attention, cells.mlstm, cells.delta_rule, cells.m2rnn):
        with pytest.raises(
            ValueError, match=rf"{make.__name__}: expected heads to divide hidden_size=6, got 4\. Change"
        ):
            make(3, 6, heads=4)
    for make in (cells.linear_attention, cells.mlstm, cells.delta_rule, cells.m2rnn):
        with pytest.raises(ValueError, match=rf"{make.__name__}: expected key_size to be a whole number of at least 1"):
            make(3, 6, key_size=0)
    with pytest.raises(
        ValueError, match=r"linear_attention: expected decay to be one of None, 'head', 'input', 'channel'"
    ):
        cells.linear_attention(3, 4, decay="row")
    for beta in (0, 2.5):
        with pytest.raises(
            ValueError, match=r"delta_rule: expected beta above 0 and up to 2, got .* Use 1, or 2 for parity"
        ):
            cells.delta_rule(3, 4, beta=beta)


def test_a_scale_of_a_matrix_is_mixed_with_it():
    """Zoneout of an mLSTM in evaluation mixes C exp(m) and n exp(m), whose scale is one number a head."""
    cell = sj.cells.mlstm(D, H, heads=2)
    params = drawn(cell)
    zoned = sj.zoneout(cell, 0.3)
    state, noise = zoned.initial_state(params)
    xs = inputs()
    for x in xs[:2]:
        (after, _), _ = zoned.step(params, (state, noise), x)
        new = cell.step(params, state, x)[0]
        stands_for = lambda s: (s.c * np.exp(s.m)[:, None, None], s.n * np.exp(s.m)[:, None])
        for found, a, b in zip(stands_for(after), stands_for(state), stands_for(new)):
            np.testing.assert_allclose(found, 0.3 * a + 0.7 * b, rtol=1e-10)
        state = after


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize(
    "name",
    quick(
        [
            n
            for n in sj.cells.registry.REGISTRY
            if n
            in [
                "mingru",
                "minlstm",
                "lru",
                "rglru",
                "s5",
                "selective_state_space",
                "mlstm",
                "delta_rule",
                "m2rnn",
                "linear_attention_channel",
            ]
        ],
        "lru",
        "mlstm",
    ),
)
def test_states_are_kept_wide(name, dtype):
    """Parameters of bfloat16, or products of it: states in float32, near those of float32."""
    entry = sj.cells.registry.REGISTRY[name]
    options = entry.variant | entry.sizes | {"dtype": dtype, "compute_dtype": jnp.bfloat16}
    cell = entry.make(D, H, **options)
    params = cell.init(jax.random.key(0))
    assert {p.dtype for p in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
    state, ys = run(cell, params, inputs().astype(jnp.bfloat16))
    assert {s.dtype.name for s in jax.tree.leaves(state)} <= {"float32", "complex64"}
    exact = entry.make(D, H, **entry.variant, **entry.sizes, dtype=jnp.float32)
    _, expected = run(exact, jax.tree.map(lambda p: p.astype(jnp.float32), params), inputs().astype(jnp.float32))
    assert ys.dtype == jnp.float32
    assert np.abs(ys - expected).max() < 0.05 * np.abs(expected).max()
