"""Ways of running a recurrence. Every engine is ``engine(step, params, state, xs, ...) -> (state, ys)``."""
