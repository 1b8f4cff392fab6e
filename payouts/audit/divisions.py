"""The audit of divisions: each block is of the group that found it, as the ledger has it since it came into
the chain, and paid the work that was to be paid.

That no row is missing is known by the ledger, too; of a block that never came into the chain, or did under a
version of before, by its finder's terms, where they were the same for long.

Windows are looked at again where they were divided since a day: what each part follows from, and what tenants
carried, from the first row on.

Invariants: reads only. Must not know: the ledger's chain.
"""

from collections import defaultdict
from fractions import Fraction
from typing import Any, Final

from sqlalchemy import Connection, Row, select

from payouts.accrual import Carry
from payouts.audit.finding import Found
from payouts.divisions import SAID_S, ahead_of, derive_part, division_of, funds_of
from payouts.income import Status, owner_words
from payouts.rates import Amount, BadRate, Scheme
from payouts.schemas.divisions import block_funds, division_parts, division_works, divisions
from payouts.schemas.money import block_events, blocks, ledger_transactions, rates, solo_blocks
from payouts.windows import HourWork, divided

# Of a block that is booked so late after it was mined, nobody can say any more by which terms that was.
BOOKED_LATE_S: Final = 30 * 86_400


def owner_said(memo: str | None) -> str:
    """Whose a block is by what the ledger says of it; nothing in a book of before."""
    return "" if memo is None else memo.partition(", ")[2]


def check_divisions(connection: Connection, since_s: int = 0) -> None:
    """Raises Found for the first row that is wrong."""
    _check_funds(connection)
    _check_owners(connection)
    _check_others(connection)
    carries: dict[int, Carry] = defaultdict(Carry)
    query = (
        select(divisions, block_funds, blocks.c.income_sat)
        .join(block_funds, block_funds.c.block_hash == divisions.c.block_hash)
        .join(blocks, blocks.c.hash == divisions.c.block_hash)
        .order_by(divisions.c.seq)
    )
    for seq, row in enumerate(connection.execute(query), 1):
        if row.seq != seq:
            raise Found("divisions", seq, "it, or its block, is missing")
        works = _works(connection, row)
        if row.divided_at_s >= since_s:
            _check_window(connection, row, works)
        _check_parts(connection, row, works, carries)


def _check_funds(connection: Connection) -> None:
    query = select(block_funds, blocks.c.worker_id, blocks.c.found_at_s).join(
        blocks, blocks.c.hash == block_funds.c.block_hash
    )
    for row in connection.execute(query.order_by(block_funds.c.block_hash)):
        if row.mined_at_s > row.found_at_s:
            raise Found("block_funds", row.block_hash, "it was mined after it was booked")
        since_s = row.mined_at_s - SAID_S
        if row.worker_id is None or row.scheme not in funds_of(
            connection, row.worker_id, since_s, row.found_at_s
        ):
            raise Found("block_funds", row.block_hash, "who found it had other terms then")
        try:
            ahead = ahead_of(connection, Scheme(row.scheme), row.nbits, row.mined_at_s, row.found_at_s)
        except BadRate as error:
            raise Found("block_funds", row.block_hash, str(error)) from error
        if _fraction("block_funds", row.block_hash, row.ahead) > ahead:
            raise Found("block_funds", row.block_hash, "more was worked ahead of it than was ever booked")


def _check_owners(connection: Connection) -> None:
    """What the ledger says of who has a block is what its rows say."""
    events = block_events.c
    query = (
        select(events.block_hash, ledger_transactions.c.memo)
        .join(ledger_transactions, ledger_transactions.c.seq == events.transaction_seq)
        .where(events.status == Status.PENDING.value)
        .order_by(events.block_hash, events.position)
    )
    for block_hash, memo in connection.execute(query).all():
        said = owner_said(memo)
        if said and said != (has := owner_words(connection, block_hash)):
            raise Found("block_funds", block_hash, f"the ledger has it as {said:.80}, its rows as {has:.80}")


def _check_others(connection: Connection) -> None:
    """Blocks that no group has were found by nobody who had been of one for long."""
    query = (
        select(blocks)
        .outerjoin(block_funds, block_funds.c.block_hash == blocks.c.hash)
        .outerjoin(solo_blocks, solo_blocks.c.block_hash == blocks.c.hash)
        .where(
            blocks.c.worker_id.is_not(None),
            block_funds.c.block_hash.is_(None),
            solo_blocks.c.block_hash.is_(None),
        )
        .order_by(blocks.c.hash)
    )
    for row in connection.execute(query).all():
        had = funds_of(connection, row.worker_id, row.found_at_s - BOOKED_LATE_S, row.found_at_s)
        if len(had) == 1 and None not in had:
            raise Found("block_funds", row.hash, "it is missing: who found it was of a group")


def _works(connection: Connection, row: Row[Any]) -> tuple[HourWork, ...]:
    """As they are written down."""
    query = (
        select(division_works.c.blocks, rates.c.id, rates.c.tenant_id, rates.c.fee_bps)
        .join(rates, rates.c.id == division_works.c.rate_id)
        .where(division_works.c.division_seq == row.seq)
        .order_by(rates.c.id)
    )
    return tuple(
        HourWork(
            rate_id=it.id,
            tenant_id=it.tenant_id,
            fee_bps=it.fee_bps,
            blocks=_fraction("division_works", f"{row.seq}, {it.id}", it.blocks),
        )
        for it in connection.execute(query)
    )


def _check_window(connection: Connection, row: Row[Any], works: tuple[HourWork, ...]) -> None:
    matured = select(block_events.c.position).where(
        block_events.c.block_hash == row.block_hash, block_events.c.status == Status.MATURED.value
    )
    if connection.execute(matured).first() is None:
        raise Found("divisions", row.seq, "its block has not matured")
    try:
        expected = division_of(connection, row).window
    except BadRate as error:
        raise Found("block_funds", row.block_hash, str(error)) from error
    own = select(rates.c.id).where(rates.c.upstream_id.is_(None), rates.c.nbits == row.nbits)
    if connection.scalar(own.limit(1)) is None:
        raise Found("block_funds", row.block_hash, "nobody worked at its bits")
    if (row.first_hour, row.last_hour) != (expected.first_hour, expected.last_hour):
        raise Found("divisions", row.seq, "its block pays other hours")
    if works != expected.works:
        raise Found("divisions", row.seq, "its block pays other work")


def _check_parts(
    connection: Connection, row: Row[Any], works: tuple[HourWork, ...], carries: dict[int, Carry]
) -> None:
    worth = divided(row.income_sat, Scheme(row.scheme).window_blocks, works)
    query = (
        select(division_parts, ledger_transactions.c.idempotency_key, ledger_transactions.c.payload_hash)
        .outerjoin(ledger_transactions, ledger_transactions.c.seq == division_parts.c.transaction_seq)
        .where(division_parts.c.division_seq == row.seq)
        .order_by(division_parts.c.tenant_id)
    )
    found = {it.tenant_id: it for it in connection.execute(query)}
    if found.keys() != worth.keys():
        raise Found("divisions", row.seq, "it has not the parts of those who worked")
    for tenant_id, it in found.items():
        where = f"{row.seq}, {tenant_id}"
        expected = derive_part(row.block_hash, tenant_id, worth[tenant_id], carries[tenant_id])
        booked = expected.transaction
        if (
            (Amount(it.credit_sat, it.credit_psat), Amount(it.fee_sat, it.fee_psat)),
            (Carry(it.carry_in_psat, it.fee_carry_in_psat), Carry(it.carry_out_psat, it.fee_carry_out_psat)),
            (it.posted_sat, it.fee_posted_sat),
        ) != (
            (expected.credit, expected.fee),
            (expected.carry_in, expected.carry_out),
            (expected.posted_sat, expected.fee_posted_sat),
        ):
            raise Found("division_parts", where, "it does not follow from its work, block and carry")
        if (it.idempotency_key, it.payload_hash) != (
            (booked.key, booked.payload_hash) if booked else (None, None)
        ):
            raise Found("division_parts", where, "the ledger has something else for it")
        carries[tenant_id] = expected.carry_out


def _fraction(table: str, row: object, words: str) -> Fraction:
    try:
        found = Fraction(words)
    except (ValueError, ZeroDivisionError):
        raise Found(table, row, f"{words!r:.40} is no fraction") from None
    if found < 0 or str(found) != words:
        raise Found(table, row, f"{words!r:.40} is not what is written for a fraction of work")
    return found
