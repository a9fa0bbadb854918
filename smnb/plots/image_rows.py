"""Images of small squares beside one another: rows of samples or dates, columns of what was seen and what was made of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from smnb.contract import ContractError, ParameterError, plain, synthetic_label
from smnb.plots.fields import SOIL_MOISTURE_CMAP, bar_extend, nice_limits, pretty_units, with_units
from smnb.plots.maps import STYLE, WIDTH, new_figure

_LEFT, _GAP, _TOP, _ROW_GAP, _BAR, _RIGHT = 1.12, 0.14, 0.34, 0.17, 0.80, 0.10
_MISSING = "#c9c9c9"


@dataclass(frozen=True)
class ImageColumn:
    """How one column of `image_rows` is drawn.

    Parameters
    ----------
    title : str
    units : str, optional
        Of values; None for a colour image ``(y, x, 3)`` of [0, 1], which has no colour bar.
    label : str
        Of the colour bar, before the unit.
    cmap : str
    limits : (float, float), optional
        Default the 2nd to 98th percentile of the whole column, rounded outwards: one scale for all of its rows.
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


def _check(rows: Mapping[str, Sequence[Any]], columns: Sequence[ImageColumn]) -> dict[str, list[np.ndarray]]:
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
                raise ContractError(
                    who, f"{column.title!r} of row {name!r} has another shape", got=image.shape, expected=shape
                )
    return checked


def _scale(column: ImageColumn, images: list[np.ndarray]) -> tuple[float, float]:
    if column.limits is not None:
        if not column.limits[0] < column.limits[1]:
            raise ParameterError(
                "image_rows", f"limits of {column.title!r}", got=column.limits, expected=plain("low < high")
            )
        return column.limits
    if not any(np.isfinite(image).any() for image in images):
        raise ContractError("image_rows", f"{column.title!r} is missing everywhere")
    return nice_limits(images, percentiles=(2.0, 98.0))[:2]


def image_rows(
    rows: Mapping[str, Sequence[Any]],
    columns: Sequence[ImageColumn],
    *,
    side_km: float,
    title: str = "",
    height: float | None = None,
    synthetic: bool = False,
) -> Figure:
    """Draw rows of square images of the same ground, each column on one scale.

    Parameters
    ----------
    rows : mapping of str to sequence of ndarray
        By row label, an image ``(y, x)`` or ``(y, x, 3)`` a column, north up; pixels may be of any size. Missing is NaN.
    columns : sequence of ImageColumn
    side_km : float
        Side of the ground that every image shows, km.
    title : str
    height : float, optional
        Of an image, inches; default what fills the width.
    synthetic : bool
        Say so in the title.

    Returns
    -------
    matplotlib.figure.Figure
        7 inches wide, 150 dpi.

    Raises
    ------
    ContractError
        If a row has not one image of the right shape a column, or a column has nothing.
    """
    checked = _check(rows, columns)
    widest = (WIDTH - _LEFT - _RIGHT - _GAP * (len(columns) - 1)) / len(columns)
    size = min(widest, height or 2.1)
    head = _TOP + (0.28 if title or synthetic else 0.0)
    has_bars = any(column.units is not None for column in columns)
    total = head + len(checked) * size + (len(checked) - 1) * _ROW_GAP + (_BAR if has_bars else 0.1)
    left = _LEFT + (WIDTH - _LEFT - _RIGHT - len(columns) * size - _GAP * (len(columns) - 1)) / 2
    with mpl.rc_context(STYLE):
        figure = new_figure(WIDTH, total)
        if title or synthetic:
            text = f"{title}{synthetic_label(synthetic)}".strip()
            figure.text(0.5, 1 - 0.06 / total, text, va="top", ha="center", fontsize=10)
        for number, column in enumerate(columns):
            images = [row[number] for row in checked.values()]
            limits = None if column.units is None else _scale(column, images)
            x = left + number * (size + _GAP)
            for line, (name, image) in enumerate(zip(checked, images, strict=True)):
                y = total - head - (line + 1) * size - line * _ROW_GAP
                axes = figure.add_axes([x / WIDTH, y / total, size / WIDTH, size / total])
                _draw(axes, image, column, limits, side_km)
                if line == 0:
                    axes.set_title(column.title, pad=4)
                if number == 0:
                    figure.text(
                        (left - 0.78) / WIDTH,
                        (y + size / 2) / total,
                        name,
                        rotation=90,
                        ha="center",
                        va="center",
                        fontsize=9,
                    )
                    axes.set_yticks([0, side_km], ["0", f"{side_km:.3g}"])
                    axes.set_ylabel("km", labelpad=-8, fontsize=9)
            if limits is not None:
                _bar(figure, column, limits, images, (x, size, total))
    return figure


def _draw(
    axes: Any, image: np.ndarray, column: ImageColumn, limits: tuple[float, float] | None, side_km: float
) -> None:
    axes.set_facecolor(_MISSING)
    extent = (0, side_km, 0, side_km)
    if limits is None:
        there = np.isfinite(image).all(axis=2)
        shown = np.dstack([np.nan_to_num(image).clip(0, 1), there])
        axes.imshow(shown, extent=extent, interpolation="nearest")
    else:
        axes.imshow(image, extent=extent, cmap=column.cmap, vmin=limits[0], vmax=limits[1], interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.tick_params(length=2.5, pad=1.5)


def _bar(
    figure: Figure,
    column: ImageColumn,
    limits: tuple[float, float],
    images: list[np.ndarray],
    place: tuple[float, float, float],
) -> None:
    """A colour bar below a column, pointed where values leave it."""
    x, size, total = place
    seen = np.concatenate([image[np.isfinite(image)] for image in images])
    extend = bar_extend(bool(seen.min() < limits[0]), bool(seen.max() > limits[1]))
    axes = figure.add_axes([(x + 0.04) / WIDTH, (_BAR - 0.22) / total, (size - 0.08) / WIDTH, 0.1 / total])
    bar = figure.colorbar(
        ScalarMappable(Normalize(*limits), column.cmap),
        cax=axes,
        orientation="horizontal",
        extend=extend,
        extendfrac=0.05,
    )
    ticks = MaxNLocator(3 if size < 1.6 else 4, steps=[1, 2, 2.5, 5, 10]).tick_values(*limits)
    bar.set_ticks(ticks[(ticks >= limits[0] - 1e-12) & (ticks <= limits[1] + 1e-12)])
    label = with_units(column.label or column.title, column.units)
    # in a narrow column the unit alone, or labels of neighbours would run into one another
    bar.set_label(label if 0.065 * len(label) < size else pretty_units(column.units), labelpad=1, fontsize=9)
    bar.ax.tick_params(length=2.5, pad=1.5)


def interactive_image_rows(
    rows: Mapping[str, Sequence[Any]],
    columns: Sequence[ImageColumn],
    *,
    side_km: float,
    synthetic: bool = False,
    size: int = 230,
) -> Any:
    """The same as holoviews panels, linked in zoom and pan, with values under the pointer.

    Images of more than 160 pixels a side are averaged in blocks: the notebook that holds them stays small.

    Returns
    -------
    holoviews.Layout
    """
    import holoviews as hv

    from smnb.plots.interactive import renderer

    renderer()
    checked = {name: [_coarser(image) for image in images] for name, images in _check(rows, columns).items()}
    panels = []
    scales = [
        None if c.units is None else _scale(c, [row[n] for row in checked.values()]) for n, c in enumerate(columns)
    ]
    bounds = (0.0, 0.0, side_km, side_km)
    for name, images in checked.items():
        for image, column, limits in zip(images, columns, scales, strict=True):
            title = f"{column.title}, {name}{synthetic_label(synthetic)}"
            common = {"width": size + 40, "height": size, "title": title, "xlabel": "km", "ylabel": "km"}
            if limits is None:
                element = hv.RGB(np.nan_to_num(image).clip(0, 1), kdims=["east", "north"], bounds=bounds)
                panels.append(element.opts(**common))
            else:
                value = hv.Dimension("value", label=column.label or column.title, unit=column.units)
                element = hv.Image(image, kdims=["east", "north"], vdims=[value], bounds=bounds)
                panels.append(element.opts(**common, cmap=column.cmap, clim=limits, colorbar=True, tools=["hover"]))
    return hv.Layout(panels).cols(len(columns)).opts(shared_axes=True)


def _coarser(image: np.ndarray, most: int = 160) -> np.ndarray:
    """Means of blocks, so that no side has more than `most` pixels; what does not fill a block is left out."""
    block = math.ceil(max(image.shape[:2]) / most)
    if block == 1:
        return image
    rows, cols = (n // block for n in image.shape[:2])
    parts = image[: rows * block, : cols * block].reshape(rows, block, cols, block, *image.shape[2:])
    there = np.isfinite(parts)
    count = there.sum(axis=(1, 3))
    return np.where(count > 0, np.where(there, parts, 0.0).sum(axis=(1, 3)) / np.maximum(count, 1), np.nan)
