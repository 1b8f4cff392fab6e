"""What the machines were told, against what the books have: machine by machine, to the share.

A share that was acknowledged is in the books once. One that nobody answered, because its edge was killed or
its connection cut, may be there or not: the machine cannot know, and what is on disk counts.

Must not know: who carried the shares, and what was broken.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
from sqlalchemy import Connection, func, select

from payouts.schemas.money import containers, tally_days, tally_hours, tally_minutes, tenants, workers
from pool.books.audit.verify import verify
from pool.books.edges.rows import load_edges
from pool.books.journal.positions import position_of, positions
from pool.books.store import Store
from pool.demo_sites.machines import Machine
from pool.journal.log import writers
from pool.journal.segments import end_of
from stratum.tallies import Verdict


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """Of one machine, since this demo began."""

    machine: str
    acknowledged: int
    unanswered: int
    booked: int

    @property
    def right(self) -> bool:
        return self.acknowledged <= self.booked <= self.acknowledged + self.unanswered


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. `strangers`: shares in the books of machines that are none of ours; `wrong`: what
    `angara ledger verify` would say."""

    machines: tuple[Counted, ...]
    strangers: int
    transactions: int
    wrong: str | None

    @property
    def holds(self) -> bool:
        return all(it.right for it in self.machines) and not self.strangers and self.wrong is None

    @property
    def words(self) -> str:
        """One line for the shares and one for the books."""
        acknowledged = sum(it.acknowledged for it in self.machines)
        booked = sum(it.booked for it in self.machines)
        wrong = [it for it in self.machines if not it.right]
        more = booked - acknowledged
        said = f"{len(self.machines)} machines: {acknowledged} shares acknowledged, {booked} in the books"
        if wrong:
            said += ": NOT EQUAL for " + ", ".join(
                f"{it.machine} ({it.acknowledged} acknowledged, {it.unanswered} unanswered,"
                f" {it.booked} in the books)"
                for it in wrong
            )
        elif more:
            said += (
                f": each that was acknowledged, once; and {more} that were written down, but whose answer was"
                " lost with the edge that was killed"
            )
        else:
            said += ": equal, for every machine"
        if self.strangers:
            said += f"; AND {self.strangers} OF MACHINES THAT ARE NOT OURS"
        books = f"the books prove themselves: {self.transactions} bookings, nothing is wrong"
        return f"{said}\n{books if self.wrong is None else f'THE BOOKS ARE WRONG: {self.wrong}'}"


def booked_of_edges(store: Store) -> dict[str, int]:
    """Accepted shares in the books, by the edge whose journal they came with. Blocks."""
    with store.read() as connection:
        counted = {it.writer: it.counted for it in positions(connection)}
        return {it.name: counted.get(it.writer or "", 0) for it in load_edges(connection)}


def all_is_booked(store: Store, edges: Sequence[Path]) -> bool:
    """Whether the books have the end of every journal in these data directories. Blocks."""
    with store.read() as connection:
        return all(
            position_of(connection, journal.name).at.number >= end_of(journal).number
            for edge in edges
            for journal in writers(edge)
        )


def shares_by_machine(store: Store) -> Counter[str]:
    """Accepted shares in the books. Blocks."""
    with store.read() as connection:
        return _shares_by_machine(connection)


def prove(store: Store, machines: Sequence[Machine], before: Counter[str]) -> Proof:
    """`before`: what the books had when the machines began. Blocks."""
    with store.read() as connection:
        booked = _shares_by_machine(connection)
        found = verify(connection)
    booked.subtract(before)
    counted = tuple(
        Counted(
            machine=it.name,
            acknowledged=it.acknowledged,
            unanswered=it.unanswered,
            booked=booked.pop(it.name, 0),
        )
        for it in machines
    )
    return Proof(
        machines=counted,
        strangers=sum(map(abs, booked.values())),
        transactions=found.head.seq,
        wrong=None if found.wrong is None else str(found.wrong),
    )


def _shares_by_machine(connection: Connection) -> Counter[str]:
    """A share is in one of the three tables."""
    shares: Counter[str] = Counter()
    for tallies in (tally_minutes, tally_hours, tally_days):
        rows = connection.execute(
            select(tenants.c.name, containers.c.name, workers.c.unit, func.sum(tallies.c.shares))
            .select_from(tallies)
            .join(workers, workers.c.id == tallies.c.worker_id)
            .join(containers, containers.c.id == workers.c.container_id)
            .join(tenants, tenants.c.id == workers.c.tenant_id)
            .where(tallies.c.verdict == Verdict.ACCEPTED)
            .group_by(tenants.c.name, containers.c.name, workers.c.unit)
        )
        for tenant, container, unit, count in rows:
            shares[f"{tenant}.{container}.{unit}"] += int(count)
    return shares
