"""What a build gave, in words and numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smnb.papers.batchu2023.store import SampleStore


@dataclass(frozen=True)
class MatchupResult:
    """A finished sample store and how it came about."""

    path: Path
    counts: dict[str, Any]
    """``readings``: given, dropped by reason, kept. ``sources``: points that lack a source, by reason. ``dropped``: points by
    the first source that they lack (these and ``samples`` add up to the readings kept). ``sensors``, ``samples``."""
    splits: dict[str, Any]
    n_tasks: int
    n_resumed: int
    """Tasks that were done before."""
    was_finished: bool
    """Whether the store was there and nothing was left to do."""
    seconds: float

    @property
    def store(self) -> SampleStore:
        """The store, opened."""
        return SampleStore(self.path)

    def __str__(self) -> str:
        readings = self.counts["readings"]
        removed = ", ".join(f"{key} {n:,}" for key, n in readings.items() if key not in ("given", "kept") and n)
        lines = [
            f"{self.counts['samples']:,} samples of {self.counts['sensors']:,} sensors, from {readings['kept']:,} of "
            f"{readings['given']:,} readings" + (f" (removed: {removed})" if removed else "")
        ]
        for source, reasons in self.counts["sources"].items():
            why = ", ".join(f"{reason} {n:,}" for reason, n in reasons.items() if n) or "none lacks it"
            lines.append(f"  {source}: {self.counts['dropped'][source]:,} points dropped; {why}")
        unknown = self.counts["unknown_land_cover"]
        if unknown:
            lines.append(
                "  unknown land cover: " + ", ".join(f"code {code}, {n} sensors" for code, n in unknown.items())
            )
        for name, split in self.splits.items():
            sides = ", ".join(
                f"{side} {n} ({split['samples'][side]:,} samples)" for side, n in split["sensors"].items() if n
            )
            leaks = ", ".join(f"{leak} {n}" for leak, n in split["leaks"].items()) or "no leak found"
            lines.append(f"  split {name}: {sides}; {leaks}")
        return "\n".join(lines)
