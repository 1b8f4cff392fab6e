"""Divisions: a block that tenants of a dividing scheme found becomes what the pool owes for its window.

Whose a block is is written down with it (`record_fund`): of the scheme by which the shares of its job are
paid, so that nobody is paid both, and nobody neither. All tenants of one scheme are one group, and a block is
divided over the group's work when it has matured, and the books have passed the hours that it pays. One that
is orphaned after that is the pool's loss, as those of PPS are.

A tenant's part is one exact fraction over all of its rates, floored to psat, added to what its last part
carried; whole satoshi are posted. The pool's fee is carried and posted the same way. What is not divided
stays what it was, income of the pool.

Invariants: a block is divided once; rows, posting and carry are one transaction, the caller's, which must be
the only writer. What a division is of cannot change any more when it is looked at, so that may be done
before. Must not know: nodes, and how far the books are.
"""

from collections.abc import Iterator
from fractions import Fraction
from itertools import groupby
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Select, exists, func, insert, select

from payouts.accrual import Carry, paid_from, with_carry
from payouts.book_time import book_time
from payouts.income import Status
from payouts.ledger import Kind, PoolAccount, Transaction, open_accounts, post
from payouts.ratebook import price_of
from payouts.rates import Amount, Scheme, floor_to_psat
from payouts.schemas.divisions import block_funds, division_parts, division_works, divisions
from payouts.schemas.money import block_events, blocks, rate_hours, rates, tenant_terms, workers
from payouts.windows import HOURS_NOT_PAID, HourWork, Window, Worth, divided, measured, window

HOURS_AT_ONCE: Final = 24  # of the group's work, in memory
# A job is mined until the next block, and a site that is alone serves on for a week by the terms that it
# heard last (and is paid by them: pool.books.edges.prices). Of terms that are over for longer nobody is.
SAID_S: Final = 8 * 86_400


class Header(msgspec.Struct, frozen=True):
    """What a block's header says of when, and against what, it was mined."""

    nbits: int
    at_s: int


class Division(msgspec.Struct, frozen=True, kw_only=True):
    """A block, and the work that it pays."""

    block_hash: str
    scheme: Scheme
    income_sat: int
    window: Window


class DivisionPart(msgspec.Struct, frozen=True, kw_only=True):
    """What a tenant has of a block, with all that its posting follows from."""

    block_hash: str
    tenant_id: int
    credit: Amount
    fee: Amount
    carry_in: Carry
    posted_sat: int
    fee_posted_sat: int
    carry_out: Carry

    @property
    def transaction(self) -> Transaction | None:
        """What is booked; None where there is no whole satoshi."""
        transfers = paid_from(
            PoolAccount.BLOCKS_DIVIDED, self.tenant_id, self.posted_sat, self.fee_posted_sat
        )
        if not transfers:
            return None
        return Transaction(
            key=f"division:{self.block_hash}:{self.tenant_id}",
            kind=Kind.DIVISION,
            memo=f"block {self.block_hash} divided",
            transfers=transfers,
        )


def record_fund(
    connection: Connection, block_hash: str, worker_id: int, header: Header, said: Scheme | None = None
) -> Scheme | None:
    """Whose a block is, which this transaction has booked: the scheme it is divided by. None: the pool's.

    `said` is how the shares of its job are paid. Where nobody said, or what the tenant did not have in the
    week before, its terms count, and a block whose header is of other terms than those that it was found
    under is the pool's: a machine chooses its header's time, an hour back.
    """
    found_at_s = connection.execute(
        select(blocks.c.found_at_s).where(blocks.c.hash == block_hash)
    ).scalar_one()
    mined_at_s = min(header.at_s, found_at_s)
    scheme = _whose(connection, worker_id, (mined_at_s, found_at_s), said)
    if scheme is None:
        return None
    ahead = ahead_of(connection, scheme, header.nbits, mined_at_s, found_at_s)
    connection.execute(
        insert(block_funds).values(
            block_hash=block_hash,
            scheme=scheme.value,
            nbits=header.nbits,
            mined_at_s=mined_at_s,
            ahead=str(ahead),
        )
    )
    return scheme


def ahead_of(
    connection: Connection, scheme: Scheme, nbits: int, mined_at_s: int, found_at_s: int
) -> Fraction:
    """What is booked of the group's work in the hours that a block does not pay; clocks of edges may be ahead
    into the next hour. It only grows."""
    hour, unpaid_from = rate_hours.c.hour, mined_at_s // 3600 + 1 - HOURS_NOT_PAID
    newest = _hours(connection, scheme, nbits, hour.between(unpaid_from, found_at_s // 3600 + 1))
    return sum((it.blocks for _, works in newest for it in works), Fraction(0))


def funds_of(connection: Connection, worker_id: int, from_s: int, to_s: int) -> frozenset[Scheme | None]:
    """The schemes that divide what the worker found between two moments, and None for the pool, by the terms
    that its tenant had in that time, or got first."""
    of = tenant_terms.c
    terms = connection.execute(
        select(of.scheme, of.changed_at_s)
        .join(workers, workers.c.tenant_id == of.tenant_id)
        .where(workers.c.id == worker_id)
        .order_by(of.id)
    ).all()
    begins = [min(from_s, terms[0].changed_at_s), *(it.changed_at_s for it in terms[1:])] if terms else []
    ends = [*begins[1:], None]
    return frozenset(
        Scheme(it.scheme).group
        for it, begins_s, ends_s in zip(terms, begins, ends, strict=False)
        if begins_s <= to_s and (ends_s is None or ends_s > from_s)
    )


def _whose(
    connection: Connection, worker_id: int, mined_found_s: tuple[int, int], said: Scheme | None
) -> Scheme | None:
    mined_at_s, found_at_s = mined_found_s
    if said is not None:
        scheme = said.group
        if scheme in funds_of(connection, worker_id, mined_at_s - SAID_S, found_at_s):
            return scheme
    then, now = (funds_of(connection, worker_id, it, it) for it in mined_found_s)
    return next(iter(then), None) if then == now else None


def next_division(connection: Connection, booked_until_s: int) -> Division | None:
    """Of the oldest block that has matured and is not divided, when nothing is booked any more before that
    moment. None where there is none, or the books are not that far."""
    newer = block_events.alias()
    status = block_events.c
    row = connection.execute(
        select(block_funds, blocks.c.income_sat)
        .join(blocks, blocks.c.hash == block_funds.c.block_hash)
        .join(block_events, status.block_hash == blocks.c.hash)
        .where(
            ~exists().where(divisions.c.block_hash == block_funds.c.block_hash),
            status.status == Status.MATURED.value,
            ~exists().where(newer.c.block_hash == status.block_hash, newer.c.position > status.position),
        )
        .order_by(block_funds.c.mined_at_s, block_funds.c.block_hash)
        .limit(1)
    ).one_or_none()
    if row is None or booked_until_s < (row.mined_at_s // 3600 + 1 - HOURS_NOT_PAID) * 3600:
        return None
    return division_of(connection, row)


def division_of(connection: Connection, row: Any) -> Division:
    """Of a row of `block_funds`, with the block's income."""
    scheme = Scheme(row.scheme)
    paid_before = row.mined_at_s // 3600 + 1 - HOURS_NOT_PAID
    hours = _hours_before(connection, scheme, row.nbits, paid_before)
    return Division(
        block_hash=row.block_hash,
        scheme=scheme,
        income_sat=row.income_sat,
        window=window(hours, Fraction(row.ahead), Fraction(scheme.window_blocks)),
    )


def derive_part(block_hash: str, tenant_id: int, worth: Worth, carry_in: Carry) -> DivisionPart:
    """Pure, so that it can be checked."""
    credit, fee = floor_to_psat(worth.credit_sat), floor_to_psat(worth.fee_sat)
    posted = with_carry(credit, fee, carry_in)
    return DivisionPart(
        block_hash=block_hash,
        tenant_id=tenant_id,
        credit=credit,
        fee=fee,
        carry_in=carry_in,
        posted_sat=posted.posted_sat,
        fee_posted_sat=posted.fee_posted_sat,
        carry_out=posted.carry_out,
    )


def divide(connection: Connection, it: Division, now_s: int) -> tuple[DivisionPart, ...]:
    """Book a division; nothing where its block is divided already."""
    if connection.scalar(select(divisions.c.seq).where(divisions.c.block_hash == it.block_hash)) is not None:
        return ()
    now_s = book_time(connection, now_s)
    row = insert(divisions).values(
        block_hash=it.block_hash,
        first_hour=it.window.first_hour,
        last_hour=it.window.last_hour,
        divided_at_s=now_s,
    )
    seq = connection.execute(row.returning(divisions.c.seq)).scalar_one()
    works = [
        {"division_seq": seq, "rate_id": work.rate_id, "blocks": str(work.blocks)} for work in it.window.works
    ]
    if works:
        connection.execute(insert(division_works), works)
    done = []
    for tenant_id, worth in divided(it.income_sat, it.scheme.window_blocks, it.window.works).items():
        part = derive_part(it.block_hash, tenant_id, worth, division_carry(connection, tenant_id))
        _book(connection, seq, part, now_s)
        done.append(part)
    return tuple(done)


def division_carry(connection: Connection, tenant_id: int) -> Carry:
    """What the tenant's last part carried on."""
    of = division_parts.c
    row = connection.execute(
        select(of.carry_out_psat, of.fee_carry_out_psat)
        .where(of.tenant_id == tenant_id)
        .order_by(of.division_seq.desc())
        .limit(1)
    ).one_or_none()
    return Carry() if row is None else Carry(*row)


def _book(connection: Connection, seq: int, it: DivisionPart, now_s: int) -> None:
    transaction_seq = None
    if it.transaction is not None:
        open_accounts(connection, it.tenant_id)
        transaction_seq = post(connection, it.transaction, now_s).seq
    connection.execute(
        insert(division_parts).values(
            division_seq=seq,
            tenant_id=it.tenant_id,
            credit_sat=it.credit.sat,
            credit_psat=it.credit.carry_psat,
            carry_in_psat=it.carry_in.credit_psat,
            posted_sat=it.posted_sat,
            carry_out_psat=it.carry_out.credit_psat,
            fee_sat=it.fee.sat,
            fee_psat=it.fee.carry_psat,
            fee_carry_in_psat=it.carry_in.fee_psat,
            fee_posted_sat=it.fee_posted_sat,
            fee_carry_out_psat=it.carry_out.fee_psat,
            transaction_seq=transaction_seq,
        )
    )


def _hours_before(
    connection: Connection, scheme: Scheme, nbits: int, before_hour: int
) -> Iterator[tuple[int, list[HourWork]]]:
    """The group's work by hour, the newest first."""
    hour = rate_hours.c.hour
    while True:
        from_hour = before_hour - HOURS_AT_ONCE
        found = _hours(connection, scheme, nbits, (hour >= from_hour) & (hour < before_hour))
        if found:
            yield from found
            before_hour = from_hour
            continue
        newest = _newest_hour(connection, scheme, from_hour)
        if newest is None:
            return
        before_hour = newest + 1


def _hours(
    connection: Connection, scheme: Scheme, nbits: int, which: Any
) -> list[tuple[int, list[HourWork]]]:
    """Those hours of the group's work, the newest first."""
    of = rate_hours.c
    rows = connection.execute(
        _work(scheme, rates, of.hour, of.difficulty_log2, of.shares)
        .where(which)
        .order_by(of.hour.desc(), of.rate_id, of.difficulty_log2)
    )
    found = []
    for hour, of_hour in groupby(rows, key=lambda row: row.hour):
        works = []
        for _, of_rate in groupby(of_hour, key=lambda row: row.id):
            listed = list(of_rate)
            price = price_of(listed[0])
            counted = (
                measured(scheme, nbits, price, Fraction(2) ** row.difficulty_log2, row.shares)
                for row in listed
            )
            works.append(
                HourWork(
                    rate_id=listed[0].id,
                    tenant_id=listed[0].tenant_id,
                    fee_bps=listed[0].fee_bps,
                    blocks=sum(counted, Fraction(0)),
                )
            )
        found.append((int(hour), works))
    return found


def _newest_hour(connection: Connection, scheme: Scheme, before_hour: int) -> int | None:
    """Of the group's work. Each rate is asked for its own last: the hours before it are not read."""
    of = rate_hours.c
    last = select(func.max(of.hour)).where(of.rate_id == rates.c.id, of.hour < before_hour)
    newest = select(func.max(last.correlate(rates).scalar_subquery())).where(rates.c.scheme == scheme.value)
    hour: int | None = connection.scalar(newest.select_from(rates))
    return hour


def _work(scheme: Scheme, *columns: Any) -> Select[Any]:
    """Of the group."""
    return (
        select(*columns)
        .select_from(rate_hours)
        .join(rates, rates.c.id == rate_hours.c.rate_id)
        .where(rates.c.scheme == scheme.value)
    )
