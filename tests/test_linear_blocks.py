"""Recurrences that are linear in small blocks of their state: steps that users write, against loops and scans."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import quick

import seqjax as sj
from seqjax.engines.linear.algebra import Ticks, blocks
from seqjax.engines.linear.diagonal import How, recurrence

RNG = np.random.default_rng(0)
B, D, H = 3, 4, 8
draw = lambda *shape: jnp.asarray(RNG.normal(size=shape))
same = lambda h: (h, h)


def by_hand(a, b, first, alive, reverse, xp=np):
    """``h' = A h + b``, written out: a ``[T, B, n, n]``, b ``[T, B, n]``; a block that is not alive starts at b."""
    states, h = {}, first
    for t in range(len(b))[:: -1 if reverse else 1]:
        moved = xp.einsum("bij,bj->bi", a[t], h)
        h = b[t] + (moved if alive is None else xp.where(alive[t][:, None], moved, 0))
        states[t] = h
    return xp.stack([states[t] for t in range(len(b))])


CASES = [(reverse, behind, second) for second in (False, True) for reverse in (False, True) for behind in (0, 1)]


@pytest.mark.parametrize("case", quick(CASES, (True, 0, False)))
def test_every_form_is_the_loop(case):
    """States and gradients, of an A for each tick and block and of one for all; blocks as the last axis or in front."""
    (reverse, behind, second), length, n = case, 7, 3
    a, b, first = draw(length, B, n, n) / 2, draw(length, B, n), draw(B, n)
    alive = jnp.asarray(RNG.uniform(size=(length, B)) > 0.3)
    moved = lambda x: jnp.moveaxis(x, -3, -1) if behind else x
    hows = [How("loop", reverse), How("tree", reverse), How("lanes", reverse, 3)]

    def ours(how, a, b, first, alive):
        column = lambda x: moved(x[..., None])
        cut = None if alive is None else moved(alive[..., None, None])
        h = recurrence(Ticks(moved(a), column(b), cut), column(first), how, blocks(behind))
        return jnp.moveaxis(h, -1, -3)[..., 0] if behind else h[..., 0]

    def hand(a, b, first, alive):
        return by_hand(jnp.broadcast_to(a, (length, B, n, n)), b, first, alive, reverse, jnp)

    def results(run, a, alive):
        loss = lambda a, b, first: jnp.sum(jnp.sin(run(a, b, first, alive)) * jnp.arange(1.0, n + 1))
        if not second:
            return run(a, b, first, alive), jax.grad(loss, (0, 1, 2))(a, b, first)
        v = jnp.cos(a)
        forwards = jax.jvp(lambda a: jax.grad(loss)(a, b, first), (a,), (v,))[1]
        backwards = jax.grad(lambda a: jnp.vdot(jax.grad(loss)(a, b, first), v))(a)
        return forwards, backwards, jax.vmap(jax.grad(loss), (0, None, None))(jnp.stack([a, v]), b, first)

    runs = [hand, *(functools.partial(ours, how) for how in hows)]
    cases = ((a, alive), (a[:1, :1], None))
    found = jax.jit(lambda: [[results(run, *case) for run in runs] for case in cases])()
    if not second:
        np.testing.assert_allclose(found[0][0][0], by_hand(*map(np.asarray, (a, b, first, alive)), reverse), atol=1e-12)
    for expected, *forms in found:
        for form in forms:
            for x, y in zip(jax.tree.leaves(expected), jax.tree.leaves(form), strict=True):
                np.testing.assert_allclose(y, x, rtol=1e-11, atol=1e-11)


def test_a_gradient_keeps_a_and_h():
    length, n = 64, 3
    a, b, first = draw(length, B, n, n), draw(length, B, n, 1), draw(B, n, 1)
    for form in ("loop", "tree", "lanes"):
        run = lambda a, b, h, form=form: recurrence(Ticks(a, b, None), h, How(form, False, 4), blocks(0))
        kept = jax.tree.leaves(jax.eval_shape(lambda a, b, h, run=run: jax.vjp(run, a, b, h)[1], a, b, first))
        assert sum(leaf.size for leaf in kept) <= (length * (n + 1) + 1) * B * n


# ---- steps that users write. Every one is (params, h, x) -> (h, y), x [B, D]; h [B, H], or a pair of them.


def heads(h):
    return h.reshape(*h.shape[:-1], 2, 4)


def rotated(p, h, x):
    angle = (x @ p["v"])[..., :4]
    c, s, even, odd = jnp.cos(angle), jnp.sin(angle), h[..., ::2], h[..., 1::2]
    return jnp.stack([c * even - s * odd, s * even + c * odd], -1).reshape(h.shape) + x @ p["v"]


def rotated_by_halves(p, h, x):
    c, s = jnp.split(0.9 * (x @ p["v"]) / 4, 2, -1)
    first, second = jnp.split(h, 2, -1)
    return jnp.concatenate([c * first - s * second, s * first + c * second], -1) + x @ p["v"]


def of_the_input(p, h, x):
    a = jnp.tanh(x @ p["a"]).reshape(*h.shape[:-1], 2, 4, 4) / 2
    return jnp.einsum("...ij,...j->...i", a, heads(h)).reshape(h.shape) + x @ p["v"]


def shared_by_channels(p, h, x):
    a = jnp.tanh((x @ p["a"])[..., :4]).reshape(*h.shape[:-1], 2, 2)
    return jnp.einsum("...ij,...cj->...ci", a, h.reshape(*h.shape[:-1], 4, 2)).reshape(h.shape) + x @ p["v"]


def autoregressive(p, h, x):
    new = (h * p["u"][:1]).sum(-1, keepdims=True) + x[..., :1]
    return jnp.concatenate([new, h[..., :-1]], -1), new * jnp.tanh(h[..., -1:])


def reflected(p, h, x):
    k = jnp.tanh(x @ p["v"])
    return h - 0.5 * k * (k * h).sum(-1, keepdims=True) + x @ p["v"]


def gated_roll(p, h, x):
    return 0.4 * (jnp.roll(h, 1, -1) * jax.nn.sigmoid(x @ p["v"]) - jnp.flip(h, -1)) + x @ p["v"]


def unstacked(p, h, x):
    a, b, *more = jnp.unstack(0.9 * heads(h), axis=-1)
    return jnp.stack([b, x[..., :1] * a, *more[::-1]], -1).reshape(h.shape) + x @ p["v"]


def padded(p, h, x):
    return 0.5 * jnp.pad(h, [(0, 0)] * (h.ndim - 1) + [(1, 0)])[..., :-1] / (1 + x[..., :1] ** 2) + x @ p["v"]


def oscillator(p, s, x):
    u, v = s
    v = v - 0.3 * u - jax.nn.sigmoid(x @ p["v"]) * v + x @ p["v"]
    u = u + 0.3 * v
    return (u, v), u * v


def two_leaves_mixed(p, s, x):
    u, v = s
    return (0.5 * v + u @ p["u"] + x @ p["v"], u), u


ACCEPTED = {
    "shared": (8, lambda p, h, x: same(h @ p["u"] + x @ p["v"])),
    "a head": (
        4,
        lambda p, h, x: same(jnp.einsum("...hd,hde->...he", heads(h), p["heads"]).reshape(h.shape) + x @ p["v"]),
    ),
    "of the input": (4, lambda p, h, x: same(of_the_input(p, h, x))),
    "shared by channels": (2, lambda p, h, x: same(shared_by_channels(p, h, x))),
    "rotated": (2, lambda p, h, x: same(rotated(p, h, x))),
    "rotated by halves": (2, lambda p, h, x: same(rotated_by_halves(p, h, x))),
    "autoregressive": (8, autoregressive),
    "reflected": (8, lambda p, h, x: same(reflected(p, h, x))),
    "gated roll": (8, lambda p, h, x: same(gated_roll(p, h, x))),
    "cumulative": (8, lambda p, h, x: same(0.3 * jnp.cumsum(h, -1) + x @ p["v"])),
    "unstacked": (4, lambda p, h, x: same(unstacked(p, h, x))),
    "padded": (8, lambda p, h, x: same(padded(p, h, x))),
    "chosen": (8, lambda p, h, x: same(jnp.where(x[..., :1] > 0, h @ p["u"], x @ p["v"]))),
    "oscillator": (2, oscillator),
    "two leaves": (16, two_leaves_mixed),
}
PAIRS = ("oscillator", "two leaves")


def cell_of(step, pair=False, init=None):
    first = lambda params, batch=(), *, key=None: jnp.full((*batch, H), 0.3)
    both = lambda params, batch=(), *, key=None: (jnp.full((*batch, H), 0.3), jnp.full((*batch, H), -0.2))
    params = {"u": draw(H, H) / 4, "v": draw(D, H), "a": draw(D, 32), "heads": draw(2, 4, 4) / 2}
    return sj.Cell(init or (lambda key: params), both if pair else first, step)


def equal_to_scan(cell, xs, way, state=None, beside="scan", **options):
    """Values, last states and gradients in everything; and what `explain` says of the way."""
    params = cell.init(jax.random.key(0))
    state = cell.initial_state(params, (B,)) if state is None else state

    def loss(params, state, xs, engine):
        last, ys = sj.unroll(cell, params, state, xs, engine=engine, **options)
        total = sum(jnp.sum(jnp.abs(leaf) ** 2) for leaf in jax.tree.leaves(last))
        return jnp.sum(jnp.sin(3 * jnp.real(ys) + jnp.imag(ys))) + total, (last, ys)

    run = lambda *each: [jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(*each, e) for e in (beside, "linear")]
    expected, found = jax.jit(run)(params, state, xs)
    for x, y in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(y, x, rtol=1e-10, atol=1e-10)
    plan = sj.explain(cell, params, state, xs, engine="linear")
    assert [loop.way for loop in plan.loops] == [way]
    assert f"{way}, " in str(plan)


@pytest.mark.parametrize("name", quick(ACCEPTED, "a head", "oscillator"))
def test_blocks_are_found_and_equal_a_scan(name):
    """In reverse, with masks over NaN and resets, and forwards with nothing in the way."""
    numbers, step = ACCEPTED[name]
    cell, xs = cell_of(step, name in PAIRS), draw(9, B, D)
    mask, reset = RNG.uniform(size=(9, B)) > 0.3, jnp.asarray(RNG.uniform(size=(9, B)) > 0.6)
    hidden = jnp.asarray(np.where(mask[..., None], xs, np.nan))
    options = {"mask": jnp.asarray(mask), "reset": reset, "reverse": True, "memory": "carries"}
    equal_to_scan(cell, hidden, f"linear, in dense blocks of {numbers}", **options)


@pytest.mark.parametrize("name", quick(ACCEPTED, "of the input"))
def test_blocks_equal_a_scan_forwards(name):
    numbers, step = ACCEPTED[name]
    equal_to_scan(cell_of(step, name in PAIRS), draw(9, B, D), f"linear, in dense blocks of {numbers}")


@pytest.mark.parametrize("length", quick([1, 2, 31, 257], 31))
@pytest.mark.parametrize("memory", quick(["all", "carries", "sqrt", "log", 16], "sqrt"))
def test_lengths_and_memory(length, memory):
    equal_to_scan(cell_of(ACCEPTED["rotated"][1]), draw(length, B, D), "linear, in dense blocks of 2", memory=memory)


def test_a_loop_in_numpy():
    """Of a rotation of pairs and of a matrix of the input, in float64."""
    xs = np.asarray(draw(31, B, D))
    for name in ("rotated", "of the input"):
        cell = cell_of(ACCEPTED[name][1])
        params = jax.tree.map(np.asarray, cell.init(jax.random.key(0)))
        added = xs @ params["v"]
        a = np.zeros((31, B, H, H))
        if name == "rotated":
            for k in range(4):
                c, s, i, j = np.cos(added[..., k]), np.sin(added[..., k]), 2 * k, 2 * k + 1
                a[..., i, i], a[..., i, j], a[..., j, i], a[..., j, j] = c, -s, s, c
        else:
            own = np.tanh(xs @ params["a"]).reshape(31, B, 2, 4, 4) / 2
            a[..., :4, :4], a[..., 4:, 4:] = own[:, :, 0], own[:, :, 1]
        expected = by_hand(a, added, np.full((B, H), 0.3), None, False)
        _, ys = sj.unroll(cell, params, jnp.full((B, H), 0.3), jnp.asarray(xs), engine="linear")
        np.testing.assert_allclose(ys, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["complex", "bfloat16", "no batch", "two batch axes", "elman"])
def test_other_types_and_axes(kind):
    shared = ACCEPTED["shared"][1]
    if kind == "complex":
        matrix = lambda key: {"u": jax.lax.complex(draw(H, H), draw(H, H)) / 8, "v": draw(D, H).astype(complex)}
        equal_to_scan(
            cell_of(lambda p, h, x: same(h @ p["u"] + x.astype(complex) @ p["v"]), init=matrix),
            draw(9, B, D), "linear, in dense blocks of 8", jnp.full((B, H), 0.3 + 0.1j),
        )  # fmt: skip
    elif kind == "bfloat16":
        low = lambda key: {"u": (draw(H, H) / 4).astype(jnp.bfloat16), "v": draw(D, H)}
        equal_to_scan(
            cell_of(lambda p, h, x: same(h @ p["u"].astype(h.dtype) + x @ p["v"]), init=low),
            draw(9, B, D), "linear, in dense blocks of 8", beside="split",  # a scan rounds at every tick
        )  # fmt: skip
    elif kind == "elman":
        cell = sj.elman(D, 16, activation=lambda z: z)
        equal_to_scan(cell, draw(9, B, D) / 4, "linear, in dense blocks of 16")
    else:
        batch = () if kind == "no batch" else (2, B)
        state = jnp.full((*batch, H), 0.3)
        equal_to_scan(cell_of(shared), draw(9, *batch, D), "linear, in dense blocks of 8", state)
        equal_to_scan(cell_of(ACCEPTED["rotated"][1]), draw(9, *batch, D), "linear, in dense blocks of 2", state)


def test_one_matrix_is_made_once():
    """Neither for every tick nor for every sequence: nothing of the gradient has the size of A for each."""
    length = 64
    cell = cell_of(ACCEPTED["shared"][1])
    params, state = cell.init(jax.random.key(0)), jnp.zeros((B, H))
    loss = lambda p, x: jnp.sum(sj.unroll(cell, p, state, x, engine="linear", memory=length)[1])
    jaxpr = str(jax.make_jaxpr(jax.grad(loss))(params, draw(length, B, D)))
    assert f"f64[1,1,{H},{H}]" in jaxpr
    assert f"[{length},1,{H},{H}]" not in jaxpr
    assert f"[{length},{B},{H},{H}]" not in jaxpr


def test_a_factor_that_numbers_share_is_kept_once():
    """Of a head of 5 units one number a tick."""
    cell = sj.Cell(
        lambda key: {},
        lambda params, batch=(), *, key=None: jnp.zeros((*batch, 2, 5)),
        lambda p, h, x: same(jax.nn.sigmoid(x["a"])[..., None] * h + x["b"]),
    )
    xs, state = {"a": draw(6, B, 2), "b": draw(6, B, 2, 5)}, draw(B, 2, 5)
    run = lambda xs: jnp.sum(sj.unroll(cell, {}, state, xs, engine="linear")[1])
    kept = jax.tree.leaves(jax.eval_shape(lambda xs: jax.vjp(run, xs)[1], xs))
    assert sorted(leaf.shape for leaf in kept if leaf.size >= 6 * B * 2 * 5)[1:] == []
    equal_to_scan(cell, xs, "linear, number by number", state)


REFUSED = {
    "two axes": (
        (4, 4),
        lambda p, h, x: jnp.einsum("bij,ik,jl->bkl", h, p["w"][:4, :4], p["w"][:4, :4]),
        "dot_general float64.* mixes numbers of the state, and not in blocks of at most 16 along one axis",
    ),
    "seventeen": ((17,), lambda p, h, x: h @ p["w"], "dot_general float64.* mixes numbers .* at most 16"),
    "sequences": ((4,), lambda p, h, x: h - h.mean(0, keepdims=True) + h @ p["w"][:4, :4], "mixes numbers"),
    "transposed": ((3,), lambda p, h, x: 0.5 * h.T, "mixes numbers of the state"),
    "beside its transpose": ((3,), lambda p, h, x: 0.5 * h + 0.2 * h.T, "mixes numbers of the state"),
    "tanh": ((4,), lambda p, h, x: jnp.tanh(h @ p["w"][:4, :4]), "tanh float64.* of what depends on the state"),
    "products": (
        (4,),
        lambda p, h, x: h * (h @ p["w"][:4, :4]),
        "a product of two values that depend on the state",
    ),
    "rounded": (
        (4,),
        lambda p, h, x: jnp.matmul(h, p["w"][:4, :4], preferred_element_type=jnp.float32).astype(h.dtype),
        "a cast of what depends on the state to float32",
    ),
    "sorted": ((4,), lambda p, h, x: jnp.sort(h), "sort float64"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_in_blocks_is_refused_by_its_equation(name):
    shape, step, reason = REFUSED[name]
    params, state = {"w": draw(17, 17)}, jnp.zeros((B, *shape))
    cell = sj.Cell(lambda key: params, lambda *_, key=None: state, lambda p, h, x: same(step(p, h, x) + x))
    with pytest.raises(ValueError, match=f"unroll: expected recurrences that are linear.*got .*{reason}.*Use engine="):
        sj.unroll(cell, params, state, jnp.zeros((3, B, *shape)), engine="linear")


def test_nan_before_a_reset_does_not_survive_it():
    """And reaches no other block."""
    cell, xs = cell_of(ACCEPTED["rotated"][1]), draw(6, B, D)
    hurt = lambda p, h, x: ACCEPTED["rotated"][1](p, h, x["x"])[0] + x["hurt"]
    cell = cell_of(lambda p, h, x: same(hurt(p, h, x)))
    params, reset = cell.init(jax.random.key(0)), jnp.zeros((6, B), bool).at[4, 0].set(True)
    inputs = {"x": xs, "hurt": jnp.zeros((6, B, H)).at[1, 0, 2].set(jnp.nan)}
    _, ys = sj.unroll(cell, params, cell.initial_state(params, (B,)), inputs, reset=reset, engine="linear")
    expected = np.zeros((6, B, H), bool)
    expected[1, 0, 2] = expected[2:4, 0, 2:4] = True
    assert (np.isnan(ys) == expected).all()


def test_an_empty_batch():
    for step in (ACCEPTED["rotated"][1], ACCEPTED["shared"][1]):
        cell = cell_of(step)
        params = cell.init(jax.random.key(0))
        for engine in ("auto", "linear"):
            _, ys = sj.unroll(cell, params, jnp.zeros((0, H)), jnp.zeros((5, 0, D)), engine=engine)
            assert ys.shape == (5, 0, H)


def test_auto_leaves_blocks_to_ticks_and_says_so():
    cell = cell_of(ACCEPTED["rotated"][1])
    params = cell.init(jax.random.key(0))
    plan = sj.explain(cell, params, cell.initial_state(params, (B,)), draw(9, B, D))
    assert (plan.engine, [loop.way for loop in plan.loops]) == ("split", [""])
    assert "float64[3,8] tick by tick, though linear, in dense blocks of 2" in plan.why
    deep = sj.stack(sj.cells.mingru(D, D), sj.elman(D, 4, activation=lambda z: z))
    params = deep.init(jax.random.key(0))
    plan = sj.explain(deep, params, deep.initial_state(params, (B,)), draw(9, B, D))
    assert (plan.engine, [loop.way for loop in plan.loops]) == ("split", ["linear, number by number", ""])
