"""What a notebook may be given: the parameters that it declares in its cell tagged ``parameters``, and the presets.

A declaration is ``epochs: int or None = None  # passes over the data`` (``int | None`` means the same, but papermill would warn
of it). ``params/quick.yaml`` and others hold what every notebook takes, the preset's name; ``params/settings.yaml`` what a preset
means to one: ``02_train_amsre_cnn_svr: {epochs: {quick: 3, full: 30, paper: 100}}``.
"""

from __future__ import annotations

import ast
import io
import os
import tokenize
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Annotated, Any, ClassVar

import yaml
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from smnb.catalog.limits import BoundedLoader, load_yaml
from smnb.contract import FormatError, ParameterError, check_choice, closest, foreign, plain
from smnb.files import read_json

_SCALARS = {"int": int, "float": Annotated[float, Field(allow_inf_nan=False)], "str": str, "bool": bool}
_TYPES = _SCALARS | {f"list[{name}]": list[_SCALARS[name]] for name in ("str", "int", "float")}
_SETTINGS = "settings.yaml"
#: Texts that mean None where a declared type allows it; elsewhere they are text.
_NONE = ("", "~", "null", "Null", "NULL", "None")


class Written(str):
    """A value as a person wrote it, without quotes: what it means is what the declared type says, not how it looks."""


@dataclass(frozen=True)
class Parameter:
    """One declared parameter of a notebook."""

    name: str
    type: str  # A key of `_TYPES`
    optional: bool  # whether None is allowed; it means that the preset decides
    default: Any
    comment: str
    choices: tuple[str, ...] | None = None  # the values that it may have, where the notebook's metadata name them

    @property
    def expected(self) -> str:
        """The type in words, as an error prints it."""
        return f"{self.type} or None" if self.optional else self.type

    def check(self, who: str, value: Any) -> Any:
        """Return `value` as the declared type: an int becomes a float, a date text, `Written` what the type reads in it."""
        if self.optional and (value is None or (isinstance(value, Written) and value in _NONE)):
            return None
        try:
            found = self._read(value)
        except (ValidationError, yaml.YAMLError) as error:
            kind = "str" if isinstance(value, Written) else type(value).__name__
            what = f"parameter {self.name!r} is {value!r} ({kind})"
            step = f"The notebook says: {self.comment}" if self.comment else None
            raise ParameterError(who, what, expected=plain(self.expected), next_step=step) from error
        if self.choices is not None:
            check_choice(who, self.name, found, self.choices)
        return found

    def _read(self, value: Any) -> Any:
        of_list, item = self.type.startswith("list["), self.type.removeprefix("list[").rstrip("]")
        if of_list and isinstance(value, Written):
            value = parse_yaml(value) or []
        if not of_list or not isinstance(value, list | tuple):
            return self._read_one(value, self.type)
        return [self._read_one(one, item) for one in value]

    @staticmethod
    def _read_one(value: Any, kind: str) -> Any:
        if isinstance(value, Written):
            return str(value) if kind == "str" else TypeAdapter(_TYPES[kind]).validate_strings(str(value))
        if kind == "str" and isinstance(value, date):
            return value.isoformat()
        return TypeAdapter(_TYPES[kind]).validate_python(value, strict=True)


class _Asked(BaseModel):
    """What a notebook's metadata say to smnb."""

    needs: list[str] = []
    choices: dict[str, list[str]] = {}
    catalog_ids: list[str] | None = None


class _Metadata(BaseModel):
    tags: list[str] = []
    smnb: _Asked = _Asked()


class _Cell(BaseModel):
    cell_type: str
    source: str | list[str]
    metadata: _Metadata = _Metadata()


class _Notebook(BaseModel):
    """What is read of a Jupyter notebook of format 4."""

    cells: list[_Cell]
    metadata: _Metadata = _Metadata()


def read_notebook(path: str | os.PathLike[str]) -> _Notebook:
    """Read a notebook, each cell's source one string; `FormatError` unless it is of Jupyter's format 4."""
    step = "Restore the file, or save it again from JupyterLab"
    content = read_json(path, _Notebook, "a Jupyter notebook of format 4", next_step=step, by_hand=True)
    for cell in content.cells:
        cell.source = "".join(cell.source)
    return content


def notebook_folder(start: str | os.PathLike[str] | None = None, *, holding: str | None = None) -> Path:
    """Folder of the numbered notebooks.

    Taken from the environment variable ``SMNB_NOTEBOOK_DIR``; else the nearest ``notebooks/`` from `start` (default:
    the current folder) upwards; else the one of the checkout that the package runs from. One that has the file `holding`
    goes before one that has not. `ParameterError` when there is none, or ``SMNB_NOTEBOOK_DIR`` is no folder.
    """
    given = os.environ.get("SMNB_NOTEBOOK_DIR")
    if given:
        if not Path(given).is_dir():
            raise ParameterError("SMNB_NOTEBOOK_DIR", "names no folder", got=given)
        return Path(given).resolve()
    here = Path(start or Path.cwd()).resolve()
    candidates = [folder / rest for folder in (here, *here.parents) for rest in (".", "notebooks")]
    candidates.append(Path(__file__).resolve().parents[2] / "notebooks")
    found = [one for one in candidates if one.name == "notebooks" and any(one.glob("[0-9][0-9]_*.ipynb"))]
    if found:
        return next((one for one in found if holding and (one / holding).is_file()), found[0])
    step = "Run it in the checkout, or set SMNB_NOTEBOOK_DIR"
    raise ParameterError("smnb", "found no folder 'notebooks' with numbered notebooks", got=str(here), next_step=step)


def find_notebook(name: str | os.PathLike[str], folder: str | os.PathLike[str] | None = None) -> Path:
    """Path of a notebook by its name, number ("02") or file; `ParameterError` for none, or a number of several."""
    stem = Path(name).name.removesuffix(".ipynb")
    stem = f"{int(stem):02d}" if stem.isdecimal() else stem
    if folder is None and Path(name).suffix == ".ipynb" and Path(name).is_file():
        return Path(name).resolve()
    folder = Path(folder) if folder is not None else notebook_folder()
    known = sorted(path.stem for path in folder.glob("[0-9][0-9]_*.ipynb"))
    if stem in known:
        return folder / f"{stem}.ipynb"
    matches = [one for one in known if stem and one.startswith(f"{stem}_")]
    if len(matches) == 1:
        return folder / f"{matches[0]}.ipynb"
    what = "several notebooks fit" if matches else "no such notebook"
    raise ParameterError("smnb run", what, got=stem, expected=matches or known, next_step=closest(stem, known))


def declared_parameters(notebook: str | os.PathLike[str]) -> dict[str, Parameter]:
    """Return the parameters that a notebook declares in its cell tagged ``parameters``, in their order.

    `FormatError` when there is not exactly one such cell, or it holds anything but ``name: type = literal  # comment``.
    """
    path = Path(notebook)
    content = read_notebook(path)
    choices = content.metadata.smnb.choices
    cells = [cell for cell in content.cells if "parameters" in cell.metadata.tags]
    if len(cells) != 1:
        raise FormatError(path.name, "a notebook has one cell tagged 'parameters'", got=len(cells), expected=1)
    source = cells[0].source
    with foreign(path.name, "the parameters cell is not Python"):
        tree = ast.parse(source)
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    comments = {token.start[0]: token.string.lstrip("# ").strip() for token in tokens if token.type == tokenize.COMMENT}
    declared: dict[str, Parameter] = {}
    for node in tree.body:
        parameter = _declaration(path.name, node, comments.get(node.end_lineno, ""))
        if parameter.name in declared:
            raise FormatError(path.name, f"parameter {parameter.name!r} is declared twice")
        known = choices.get(parameter.name)
        declared[parameter.name] = parameter if known is None else replace(parameter, choices=tuple(known))
    return declared


def _declaration(who: str, node: ast.stmt, comment: str) -> Parameter:
    if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None):
        what, expected = "the parameters cell holds more than declarations", plain("name: type = literal  # what it is")
        raise FormatError(who, what, got=ast.unparse(node), expected=expected)
    name, annotation = node.target.id, ast.unparse(node.annotation).replace("|", "or")
    kind, _, rest = (part.strip() for part in annotation.partition(" or "))
    if kind not in _TYPES or rest not in ("", "None"):
        what, got = f"parameter {name!r} has a type that papermill cannot pass", ast.unparse(node.annotation)
        raise FormatError(who, what, got=got, expected=list(_TYPES))
    if not comment:
        raise FormatError(who, f"parameter {name!r} has no trailing comment", next_step="Say what it is and its units")
    parameter = Parameter(name, kind, rest == "None", None, comment)
    try:
        return replace(parameter, default=parameter.check(who, ast.literal_eval(node.value)))
    except ValueError as error:  # of either
        problem = "has another type" if isinstance(error, ParameterError) else "is not a literal"
        got, expected = plain(ast.unparse(node.value)), plain(parameter.expected)
        raise FormatError(who, f"the default of parameter {name!r} {problem}", got=got, expected=expected) from error


def check_parameters(notebook: str | os.PathLike[str], values: Mapping[str, Any]) -> dict[str, Any]:
    """Check values against what a notebook declares (papermill itself only warns); return them as those types."""
    path = Path(notebook)
    declared = declared_parameters(path)
    refuse_unknown(path.stem, values, declared)
    return {name: declared[name].check(path.stem, value) for name, value in values.items()}


def refuse_unknown(who: str, names: Iterable[str], declared: Iterable[str]) -> None:
    """Raise `ParameterError` for the first name that is not declared."""
    for name in names:
        if name not in declared:
            known = list(declared)
            raise ParameterError(who, "unknown parameter", got=name, expected=known, next_step=closest(name, known))


def injected_names(history: Sequence[str]) -> list[str]:
    """Names that papermill assigned, from IPython's history of executed cells (the latest ``# Parameters`` cell)."""
    injected = [source for source in history if source.split("\n", 1)[0].strip() == "# Parameters"]
    try:
        tree = ast.parse(injected[-1] if injected else "")
    except SyntaxError:  # a user's own cell under that comment, with an IPython magic: papermill writes plain Python
        return []
    targets = [t for node in tree.body if isinstance(node, ast.Assign) for t in node.targets]
    targets += [node.target for node in tree.body if isinstance(node, ast.AnnAssign)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


class _Loader(BoundedLoader):
    """YAML whose plain scalars are `Written`: 010 is no octal, 12:30:45 no number, 2011-07-01 no date object."""

    yaml_implicit_resolvers: ClassVar[dict[str, list]] = {}

    def construct_scalar(self, node: yaml.ScalarNode) -> str:
        """Text; what stands in quotes is text for ever."""
        text = super().construct_scalar(node)
        return Written(text) if node.style is None else text


def parse_yaml(text: str) -> Any:
    """Parse YAML whose plain scalars stay as they are `Written`, for the declared types to read."""
    return load_yaml(text, _Loader)


def _read_yaml(path: Path) -> dict[str, Any]:
    with foreign(path.name, "not valid YAML", ParameterError):
        return _mapping(path.name, parse_yaml(path.read_text(encoding="utf-8")) or {})


def _mapping(who: str, content: Any) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ParameterError(who, "not a mapping of names to values", got=type(content).__name__)
    return content


def known_presets(folder: str | os.PathLike[str] | None = None) -> list[str]:
    """Names of the presets beside the notebooks of `folder`: ``params/*.yaml`` without settings.yaml."""
    params = Path(folder if folder is not None else notebook_folder()) / "params"
    return sorted(path.stem for path in params.glob("*.yaml") if path.name != _SETTINGS)


def preset_parameters(preset: str, folder: Path) -> dict[str, Any]:
    """Parameters of ``params/<preset>.yaml``: those that every notebook takes."""
    check_choice("smnb run", "preset", preset, known_presets(folder))
    return _read_yaml(folder / "params" / f"{preset}.yaml")


def preset_settings(notebook: str | os.PathLike[str], preset: str) -> dict[str, Any]:
    """Values that a preset gives to a notebook's optional parameters, from ``params/settings.yaml``, checked.

    `ParameterError` when the file names an unknown parameter or preset, one that never takes it (its default is not None),
    leaves out a preset, or gives a value of the wrong type.
    """
    path = Path(notebook)
    declared, known = declared_parameters(path), known_presets(path.parent)
    check_choice(path.stem, "preset", preset, known)
    source = path.parent / "params" / _SETTINGS
    who = f"{_SETTINGS}:{path.stem}"
    table = _mapping(who, (_read_yaml(source) if source.is_file() else {}).get(path.stem) or {})
    refuse_unknown(who, table, declared)
    settings = {}
    for name, by_preset in table.items():
        if declared[name].default is not None:
            what = f"parameter {name!r} never takes a preset's value"
            step = "Make its default None in the notebook, or drop it here"
            raise ParameterError(who, what, got=declared[name].default, next_step=step)
        if not isinstance(by_preset, dict) or sorted(by_preset) != known:
            raise ParameterError(who, f"parameter {name!r} wants one value a preset", got=by_preset, expected=known)
        settings[name] = declared[name].check(who, by_preset[preset])
    return settings
