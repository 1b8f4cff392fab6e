"""Bugs that edges and a hub could have, each put into production code for the length of a `with`.

`SITE_VERDICTS` says as what each is found by a world of sites.
"""

from typing import Any, Final

import msgspec
import pytest
from sqlalchemy import Connection, select

from payouts.schemas.money import containers, workers
from payouts.tallies import record
from pool.books import found_blocks
from pool.books.edges import remote
from pool.books.journal import bookings, taker
from pool.books.journal.positions import Position, write_position
from pool.books.journal.taker import Taken, Taker
from pool.fleet.registry import Registry
from pool.journal.frames import Place, frames_behind
from pool.journal.log import JournalLog
from pool.journal.records import Machine
from pool.journal.segments import segments
from pool.sites.membership import Membership
from pool.sites.served import Served


def trim_behind_what_a_server_has_read(patch: pytest.MonkeyPatch) -> None:
    """JetStream's word is taken for the hub's: what was published goes from the journal."""
    renew = Served._renew

    async def trimming(it: Served) -> None:
        for read in _places(it._log):
            if read.number == it._publisher.state.number:
                it._log.trim(read)
        await renew(it)

    patch.setattr(Served, "_renew", trimming)


def _places(log: JournalLog) -> list[Place]:
    files = [path.read_bytes() for _, path in segments(log.directory)]
    return [frame.at for data in files for frame in frames_behind(log.writer, data, 0)]


def take_a_record_twice(patch: pytest.MonkeyPatch) -> None:
    """How far the books are is written behind the transaction that took it, in one of its own."""
    step = Taker.step
    left: list[Position] = []

    def stepping(it: Taker, until: int | None = None, *, whole: bool = False) -> Taken | None:
        if it._limits is None:  # no edge's journal
            return step(it, until, whole=whole)
        left.clear()
        patch.setattr(taker, "write_position", lambda connection, position: left.append(position))
        try:
            taken = step(it, until, whole=whole)
        finally:
            patch.setattr(taker, "write_position", write_position)
        if left:
            with it._store.write() as connection:
                write_position(connection, left.pop())
        return taken

    def recording(connection: Connection, writer: str, batch: int, tallies: Any) -> bool:
        while not record(connection, writer, batch, tallies):  # what keeps it out otherwise
            batch += 1
        return True

    patch.setattr(Taker, "step", stepping)
    patch.setattr(bookings, "record", recording)


def believe_any_epoch(patch: pytest.MonkeyPatch) -> None:
    """Whoever was the edge once may speak for it still."""
    patch.setattr(remote, "check_epoch", lambda edge, epoch: None)
    patch.setattr(remote, "renew", lambda connection, edge, epoch, now_s: None)


def give_two_edges_one_part(patch: pytest.MonkeyPatch) -> None:
    """Of the numbers that everybody hands out."""
    everything = Membership.everything

    async def of_one_part(it: Membership) -> Any:
        said = await everything(it)
        part = msgspec.structs.replace(said.begin.part, number=1)
        return msgspec.structs.replace(said, begin=msgspec.structs.replace(said.begin, part=part))

    patch.setattr(Membership, "everything", of_one_part)


def book_to_another_machine_of_the_tenant(patch: pytest.MonkeyPatch) -> None:
    """A machine that comes to a second edge is taken for the tenant's last one before it."""
    renumbered = Registry.renumbered

    def of_the_tenant(it: Registry, machine: Machine) -> Machine:
        known = it.number_of(machine.tenant, machine.container, machine.unit)
        found = renumbered(it, machine)
        others = [
            number
            for number in it.workers
            if number != found.number
            and it.tenants_by_id[it.containers[it.workers[number].container_id].tenant_id].name
            == machine.tenant
        ]
        if known is None or not others:
            return found
        other = it.known_machine(others[-1])
        return msgspec.structs.replace(
            found,
            container=other.container,
            unit=other.unit,
            number=other.number,
            container_id=other.container_id,
        )

    patch.setattr(Registry, "renumbered", of_the_tenant)


def have_nobody_find_a_block_before_the_journal_names_him(patch: pytest.MonkeyPatch) -> None:
    """A block that comes before the record with its finder's first share is nobody's."""
    row_of = found_blocks._row_of

    def of_the_books(connection: Connection, machine: Machine, *given: Any) -> int | None:
        places = select(workers.c.id).join(containers, containers.c.id == workers.c.container_id)
        there = (containers.c.name == machine.container) & (workers.c.unit == machine.unit)
        known = connection.scalar(places.where(there)) is not None
        return row_of(connection, machine, *given) if known else None

    patch.setattr(found_blocks, "_row_of", of_the_books)


SITES_PLANTED: Final = {
    it.__name__: it
    for it in (
        trim_behind_what_a_server_has_read,
        take_a_record_twice,
        believe_any_epoch,
        give_two_edges_one_part,
        book_to_another_machine_of_the_tenant,
        have_nobody_find_a_block_before_the_journal_names_him,
    )
}
SITE_VERDICTS: Final = {
    "trim_behind_what_a_server_has_read": "trimmed before the books had it",
    "take_a_record_twice": "booked more than once",
    "believe_any_epoch": "an honest edge is held",
    "give_two_edges_one_part": "two edges have one part of the extranonces",
    "book_to_another_machine_of_the_tenant": "acknowledged and lost",
    "have_nobody_find_a_block_before_the_journal_names_him": "a block has another finder",
}
