"""What `open_stac_scenes` reads of a catalog that others publish: answers of the server that the user named, and no other's.

A page, an answer and a search are bounded in number, size and time; assets may be on other servers, without any credentials.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urljoin, urlsplit

import pystac
import requests
from pystac.utils import make_absolute_href
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO

from smnb.catalog.catalog import refuse_leaving
from smnb.catalog.limits import is_refused_host, same_server, within
from smnb.contract import CatalogError, check_bytes
from smnb.loaders.rasters.placing import is_url

#: Seconds for one answer, with all its repetitions, and for a search; answers and pages of a search.
_TIMEOUT, _SEARCH_SECONDS, _MOST_ANSWERS, _MOST_PAGES = 60.0, 900.0, 20_000, 500
#: Bytes of an answer, times that it is asked for, seconds of rest before the next, redirections.
_MOST_BYTES, _TRIES, _REST, _REDIRECTIONS = 16 << 20, 3, 5.0, 5
#: Set to 1 if assets ``s3://`` of a catalog in the network may be asked for, which is done with your own credentials.
S3_VARIABLE = "SMNB_STAC_S3"
_NARROW = "Narrow the search: collection, bbox, start, end"


class StacReader(StacApiIO):
    """Reads what one root, that the user named, leads to: of its server, or of its folder, in bounded time and memory."""

    def __init__(self, who: str, root: str) -> None:
        super().__init__(max_retries=None)
        self.who, self.server = who, root if is_url(root) else ""
        self.root = self.server or str(Path(root.removeprefix("file://")).absolute())
        self._answers, self._end = 0, time.monotonic() + _SEARCH_SECONDS

    def refuse(self, what: str, got: str, next_step: str) -> NoReturn:
        """Raise a `CatalogError`."""
        raise CatalogError(self.who, f"{self.root}: {what}", got=got, next_step=next_step)

    def read_text(self, source: Any, *args: Any, **options: Any) -> str:
        """Read an answer of the server, or a file of the folder."""
        if isinstance(source, pystac.Link) or is_url(str(source)):
            return super().read_text(source, *args, **options)
        path = self.file(str(source))
        check_bytes(self.who, path.name, path.stat().st_size, _MOST_BYTES)
        text = path.read_text(encoding="utf-8")
        if path == Path(self.root):  # the landing page of an API, saved: the user named its server by it
            links = json.loads(text).get("links", [])
            self.server = self.server or next((x["href"] for x in links if x["rel"] == "search"), "")
        return text

    def json_loads(self, text: str, *args: Any, **options: Any) -> dict[str, Any]:
        """A document without the links upwards, which pystac would follow out of what the user named."""
        document = super().json_loads(text, *args, **options)
        links = [one for one in document.get("links", []) if one["rel"] not in ("root", "parent", "collection")]
        return {**document, "links": links}

    def file(self, name: str) -> Path:
        """A file that a local catalog names; one in the network names none."""
        if is_url(self.root):
            self.refuse("an item or a link names a file of this machine", name, "Ask who publishes the catalog")
        path = Path(name.removeprefix("file://"))
        if path != Path(self.root):
            refuse_leaving(self.who, Path(self.root), path)
        return path

    def request(self, href: str, method: str | None = None, headers: Any = None, parameters: Any = None) -> str:
        """Ask the server, and again where it is busy or does not answer."""
        self._answers += 1
        left = self._end - time.monotonic()
        if left <= 0 or self._answers > _MOST_ANSWERS:
            got = f"{self._answers - 1} answers in {_SEARCH_SECONDS - left:.0f} s"
            self.refuse("the search does not come to an end", got, _NARROW)
        return within(min(_TIMEOUT, left), self._ask, href, method or "GET", headers, parameters)

    def _ask(self, href: str, method: str, headers: Any, parameters: Any) -> str:
        end = time.monotonic() + _TIMEOUT
        sent = {"json": parameters} if method == "POST" else {"params": parameters or {}}
        for attempt in range(_TRIES):
            try:
                with self._send(href, method, headers, sent) as answer:
                    if answer.status_code == 200:
                        return self._body(answer, end)
                    if answer.status_code not in (429, 502, 503, 504) or attempt == _TRIES - 1:
                        raise APIError(f"{answer.status_code} {answer.reason}: {href}")
                    rest = answer.headers.get("Retry-After", "1")
            except requests.ConnectionError:
                if attempt == _TRIES - 1:
                    raise
                rest = "1"
            if not rest.isdigit() or float(rest) > _REST:
                raise APIError(f"{href} is busy and asks to come again later (Retry-After: {rest})")
            time.sleep(float(rest))
        raise APIError(f"{href} does not answer")

    def _send(self, href: str, method: str, headers: Any, sent: dict[str, Any]) -> requests.Response:
        """Send a request, and where the server redirects it, to its own address only."""
        for _ in range(_REDIRECTIONS):
            if not same_server(href, self.server):
                step = "Name that address as url, if you trust it"
                self.refuse("a link or redirection leads to another server", href, step)
            options = {"headers": headers, "timeout": _TIMEOUT / 3, "stream": True, "allow_redirects": False}
            answer = self.session.request(method, href, **sent, **options)
            if not answer.is_redirect:
                return answer
            href, sent = urljoin(href, answer.headers["Location"]), sent if method == "POST" else {}
            answer.close()
        raise APIError(f"more than {_REDIRECTIONS} redirections")

    def _body(self, answer: requests.Response, end: float) -> str:
        body = bytearray()
        while piece := answer.raw.read1(1 << 16, decode_content=True):
            body += piece
            check_bytes(self.who, f"the answer of {answer.url}", len(body), _MOST_BYTES)
            if time.monotonic() > end:
                raise TimeoutError(f"no complete answer within {_TIMEOUT:g} s")
        return body.decode("utf-8")

    def get_pages(self, *args: Any, **options: Any) -> Iterator[dict[str, Any]]:
        """Pages of a search, each with an item that those before had not."""
        seen: set[tuple[Any, Any]] = set()
        for number, page in enumerate(super().get_pages(*args, **options), 1):
            items = {(item.get("collection"), item.get("id")) for item in page.get("features", [])}
            if items <= seen or number > _MOST_PAGES:
                got = f"{len(seen)} items on {number} pages"
                self.refuse("the pages of the search do not come to an end", got, _NARROW)
            seen |= items
            yield page

    def place(self, item: pystac.Item, href: str) -> str:
        """Where an asset is: of an item of a server at a public address, of a local one in the catalog's folder."""
        base, scheme = item.get_self_href() or self.root, urlsplit(href).scheme
        if scheme in ("http", "https"):
            url = href
        elif self.server and not scheme and not href.startswith(("/", "\\")):
            url = urljoin(base if same_server(base, self.server) else self.server, href)
        elif scheme in ("s3", "gs") and os.environ.get(S3_VARIABLE) == "1":
            return href
        elif self.server or scheme not in ("", "file") or href.startswith("/vsi"):
            step = f"Set {S3_VARIABLE}=1 to read it with your own credentials" if scheme in ("s3", "gs") else None
            self.refuse(f"item {item.id!r} names an asset that is no address of the web", href, step or "Leave it out")
        else:
            return str(self.file(make_absolute_href(href.removeprefix("file://"), base)))
        if is_refused_host(url, self.server):
            self.refuse(f"item {item.id!r} names an asset inside this network", url, "Leave the item out")
        return url
