"""What each cell is for, at gates set open and shut by hand; and what it says to bad input."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from laws import state_of
from reference import cells as reference
from zoo import D, H

import seqjax as sj
from seqjax.cells.registry import REGISTRY
from seqjax.initializers import only

SHUT, OPEN = -1000.0, 1000.0
drawn = partial(zoo.drawn, scale=1.0)


def with_gates(params, names, **open_or_shut):
    """Parameters in which the named gates depend on nothing but a bias that saturates them."""
    w_x, w_h, b = (jnp.split(w, len(names), axis=-1) for w in (params.w_x, params.w_h, params.b))
    for gate, value in open_or_shut.items():
        k = names.index(gate)
        w_x[k], w_h[k], b[k] = 0 * w_x[k], 0 * w_h[k], jnp.full_like(b[k], value)
    join = partial(jnp.concatenate, axis=-1)
    return params._replace(w_x=join(w_x), w_h=join(w_h), b=join(b))


@pytest.mark.parametrize(
    ("i", "f", "meaning"),
    [
        (SHUT, OPEN, "remember"),
        (OPEN, OPEN, "add"),
        (SHUT, SHUT, "erase"),
        (OPEN, SHUT, "overwrite"),
    ],
)
def test_gate_table(i, f, meaning):
    cell = sj.lstm(D, H)
    params = with_gates(drawn(cell), "ifgo", i=i, f=f)
    state, x = state_of(cell, params), jax.random.normal(jax.random.key(3), (3, D))
    new, _ = cell.step(params, state, x)
    w = slice(2 * H, 3 * H)
    g = np.tanh(x @ params.w_x[:, w] + state.h @ params.w_h[:, w] + params.b[w])
    c = np.asarray(state.c)
    expected = {"remember": c, "add": c + g, "erase": 0 * c, "overwrite": g}[meaning]
    np.testing.assert_allclose(new.c, expected, rtol=1e-13, atol=0)
    if meaning in ("remember", "erase"):
        np.testing.assert_array_equal(new.c, expected)


def test_constant_error():
    """With f = 1, i = 0 at tick t+1 and o = 0 at t, the cell's gradient passes unchanged."""
    cell, length = sj.lstm(D, H), 9
    params = drawn(cell)
    x_i, x_f, x_g, x_o = jnp.split(0 * params.w_x, 4, axis=-1)
    params = params._replace(  # the first input, 0 or 1, switches between the drawn gates and held ones
        w_x=jnp.concatenate([x_i.at[0].set(SHUT), x_f.at[0].set(OPEN), x_g, x_o.at[0].set(SHUT)], axis=1)
    )
    xs = jnp.zeros((length, D)).at[2:7, 0].set(1.0)
    state = jax.tree.map(lambda s: s[0], state_of(cell, params))
    weights = jax.random.normal(jax.random.key(5), (length, H))

    def loss(epsilon):
        _, ys = sj.unroll(sj.perturbed(cell), params, state, (xs, epsilon))
        return (weights * ys).sum()

    c_bar = jax.grad(loss)(sj.zero_perturbation(state, length)).c
    for t in range(2, 6):
        np.testing.assert_array_equal(c_bar[t], c_bar[t + 1])
    assert np.abs(c_bar[6]).min() > 0
    assert not np.allclose(c_bar[1], c_bar[7])


def test_pass_through_gate_holds_exactly():
    cell = sj.pass_through(D, H)
    params = with_gates(drawn(cell), "nz", z=OPEN)
    state = state_of(cell, params)
    xs = 100 * jax.random.normal(jax.random.key(3), (1000, 3, D))
    last, ys = sj.unroll(cell, params, state, xs)
    np.testing.assert_array_equal(last, state)
    np.testing.assert_array_equal(ys, np.broadcast_to(state, ys.shape))


def test_carousel_gradient_is_the_identity():
    cell = sj.carousel(D, H)
    params = drawn(cell)
    h, c = jax.tree.map(lambda s: s[0], state_of(cell, params))
    x = jax.random.normal(jax.random.key(3), (D,))
    jacobian = jax.jacobian(lambda c: cell.step(params, sj.LSTMState(h, c), x)[0].c)(c)
    np.testing.assert_array_equal(jacobian, np.eye(H))


@pytest.mark.parametrize("peepholes", ["diagonal", "full"])
def test_peephole_gradient_flows_through_the_output_gate(peepholes):
    """c̄' = h̄' ⊙ o ⊙ (1 - tanh² c') and, through o, (h̄' ⊙ tanh c' ⊙ o(1-o)) Pᵀ; all other paths are shut."""
    cell = sj.peephole_lstm(D, H, peepholes=peepholes)
    params = with_gates(drawn(cell), "ifgo", i=SHUT, f=OPEN)
    p_i, p_f, p_o = jnp.split(params.w_c, 3, axis=-1)
    params = params._replace(w_c=jnp.concatenate([0 * p_i, 0 * p_f, p_o], axis=-1))
    h, c = jax.tree.map(lambda s: s[0], state_of(cell, params))
    x = jax.random.normal(jax.random.key(3), (D,))
    gradient = jax.grad(lambda c: cell.step(params, sj.LSTMState(h, c), x)[0].h.sum())(c)
    seen = c * p_o if peepholes == "diagonal" else c @ p_o
    w = slice(3 * H, 4 * H)
    o = reference.sigmoid(x @ params.w_x[:, w] + h @ params.w_h[:, w] + params.b[w] + seen)
    through_o = np.tanh(c) * o * (1 - o)
    through_o = through_o * p_o if peepholes == "diagonal" else p_o @ through_o
    direct = o * (1 - np.tanh(c) ** 2)
    np.testing.assert_allclose(gradient, direct + through_o, rtol=1e-12)
    assert np.abs(through_o).min() > 1e-4


@pytest.mark.parametrize("reset", ["after", "before"])
class TestGRU:
    def make(self, reset, **gates):
        cell = sj.gru(D, H, reset=reset)
        return cell, with_gates(drawn(cell), "rzn", **gates)

    def test_copying_gate_copies(self, reset):
        cell, params = self.make(reset, z=OPEN)
        state = state_of(cell, params)
        xs = 100 * jax.random.normal(jax.random.key(3), (1000, 3, D))
        last, _ = sj.unroll(cell, params, state, xs)
        np.testing.assert_array_equal(last, state)

    def test_shut_reset_gate_hides_the_state(self, reset):
        """At r = 0, z = 0 the new state is the candidate, and does not depend on the old one."""
        cell, params = self.make(reset, r=SHUT, z=SHUT)
        x = jax.random.normal(jax.random.key(3), (D,))
        h = jax.random.normal(jax.random.key(4), (H,))
        np.testing.assert_array_equal(jax.jacobian(lambda h: cell.step(params, h, x)[0])(h), np.zeros((H, H)))
        opened = self.make(reset, r=OPEN, z=SHUT)[1]
        assert np.abs(jax.jacobian(lambda h: cell.step(opened, h, x)[0])(h)).min() > 1e-6

    def test_small_replace_gate_keeps_the_state(self, reset):
        cell, params = self.make(reset)
        params = jax.tree.map(jnp.zeros_like, params)
        params = params._replace(b=params.b.at[H : 2 * H].set(np.log((1 - 1e-5) / 1e-5)))
        start = jnp.array([1.0, -2.0, 0.5, 3.0])
        last, _ = sj.unroll(cell, params, start, jnp.ones((10_000, D)))
        np.testing.assert_allclose(last / start, (1 - 1e-5) ** 10_000, rtol=1e-11)
        np.testing.assert_allclose(last / start, 0.9048, atol=5e-5)

    def test_replace_gate_sequence(self, reset):
        """Replace gate 0, 1, 0, 0, 0, 1: val, new, new, new, new, newer."""
        cell, params = self.make(reset)
        zero = jax.tree.map(jnp.zeros_like, params)
        w_x = zero.w_x.at[0, H : 2 * H].set(-2 * OPEN).at[1, 2 * H :].set(1.0)
        params = zero._replace(w_x=w_x, b=zero.b.at[H : 2 * H].set(OPEN))
        val, new, newer = 0.3, 0.7, -0.2
        replace = np.array([0, 1, 0, 0, 0, 1.0])
        candidate = np.arctanh([0.9, new, -0.9, 0.5, 0.1, newer])
        xs = jnp.stack([replace, candidate, 0 * replace], axis=1)
        _, ys = sj.unroll(cell, params, jnp.full(H, val), jnp.asarray(xs))
        expected = np.array([val, new, new, new, new, newer])
        np.testing.assert_allclose(ys, np.tile(expected[:, None], H), rtol=1e-15)

    @pytest.mark.parametrize("b_init", [sj.initializers.zero_bias, only("z"), None], ids=["full", "part", "none"])
    def test_swapped_update_gate(self, reset, b_init):
        """The converter maps h' = (1-z) h + z n onto h' = z h + (1-z) n, and back."""
        cell = sj.gru(D, H, reset=reset, b_init=b_init)
        params = drawn(cell)
        p = jax.tree.map(np.asarray, params)
        h, x = np.ones(H) * 0.4, np.array([0.3, -1.0, 0.8])
        W, U, b = (reference.blocks(w, "rzn") for w in (p.w_x, p.w_h, p.b))
        z = reference.sigmoid(x @ W.z + h @ U.z + b.z)
        step = reference.gru_after if reset == "after" else reference.gru_before
        ours = step(p, h, x)[0]
        n = (ours - z * h) / (1 - z)
        other, _ = cell.step(sj.swap_update_gate(params), jnp.asarray(h), jnp.asarray(x))
        np.testing.assert_allclose(other, (1 - z) * h + z * n, rtol=1e-12)
        for a, again in zip(jax.tree.leaves(params), jax.tree.leaves(sj.swap_update_gate(sj.swap_update_gate(params)))):
            np.testing.assert_array_equal(a, again)


LAYER_NORM = {
    "layer_norm_elman": (sj.layer_norm_elman, 1),
    "layer_norm_lstm": (sj.layer_norm_lstm, 4),
    "layer_norm_gru": (sj.layer_norm_gru, 3),
}


@pytest.mark.parametrize("name", LAYER_NORM)
def test_layer_norm_invariances(name):
    """Each gate's weights scaled by a factor of its own, one vector added to all of its units."""
    make, gates = LAYER_NORM[name]
    cell = make(D, H, epsilon=0.0)
    params = drawn(cell)
    state, x = state_of(cell, params), jax.random.normal(jax.random.key(3), (3, D))
    before = cell.step(params, state, x)[1]

    def same(w_x, w_h):
        return np.abs(cell.step(params._replace(w_x=w_x, w_h=w_h), state, x)[1] - before).max()

    scale = jnp.repeat(jnp.exp(jax.random.normal(jax.random.key(4), (gates,))), H)
    assert same(scale * params.w_x, scale * params.w_h) < 1e-12
    v_x, v_h = (jnp.repeat(jax.random.normal(jax.random.key(5), (n, gates)), H, axis=1) for n in (D, H))
    assert same(params.w_x + v_x, params.w_h + v_h) < 1e-12
    assert same(params.w_x, 2 * params.w_h) > 1e-3
    assert same(params.w_x.at[:, 0].add(1.0), params.w_h) > 1e-3


def test_multiplicative_rnn_has_one_recurrent_matrix_a_symbol():
    cell = sj.multiplicative_rnn(D, H, factor_size=5, activation=lambda a: a, b_init=None)
    p = drawn(cell)
    h = jax.random.normal(jax.random.key(3), (H,))
    for symbol in range(D):
        matrix = p.w_mh @ jnp.diag(p.w_mx[symbol]) @ p.w_h
        np.testing.assert_allclose(cell.step(p, h, jnp.eye(D)[symbol])[1], p.w_x[symbol] + h @ matrix, rtol=1e-12)


def test_irnn_starts_by_remembering():
    cell = sj.elman(D, H, activation=jax.nn.relu, w_h_init=sj.initializers.identity())
    params = cell.init(jax.random.key(0))
    start = jnp.array([0.5, 1.0, 0.0, 2.0])
    last, _ = sj.unroll(cell, params, start, jnp.zeros((100, D)))
    np.testing.assert_array_equal(last, start)


# ---- errors

FACTORIES = {name: entry.sized for name, entry in REGISTRY.items() if entry.make.__name__ == name}


@pytest.mark.parametrize("name", FACTORIES)
def test_bad_sizes(name):
    for size in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match=rf"{name}: expected hidden_size to be a whole number of at least 1, got"):
            FACTORIES[name](3, size)
    if name != "five_equation_lstm":
        with pytest.raises(ValueError, match=rf"{name}: expected input_size to be a whole number"):
            FACTORIES[name](0, 4)


def test_bad_extra_sizes():
    with pytest.raises(ValueError, match=r"projected_lstm: expected projection_size to be a whole number"):
        sj.projected_lstm(3, 4, 0)
    with pytest.raises(ValueError, match=r"multiplicative_rnn: expected factor_size to be a whole number"):
        sj.multiplicative_rnn(3, 4, factor_size=0)
    with pytest.raises(ValueError, match=r"multiplicative_lstm: expected factor_size to be a whole number"):
        sj.multiplicative_lstm(3, 4, factor_size=-2)


@pytest.mark.parametrize("name", FACTORIES)
def test_bad_inputs(name):
    cell = FACTORIES[name](4, 4)
    params = cell.init(jax.random.key(0))
    state, places = cell.initial_state(params, (2,)), REGISTRY[name].input_shape[:-1]
    with pytest.raises(ValueError, match=rf"{name}: expected inputs of size 4, got 5 .* Set input_size=5"):
        cell.step(params, state, jnp.ones((2, *places, 5)))
    with pytest.raises(ValueError, match=rf"{name}: expected inputs of batch shape \(2,\) like the state, got \(3,\)"):
        cell.step(params, state, jnp.ones((3, *places, 4)))
    with pytest.raises(ValueError, match=rf"{name}: expected inputs of size 4, got a scalar .* Add a feature axis"):
        cell.step(params, state, jnp.ones(()))


def test_bad_options():
    with pytest.raises(ValueError, match=r"gru: expected reset to be one of 'after', 'before', got 'middle'"):
        sj.gru(3, 4, reset="middle")
    with pytest.raises(ValueError, match=r"gru: expected no inner bias with reset='before'.* use reset='after'"):
        sj.gru(3, 4, reset="before", inner_bias=True)
    with pytest.raises(
        ValueError, match=r"peephole_lstm: expected peepholes to be one of 'diagonal', 'full', got None"
    ):
        sj.peephole_lstm(3, 4, peepholes=None)
    with pytest.raises(ValueError, match=r"lstm: expected peepholes to be one of None, 'diagonal', 'full', got 'half'"):
        sj.cells.gated_lstm(3, 4, peepholes="half")
    for make in (sj.cells.gated_lstm, sj.cells.gated_gru):
        with pytest.raises(ValueError, match=r": expected normalise to be one of None, 'layer', got 'batch'"):
            make(3, 4, normalise="batch")
    with pytest.raises(ValueError, match=r"gated_lstm: expected a forget gate with coupled gates.* Set forget=True"):
        sj.cells.gated_lstm(3, 4, coupled=True, forget=False)
    with pytest.raises(ValueError, match=r"gated_lstm: expected no projection with reset=True.* Leave one of them out"):
        sj.cells.gated_lstm(3, 4, reset=True, projection_size=2)
    with pytest.raises(ValueError, match=r"gated_lstm: expected projection_size to be a whole number"):
        sj.cells.gated_lstm(3, 4, projection_size=0)


def test_conv_lstm_errors():
    """Sizes and axes; an input that is not the picture of a state."""
    make = sj.cells.conv_lstm
    with pytest.raises(ValueError, match=r"conv_lstm: expected shape\[1\] to be a whole number of at least 1, got 0"):
        make(3, 4, (5, 0))
    with pytest.raises(ValueError, match=r"conv_lstm: expected kernel_size\[0\] to be a whole number of at least 1"):
        make(3, 4, (5, 5), 0)
    with pytest.raises(
        ValueError, match=r"expected a shape of at least one axis and a kernel_size for each, got shape="
    ):
        make(3, 4, (5, 5), (3, 3, 3))
    with pytest.raises(ValueError, match=r"conv_lstm: expected hidden_size to be a whole number of at least 1, got 0"):
        make(3, 0, (5, 5))
    cell = make(3, 4, (5, 6))
    params = cell.init(jax.random.key(0))
    state = cell.initial_state(params, (2,))
    for wrong, got in (((2, 6, 5, 3), (6, 5)), ((2, 30, 3), (2, 30)), ((3,), ())):
        told = re.escape(f"conv_lstm: expected inputs of (5, 6) places, got {got}")
        with pytest.raises(ValueError, match=told):
            cell.step(params, state, jnp.ones(wrong))
    with pytest.raises(ValueError, match=r"inputs of batch shape \(2,\) like the state, got \(\) .*params, \(\)\)"):
        cell.step(params, state, jnp.ones((5, 6, 3)))
    assert make(3, 4, 7) == make(3, 4, 7)
    assert make(3, 4, 7).initial_state(make(3, 4, 7).init(jax.random.key(0))).h.shape == (7, 4)
