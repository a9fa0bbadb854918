"""Statistics of one station's series: means, quantiles, exponential filters, lags and a seasonal cycle, gaps and all.

Every statistic is a weighted sum over the station's own rows, the weights made of the times between rows. So series may be
irregular, partial or a single row, and with ``past_only`` no later row enters: row i then sees rows j with time j <= time i.

References
----------
Wagner, Lemoine & Rott 1999, Remote Sens. Environ. 70(2), 191-207, doi:10.1016/S0034-4257(99)00036-X (exponential filter and
change detection between a station's driest and wettest backscatter).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
#: Prior weight (rows) that holds the harmonics of a short series near zero.
_RIDGE = np.array([1e-6, 0.5, 0.5, 1.0, 1.0])


class StationSeries:
    """Times of one station's rows and the statistics over them.

    `windows` are times in ten-day windows since any date, ascending and unique; `phase` is the time of the year, radians. Values
    are float64 of shape (row,), missing is NaN; where nothing is seen the result is NaN.

    Examples
    --------
    >>> series = StationSeries(np.array([0.0, 1.0, 2.0]), np.zeros(3))
    >>> series.lag(np.array([0.1, 0.2, 0.4]), 1).tolist()
    [0.1, 0.1, 0.2]
    """

    def __init__(self, windows: Values, phase: Values, *, past_only: bool = False) -> None:
        self.windows, self.past_only = windows, past_only
        self.age = windows[:, None] - windows[None, :]
        self.seen = self.age >= 0.0 if past_only else np.ones(self.age.shape, dtype=bool)
        self.harmonics = np.stack([np.ones(phase.size), *(f(k * phase) for k in (1, 2) for f in (np.cos, np.sin))], 1)

    def _weighted(self, x: Values, weights: Values) -> Values:
        there = np.isfinite(x)
        total = weights @ there
        return np.divide(weights @ np.where(there, x, 0.0), total, out=np.full(x.size, np.nan), where=total > 0.0)

    def mean(self, x: Values) -> Values:
        """Mean of the rows seen."""
        return self._weighted(x, self.seen.astype(float))

    def anomaly(self, x: Values) -> Values:
        """Difference to the mean of the rows seen."""
        return x - self.mean(x)

    def spread(self, x: Values) -> Values:
        """Standard deviation of the rows seen."""
        there = np.isfinite(x)
        offset = float(x[there].mean()) if there.any() else 0.0  # against cancellation; it drops out
        square, mean = self.mean((x - offset) ** 2), self.mean(x - offset)
        return np.sqrt(np.maximum(square - mean**2, 0.0))

    def quantiles(self, x: Values, percent: tuple[float, ...]) -> list[Values]:
        """Percentiles of the rows seen."""
        if not np.isfinite(x).any():
            return [np.full(x.size, np.nan) for _ in percent]
        if not self.past_only:
            return [np.full(x.size, q) for q in np.nanpercentile(x, percent)]
        result = np.full((len(percent), x.size), np.nan)
        for row in range(x.size):
            past = x[: row + 1]
            if np.isfinite(past).any():
                result[:, row] = np.nanpercentile(past, percent)
        return list(result)

    def rank(self, x: Values) -> Values:
        """Share of the rows seen that are below, half of the ties counted, from -0.5 to 0.5."""
        there = np.isfinite(x)
        below = (x[None, :] < x[:, None]) + 0.5 * (x[None, :] == x[:, None])
        count = np.maximum((self.seen & there[None, :]).sum(1), 1)
        return np.where(there, (below * self.seen * there[None, :]).sum(1) / count - 0.5, np.nan)

    def memory(self, x: Values, windows: float) -> Values:
        """Exponential filter over the row and earlier ones, with a time constant in windows."""
        return self._weighted(x, np.where(self.age >= 0.0, np.exp(-np.abs(self.age) / windows), 0.0))

    def smooth(self, x: Values, windows: float) -> Values:
        """Exponential filter over the rows seen, before and after."""
        return self._weighted(x, np.where(self.seen, np.exp(-np.abs(self.age) / windows), 0.0))

    def lag(self, x: Values, windows: int) -> Values:
        """Value of the row nearest to so many windows ago (negative: ahead) among the rows seen."""
        distance = np.where(self.seen, np.abs(self.age - windows), np.inf)
        return x[np.argmin(distance, axis=1)]

    def season(self, x: Values) -> Values:
        """Two harmonics of the year fitted to the rows seen, weakly held at zero."""
        there = np.isfinite(x)
        if not there.any():
            return np.full(x.size, np.nan)
        offset = float(x[there].mean()) if not self.past_only else float(x[there][0])
        h, y = self.harmonics, np.where(there, x - offset, 0.0)
        if not self.past_only:
            weighted = h * there[:, None]
            return offset + h @ np.linalg.solve(weighted.T @ h + np.diag(_RIDGE), h.T @ y)
        products = np.cumsum(np.einsum("na,nb,n->nab", h, h, there.astype(float)), axis=0) + np.diag(_RIDGE)
        loads = np.cumsum(h * y[:, None], axis=0)
        fitted = offset + np.einsum("na,na->n", h, np.linalg.solve(products, loads[..., None])[..., 0])
        return np.where(np.cumsum(there) > 0, fitted, np.nan)
