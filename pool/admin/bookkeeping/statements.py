"""The questions of a tenant's statement, which is that of `angara report statement`: to read, or as a file.

Invariants: what is asked for over HTTP is of a year at most, and is read by one at a time. Must not know:
sockets, terminals.
"""

from datetime import UTC, date, datetime
from typing import Final, Literal, TypeVar

import msgspec
from sqlalchemy import Connection

from payouts.proof.evidence import proof_of
from payouts.statements.money import StatementWrong
from payouts.statements.period import BadPeriod, Period
from payouts.statements.statement import UnknownTenant, statement
from pool.admin.command import Commands, Question
from pool.admin.desk import Desk, wall_s
from pool.books.journal.positions import booked_until_s
from pool.fleet.rows import RegistryError
from pool.people.roles import Caller, Role
from pool.reports.document import Document, Section
from pool.reports.render_csv import render_csv
from pool.reports.render_json import render_json
from pool.reports.statement_document import MACHINES, statement_document

DAYS_MAX: Final = 366  # of a site, some seconds of reading: who wants more of it asks on the pool's host

KINDS: Final = {"csv": "text/csv", "json": "application/json"}


class StatementShow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The days from `from_day` up to but not `to_day`, UTC. A tenant's user needs not say whose."""

    from_day: date
    to_day: date
    tenant: str | None = None


class StatementFile(StatementShow, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The same as a file."""

    format: Literal["csv", "json"]


class ShownStatement(msgspec.Struct, frozen=True, kw_only=True):
    """`content_sha256` is of the data that the file in JSON has. `provisional`: why something may still be
    booked in it; null where all is."""

    title: str
    tenant: str
    period: str
    provisional: str | None
    content_sha256: str
    sections: tuple[Section, ...]


Asked = TypeVar("Asked", bound=StatementShow)


class WrittenStatement(msgspec.Struct, frozen=True, kw_only=True):
    """A file: what to call it, its type, and what is in it."""

    name: str
    kind: str
    provisional: str | None
    content: str


def statement_show(desk: Desk, it: StatementShow) -> ShownStatement:
    """A tenant's statement of a period: balance, work, credits, fees, payouts, decisions, reserve. Its
    machines, which may be thousands, are in the file alone."""
    document, provisional = _document(desk, it)
    return ShownStatement(
        title=document.title,
        tenant=document.subject,
        period=document.period,
        provisional=provisional,
        content_sha256=document.content_hash or "",
        sections=tuple(section for section in document.sections if section.title != MACHINES),
    )


def statement_file(desk: Desk, it: StatementFile) -> WrittenStatement:
    """All of it, with its machines, as `angara report statement --format` writes it."""
    document, provisional = _document(desk, it)
    content = render_csv(document) if it.format == "csv" else render_json(document)
    return WrittenStatement(
        name=f"statement-{it.tenant}-{it.from_day}-{it.to_day}.{it.format}",
        kind=KINDS[it.format],
        provisional=provisional,
        content=content.decode(),
    )


def statement_of(it: Asked, caller: Caller) -> Asked:
    """A tenant's user sees its own alone."""
    return msgspec.structs.replace(it, tenant=caller.own_tenant(it.tenant))


def why_provisional(connection: Connection, period: Period, now_s: int) -> str | None:
    """Why something may still be booked in it, in words."""
    if period.to_day > datetime.fromtimestamp(now_s, UTC).date():
        return "the period is not over yet"
    if booked_until_s(connection) < period.to_s:
        return "the pool has not run since the period's end, something may still be booked in it"
    return None


def _document(desk: Desk, it: StatementShow) -> tuple[Document, str | None]:
    """Raises RegistryError."""
    tenant = it.tenant
    if tenant is None:
        raise RegistryError("say whose: tenant")
    try:
        period = Period(it.from_day, it.to_day)
        if period.days > DAYS_MAX:
            raise BadPeriod(
                f"a period of {period.days} days is longer than {DAYS_MAX}: angara report statement writes it"
            )

        def read(connection: Connection) -> tuple[Document, str | None]:
            of = statement(connection, tenant, period.from_day, period.to_day)
            provisional = why_provisional(connection, period, wall_s())
            key = desk.proof if provisional is None else None
            proof = None if key is None else proof_of(connection, of, key)
            return statement_document(of, proof), provisional

        return desk.read(read)
    except (BadPeriod, UnknownTenant) as error:
        raise RegistryError(str(error)) from None
    except StatementWrong as error:
        raise RegistryError(f"the books contradict each other, there is no statement: {error}") from None


COMMANDS: Final[Commands] = {
    "statement.show": Question(StatementShow, statement_show, Role.TENANT, statement_of),
    "statement.file": Question(StatementFile, statement_file, Role.TENANT, statement_of),
}
