"""Matrix states with outer products for updates: linear attention, mLSTM, delta rules.

In order of reading, on ``S' = a S + k vᵀ, y = qᵀ S'``:

1. `forms`: what a tick makes of an S that is a symbol: rows a times S, plus k vᵀ, and columns that are read of it.
2. `known`, `axes`, `rules`: what does not depend on S; where it meets the axes of S; the rule of every equation.
3. `reading`: the tick's equations, one by one, on such values; what has no form is refused by the equation's name.
4. `decay`: products of decays between two ticks, by halves of a chunk. `triangular`: ``(I - N)⁻¹``, likewise.
5. `chunk`: some ticks at once from products of matrices; a triangular system where what is written depends on reads.
6. `layout`: from the axes of forms to those of the products, and back.
7. `way`: chunk after chunk, each recomputed for the derivative from the S before it.
8. `reach`: k vᵀ and qᵀ S' belong to the recurrence though they do not lie on its cycle.
"""
