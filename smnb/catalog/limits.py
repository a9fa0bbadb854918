"""What files and servers of others may cost: memory for a part of a file or a table, bounded YAML, time, and which hosts.

An archive of 27 MB can inflate to 4 GB, and a YAML file of ten lines to a billion nodes. A real file that is larger than these
bounds is read with the environment variable ``SMNB_MOST_MB``, which their error names.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import ipaddress
import socket
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

import yaml

from smnb.contract import MOST_TABLE, CatalogError, check_bytes

#: Bytes, nodes (aliases count as what they stand for) and depth of a YAML file.
_YAML_BYTES, _YAML_NODES, _YAML_DEPTH = 1 << 20, 100_000, 40
_HEADER_BYTES = 1 << 20  # of the names of a table's columns
_REDIRECTION_SECONDS = 20.0  # until a server must say whether it redirects
_Result = TypeVar("_Result")


def check_csv(who: str, path: Path) -> str | None:
    """What pandas calls a CSV file's compression, "gzip" or None; a `FormatError` if it, or its first line, is too large.

    What a gzip file inflates to is counted piece by piece; damage is left to who reads it.
    """
    with path.open("rb") as stream:
        packed = "gzip" if stream.read(2) == b"\x1f\x8b" else None
    compressed = path.stat().st_size
    with (
        gzip.open(path) if packed else path.open("rb") as stream,
        contextlib.suppress(EOFError, gzip.BadGzipFile, zlib.error),
    ):
        size = len(stream.readline(_HEADER_BYTES + 1))
        check_bytes(who, "the first line", size, _HEADER_BYTES)
        while packed and (piece := stream.read1(1 << 20)):
            size += len(piece)
            check_bytes(who, "what the file inflates to", size, MOST_TABLE, compressed)
    return packed


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


def within(seconds: float, function: Callable[..., _Result], *args: Any, **options: Any) -> _Result:
    """Call a function and return what it returns; a `TimeoutError` if that takes longer, whatever it waits for.

    It is then left alone in a thread that ends with the process: the time-outs of sockets start anew with every byte.
    """
    future: Future[_Result] = Future()

    def call() -> None:
        try:
            future.set_result(function(*args, **options))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=call, daemon=True).start()
    try:
        return future.result(seconds)
    except TimeoutError as error:
        raise TimeoutError(str(error) or f"no complete answer within {seconds:g} s") from None


def same_server(url: str, named: str) -> bool:
    """Whether a URL is of the scheme, host and port of one that the user named, or of the same host by https."""
    one, other = urlsplit(url), urlsplit(named)
    a, b = ((x.scheme, x.port or {"http": 80, "https": 443}.get(x.scheme)) for x in (one, other))
    is_same = a == b or (a, b) == (("https", 443), ("http", 80))
    return is_same and one.hostname == other.hostname and "@" not in one.netloc


def is_refused_host(url: str, named: str = "") -> bool:
    """Whether a URL that others state is of a host inside this network, not the one that the user named."""
    host = urlsplit(url).hostname or ""
    return host != urlsplit(named).hostname and _is_private(host)


@functools.lru_cache(maxsize=10_000)
def check_redirections(who: str, url: str) -> None:
    """Raise `CatalogError` where a URL that GDAL will read leads to a host inside this network, or to no URL of the web."""
    import requests  # which files on this machine need not

    asked, options = url, {"headers": {"Range": "bytes=0-0"}, "stream": True, "allow_redirects": False}
    for _ in range(10):  # as many as GDAL follows
        try:
            with requests.get(asked, timeout=_REDIRECTION_SECONDS, **options) as answer:
                leads = answer.headers.get("Location") if answer.is_redirect else None
        except requests.RequestException:
            return  # GDAL says what is wrong
        if leads is None:
            return
        asked = urljoin(asked, leads)
        is_web = urlsplit(asked).scheme in ("http", "https")
        if not is_web or (is_refused_host(asked) and not same_server(asked, url)):
            raise CatalogError(who, "the server leads elsewhere than to a public server", got=asked, expected=url)


@functools.lru_cache(maxsize=1000)
def _is_private(host: str) -> bool:
    try:
        found = {one[4][0].partition("%")[0] for one in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return False  # nobody can be asked, so that nothing is read
    return not all(ipaddress.ip_address(one).is_global for one in found)
