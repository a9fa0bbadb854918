"""One product of the catalog: its keys, what they may be, and what is wrong with one that cannot be."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, TypeAdapter, ValidationError
from pydantic import model_validator as validator

from smnb.catalog.limits import BoundedLoader, load_yaml
from smnb.contract import CatalogError, closest, foreign


def _inside(path: str) -> str:
    """Refuse a path or glob that is not relative to the root, or climbs out of it."""
    if not path.strip() or PurePosixPath(path).is_absolute() or re.match(r"[A-Za-z]:|~|\\", path):
        raise ValueError(f"{path!r} is not a path relative to the data root")
    if ".." in re.split(r"[/\\]", path):
        raise ValueError(f"{path!r} leaves the data root")
    return path


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class NativeVariable(_Strict):
    """How a product itself calls a canonical variable."""

    native: str | list[str]  # name or names in the file
    units: str  # units in the file; the loader converts them and says so


def _checked(pattern: str, problem: str) -> Any:
    """Text of a form, or the problem with it."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(problem.format(repr(text)))
        return text

    return Annotated[str, AfterValidator(check)]


_Path = Annotated[str, AfterValidator(_inside)]
_Sentence = Annotated[str, Field(min_length=1)]


class UrlFile(_Strict):
    """One file that can be fetched without a login."""

    url: _checked(r"https?://[^/\s]+/\S+", "{} is not an http(s) URL of a file")
    sha256: Annotated[_checked(r"[0-9a-fA-F]{64}", "a SHA-256 is 64 hexadecimal digits"), AfterValidator(str.lower)]
    path: str = ""  # destination relative to the data root; default the last part of the URL

    @validator(mode="after")
    def _default_path(self) -> UrlFile:
        object.__setattr__(self, "path", _inside(self.path or PurePosixPath(self.url.split("?")[0]).name))
        return self


class FetchEarthaccess(_Strict):
    """Fetched with NASA's earthaccess (optional extra, free login)."""

    earthaccess: str  # short name of the collection
    folder: _Path  # destination folder relative to the data root
    version: _checked(r".*\d.*", "{} is no version, such as '009'") | None = None
    """Version of the collection; default the newest that has files of the period."""


class FetchByHand(_Strict):
    """Instructions to a person."""

    by_hand: _Sentence


def _kind_of_fetch(value: Any) -> str | None:
    if isinstance(value, list):
        return "url"
    return next((key for key in ("earthaccess", "by_hand") if isinstance(value, dict) and key in value), None)


_WAYS = "expected a list of {url, sha256}, or {earthaccess: …}, or {by_hand: …}"
_Fetch = Annotated[
    Annotated[list[UrlFile], Field(min_length=1), Tag("url")]
    | Annotated[FetchEarthaccess, Tag("earthaccess")]
    | Annotated[FetchByHand, Tag("by_hand")],
    Discriminator(_kind_of_fetch, custom_error_type="fetch", custom_error_message=_WAYS),
]


class Entry(_Strict):
    """One product of the catalog.

    Every key of an entry in `data_catalog.yaml` is a field here; an unknown key is an error.
    """

    description: _Sentence  # what the product is, in a sentence or two
    loader: _checked(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", "{} is not of the form 'package.module:function'")
    """``module:function`` of the loader."""
    files: Annotated[list[_Path], Field(min_length=1)]
    """Globs relative to the data root; an entry is present when at least one of them matches."""
    variables: Annotated[dict[str, NativeVariable], Field(min_length=1)]
    """Canonical variables that the loader must return, with their native names and units."""
    licence: _Sentence
    doi: Annotated[str, Field(pattern=r"^10\.\d{4,9}/\S+$")] | None = None
    landing_page: Annotated[str, Field(pattern=r"^https?://\S+$")] | None = None
    fetch: _Fetch
    options: dict[str, Any] = {}  # default options of the loader

    @validator(mode="after")
    def _fetched_files_are_found(self) -> Entry:
        if isinstance(self.fetch, list):
            for file in self.fetch:
                if not any(PurePosixPath(file.path).match(pattern.replace("**/", "*")) for pattern in self.files):
                    raise ValueError(f"fetch would write {file.path!r}, which matches none of the globs in 'files'")
        return self

    def how_to_get(self) -> str:
        """Say how a user gets the files."""
        if isinstance(self.fetch, FetchByHand):
            return self.fetch.by_hand
        if isinstance(self.fetch, FetchEarthaccess):
            return f"fetch with earthaccess (NASA Earthdata login): {self.fetch.earthaccess} into {self.fetch.folder}/"
        return "fetch by URL: " + ", ".join(file.url for file in self.fetch)


class _UniqueKeyLoader(BoundedLoader):
    """Plain data only, but a key given twice is an error instead of the last one winning."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Construct a mapping after checking that its keys differ."""
        seen: dict[Any, int] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key_node.tag == "tag:yaml.org,2002:merge" or not isinstance(key, str | int | float | bool):
                continue
            if key in seen:
                what = f"key {key!r} is given twice (first on line {seen[key]})"
                raise yaml.constructor.ConstructorError(None, None, what, key_node.start_mark)
            seen[key] = key_node.start_mark.line + 1
        return super().construct_mapping(node, deep=deep)


_Id = _checked(r"[a-z][a-z0-9_]*", "an entry's id is not lower case letters, digits and _")
_ENTRIES = TypeAdapter(Annotated[dict[_Id, Entry], Field(min_length=1)])


def read_entries(path: Path) -> dict[str, Entry]:
    """Read and check a file of entries by id; `CatalogError` for the first thing that is wrong."""
    if not path.exists():
        next_step = f"Run from a folder at or below one that holds {path.name}, or pass its path"
        raise CatalogError(str(path), "the catalog cannot be read: there is no such file", next_step=next_step)
    try:
        with foreign(path.name, "the catalog is not valid YAML", CatalogError):
            content = load_yaml(path.read_text(encoding="utf-8"), _UniqueKeyLoader)
        return _ENTRIES.validate_python(content)
    except ValidationError as error:
        raise _first_problem(path, error) from error


def _first_problem(path: Path, error: ValidationError) -> CatalogError:
    """Return the error to raise for the first of a file's problems."""
    problem = error.errors()[0]
    entry_id, *loc = problem["loc"] or ("",)
    keys = [str(part) for part in (loc[:-1] if loc and isinstance(loc[-1], int) else loc)]  # of a list's item, the list
    if keys[:1] == ["fetch"] and len(keys) > 1:
        del keys[1]  # the tag of the union, which is no key of the file
    where = f"{path.name}:{entry_id}".rstrip(":")
    key = f"key {'.'.join(keys)!r}" if keys and keys != ["[key]"] else "the entry" if entry_id else "the catalog"
    more = len(error.errors()) - 1
    rest = f" (and {more} more problem{'s' * (more > 1)})" if more else ""
    if problem["type"] == "extra_forbidden":
        known = list(Entry.model_fields) if len(keys) == 1 else None
        hint = closest(keys[-1], known or ["native", "units", "url", "sha256", "path", "folder", "version"])
        step = hint or "Correct or remove the key"
        return CatalogError(where, f"unknown {key}{rest}", expected=known, next_step=step)
    if problem["type"] == "missing":
        return CatalogError(where, f"{key} is missing{rest}", next_step="Add it; see the other entries")
    got = problem["input"]
    got = None if isinstance(got, (dict, list)) and len(str(got)) > 80 else got
    message = problem["msg"].removeprefix("Value error, ")
    return CatalogError(where, f"{key}: {message}{rest}", got=got, next_step=f"Correct it in {path}")
