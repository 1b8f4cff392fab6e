"""`/healthz`: the process lives, its loop answers. `/readyz`: whether miners are served and credited here,
and if not, what stands against it. Both for anybody: a balancer asks them, and nothing in them is a secret.

Must not know: how a condition is found out.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from pool.readiness import Condition
from pool.web.access import Access, Told, WebRoute


class Alive(msgspec.Struct, frozen=True):
    """The process lives."""

    alive: bool = True


class Ready(msgspec.Struct, frozen=True):
    """Whether miners are served and credited here, and by what."""

    ready: bool
    conditions: Sequence[Condition]


ALIVE: Final = Told(words="Whether the process lives.", result=Alive)
READY: Final = Told(
    words="Whether miners are served and credited here: 503 if not.", result=Ready, not_so=503
)


def health_routes(conditions: Callable[[], Awaitable[Sequence[Condition]]]) -> tuple[WebRoute, ...]:
    """`conditions` as of now."""

    async def alive(_: Request) -> Response:
        return _line(Alive())

    async def ready(_: Request) -> Response:
        found = await conditions()
        good = all(it.good for it in found)
        return _line(Ready(good, found), 200 if good else 503)

    return (
        WebRoute("/healthz", Access.ANYBODY, alive, told=ALIVE),
        WebRoute("/readyz", Access.ANYBODY, ready, told=READY),
    )


def _line(value: Alive | Ready, status: int = 200) -> Response:
    """The value as a line: a person asks with curl, whose prompt follows."""
    return Response(msgspec.json.encode(value) + b"\n", status, media_type="application/json")
