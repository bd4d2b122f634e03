"""Kernels by Pallas's Triton backend, experimental and parked: JAX has deprecated it.

In order of reading:

1. `moves`: which feature of which operand a feature is, where equations only move features.
2. `pieces`: Triton computes on blocks whose sides are powers of two; features are cut into such pieces.
3. `packing`: arrays as rows of padded pieces, and back.
4. `evaluate`: a tick on pieces, in the operations that Triton knows.
5. `placement`: which program has which head and tile of the batch, with how many warps.
6. `alone`: the kernel: every program takes its tile through all of time by itself.

A product ``h U`` with h ``[32, 20]``: 20 features are pieces of 16 and 4 (the latter padded to 16), U becomes tiles of
16 × 16 that stay in registers, and two programs take 16 examples each.
"""
