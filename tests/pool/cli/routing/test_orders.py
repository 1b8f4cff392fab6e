"""`angara order`, and upstreams and orders through a running pool."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from pool.admin.desk import Desk
from pool.admin.live import Live
from pool.admin.routing.orders import OrderAdd, OrderEnd, OrderList, OrderShow
from pool.admin.routing.upstreams import UpstreamList, UpstreamRemove, UpstreamShow, UpstreamSwitch
from pool.admin.server import serve_admin
from pool.cli.output import duration
from pool.data_dir import admin_socket, database_url, held
from pool.fleet.hashrate import HashrateBook
from pool.fleet.registry import Registry
from pool.fleet.rows import RegistryError, load
from pool.orders.status import OrderStatus
from pool.routing.status import RouteStatus
from pool.upstreams.status import EndpointStatus, UpstreamStatus
from stratum.upstream.endpoint import UpstreamEndpoint
from tests.fakes.edges import EdgeWithoutMiners, edges_of
from tests.fixtures.databases import store_in
from tests.histories.orders import BUYER
from tests.stages.command_line import PASSWORD, add_order, add_upstream, angara, ask_books, new_upstream

FAR_S = int(time.time()) + 30 * 86_400


# Orders on the command line


def test_an_order_is_added_shown_and_ended(data_dir: Path) -> None:
    add_upstream(data_dir)
    added = add_order(data_dir, "blue", "--from-container", "acme.c01", "--tolerance", "1.5", "--priority", 3)
    assert added.exit_code == 0
    for words in (
        "planned",
        "50.25 PH/s",
        "1.50 %",
        "4,500 sat",
        "2090-01-01 00:00:00Z",
        "2090-01-03 00:00:00Z",
        "acme.c01",
    ):
        assert words in added.output
    shown = json.loads(angara(data_dir, "order", "show", "blue", "--json").output)
    assert (shown["hashrate_ths"], shown["tolerance_bps"], shown["priority"]) == (50_250, 150, 3)
    assert (shown["from"], shown["until"]) == ("2090-01-01T00:00:00Z", "2090-01-03T00:00:00Z")
    ended = angara(data_dir, "order", "end", "blue")
    assert (ended.exit_code, "ended" in ended.output) == (0, True)
    listed = angara(data_dir, "order", "list").output
    assert ("blue" in listed, "ended" in listed) == (True, True)
    again = angara(data_dir, "order", "end", "blue")
    assert (again.exit_code, "over already" in again.output) == (2, True)


def test_what_is_missing_is_made_good_by_terms_that_are_chosen_once(data_dir: Path) -> None:
    add_upstream(data_dir)
    of = ("--from-tenant", "acme", "--make-good", "credit", "--tolerance")
    added = add_order(data_dir, "blue", *of, "5%:1h,1%:24h,0.3%:7d")
    assert added.exit_code == 0
    assert "credit, beyond 5.00 % over 1 h, 1.00 % over 24 h, 0.30 % over 168 h" in added.output
    shown = json.loads(angara(data_dir, "order", "show", "blue", "--json").output)
    assert (shown["make_good"], shown["tolerance_bps"]) == ("credit", 500)
    assert shown["tolerances"][2] == {"bps": 30, "hours": 168}
    assert shown["receipts"] == {"number": 0, "bill_psat": 0, "due_psat": 0}
    assert "credit, beyond 1.50 % over 24 h" in add_order(data_dir, "red", *of, "1.5").output
    plain = json.loads(angara(data_dir, "order", "list", "--json").output)
    assert [it["make_good"] for it in plain] == ["credit", "credit"]
    extends = (*of[:3], "extension", "--tolerance", "2%:24h")
    assert "extension of up to 168 h, beyond 2.00 % over 24 h" in add_order(data_dir, "a", *extends).output
    assert "of up to 36 h, beyond" in add_order(data_dir, "b", *extends, "--extend", "36h").output
    assert "1 to 720 hours" in add_order(data_dir, "c", *extends, "--extend", "31d").output
    assert "1 to 720 hours" in add_order(data_dir, "c", *of, "2%:24h", "--extend", "1d").output
    assert "is not like 36h" in add_order(data_dir, "c", *extends, "--extend", "soon").output


def test_an_order_may_begin_now(data_dir: Path) -> None:
    add_upstream(data_dir)
    soon = datetime.fromtimestamp(FAR_S, UTC).isoformat()
    times = ("--from", "now", "--until", soon)
    assert "running" in add_order(data_dir, "blue", "--from-tenant", "acme", *times).output


MISTAKES: Final = (
    (("--ph", "0"), "PH/s"),
    (("--ph", "0.0001"), "--ph: '0.0001' is not a number of PH/s"),
    (("--ph", "fifty"), "--ph: 'fifty' is not a number"),
    (("--ph", "nan"), "--ph"),
    (("--ph", "1e400"), "--ph"),
    (("--ph", "1e999999"), "--ph: '1e999999' is not a number"),
    (("--ph", "snan"), "--ph: 'snan' is not a number"),
    (("--ph", "9" * 5_000), "--ph"),
    (("--tolerance", "0.001"), "--tolerance"),
    (("--tolerance", "101"), "tolerance is"),
    (("--tolerance", "5%:1h"), "makes good what is missing"),
    (("--make-good", "credit", "--tolerance", "5%:1h,6%:24h"), "several times the hours"),
    (("--make-good", "credit", "--tolerance", "5%:1m"), "--tolerance: '5%:1m' is not like 1%:24h"),
    (("--make-good", "credit", "--tolerance", "5:h"), "--tolerance: '5:h' is not like 1%:24h"),
    (("--make-good", "credit", "--tolerance", "5%:99999d"), "1 to 720 hours"),
    (("--make-good", "cash"), "cash"),
    (("--make-good", "credit", "--billing", "daily", "--stop-overdue-days", 1), "makes nothing good"),
    (("--until", "2089-01-01"), "ends after it begins"),
    (("--until", "soon"), "--until: 'soon' is not a time"),
    (("--from", "2090-13-01"), "--from: '2090-13-01' is not a time"),
    (("--from", "0001-01-01T00:00+14:00"), "ends after it begins"),
    (("--priority", "0"), "priority"),
    (("--upstream", "south"), "there is no upstream 'south'"),
    (("--from-tenant", "nobody"), "there is no tenant 'nobody'"),
    (("--from-container", "acme.c99"), "there is no container 'acme.c99'"),
    (("--buyer", ""), "buyer"),
)


def test_mistakes_about_orders_are_answered_in_words(data_dir: Path) -> None:
    add_upstream(data_dir)
    for arguments, words in MISTAKES:
        refused = add_order(data_dir, "blue", "--from-tenant", "acme", *arguments)
        assert (refused.exit_code, words in refused.output) == (2, True), refused.output
    assert json.loads(angara(data_dir, "order", "list", "--json").output) == []


def test_an_order_without_a_supplier_is_refused(data_dir: Path) -> None:
    add_upstream(data_dir)
    refused = add_order(data_dir, "blue", "--priority", 50)
    assert (refused.exit_code, "1 to 1000 suppliers" in refused.output) == (2, True)


# Through a running pool


class RunningPool:
    """The part of a pool that these commands touch."""

    def __init__(self, registry: Registry) -> None:
        self.changes = 0
        self.edge = EdgeWithoutMiners(registry)

    def changed(self) -> None:
        trio.lowlevel.current_task()  # in the pool's own thread, or RuntimeError
        self.changes += 1


@asynccontextmanager
async def running(data_dir: Path) -> AsyncIterator[RunningPool]:
    with held(data_dir):
        store = store_in(data_dir)
        with store.read() as connection:
            registry = Registry(load(connection))
        pool = RunningPool(registry)
        live = Live(
            registry,
            HashrateBook(registry, trio.current_time()),
            edges_of(pool.edge),
            lambda view: None,
            on_routes=pool.changed,
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_admin, Desk(store, "regtest", live), admin_socket(data_dir))
            yield pool
            nursery.cancel_scope.cancel()
        store.close()


async def command(data_dir: Path, name: str, params: Any) -> Any:
    return await trio.to_thread.run_sync(
        ask_books, data_dir, database_url(data_dir), "regtest", name, params, "ann"
    )


def new_order(name: str = "blue", **change: Any) -> OrderAdd:
    fields: dict[str, Any] = {
        "name": name,
        "buyer": BUYER,
        "upstream": "north",
        "hashrate_ths": 1000,
        "until_s": FAR_S,
        "sat_per_ph_day": 4_500,
        "tenants": ("acme",),
    }
    return OrderAdd(**(fields | change))


async def test_a_running_pool_is_told_of_every_change_and_of_no_look(data_dir: Path) -> None:
    async with running(data_dir) as pool:
        await command(data_dir, "upstream.add", new_upstream())
        await command(data_dir, "order.add", new_order())
        assert pool.changes == 2
        for name, look in (
            ("upstream.list", UpstreamList()),
            ("upstream.show", UpstreamShow("north")),
            ("order.list", OrderList()),
            ("order.show", OrderShow("blue")),
        ):
            answer = await command(data_dir, name, look)
            assert PASSWORD not in json.dumps(answer)
        with pytest.raises(RegistryError, match="in use: order blue"):
            await command(data_dir, "upstream.remove", UpstreamRemove("north"))
        assert pool.changes == 2
        await command(data_dir, "upstream.switch", UpstreamSwitch("north", "2"))
        await command(data_dir, "order.end", OrderEnd("blue"))
        await command(data_dir, "upstream.remove", UpstreamRemove("north"))
        assert pool.changes == 5


async def test_what_a_running_pool_does_is_shown(data_dir: Path) -> None:
    async with running(data_dir) as pool:
        north = await command(data_dir, "upstream.add", new_upstream())
        east = await command(data_dir, "upstream.add", new_upstream("east"))
        blue = await command(data_dir, "order.add", new_order())
        calm = await command(data_dir, "order.add", new_order("calm"))
        assert (blue["state"], "supply_hps" in blue) == ("running", False), "not measured yet"
        pool.edge.status = RouteStatus(
            upstreams=(
                UpstreamStatus(
                    upstream_id=north["id"],
                    order_id=blue["id"],
                    number=3,
                    serving=None,
                    since_s=75.0,
                    endpoints=(EndpointStatus("a.example:3333", "down", "closed by the upstream", 75.0),),
                    sessions=400,
                    prefix_bytes=1,
                    miner_bytes=3,
                    limits="rentals will not mine on it",
                    unanswered=17,
                    diverted=True,
                ),
            ),
            orders=(
                OrderStatus(order_id=blue["id"], supply_hps=9e14, shortage_hps=1e14, machines=8, moving=2),
                OrderStatus(order_id=calm["id"], supply_hps=1e15, shortage_hps=0.0, machines=9, moving=0),
            ),
        )
        orders = {row["name"]: row for row in await command(data_dir, "order.list", OrderList())}
        assert (orders["blue"]["state"], orders["calm"]["state"]) == ("short", "running")
        assert (orders["blue"]["supply_hps"], orders["blue"]["moving"]) == (9e14, 2)
        shown = await command(data_dir, "upstream.show", UpstreamShow("north"))
        (channel,) = shown["channels"]
        assert (channel["order"], channel["serving"], channel["diverted"]) == ("blue", None, True)
        assert channel["endpoints"][0]["reason"] == "closed by the upstream"
        assert shown["orders"] == ["blue", "calm"]
        assert (await command(data_dir, "upstream.show", UpstreamShow("east")))["channels"] == []
        assert east["channels"] == []

        def print_all() -> str:
            looks = (
                ("upstream", "list"),
                ("upstream", "show", "north"),
                ("order", "list"),
                ("order", "show", "blue"),
            )
            return "".join(angara(data_dir, *look).output for look in looks)

        printed = await trio.to_thread.run_sync(print_all)
    for words in (
        "nothing, on fallback",
        "channel 3, order blue: nothing serves since 1 min 15 s, its miners are on the fallback",
        "400 sessions, 17 shares unanswered",
        "900.0 TH/s",
        "100.0 TH/s",
    ):
        assert words in printed


async def test_a_password_is_not_in_the_answer_to_a_wrong_command(data_dir: Path) -> None:
    wrong = new_upstream(
        endpoints=(UpstreamEndpoint(host="a.example", port=1, user="acme", password=PASSWORD),) * 2
    )
    async with running(data_dir) as pool:
        with pytest.raises(RegistryError, match="twice") as refused:
            await command(data_dir, "upstream.add", wrong)
        assert PASSWORD not in str(refused.value)
        assert pool.changes == 0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0, "0 s"), (59.9, "59 s"), (60, "1 min 0 s"), (3_725, "1 h 2 min"), (90_000, "1 d 1 h")],
)
def test_durations_are_two_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words
