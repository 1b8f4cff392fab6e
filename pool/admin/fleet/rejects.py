"""The question what became of shares, on three legs: what was sent, what we judged, what upstreams said.

All figures are shares, and all are of one sum: those that a machine or a tenant sent since a day began, or
that an upstream was sent. A rejected share that nobody was charged with is in no books (anybody can say any
name), and is counted by the running pool, as are lines that were no shares and were answered with an error.

Must not know: sockets, terminals.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Final

import msgspec
from sqlalchemy import Connection

from payouts.reports.rejects import (
    Said,
    judged_of_tenant,
    judged_of_worker,
    said_by_upstream,
    said_of_tenant,
    said_of_worker,
)
from payouts.statements.period import EPOCH
from payouts.statements.work import VERDICTS
from pool.admin.command import Commands, Question
from pool.admin.desk import DAY_S, Desk, wall_s
from pool.admin.fleet.machines import WorkerShow, worker_show, worker_show_of
from pool.fleet.rows import RegistryError, find_tenant
from pool.people.roles import Caller, Role
from pool.upstreams.rows import find_upstream
from stratum.miners.uncharged import DAYS_KEPT, REFUSED, UNREADABLE
from stratum.tallies import Verdict

SENT, JUDGED, UNCHARGED, UPSTREAM, LINES = "sent", "judged", "not charged", "upstream", "no shares"
FORWARDED: Final = "forwarded"


class RejectShow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of a worker, a tenant or an upstream, one of them; since the beginning of a day (UTC), today's if none
    is named."""

    worker: str | None = None
    tenant: str | None = None
    upstream: str | None = None
    since: date | None = None


class RejectRow(msgspec.Struct, frozen=True, kw_only=True):
    """So many shares of the account, or lines in the leg `no shares`; `upstream` in the leg of that name."""

    leg: str
    upstream: str | None
    what: str
    shares: int


class RejectAccount(msgspec.Struct, frozen=True, kw_only=True):
    """What all shares that were sent since a moment became. `uncharged_since_at_s`: since when the pool knows
    what is in no books; null where no pool runs, and for an upstream."""

    of: str
    since_at_s: int
    uncharged_since_at_s: int | None
    sent: int
    rows: tuple[RejectRow, ...]


def reject_show(desk: Desk, it: RejectShow) -> RejectAccount:
    """Rows by leg, each with its shares. `sent` is what they are all of; it is the sum of the legs `judged`
    and `not charged`, or of what was forwarded to an upstream."""
    if sum(name is not None for name in (it.worker, it.tenant, it.upstream)) != 1:
        raise RegistryError("give a worker, a tenant or an upstream, one of them")
    today = datetime.fromtimestamp(wall_s(), UTC).date()
    since = it.since or today
    if not EPOCH <= since <= today:
        raise RegistryError(f"{since} is no day between {EPOCH} and {today}")
    day = (since - EPOCH).days
    rows: list[RejectRow] = []
    lines: tuple[tuple[str, int], ...] = ()
    uncharged_since_s = None
    if it.upstream is not None:
        name = it.upstream
        said = desk.read(
            lambda connection: said_by_upstream(connection, find_upstream(connection, name).id, day)
        )
    else:
        judged, said, uncharged = _of_sender(desk, it, day)
        rows += [_row(JUDGED, VERDICTS[verdict], judged[verdict]) for verdict in sorted(judged)]
        if uncharged is not None and desk.live is not None:
            rows += [
                _row(UNCHARGED, VERDICTS[verdict], uncharged[verdict])
                for verdict in Verdict
                if uncharged[verdict]
            ]
            lines = (("refused requests", uncharged[REFUSED]), ("unreadable lines", uncharged[UNREADABLE]))
            kept_since_s = (wall_s() // DAY_S - DAYS_KEPT + 1) * DAY_S
            uncharged_since_s = max(day * DAY_S, kept_since_s, desk.live.since_s)
    told = list(_told(said))
    sent = sum(row.shares for row in (told if it.upstream is not None else rows) if row.what != FORWARDED)
    told += [_row(LINES, what, count) for what, count in lines]
    return RejectAccount(
        of=it.worker or it.tenant or it.upstream or "",
        since_at_s=day * DAY_S,
        uncharged_since_at_s=uncharged_since_s,
        sent=sent,
        rows=(_row(SENT, "shares", sent), *rows, *told),
    )


def reject_show_of(it: RejectShow, caller: Caller) -> RejectShow:
    """A tenant's user sees its machines and itself; upstreams have the shares of others too."""
    if it.worker is not None:
        worker_show_of(WorkerShow(it.worker), caller)
    if it.upstream is not None:
        caller.own_tenant("")  # which is nobody's
    asks_about_all = it.worker is None and it.upstream is None
    return msgspec.structs.replace(it, tenant=caller.own_tenant(it.tenant)) if asks_about_all else it


def _of_sender(desk: Desk, it: RejectShow, day: int) -> tuple[dict[int, int], list[Said], list[int] | None]:
    """What was judged, what upstreams said, and what is in no books, of a worker or a tenant."""
    if it.worker is not None:
        worker = worker_show(desk, WorkerShow(it.worker)).id

        def of_worker(connection: Connection) -> tuple[dict[int, int], list[Said]]:
            return judged_of_worker(connection, worker, day), said_of_worker(connection, worker, day)

        judged, said = desk.read(of_worker)
        return judged, said, None if desk.live is None else desk.live.uncharged(it.worker, None, day)
    name = it.tenant or ""

    def of_tenant(connection: Connection) -> tuple[int, dict[int, int], list[Said]]:
        number = find_tenant(connection, name).id
        return (
            number,
            judged_of_tenant(connection, number, day),
            said_of_tenant(connection, number, day),
        )

    tenant, judged, said = desk.read(of_tenant)
    return judged, said, None if desk.live is None else desk.live.uncharged(None, tenant, day)


def _told(said: Iterable[Said]) -> Iterable[RejectRow]:
    """By upstream: what was forwarded, and what it said of that."""
    by_name: dict[str, list[Said]] = {}
    for it in said:
        by_name.setdefault(it.upstream, []).append(it)
    for name, parts in by_name.items():
        yield _row(UPSTREAM, FORWARDED, sum(it.shares for it in parts), name)
        for it in parts:
            yield _row(UPSTREAM, ": ".join(filter(None, (it.verdict, it.reason))), it.shares, name)


def _row(leg: str, what: str, shares: int, upstream: str | None = None) -> RejectRow:
    return RejectRow(leg=leg, upstream=upstream, what=what, shares=shares)


COMMANDS: Final[Commands] = {
    "reject.show": Question(RejectShow, reject_show, Role.TENANT, reject_show_of),
}
