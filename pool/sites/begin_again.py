"""How who serves miners at a site begins: with what the hub says or said, and with its own journal behind it.

What the hub says may be days old (`pool.sites.copy`), and what it has of the journal may end before the
journal does. So machines that have come since, prices that were opened, shares under way and what was
credited are read from the journal's own files: nothing waits for the hub.

Numbers of prices in what the hub says are its own: shares that it left to be resolved get new ones here.

Blocks. Must not know: how the hub is reached.
"""

from pathlib import Path

import msgspec

from pool.fleet.registry import Registry
from pool.hub import Begin, Start
from pool.journal.behind import read_behind
from pool.journal.disk import Disk
from pool.journal.log import JournalLog
from pool.journal.records import Noted, Rate


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """What whoever begins knows."""

    log: JournalLog
    registry: Registry
    start: Start


def begin_again(begin: Begin, directory: Path, disk: Disk) -> Begun:
    """Raises JournalUnusable, JournalDamaged, and ValueError for records of a later version."""
    log = JournalLog(directory, begin.start.beginning.book, disk=disk)
    try:
        log.settle()
        return _begun(begin, log)
    except BaseException:
        log.close()
        raise


def _begun(begin: Begin, log: JournalLog) -> Begun:
    start = begin.start
    behind = read_behind(log.walk(start.beginning.behind), start.beginning)
    registry = Registry(
        begin.snapshot,
        part=begin.part.number,
        of=begin.part.of,
        taken=begin.numbers,
        places=begin.places,
    )
    numbers = {it.number: registry.adopt(it) for it in behind.machines}
    rates = {it.number: it for it in behind.rates}
    of_hub = {it.number: it for it in start.prices.left}
    said = {it.key: it for it in start.beginning.left}
    number = max([start.prices.next_number - 1, *rates, *of_hub]) + 1
    left: list[Noted] = []
    meanings: dict[Rate, int] = {}
    for share in behind.beginning.left:
        by_hub = said.get(share.key) is share  # else the journal has it too, in its own numbers
        worker = share.worker if by_hub else numbers[share.worker]
        if worker is None or not registry.has_worked(worker):
            continue  # of a tenant that nobody knows here
        rate = (of_hub if by_hub else rates)[share.epoch]
        epoch = meanings.setdefault(rate, number + len(meanings))
        left.append(msgspec.structs.replace(share, worker=worker, epoch=epoch))
    beginning = msgspec.structs.replace(behind.beginning, left=tuple(left), taken=start.beginning.behind)
    prices = msgspec.structs.replace(
        start.prices,
        next_number=number + len(meanings),
        left=tuple(msgspec.structs.replace(rate, number=epoch) for rate, epoch in meanings.items()),
    )
    return Begun(
        log=log,
        registry=registry,
        start=msgspec.structs.replace(start, beginning=beginning, prices=prices, credited=behind.credits),
    )
