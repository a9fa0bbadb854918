"""Showing figures in a notebook so that they work without the internet, and writing them to files."""

from __future__ import annotations

import base64
import functools
import gzip
import html
import importlib
import inspect
import io
import json
import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bokeh
import matplotlib as mpl
import PIL.Image
from bokeh.core.validation import silence
from bokeh.core.validation.warnings import FIXED_SIZING_MODE
from bokeh.embed import json_item
from bokeh.resources import Resources
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from smnb.contract import ParameterError, synthetic_label
from smnb.files import atomic_path

WIDTH = 7.0
DPI = 150
#: Sizes that stay legible when a figure is printed at half its size.
STYLE = {"axes.linewidth": 0.8, "font.family": "DejaVu Sans", "savefig.dpi": DPI}
STYLE |= dict.fromkeys(["font.size", "axes.titlesize", "axes.labelsize"], 10.0)
STYLE |= dict.fromkeys(["xtick.labelsize", "ytick.labelsize", "legend.fontsize"], 9.0)
_SWITCH = "SMNB_INTERACTIVE"
_state = {"loader_shown": False}

# bokeh registers itself under its version as well, so another bokeh on the page (JupyterLab shows several notebooks in
# one) is neither used nor replaced. The script goes through a <script> element, since `this` must be the window.
_LOADER = """<script>(function(){{
  if (window.Bokeh && window.Bokeh["{version}"]) return;
  if (typeof DecompressionStream === "undefined") return;
  var packed = Uint8Array.from(atob("{packed}"), function(c) {{ return c.charCodeAt(0); }});
  var stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  new Response(stream).text().then(function(text) {{
    var script = document.createElement("script");
    script.textContent = text;
    document.head.appendChild(script);
  }});
}})();</script>"""

_FIGURE = """<div id="{target}"><em class="smnb-waiting">{waiting}</em></div>
<script>(function(){{
  var item = {item}, tries = 0;
  (function draw() {{
    var place = document.getElementById("{target}"), ours = window.Bokeh && window.Bokeh["{version}"];
    if (place && ours) {{ place.textContent = ""; ours.embed.embed_item(item, "{target}"); }}
    else if (tries++ < 600) setTimeout(draw, 100);
  }})();
}})();</script>"""

_WAITING = "Interactive version of the figure (it needs JavaScript, and plots.enable() once in the notebook)."


@functools.lru_cache(maxsize=1)
def loader_html() -> str:
    """HTML that loads bokeh's core from within the page: gzipped, a third of the size that inline resources take."""
    raw = Resources(mode="inline", components=["bokeh"], minified=True).js_raw
    text = "\n".join(part for part in raw if "function(root, factory)" in part)
    # mtime=0: the same bytes in every run, so that executed notebooks differ only where their results do
    packed = base64.b64encode(gzip.compress(text.encode("utf-8"), 9, mtime=0)).decode("ascii")
    return _LOADER.format(version=bokeh.__version__, packed=packed)


def figure_html(interactive: Any) -> str:
    """HTML of a holoviews object or a bokeh model, data included, for a page that holds `loader_html` once."""
    from smnb.plots.twins import renderer

    is_model = isinstance(interactive, bokeh.model.Model)
    model = interactive if is_model else renderer().get_plot(interactive).state
    # holoviews sizes the frame, not the figure, which bokeh warns of for every panel though it draws it well
    silence(FIXED_SIZING_MODE, True)
    try:
        item = json.dumps(json_item(model), separators=(",", ":")).replace("</", "<\\/")
    finally:
        silence(FIXED_SIZING_MODE, False)
    target = f"smnb-{uuid.uuid4().hex}"
    return _FIGURE.format(target=target, item=item, version=bokeh.__version__, waiting=html.escape(_WAITING))


class Picture(Figure):
    """A matplotlib figure that a notebook shows as PNG, and where wanted with its interactive twin below.

    The two are separate outputs: a page that runs no JavaScript shows the first. pyplot does not know the figure, so that a
    notebook shows it once and nothing keeps it alive.
    """

    #: Colours of the PNG in a notebook: 256 take a quarter of the bytes. None keeps all, for photographs.
    palette: int | None = 256
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

    def _ipython_display_(self) -> None:
        from IPython.display import HTML, Image, display

        display(Image(data=png_bytes(self, colours=self.palette), format="png"))
        if self.twin is not None and interactive_wanted():
            if not _state["loader_shown"]:
                enable()
            display(HTML(figure_html(self.twin())))


def picture(*, twin: bool) -> Callable[[Callable[..., Picture]], Callable[..., Picture]]:
    """Give a function that draws ``save=``, and ``synthetic=`` by default what the data say.

    With `twin`, the function of `smnb.plots.twins` of the same name with "_twin" makes the twin from the same arguments.
    """

    def wrap(draw: Callable[..., Picture]) -> Callable[..., Picture]:
        signature = inspect.signature(draw)

        @functools.wraps(draw)
        def shown(*arguments: Any, save: str | os.PathLike[str] | None = None, **named: Any) -> Picture:
            bound = signature.bind(*arguments, **named)
            bound.apply_defaults()
            given = bound.arguments
            if given["synthetic"] is None:
                given["synthetic"] = _says_synthetic(given)
            with mpl.rc_context(STYLE):
                figure = draw(*bound.args, **bound.kwargs)
            if twin:  # its libraries are imported where one is wanted
                figure.twin = functools.partial(_make_twin, f"{draw.__name__}_twin", given)
            if save is not None:
                figure.save(save)
            return figure

        extra = inspect.Parameter("save", inspect.Parameter.KEYWORD_ONLY, default=None)
        shown.__signature__ = signature.replace(parameters=[*signature.parameters.values(), extra])
        return shown

    return wrap


def _says_synthetic(data: Any) -> bool:
    if isinstance(data, Mapping):
        return any(map(_says_synthetic, data.values()))
    return bool(getattr(data, "attrs", {}).get("synthetic", False))


def _make_twin(name: str, arguments: Mapping[str, Any]) -> Any:
    twins = importlib.import_module("smnb.plots.twins")
    twins.renderer()
    return getattr(twins, name)(SimpleNamespace(**arguments, said=synthetic_label(arguments["synthetic"])))


def interactive_wanted() -> bool:
    """Return what the environment variable SMNB_INTERACTIVE says, by default yes."""
    value = os.environ.get(_SWITCH, "1")
    if value not in ("0", "1"):
        raise ParameterError("smnb.plots", f"variable {_SWITCH} is not a switch", got=value, expected=["0", "1"])
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
    shell = get_ipython()
    if shell is not None:
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
    small = io.BytesIO()
    method, dither = PIL.Image.Quantize.FASTOCTREE, PIL.Image.Dither.NONE
    reduced = PIL.Image.open(buffer).convert("RGB").quantize(colours, method=method, dither=dither)
    reduced.save(small, format="PNG", optimize=True)
    return small.getvalue()
