"""A container's own nameplate, kW and TH/s of all its machines, as a nameplate of each: the books keep which
one was in force when.

Everything is done in the caller's transaction, which must be the only writer. Must not know: models.
"""

from typing import Final

from sqlalchemy import Connection, insert, select

from payouts.book_time import book_time
from payouts.schemas.money import containers
from payouts.schemas.power import power_nameplates

# Somebody read it off a box, of machines that differ, with its fans and pumps or without.
PLATE_ERROR_BPS: Final = 1_000
PLATE: Final = "nameplate of the container"
HOUR_S: Final = 3600


def note_plate(connection: Connection, container_id: int, now_s: int) -> None:
    """It was set anew: from the next hour on it is in force where no model is. Of an hour that has begun
    what is charged for is known in part, and no second person looks at a plate."""
    row = connection.execute(select(containers).where(containers.c.id == container_id)).one()
    units, ths, kw = row.nameplate_units or 0, row.nameplate_ths or 0, row.nameplate_kw or 0
    known = ths > 0 and kw > 0
    figures = {
        "hashrate_ghs": ths * 1000 // units if known and units else 0,
        "watts": kw * 1000 // units if known and units else 0,
        "mj_per_th": (kw * 1_000_000 + ths // 2) // ths if known else 0,
    }
    of = power_nameplates.c
    newest = (
        select(*(of[name] for name in figures))
        .where(of.container_id == container_id, of.scope == "plate")
        .order_by(of.from_s.desc(), of.id.desc())
        .limit(1)
    )
    before = connection.execute(newest).one_or_none()
    if figures == (dict.fromkeys(figures, 0) if before is None else dict(before._mapping)):
        return
    now_s = book_time(connection, now_s)
    connection.execute(
        insert(power_nameplates).values(
            container_id=container_id,
            scope="plate",
            from_s=(now_s // HOUR_S + 1) * HOUR_S,
            idle_watts=0,
            error_bps=PLATE_ERROR_BPS,
            source=PLATE,
            set_at_s=now_s,
            set_by="container.set",
            **figures,
        )
    )
