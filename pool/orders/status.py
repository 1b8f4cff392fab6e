"""What an order does at this moment, for whoever shows it.

Must not know: where it is shown, and how it is found out.
"""

import msgspec


class OrderStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One order, as the allocator measured it last."""

    order_id: int
    supply_hps: float
    shortage_hps: float  # 0.0 within the tolerance
    machines: int
    moving: int  # machines that are on their way to it or from it
