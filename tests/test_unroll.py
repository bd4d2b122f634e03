"""The door itself: runs without inputs, what stands in at masked ticks, and one sentence for every bad input."""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import B, T, assert_close, at, loss
from zoo import D, H, drawn

import seqjax as sj
from seqjax.engines import plan

KEY = jax.random.key(0)
LSTM = sj.lstm(D, H)
PARAMS = drawn(LSTM)
STATE = LSTM.initial_state(PARAMS, (B,))
XS = jax.random.normal(jax.random.key(2), (T, B, D))
LENGTHS = jnp.array([7, 4, 0])


# ---- no inputs


def spinning():
    """A cell without input: h' = tanh(h U), y = h'."""
    return sj.Cell(
        init=lambda key: jax.random.normal(key, (H, H)),
        initial_state=lambda params, batch_shape=(), *, key=None: jnp.ones((*batch_shape, H)),
        step=lambda params, h, x: (jnp.tanh(h @ params),) * 2,
    )


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("engine", ["scan", "split"])
def test_a_recurrence_without_inputs(engine, reverse):
    """``length`` ticks, here with lengths and a reset: values and gradients of a Python loop."""
    cell = spinning()
    params = cell.init(KEY)
    start = jax.random.normal(jax.random.key(3), (B, H))
    reset = jnp.zeros((T, B), bool).at[2, 0].set(True)

    def ours(params):
        options = {"lengths": LENGTHS, "reset": reset, "reverse": reverse, "engine": engine}
        return sj.unroll(cell, params, start, None, length=T, **options)

    def by_hand(params):
        states, outs = [], []
        for b in range(B):
            h, ys = start[b], [jnp.zeros(H)] * T
            for t in reversed(range(LENGTHS[b])) if reverse else range(LENGTHS[b]):
                restart = bool(reset[t, b])
                h = jnp.ones(H) if restart and not reverse else h
                h = ys[t] = jnp.tanh(h @ params)
                h = jnp.ones(H) if restart and reverse else h
            states.append(h)
            outs.append(jnp.stack(ys))
        return jnp.stack(states), jnp.stack(outs, 1)

    assert_close(ours(params), by_hand(params))
    assert_close(jax.grad(lambda p: loss(ours(p)))(params), jax.grad(lambda p: loss(by_hand(p)))(params))


# ---- masked ticks


def test_a_reset_counts_at_masked_ticks():
    """A segment that opens where nothing is heard opens all the same."""
    mask = jnp.array([True, False, True])
    reset = jnp.array([False, True, False])
    state, xs = jax.tree.map(lambda s: s[0] + 1, STATE), XS[:3, 0]
    after, ys = sj.unroll(LSTM, PARAMS, state, xs, mask=mask, reset=reset)
    expected, y = LSTM.step(PARAMS, LSTM.initial_state(PARAMS), xs[2])
    assert_close((after, ys[2]), (expected, y))
    after, _ = sj.unroll(LSTM, PARAMS, state, xs, mask=mask, reset=reset, reverse=True)
    expected, _ = LSTM.step(PARAMS, LSTM.initial_state(PARAMS), xs[0])
    assert_close(after, expected)


def test_what_stands_in_at_masked_ticks():
    """The own first real input, the first one of another sequence, or, where nothing is real, distinct numbers."""
    xs = {"x": jnp.full((3, 3, 2), jnp.nan).at[1, 1].set(5.0).at[0, 2].set(6.0), "symbol": jnp.full((3, 3), -7)}
    xs["symbol"] = xs["symbol"].at[1, 1].set(4)
    mask = jnp.zeros((3, 3), bool).at[1, 1].set(True).at[0, 2].set(True)
    found = sj.masks.first_valid(mask, xs)
    assert found["x"].tolist() == [[5, 5], [5, 5], [6, 6]]
    assert found["symbol"].tolist() == [4, 4, -7]
    nothing = sj.masks.first_valid(jnp.zeros((3, 3), bool), xs)
    np.testing.assert_allclose(nothing["x"], np.tile([1 / 3, 2 / 3], (3, 1)))
    assert nothing["symbol"].tolist() == [0, 0, 0]
    alone = sj.masks.first_valid(jnp.array([False, True, False]), xs["x"][:, 1])
    assert alone.tolist() == [5, 5]


def directed(module):
    """A module that reads the direction of its input only, x V / ‖x V‖: no derivative at zero."""

    def direction(v, x):
        a = x @ v
        return a / jnp.sqrt((a**2).sum(-1, keepdims=True))

    init = lambda key: (module.init(key), jnp.eye(D))
    initial_state = lambda params, *a, **k: module.initial_state(params[0], *a, **k)
    if isinstance(module, sj.Cell):
        return sj.Cell(init, initial_state, lambda p, s, x: module.step(p[0], s, direction(p[1], x)))
    return sj.serial(sj.pointwise(direction, lambda key: jnp.eye(D)), module)


@pytest.mark.parametrize("engine", ["scan", "split"])
def test_empty_sequences_leave_the_gradient_of_the_rest_alone(engine):
    """A step without a derivative at zero, sequences without a real tick, and anything in the padding."""
    cell = directed(LSTM)
    params = (PARAMS, jnp.eye(D))

    @jax.jit
    def gradient(xs, lengths):
        def f(params, state):
            return loss(sj.unroll(cell, params, state, xs, lengths=lengths, engine=engine))

        return jax.grad(f, (0, 1))(params, STATE)

    @jax.jit
    def apart(xs, lengths):
        def f(params, state, x, n):
            return loss(sj.unroll(cell, params, state, x, lengths=n, engine=engine)[1])

        return jax.vmap(jax.grad(f), (None, 0, 1, 0))(params, STATE, xs, lengths)

    weights = jax.grad(loss)(STATE)  # what an empty sequence hands on
    expected, _ = gradient(XS, LENGTHS)
    assert all(jnp.isfinite(leaf).all() and leaf.any() for leaf in jax.tree.leaves(expected))
    for padding in (0.0, jnp.nan, jnp.inf):
        xs = jnp.where(sj.masks.from_lengths(LENGTHS, T)[..., None], XS, padding)
        of_params, of_state = gradient(xs, LENGTHS)
        assert_close(of_params, expected)
        assert_close(at(of_state, 2), at(weights, 2))
        of_params, of_state = gradient(xs, jnp.zeros(B, int))
        assert not any(leaf.any() for leaf in jax.tree.leaves(of_params))
        assert_close(of_state, weights)
        each = apart(xs, LENGTHS)
        assert not any(leaf[2].any() for leaf in jax.tree.leaves(each))
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(each))


def test_empty_sequences_in_layers_and_in_windows():
    """Layers that map over time, and the windows before the beginning that BPTT(k1, k2) masks."""
    model = directed(sj.recurrent(LSTM))
    params = model.init(KEY)
    state = model.initial_state(params, (B,))
    batch = sj.Batch(XS, jnp.zeros((T, B, H)), sj.masks.from_lengths(LENGTHS, T))
    whole = jax.grad(lambda p: sj.objective(model, sj.mean_squared_error)(p, state, batch)[1].sum)(params)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(whole))
    objective = sj.truncated(model, sj.mean_squared_error, 1, T)
    gradient = jax.jit(jax.grad(lambda p, window: objective(p, state, window)[1].sum))
    parts = [gradient(params, window) for window in sj.windows(batch, 1, T)]
    assert_close(jax.tree.map(lambda *g: sum(g), *parts), whole)


# ---- the state


def test_redraw_needs_to_see_the_batch():
    """A state of noise alone that was made without a key shows no batch axes."""
    bare = sj.Cell(
        init=lambda key: (),
        initial_state=lambda params, batch_shape=(), *, key=None: sj.Noise(key),
        step=lambda params, state, x: (state, x),
    )
    with pytest.raises(ValueError, match=r"redraw: expected a state with at least one leaf .* Use initial_state\("):
        sj.redraw(bare, (), bare.initial_state(()), KEY)


# ---- bad input


def changed(step):
    return LSTM._replace(step=step)


def narrowed(params, state, x):
    state, y = LSTM.step(params, state, x)
    return state._replace(c=state.c.astype(jnp.float32)), y


def grown(params, state, x):
    state, y = LSTM.step(params, state, x)
    return state._replace(h=jnp.concatenate([state.h, state.h], -1)), y


def run(cell=LSTM, xs=XS, state=STATE, **options):
    return sj.unroll(cell, PARAMS, state, xs, **options)


TRUE = jnp.ones((T, B), bool)
ERRORS = {
    "layer": (
        lambda: run(sj.recurrent(LSTM)),
        TypeError,
        r"unroll: expected a Cell, got Layer\. A layer runs a whole chunk by itself",
    ),
    "feature_size": (
        lambda: run(xs=XS[..., :2]),
        ValueError,
        r"lstm: expected inputs of size 3, got 2 \(one tick has shape \(3, 2\)\)\. Set input_size=2 or project",
    ),
    "batch": (
        lambda: run(xs=XS[:, :2]),
        ValueError,
        r"lstm: expected inputs of batch shape \(3,\) like the state, got \(2,\) .* initial_state\(params, \(2,\)\)",
    ),
    "batch_first": (
        lambda: run(xs=XS.swapaxes(0, 1)),
        ValueError,
        r"lstm: expected inputs of batch shape \(3,\) like the state, got \(7,\)",
    ),
    "ticks_differ": (
        lambda: run(sj.perturbed(LSTM), (XS, sj.zero_perturbation(STATE, T - 1))),
        ValueError,
        r"unroll: expected 7 ticks in xs\[1\]\.h, got shape \(6, 3, 4\)\. Time is the first axis of every input",
    ),
    "ticks_and_length": (
        lambda: run(length=T + 1),
        ValueError,
        r"unroll: expected 8 ticks in xs, got shape \(7, 3, 3\)\. Time is the first axis .* equals length= if",
    ),
    "scalar": (
        lambda: run(xs=jnp.zeros(())),
        ValueError,
        r"unroll: expected xs to be \[T, \*batch, \.\.\.\], got a scalar\. Put time first",
    ),
    "no_ticks": (
        lambda: run(xs=XS[:0]),
        ValueError,
        r"unroll: expected at least one tick, got xs of length 0\. Skip the call",
    ),
    "no_inputs": (
        lambda: run(xs=None),
        ValueError,
        r"unroll: expected length= where xs holds no array, got None\. Say how many ticks to run",
    ),
    "negative_length": (
        lambda: run(xs=None, length=-1),
        ValueError,
        r"unroll: expected length to be a whole number of at least 1, got -1\. Set length",
    ),
    "mask_and_lengths": (
        lambda: run(mask=TRUE, lengths=LENGTHS),
        ValueError,
        r"unroll: expected mask or lengths, got both\. Leave one out",
    ),
    "lengths_type": (
        lambda: run(lengths=jnp.ones(B)),
        TypeError,
        r"unroll: expected lengths of integers, got float64\. Cast them to int32",
    ),
    "lengths_shape": (
        lambda: run(lengths=LENGTHS[:2]),
        ValueError,
        r"unroll: expected lengths of shape \(3,\) like the state's batch, got \(2,\)\. Give one length a sequence",
    ),
    "mask_type": (
        lambda: run(mask=TRUE.astype(float)),
        TypeError,
        r"unroll: expected mask of bool, got float64\. Compare with 0 or cast it to bool",
    ),
    "mask_shape": (
        lambda: run(mask=TRUE.T),
        ValueError,
        r"unroll: expected mask of shape \(7, 3\), got \(3, 7\)\. Time first, then the state's batch axes",
    ),
    "mask_scalar": (
        lambda: run(mask=jnp.ones((), bool)),
        ValueError,
        r"unroll: expected mask of shape \(7, 3\), got \(\)",
    ),
    "mask_of_ticks": (
        lambda: run(mask=TRUE[:, 0]),
        ValueError,
        r"unroll: expected mask of shape \(7, 3\), got \(7,\)",
    ),
    "reset_type": (
        lambda: run(reset=TRUE.astype(int)),
        TypeError,
        r"unroll: expected reset of bool, got int64\. Compare with 0",
    ),
    "reset_shape": (
        lambda: run(reset=TRUE[1:]),
        ValueError,
        r"unroll: expected reset of shape \(7, 3\), got \(6, 3\)\. Time first",
    ),
    "state_structure": (
        lambda: run(changed(lambda params, state, x: (tuple(state), x))),
        TypeError,
        r"unroll: expected step to return a state of structure .*LSTMState.*, got .*\. Return the same tree of arrays",
    ),
    "state_dtype": (
        lambda: run(changed(narrowed)),
        TypeError,
        r"unroll: expected step to keep the state's type float64\[3,4\] at state\.c, got float32\[3,4\]\. Cast it back",
    ),
    "state_shape": (
        lambda: run(changed(grown)),
        TypeError,
        r"unroll: expected step to keep the state's type float64\[3,4\] at state\.h, got float64\[3,8\]\. Cast it back",
    ),
    "engine": (
        lambda: run(engine="fast"),
        ValueError,
        r"unroll: expected engine to be one of .*'split', 'linear', 'pallas', 'cudnn', got 'fast'\. Choose one",
    ),
    "memory": (lambda: run(memory="little"), ValueError, r"expected memory to be one of .*, got 'little'"),
    "serial_state": (
        lambda: sj.serial(sj.recurrent(LSTM), sj.dense(H, 2)).apply((PARAMS, ()), STATE[:1], XS),
        ValueError,
        r"serial: expected state with an entry for each of the 2 parts, got 1\. Make params with init\(key\)",
    ),
    "stack_params": (
        lambda: sj.stack(LSTM, LSTM).step(jnp.zeros(2), (STATE, STATE), XS[0]),
        ValueError,
        r"stack: expected params with an entry for each of the 2 parts, got a Array.*\. Make params with init",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_bad_input_is_told(name):
    call, kind, text = ERRORS[name]
    with pytest.raises(kind, match=text):
        call()


@pytest.mark.parametrize("name", ["feature_size", "mask_shape", "state_dtype", "no_ticks"])
def test_bad_input_is_told_while_tracing(name):
    call, kind, text = ERRORS[name]
    with pytest.raises(kind, match=text):
        jax.eval_shape(call)


def test_the_engines_are_those_of_the_table():
    """The type of ``engine=``, the documentation and the error name them all, and a new one is found."""
    assert get_args(plan.EngineName) == ("auto", *plan.ENGINES)
    for name, prepare in plan.ENGINES.items():
        assert f'``"{name}"``' in sj.explain.__doc__
        assert prepare.__doc__.split(".")[0].split("\n")[0][:40] in sj.explain.__doc__.replace("\n      ", " ")


def test_an_engine_that_is_added_is_known(monkeypatch):
    monkeypatch.setitem(plan.ENGINES, "slowly", plan.ENGINES["scan"])
    cell = sj.elman(2, 3)
    params = cell.init(jax.random.key(0))
    run = lambda engine: sj.unroll(cell, params, cell.initial_state(params), jnp.ones((4, 2)), engine=engine)
    np.testing.assert_array_equal(run("slowly")[1], run("scan")[1])
    with pytest.raises(ValueError, match=r"'cudnn', 'slowly', got 'fast'"):
        run("fast")


def test_wrong_parameters_and_lengths_are_told():
    cell = sj.stack(sj.lstm(2, 3))
    params = cell.init(jax.random.key(0))
    state = cell.initial_state(params, (2,))
    xs = jnp.ones((4, 2, 2))
    for call in (sj.unroll, sj.explain):
        with pytest.raises(
            TypeError, match=r"unroll: expected parameters of stack, LSTMParams at .*got GRUParams\. Draw"
        ):
            call(cell, sj.stack(sj.gru(2, 3)).init(jax.random.key(0)), state, xs)
    for lengths in ([5, 1], [-1, 2]):
        with pytest.raises(ValueError, match=r"unroll: expected lengths from 0 to the 4 ticks of xs, got (5|-1)\. Cut"):
            sj.unroll(cell, params, state, xs, lengths=jnp.array(lengths))
