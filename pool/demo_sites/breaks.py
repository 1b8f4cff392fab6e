"""What can be broken between machines and books, on purpose: how, for how long, and that it has healed.

Whatever it is, somebody's machines mine on meanwhile, and the books have all of it when it is over.

Must not know: what a reader sees.
"""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec
import trio

from pool.demo_sites.broken import Break
from pool.demo_sites.programs import State
from pool.demo_sites.sites import LOOK_S, Sites

QUIET_S: Final = 15.0  # before it, for the reader to see what is usual
HEALS_S: Final = 300.0  # all starts again in seconds; a host that does many things at once takes longer
CALM_S: Final = 5.0  # and afterwards


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """`struck` and `mended` are the words; `mining` are counts each of which grows all the while."""

    struck: str
    mended: str
    lasts_s: float
    strike: Callable[[Sites], None]
    mend: Callable[[Sites], None]
    mining: Callable[[Sites], list[int]]


def _everywhere(sites: Sites) -> list[int]:
    acknowledged = sites.machines.acknowledged()
    return [acknowledged[it.edge] for it in sites.addresses]


def _at_the_first(sites: Sites) -> list[int]:
    return _everywhere(sites)[:1]


def _of_the_first(sites: Sites) -> list[int]:
    """What its machines have done, wherever they are."""
    home = sites.addresses[0]
    return [sum(it.acknowledged for it in sites.machines.all if it.addresses[0] == home)]


def _mends_itself(_: Sites) -> None:
    """What was killed is started again, whatever it was."""


FAULTS: Final[Mapping[Break, Fault]] = {
    Break.NATS: Fault(
        struck="all three NATS servers are killed (kill -9) and their stores removed: what they carried is"
        " lost. Machines mine on; each edge has on its own disk what it acknowledged",
        mended="the NATS servers are started again, with nothing in them: each edge sends once more what the"
        " books do not have",
        lasts_s=20.0,
        strike=Sites.kill_nats,
        mend=_mends_itself,
        mining=_everywhere,
    ),
    Break.HUB: Fault(
        struck="the hub is killed (kill -9): nobody keeps the books. Machines mine on; each edge has on its"
        " own disk what it acknowledged",
        mended="the hub is started again: it goes on where its books are, and asks the edges for the rest",
        lasts_s=20.0,
        strike=Sites.kill_hub,
        mend=_mends_itself,
        mining=_everywhere,
    ),
    Break.EDGE: Fault(
        struck="the edge of {first} is killed (kill -9): its machines go to their second address, the edge of"
        " another site",
        mended="the edge of {first} is started again: what it had acknowledged is on its disk and goes to the"
        " books, and its machines come home",
        lasts_s=20.0,
        strike=Sites.kill_first_edge,
        mend=_mends_itself,
        mining=_of_the_first,
    ),
    Break.LINK: Fault(
        struck="the line of {first} is cut: nothing passes between its edge and NATS, and nobody is told. Its"
        " machines mine on",
        mended="the line of {first} is whole again: its edge sends what has come together",
        lasts_s=30.0,
        strike=Sites.cut_first,
        mend=Sites.mend_first,
        mining=_at_the_first,
    ),
}


async def play(sites: Sites, what: Break, say: Callable[[str], None]) -> bool:
    """Break it, mend it, and wait until it has healed: whether it has. Raises ProgramEnded."""
    fault, first = FAULTS[what], sites.addresses[0].edge
    say(f"in {QUIET_S:.0f} s something will be broken: --break {what.value}")
    await trio.sleep(QUIET_S)
    before, mined_before = sum(_everywhere(sites)), fault.mining(sites)
    fault.strike(sites)
    say(f"BROKEN: {fault.struck.format(first=first)}")
    await trio.sleep(fault.lasts_s)
    mined = [now - then for now, then in zip(fault.mining(sites), mined_before, strict=True)]
    more, waiting = sum(_everywhere(sites)) - before, sites.not_booked().total()
    say(
        f"after {fault.lasts_s:.0f} s of it {more} more shares were acknowledged, and {waiting} of all are"
        " not in the books yet"
    )
    if min(mined) == 0:
        say("NOT AS IT SHOULD BE: machines stood still meanwhile")
        return False
    say(f"MENDED: {fault.mended.format(first=first)}")
    mended_s, until = trio.current_time(), sites.machines.acknowledged()
    fault.mend(sites)
    with trio.move_on_after(HEALS_S) as bound:
        await sites.start_again()
        while not _healed(sites, until):  # noqa: ASYNC110 - it is looked at in the books
            await trio.sleep(LOOK_S)
    if bound.cancelled_caught:
        say(f"NOT HEALED in {HEALS_S:.0f} s")
        return False
    say(
        f"HEALED, {trio.current_time() - mended_s:.0f} s after that: all serve, all machines are at their"
        " sites, and the books have all that was acknowledged until then"
    )
    await trio.sleep(CALM_S)
    return True


def _healed(sites: Sites, until: Mapping[str, int]) -> bool:
    """All as before, and booked what was acknowledged when it was mended."""
    return (
        all(it.state is State.SERVING for it in sites.programs)
        and sites.machines.at_home
        and all(sites.booked(edge) >= count for edge, count in until.items())
    )
