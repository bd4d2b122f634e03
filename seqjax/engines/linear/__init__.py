"""The linear engine: recurrences that are linear in their state, found in the equations of any step.

In order of reading, on ``z = σ(x W); h' = (1-z) ⊙ h + z ⊙ (x V)``:

1. `detect`: the cycle from h to h' holds a product with 1-z and a sum with z ⊙ (x V), neither of which depends on h: it
   is linear, number by number. A tanh of h, a gate that reads h, a choice by its sign are refused by their names.
   ``m' = max(m + a, b)`` is linear too, in an algebra of max and +.
   `block`, `confined`: where others mix numbers of h, as in ``h' = A h + b``, it is linear in blocks of them if each
   equation keeps to one axis of at most 16; larger blocks and two axes are refused.
2. `algebra`: ``a ∘ h ⊕ b`` for numbers, blocks, and max and +; two ticks as one; where a reset cuts the state off.
3. `diagonal`: all states from all a and b, in three forms, and the derivative: the same recurrence of the same a.
4. `way`: a = 1-z and b = z ⊙ (x V) for all ticks at once, handed on from equation to equation.
   `factor`, `dense`: the same of blocks, A from the tick of unit vectors.
5. `matrix`: ``S' = a S + k vᵀ`` and delta rules, from products of matrices for some ticks at once.
6. `devices`: a stretch of time as one step, exchanged between devices that hold one each.
7. `engine`: the split engine told which recurrences are run so, and where their first states come from.
"""
