"""How often the buyer of an order has an invoice.

Must not know: what that means in the books, which take a second to import.
"""

from enum import StrEnum


class Billing(StrEnum):
    """How often an order has an invoice; none: nothing of it is booked."""

    NONE = "none"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
