"""Doubles: one payment that persons say, and that the chain has as well.

What is paid to an order's address is booked by itself, days or hours after somebody may have seen it. So
whoever says of an order with an address that it was paid says by what other way. Where the chain has a
payment of about the same amount, for any order of the same buyer, within ALIKE_S, he says why it is another
one, and names it: he has seen it. And where the chain's came later, nothing of the buyer's orders is given
back by who does not name it. A transaction that the chain has is named by no payment, whichever order it is
for.

Invariants: reads only. Must not know: who says so.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, select

from payouts.ledger import LedgerError
from payouts.sales.standing import DUST_SAT, deposits_in_force, payments_in_force
from payouts.sales.ways import Way
from payouts.schemas.orders import orders
from payouts.schemas.proposals import proposals
from payouts.schemas.sales import order_addresses, order_deposits

ALIKE_S: Final = 30 * 86_400  # a bank and a clerk take days, and who looks through a month's payments a month
NAMED: Final = 8  # digits of a transaction's id, that name it
# Alike is what differs by no more than a fee does: a hundredth, or so many satoshi of a large payment.
FEE_SAT: Final = 50_000


class Double(msgspec.Struct, frozen=True, kw_only=True):
    """A payment that persons said, and one of the chain of about the same amount."""

    entry: int
    txid: str


def reference_of(connection: Connection, order_id: int, reference: str, way: Way | None) -> str:
    """As it is booked, with the way that it came. Raises LedgerError where that has to be said."""
    if way is not None:
        return f"{way.value}: {reference}"
    if _has_address(connection, order_id):
        raise LedgerError(
            f"order {order_id} has an address of its own, and what is paid there is booked from the chain by"
            " itself: say by what other way this came (--by bank, or other)"
        )
    return reference


def references_alike(reference: str) -> tuple[str, ...]:
    """Whichever way it is said to have come by: a reference is one payment's."""
    prefixes = tuple(f"{it.value}: " for it in Way)
    bare = reference.partition(": ")[2] if reference.startswith(prefixes) else reference
    return (bare, *(prefix + bare for prefix in prefixes))


def check_not_on_chain(connection: Connection, txids: Iterable[str]) -> None:
    """Raises LedgerError for a transaction that is booked from the chain, for whichever order."""
    of = order_deposits.c
    named = select(of.order_id, of.txid).where(of.txid.in_([it.lower() for it in txids]))
    found = connection.execute(named.limit(1)).one_or_none()
    if found is not None:
        raise LedgerError(
            f"what transaction {found.txid} pays is booked from the chain, for order {found.order_id}"
        )


def check_said(connection: Connection, order_id: int, amount_sat: int, why: str, at_s: int) -> None:
    """Raises LedgerError where the chain has such a payment that the reason does not name."""
    for it in _deposits(connection, order_id):
        if _alike(it, amount_sat, at_s) and it.txid[:NAMED] not in why.lower():
            raise LedgerError(
                f"the chain has a payment of {it.amount_sat} satoshi for order {it.order_id}, booked on"
                f" {datetime.fromtimestamp(it.booked_at_s, UTC):%Y-%m-%d} from transaction {it.txid}. If this"
                f" is another one, name {it.txid[:NAMED]} in the reason (--why)"
            )


def check_given_back(connection: Connection, order_id: int, why: str) -> None:
    """Raises LedgerError where what was paid too much may be one payment twice."""
    for it in doubles(connection, order_id):
        if it.txid[:NAMED] not in why.lower():
            raise LedgerError(
                f"entry {it.entry}, which persons said, and transaction {it.txid} are of one amount. Is it"
                " one payment, `angara ledger reverse` takes the entry back; are they two, name"
                f" {it.txid[:NAMED]} in the reason (--why)"
            )


def doubles(connection: Connection, order_id: int) -> tuple[Double, ...]:
    """Which nobody has told apart, of all orders of an order's buyer."""
    deposits = _deposits(connection, order_id)
    orders_of_buyer = _orders_of_buyer(connection, order_id) if deposits else []
    in_force = [row for it in orders_of_buyer for row in payments_in_force(connection, it)]
    said = [it for it in in_force if it.kind == "payment"]
    numbers = [it.proposal_id for it in said]
    reasons = select(proposals.c.id, proposals.c.why).where(proposals.c.id.in_(numbers))
    why = {row.id: row.why.lower() for row in connection.execute(reasons)}
    return tuple(
        Double(entry=payment.id, txid=it.txid)
        for payment in said
        for it in deposits
        if _alike(it, payment.amount_sat, payment.booked_at_s)
        and it.txid[:NAMED] not in why[payment.proposal_id]
    )


def _alike(deposit: Row[Any], amount_sat: int, at_s: int) -> bool:
    fee_sat = max(amount_sat // 100, min(FEE_SAT, amount_sat // 10), DUST_SAT)
    apart_s, apart_sat = deposit.booked_at_s - at_s, deposit.amount_sat - amount_sat
    return bool(abs(apart_s) <= ALIKE_S and abs(apart_sat) <= fee_sat)


def _deposits(connection: Connection, order_id: int) -> list[Row[Any]]:
    """What the chain has of payments for the orders of an order's buyer."""
    mine = _orders_of_buyer(connection, order_id)
    return [row for it in mine for row in deposits_in_force(connection, it)]


def _orders_of_buyer(connection: Connection, order_id: int) -> list[int]:
    buyer = select(orders.c.buyer).where(orders.c.id == order_id).scalar_subquery()
    return list(connection.scalars(select(orders.c.id).where(orders.c.buyer == buyer).order_by(orders.c.id)))


def _has_address(connection: Connection, order_id: int) -> bool:
    query = select(order_addresses.c.order_id).where(order_addresses.c.order_id == order_id)
    return connection.scalar(query) is not None
