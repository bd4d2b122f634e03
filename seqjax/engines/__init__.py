"""How a recurrence is run.

`seqjax.unroll` makes a `base.Problem`; `plan.choose` picks an engine and a `memory.Schedule`; the engine's ``prepare``
looks at the step once and returns a `base.Prepared`, which runs.

Follow one tick of an LSTM, read out by V:

    a = x W + h U + b      i, f, g, o = split(a)      c' = σ(f) c + σ(i) tanh(g)      h' = σ(o) tanh(c')      y = h' V


1. `equations/`: the step becomes a list of equations; ``split(x W + h U + b)`` becomes ``split(x W + b) + split(h U)``.
2. `split/distribute`: equations and state leaves are a graph; ``x W + b`` depends on no state and is *batched* before
   the loop; h U … h' form a cycle, the *loop*; ``h' V`` is batched behind it. Two stacked layers are two stages.
3. `split/engine`: K ticks at a time: one product xs W for K ticks, a scan of the loop, one product hs V.
4. `split/linearize`, `tangent`: the loop's derivative is a linear recurrence ``ż_t = ḣ_{t-1} U + ε_t`` with
   ε = hs U̇ + x̂̇ + ḃ for all ticks at once. JAX transposes that: one product a tick backwards, z̄ Uᵀ, and Ū = Σ h z̄ᵀ as
   one product behind the loop.
5. `split/keep`: of each tick only what cheap equations cannot give back is stacked, here i, f, g, o, c.
6. `memory`, `costs`: a chunk keeps all, its states, or nothing; the bytes are counted from a traced chunk.
7. `forwards`, `split/forward`: where nothing is differentiated, and leaving the loop would not pay, the tick runs as it
   stands.
8. `split/runner`: flat ticks are run by `jax.lax.scan`; another runner makes another engine of it (`pallas/`:
   kernels).

Where a loop is linear in its state, ``h' = a ⊙ h + b``, `linear/` finds that in its equations and runs it as one
recurrence, with a derivative that is another; the other loops of the same step are run as before.

Beside it: `scan`, the plain engine that all are compared with; `cudnn`, one call of a library for all of time;
`explain`, the plan in words; `platforms`, what rules take for granted of CPUs, GPUs and TPUs; `versions`, releases of
jaxlib that are slow.

To add an engine: a file with ``prepare(problem) -> Prepared``, an entry in `plan.ENGINES`. The laws find it there.
"""
