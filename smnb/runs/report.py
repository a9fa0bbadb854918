"""The report of a run: each notebook as a page that opens offline, and an index with one table of metrics."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from smnb.contract import RunError
from smnb.files import write_text

from .record import read_record
from .worker import quick_imports

# nbconvert's page without its scripts from other hosts: require.js, MathJax, mermaid, widgets
_TEMPLATE = """{% extends 'lab/index.html.j2' %}
{% block html_head_js %}{% endblock %}
{% block jupyter_widgets %}{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}
{% block html_head_js_mermaidjs %}{% endblock %}
"""

_STYLE = """
:root { color-scheme: light dark; --line: #8885; --soft: #8882; --warn: #b45309; }
@media (prefers-color-scheme: dark) { :root { --warn: #fbbf24; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
thead th { background: var(--soft); }
td.number { text-align: right; }
.mark { color: var(--warn); font-weight: 600; }
details { max-width: 40rem; }
code { font-size: .9em; }
"""

#: Attributes and CSS through which a page loads something; a link to click (``<a href>``) does not.
_LOADING = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed|input)\b[^>]*?\s(?:src|srcset)\s*=\s*["']?\s*((?:https?:)?//[^"'\s>]+)
    |<link\b[^>]*?\shref\s*=\s*["']?\s*((?:https?:)?//[^"'\s>]+)
    |@import\s+(?:url\()?\s*["']?((?:https?:)?//[^"')\s;]+)
    |url\(\s*["']?((?:https?:)?//[^"')\s]+)""",
    re.IGNORECASE | re.VERBOSE,
)
# figures of panel and bokeh ask for style sheets by address in their JSON; bokeh's loader for scripts in js_urls
_STYLE_SHEET = re.compile(r'("name":"ImportedStyleSheet","id":"[^"]*","attributes":\{"url":")(https?://[^"]*)')
_LOADER = re.compile(r"""(\b(?:js_urls|js_modules|css_urls)\s*=\s*\[)\s*["'](https?://[^"']+)[^\]]*""")
_INLINE_SCRIPT = re.compile(r"(<script\b[^>]*>)(.*?)(</script\s*>)", re.IGNORECASE | re.DOTALL)


def external_resources(page: str) -> list[str]:
    """Addresses from which an HTML page would load something when it is opened.

    Looks at tags, style rules, and in inline scripts at how bokeh and panel load theirs; not at other scripts' text.

    Examples
    --------
    >>> external_resources('<a href="https://a.org">a</a><script src="https://b.org/c.js"></script>')
    ['https://b.org/c.js']
    """
    markup = _INLINE_SCRIPT.sub(r"\1\3", page)
    found = [next(filter(None, match.groups())) for match in _LOADING.finditer(markup)]
    for script in _INLINE_SCRIPT.finditer(page):
        found += [match.group(2) for match in _STYLE_SHEET.finditer(script.group(2))]
        found += [match.group(2) for match in _LOADER.finditer(script.group(2))]
    return found


def _offline(page: str) -> str:
    """Take away the tags and style rules that load from another host."""
    scripts: list[str] = []

    def put_aside(match: re.Match[str]) -> str:
        scripts.append(_LOADER.sub(r"\1", _STYLE_SHEET.sub(r"\1data:text/css,", match.group(2))))
        return f"{match.group(1)}\0{len(scripts) - 1}\0{match.group(3)}"

    host = r"""["']?\s*(?:https?:)?//"""
    page = _INLINE_SCRIPT.sub(put_aside, page.replace("\0", ""))
    page = re.sub(rf"<script\b[^>]*?\ssrc\s*=\s*{host}[^>]*>.*?</script\s*>", "", page, flags=re.I | re.S)
    page = re.sub(rf"<iframe\b[^>]*?\ssrc\s*=\s*{host}[^>]*>(.*?</iframe\s*>)?", "", page, flags=re.I | re.S)
    page = re.sub(rf"<link\b[^>]*?\shref\s*=\s*{host}[^>]*>", "", page, flags=re.I)
    page = re.sub(rf"@import\s+(?:url\(\s*)?{host}[^;]*;", "", page, flags=re.I)
    page = re.sub(rf"url\(\s*{host}[^)]*\)", "none", page, flags=re.I)
    address = r"""(?:"\s*(?:https?:)?//[^"]*"|'\s*(?:https?:)?//[^']*'|(?:https?:)?//[^\s>]*)"""
    page = re.sub(rf"(<[a-z]+\b[^>]*?\s)(?:src|srcset)\s*=\s*{address}", r"\1", page, flags=re.I)
    return re.sub(r"\0(\d+)\0", lambda match: scripts[int(match.group(1))], page)


def _notebook_page(path: Path) -> str:
    """Convert an executed notebook to one HTML page with everything inside; what lies on other hosts is left out."""
    with quick_imports():
        import nbformat
        from nbconvert import HTMLExporter

    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.pop("widgets", None)
    notebook.metadata["title"] = path.stem
    for cell in notebook.cells:
        if cell.cell_type == "code":  # bokeh leaves outputs without any content, which nbconvert warns about
            cell.outputs = [output for output in cell.outputs if output.get("data", True)]
    exporter = HTMLExporter(raw_template=_TEMPLATE, embed_images=True)
    page, _ = exporter.from_notebook_node(notebook, {"metadata": {"path": str(path.parent), "name": path.stem}})
    left_out = sorted(set(external_resources(page)))
    if left_out:
        listed = "".join(f"<li><code>{html.escape(one)}</code></li>" for one in left_out)
        note = f"<details><summary>Left out, since it is on the network</summary><ul>{listed}</ul></details>"
        page = _offline(page).replace("</main>", f"{note}</main>", 1)
    return page


def write_report(folder: str | os.PathLike[str]) -> Path:
    """Write ``index.html`` and a page for each executed notebook of a run; return the index's path.

    Parameters
    ----------
    folder : path-like
        The run's folder, as `smnb.runs.run_notebooks` leaves it.

    Raises
    ------
    RunError
        When the folder holds no executed notebook.
    """
    folder = Path(folder)
    failed = {path.name.removesuffix(".failed.ipynb"): path for path in sorted(folder.glob("[!.]*.failed.ipynb"))}
    done = {path.stem: path for path in sorted(folder.glob("[!.]*.ipynb")) if path not in failed.values()}
    names = sorted({*failed, *done})
    if not names:
        raise RunError(
            "smnb report",
            "no executed notebook in this folder",
            got=folder.name,
            next_step=f"Execute some first: smnb run --name {folder.name}",
        )
    rows, records = [], []
    for name in names:
        source = failed.get(name) or done[name]
        page = source.with_suffix(".html")
        if not page.is_file() or page.stat().st_mtime_ns <= source.stat().st_mtime_ns:
            write_text(page, _notebook_page(source))
        record_path = folder / f"{name}.record.json"
        record = read_record(record_path) if record_path.is_file() and name not in failed else {}
        if record:
            records.append(record)
        state_path = folder / f"{name}.state.json"
        state = json.loads(state_path.read_text(encoding="utf-8")) if state_path.is_file() else {}
        status = "failed" if name in failed else "done" if state else "executed outside smnb run"
        rows.append(_notebook_row(name, page, status, state, record))
    return write_text(folder / "index.html", _index(folder.name, rows, records))


def _notebook_row(name: str, page: Path, status: str, state: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    seconds = state.get("seconds", record.get("wall_seconds"))
    parameters = record.get("parameters") or state.get("parameters", {}).get("given", {})
    listed = "".join(f"<br><code>{html.escape(f'{k} = {v!r}')}</code>" for k, v in parameters.items())
    more = f'<a href="{name}.record.json">record</a>' if record else ""
    wall = "" if seconds is None else f"{seconds:.1f} s"
    return (
        f'<tr><td><a href="{html.escape(page.name)}">{html.escape(name)}</a></td>'
        f"<td>{f'<span class=mark>{status}</span>' if status != 'done' else status}</td>"
        f'<td class="number">{wall}</td><td>{html.escape(str(record.get("device") or ""))}</td>'
        f"<td>{_mark(record)}</td><td><details><summary>{len(parameters)} parameters</summary>{listed}</details></td>"
        f"<td>{more}</td></tr>"
    )


def _mark(record: Mapping[str, Any]) -> str:
    return '<span class="mark">synthetic</span>' if record.get("synthetic") else ""


def metric_rows(metrics: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of nested metrics: the path (model, split) as a label, and the numbers that lie directly there.

    Examples
    --------
    >>> list(metric_rows({"cnn": {"test": {"rmse": 0.05, "r": 0.9}}, "seconds": 2.0}))
    [('', {'seconds': 2.0}), ('cnn / test', {'rmse': 0.05, 'r': 0.9})]
    """
    here = {key: value for key, value in metrics.items() if not isinstance(value, Mapping)}
    if here:
        yield " / ".join(path), here
    for key, value in metrics.items():
        if isinstance(value, Mapping):
            yield from metric_rows(value, (*path, str(key)))


_FIRST = ("n_sensors", "n", "r", "pearson_r", "r2", "rmse", "ubrmse", "bias", "anomaly_r", "rmse_scaled")


def _index(name: str, notebooks: list[str], records: list[dict[str, Any]]) -> str:
    rows = [(record, label, values) for record in records for label, values in metric_rows(record["metrics"])]
    found = dict.fromkeys(column for _, _, values in rows for column in values)
    # scores first, so that what a reader looks for is on the page without scrolling
    columns = [column for column in _FIRST if column in found] + [column for column in found if column not in _FIRST]
    body = []
    for record, label, values in rows:
        cells = "".join(f'<td class="number">{_shown(values, column)}</td>' for column in columns)
        first = f"<td>{html.escape(record['notebook'])}</td><td>{html.escape(label)}</td>"
        body.append(f"<tr>{first}<td>{_mark(record)}</td>{cells}</tr>")
    heads = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    synthetic = any(record.get("synthetic") for record in records)
    note = '<p class="mark">Some of these numbers come from synthetic data; they are marked.</p>' if synthetic else ""
    table = (
        f"<thead><tr><th>notebook</th><th>model / split</th><th></th>{heads}</tr></thead><tbody>{''.join(body)}</tbody>"
    )
    scores = f'<div class="wide"><table>{table}</table></div>' if rows else "<p>No notebook recorded any metric.</p>"
    head = "".join(f"<th>{text}</th>" for text in ("notebook", "status", "wall time", "device", "", "", ""))
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>smnb run {html.escape(name)}</title><style>{_STYLE}</style></head>\n<body>"
        f"<h1>Run {html.escape(name)}</h1>{note}\n<h2>Notebooks</h2>"
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(notebooks)}</tbody></table></div>'
        f"\n<h2>Metrics</h2>{scores}\n</body></html>\n"
    )


def _shown(values: Mapping[str, Any], column: str) -> str:
    """Format a number with four significant digits; a dash where there is none, nan where it was not finite."""
    if column not in values:
        return "–"
    value = values[column]
    return "nan" if value is None else f"{value:d}" if isinstance(value, int) else f"{value:.4g}"
