"""Requests: a change that moves money or power, asked for by one person, agreed to by another, and made.

    asked for --somebody else agrees--> approved --its time comes--> carried out
        |                                   |
        +--------- withdrawn, or its time is over, or refused -----+

To ask is to rehearse: the change is made and taken back in one transaction, so it is known to be possible,
and what was before and would be after it is what a second person sees and agrees to. It is carried out in
one transaction with the note that it was, once, and only if the subject is as it was when it was asked for.

Invariants: who asked and who agreed may still give the command when it is carried out, and are two persons.
Must not know: which commands there are, sockets, terminals.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, NoReturn

import msgspec
import structlog
from sqlalchemy import Connection

from pool.admin.command import Change, Guarded, Question
from pool.admin.desk import Desk, OperatorDesk, wall_s
from pool.admin.pages import Page, Paged, begin_of, cursor_behind, page_of
from pool.admin.requests.glass import REASON_CHARS_MAX, is_reason
from pool.admin.requests.standing import check_two, standing
from pool.admin.requests.views import MadeRequest, RequestCarriedOut, RequestRow, RequestShown, listed, told
from pool.books.changes.changes import State, note_change
from pool.fleet.rows import RegistryError
from pool.people.roles import Caller, Role
from pool.requests import rows
from pool.requests.made import RequestMade
from pool.requests.rows import Request, Stage
from stratum.unreadable import NOT_READ

log = structlog.get_logger()

ADDED: Final = "request.add"  # what changes call what is no command
CARRIED_OUT: Final = "request.carried-out"
REFUSED: Final = "request.refused"


class RequestList(Paged, frozen=True, forbid_unknown_fields=True):
    """What is open; `all` of them, with `before`: older ones than the request of this number."""

    all: bool = False
    before: int | None = None


class RequestShow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    number: int


class RequestApprove(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    number: int


class RequestWithdraw(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    number: int
    why: str = ""


class RequestCarryOut(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    number: int


class _Rehearsed(Exception):
    """The change would be made: what was, and what would be."""

    def __init__(self, was: State, became: State) -> None:
        super().__init__()
        self.was, self.became = was, became


class _Rehearsal(OperatorDesk, frozen=True, kw_only=True):
    """A desk at which all is taken back, before anybody hears of it."""

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        with self.store.write() as connection:
            was = self.state(connection, self.subject)
            yield connection
            raise _Rehearsed(was, self.state(connection, self.subject))


class Requests:
    """`table` has the commands that requests are about, by name."""

    def __init__(self, table: Mapping[str, Question | Change]) -> None:
        self._table = table

    def ask(self, desk: Desk, name: str, params: Any, caller: Caller) -> None:
        """Ask for it, where it has to wait. Raises RequestMade then, and RegistryError for what cannot be."""
        change = self._guarded(name)
        try:
            desk.policy.check_person(caller)
        except RegistryError as error:
            raise RegistryError(f"{error}; or break the glass (--break-glass WHY)") from None
        rehearsed = _rehearse(change, desk, name, params, caller)
        wait_s = 0 if change.held(rehearsed.was) else desk.policy.time_lock_s
        if desk.policy.people == 1 and wait_s == 0:
            return
        shown, whole = change.without_secrets(params), _text(params)

        def add(connection: Connection) -> Request:
            return rows.add_request(
                connection,
                name,
                change.subject(params),
                params=_text(shown),
                with_secrets=None if _text(shown) == whole else whole,
                was=rehearsed.was,
                became=rehearsed.became,
                people=desk.policy.people,
                asked=rows.said(connection, caller, wall_s()),
                wait_s=wait_s,
                expires_s=desk.policy.expires_s,
            )

        with desk.store.write() as connection:
            last = rows.newest_number(connection)
            request = add(connection)
            if request.id > last:  # and not one that the same person has asked for already
                _note(connection, caller, ADDED, request.id, None)
        _made(request)

    def list_all(self, desk: Desk, it: RequestList) -> Page[RequestRow]:
        """What is open, or the newest of all, and of these the newest last."""
        before, limit = it.before, it.limit or rows.REQUESTS_MAX
        if it.all and it.cursor is not None:
            (begin,) = begin_of(it, (int,))
            before = int(begin) if before is None else min(before, int(begin))

        def read(connection: Connection) -> list[RequestRow]:
            at_s = rows.time_of_book(connection, wall_s())
            found = (
                rows.newest_requests(connection, before, limit)
                if it.all
                else rows.open_requests(connection, at_s)
            )
            return [listed(request, at_s) for request in found]

        found = desk.read(read)
        if not it.all:
            return page_of(it, found, lambda row: (row.id,))
        return Page(found, cursor_behind(it, (found[0].id,)) if len(found) == limit else None)

    def show(self, desk: Desk, it: RequestShow) -> RequestShown:
        """What was asked for, and what was before and would be after it."""
        return desk.read(lambda connection: _shown(connection, it.number))

    def approve(self, desk: OperatorDesk, it: RequestApprove) -> RequestShown:
        """Agree to it, as a second person; it is carried out, or waits for its time."""
        request = desk.read(lambda connection: rows.find_request(connection, it.number))
        change, params = self._asked_for(request, request.params)
        _may(change, request, params, desk.caller)
        with desk.store.read() as connection:
            _check_waits(request, rows.time_of_book(connection, wall_s()))
            _check_same(connection, change, request)
        _rehearse(change, desk, request.command, params, desk.caller)

        def agree(connection: Connection) -> None:
            found = rows.find_request(connection, it.number)
            by = rows.said(connection, desk.caller, wall_s())
            check_two(connection, found.asked, by, by.at_s)
            _check_same(connection, change, found)
            rows.approve(connection, found, by)

        desk.write(agree)
        if not change.secret:
            try:
                self._carry_out(desk, it.number, desk.caller)
            except rows.NotOpen:
                pass  # its time has not come, or somebody else was faster
            except RegistryError as error:
                raise RegistryError(f"it was refused when it was to be carried out: {error}") from None
        return self.show(desk, RequestShow(it.number))

    def withdraw(self, desk: OperatorDesk, it: RequestWithdraw) -> RequestShown:
        """End it: who asked for it, or anybody who could agree to it."""
        if not is_reason(it.why, least=0):
            raise RegistryError(f"a reason is up to {REASON_CHARS_MAX} printable characters")

        def end(connection: Connection) -> None:
            request = rows.find_request(connection, it.number)
            by = rows.said(connection, desk.caller, wall_s())
            if by.person != request.asked.person:
                desk.caller.demand(self._guarded(request.command).least, request.command)
            rows.end(connection, request, Stage.WITHDRAWN, by, it.why)

        desk.write(end)
        return self.show(desk, RequestShow(it.number))

    def carry_out(self, desk: OperatorDesk, it: RequestCarryOut) -> RequestCarriedOut:
        """Make the change that everybody has agreed to, where the pool does not: it has its `result`."""
        request = desk.read(lambda connection: rows.find_request(connection, it.number))
        change, params = self._asked_for(request, request.params)
        _may(change, request, params, desk.caller)
        if change.secret and desk.caller.user_id != request.asked.person:
            raise RegistryError(f"what comes of it is for {request.asked.said_by} alone, who asked for it")
        result = self._carry_out(desk, it.number, desk.caller)
        shown = self.show(desk, RequestShow(it.number))
        return RequestCarriedOut(**msgspec.structs.asdict(shown), result=result)

    def carry_out_due(self, desk: Desk, pool: Caller) -> None:
        """Whatever is due, as a running pool does it. What is refused is over."""
        with desk.store.read() as connection:
            now_s = rows.time_of_book(connection, wall_s())
            waiting = [it for it in rows.open_requests(connection, now_s) if it.earliest_at_s <= now_s]
        for request in waiting:
            if request.stage(now_s) is not Stage.APPROVED or self._guarded(request.command).secret:
                continue
            try:
                self._carry_out(desk, request.id, pool)
                log.info("request_carried_out", request=request.id, command=request.command)
            except RegistryError as error:
                log.warning("request_refused", request=request.id, reason=str(error)[:REASON_CHARS_MAX])

    def _carry_out(self, desk: Desk, number: int, by: Caller) -> Any:
        """Raises NotOpen; for anything else that is in its way it is refused, and RegistryError says why."""
        with desk.store.read() as connection:
            request = rows.find_request(connection, number)
            rows.check_due(request, rows.time_of_book(connection, wall_s()))
            whole = rows.secrets_of(connection, request)
        names = request.asked.said_by
        if request.approval is not None:
            names = f"{names} and {request.approval.said_by}"
        both = Caller(name=names, source=f"request {number}", role=Role.ADMIN)
        try:
            change, params = self._asked_for(request, whole or request.params)
            carrying = msgspec.structs.replace(
                change.desk(desk, request.command, params, both),
                admit=partial(_admit, change, number, params),
                beside=partial(_carried_out, number, by),
            )
            result = change.carry_out(carrying, params)
        except rows.NotOpen:
            raise
        except RegistryError as error:
            _refuse(desk, number, by, str(error))
            raise
        return msgspec.to_builtins(result)

    def _guarded(self, name: str) -> Guarded:
        change = self._table.get(name)
        if not isinstance(change, Guarded):
            raise RegistryError(f"there is no change {name!r:.80} that could be asked for")
        return change

    def _asked_for(self, request: Request, params: str) -> tuple[Guarded, Any]:
        """The change, and its parameters. Raises RegistryError for what is not as it was written."""
        change = self._guarded(request.command)
        try:
            decoded = msgspec.json.decode(params, type=change.params)
        except NOT_READ as error:
            raise RegistryError(f"what request {request.id} asks for cannot be read: {error}") from None
        if (change.subject(decoded), _text(change.without_secrets(decoded))) != (
            request.subject,
            request.params,
        ):
            raise RegistryError(f"request {request.id} is not what was asked for: run `angara ledger verify`")
        return change, decoded


def request_state(connection: Connection, subject: str) -> State:
    number = subject.rpartition("/")[2]
    return rows.kept_of(connection, int(number)).get(subject) if number.isdigit() else None


def request_of(it: RequestApprove | RequestWithdraw | RequestCarryOut) -> str:
    return rows.subject_of(it.number)


def _rehearse(change: Guarded, desk: Desk, name: str, params: Any, caller: Caller) -> _Rehearsed:
    """What it would change. Raises RegistryError where it cannot be made."""
    at = change.desk(desk, name, params, caller)
    try:
        change.carry_out(_Rehearsal(**{field: getattr(at, field) for field in at.__struct_fields__}), params)
    except _Rehearsed as rehearsed:
        return rehearsed
    raise AssertionError(f"{name} is made without its desk")


def _may(change: Guarded, request: Request, params: Any, caller: Caller) -> None:
    """Raises NotPermitted for who could not ask for the same."""
    caller.demand(change.least, request.command)
    if change.narrowed is not None:
        change.narrowed(params, caller)


def _check_waits(request: Request, now_s: int) -> None:
    if request.stage(now_s) is not Stage.WAITING:
        raise rows.NotOpen(f"request {request.id} waits for nobody: {rows.stage_words(request, now_s)}")


def _check_same(connection: Connection, change: Guarded, request: Request) -> None:
    """What was agreed to is what is there. Raises RegistryError."""
    if not rows.same_state(change.state(connection, request.subject), request.was):
        raise RegistryError(f"{request.subject} is not what it was when this was asked for: ask anew")


def _admit(change: Guarded, number: int, params: Any, connection: Connection, was: State) -> None:
    """In the transaction of the change, before it."""
    request = rows.find_request(connection, number)
    now_s = rows.time_of_book(connection, wall_s())
    rows.check_due(request, now_s)
    for by in (request.asked, request.approval):
        if by is not None:
            _may(change, request, params, standing(connection, by))
    if request.approval is not None:
        check_two(connection, request.asked, request.approval, now_s)
    _check_same(connection, change, request)


def _carried_out(number: int, by: Caller, connection: Connection) -> None:
    """In the transaction of the change, after it."""
    _end(connection, number, by, Stage.CARRIED_OUT, CARRIED_OUT, "")


def _refuse(desk: Desk, number: int, by: Caller, why: str) -> None:
    try:
        with desk.store.write() as connection:
            _end(connection, number, by, Stage.REFUSED, REFUSED, why)
    except rows.NotOpen:
        pass  # somebody else ended it meanwhile


def _end(connection: Connection, number: int, by: Caller, what: Stage, noted: str, why: str) -> None:
    was = request_state(connection, rows.subject_of(number))
    rows.end(
        connection,
        rows.find_request(connection, number),
        what,
        rows.said(connection, by, wall_s()),
        " ".join(why.split()),
    )
    _note(connection, by, noted, number, was)


def _note(connection: Connection, by: Caller, command: str, number: int, was: State) -> None:
    subject = rows.subject_of(number)
    note_change(
        connection,
        by=by.name,
        source=by.source,
        command=command,
        subject=subject,
        was=was,
        became=request_state(connection, subject),
        now_s=wall_s(),
    )


def _made(request: Request) -> NoReturn:
    who = "a second person" if request.people > 1 else "its time"
    what = f"{request.command} of {request.subject} is request {request.id}"
    words = f"nothing is changed yet: {what}, and waits for {who}"
    raise RequestMade(msgspec.to_builtins(MadeRequest(told(request, request.asked.at_s), words)))


def _shown(connection: Connection, number: int) -> RequestShown:
    return told(rows.find_request(connection, number), rows.time_of_book(connection, wall_s()))


def _text(params: Any) -> str:
    return msgspec.json.encode(params).decode()
