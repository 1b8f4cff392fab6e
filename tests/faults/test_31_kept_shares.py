"""Shares that are kept at sites are in closings at the hub, each once, with nothing lost where a line is cut
over the end of an hour: what a site brings late is a settlement of its own, and so in a later closing.

Every share here is hard enough to be kept, and has a machine of its own: so closings have to have exactly the
shares that were acknowledged, by their names. Files of the proofs are asked for as a client's operator does,
and believed by nothing but the auditor's program.
"""

import json
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trio
from sqlalchemy import func, select

from payouts.schemas.money import rate_hours, settlements
from payouts.schemas.proof import share_closings, share_parts
from pool.data_dir import database_url
from tests.faults.test_27_process_killed import Miner
from tests.faults.test_30_sites import OF_EACH, more, new_miners
from tests.faults.test_31_sites_cluster import Fleet, fleet
from tests.histories.proof import KEY, SECRET, Auditor
from tests.stages.other_clock import Clock
from tests.stages.sites import LOOK_AT_BOOKS_S, Program, Sites, on_this_host, once
from tests.stages.waiting import until

__all__ = ["fleet"]

PROOF = """
[proof]
key_file = "{file}"
share_difficulty = 2.3283064365386963e-10
"""
HOUR_S = 3600.0
AFTER_S = 600.0  # of an hour is over when the clocks begin: no hour ends but by a step of theirs


def sign_at(hubs: Sequence[Program], file: Path) -> None:
    """All hubs close with one key."""
    file.write_text(SECRET.hex())
    file.chmod(0o600)
    for hub in hubs:
        with (hub.directory / "angara.toml").open("a") as settings:
            settings.write(PROOF.format(file=file))


async def all_is_closed(sites: Sites) -> None:
    """Wait until every share that is booked is settled, and every settlement in a closing."""

    def closed() -> bool:
        with sites.store.read() as connection:
            newest = connection.scalar(select(func.max(settlements.c.seq)))
            last = connection.scalar(select(func.max(share_closings.c.last_settlement)))
            waiting = connection.scalar(select(func.count()).select_from(share_parts))
            unsettled = select(func.count()).where(rate_hours.c.settled < rate_hours.c.shares)
            return newest == last and not waiting and not connection.scalar(unsettled)

    await until(closed, look_s=LOOK_AT_BOOKS_S)


def proven(sites: Sites, hub: Program, home: Path) -> dict[str, list[int]]:
    """By the name of each machine that has a share in a closing, the numbers of those: every hour's file,
    which an auditor believes."""
    listed = json.loads(hub.command("proof", "closings", "--json", "-c", "angara.toml"))
    with sites.store.read() as connection:
        hours = connection.scalars(select(settlements.c.hour).distinct()).all()
    found: dict[str, list[int]] = {}
    for hour in hours:
        of = f"{datetime.fromtimestamp(hour * 3600, UTC):%Y-%m-%dT%H}"
        data = hub.command("proof", "shares", of, "--tenant", "acme", "-c", "angara.toml").encode()
        assert Auditor(home).found(data, roots=listed, key=KEY.public.hex()) == (0, [])
        entry: dict[str, Any]
        for entry in json.loads(data)["settlements"]:
            for share in entry["shares"]:
                found.setdefault(share["worker"], []).append(entry["closing"])
    return found


async def rest(miners: Sequence[Miner]) -> None:
    """They send nothing more, and what they sent is answered."""
    for it in miners:
        it.goes_on = trio.Event()
    await until(lambda: all(not it.submitted or answered(it) for it in miners))


def answered(miner: Miner) -> bool:
    return miner.submitted[-1] in miner.acknowledged | miner.refused


@pytest.mark.soak
async def test_what_is_kept_at_sites_is_in_closings_once_and_what_comes_late_in_a_later_one(
    tmp_path: Path, fleet: Fleet
) -> None:
    (tmp_path / "books").mkdir()
    database = database_url(tmp_path / "books")
    async with on_this_host(tmp_path, database, edges=("north", "south")) as sites:
        (hub,), (north, south) = sites.hubs, sites.edges
        sign_at(sites.hubs, tmp_path / "proof.key")
        clocks = [Clock(tmp_path / f"clock-{name}") for name in ("hub", "north", "south")]
        ahead_s = (AFTER_S - time.time()) % HOUR_S
        for program, clock in zip((hub, north, south), clocks, strict=True):
            program.program = clock.program
            clock.step_to(ahead_s)
        await sites.begin()
        miners = new_miners(sites, fleet)
        norths, souths = miners[:OF_EACH], miners[OF_EACH:]
        await more(miners)
        await sites.all_is_booked()
        await all_is_closed(sites)

        # An hour ends while north's line is cut, and its process is killed.
        for line in sites.lines["north"]:
            line.cut()
        before = {name for it in norths for name in it.acknowledged}
        await more(norths)
        await more(souths)
        await rest(miners)
        late = {name for it in norths for name in it.acknowledged} - before
        assert late
        north.kill()
        for clock in clocks:
            clock.step_to(ahead_s + 2 * HOUR_S)
        await sites.all_is_booked(south)
        await all_is_closed(sites)
        in_time = proven(sites, hub, tmp_path)
        assert not late & in_time.keys()
        assert in_time.keys() >= {name for it in souths for name in it.acknowledged}
        closings_before = max(number for numbers in in_time.values() for number in numbers)

        # It is back, and so is its line; then the hub is killed, too.
        north.start()
        await north.says("edge_serves")
        for line in sites.lines["north"]:
            line.heal()
        for it in miners:
            it.goes_on.set()
        await more(miners)
        hub.kill()
        await more(miners)
        hub.start()
        await hub.says("hub_serves")
        await more(miners)
        fleet.stop()
        await sites.all_is_booked()
        await all_is_closed(sites)

        closed = proven(sites, hub, tmp_path)
        kept = Counter({name: len(numbers) for name, numbers in closed.items()})
        once(miners, kept)  # minutes are hours by now, in which no machine of an hour is told apart
        assert kept.total() == sites.settled()
        assert kept.keys() >= late
        assert sites.shares(), "and the books are proven"
        assert all(number > closings_before for name in late for number in closed[name])
        assert all(closed[name] == numbers for name, numbers in in_time.items())
