"""The page's files: read once at the start, kept as they are sent, and packed where a browser takes that.

    /                       the page, which names its files by what they are
    /page/DIGEST/NAME       a file: kept by a browser for ever, for what it is called tells what is in it

Anybody gets them: there is nothing in them that is not in the package. Must not know: what they show.
"""

import gzip
import hashlib
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from pathlib import PurePath
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from pool.http_server import json_response
from pool.web.access import Access, Told, WebRoute

INDEX: Final = "index.html"
FOLDERS: Final = ("page", "libraries")  # ours, and what others wrote, which is fetched when a wheel is built
KINDS: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
PAGE: Final = Told(words="The page, for a browser.", media="text/html")
FILE: Final = Told(words="A file of the page, of whatever kind; kept for ever.", media="*/*")
PACKED_MAX: Final = 64  # the files of the page, and the document of the API
FOR_EVER: Final = "public, max-age=31536000, immutable"


class PageFile(msgspec.Struct, frozen=True):
    """One, as it is sent."""

    kind: str
    plain: bytes
    packed: bytes


def page_files() -> dict[str, bytes]:
    """All there are, by name. Blocks."""
    found: dict[str, bytes] = {}
    for folder in FOLDERS:
        place = files("pool.web").joinpath(folder)
        if place.is_dir():  # whoever has sources without a build has no charts
            found |= {it.name: it.read_bytes() for it in place.iterdir() if it.name != "LICENSE"}
    return found


def page_routes(found: Mapping[str, bytes]) -> tuple[WebRoute, ...]:
    digest = hashlib.sha256()
    for name in sorted(found):
        digest.update(f"{name} {len(found[name])} ".encode() + found[name])
    here = digest.hexdigest()[:16]
    index = _file(INDEX, found[INDEX].replace(b"{files}", f"page/{here}".encode()))
    kept = {name: _file(name, body) for name, body in found.items() if name != INDEX}

    async def page(request: Request) -> Response:
        return sent_anew(request, index, here)

    async def file(request: Request) -> Response:
        asked = kept.get(request.path_params["name"])
        if asked is None or request.path_params["digest"] != here:
            return json_response({"error": "there is no such file, or it is another by now"}, 404)
        return _sent(request, asked, {"Cache-Control": FOR_EVER})

    return (
        WebRoute("/", Access.ANYBODY, page, told=PAGE),
        WebRoute("/page/{digest}/{name}", Access.ANYBODY, file, told=FILE),
    )


@lru_cache(PACKED_MAX)
def packed_file(kind: str, body: bytes) -> PageFile:
    """Packed once, however many pools one process has after each other."""
    return PageFile(kind, body, gzip.compress(body, mtime=0))


def _file(name: str, body: bytes) -> PageFile:
    return packed_file(KINDS[PurePath(name).suffix], body)


def sent_anew(request: Request, it: PageFile, digest: str) -> Response:
    """To who keeps it by its address, and asks whether it is another by now."""
    headers = {"ETag": f'"{digest}"', "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return _sent(request, it, headers)


def _sent(request: Request, it: PageFile, headers: Mapping[str, str]) -> Response:
    packed = "gzip" in request.headers.get("accept-encoding", "")
    encoding = {"Content-Encoding": "gzip"} if packed else {}
    body = it.packed if packed else it.plain
    return Response(body, headers={"Content-Type": it.kind, "Vary": "Accept-Encoding", **encoding, **headers})
