"""By what way a payment came that persons say.

Must not know: what that means in the books, which take a second to import.
"""

from enum import StrEnum


class Way(StrEnum):
    """Which is not the order's own address: what is paid there is booked from the chain."""

    BANK = "bank"
    OTHER = "other"  # cash, a bill that was netted, a transaction to another address
