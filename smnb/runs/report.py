"""Reports: each notebook as a page that opens offline, the index of a run with one table of metrics, a sweep's page."""

from __future__ import annotations

import html
import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from smnb.contract import RunError, foreign
from smnb.files import write_text

from .record import leaves, read_record, read_state
from .worker import quick_imports

_TEMPLATES = Path(__file__).with_name("templates")
#: What loads something from another host, in markup and in scripts, with what stands in its place.
_NETWORK = yaml.safe_load((_TEMPLATES / "network.yaml").read_text(encoding="utf-8"))
_INLINE_SCRIPT = re.compile(r"(<script\b[^>]*>)(.*?)(</script\s*>)", re.IGNORECASE | re.DOTALL)


def offline(page: str) -> tuple[str, list[str]]:
    """Take away what an HTML page would load from another host; return the rest, and the addresses."""
    addresses: list[str] = []
    scripts: list[str] = []

    def without(text: str, where: str) -> str:
        for pattern, rest in _NETWORK[where]:

            def leave_out(match: re.Match[str], rest: str = rest) -> str:
                addresses.append(match["url"])
                return match.expand(rest)

            text = re.sub(pattern, leave_out, text, flags=re.I | re.S)
        return text

    def put_aside(match: re.Match[str]) -> str:
        scripts.append(without(match.group(2), "in_scripts"))
        return f"{match.group(1)}\0{len(scripts) - 1}\0{match.group(3)}"

    page = without(_INLINE_SCRIPT.sub(put_aside, page.replace("\0", "")), "in_markup")
    return re.sub(r"\0(\d+)\0", lambda match: scripts[int(match.group(1))], page), addresses


def _notebook_page(path: Path) -> str:
    """Convert an executed notebook to one HTML page with everything inside; what lies on other hosts is left out."""
    with quick_imports():
        import nbformat
        from nbconvert import HTMLExporter

    template = (_TEMPLATES / "notebook.html").read_text(encoding="utf-8")
    with foreign("smnb report", f"{path} is damaged", RunError, "Execute it again, with --force"):
        notebook = nbformat.read(path, as_version=4)
        notebook.metadata.pop("widgets", None)
        notebook.metadata["title"] = path.stem
        for cell in notebook.cells:
            if cell.cell_type == "code":  # bokeh leaves outputs without any content, which nbconvert warns about
                cell.outputs = [output for output in cell.outputs if output.get("data", True)]
        exporter = HTMLExporter(raw_template=template, embed_images=True)
        page, _ = exporter.from_notebook_node(notebook, {"metadata": {"path": str(path.parent), "name": path.stem}})
    page, left_out = offline(page)
    listed = "".join(f"<li><code>{html.escape(one)}</code></li>" for one in sorted(set(left_out)))
    note = f"<details><summary>Left out, since it is on the network</summary><ul>{listed}</ul></details>"
    return page.replace("</main>", f"{note}</main>", 1) if left_out else page


def write_report(folder: str | os.PathLike[str]) -> Path:
    """Write ``index.html`` and a page for each executed notebook of a run's folder (`RunError` without any); return its path."""
    folder = Path(folder)
    failed = {path.name.removesuffix(".failed.ipynb"): path for path in sorted(folder.glob("[!.]*.failed.ipynb"))}
    done = {path.stem: path for path in sorted(folder.glob("[!.]*.ipynb")) if path not in failed.values()}
    names = sorted({*failed, *done})
    if not names:
        step = f"Execute some first: smnb run --name {folder.name}"
        raise RunError("smnb report", "no executed notebook in this folder", got=folder.name, next_step=step)
    notebooks = []
    for name in names:
        source, record_path = failed.get(name) or done[name], folder / f"{name}.record.json"
        page = source.with_suffix(".html")
        if not page.is_file() or page.stat().st_mtime_ns <= source.stat().st_mtime_ns:
            write_text(page, _notebook_page(source))
        record = read_record(record_path) if record_path.is_file() and name not in failed else {}
        state = read_state(folder, name)
        status = "failed" if name in failed else "done" if state else "executed outside smnb run"
        notebooks.append({"name": name, "page": page.name, "status": status, "record": record, "state": state})
    records = [row["record"] for row in notebooks if row["record"]]
    metrics: list[tuple[str, str, bool | None, dict[str, Any]]] = []
    for record in records:
        rows: dict[str, dict[str, Any]] = {}  # by model and split, say
        for path, value in leaves(record["metrics"]):
            rows.setdefault(" / ".join(path[:-1]), {})[path[-1]] = value
        metrics += [(record["notebook"], label, record.get("synthetic"), one) for label, one in sorted(rows.items())]
    found = dict.fromkeys(column for *_, values in metrics for column in values)
    # scores first, so that what a reader looks for is on the page without scrolling
    columns = [column for column in _FIRST if column in found] + [column for column in found if column not in _FIRST]
    marked = any(record.get("synthetic") for record in records)
    content = {"notebooks": notebooks, "metrics": metrics, "columns": columns, "synthetic": marked}
    return write_text(folder / "index.html", _page("run", f"run {folder.name}", **content))


def names_in(rows: Sequence[Mapping[str, Any]], what: str) -> list[str]:
    """Names of all members' parameters or metrics, in order."""
    return list(dict.fromkeys(name for row in rows for name in row[what]))


def write_sweep_page(out: Path, head: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write ``sweep.html``: a row a member, with links to the members' reports."""
    marked = any(row["synthetic"] for row in rows)
    counts = ", ".join(f"{number} {status}" for status, number in Counter(row["status"] for row in rows).items())
    reported = {row["member"] for row in rows if (out / row["member"] / "index.html").is_file()}
    names = {what: names_in(rows, what) for what in ("parameters", "metrics")}
    title = f"sweep {head['name']}" + (" (synthetic)" if marked else "")
    content = {"head": head, "rows": rows, "reported": reported, "synthetic": marked, "counts": counts}
    return write_text(out / "sweep.html", _page("sweep", title, **content, **names))


def _page(template: str, title: str, **content: Any) -> str:
    """Fill a template; everything is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    how = {"autoescape": True, "undefined": StrictUndefined, "trim_blocks": True}
    pages = Environment(loader=FileSystemLoader(_TEMPLATES), **how)
    pages.filters["text"] = lambda value: value if isinstance(value, str) else json.dumps(value)
    return pages.get_template(f"{template}.html").render(title=title, shown=_shown, **content)


_FIRST = ("n_sensors", "n", "r", "pearson_r", "r2", "rmse", "ubrmse", "bias", "anomaly_r", "rmse_scaled")


def _shown(values: Mapping[str, Any], column: str) -> str:
    """Format a number with four significant digits; a dash where there is none, nan where it was not finite."""
    if column not in values:
        return "–"
    value = values[column]
    return "nan" if value is None else f"{value:d}" if isinstance(value, int) else f"{value:.4g}"
