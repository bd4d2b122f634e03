"""The split engine: every piece of work in its place.

In order of reading, on ``h' = tanh(x W + h U + b)``, ``y = h' V``:

1. `distribute`: equations and state leaves are a graph. ``x W + b`` depends on no state: *batched* before the loop.
   ``h U``, the sum and tanh form a cycle: the *loop*. ``h' V`` is batched behind it. Two layers are two stages.
2. `loop`: a loop as data. The operands x̂ = x W + b and U are *deferred*: their tangents enter for all ticks at once.
3. `linearize`: one tick's values, the coefficients of its linear map (1 - h'² and U) and the map.
4. `keep`: of these only h' is stacked; 1 - h'² is computed again.
5. `tangent`: the loop run, and its derivative: ε = hs U̇ + x̂̇ for all ticks, then ``ż_t = ḣ_{t-1} U + ε_t`` as a scan.
   JAX transposes that into one product a tick, and Ū = Σ h z̄ᵀ as one product behind the loop.
6. `runner`: how flat ticks are run, here by `jax.lax.scan`: the seam for kernels.
7. `way`: how a loop as a whole is run: so, or as a linear recurrence (`seqjax.engines.linear`).
8. `rows`, `values`, `engine`: a chunk of ticks: batched work, its ticks and batch as rows of one matrix where it is a
   product, loops, delays, stage by stage.
9. `readout`: what reads much of a loop and tells little, a mean of many units, is done in it after all.
10. `chunk`: how many ticks are done at once.
11. `forward`: where nothing is differentiated, and leaving the loop would not pay, the step runs as it stands.
12. `whole`: where all products lie inside of a `cond`, there is nothing to gain.
13. `repeated`: products with a factor that is repeated, over which XLA sums slowly for a batch of one sequence.

`tests/test_split.py` has a step for every rule.
"""
