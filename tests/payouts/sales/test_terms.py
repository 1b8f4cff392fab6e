"""When the day, the week and the month began, and which terms of an order cannot be."""

from datetime import UTC, date, datetime

import pytest

from payouts.sales.billing import Billing
from payouts.sales.terms import BillingTerms, period_start_s


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("billing", "moment", "start"),
    [
        (Billing.DAILY, "2026-09-01T00:00:00", "2026-09-01"),
        (Billing.DAILY, "2026-09-01T23:59:59", "2026-09-01"),
        (Billing.WEEKLY, "2026-09-06T23:59:59", "2026-08-31"),  # a Sunday's week began on the Monday before
        (Billing.WEEKLY, "2026-09-07T00:00:00", "2026-09-07"),
        (Billing.MONTHLY, "2028-02-29T12:00:00", "2028-02-01"),
        (Billing.MONTHLY, "2028-03-01T00:00:00", "2028-03-01"),
    ],
)
def test_a_period_begins_at_midnight(billing: Billing, moment: str, start: str) -> None:
    assert period_start_s(billing, at(moment)) == at(f"{date.fromisoformat(start)}T00:00:00")


@pytest.mark.parametrize(
    "terms",
    [
        {"due_days": 1},
        {"stop_days": 1},
        {"billing": Billing.DAILY, "due_days": -1},
        {"billing": Billing.DAILY, "due_days": 366},
        {"billing": Billing.DAILY, "stop_days": 366},
    ],
)
def test_terms_that_cannot_be(terms: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="invoice"):
        BillingTerms(**terms)  # type: ignore[arg-type]
