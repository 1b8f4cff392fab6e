"""A drain as an operator and his miners see it: nobody new, who is here goes in steps, and back again."""

import os
import pwd
from pathlib import Path
from typing import Any

import httpx
import trio
from typer.testing import CliRunner

from pool.admin.client import ask
from pool.books.changes.changes import newest_changes
from pool.cli.main import app
from pool.data_dir import held
from pool.routing.drain import DRAINING
from tests.stages.plant import Clock, Plant, pass_time, plant, steps
from tests.stages.waiting import PATIENCE_S

__all__ = ["steps"]
MINERS = 4


async def angara(directory: Path, *arguments: str) -> tuple[int, str]:
    """What the command says, which runs beside the pool."""

    def run() -> tuple[int, str]:
        ran = CliRunner().invoke(app, [*arguments, "--data-dir", str(directory)])
        return ran.exit_code, ran.output

    return await trio.to_thread.run_sync(run)


async def ready(site: Plant) -> tuple[int, dict[str, Any]]:
    host, port = site.running.web or ("", 0)
    async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
        answer = await client.get(f"http://{host}:{port}/readyz")
    listeners = next(it for it in answer.json()["conditions"] if it["name"] == "listeners")
    return answer.status_code, listeners


async def test_a_pool_is_emptied_for_a_restart_and_filled_again(tmp_path: Path, steps: Clock) -> None:
    with held(tmp_path):  # as `angara run` does
        await emptied_and_filled_again(tmp_path, steps)


async def emptied_and_filled_again(tmp_path: Path, steps: Clock) -> None:
    async with plant(tmp_path) as site:
        obeys, *others = [await site.mining() for _ in range(MINERS)]
        begun = await trio.to_thread.run_sync(ask, tmp_path, unasked, "drain.begin", {"over_s": 3})
        assert (begun["draining"], begun["of"]) == (True, MINERS)
        await pass_time(steps, 3)
        await obeys.notified("client.reconnect")
        await obeys.close()
        assert await site.first_word() == f"Connection refused: {DRAINING}"
        for miner in others:  # they do not know what that is
            await miner.notified("client.reconnect")
        await pass_time(steps, 20)
        for miner in others:
            await miner.hear()
            assert await miner.line() == b""
        code, output = await angara(tmp_path, "drain", "--over", "3")
        assert code == 0
        assert "0 connections are let go within 3 s" in output
        assert "nobody is connected, and nobody is let in" in output
        assert await ready(site) == (
            503,
            {"name": "listeners", "good": False, "words": f"miners are not let in: {DRAINING}"},
        )
        code, output = await angara(tmp_path, "drain", "--resume")
        assert (code, "miners are let in, 0 are connected" in output) == (0, True)
        miner = await site.until_served()
        await site.mine(miner)
        with site.store.read() as connection:
            records = [
                (it.changed_by, it.command, it.subject, it.was, it.became)
                for it in newest_changes(connection, None, None)
            ]
        me = pwd.getpwuid(os.geteuid()).pw_name
        assert records == [
            (me, "drain.begin", "pool", {"draining": False}, {"draining": True, "over_s": 3}),
            (me, "drain.begin", "pool", {}, {"over_s": 3}),
            (me, "drain.end", "pool", {"draining": True}, {"draining": False}),
        ]


def unasked(name: str, body: bytes) -> Any:
    raise AssertionError("a pool runs")


def test_without_a_pool_there_is_nobody_to_let_go(tmp_path: Path) -> None:
    ran = CliRunner().invoke(app, ["drain", "--data-dir", str(tmp_path)])
    assert ran.exit_code == 2
    assert not (tmp_path / "angara.db").exists()
