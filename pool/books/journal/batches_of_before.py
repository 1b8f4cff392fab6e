"""What a version of before had committed and not folded: batches in rows of the books themselves.

They are taken at the first start, before anything else is, in transactions that delete them: so each is in
the minutes once, wherever that is killed.

Must not know: the log.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, delete, select

from payouts.schemas.money import containers, journal_writers, tenants, workers
from pool.books.journal.bookings import Bookings
from pool.books.journal.machine_rows import MachineRows
from pool.books.journal.rate_rows import RateRows
from pool.books.journal.schema import journal_batches
from pool.books.journal.window import window_of
from pool.books.store import Store
from pool.fleet.registry import WorkerRecord
from pool.journal.frames import Place
from pool.journal.records import Batch, Machine

FOLDER: Final = "fold"  # the writer's name in journal_writers, of that version
BATCHES_AT_ONCE: Final = 1_000


def take_batches_of_before(store: Store) -> int:
    """All of them; how many there were."""
    count = 0
    while True:
        with store.write() as connection:
            oldest = select(journal_batches).order_by(journal_batches.c.seq).limit(BATCHES_AT_ONCE)
            rows = connection.execute(oldest).all()
            if not rows:
                return count
            _take(connection, rows)
            connection.execute(delete(journal_batches).where(journal_batches.c.seq <= rows[-1].seq))
            count += len(rows)


def names_in(packed: bytes) -> tuple[WorkerRecord, ...]:
    """Workers whose first accepted shares are in a batch."""
    return msgspec.msgpack.decode(packed, type=tuple[WorkerRecord, ...])


def _take(connection: Connection, rows: Sequence[Row[Any]]) -> None:
    places = dict(connection.execute(select(containers.c.id, containers.c.name)).all())
    owners = dict(connection.execute(select(tenants.c.id, tenants.c.name)).all())
    machines = MachineRows()
    for row in connection.execute(select(workers)):
        machines.name([_machine(row, places, owners, new=False)])
    batches = []
    for row in rows:
        names = names_in(row.names) if row.names else ()
        new = tuple(_machine(it, places, owners, new=True) for it in names)
        machines.name(new)
        batch = Batch(
            moment_s=row.minute * 60,
            accepted=0,
            tallies=row.tallies,
            upstream=row.upstream or b"",
            machines=new,
        )
        batches.append((Place(), batch))
    window = window_of(batches, last=Place(), accepted=0)
    mine = journal_writers.c.writer == FOLDER
    folds = connection.scalar(select(journal_writers.c.batch).where(mine)) or 0
    Bookings(FOLDER, machines, RateRows()).book(connection, folds + 1, window.parts, window.moment_s)


def _machine(
    row: Row[Any] | WorkerRecord, places: dict[int, str], owners: dict[int, str], *, new: bool
) -> Machine:
    return Machine(
        number=row.id,
        tenant_id=row.tenant_id,
        tenant=owners[row.tenant_id],
        container_id=row.container_id,
        container=places[row.container_id],
        unit=row.unit,
        agent=row.agent,
        new=new,
    )
