"""A pool that runs listens to what its settings say, and tells whoever asks."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

import tests.stages.plant
from pool.admin.commands import execute
from pool.admin.desk import Desk
from pool.admin.operators import ALONE
from pool.people.roles import host_account
from pool.power.signals.settings import SignalSettings
from tests.pool.power.signals.test_signals import put
from tests.stages.plant import plant

settings_of_the_plant = tests.stages.plant.settings


async def test_a_running_pool_asks_by_its_file_and_tells_of_its_signals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path)

    def listening(*arguments: Any) -> Any:
        signals = SignalSettings(file=path, prices=True, webhook_secret=tmp_path / "grid.secret")
        return msgspec.structs.replace(settings_of_the_plant(*arguments), signals=signals)

    monkeypatch.setattr(tests.stages.plant, "settings", listening)
    async with plant(tmp_path) as site:
        desk = Desk(site.store, "regtest", site.running.live)

        def ask() -> Any:
            return execute(desk, "power.signals", b"{}", host_account("olga", ALONE))

        rows = await trio.to_thread.run_sync(ask)
        assert [it["source"] for it in rows] == ["file", "price", "webhook"]
        while not rows[1]["refused"]:  # at the first look
            await trio.sleep(0.05)
            rows = await trio.to_thread.run_sync(ask)
        assert rows[1]["words"] == "nobody was paid for work yet: what it is worth is not known"
        assert rows[1]["state"] == "refused"
