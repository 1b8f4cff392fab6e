"""/healthz and /readyz of a whole pool mean what they say: each condition turns with what it is about."""

import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from pool import readiness
from pool.books.lease import FileLock
from pool.journal.disk import Disk
from tests.fakes.bitcoinds import refuses_connections
from tests.stages.plant import Clock, Plant, pass_time, plant, steps
from tests.stages.sockets import accepted
from tests.stages.waiting import PATIENCE_S

__all__ = ["steps"]
pytestmark = pytest.mark.simulation  # a whole pool each, and seconds of it

ALL = ["journal", "lease", "listeners", "node", "template"]
TEMPLATE_AGE_MAX_S = 35.0  # shorter than it is, and longer than a node may take to be found down
OUTAGE_S = 45.0


class Balancer:
    """Whoever asks a pool whether it is ready."""

    def __init__(self, site: Plant, client: httpx.AsyncClient, clock: Clock) -> None:
        self._site, self._client, self._clock = site, client, clock

    async def asks(self, path: str) -> tuple[int, dict[str, Any]]:
        assert self._site.running.web is not None
        host, port = self._site.running.web
        answered = await self._client.get(f"http://{host}:{port}/{path}")
        assert answered.content.endswith(b"}\n"), "a person asks with curl"
        return answered.status_code, answered.json()

    async def against(self) -> dict[str, str]:
        """What stands against it, in words."""
        status, said = await self.asks("readyz")
        assert sorted(it["name"] for it in said["conditions"]) == ALL
        wrong = {it["name"]: it["words"] for it in said["conditions"] if not it["good"]}
        assert (status, said["ready"]) == ((503, False) if wrong else (200, True))
        assert await self.asks("healthz") == (200, {"alive": True}), "whatever is wrong, its loop answers"
        return wrong

    async def until(self, *wrong: str) -> dict[str, str]:
        """The words when just this is wrong, as it must be after some seconds."""
        with trio.fail_after(PATIENCE_S):
            while True:
                found = await self.against()
                if set(found) == set(wrong):
                    return found
                self._clock.jump(1.0)
                await trio.sleep(0.02)


@asynccontextmanager
async def site_in(directory: Path, clock: Clock) -> AsyncIterator[tuple[Plant, Balancer]]:
    client = httpx.AsyncClient(timeout=PATIENCE_S)
    async with plant(directory, outage_s=OUTAGE_S) as site, client:
        balancer = Balancer(site, client, clock)
        await balancer.until()
        yield site, balancer


async def test_without_a_node_it_is_not_ready_and_says_what_that_means_for_miners(
    tmp_path: Path, steps: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "TEMPLATE_AGE_MAX_S", TEMPLATE_AGE_MAX_S)
    async with site_in(tmp_path, steps) as (site, balancer):
        for node in site.nodes:
            node.fault = refuses_connections
        await pass_time(steps, 8)
        assert "no bitcoin node answers" in (await balancer.until("node"))["node"]
        await pass_time(steps, TEMPLATE_AGE_MAX_S - 8)
        assert "template came" in (await balancer.until("node", "template"))["template"]
        await pass_time(steps, OUTAGE_S - TEMPLATE_AGE_MAX_S)
        words = await balancer.until("node", "template", "listeners")
        assert words["listeners"] == "miners are not let in: no bitcoin node answers"
        for node in site.nodes:
            node.fault = None
        await balancer.until()


async def test_while_the_disk_takes_no_commit_it_is_not_ready(
    tmp_path: Path, steps: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns, sync = threading.Event(), Disk.sync
    turns.set()

    def sync_in_turn(disk: Disk, descriptor: int) -> None:
        turns.wait(PATIENCE_S)
        sync(disk, descriptor)

    monkeypatch.setattr(Disk, "sync", sync_in_turn)
    async with site_in(tmp_path, steps) as (site, balancer):
        miner = await site.mining()
        turns.clear()
        worker, job, extranonce2, _, nonce = miner.share()
        number = await miner.ask("mining.submit", worker, job, extranonce2, miner.job[7], nonce)
        assert "shares wait for a commit" in (await balancer.until("journal"))["journal"]
        turns.set()
        assert accepted(await miner.answer(number))
        site.acknowledged += 1
        await balancer.until()


async def test_while_the_books_take_nothing_shares_are_acknowledged_and_it_is_ready(
    tmp_path: Path, steps: Clock
) -> None:
    async with site_in(tmp_path, steps) as (site, balancer):
        miner = await site.mining()
        with site.store.write():
            worker, job, extranonce2, _, nonce = miner.share()
            number = await miner.ask("mining.submit", worker, job, extranonce2, miner.job[7], nonce)
            assert accepted(await miner.answer(number))
            site.acknowledged += 1
            assert await balancer.against() == {}


async def test_while_nobody_knows_who_writes_to_the_books_it_is_not_ready(
    tmp_path: Path, steps: Clock
) -> None:
    async with site_in(tmp_path, steps) as (_, balancer):
        os.unlink(f"{tmp_path}/angara.db.lock")
        other = FileLock(tmp_path / "angara.db")
        assert other.acquire(), "another process has it, and has not written"
        assert "writer of its books" in (await balancer.until("lease"))["lease"]
        other.release()
        await balancer.until()
