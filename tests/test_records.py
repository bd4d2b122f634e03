"""Records know their maker: equality, hashes, pickles, prints and names."""

import pickle

import jax
import jax.numpy as jnp
import pytest

import seqjax as sj
from seqjax import records


@sj.maker
def leaky(size, leak=0.5, *, wide=False, parts=(), options=None):
    """s' = leak s + x."""

    def step(params, state, x):
        state = leak * state + x
        return state, state

    def initial_state(params, batch_shape=(), *, key=None):
        return jnp.zeros((*batch_shape, size))

    return sj.Cell(lambda key: (), initial_state, step)


@sj.maker
def preset(size):
    """A leak of 0.9 under another name."""
    return leaky(size, 0.9)


@sj.maker
def scaled(scale):
    """A function, not a record."""
    return lambda key, shape: scale * jax.random.normal(key, shape)


def test_equal_options_make_equal_records():
    assert leaky(3, 0.9) == leaky(3, leak=0.9) == leaky(size=3, leak=0.9, wide=False)
    assert hash(leaky(3, 0.9)) == hash(leaky(3, leak=0.9))
    assert leaky(3, options=[1, {"a": 2}]) == leaky(3, options=[1, {"a": 2}])
    different = [leaky(3), leaky(4), leaky(3, wide=True), leaky(3, options=1), leaky(3, options=1.0), preset(3)]
    assert len(set(different)) == len(different)
    assert scaled(2.0) == scaled(2.0) != scaled(3.0)


def test_keywords_may_come_in_any_order():
    @sj.maker
    def keyed(**options):
        return leaky(3)

    assert keyed(a=1, b=2) == keyed(b=2, a=1)
    assert hash(keyed(a=1, b=2)) == hash(keyed(b=2, a=1))


def test_functions_of_records_can_be_traced_for_their_shapes():
    """JAX's caches hold them by weak references."""
    assert jax.eval_shape(leaky(3).initial_state, ()).shape == (3,)


def test_options_that_cannot_be_hashed_make_a_record_equal_to_itself_only():
    cell = leaky(3, options=jnp.ones(2))
    assert cell == cell
    assert cell != leaky(3, options=jnp.ones(2))
    assert isinstance(hash(cell), int)


def test_a_model_made_anew_compiles_once():
    traces = []

    @jax.jit
    def counted(x):
        traces.append(1)
        return x

    def run(cell):
        return counted(jnp.zeros(3)) + sj.unroll(cell, (), cell.initial_state(()), jnp.ones((4, 3)))[0]

    run(leaky(3, 0.9))
    before = sj.unroll.__globals__["_run"]._cache_size()
    for _ in range(200):
        run(leaky(3, leak=0.9))
    assert sj.unroll.__globals__["_run"]._cache_size() == before


@pytest.mark.parametrize(
    "record",
    [
        leaky(3, 0.9),
        preset(3),
        leaky(3)._replace(init=preset(3).init),
        scaled(2.0),
        leaky(3, options=jax.nn.relu),
        leaky(3, jnp.tanh),
    ],
    ids=repr,
)
def test_records_pickle(record):
    again = pickle.loads(pickle.dumps(record))
    assert again == record
    assert hash(again) == hash(record)


def test_records_print_as_the_call_that_makes_them():
    assert repr(leaky(3)) == "leaky(3)"
    assert repr(leaky(3, leak=0.9, wide=True)) == "leaky(3, 0.9, wide=True)"
    assert repr(leaky(3, wide=True, options=jnp.tanh)) == "leaky(3, wide=True, options=tanh)"
    assert repr(leaky(3, parts=(preset(2), int))) == "leaky(3, parts=(preset(2), <class 'int'>))"
    assert repr(preset(3)) == "preset(3)"
    assert repr(scaled(2)) == "scaled(2)"
    changed = leaky(3)._replace(init=len)
    assert repr(changed) == "Cell(init=len, initial_state=leaky(3).initial_state, step=leaky(3).step)"


def test_names():
    assert (leaky(3).name, preset(3).name) == ("leaky", "preset")
    assert leaky(3)._replace(init=len).name == "cell"
    assert records.call_of(leaky(3, 0.9)).options().arguments["leak"] == 0.9


def test_wrong_options_are_the_makers_errors():
    with pytest.raises(TypeError, match="leek"):
        leaky(3, leek=0.9)
