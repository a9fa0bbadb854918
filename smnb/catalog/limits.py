"""What files that others send may cost: the most memory for a part of a file or a table, and bounded YAML.

An archive of 27 MB can inflate to 4 GB, and a YAML file of ten lines to a billion nodes. A real file that is larger than these
bounds is read with the environment variable ``SMNB_MOST_MB``, which their error names.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import zlib
from pathlib import Path
from typing import Any

import yaml

from smnb.contract import FormatError, ParameterError, SmnbError, plain

#: Environment variable that raises (MB) what one file, member, record or block of what others send may become in memory:
#: a part of a file, a whole table; and, beyond the first megabytes, so many times its compressed size.
MOST_VARIABLE, MOST_PART, MOST_TABLE, _FREE, _RATIO = "SMNB_MOST_MB", 256 << 20, 1 << 30, 32 << 20, 50
#: Bytes, nodes (aliases count as what they stand for) and depth of a YAML file.
_YAML_BYTES, _YAML_NODES, _YAML_DEPTH = 1 << 20, 100_000, 40


def most_bytes(most: int, compressed: int | None = None) -> int:
    """How many bytes an input may become in memory: `most`, or 50 times its compressed size, or what ``SMNB_MOST_MB`` says."""
    if given := os.environ.get(MOST_VARIABLE):
        if not given.isdigit():
            raise ParameterError(MOST_VARIABLE, "is no number of megabytes", got=given, expected=plain("such as 4000"))
        return int(given) * 1_000_000
    return most if compressed is None else min(most, max(_FREE, _RATIO * compressed))


def check_bytes(
    who: str,
    what: str,
    size: int,
    most: int = MOST_PART,
    compressed: int | None = None,
    error: type[SmnbError] = FormatError,
) -> None:
    """Raise `error` if something that an input holds or declares would become more than `most_bytes` in memory."""
    if size > (limit := most_bytes(most, compressed)):
        got, expected = plain(f"{size / 1e6:,.0f} MB or more"), plain(f"up to {limit / 1e6:,.0f} MB")
        step = (
            f"If it is as it should be, set the environment variable {MOST_VARIABLE} to the megabytes that it may take"
        )
        raise error(who, f"{what} is too large to be read", got=got, expected=expected, next_step=step)


def gzip_checked(who: str, path: Path, most: int = MOST_TABLE) -> str | None:
    """What pandas calls a file's compression, "gzip" or None; a `FormatError` if it inflates to more than `most_bytes`.

    It is inflated piece by piece to find that out; damage is left to who reads it.
    """
    with path.open("rb") as stream:
        if stream.read(2) != b"\x1f\x8b":
            return None
    size, compressed = 0, path.stat().st_size
    what = "what the file inflates to"
    with gzip.open(path) as stream, contextlib.suppress(EOFError, gzip.BadGzipFile, zlib.error):
        while piece := stream.read1(1 << 20):
            size += len(piece)
            check_bytes(who, what, size, most, compressed)
    return "gzip"


class BoundedLoader(yaml.SafeLoader):
    """YAML's safe loader; an error where aliases, or nesting, make more of a file than a person would write."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._nodes, self._depth, self._sizes = 0, 0, {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node and count all that is in it."""
        event, before = self.peek_event(), self._nodes
        is_alias = isinstance(event, yaml.AliasEvent)
        inside = is_alias and event.anchor in self.anchors and event.anchor not in self._sizes
        self._depth += 1
        if inside or self._depth > _YAML_DEPTH:
            what = "an alias stands for what it is in" if inside else f"nested deeper than {_YAML_DEPTH}"
            raise yaml.composer.ComposerError(None, None, what, event.start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        self._nodes += self._sizes[event.anchor] if is_alias else 1
        if self._nodes > _YAML_NODES:
            what = f"more than {_YAML_NODES:,} nodes, with aliases written out"
            raise yaml.composer.ComposerError(None, None, what, event.start_mark)
        if event.anchor and not is_alias:
            self._sizes[event.anchor] = self._nodes - before
        return node


def load_yaml(text: str, loader: type[BoundedLoader] = BoundedLoader) -> Any:
    """Parse YAML, plain data only; a `yaml.YAMLError` where it is none or beyond the bounds."""
    if len(text) > _YAML_BYTES:
        raise yaml.YAMLError(f"longer than {_YAML_BYTES:,} characters")
    return yaml.load(text, Loader=loader)
