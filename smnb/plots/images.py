"""Images of small squares beside one another: rows of samples or dates, columns of what was seen and what was made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from smnb.contract import ContractError, plain
from smnb.plots.canvas import axes_at, colour_bar, head
from smnb.plots.display import WIDTH, Picture, picture
from smnb.plots.fields import SOIL_MOISTURE_CMAP, pretty_units, shared_scale, with_units

_LEFT, _GAP, _TOP, _ROW_GAP, _BAR, _RIGHT = 1.12, 0.14, 0.34, 0.17, 0.80, 0.10


@dataclass(frozen=True)
class ImageColumn:
    """How one column of `image_rows` is drawn; without `units` a colour image ``(y, x, 3)`` of [0, 1], without a bar.

    The default limits are the 2nd to 98th percentile of the whole column, rounded outwards: one scale for all its rows.
    """

    title: str
    units: str | None = None
    label: str = ""
    cmap: str = "gray"
    limits: tuple[float, float] | None = None

    @classmethod
    def soil_moisture(cls, title: str = "Soil moisture", limits: tuple[float, float] | None = None) -> ImageColumn:
        """Soil moisture in the package's colours."""
        return cls(title, "m3 m-3", "Soil moisture", SOIL_MOISTURE_CMAP, limits)

    def scale(self, images: Sequence[np.ndarray]) -> tuple[float, float] | None:
        """Scale of all images of the column; None for colour images."""
        if self.units is None:
            return None
        if not any(np.isfinite(image).any() for image in images):
            raise ContractError("image_rows", f"{self.title!r} is missing everywhere")
        return shared_scale(f"image_rows of {self.title!r}", images, self.limits)


def check_images(rows: Mapping[str, Sequence[Any]], columns: Sequence[ImageColumn]) -> dict[str, list[np.ndarray]]:
    """Return the images as arrays, once each row has one of the right shape a column."""
    who = "image_rows"
    if not rows or not columns:
        raise ContractError(who, "there is nothing to draw", expected=plain("one or more rows and columns"))
    checked = {}
    for name, images in rows.items():
        if len(images) != len(columns):
            raise ContractError(who, f"row {name!r} has not one image a column", got=len(images), expected=len(columns))
        checked[name] = [np.asarray(image, "float64") for image in images]
        for image, column in zip(checked[name], columns, strict=True):
            shape = plain("(y, x)" if column.units is not None else "(y, x, 3)")
            if image.ndim != (2 if column.units is not None else 3) or (image.ndim == 3 and image.shape[2] != 3):
                what = f"{column.title!r} of row {name!r} has another shape"
                raise ContractError(who, what, got=image.shape, expected=shape)
    return checked


@picture(twin=True)
def image_rows(
    rows: Mapping[str, Sequence[Any]],
    columns: Sequence[ImageColumn],
    *,
    side_km: float | None = None,
    title: str = "",
    height: float | None = None,
    synthetic: bool | None = None,
) -> Picture:
    """Draw rows of square images of the same ground, each column on one scale.

    Parameters
    ----------
    rows : mapping of str to sequence of ndarray
        By row label, an image ``(y, x)`` or ``(y, x, 3)`` a column, north up; pixels may be of any size. Missing is NaN.
    side_km : float, optional
        Side of the ground that every image shows, km, for an axis.
    height : float, optional
        Of an image, inches; default what fills the width.
    """
    checked = check_images(rows, columns)
    widest = (WIDTH - _LEFT - _RIGHT - _GAP * (len(columns) - 1)) / len(columns)
    size = min(widest, height or 2.1)
    above = _TOP + (0.28 if title or synthetic else 0.0)
    has_bars = any(column.units is not None for column in columns)
    total = above + len(checked) * size + (len(checked) - 1) * _ROW_GAP + (_BAR if has_bars else 0.1)
    left = _LEFT + (WIDTH - _LEFT - _RIGHT - len(columns) * size - _GAP * (len(columns) - 1)) / 2
    figure = Picture(WIDTH, total)
    head(figure, title, synthetic)
    for number, column in enumerate(columns):
        images = [row[number] for row in checked.values()]
        limits, x = column.scale(images), left + number * (size + _GAP)
        for line, (name, image) in enumerate(zip(checked, images, strict=True)):
            y = total - above - (line + 1) * size - line * _ROW_GAP
            axes = axes_at(figure, x, y, size, size)
            axes.set_facecolor("#c9c9c9")  # where the image is missing
            side = side_km or 1.0
            low, high = limits or (None, None)
            if limits is None:
                image = np.dstack([np.nan_to_num(image).clip(0, 1), np.isfinite(image).all(axis=2)])
            look = {"cmap": column.cmap, "vmin": low, "vmax": high, "interpolation": "nearest"}
            axes.imshow(image, extent=(0, side, 0, side), **look)
            axes.set(xticks=[], yticks=[])
            axes.tick_params(length=2.5, pad=1.5)
            if line == 0:
                axes.set_title(column.title, pad=4)
            if number == 0:
                place = {"rotation": 90, "ha": "center", "va": "center", "fontsize": 9}
                figure.text((left - 0.78) / WIDTH, (y + size / 2) / total, name, **place)
                if side_km is not None:
                    axes.set_yticks([0, side_km], ["0", f"{side_km:.3g}"])
                    axes.set_ylabel("km", labelpad=-8, fontsize=9)
        if limits is not None:
            bar = axes_at(figure, x + 0.04, _BAR - 0.22, size - 0.08, 0.1, label="colorbar")
            label = with_units(column.label or column.title, column.units)
            # in a narrow column the unit alone, or labels of neighbours would run into one another
            label = label if 0.065 * len(label) < size else pretty_units(column.units)
            colour_bar(bar, limits, column.cmap, label, images, parts=3 if size < 1.6 else 4)
            bar.xaxis.label.set_fontsize(9)
    return figure
