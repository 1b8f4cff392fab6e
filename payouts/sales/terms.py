"""By which terms an order is billed: how often, when it is to be paid, and when it stops where it is not.

Invariant: they are said when the order is sold, and never change. Must not know: what was delivered.
"""

from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, insert, select

from payouts.sales.billing import Billing
from payouts.schemas.sales import order_billing

DAY_S: Final = 86_400
DAYS_MAX: Final = 365
DUE_DAYS: Final = 14  # where nothing else is said
MONDAY: Final = 3  # 1 January 1970 was a Thursday: three days after one


class BillingTerms(msgspec.Struct, frozen=True, kw_only=True):
    """`stop_days`: the order stops so many days after an invoice was due; None: it goes on. `prepaid`: it
    runs while what was paid covers it (`payouts.sales.prepaid`). Raises ValueError for what cannot be."""

    billing: Billing = Billing.NONE
    due_days: int = 0
    stop_days: int | None = None
    prepaid: bool = False

    def __post_init__(self) -> None:
        if self.billing is Billing.NONE and (self.due_days or self.stop_days is not None):
            raise ValueError("an order that has no invoices has none that are due: give --billing")
        if self.prepaid and (self.billing is Billing.NONE or self.due_days or self.stop_days is not None):
            raise ValueError(
                "what is prepaid has invoices (give --billing), and they are paid when they are made"
            )
        for days in (self.due_days, self.stop_days or 0):
            if not 0 <= days <= DAYS_MAX:
                raise ValueError(f"an invoice is due, and an order stops, within 0 to {DAYS_MAX} days")


UNBILLED: Final = BillingTerms()


def period_start_s(billing: Billing, at_s: int) -> int:
    """When the day, the week (from Monday) or the month that a moment is in began, UTC."""
    day = at_s // DAY_S
    match billing:
        case Billing.WEEKLY:
            day -= (day + MONDAY) % 7
        case Billing.MONTHLY:
            day -= datetime.fromtimestamp(at_s, UTC).day - 1
    return day * DAY_S


def set_billing(connection: Connection, order_id: int, terms: BillingTerms) -> None:
    """Of an order that is new."""
    if terms.billing is Billing.NONE:
        return
    connection.execute(
        insert(order_billing).values(
            order_id=order_id,
            period=terms.billing.value,
            due_days=terms.due_days,
            stop_days=terms.stop_days,
            prepaid=int(terms.prepaid),
        )
    )


def billing_of(connection: Connection) -> dict[int, BillingTerms]:
    """Of all orders that are billed, by number."""
    return {
        row.order_id: BillingTerms(
            billing=Billing(row.period),
            due_days=row.due_days,
            stop_days=row.stop_days,
            prepaid=bool(row.prepaid),
        )
        for row in connection.execute(select(order_billing).order_by(order_billing.c.order_id))
    }


def ends_s(order: Row[Any]) -> int:
    """When an order is over."""
    return int(order.until_s if order.ended_at_s is None else min(order.ended_at_s, order.until_s))
