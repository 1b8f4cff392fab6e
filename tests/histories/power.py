"""A site with containers and machines, and what they mined, as the books have it."""

from collections.abc import Mapping

from sqlalchemy import Connection, insert

from payouts.rates import Scheme
from payouts.schemas.money import tally_hours, tally_minutes, workers
from pool.fleet.rows import TenantTerms, add_tenant, set_container

NOW_S = 1_800_000_000  # 08:00 of a day
HOUR = NOW_S // 3600
TERMS = TenantTerms(scheme=Scheme.PPS, fee_bps=200, payout_minimum_sat=0)


def add_container(
    connection: Connection,
    name: str,
    units: int,
    *,
    site: str | None = "Bratsk",
    ths: int | None = None,
    kw: int | None = None,
    now_s: int = NOW_S,
) -> list[int]:
    """Of tenant.container, which are made where they are new: u1, u2 ... with the numbers that they got."""
    tenant, _, container = name.partition(".")
    if tenant not in _tenants(connection):
        add_tenant(connection, tenant, TERMS, by="olga", now_s=now_s)
    record = set_container(
        connection,
        tenant,
        container,
        site=site,
        units=units,
        ths=ths,
        kw=kw,
        next_id=_highest(connection, "containers") + 1,
        now_s=now_s,
    )
    first = _highest(connection, "workers") + 1
    numbers = list(range(first, first + units))
    rows = [
        {
            "id": number,
            "tenant_id": record.tenant_id,
            "container_id": record.id,
            "unit": f"u{at}",
            "first_seen_at_s": now_s,
            "last_seen_at_s": now_s,
        }
        for at, number in enumerate(numbers, 1)
    ]
    connection.execute(insert(workers), rows)
    return numbers


def mined_in_hour(connection: Connection, hour: int, shares: Mapping[int, int], log2: int = 16) -> None:
    """Accepted shares by worker."""
    _mined(connection, tally_hours, "hour", hour, shares, log2, minutes=(1 << 60) - 1)


def mined_in_minute(connection: Connection, minute: int, shares: Mapping[int, int], log2: int = 16) -> None:
    _mined(connection, tally_minutes, "minute", minute, shares, log2)


def _mined(
    connection: Connection,
    table: object,
    span: str,
    at: int,
    shares: Mapping[int, int],
    log2: int,
    **more: int,
) -> None:
    rows = [
        {
            "worker_id": worker,
            span: at,
            "rate_id": 1,
            "difficulty_log2": log2,
            "verdict": 0,
            "shares": count,
            **more,
        }
        for worker, count in shares.items()
    ]
    connection.execute(insert(table), rows)  # type: ignore[arg-type]


def _tenants(connection: Connection) -> set[str]:
    return set(connection.exec_driver_sql("SELECT name FROM tenants").scalars())


def _highest(connection: Connection, table: str) -> int:
    return int(connection.exec_driver_sql(f"SELECT coalesce(max(id), 0) FROM {table}").scalar_one())  # noqa: S608
