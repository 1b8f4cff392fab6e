"""Receipts in the books: which hours are due, and their rows.

Whoever asks says which hours are over: no share is booked in them any more. An hour of an order gets its
receipt then, also where nothing was delivered in it; what is booked in it all the same is in a further part
of it, and the receipt stays as it was. So does an hour after its end while the order owes work. An order that
was over for long before it had a receipt gets none.

Everything is done in the caller's transaction. Must not know: where the key is kept, and who pays.
"""

from collections import Counter, defaultdict
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, func, insert, select

from payouts.book_time import latest_s
from payouts.ledger import GENESIS_HASH
from payouts.proof.angara_verify import canonical
from payouts.proof.key import ProofKey
from payouts.proof.links import see_that_it_signs
from payouts.proof.roots import binding
from payouts.rates import PSAT_PER_SAT
from payouts.receipts.hours import HOUR_S, Counts, counted_hours, end_s
from payouts.receipts.making_good import MakeGood, MakeGoodTerms, Tolerance
from payouts.receipts.receipt import (
    Receipt,
    Sale,
    Terms,
    at_s,
    next_receipt,
    owed_work,
    psat_of,
    without,
)
from payouts.sales.charges import CORRECTED_H, ChargeKind, charge_line
from payouts.schemas.orders import order_terms, orders, upstreams
from payouts.schemas.receipts import order_receipts
from payouts.statements.period import utc

# Of an order at once: a day of it is a quarter of a second of signatures.
RECEIPTS_AT_ONCE: Final = 24
# An order that was over for so long before it had a receipt is of a time without receipts.
FORGOTTEN_H: Final = 7 * 24


class Billed(msgspec.Struct, frozen=True):
    """The sums of an order's receipts up to that number: what the buyer owes, and what is due to him."""

    number: int
    bill_psat: int
    due_psat: int


def due_orders(connection: Connection, until_hour: int, *, again: bool) -> list[int]:
    """Numbers of orders with an hour that is over and has no receipt. `again`: with those whose hours are to
    be looked at again."""
    if binding(connection) is None:
        return []
    mine = order_receipts.c.order_id == orders.c.id
    newest = select(func.max(order_receipts.c.hour)).where(mine).scalar_subquery().label("newest")
    found, extensions = [], {it: of.extension_h for it, of in all_terms(connection).items()}
    for row in connection.execute(select(orders, newest).order_by(orders.c.id)).all():
        first, ends = row.from_s // HOUR_S, -(-end_s(row) // HOUR_S)
        if row.newest is None and ends < until_hour - FORGOTTEN_H:
            continue
        following = first if row.newest is None else row.newest + 1
        latest = ends + extensions.get(row.id, 0)
        if again and first < until_hour < latest + CORRECTED_H:
            found.append(row.id)
        elif ends <= following < min(latest, until_hour):
            ends = _ends(row, extensions[row.id], last_receipt(connection, row.id))
        if row.id not in found and following < min(ends, until_hour):
            found.append(row.id)
    return found


def made(connection: Connection, order_id: int, until_hour: int, key: ProofKey | None) -> tuple[Receipt, ...]:
    """The next receipts of an order, in their order. Reads only. Raises NoSigning."""
    order = connection.execute(
        select(orders, upstreams.c.name.label("upstream"))
        .join(upstreams, upstreams.c.id == orders.c.upstream_id)
        .where(orders.c.id == order_id)
    ).one()
    if key is not None:
        see_that_it_signs(connection, key)
    sale = sale_of(connection, order)
    before = last_receipt(connection, order_id)
    found = []
    for hour, part, counts in _due(connection, order, until_hour):
        before = next_receipt(sale, before, hour, part, counts, key)
        found.append(before)
    return tuple(found)


def sale_of(connection: Connection, order: Row[Any]) -> Sale:
    """Of a row that has the name of its upstream."""
    bound = binding(connection)
    assert bound is not None
    ended_s, chosen = end_s(order), all_terms(connection).get(order.id)
    extends = chosen is not None and chosen.how is MakeGood.EXTENSION
    return Sale(
        book=bound[2],
        order=order.name,
        buyer=order.buyer,
        upstream=order.upstream,
        terms=Terms(
            hashrate_ths=order.hashrate_ths,
            sat_per_ph_day=order.sat_per_ph_day,
            from_utc=utc(order.from_s),
            until_utc=utc(order.until_s),
            make_good=chosen.how if chosen else msgspec.UNSET,
            tolerances=chosen.tolerances if chosen else msgspec.UNSET,
            extension_h=chosen.extension_h if chosen and extends else msgspec.UNSET,
        ),
        ended_utc=utc(ended_s) if ended_s < order.until_s else msgspec.UNSET,
    )


def all_terms(connection: Connection) -> dict[int, MakeGoodTerms]:
    """By order, of those that make good what is missing."""
    return {
        row.order_id: MakeGoodTerms(
            how=MakeGood(row.make_good) if row.extension_h is None else MakeGood.EXTENSION,
            tolerances=tuple(Tolerance(*map(int, it.split(":"))) for it in row.tolerances.split(",")),
            extension_h=row.extension_h or 0,
        )
        for row in connection.execute(select(order_terms))
    }


def note(connection: Connection, order_id: int, new: tuple[Receipt, ...]) -> bool:
    """Write them down, and charge what they change, unless somebody did: what does not follow the last one is
    none any more."""
    last = last_receipt(connection, order_id)
    for it in new:
        if (it.number, it.previous) != ((last.number + 1, last.hash) if last else (1, GENESIS_HASH)):
            return False
        bill_sat, bill_psat = divmod(it.bill_psat, PSAT_PER_SAT)
        due_sat, due_psat = divmod(due_psat_of(it), PSAT_PER_SAT)
        connection.execute(
            insert(order_receipts).values(
                order_id=order_id,
                number=it.number,
                hour=hour_of(it),
                part=it.part,
                bill_sat=bill_sat,
                bill_psat=bill_psat,
                due_sat=due_sat,
                due_psat=due_psat,
                content=content_of(it),
                hash=it.hash,
                signature=it.signature,
            )
        )
        last = it
        if changed_psat := changed_psat_of(it):
            kind, now_s = ChargeKind.MAKE_GOOD, latest_s(connection)
            charge_line(connection, order_id, hour_of(it), kind, changed_psat, now_s)
    return True


def receipts(
    connection: Connection,
    order_id: int,
    first: int = 1,
    at_most: int | None = None,
    hours: tuple[int, int] | None = None,
) -> tuple[Receipt, ...]:
    """From that number on; of hours from the first until before the second."""
    of = order_receipts.c
    query = select(order_receipts).where(of.order_id == order_id, of.number >= first)
    if hours is not None:
        query = query.where(of.hour >= hours[0], of.hour < hours[1])
    return tuple(map(receipt_of, connection.execute(query.order_by(of.number).limit(at_most))))


def last_receipt(connection: Connection, order_id: int) -> Receipt | None:
    """The newest."""
    of = order_receipts.c
    query = select(order_receipts).where(of.order_id == order_id).order_by(of.number.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else receipt_of(row)


def receipt_of(row: Row[Any]) -> Receipt:
    """Raises msgspec.DecodeError for one that somebody tampered with."""
    content = msgspec.json.decode(row.content, type=Receipt)
    return msgspec.structs.replace(content, hash=row.hash, signature=row.signature)


def content_of(receipt: Receipt) -> str:
    """What its hash is over."""
    of: dict[str, Any] = msgspec.to_builtins(receipt)
    return canonical({name: it for name, it in of.items() if name not in ("hash", "signature")}).decode()


def hour_of(receipt: Receipt) -> int:
    """Since 1970."""
    return at_s(receipt.hour_utc) // HOUR_S


def due_psat_of(receipt: Receipt) -> int:
    """What it has to be paid back."""
    return 0 if receipt.made_good is msgspec.UNSET else receipt.made_good.due_psat


def changed_psat_of(receipt: Receipt) -> int:
    """By how much it changes what the buyer would owe for the work alone: below zero for his good."""
    if receipt.made_good is msgspec.UNSET:
        return 0
    before, price = int(receipt.work_before), receipt.terms.sat_per_ph_day
    alone = psat_of(before + int(receipt.work), price) - psat_of(before, price)
    return receipt.bill_psat - receipt.made_good.due_psat - alone


def billed(connection: Connection, order_id: int) -> Billed:
    """Up to the newest."""
    of = order_receipts.c
    sums = (func.sum(it) for it in (of.bill_sat, of.bill_psat, of.due_sat, of.due_psat))
    row = connection.execute(select(func.max(of.number), *sums).where(of.order_id == order_id)).one()
    number, bill_sat, bill_psat, due_sat, due_psat = (int(it or 0) for it in row)
    return Billed(number, bill_sat * PSAT_PER_SAT + bill_psat, due_sat * PSAT_PER_SAT + due_psat)


def _ends(order: Row[Any], extension_h: int, last: Receipt | None) -> int:
    """The hour from which on an order has receipts only of what comes late: its end, or that of its extension
    while it owes work."""
    ends = -(-end_s(order) // HOUR_S)
    goes_on = order.ended_at_s is None and owed_work(last) > 0
    return ends + extension_h if goes_on else ends


def _due(connection: Connection, order: Row[Any], until_hour: int) -> list[tuple[int, int, Counts]]:
    """Hours with the next part of each, and what is in it: first those that have none."""
    of = order_receipts.c
    newest = connection.scalar(select(func.max(of.hour)).where(of.order_id == order.id))
    ends = -(-end_s(order) // HOUR_S)
    following = order.from_s // HOUR_S if newest is None else int(newest) + 1
    if following < min(ends, until_hour):
        ends = min(ends, until_hour, following + RECEIPTS_AT_ONCE)
    elif following < until_hour and (terms := all_terms(connection).get(order.id)) is not None:
        # One at a time: what it says may be that nothing is owed any more.
        ends = _ends(order, terms.extension_h, last_receipt(connection, order.id))
        ends = min(ends, following + 1)
    if following < min(ends, until_hour):
        counted = counted_hours(connection, order.id, following, ends)
        return [(hour, 0, counted.get(hour, Counter())) for hour in range(following, ends)]
    since = until_hour - CORRECTED_H
    told: dict[int, list[Receipt]] = defaultdict(list)
    for it in receipts(connection, order.id, hours=(since, until_hour)):
        told[hour_of(it)].append(it)
    later = []
    for hour, counts in counted_hours(connection, order.id, since, until_hour).items():
        left = +without(counts, told[hour])
        del left["away",]
        if left:
            later.append((hour, len(told[hour]), left))
    return later[:RECEIPTS_AT_ONCE]
