"""The convolutional LSTM beside Flax's, with copied weights, in float64."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import libraries

import seqjax as sj

D, H, T, B = libraries.D, libraries.H, libraries.T, libraries.B
OUTPUTS = {"rtol": 1e-10, "atol": 1e-10}
GRADIENTS = {"rtol": 1e-8, "atol": 1e-8}


@pytest.mark.parametrize("kernel", [(3, 3), (2, 4)], ids=["odd", "even"])
def test_conv_lstm_equals_flax(kernel):
    """Its forget gate adds 1 to a bias of its own; its second convolution has a bias too, here 0."""
    shape = (4, 5)
    cell, other = sj.cells.conv_lstm(D, H, shape, kernel), nn.ConvLSTMCell(H, kernel, param_dtype=jnp.float64)
    draw = libraries.drawer(np.random.default_rng(1))
    params = jax.tree.map(lambda p: jnp.asarray(draw(*p.shape)), cell.init(jax.random.key(0)))
    xs, h, c = jnp.asarray(draw(T, B, *shape, D)), jnp.asarray(draw(B, *shape, H)), jnp.asarray(draw(B, *shape, H))
    weights = draw(T, B, *shape, H)

    def gates(w):
        i, f, g, o = jnp.split(w, 4, axis=-1)
        return jnp.concatenate([i, g, f, o], axis=-1)

    def ours(params, xs, h, c):
        return sj.unroll(cell, params, sj.LSTMState(h, c), xs)

    def theirs(params, xs, h, c):
        b = params.b.at[H : 2 * H].add(-1)
        given = {"ih": {"kernel": gates(params.w_x), "bias": gates(b)}}
        given["hh"] = {"kernel": gates(params.w_h), "bias": jnp.zeros(4 * H)}
        (c, h), ys = jax.lax.scan(lambda carry, x: other.apply({"params": given}, carry, x), (c, h), xs)
        return sj.LSTMState(h, c), ys

    def both(*variables):
        slopes = [
            jax.grad(lambda *v, run=run: (run(*v)[1] * weights).sum(), (0, 1, 2, 3))(*variables)
            for run in (ours, theirs)
        ]
        return (ours(*variables), theirs(*variables)), slopes

    values, gradients = jax.jit(both)(params, xs, h, c)
    for a, b in zip(*map(jax.tree.leaves, values)):
        np.testing.assert_allclose(a, b, **OUTPUTS)
    for a, b in zip(*map(jax.tree.leaves, gradients)):
        np.testing.assert_allclose(a, b, **GRADIENTS)
