"""Charges that are in no invoice yet, found without a look at all that are.

An invoice takes every charge of an hour before its end. So what is in none was charged after the end of the
order's last invoice, or so much before it as an hour may be settled early.

Invariants: reads only; as many rows are read as were charged since the last invoice. Must not know: when an
invoice is due, and what is paid.
"""

from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, Select, func, select

from payouts.schemas.sales import order_billing, order_charges, order_invoice_lines, order_invoices

# Who settles the hour that is not over (a rehearsal) charges it so much before its end.
EARLY_S: Final = 2 * 3600


def open_charges(
    connection: Connection, order_id: int, invoiced_until_s: int | None, before_hour: int
) -> list[Row[Any]]:
    """Of hours before that one: seq, hour, posted_sat, as they were charged. `invoiced_until_s`: the end of
    the order's last invoice."""
    of = order_charges.c
    query = _open_of(order_id, invoiced_until_s, of.seq, of.hour, of.posted_sat)
    return list(connection.execute(query.where(of.hour < before_hour).order_by(of.seq)))


def open_sat(connection: Connection, order_id: int, invoiced_until_s: int | None) -> int:
    """What all of an order's come to."""
    total = func.coalesce(func.sum(order_charges.c.posted_sat), 0)
    return int(connection.scalar(_open_of(order_id, invoiced_until_s, total)) or 0)


def orders_with_open_charges(connection: Connection) -> list[int]:
    """By number."""
    of, invoices = order_charges.c, order_invoices.c
    ends_s = func.max(invoices.to_s).label("to_s")
    last = select(invoices.order_id, ends_s).group_by(invoices.order_id).subquery()
    since_s: ColumnElement[int] = func.coalesce(last.c.to_s, 0) - EARLY_S
    open_ones = (
        _open(of.seq).where(of.order_id == order_billing.c.order_id, of.charged_at_s >= since_s).exists()
    )
    query = select(order_billing.c.order_id).outerjoin(last, last.c.order_id == order_billing.c.order_id)
    return list(connection.scalars(query.where(open_ones).order_by(order_billing.c.order_id)))


def _open_of(order_id: int, invoiced_until_s: int | None, *columns: Any) -> Select[Any]:
    of = order_charges.c
    query = _open(*columns).where(of.order_id == order_id)
    return query if invoiced_until_s is None else query.where(of.charged_at_s >= invoiced_until_s - EARLY_S)


def _open(*columns: Any) -> Select[Any]:
    lines = order_invoice_lines.c
    return (
        select(*columns)
        .select_from(order_charges)
        .outerjoin(order_invoice_lines, lines.charge_seq == order_charges.c.seq)
        .where(lines.charge_seq.is_(None))
    )
