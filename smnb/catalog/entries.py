"""One product of the catalog: its keys, what they may be, and what is wrong with one that cannot be."""

from __future__ import annotations

import difflib
import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, field_validator, model_validator

from smnb.contract import CatalogError


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

    native: str | list[str]
    """Name or names in the file."""
    units: str
    """Units in the file; the loader converts them and says so."""


class UrlFile(_Strict):
    """One file that can be fetched without a login."""

    url: str
    sha256: str
    path: str = ""
    """Destination relative to the data root; default the last part of the URL."""

    @field_validator("url")
    @classmethod
    def _url(cls, url: str) -> str:
        if not re.match(r"https?://[^/\s]+/\S+$", url):
            raise ValueError(f"{url!r} is not an http(s) URL of a file")
        return url

    @field_validator("sha256")
    @classmethod
    def _sha256(cls, digest: str) -> str:
        if not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
            raise ValueError("a SHA-256 is 64 hexadecimal digits")
        return digest.lower()

    @model_validator(mode="after")
    def _path(self) -> UrlFile:
        if not self.path:
            object.__setattr__(self, "path", PurePosixPath(self.url.split("?")[0]).name)
        _inside(self.path)
        return self


class FetchEarthaccess(_Strict):
    """Fetched with NASA's earthaccess (optional extra, free login)."""

    earthaccess: str
    """Short name of the collection."""
    folder: Annotated[str, Field(min_length=1)]
    """Destination folder relative to the data root."""

    @field_validator("folder")
    @classmethod
    def _folder(cls, folder: str) -> str:
        return _inside(folder)


class FetchByHand(_Strict):
    """Instructions to a person."""

    by_hand: Annotated[str, Field(min_length=1)]


def _kind_of_fetch(value: Any) -> Literal["url", "earthaccess", "by_hand"] | None:
    if isinstance(value, (list, tuple)):
        return "url"
    if isinstance(value, FetchEarthaccess) or (isinstance(value, dict) and "earthaccess" in value):
        return "earthaccess"
    if isinstance(value, FetchByHand) or (isinstance(value, dict) and "by_hand" in value):
        return "by_hand"
    return None


_Fetch = Annotated[
    Annotated[list[UrlFile], Field(min_length=1), Tag("url")]
    | Annotated[FetchEarthaccess, Tag("earthaccess")]
    | Annotated[FetchByHand, Tag("by_hand")],
    Discriminator(
        _kind_of_fetch,
        custom_error_type="fetch",
        custom_error_message="expected a list of {url, sha256}, or {earthaccess: …}, or {by_hand: …}",
    ),
]


class Entry(_Strict):
    """One product of the catalog.

    Every key of an entry in `data_catalog.yaml` is a field here; an unknown key is an error.
    """

    description: Annotated[str, Field(min_length=1)]
    """What the product is, in a sentence or two."""
    loader: str
    """``module:function`` of the loader."""
    files: Annotated[list[str], Field(min_length=1)]
    """Globs relative to the data root; an entry is present when at least one of them matches."""
    variables: Annotated[dict[str, NativeVariable], Field(min_length=1)]
    """Canonical variables that the loader must return, with their native names and units."""
    licence: Annotated[str, Field(min_length=1)]
    doi: Annotated[str, Field(pattern=r"^10\.\d{4,9}/\S+$")] | None = None
    landing_page: Annotated[str, Field(pattern=r"^https?://\S+$")] | None = None
    fetch: _Fetch
    options: dict[str, Any] = {}
    """Default options of the loader."""

    @field_validator("loader")
    @classmethod
    def _loader(cls, loader: str) -> str:
        if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", loader):
            raise ValueError(f"{loader!r} is not of the form 'package.module:function'")
        return loader

    @field_validator("files")
    @classmethod
    def _files(cls, files: list[str]) -> list[str]:
        return [_inside(pattern) for pattern in files]

    @model_validator(mode="after")
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


class UniqueKeyLoader(yaml.SafeLoader):
    """YAML's safe loader, but a key given twice is an error instead of the last one winning."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Construct a mapping after checking that its keys differ."""
        seen: dict[Any, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, (str, int, float, bool)) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is given twice (first on line {seen[key]})", key_node.start_mark
                )
            if isinstance(key, (str, int, float, bool)):
                seen[key] = key_node.start_mark.line + 1
        return super().construct_mapping(node, deep=deep)


def closest(name: str, known: list[str]) -> str:
    """Return the sentence that names the known name most like this one, or nothing."""
    match = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"Did you mean {match[0]!r}? " if match else ""


def validation_error(path: Path, entry_id: str, error: ValidationError) -> CatalogError:
    """Return the error to raise for the first of an entry's problems."""
    problem = error.errors()[0]
    keys = [str(part) for part in problem["loc"]]
    if keys[:1] == ["fetch"] and len(keys) > 1:
        del keys[1]  # the tag of the union, which is no key of the file
    where, key = f"{path.name}:{entry_id}", ".".join(keys) or "the entry"
    more = len(error.errors()) - 1
    rest = f" (and {more} more problem{'s' * (more > 1)})" if more else ""
    got = problem.get("input")
    got = None if isinstance(got, (dict, list)) and len(str(got)) > 80 else got
    if problem["type"] == "extra_forbidden":
        known = list(Entry.model_fields) if len(keys) == 1 else None
        hint = closest(keys[-1], known or ["native", "units", "url", "sha256", "path", "folder"])
        return CatalogError(
            where, f"unknown key {key!r}{rest}", expected=known, next_step=f"{hint}Correct or remove the key"
        )
    if problem["type"] == "missing":
        return CatalogError(where, f"key {key!r} is missing{rest}", next_step="Add it; see the other entries")
    message = problem["msg"].removeprefix("Value error, ")
    return CatalogError(where, f"key {key!r}: {message}{rest}", got=got, next_step=f"Correct {key!r} in {path}")
