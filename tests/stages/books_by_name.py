"""What is in the books, by the names of machines."""

from sqlalchemy import Connection, func, select

from payouts.schemas.money import containers, tally_minutes, tenants, workers
from stratum.tallies import Verdict


def shares_by_name(connection: Connection) -> dict[str, int]:
    """Accepted shares in minutes."""
    rows = connection.execute(
        select(tenants.c.name, containers.c.name, workers.c.unit, func.sum(tally_minutes.c.shares))
        .select_from(tally_minutes)
        .join(workers, workers.c.id == tally_minutes.c.worker_id)
        .join(containers)
        .join(tenants, tenants.c.id == workers.c.tenant_id)
        .where(tally_minutes.c.verdict == Verdict.ACCEPTED)
        .group_by(tenants.c.name, containers.c.name, workers.c.unit)
    )
    return {f"{tenant}.{place}.{unit}": int(shares) for tenant, place, unit, shares in rows}
