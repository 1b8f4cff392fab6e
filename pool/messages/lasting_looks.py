"""Lists of what is wrong until somebody mends it, as messages look at them.

Machines that were given up, meters that did not count in the last hour, tenants whose energy has no price,
orders whose buyers do not pay.
Must not know: what is told of it.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from pool.books.energy_books import UnpricedEnergy
from pool.books.sales_books import Running, Unpaid
from pool.messages.look import Lasting, LastingLook
from pool.power.control.held import Standing
from pool.power.curtailment.told_books import MeterHour
from pool.reports.figures import grouped, kwh

HOUR_S: Final = 3_600


def given_up(it: Standing, *, whole: bool) -> LastingLook:
    """Machines that are told to mine no more, after a week."""
    words = "it was told to mine for a week, does not, and is told no more"
    return LastingLook(
        kind="machine-given-up",
        of="machine",
        listed=tuple(Lasting(str(name), words) for name in it.given_up),
        whole=whole,
        well="is no longer given up",
    )


def uncounted(meters: Sequence[MeterHour] | None) -> LastingLook:
    """Meters whose last hour is booked by work."""
    return LastingLook(
        kind="meter-uncounted",
        of="meter",
        listed=tuple(
            Lasting(it.meter, f"the hour from {_utc(it.hour * HOUR_S)} is booked by work: {it.why}")
            for it in meters or ()
            if it.why
        ),
        whole=meters is not None,
        well="counts again",
    )


def unpriced(its: Sequence[UnpricedEnergy] | None, tenant: Callable[[int], str | None]) -> LastingLook:
    """Tenants of whom nothing is charged for some hours."""
    return LastingLook(
        kind="energy-unpriced",
        of="tenant",
        listed=tuple(
            Lasting(
                tenant(it.tenant_id) or f"number {it.tenant_id}",
                f"{kwh(it.joules)} of {grouped(it.hours)} hours are not charged: {', '.join(it.whys)}",
            )
            for it in its or ()
        ),
        whole=its is not None,
        well="is charged for all of its energy",
    )


def unpaid(its: Sequence[Unpaid] | None, *, stopped: bool) -> LastingLook:
    """Orders whose invoices are overdue, or that have stopped for it."""
    return LastingLook(
        kind="order-stopped" if stopped else "order-unpaid",
        of="order",
        listed=tuple(
            Lasting(
                it.order,
                f"{grouped(it.sat)} sat of {it.invoices} invoices are overdue, since {_utc(it.since_s)}"
                + (": its machines went home, and come back when it is paid" if stopped else ""),
            )
            for it in its or ()
            if it.stopped or not stopped
        ),
        whole=its is not None,
        well="goes on" if stopped else "is paid",
    )


def running_out(its: Sequence[Running] | None, *, stopped: bool) -> LastingLook:
    """Prepaid orders whose deposit covers less than a day more, or that have stopped for it."""
    return LastingLook(
        kind="order-uncovered" if stopped else "order-running-out",
        of="order",
        listed=tuple(
            Lasting(
                it.order,
                f"{grouped(-it.left_sat)} sat are missing for an hour more: its machines go home, and come"
                " back when that is paid"
                if stopped
                else f"what was paid for it lasts until {_utc(it.until_s)}",
            )
            for it in its or ()
            if it.stopped or not stopped
        ),
        whole=its is not None,
        well="goes on" if stopped else "is paid for a day more",
    )


def _utc(at_s: int) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M} UTC"
