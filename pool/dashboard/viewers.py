"""What somebody sees of the pool: all of it, or a tenant's own.

Must not know: what there is to see.
"""

from collections.abc import Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from pool.people.roles import Caller

# It is of whoever asked, whatever a cache in between thinks.
PRIVATE: Final = {"Cache-Control": "private, no-cache", "Vary": "Authorization, Cookie, Accept-Encoding"}


def sees(caller: Caller) -> str | None:
    """The tenant that is all he sees; None: everything. Raises NotPermitted."""
    return caller.own_tenant(None)


def tag_of(version: str, tenant: str | None) -> str:
    """An ETag. A tenant's map is another one than the whole, in the same browser too."""
    return f'W/"{version}-{tenant or "*"}"'


def has_it(request: Request, tag: str) -> bool:
    """Whether whoever asks has that already."""
    had = [it.strip() for it in request.headers.get("if-none-match", "").split(",")]
    return tag in had or "*" in had


def takes_packed(request: Request) -> bool:
    """Whether gzip is understood there."""
    for it in request.headers.get("accept-encoding", "").split(","):
        name, _, quality = it.partition(";")
        if name.strip().lower() == "gzip":
            return quality.replace(" ", "").rstrip("0").rstrip(".") not in ("q=", "q")
    return False


def same(tag: str) -> Response:
    """304: nothing is new."""
    return Response(status_code=304, headers={"ETag": tag, **PRIVATE})


def json_bytes(body: bytes, headers: Mapping[str, str]) -> Response:
    return Response(body, headers={"Content-Type": "application/json", **PRIVATE, **headers})
