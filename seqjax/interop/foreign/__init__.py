"""Recurrent cells of Flax (nnx and Linen), Equinox and Haiku as cells of ours, and our modules as modules of theirs.

A framework's cell is called on one example and batched by `jax.vmap`; its parameters keep the framework's own tree:

    cell = sj.interop.from_nnx(nnx.OptimizedLSTMCell(64, 128, rngs=nnx.Rngs(0)))
    params = cell.init(jax.random.key(0))                         # the module's own, an nnx.State
    state, ys = sj.unroll(cell, params, cell.initial_state(params, (32,)), xs, memory="sqrt")

    rnn = sj.interop.to_linen(nn.OptimizedLSTMCell(128))          # in the place of nn.RNN(nn.OptimizedLSTMCell(128))
    rnn = sj.interop.to_linen(sj.zoneout(sj.lstm(64, 128), 0.1))  # or any cell or layer of ours

In order of reading:

- `example`: a cell written for one example, the batch by `jax.vmap`.
- `names`: parameters by their names.
- `nnx`, `linen`, `equinox`, `haiku`: a framework each.
- `sequences`: our modules called as ``nn.RNN`` and ``nnx.RNN`` are.
"""
