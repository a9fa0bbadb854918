"""What all static figures share: style, colours, axes in inches, titles, colour bars, legends."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from smnb.contract import synthetic_label

#: Okabe and Ito's colours for the colour-blind, with a line style each so that a grey print tells them apart too.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
LINES = tuple(zip(_COLOURS, ("-", "--", "-.", ":", "-", "--", "-."), strict=True))
MARKERS = "osD^vP*Xph"
#: A colour and a hatch for each side of a split.
_LOOK_OF_SIDES = {
    "train": ("#0072B2", ""),
    "validation": ("#E69F00", "////"),
    "test": ("#009E73", "...."),
    "buffer": ("#c9c9c9", ""),
}
#: The order in which sides are drawn.
SIDES = tuple(_LOOK_OF_SIDES)


def look_of(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and hatch by label, so that a grey print tells sides (or any other few labels) apart too."""
    known = iter([(c, h) for (c, _), h in zip(LINES, ("", "////", "....", "xx", "", "\\\\", ""), strict=True)] * 20)
    return {name: _LOOK_OF_SIDES[name] if name in _LOOK_OF_SIDES else next(known) for name in names}


def panel_title(index: int | None, title: str, synthetic: bool, width: float, size: float = 10.0) -> str:
    """Return "(a) title (synthetic)" in as many lines as `width` (inches) asks for; no letter without an index."""
    letter = "" if index is None else f"({chr(ord('a') + index % 26)}) "
    text = f"{letter}{title}{synthetic_label(synthetic)}"
    return "\n".join(textwrap.wrap(text, max(12, int(width / (size * 0.52 / 72)))))


def head(figure: Figure, title: str, synthetic: bool, *, x: float = 0.5, centre: bool = True) -> None:
    """Write a title above the whole figure, `x` being its share of the width."""
    text = f"{title}{synthetic_label(synthetic)}".strip()
    y = 1 - 0.06 / figure.get_figheight()
    figure.text(x, y, text, va="top", ha="center" if centre else "left", fontsize=10)


def axes_at(figure: Figure, left: float, bottom: float, width: float, height: float, **options: Any) -> Axes:
    """Add axes at a place and of a size in inches."""
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up), **options)


def grid_behind(axes: Axes, axis: str = "both", which: str = "major") -> None:
    """Draw a light grid below the data."""
    axes.grid(axis=axis, which=which, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


def date_axis(axes: Axes, fewest: int = 3) -> None:
    """Label times as a person would."""
    locator = mpl.dates.AutoDateLocator(minticks=fewest, maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(mpl.dates.ConciseDateFormatter(locator))


def legend_above(figure: Figure, handles: Sequence[Any], labels: Sequence[str], **options: Any) -> None:
    """Put a legend without a frame into the figure's head."""
    shared = {"frameon": False, "columnspacing": 1.2, "handlelength": 1.6, "borderaxespad": 0.2}
    figure.legend(handles, labels, **shared | options)


def colour_bar(
    axes: Axes,
    limits: tuple[float, float],
    cmap: Any,
    label: str,
    values: Iterable[np.ndarray],
    *,
    parts: int = 6,
    upright: bool = False,
) -> None:
    """Draw a colour bar into `axes`, with round ticks and pointed where `values` leave the scale."""
    low, high = limits
    seen = np.concatenate([np.asarray(v)[np.isfinite(v)] for v in values])
    below, above = seen.min() < low - 1e-12, seen.max() > high + 1e-12
    look = {"orientation": "vertical" if upright else "horizontal", "extendfrac": 0.03}
    look["extend"] = "both" if below and above else "min" if below else "max" if above else "neither"
    bar = axes.figure.colorbar(ScalarMappable(Normalize(low, high), cmap), cax=axes, **look)
    ticks = MaxNLocator(parts, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    ticks = ticks[(ticks >= low - 1e-12) & (ticks <= high + 1e-12)]
    bar.set_ticks(np.linspace(low, high, 5) if low == -high and parts > 4 else ticks)
    bar.set_label(label, labelpad=1)
    bar.ax.tick_params(length=2.5, pad=1.5)


def count_bar(axes: Axes, counts: ScalarMappable, label: str) -> None:
    """Draw the colour bar of counts on a logarithmic scale into `axes`, in plain numbers: few counts reach no power of ten."""
    most = counts.norm.vmax
    steps = (1, 2, 3, 5) if most < 50 else (1, 2, 5) if most < 1000 else (1,)
    ticks = [step * 10**power for power in range(9) for step in steps if step * 10**power <= most]
    bar = axes.figure.colorbar(counts, cax=axes)
    bar.set_ticks(ticks, labels=[f"{tick:,}" for tick in ticks])
    bar.ax.minorticks_off()
    bar.set_label(label, labelpad=2)
