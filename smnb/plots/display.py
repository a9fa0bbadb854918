"""Showing figures in a notebook so that they work without the internet, and writing them to files."""

from __future__ import annotations

import base64
import gzip
import html
import io
import json
import os
import uuid
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import bokeh
import PIL.Image
from bokeh.core.validation import silence
from bokeh.core.validation.warnings import FIXED_SIZING_MODE
from bokeh.embed import json_item
from bokeh.resources import Resources
from matplotlib.figure import Figure

from smnb.contract import ParameterError
from smnb.files import atomic_path, write_text

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


@lru_cache(maxsize=1)
def loader_html() -> str:
    """HTML that loads bokeh's core from within the page: gzipped, a third of the size that inline resources take."""
    raw = Resources(mode="inline", components=["bokeh"], minified=True).js_raw
    text = "\n".join(part for part in raw if "function(root, factory)" in part)
    # mtime=0: the same bytes in every run, so that executed notebooks differ only where their results do
    packed = base64.b64encode(gzip.compress(text.encode("utf-8"), 9, mtime=0)).decode("ascii")
    return _LOADER.format(version=bokeh.__version__, packed=packed)


def figure_html(interactive: Any) -> str:
    """HTML of one interactive figure, data included, for a page that holds `loader_html` once.

    Parameters
    ----------
    interactive : holoviews object or bokeh model

    Returns
    -------
    str
        A ``<div>`` and its ``<script>``.
    """
    model = _bokeh_model(interactive)
    # holoviews sizes the frame, not the figure, which bokeh warns of for every panel though it draws it well
    silence(FIXED_SIZING_MODE, True)
    try:
        item = json.dumps(json_item(model), separators=(",", ":")).replace("</", "<\\/")
    finally:
        silence(FIXED_SIZING_MODE, False)
    target = f"smnb-{uuid.uuid4().hex}"
    return _FIGURE.format(target=target, item=item, version=bokeh.__version__, waiting=html.escape(_WAITING))


def _bokeh_model(interactive: Any) -> Any:
    if isinstance(interactive, bokeh.model.Model):
        return interactive
    from smnb.plots.interactive import renderer

    return renderer().get_plot(interactive).state


def interactive_wanted(interactive: bool | None = None) -> bool:
    """Return `interactive`, or what the environment variable SMNB_INTERACTIVE says (default yes).

    Raises
    ------
    ParameterError
        Where the variable is neither 0 nor 1.
    """
    if interactive is not None:
        return interactive
    value = os.environ.get(_SWITCH, "1")
    if value not in ("0", "1"):
        raise ParameterError(
            "smnb.plots", f"environment variable {_SWITCH} is not a switch", got=value, expected=["0", "1"]
        )
    return value == "1"


def enable(interactive: bool | None = None) -> None:
    """Prepare a notebook for figures: call it once, in a cell of its own, before the first figure.

    Static figures then show themselves as PNG. With `interactive`, bokeh's core JavaScript is put into this cell's
    output (about 0.5 MB; ``hv.extension("bokeh", inline=True)`` puts there many times that), so that interactive
    figures need no internet, neither in JupyterLab nor in the notebook's HTML.

    Parameters
    ----------
    interactive : bool, optional
        Default what SMNB_INTERACTIVE says.
    """
    from IPython import get_ipython
    from IPython.display import HTML, display

    shell = get_ipython()
    if shell is not None:
        shell.display_formatter.formatters["image/png"].for_type(Figure, partial(png_bytes, colours=256))
    if interactive_wanted(interactive):
        display(HTML(loader_html()))
        _state["loader_shown"] = True


def show_pair(static: Figure, interactive: Any = None, *, enabled: bool | None = None) -> None:
    """Show the static figure as PNG and below it, where wanted, its interactive twin.

    The two are separate outputs: a page that runs no JavaScript shows the first.

    Parameters
    ----------
    static : matplotlib.figure.Figure
    interactive : holoviews object, bokeh model, or function of no argument that returns one, optional
        A function is called only where the figure is wanted, which spares its making in batch runs.
    enabled : bool, optional
        Whether to show `interactive`; default what SMNB_INTERACTIVE says.
    """
    from IPython.display import HTML, Image, display

    display(Image(data=png_bytes(static, colours=256), format="png"))
    if interactive is None or not interactive_wanted(enabled):
        return
    if not _state["loader_shown"]:
        enable(True)
    made = interactive() if callable(interactive) and not hasattr(interactive, "opts") else interactive
    display(HTML(figure_html(made)))


def png_bytes(figure: Figure, *, colours: int | None = None) -> bytes:
    """Return the figure as PNG at its own resolution, without the varying metadata of the writer.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    colours : int, optional
        Reduce it to a palette of so many: 256 take a quarter of the bytes and are enough for a notebook.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=figure.dpi, metadata={"Software": None})
    if colours is None:
        return buffer.getvalue()
    small = io.BytesIO()
    reduced = (
        PIL.Image.open(buffer)
        .convert("RGB")
        .quantize(colours, method=PIL.Image.Quantize.FASTOCTREE, dither=PIL.Image.Dither.NONE)
    )
    reduced.save(small, format="PNG", optimize=True)
    return small.getvalue()


def save_png(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write the figure as PNG, whole or not at all, and return the path.

    Raises
    ------
    ParameterError
        Where the name does not end in ``.png``.
    """
    if Path(path).suffix.lower() != ".png":
        raise ParameterError("save_png", "the name does not end in .png", got=str(path))
    with atomic_path(path) as temporary:
        temporary.write_bytes(png_bytes(figure))
    return Path(path)


def save_html(interactive: Any, path: str | os.PathLike[str], *, title: str) -> Path:
    """Write an interactive figure as one HTML page that opens without the internet, and return the path."""
    head = f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title></head>'
    body = f"<body>\n{loader_html()}\n{figure_html(interactive)}\n</body></html>\n"
    return write_text(path, head + body)
