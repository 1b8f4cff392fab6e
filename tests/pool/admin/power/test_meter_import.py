"""Readings of a table: for meters that are read so, and by whom."""

import time
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from sqlalchemy import select

from payouts.schemas.power import power_readings
from pool.admin.commands import execute
from pool.admin.desk import Desk
from pool.admin.operators import ALONE
from pool.fleet.registry_error import RegistryError
from pool.people.roles import host_account
from tests.fixtures.databases import store_in

READ: Final[dict[str, dict[str, Any]]] = {
    "csv": {},
    "push": {"pusher": None},
    "modbus": {"address": "10.0.0.5:502/1", "registers": "watts=input:0:u16"},
}


@pytest.mark.parametrize("kind", READ)
def test_no_table_is_taken_for_a_meter_that_is_read_in_another_way(tmp_path: Path, kind: str) -> None:
    """An operator would say half of what it reads, before it reads it: its own is refused then."""
    half = {"at_s": int(time.time()) + 60, "watts": 656_000}
    with closing(store_in(tmp_path)) as store:

        def give(command: str, **params: Any) -> Any:
            desk, olga = Desk(store, "regtest"), host_account("olga", ALONE)
            return execute(desk, command, msgspec.json.encode(params), olga)

        give("tenant.add", name="acme")
        give("container.set", tenant="acme", name="c01", site="Bratsk")
        box = {"containers": ["acme.c01"], "error_bps": 50, "max_kw": 2_000, "kind": kind}
        give("meter.add", name="box", **box, **READ[kind])
        if kind == "csv":
            give("meter.import", name="box", readings=[half])
        else:
            with pytest.raises(RegistryError, match=f"no table is taken .* box: it is read by {kind}"):
                give("meter.import", name="box", readings=[half])
        with store.read() as connection:
            there = connection.scalars(select(power_readings.c.watts)).all()
    assert there == ([656_000] if kind == "csv" else [])
