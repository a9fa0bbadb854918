"""What all figures share: showing them in a notebook without the internet, files, and style, axes, titles, bars, legends."""

from __future__ import annotations

import base64
import functools
import gzip
import importlib
import inspect
import io
import json
import os
import textwrap
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from string import Template
from typing import Any

import bokeh
import matplotlib as mpl
import numpy as np
import PIL.Image
from bokeh.core.validation import silence
from bokeh.core.validation.warnings import FIXED_SIZING_MODE
from bokeh.embed import json_item
from bokeh.resources import Resources
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from smnb.contract import ParameterError, check_choice, synthetic_label
from smnb.files import atomic_path

WIDTH = 7.0
DPI = 150
#: Sizes that stay legible when a figure is printed at half its size.
STYLE = {"axes.linewidth": 0.8, "font.family": "DejaVu Sans", "savefig.dpi": DPI}
STYLE |= {"legend.frameon": False, "legend.columnspacing": 1.2, "legend.handlelength": 1.6, "legend.borderaxespad": 0.2}
STYLE |= dict.fromkeys(["font.size", "axes.titlesize", "axes.labelsize"], 10.0)
STYLE |= dict.fromkeys(["xtick.labelsize", "ytick.labelsize", "legend.fontsize"], 9.0)
#: Okabe and Ito's colours for the colour-blind, with a line style each so that a grey print tells them apart too.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
LINES = tuple(zip(_COLOURS, ("-", "--", "-.", ":", "-", "--", "-."), strict=True))
MARKERS = "osD^vP*Xph"
#: A colour and a hatch for each side of a split.
_LOOK_OF_SIDES = {"train": ("#0072B2", ""), "validation": ("#E69F00", "////"), "test": ("#009E73", "....")}
_LOOK_OF_SIDES["buffer"] = ("#c9c9c9", "")
SIDES = tuple(_LOOK_OF_SIDES)  # the order in which sides are drawn
_state = {"loader_shown": False}
_SYNTHETIC: ContextVar[bool] = ContextVar("_SYNTHETIC", default=False)


def _page_part(name: str, **values: str) -> str:
    """Fill a template, whose scripts know bokeh by its version: another bokeh on the page is neither used nor replaced.

    JupyterLab shows several notebooks in one page. The loader puts its script into an element, as `this` must be the window.
    """
    template = Template(Path(__file__).with_name("templates").joinpath(name).read_text(encoding="utf-8").strip())
    return template.substitute(version=bokeh.__version__, **values)


@functools.lru_cache(maxsize=1)
def loader_html() -> str:
    """HTML that loads bokeh's core from within the page: gzipped, a third of the size that inline resources take."""
    raw = Resources(mode="inline", components=["bokeh"], minified=True).js_raw
    text = "\n".join(part for part in raw if "function(root, factory)" in part)
    # mtime=0: the same bytes in every run, so that executed notebooks differ only where their results do
    packed = base64.b64encode(gzip.compress(text.encode("utf-8"), 9, mtime=0)).decode("ascii")
    return _page_part("loader.html", packed=packed)


def figure_html(interactive: Any) -> str:
    """HTML of a holoviews object, data included, for a page that holds `loader_html` once."""
    from smnb.plots.twins import renderer

    model = renderer().get_plot(interactive).state
    # holoviews sizes the frame, not the figure, which bokeh warns of for every panel though it draws it well
    silence(FIXED_SIZING_MODE, True)
    try:
        item = json.dumps(json_item(model), separators=(",", ":")).replace("</", "<\\/")
    finally:
        silence(FIXED_SIZING_MODE, False)
    return _page_part("figure.html", target=f"smnb-{uuid.uuid4().hex}", item=item)


class Picture(Figure):
    """A matplotlib figure that a notebook shows as PNG, and where wanted with its interactive twin below.

    pyplot does not know the figure, so that a notebook shows it once and nothing keeps it alive.
    """

    #: Makes the twin (a holoviews object); called only where one is wanted, which spares its making in batch runs.
    twin: Callable[[], Any] | None = None

    def __init__(self, width: float = WIDTH, height: float = 3.0) -> None:
        super().__init__(figsize=(width, height), dpi=DPI)
        FigureCanvasAgg(self)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the figure as PNG, whole or not at all, and return the path."""
        if Path(path).suffix.lower() != ".png":
            raise ParameterError("save", "the name of a figure does not end in .png", got=str(path))
        with atomic_path(path) as temporary:
            temporary.write_bytes(png_bytes(self))
        return Path(path)

    def axes_at(self, left: float, bottom: float, width: float, height: float, **options: Any) -> Axes:
        """Add axes at a place and of a size in inches."""
        across, up = self.get_size_inches()
        return self.add_axes((left / across, bottom / up, width / across, height / up), **options)

    def head(self, title: str, *, x: float = 0.5, centre: bool = True) -> None:
        """Write a title above the whole figure, `x` being its share of the width."""
        y = 1 - 0.06 / self.get_figheight()
        self.text(x, y, said(title).strip(), va="top", ha="center" if centre else "left", fontsize=10)

    def offer(self, name: str, *data: Any, **options: Any) -> None:
        """Take a function of `smnb.plots.twins` for the twin: its libraries are imported where one is wanted."""

        def make() -> Any:
            twins = importlib.import_module("smnb.plots.twins")
            twins.renderer()
            return getattr(twins, name)(*data, **options)

        self.twin = make

    def _ipython_display_(self) -> None:
        from IPython.display import HTML, Image, display

        display(Image(data=png_bytes(self, colours=256), format="png"))
        if self.twin is not None and interactive_wanted():
            if not _state["loader_shown"]:
                enable()
            display(HTML(figure_html(self.twin())))


def picture(draw: Callable[..., Picture]) -> Callable[..., Picture]:
    """Give a function that draws ``save=``, and ``synthetic=`` (whether titles say so), by default what the data say."""
    signature = inspect.signature(draw)

    @functools.wraps(draw)
    def shown(*arguments: Any, synthetic: bool | None = None, save: Any = None, **named: Any) -> Picture:
        given = signature.bind(*arguments, **named).arguments
        token = _SYNTHETIC.set(_says_synthetic(given) if synthetic is None else synthetic)
        try:
            with mpl.rc_context(STYLE):
                figure = draw(*arguments, **named)
        finally:
            _SYNTHETIC.reset(token)
        if save is not None:
            figure.save(save)
        return figure

    extra = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in ("synthetic", "save")]
    shown.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *extra])
    return shown


def _says_synthetic(data: Any) -> bool:
    if isinstance(data, Mapping):
        return any(map(_says_synthetic, data.values()))
    return bool(getattr(data, "attrs", {}).get("synthetic", False))


def interactive_wanted() -> bool:
    """Return what the environment variable SMNB_INTERACTIVE says, by default yes."""
    (value,) = check_choice("smnb.plots", "SMNB_INTERACTIVE", os.environ.get("SMNB_INTERACTIVE", "1"), ("0", "1"))
    return value == "1"


def enable() -> None:
    """Prepare a notebook for figures: call it once, in a cell of its own, before the first figure.

    bokeh's core JavaScript is put into this cell's output (about 0.5 MB; ``hv.extension("bokeh", inline=True)`` and
    ``import hvplot.pandas`` put there many times that), so that interactive figures need no internet, neither in JupyterLab
    nor in the notebook's HTML. ``.hvplot`` then works on pandas and xarray objects, and what it returns shows itself. With
    SMNB_INTERACTIVE=0 figures are PNG alone, and ``.hvplot`` shows its text.
    """
    from IPython import get_ipython
    from IPython.display import HTML, display

    from smnb.plots.twins import register_hvplot

    register_hvplot()
    if not interactive_wanted():
        return
    if (shell := get_ipython()) is not None:
        import holoviews as hv

        shell.display_formatter.formatters["text/html"].for_type(hv.core.Dimensioned, figure_html)
    display(HTML(loader_html()))
    _state["loader_shown"] = True


def png_bytes(figure: Figure, *, colours: int | None = None) -> bytes:
    """Return the figure as PNG at its own resolution, without the varying metadata of the writer.

    `colours` reduces it to a palette of so many: 256 take a quarter of the bytes and are enough for a notebook.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=figure.dpi, metadata={"Software": None})
    if colours is None:
        return buffer.getvalue()
    small, how = io.BytesIO(), {"method": PIL.Image.Quantize.FASTOCTREE, "dither": PIL.Image.Dither.NONE}
    PIL.Image.open(buffer).convert("RGB").quantize(colours, **how).save(small, format="PNG", optimize=True)
    return small.getvalue()


def look_of(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and hatch by label, so that a grey print tells sides (or any other few labels) apart too."""
    known = iter([(c, h) for (c, _), h in zip(LINES, ("", "////", "....", "xx", "", "\\\\", ""), strict=True)] * 20)
    return {name: _LOOK_OF_SIDES[name] if name in _LOOK_OF_SIDES else next(known) for name in names}


def said(title: str) -> str:
    """Return a title, which says so where the figure that is being drawn is of synthetic data."""
    return f"{title}{synthetic_label(_SYNTHETIC.get())}"


def panel_title(index: int | None, title: str, width: float) -> str:
    """Return "(a) title (synthetic)" in as many lines as `width` (inches) asks for; no letter without an index."""
    letter = "" if index is None else f"({chr(ord('a') + index % 26)}) "
    return "\n".join(textwrap.wrap(f"{letter}{said(title)}", max(12, int(width / (5.2 / 72)))))


def grid_behind(axes: Axes, axis: str = "both", which: str = "major") -> None:
    """Draw a light grid below the data."""
    axes.grid(axis=axis, which=which, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


def date_axis(axes: Axes, fewest: int = 3) -> None:
    """Label times as a person would."""
    locator = mpl.dates.AutoDateLocator(minticks=fewest, maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(mpl.dates.ConciseDateFormatter(locator))


def colour_bar(
    axes: Axes, limits: tuple[float, float], cmap: Any, label: str, values: Any, parts: int = 6, upright: bool = False
) -> None:
    """Draw a colour bar into `axes`, with round ticks and pointed where `values` leave the scale."""
    low, high = limits
    seen = np.concatenate([np.asarray(v)[np.isfinite(v)] for v in values])
    ends = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    look = {"orientation": "vertical" if upright else "horizontal", "extendfrac": 0.03}
    look["extend"] = ends[bool(seen.min() < low - 1e-12), bool(seen.max() > high + 1e-12)]
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
