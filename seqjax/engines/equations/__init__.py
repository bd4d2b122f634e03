"""A step as a list of equations, and the only room that touches `jax.extend` and `jax.interpreters`.

Follow ``a = concat([x, h]) @ W + b; i, f, g, o = split(a)`` of an LSTM:

1. `jaxprs`: the step is traced into equations, ``concatenate``, ``dot_general``, ``add``, ``split``: data that can be
   asked what it reads (`used`), what it needs (`needed`), what depends on what (`dependent`), be cut out and run
   (`function`), or run with some equations replaced (`interpret`). Calls are `inlined`.
2. `rewrite`: one pass with three rules that let the parts of a sum go their own ways: here the product becomes
   ``x @ W[:d] + h @ W[d:]`` and the split ``split(x @ W[:d] + b) + split(h @ W[d:])``.
3. `linear_call`: a linear function with a transpose of its own, as one equation that JAX can batch and differentiate.
"""
