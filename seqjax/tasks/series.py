"""Series to forecast."""

import numpy as np

from seqjax import checks
from seqjax.tasks.problem import at_least, whole


def mackey_glass(length: int, *, tau: int = 17, start: float = 1.2, washout: int = 1000, steps: int = 10) -> np.ndarray:
    """The Mackey-Glass series, one value a unit of time, chaotic for τ > 16.8.

        dx/dt = 0.2 x(t-τ) / (1 + x(t-τ)¹⁰) - 0.1 x(t)

    Integrated by the classical Runge-Kutta rule with ``steps`` steps a unit, the history constant at
    ``start``; the delayed value at half steps comes from the cubic that has the values and slopes at both
    ends.

    Args:
      length: how many values.
      tau: the delay τ in units of time.
      start: x(t) for t ≤ 0.
      washout: units of time to leave out at the beginning.
      steps: integration steps a unit.

    Returns:
      ``[length]`` of float64.

    References:
      Mackey and Glass (1977), Oscillation and chaos in physiological control systems.
      https://doi.org/10.1126/science.267326
    """
    length = at_least("mackey_glass", length, 1)
    checks.sizes("mackey_glass", tau=tau, steps=steps)
    whole("mackey_glass", 0, washout=washout)
    delay, dt = tau * steps, 1 / steps
    n = (length + washout) * steps
    x = np.full(delay + 1 + n, float(start))
    slopes = np.zeros(len(x))

    def slope(now: float, before: float) -> float:
        return 0.2 * before / (1 + before**10) - 0.1 * now

    for i in range(delay, delay + n):
        now, past, later = x[i], x[i - delay], x[i - delay + 1]
        middle = (past + later) / 2 + dt / 8 * (slopes[i - delay] - slopes[i - delay + 1]) * (i >= 2 * delay)
        k1 = slopes[i] = slope(now, past)
        k2 = slope(now + dt / 2 * k1, middle)
        k3 = slope(now + dt / 2 * k2, middle)
        k4 = slope(now + dt * k3, later)
        x[i + 1] = now + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return x[delay + washout * steps + steps :: steps][:length].copy()


def next_values(series: np.ndarray, horizon: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and what follows them ``horizon`` ticks later, both ``[T - horizon, ...]``.

    Raises:
      ValueError: a series no longer than the horizon.

    Example:
      >>> xs, targets = next_values(np.arange(5.0), horizon=2)
      >>> xs.ravel().tolist(), targets.ravel().tolist()
      ([0.0, 1.0, 2.0], [2.0, 3.0, 4.0])
    """
    series = np.asarray(series)
    if not 1 <= horizon < len(series):
        raise ValueError(
            f"next_values: expected a horizon from 1 to {len(series) - 1}, got {horizon}. Give a longer series."
        )
    return series[:-horizon], series[horizon:]
