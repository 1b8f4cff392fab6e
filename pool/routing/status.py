"""What a running pool's routes do at this moment: upstream channels and orders, for whoever shows it.

Must not know: where it is shown, and how it is found out.
"""

import msgspec

from pool.orders.status import OrderStatus
from pool.upstreams.status import UpstreamStatus


class RouteStatus(msgspec.Struct, frozen=True, kw_only=True):
    """All of them; nothing where there are no routes."""

    upstreams: tuple[UpstreamStatus, ...] = ()
    orders: tuple[OrderStatus, ...] = ()
