"""An operator looks at what a machine and the pool say to each other, on a running pool."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from pool.admin.commands import execute
from pool.admin.desk import Desk
from pool.books.changes.changes import newest_changes
from pool.fleet.rows import RegistryError
from pool.people.roles import host_account
from tests.fixtures.databases import store_in
from tests.stages.command_line import angara
from tests.stages.plant import Plant, plant
from tests.stages.waiting import until


async def ask(site: Plant, command: str, /, **params: Any) -> Any:
    """A command on the pool that runs, as its socket gives it."""
    desk = Desk(site.store, "regtest", site.running.live)
    body = msgspec.json.encode(params)
    return await trio.to_thread.run_sync(execute, desk, command, body, host_account("ann", "socket"))


async def test_a_machine_is_seen_from_its_handshake_on(tmp_path: Path) -> None:
    async with plant(tmp_path) as site:
        miner = await site.mining()
        await site.mine(miner)
        started = await ask(site, "trace.start", name="acme.c01.u0", seconds=60)
        await site.mine(miner)
        await miner.close()
        await until(lambda: not site.board.connections)
        again = await site.mining("acme.c01.u0")
        neighbour = await site.mining("acme.c01.u9")
        await site.mine(again)
        await site.mine(neighbour)
        seen = (await ask(site, "trace.show", trace=started["trace"]))["lines"]
        with site.store.read() as connection:
            (change,) = newest_changes(connection, "acme.c01.u0", None)
        assert (change.changed_by, change.command) == ("ann", "trace.start")
    told = [(it["way"], it["words"]) for it in seen]
    notes = [it["text"] for it in seen if it["way"] == "note"]
    assert notes == ["is here already", "the connection ends: left", "connects"]
    assert {it["address"] for it in seen} == {"127.0.0.1"}
    assert ("in", "mines as acme.c01.u0") in told
    assert ("in", "mines as acme.c01.u9") not in told
    accepted = [words for way, words in told if way == "out" and words.startswith("accepts mining.submit")]
    assert len(accepted) == 2
    assert not [it for it in seen if "c01.u9" in it["text"]]
    assert [it["number"] for it in seen] == list(range(1, len(seen) + 1))


async def test_a_machine_that_does_not_come_to_its_name_is_seen_by_its_address(tmp_path: Path) -> None:
    async with plant(tmp_path) as site:
        started = await ask(site, "trace.start", address="127.0.0.1")
        odd = await site.connect()
        await odd.call("mining.authorize", "nobody.c01.u1", "x")
        seen = (await ask(site, "trace.show", trace=started["trace"]))["lines"]
        later = await ask(site, "trace.show", trace=started["trace"], after=seen[-1]["number"])
    assert [it["way"] for it in seen] == ["note", "in", "out"]
    assert seen[1]["words"] == "mines as nobody.c01.u1"
    assert seen[2]["words"].startswith("refuses mining.authorize")
    assert (list(later["lines"]), later["missed"], later["over"]) == ([], 0, False)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({}, "give a worker or an address"),
        ({"name": "acme.c01.u0", "address": "127.0.0.1"}, "give a worker or an address"),
        ({"address": "bitmain"}, "'bitmain' is no address"),
        ({"name": "acme.c01.never"}, "there is no worker"),
        ({"address": "127.0.0.1", "seconds": 0}, "a trace takes 1 to 3600 seconds, and not 0"),
        ({"address": "127.0.0.1", "seconds": 3601}, "a trace takes 1 to 3600 seconds, and not 3601"),
    ],
)
async def test_what_cannot_be_traced_is_said_and_leaves_nothing(
    tmp_path: Path, params: dict[str, Any], words: str
) -> None:
    async with plant(tmp_path) as site:
        with pytest.raises(RegistryError, match=words):
            await ask(site, "trace.start", **params)
        assert not site.board.traces
        assert await ask(site, "trace.show", trace=1) == {"lines": [], "missed": 0, "over": True}


def test_without_a_pool_there_is_nothing_to_look_at(tmp_path: Path) -> None:
    store_in(tmp_path).close()
    ended = angara(tmp_path, "worker", "trace", "acme.c01.u1")
    assert (ended.exit_code, "no pool runs" in ended.output) == (2, True)
