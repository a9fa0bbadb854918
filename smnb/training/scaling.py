"""Scaling of channels to [0, 1] by the training data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from smnb.contract import ContractError, plain


@dataclass(frozen=True)
class MinMaxScaler:
    """Linear scaling of each channel to [0, 1] by the extremes of the training data, or by robust ones.

    Parameters
    ----------
    minimum, maximum : tuple of float
        One value a channel, in the channel's units.
    fill : tuple of float
        The training mean of each channel after scaling: what a missing pixel of an image is replaced by.
    clip : bool
        Whether values outside [minimum, maximum] become 0 or 1.
    """

    minimum: tuple[float, ...]
    maximum: tuple[float, ...]
    fill: tuple[float, ...]
    clip: bool = False

    @classmethod
    def fit(
        cls, values: np.ndarray, *, names: Sequence[str] | None = None, tail: float = 0.0, clip: bool = False
    ) -> MinMaxScaler:
        """Fit on training values ``(..., channel)``; NaN is ignored. A channel without spread is a `ContractError`, by its name.

        `tail` is the share of values beyond each end of the scale: 0 takes the extremes, 0.001 the 0.1 and 99.9 per cent points,
        so that a single odd pixel does not squeeze all others together.
        """
        flat = values.reshape(-1, values.shape[-1])
        low, high, mean = (np.empty(flat.shape[1]) for _ in range(3))
        for channel in range(flat.shape[1]):
            column = flat[:, channel]
            column = column[np.isfinite(column)]
            name = names[channel] if names is not None else f"channel {channel}"
            if column.size == 0 or column.min() == column.max():
                raise ContractError(
                    "MinMaxScaler.fit",
                    f"{name!r} has no spread in the training data",
                    got=plain(f"{column.size} valid values"),
                    expected=plain("at least two different values"),
                    next_step="Check that the training days are present and not fully masked",
                )
            ends = np.quantile(column, (tail, 1.0 - tail)) if tail else (column.min(), column.max())
            low[channel], high[channel] = ends
            mean[channel] = (column.mean(dtype="float64") - low[channel]) / (high[channel] - low[channel])
        return cls(tuple(low.tolist()), tuple(high.tolist()), tuple(mean.tolist()), clip)

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Scale ``(..., channel)`` values in native units to float32 in about [0, 1]; NaN stays NaN."""
        low = np.asarray(self.minimum, dtype="float32")
        span = np.asarray(self.maximum, dtype="float32") - low
        scaled = (np.asarray(values, dtype="float32") - low) / span
        return np.clip(scaled, 0.0, 1.0, out=scaled) if self.clip else scaled

    def inverse(self, scaled: np.ndarray) -> np.ndarray:
        """Turn scaled ``(..., channel)`` values back to native units."""
        low = np.asarray(self.minimum, dtype="float32")
        return np.asarray(scaled, dtype="float32") * (np.asarray(self.maximum, dtype="float32") - low) + low

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, for a checkpoint's JSON."""
        return {name: list(getattr(self, name)) for name in ("minimum", "maximum", "fill")} | {"clip": self.clip}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> MinMaxScaler:
        """Rebuild from `to_dict`."""
        return cls(*(tuple(content[key]) for key in ("minimum", "maximum", "fill")), clip=content["clip"])
