"""The audit of the pool's own tables: what rate numbers mean, how far journals are taken, who changed what.

Must not know: how to mend anything.
"""

from typing import Final

from sqlalchemy import Connection, and_, func, or_, select

from payouts.audit.finding import Found
from payouts.schemas.book import book
from payouts.schemas.money import journal_writers, rates
from pool.books.book import contradiction
from pool.books.changes.changes import NO_CHANGE, LastChange, Unreadable, change_hash, last_change, states
from pool.books.changes.schema import changes
from pool.books.journal.hour_rows import noted_hours
from pool.books.journal.positions import Position, accepted_in_hours, positions
from pool.books.journal.schema import (
    journal_hours,
    journal_positions,
    rate_epoch_tenants,
    rate_epochs,
    upstream_credits,
    upstream_tips,
)
from pool.chain.networks import NETWORKS
from pool.journal.frames import Place

ROWS_AT_ONCE: Final = 1_000  # changes in memory
KEY_BYTES: Final = 16  # of a header hash, as the engine packs it


def check_journal(connection: Connection) -> None:
    """Raises Found for the first row that is wrong."""
    _check_epochs(connection)
    check_positions(connection)
    _check_credits(connection)
    _check_changes(connection)


def check_book(connection: Connection) -> None:
    """Raises Found where the row about the book itself is wrong; the other checks take it for granted."""
    row = connection.execute(select(book)).one_or_none()
    if row is None:
        raise Found("book", 1, "it is missing")
    if row.network is None:
        return
    if row.network not in NETWORKS or row.genesis != NETWORKS[row.network].genesis:
        raise Found("book", row.id, f"{row.network!r:.40} does not begin with block {row.genesis!r:.80}")
    if words := contradiction(connection, row.network):
        raise Found("book", row.id, f"it is bound to {row.network}: {words}")


def _check_epochs(connection: Connection) -> None:
    """Numbers without gaps, and each tenant's rate in an epoch is that epoch's price."""
    before = 0
    for (epoch,) in connection.execute(select(rate_epochs.c.epoch).order_by(rate_epochs.c.epoch)):
        if epoch != before + 1:
            raise Found("rate_epochs", before + 1, "it is missing")
        before = epoch
    epoch, rate, of = rate_epochs.c, rates.c, rate_epoch_tenants.c
    other = or_(
        rate.tenant_id != of.tenant_id,
        rate.nbits != epoch.nbits,
        rate.subsidy_sat != epoch.subsidy_sat,
        rate.height > epoch.height,
        rate.upstream_id.is_distinct_from(epoch.upstream_id),
        rate.order_id.is_distinct_from(epoch.order_id),
        # An epoch of before there was a basis goes by the first that came after it.
        and_(
            rate.fee_basis_id.is_not(None),
            epoch.fee_basis_id.is_not(None),
            rate.fee_basis_id != epoch.fee_basis_id,
        ),
        (epoch.solo == 1) & (rate.scheme != "solo"),
    )
    row = connection.execute(
        select(of.epoch, of.tenant_id)
        .outerjoin(rates, rate.id == of.rate_id)
        .outerjoin(rate_epochs, epoch.epoch == of.epoch)
        .where(or_(rate.id.is_(None), epoch.epoch.is_(None), other))
        .order_by(of.epoch, of.tenant_id)
        .limit(1)
    ).first()
    if row is not None:
        raise Found(
            "rate_epoch_tenants", f"{row.epoch}, {row.tenant_id}", "its rate is not the price of the epoch"
        )


def check_digests(connection: Connection) -> None:
    """Digests of journals are digests, or nobody can read those rows. Raises Found."""
    for it in (journal_positions, journal_hours):
        wrong = select(it.c.writer).where(it.c.digest.regexp_match("[^0-9a-f]")).order_by(it.c.writer)
        if (writer := connection.scalar(wrong.limit(1))) is not None:
            raise Found(str(it.name), writer, "its digest is none")


def check_positions(connection: Connection) -> None:
    """What was taken of each journal is what is counted: no more, and no less. Raises Found."""
    check_digests(connection)
    latest_s = connection.execute(select(book.c.latest_s)).scalar_one()
    found, counted = positions(connection), accepted_in_hours(connection)
    taken = sum(it.counted for it in found)
    noted = dict(connection.execute(select(journal_writers.c.writer, journal_writers.c.batch)).all())
    for it in found:
        if it.moment_s > latest_s:
            raise Found("journal_positions", it.writer, "it is dated after the latest moment of the book")
        if noted.get(it.writer, 0) != it.transactions:
            raise Found("journal_positions", it.writer, "it is not of as many transactions as were counted")
        if it.before + taken != counted:
            raise Found(
                "journal_positions",
                it.writer,
                f"{it.before} accepted shares of before and {taken} of journals are not the {counted} of the"
                " hours",
            )
    for it in found:
        _check_hours(connection, it)


def _check_hours(connection: Connection, position: Position) -> None:
    """The hours of a journal have all of its records that are taken, and no others."""
    hours = noted_hours(connection, position.writer)
    records = sum(it.records for it in hours)
    accepted = sum(it.accepted for it in hours)
    last = max((it.last for it in hours), key=lambda place: place.number, default=Place())
    if (records, accepted) != (position.at.number, position.accepted) and not position.rows_done:
        raise Found(
            "journal_hours",
            position.writer,
            f"{records} records with {accepted} accepted shares are in its hours, and"
            f" {position.at.number} with {position.accepted} are taken",
        )
    if last != position.at:
        raise Found(
            "journal_hours", position.writer, "the last record of its hours is not the one taken last"
        )


def _check_changes(connection: Connection) -> None:
    """Numbers without gaps, in the order of time, with what can be told, each chained to the one before it,
    up to the newest that the book knows."""
    latest_s = connection.execute(select(book.c.latest_s)).scalar_one()
    newest, last, before_s = last_change(connection), NO_CHANGE, 0
    query = select(changes).order_by(changes.c.id).execution_options(yield_per=ROWS_AT_ONCE)
    with connection.execute(query) as rows:
        for row in rows.mappings():
            if row["id"] < 1:
                raise Found("changes", row["id"], "numbers count from 1")
            if row["id"] != last.id + 1:
                raise Found("changes", last.id + 1, "it is missing")
            if not before_s <= row["changed_at_s"] <= latest_s:
                raise Found(
                    "changes", row["id"], "it is dated before the row before it, or after all of the book"
                )
            try:
                states(row)
            except Unreadable as error:
                raise Found("changes", row["id"], str(error)) from None
            if row["hash"] != change_hash(last.hash, row):
                raise Found(
                    "changes", row["id"], "its content is not what was hashed after the row before it"
                )
            if row["id"] > newest.id:
                raise Found("changes", row["id"], "it comes after the newest that the book knows")
            last, before_s = LastChange(row["id"], row["hash"]), row["changed_at_s"]
    if last.id < newest.id:
        raise Found("changes", last.id + 1, "it is missing: the book knows of it")
    if last != newest:
        raise Found("changes", last.id, "its hash is not the one that the book knows")


def _check_credits(connection: Connection) -> None:
    """What was credited on an upstream's block is whole, or forgotten as a whole."""
    credits, tips = upstream_credits.c, upstream_tips.c
    broken = select(credits.seq).where(func.length(credits.hashes) % KEY_BYTES != 0).order_by(credits.seq)
    if (seq := connection.scalar(broken.limit(1))) is not None:
        raise Found("upstream_credits", seq, "it is no row of hashes")
    half = select(tips.id).where(tips.forgotten == 1, tips.id.in_(select(credits.tip_id))).order_by(tips.id)
    if (tip := connection.scalar(half.limit(1))) is not None:
        raise Found("upstream_tips", tip, "it is forgotten and still has credits")
