"""Requests as rows: who asked for what, who agreed, and what became of it.

Times are the book's (`payouts.book_time`): a clock that steps back makes no request younger, and none that
has ended is open again. Everything is done in the caller's transaction, which is the only writer: what is
looked at here is still so when it is written.

Invariants: a person has at most OPEN_OF_PERSON_MAX open requests, which is all that is bounded: were there a
bound over all, who fills it would keep others out. With USERS_MAX users and the host there are 16,016.

Must not know: which commands there are, who may agree, how a change is made. Mistakes are RegistryError.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, delete, func, insert, or_, select
from sqlalchemy.engine import RowMapping

from payouts.book_time import book_time, latest_s
from pool.fleet.registry_error import RegistryError
from pool.people.roles import Caller
from pool.requests.schema import request_events, request_secrets, requests
from stratum.unreadable import NOT_READ

OPEN_OF_PERSON_MAX: Final = 16  # more than one prepares in a day; each is 200 KiB at most, twice
REQUESTS_MAX: Final = 1_000  # in one answer; older ones are asked for by number
WHY_CHARS_MAX: Final = 300

State = dict[str, Any] | None


class Stage(StrEnum):
    """Where a request is."""

    WAITING = "waiting"  # for a second person
    APPROVED = "approved"  # by all who have to, and waits for its time
    CARRIED_OUT = "carried_out"
    WITHDRAWN = "withdrawn"
    REFUSED = "refused"  # when it was to be carried out
    EXPIRED = "expired"


class NotOpen(RegistryError):
    """A request that is over, or whose time has not come: it stays as it is."""


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """Who said something, from where, and when. `user_id` None: an account that needs no user."""

    said_by: str
    user_id: int | None
    token_id: int | None
    source: str
    at_s: int

    @property
    def person(self) -> int | None:
        """One of these is one person, by however many names, accounts and tokens: all accounts that can open
        the database are one."""
        return self.user_id


class Event(Said, frozen=True, kw_only=True):
    what: Stage
    why: str


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody asked for. `params` is JSON without secrets; `was` and `became` are all that the books
    said of the subject when it was asked for, and would have said after it."""

    id: int
    command: str
    subject: str
    params: str
    was: State
    became: State
    people: int
    asked: Said
    earliest_at_s: int
    expires_at_s: int
    approval: Event | None
    end: Event | None

    def stage(self, now_s: int) -> Stage:
        if self.end is not None:
            return self.end.what
        if now_s >= self.expires_at_s:
            return Stage.EXPIRED
        return Stage.WAITING if self.people > 1 and self.approval is None else Stage.APPROVED


def said(connection: Connection, caller: Caller, now_s: int) -> Said:
    """Somebody says something now."""
    return Said(
        said_by=caller.name,
        user_id=caller.user_id,
        token_id=caller.token,
        source=caller.source,
        at_s=book_time(connection, now_s),
    )


def time_of_book(connection: Connection, now_s: int) -> int:
    """Now, for who only reads."""
    return max(now_s, latest_s(connection))


def add_request(
    connection: Connection,
    command: str,
    subject: str,
    *,
    params: str,
    with_secrets: str | None,
    was: State,
    became: State,
    people: int,
    asked: Said,
    wait_s: int,
    expires_s: int,
) -> Request:
    """Ask for it, or find that the same person has asked for the same already. Raises RegistryError."""
    theirs = [it for it in open_requests(connection, asked.at_s) if it.asked.person == asked.person]
    for it in theirs:
        same = (it.command, it.params, secrets_of(connection, it)) == (command, params, with_secrets)
        if same and same_state(it.was, was):
            return it
    if len(theirs) >= OPEN_OF_PERSON_MAX:
        raise RegistryError(
            f"{asked.said_by} has {OPEN_OF_PERSON_MAX} open requests: some are to be decided or withdrawn"
        )
    forget_secrets(connection, asked.at_s)
    number: int = connection.execute(
        insert(requests)
        .values(
            command=command,
            subject=subject,
            params=params,
            was=_text(was),
            became=_text(became),
            people=people,
            **msgspec.structs.asdict(asked),
            earliest_at_s=asked.at_s + wait_s,
            expires_at_s=asked.at_s + expires_s,
        )
        .returning(requests.c.id)
    ).scalar_one()
    if with_secrets is not None:
        connection.execute(insert(request_secrets).values(request_id=number, params=with_secrets))
    return find_request(connection, number)


def find_request(connection: Connection, number: int) -> Request:
    """Raises RegistryError."""
    found = next(_read(connection, requests.c.id == number), None)
    if found is None:
        raise RegistryError(f"there is no request {number}")
    return found


def newest_number(connection: Connection) -> int:
    """Of the newest request; 0 where there is none."""
    return connection.scalar(select(func.max(requests.c.id))) or 0


def open_requests(connection: Connection, now_s: int) -> list[Request]:
    """What waits for a person or for its time, the oldest first."""
    going = requests.c.expires_at_s > now_s
    ended = select(request_events.c.request_id).where(request_events.c.ends == 1)
    return list(_read(connection, going & requests.c.id.not_in(ended)))


def newest_requests(connection: Connection, before: int | None, limit: int) -> list[Request]:
    """The newest last: up to `limit` with numbers below `before`, those that are over too."""
    query = select(requests.c.id).order_by(requests.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(requests.c.id < before)
    return list(_read(connection, requests.c.id.in_(query)))


def approve(connection: Connection, request: Request, by: Said) -> None:
    """Raises NotOpen for one that needs nobody, or is over."""
    stage = request.stage(by.at_s)
    if stage is Stage.APPROVED and request.approval is not None:
        raise NotOpen(f"request {request.id} was approved by {request.approval.said_by} already")
    if stage is not Stage.WAITING:
        raise NotOpen(f"request {request.id} waits for nobody: {stage_words(request, by.at_s)}")
    _note(connection, request, 0, Stage.APPROVED, by, "")


def check_due(request: Request, now_s: int) -> None:
    """Raises NotOpen unless it is to be carried out at this time of the book."""
    if request.stage(now_s) is not Stage.APPROVED:
        raise NotOpen(f"request {request.id} is not to be carried out: {stage_words(request, now_s)}")
    if now_s < request.earliest_at_s:
        raise NotOpen(f"request {request.id} waits for its time: another {request.earliest_at_s - now_s} s")


def end(connection: Connection, request: Request, what: Stage, by: Said, why: str = "") -> None:
    """It is over. Raises NotOpen for one that is."""
    if request.stage(by.at_s) not in (Stage.WAITING, Stage.APPROVED):
        raise NotOpen(f"request {request.id} is over: {stage_words(request, by.at_s)}")
    _note(connection, request, 1, what, by, why[:WHY_CHARS_MAX])
    forget_secrets(connection, by.at_s)


def stage_words(request: Request, now_s: int) -> str:
    """Where it is, for a person."""
    stage, by = request.stage(now_s), request.end
    if by is None:
        words = {Stage.WAITING: "it waits for a second person", Stage.APPROVED: "everybody has agreed"}
        return words.get(stage, "its time is over")
    why = f": {by.why}" if by.why else ""
    return f"{stage.replace('_', ' ')} by {by.said_by}{why}"


def secrets_of(connection: Connection, request: Request) -> str | None:
    """Its parameters with their secrets, where it has some and is open."""
    kept = request_secrets.c.request_id == request.id
    return connection.scalar(select(request_secrets.c.params).where(kept))


def forget_secrets(connection: Connection, now_s: int) -> None:
    """Of what is over."""
    ended = select(request_events.c.request_id).where(request_events.c.ends == 1)
    expired = select(requests.c.id).where(requests.c.expires_at_s <= now_s)
    number = request_secrets.c.request_id
    connection.execute(delete(request_secrets).where(or_(number.in_(ended), number.in_(expired))))


def kept_of(connection: Connection, number: int | None = None) -> dict[str, dict[str, Any]]:
    """All that is kept of one, or of all, in the history, by what changes call it: as it is in the rows."""
    asked = select(requests).order_by(requests.c.id)
    told = select(request_events).order_by(request_events.c.request_id, request_events.c.ends)
    if number is not None:
        asked = asked.where(requests.c.id == number)
        told = told.where(request_events.c.request_id == number)
    kept: dict[str, dict[str, Any]] = {}
    for row in connection.execute(asked).mappings():
        kept[subject_of(row["id"])] = {"asked": {key: row[key] for key in row if key != "id"}}
    for row in connection.execute(told).mappings():
        of = kept.setdefault(subject_of(row["request_id"]), {})
        of["ended" if row["ends"] else "approved"] = {
            key: row[key] for key in row if key not in ("request_id", "ends")
        }
    return kept


def same_state(one: State, other: State) -> bool:
    """Whether the books said the same, as it is kept."""
    return _text(one) == _text(other)


def subject_of(number: int) -> str:
    return f"request/{number}"


def _note(connection: Connection, request: Request, ends: int, what: Stage, by: Said, why: str) -> None:
    row = {"request_id": request.id, "ends": ends, "what": what.value, "why": why}
    connection.execute(insert(request_events).values(row | msgspec.structs.asdict(by)))


def _read(connection: Connection, wanted: ColumnElement[bool]) -> Iterator[Request]:
    """The oldest first."""
    rows = connection.execute(select(requests).where(wanted).order_by(requests.c.id)).mappings().all()
    events: dict[tuple[int, int], Event] = {}
    for start in range(0, len(rows), REQUESTS_MAX):
        numbers = [row["id"] for row in rows[start : start + REQUESTS_MAX]]
        query = select(request_events).where(request_events.c.request_id.in_(numbers))
        for row in connection.execute(query).mappings():
            events[row["request_id"], row["ends"]] = Event(
                **_said(row), what=Stage(row["what"]), why=row["why"]
            )
    for row in rows:
        yield Request(
            id=row["id"],
            command=row["command"],
            subject=row["subject"],
            params=row["params"],
            was=_state(row["was"]),
            became=_state(row["became"]),
            people=row["people"],
            asked=Said(**_said(row)),
            earliest_at_s=row["earliest_at_s"],
            expires_at_s=row["expires_at_s"],
            approval=events.get((row["id"], 0)),
            end=events.get((row["id"], 1)),
        )


def _said(row: RowMapping) -> dict[str, Any]:
    return {name: row[name] for name in Said.__struct_fields__}


def _text(state: State) -> str | None:
    return None if state is None else msgspec.json.encode(state).decode()


def _state(text: str | None) -> State:
    """What cannot be read is of nothing that there is, so that nothing is carried out by it."""
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except NOT_READ:
        return {"unreadable": text[:WHY_CHARS_MAX]}
