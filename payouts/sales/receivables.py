"""What all buyers owe together, by how long it is due; and of how many orders something is overdue.

Invariants: pure; all ages together, less what was paid in advance, are what the ledger has as owed. Must not
know: who asks.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

import msgspec

from payouts.sales.standing import InvoiceState, OrderStanding
from payouts.sales.terms import DAY_S


class Age(StrEnum):
    """Of what is owed."""

    NOT_INVOICED = "not-invoiced"
    OPEN = "open"  # not due yet
    DUE = "due"  # since less than a day, or dust
    WEEK = "overdue-week"  # for a week at most
    MONTH = "overdue-month"  # for 30 days at most
    LONGER = "overdue-longer"
    ADVANCE = "advance"  # that was paid, and is not owed: to the buyers' good


_AGES: Final = ((7 * DAY_S, Age.WEEK), (30 * DAY_S, Age.MONTH))


class Receivables(msgspec.Struct, frozen=True, kw_only=True):
    """Satoshi by age; and orders that are not paid, of which some have stopped."""

    sat: dict[Age, int]
    overdue_orders: int
    stopped_orders: int


def receivables(standings: Iterable[OrderStanding], now_s: int) -> Receivables:
    """Of all orders that are billed."""
    sat, overdue, stopped = dict.fromkeys(Age, 0), 0, 0
    for it in standings:
        rest_sat = it.owed_sat
        for invoice in it.invoices:
            sat[_age(invoice.state, now_s - invoice.due_at_s)] += invoice.unpaid_sat
            rest_sat -= invoice.unpaid_sat
        # What is in no invoice; or what was paid beyond all of them.
        sat[Age.NOT_INVOICED if rest_sat > 0 else Age.ADVANCE] += abs(rest_sat)
        overdue += bool(it.overdue)
        stopped += it.stopped
    return Receivables(sat=sat, overdue_orders=overdue, stopped_orders=stopped)


def _age(state: InvoiceState, late_s: int) -> Age:
    match state:
        case InvoiceState.OVERDUE | InvoiceState.STOPPED:
            return next((age for at_most_s, age in _AGES if late_s <= at_most_s), Age.LONGER)
        case InvoiceState.OPEN:
            return Age.OPEN
    return Age.DUE
