"""July 2011 on the globe, and stations in 2011: AMSR-E, reanalysis and the truth of the days that are wanted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property, partial

import numpy as np

from smnb_sandbox.amsre import CHANNELS, PASSES, Amsre, encode_image, file_name
from smnb_sandbox.era import Reanalysis, pack, write_era_file
from smnb_sandbox.insitu import InSitu, insitu_names
from smnb_sandbox.plan import Content, Period, Plan, days_of, file_bytes
from smnb_sandbox.truth import truth_bytes
from smnb_sandbox.world import FIRST_DAY, SPIN_UP_DAYS, Vector, World

#: Is written into the truth; raise it when the gridded files change.
_VERSION = "1"


@dataclass(frozen=True)
class Month(Plan):
    """Which days of the simulated month are written (the last one is the test day), and of the stations' records."""

    first: date
    last: date
    resolution: float = 0.25
    spin_up_days: int = SPIN_UP_DAYS
    insitu: Period | None = None
    """First and last day of the in-situ records, within 2011; None for no in-situ archive."""

    kinds = ("amsre", "era", "truth", "stations")

    @property
    def days(self) -> list[date]:
        """The days, in order."""
        return days_of((self.first, self.last))

    @cached_property
    def amsre(self) -> dict[str, tuple[date, str, str]]:
        """Day, pass and channel by path."""
        images = [(day, orbit_pass, c) for day in self.days for orbit_pass in PASSES for c in CHANNELS]
        return {f"amsre_nsidc0302/{one[0]:%Y}/{file_name(*one)}": one for one in images}

    @property
    def era(self) -> list[str]:
        """The reanalysis' path."""
        return [f"era_interim/ei_swvl1_{self.first:%Y%m%d}_{self.last:%Y%m%d}.nc"]

    @property
    def truth(self) -> list[str]:
        """The gridded truth's path."""
        return [f"sandbox_truth/truth_{self.first:%Y%m%d}_{self.last:%Y%m%d}.nc"]

    @property
    def stations(self) -> list[str]:
        """Paths of the in-situ archive."""
        return insitu_names(self.insitu) if self.insitu else []

    def contents(self, seed: int, missing: set[str]) -> Iterator[tuple[str, Content]]:
        """As `Plan.contents`; images are packed on threads."""
        world = World(seed, self.resolution)
        amsre = Amsre(world) if missing.intersection(self.amsre) else None
        reanalysis = Reanalysis(world) if missing.intersection(self.era) else None
        insitu = InSitu(world, self.insitu) if missing.intersection(self.stations) else None
        packed, daily = [], []
        begin = FIRST_DAY - timedelta(days=self.spin_up_days)
        for state in world.days(begin, self.last, self.spin_up_days):
            analyses = reanalysis.analyses(state) if reanalysis else None
            if insitu is not None:
                insitu.days.observe(state)
            if state.day < self.first:
                continue
            if analyses is not None:
                packed.append(pack(analyses))
            if missing.intersection(self.truth):
                daily.append((state.soil_moisture, world.surface_temperature(state)))
            for orbit_pass in PASSES:
                names = {name: c for name, (*when, c) in self.amsre.items() if when == [state.day, orbit_pass]}
                if missing.intersection(names):
                    images = amsre.images(state, orbit_pass)
                    yield from (
                        (name, partial(encode_image, images[c])) for name, c in names.items() if name in missing
                    )
        for name in missing.intersection(self.era):
            yield name, file_bytes(name, lambda path: write_era_file(path, reanalysis, self.days, packed))
        for name in missing.intersection(self.truth):
            yield name, self._truth(world, daily)
        if insitu is not None:
            yield from insitu.contents([name for name in self.stations if name in missing])

    def _truth(self, world: World, daily: list[tuple[Vector, Vector]]) -> bytes:
        """Each day's soil moisture (m3 m-3) and surface temperature (K); NaN where less than half of a cell is soil."""
        land = world.land_fraction.ravel()[world.soil_cells] >= 0.5

        def on_grid(vector: Vector) -> np.ndarray:
            return world.to_grid(np.where(land, vector, np.nan))

        fields = {
            name: (on_grid(getattr(world, name)), 3)
            for name in ("clay_fraction", "sand_fraction", "vegetation_water_content")
        }
        fields["soil_moisture"] = np.stack([on_grid(moisture) for moisture, _ in daily]), 4
        fields["surface_temperature"] = np.stack([on_grid(kelvin) for _, kelvin in daily]), 2
        axes = {"lat": ("latitude", "degrees_north"), "lon": ("longitude", "degrees_east")}
        coords = {
            name: (name, getattr(world, name), {"standard_name": full, "long_name": full, "units": units})
            for name, (full, units) in axes.items()
        }
        days = np.array(self.days, dtype="datetime64[ns]")
        coords["time"] = "time", days, {"standard_name": "time", "long_name": "UTC day"}
        return truth_bytes(fields, coords, "the globe", f"gridded world {_VERSION}, seed {world.seed}", "sandbox_truth")
