"""Receipts against the books: each follows the one before it, is what its counts and terms come to, and all
of an hour's together are what the books have of that hour.

An hour that somebody mended since it was over may have more than its receipts for a while: the next of them
has it. Must not know: the key.
"""

from collections import Counter
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, func, select

from payouts.audit.finding import Found
from payouts.proof.angara_verify import receipt_hash, signed_by
from payouts.proof.roots import binding
from payouts.rates import PSAT_PER_SAT
from payouts.receipts.hours import Counts, counted_hours
from payouts.receipts.receipt import Receipt, Sale, counts_of, next_receipt
from payouts.receipts.rows import changed_psat_of, due_psat_of, hour_of, receipt_of, sale_of
from payouts.sales.charges import CORRECTED_H, ChargeKind
from payouts.schemas.orders import orders, upstreams
from payouts.schemas.receipts import order_receipts
from payouts.schemas.sales import order_billing, order_charges

TABLE: Final = "order_receipts"


def check_receipts(connection: Connection) -> None:
    """Raises Found for the first that is wrong."""
    if binding(connection) is None:
        return  # nothing is closed before it is bound to a chain
    of = order_receipts.c
    named = select(orders, upstreams.c.name.label("upstream")).join(
        upstreams, upstreams.c.id == orders.c.upstream_id
    )
    for order in connection.execute(named.order_by(orders.c.id)).all():
        sale, before, told = sale_of(connection, order), None, dict[int, Counts]()
        changed: Counter[int] = Counter()
        mine = select(order_receipts).where(of.order_id == order.id).order_by(of.number)
        for row in connection.execute(mine):
            before = _checked(row, before, sale)
            told.setdefault(row.hour, Counter()).update(counts_of(before))
            changed[row.hour] += changed_psat_of(before)
        if told:
            _check_hours(connection, order.id, told)
        _check_charges(connection, order.id, changed)


def _checked(row: Row[Any], before: Receipt | None, sale: Sale) -> Receipt:
    key = (row.order_id, row.number)
    try:
        it = receipt_of(row)
        hour = hour_of(it)
    except (msgspec.DecodeError, ValueError):
        raise Found.of(TABLE, key, "it cannot be read") from None
    if (row.number, row.hour, row.part) != (it.number, hour, it.part):
        raise Found.of(TABLE, key, "it is of another number or hour than it says")
    due = divmod(due_psat_of(it), PSAT_PER_SAT)
    if (row.bill_sat, row.bill_psat, row.due_sat, row.due_psat) != (
        *divmod(it.bill_psat, PSAT_PER_SAT),
        *due,
    ):
        raise Found.of(TABLE, key, "it bills something else than it says")
    digest = receipt_hash(msgspec.to_builtins(it))
    if it.hash != digest.hex():
        raise Found.of(TABLE, key, "its hash is not that of its content")
    if bool(it.key) != bool(it.signature) or (it.key and not _is_signed(it, digest)):
        raise Found.of(TABLE, key, "it is not signed by its key")
    # An order that was ended since has receipts of when it was not.
    then = msgspec.structs.replace(sale, ended_utc=it.ended_utc)
    again = next_receipt(then, before, hour, it.part, counts_of(it), None)
    if msgspec.structs.replace(again, key=it.key, hash="", signature="") != msgspec.structs.replace(
        it, hash="", signature=""
    ):
        raise Found.of(TABLE, key, "it does not follow from the one before it, its counts and its order")
    return it


def _is_signed(it: Receipt, digest: bytes) -> bool:
    try:
        return signed_by(bytes.fromhex(it.key), digest, bytes.fromhex(it.signature))
    except ValueError:
        return False


def _check_charges(connection: Connection, order_id: int, changed: Counter[int]) -> None:
    """What was charged of an hour besides its work, where it is billed, is what its receipts change."""
    billed = order_billing.c.order_id == order_id
    if connection.scalar(select(order_billing.c.order_id).where(billed)) is None:
        return
    of = order_charges.c
    mine = (of.order_id == order_id) & (of.kind == ChargeKind.MAKE_GOOD.value)
    sums = select(of.hour, func.sum(of.amount_sat), func.sum(of.amount_psat)).where(mine).group_by(of.hour)
    charged = {hour: int(sat) * PSAT_PER_SAT + int(psat) for hour, sat, psat in connection.execute(sums)}
    for hour in sorted(charged.keys() | changed.keys()):
        if charged.get(hour, 0) != changed[hour]:
            raise Found.of("order_charges", (order_id, hour), "it is not what the hour's receipts change")


def _check_hours(connection: Connection, order_id: int, told: dict[int, Counts]) -> None:
    """All receipts of an order, added up by hour, are what the books have of it."""
    newest = max(told)
    booked = counted_hours(connection, order_id, 0, newest + 1)
    for hour in sorted(told.keys() | booked.keys()):
        books, receipts = booked.get(hour, Counter()), told.get(hour, Counter())
        if receipts - books:
            raise Found.of(
                TABLE, (order_id, hour), "its receipts have what the books do not have of that hour"
            )
        later = books - receipts
        del later["away",]  # a minute that was noted late: nothing follows from it any more
        if later and hour <= newest - CORRECTED_H:
            raise Found.of(TABLE, (order_id, hour), "the books have what is in no receipt of that hour")
