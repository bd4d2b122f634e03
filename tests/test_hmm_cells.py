"""Hidden Markov models as recurrent networks: equal to inference, and to the textbook's figures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from seqjax import hmm

TIGHT = {"rtol": 1e-10, "atol": 1e-12}
T, B = 7, 3
XS = np.random.default_rng(0).integers(-1, 5, (T, B))
MASK = np.random.default_rng(1).random((T, B)) > 0.3

# "John hit the ball": rows of U and W are the tags (determiner, noun, verb), columns of W (ball, hit, John, the).
U = np.array([[1, 1, 8], [8, 1, 1], [1, 8, 1]]) / 10
W = np.array([[1, 1, 1, 97], [49, 1, 49, 1], [1, 97, 1, 1]]) / 100
SENTENCE = np.array([2, 1, 3, 0])
TAGGER = hmm.from_probabilities(np.full(3, 1 / 3), U.T, W)


@pytest.fixture(scope="module")
def model():
    return hmm.random(jax.random.key(0), 4, 5)


def test_belief_equals_forward(model):
    cell = hmm.cell(model)
    truth = hmm.forward(model, XS, mask=MASK)
    state, ys = sj.unroll(cell, model, cell.initial_state(model, (B,)), XS, mask=jnp.array(MASK))
    np.testing.assert_allclose(ys, truth.log_filtered, **TIGHT)
    last = np.array([np.flatnonzero(MASK[:, b])[-1] for b in range(B)])
    filtered = np.exp(truth.log_filtered[last, np.arange(B)])
    np.testing.assert_allclose(np.exp(state), filtered @ np.exp(model.log_transition), **TIGHT)


def test_belief_in_plain_probabilities(model):
    """The textbook's form: the outputs are P(z_t, x_1 … x_t)."""
    cell = hmm.belief_cell(model)
    _, ys = sj.unroll(cell, model, cell.initial_state(model, (B,)), XS)
    for t in range(T):
        truth = hmm.forward(model, XS, mask=np.broadcast_to(np.arange(T)[:, None] <= t, XS.shape))
        np.testing.assert_allclose(ys[t], np.exp(truth.log_filtered[t] + truth.log_likelihood[:, None]), **TIGHT)


def test_viterbi_cell(model):
    """v'_j = max_i (v_i u_ji) w_jk in NumPy, scaled; followed back it is the best path."""
    cell = hmm.viterbi_cell(model)
    _, ys = sj.unroll(cell, model, cell.initial_state(model, (B,)), XS)
    initial, transition, emission = (np.exp(np.asarray(p)) for p in model)
    v = None
    for t in range(T):
        w = np.where((XS[t] >= 0)[:, None], emission.T[XS[t]], 1)
        v = (initial if v is None else (v[:, :, None] * transition).max(1)) * w
        np.testing.assert_allclose(np.exp(ys[t]), v / v.max(-1, keepdims=True), **TIGHT)
    np.testing.assert_array_equal(hmm.backtrack(ys, model.log_transition), hmm.viterbi(model, XS).states)


def test_gaussian_and_chain_models_run_as_cells():
    model = hmm.random_gaussian(jax.random.key(0), 3, 2)
    xs = jax.random.normal(jax.random.key(1), (T, B, 2))
    cell = hmm.cell(model)
    _, ys = sj.unroll(cell, model, cell.initial_state(model, (B,)), xs)
    np.testing.assert_allclose(ys, hmm.forward(model, xs).log_filtered, **TIGHT)
    assert cell.init(jax.random.key(2)).mean.shape == (3, 2)
    chain = hmm.Chain(model.log_initial, model.log_transition)
    cell = hmm.cell(chain)
    _, again = sj.unroll(cell, chain, cell.initial_state(chain, (B,)), model.evidence(xs))
    np.testing.assert_allclose(again, ys, **TIGHT)
    hmm.check(cell.init(jax.random.key(3)))


def test_init_draws_a_model_of_the_same_sizes(model):
    drawn = hmm.cell(model).init(jax.random.key(5))
    hmm.check(drawn)
    assert jax.tree.map(jnp.shape, drawn) == jax.tree.map(jnp.shape, model)
    assert not np.allclose(drawn.log_emission, model.log_emission)


def test_exact_tagger_figures():
    """The filter on "John hit the ball", to the printed digits."""
    figures = [
        [0.0196, 0.9608, 0.0196],
        [0.0015, 0.0015, 0.9970],
        [0.9974, 0.0013, 0.0013],
        [0.0026, 0.9949, 0.0026],
    ]
    result = hmm.forward(TAGGER, SENTENCE)
    np.testing.assert_allclose(np.exp(result.log_filtered), figures, atol=5e-5)
    np.testing.assert_allclose(np.exp(result.log_likelihood), 0.0389795, atol=5e-8)


def test_approximate_tagger_figures():
    """h' = softmax(U h + W x - 1) is an Elman network. U is doubly stochastic: only these digits show a transpose."""
    cell = sj.elman(4, 3, activation=jax.nn.softmax)
    params = sj.ElmanParams(w_x=jnp.array(W.T), w_h=jnp.array(U.T), b=-jnp.ones(3))
    _, ys = sj.unroll(cell, params, cell.initial_state(params), jnp.eye(4)[SENTENCE])
    figures = [[0.277, 0.447, 0.277], [0.202, 0.202, 0.595], [0.632, 0.184, 0.184], [0.237, 0.525, 0.237]]
    np.testing.assert_allclose(ys, figures, atol=5.1e-4)
    np.testing.assert_array_equal(ys.argmax(-1), hmm.viterbi(TAGGER, SENTENCE).states)
    np.testing.assert_array_equal(ys.argmax(-1), [1, 2, 0, 1])


def test_errors(model):
    cell = hmm.cell(model)
    with pytest.raises(ValueError, match=r"cell: expected evidence of shape \(2, 4\) like the state, got \(3, 4\)"):
        cell.step(model, cell.initial_state(model, (2,)), jnp.zeros(3, int))
    with pytest.raises(ValueError, match="log_transition of shape"):
        hmm.viterbi_cell(model._replace(log_transition=jnp.zeros((3, 3))))
