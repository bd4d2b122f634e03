"""Kernels by Pallas's Triton backend, experimental and parked: JAX has deprecated it.

In order of reading:

1. `pieces`: Triton computes on blocks whose sides are powers of two; features are cut into such pieces.
2. `packing`: arrays as rows of padded pieces, and back.
3. `evaluate`: a tick on pieces, in the operations that Triton knows.
4. `placement`: which program has which head and tile of the batch, with how many warps.
5. `alone`: the kernel: every program takes its tile through all of time by itself.

A product ``h U`` with h ``[32, 20]``: 20 features are pieces of 16 and 4 (the latter padded to 16), U becomes tiles of
16 × 16 that stay in registers, and two programs take 16 examples each.
"""
