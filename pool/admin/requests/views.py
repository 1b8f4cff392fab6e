"""Requests as commands show them. Must not know: what may be done with them."""

from typing import Any

import msgspec

from pool.requests.rows import Request, Said, Stage


class RequestRow(msgspec.Struct, frozen=True, kw_only=True):
    """Where a request is, and who said what."""

    id: int
    command: str
    subject: str
    state: Stage
    people: int
    asked_by: str
    asked_at_s: int
    asked_from: str
    earliest_at_s: int
    expires_at_s: int
    approved_by: str | None
    approved_at_s: int | None
    approved_from: str | None
    ended_by: str | None
    ended_at_s: int | None
    ended_from: str | None
    why: str | None


class RequestShown(RequestRow, frozen=True, kw_only=True):
    """With what it changes: the parameters, without secrets, and the whole of before and after."""

    params: dict[str, Any]
    was: dict[str, Any] | None
    became: dict[str, Any] | None


class RequestCarriedOut(RequestShown, frozen=True, kw_only=True):
    """`result` is the answer of the command that was carried out."""

    result: Any


class MadeRequest(msgspec.Struct, frozen=True):
    """The answer where a change became a request."""

    request: RequestShown
    words: str


def listed(request: Request, now_s: int) -> RequestRow:
    """At this time of the book."""
    return RequestRow(**_row(request, now_s))


def told(request: Request, now_s: int) -> RequestShown:
    """Likewise."""
    params: dict[str, Any] = msgspec.json.decode(request.params)
    return RequestShown(**_row(request, now_s), params=params, was=request.was, became=request.became)


def _row(request: Request, now_s: int) -> dict[str, Any]:
    return {
        "id": request.id,
        "command": request.command,
        "subject": request.subject,
        "state": request.stage(now_s),
        "people": request.people,
        "asked_by": request.asked.said_by,
        "asked_at_s": request.asked.at_s,
        "asked_from": request.asked.source,
        "earliest_at_s": request.earliest_at_s,
        "expires_at_s": request.expires_at_s,
        **_who("approved", request.approval),
        **_who("ended", request.end),
        "why": None if request.end is None else request.end.why or None,
    }


def _who(what: str, by: Said | None) -> dict[str, Any]:
    return {
        f"{what}_by": None if by is None else by.said_by,
        f"{what}_at_s": None if by is None else by.at_s,
        f"{what}_from": None if by is None else by.source,
    }
