"""Upstreams and orders for tests of the books, as the least rows that they need."""

from sqlalchemy import Connection, insert

from payouts.schemas.orders import orders, upstreams


def upstream_row(connection: Connection, name: str = "north") -> int:
    """An upstream without endpoints; its number."""
    row = insert(upstreams).values(
        name=name, outage_s=30, connections=1, status="active", created_at_s=0, created_by="olga"
    )
    return int(connection.execute(row.returning(upstreams.c.id)).scalar_one())


def order_row(
    connection: Connection, upstream_id: int, name: str = "blue", sat_per_ph_day: int = 50_000
) -> int:
    """An order without suppliers; its number."""
    row = insert(orders).values(
        name=name,
        buyer="Blue Ocean",
        upstream_id=upstream_id,
        hashrate_ths=50_000,
        tolerance_bps=200,
        from_s=0,
        until_s=1 << 40,
        priority=50,
        sat_per_ph_day=sat_per_ph_day,
        created_at_s=0,
        created_by="olga",
    )
    return int(connection.execute(row.returning(orders.c.id)).scalar_one())
