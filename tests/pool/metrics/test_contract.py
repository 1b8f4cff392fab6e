"""What Prometheus is told is what docs/metrics.md says: by name, kind and label, and bounded."""

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.metadata import Distribution, PackageNotFoundError, version
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import trio
import trio.testing
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from payouts.rates import Scheme
from payouts.sales.receivables import Age, Receivables
from pool.books.edges.watch import BEYOND_S, NO_HUB, HubFigures, LinkFigures, RemoteFigures
from pool.books.store import Store
from pool.fleet.rows import TenantTerms, add_tenant
from pool.metrics import collector
from pool.metrics.book_figures import READ_S, BookFigures, BookReader
from pool.metrics.contract import METRICS, OTHERS, Page
from pool.metrics.scrape import text_of
from pool.orders.rows import OrderRecord
from pool.orders.status import OrderStatus
from pool.upstreams.status import UpstreamStatus
from stratum.histogram import Histogram
from stratum.upstream.shares import RejectReason, SubmitVerdict
from tests.fixtures.databases import store_in
from tests.stages.plant import Plant, plant
from tests.stages.waiting import PATIENCE_S

DOCUMENT = Path(__file__).parents[3] / "docs" / "metrics.md"
ROW = re.compile(r"^\| `(angara_\w+)` \| (\w+) \| ([^|]*) \| ([^|]*) \|$", re.M)
UNITS = ("seconds", "satoshis", "watts", "joules_per_terahash", "hashes_per_second", "total", "info")
COUNTS = (
    "ready",
    "processes",
    "sessions",
    "connections",
    "channels",
    "machines",
    "orders",
    "batches",
    "up",
    "current",
    "height",
    "shares",
    "records",
    "bytes",
    "events",
)
FLAGS = ("diverted", "blocks", "held", "waits", "beyond", "connected", "believed", "failed", "silent")
STRANGERS_CHOOSE = {"worker", "unit", "agent", "address", "ip", "name", "user"}


async def scraped(site: Plant, *, books: bool = True) -> dict[str, Metric]:
    """By name; `books`: with what only they have, which is there a moment after somebody has asked."""
    assert site.running.web is not None
    host, port = site.running.web
    async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
        with trio.fail_after(PATIENCE_S):
            while True:
                answered = await client.get(f"http://{host}:{port}/metrics")
                assert answered.status_code == 200
                families = {it.name: it for it in text_string_to_metric_families(answered.text)}
                if not books or families["angara_account_satoshis"].samples:
                    return families
                await trio.sleep(0.05)


def labelled(families: dict[str, Metric], name: str, *labels: str) -> dict[Any, float]:
    """Values by these labels."""
    found: dict[Any, float] = {}
    for it in families[name].samples:
        values = tuple(it.labels[label] for label in labels)
        found[values if len(values) > 1 else "".join(values)] = it.value
    return found


def exposed(metric: str) -> str:
    """As the parser calls it."""
    return metric.removesuffix("_total")


def test_the_document_has_the_contract_and_nothing_else() -> None:
    written = ROW.findall(DOCUMENT.read_text())
    assert written == [(it.name, it.kind, ", ".join(it.labels), it.help) for it in METRICS]


def test_names_are_as_prometheus_wants_them() -> None:
    for it in METRICS:
        assert it.name.startswith("angara_")
        assert (it.kind == "counter") == it.name.endswith("_total"), it.name
        assert it.name.endswith((*UNITS, *COUNTS, *FLAGS)), f"{it.name}: in which unit?"
        assert it.kind != "histogram" or it.name.endswith("_seconds")
        assert not STRANGERS_CHOOSE & set(it.labels), it.name
        assert it.help.endswith("."), it.name
    assert len({it.name for it in METRICS}) == len(METRICS)


@pytest.mark.simulation
async def test_a_whole_pool_tells_all_of_it_as_the_contract_says(tmp_path: Path) -> None:
    async with plant(tmp_path) as site:
        miner = await site.mining()
        for _ in range(3):
            await site.mine(miner)
        await miner.call("mining.nonsense")
        families = await scraped(site)
        told = {it.name for it in families.values() if it.name.startswith("angara_")}
        assert told == {exposed(it.name) for it in METRICS}
        for it in METRICS:
            family = families[exposed(it.name)]
            assert (family.type, family.documentation) == (it.kind, it.help)
            assert all(set(sample.labels) - {"le"} == set(it.labels) for sample in family.samples)
        assert {"process_open_fds", "process_cpu_seconds", "process_resident_memory_bytes"} <= set(families)
        acknowledged = {it.name: it.value for it in families["angara_acknowledgement_seconds"].samples}
        assert acknowledged["angara_acknowledgement_seconds_count"] == 3
        assert set(labelled(families, "angara_ready", "condition").values()) == {1.0}
        assert labelled(families, "angara_node_up", "node") == {"first": 1.0, "second": 1.0}
        assert labelled(families, "angara_node_current", "node") == {"first": 1.0, "second": 0.0}
        assert labelled(families, "angara_node_tip_height", "node")["first"] == 100
        assert labelled(families, "angara_shares", "tenant", "verdict")["acme", "accepted"] == 3
        assert labelled(families, "angara_sessions", "standing")["mining"] <= 1
        assert sum(labelled(families, "angara_firmware_sessions", "firmware").values()) == 1
        assert labelled(families, "angara_refused_lines", "kind") == {"refused": 1, "unreadable": 0}
        owed = labelled(families, "angara_tenant_satoshis", "tenant", "account")
        assert owed.keys() == {("acme", "payable"), ("acme", "in_payout")}


async def test_the_version_is_the_one_that_runs_whatever_was_installed_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = version("angara")

    def reads(name: str) -> Distribution:
        raise PackageNotFoundError(name)  # as in the middle of an installation, and without a descriptor

    async with plant(tmp_path) as site:
        monkeypatch.setattr(Distribution, "from_name", reads)
        families = await scraped(site, books=False)
    assert set(labelled(families, "angara_build_info", "version")) == {runs}


@pytest.mark.simulation
async def test_what_is_beyond_a_bound_is_summed_up_and_who_came_first_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So nobody who invents names puts a container of another out of sight."""
    monkeypatch.setattr(collector, "TENANTS_MAX", 1)
    monkeypatch.setattr(collector, "CONTAINERS_MAX", 1)
    with closing(store_in(tmp_path)) as store, store.write() as connection:
        for name in ("acme", "borealis", "cygnus"):
            terms = TenantTerms(scheme=Scheme.PPS, fee_bps=0, payout_minimum_sat=1_000_000)
            add_tenant(connection, name, terms, by="test", now_s=1)
    async with plant(tmp_path) as site:
        for name in ("acme.c01.u1", "acme.c02.u1", "borealis.c01.u1", "cygnus.c01.u1"):
            await site.mine(await site.mining(name))
        families = await scraped(site)
    assert labelled(families, "angara_tenant_hashrate_hashes_per_second", "tenant").keys() == {"acme", OTHERS}
    shares = labelled(families, "angara_shares", "tenant", "verdict")
    assert (shares["acme", "accepted"], shares[OTHERS, "accepted"]) == (2, 2)
    machines = labelled(families, "angara_container_machines", "tenant", "container", "state")
    assert machines == {
        ("acme", "c01", "online"): 1,
        ("acme", "c01", "offline"): 0,
        (OTHERS, OTHERS, "online"): 3,
        (OTHERS, OTHERS, "offline"): 0,
    }
    owed = labelled(families, "angara_tenant_satoshis", "tenant", "account")
    assert owed.keys() == {(it, account) for it in ("acme", OTHERS) for account in ("payable", "in_payout")}


ENDPOINT = UpstreamStatus(
    upstream_id=1,
    order_id=None,
    number=2,
    serving="pool.example:3333",
    since_s=1.0,
    endpoints=(),
    sessions=3,
    prefix_bytes=1,
    miner_bytes=4,
    limits="",
    unanswered=5,
    diverted=False,
)


def test_several_connections_of_an_upstream_are_one_series_and_down_where_one_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    down = msgspec.structs.replace(ENDPOINT, serving=None, diverted=True)
    sold = msgspec.structs.replace(ENDPOINT, upstream_id=2, order_id=7)
    page = Page()
    collector.add_upstreams(page, {1: "viabtc"}, {7: "o7"}, (ENDPOINT, down, sold))
    families = {it.name: it for it in page.collect()}
    for metric, expected in (("up", (0, 1)), ("diverted", (1, 0)), ("sessions", (6, 3))):
        found = labelled(families, f"angara_upstream_{metric}", "upstream", "order")
        assert found == {("viabtc", ""): expected[0], (OTHERS, "o7"): expected[1]}


def test_what_upstreams_said_is_told_by_a_few_words_and_of_those_without_a_name_together() -> None:
    rejected, accepted = SubmitVerdict.REJECTED, SubmitVerdict.ACCEPTED
    said = {(1, accepted, None): 90, (1, rejected, RejectReason.STALE): 3, (2, accepted, None): 1}
    page = Page()
    collector.add_answers(page, {1: "viabtc"}, said | {(3, accepted, None): 2})
    families = {it.name: it for it in page.collect()}
    found = labelled(families, "angara_upstream_shares", "upstream", "verdict", "reason")
    assert found == {
        ("viabtc", "accepted", ""): 90,
        ("viabtc", "rejected", "stale"): 3,
        (OTHERS, "accepted", ""): 3,
    }


def order(number: int, hashrate_hps: int) -> OrderRecord:
    return OrderRecord(
        id=number,
        name=f"o{number}",
        upstream_id=1,
        hashrate_hps=hashrate_hps,
        tolerance_bps=200,
        from_s=0,
        until_s=1,
        priority=1,
        sat_per_ph_day=1,
        suppliers=(),
    )


def test_orders_are_told_with_what_they_bought_and_what_they_get() -> None:
    figures = BookFigures(
        sites={}, upstreams={}, orders={1: order(1, 10**15), 2: order(2, 5), 3: order(3, 6)}, blocks={},
        balances_sat={},
    )  # fmt: skip
    status = tuple(
        OrderStatus(order_id=number, supply_hps=4.0, shortage_hps=1.0, machines=9, moving=0)
        for number in (1, 2, 3, 4)
    )
    page = Page()
    collector.add_orders(page, figures, {1: "o1"}, status)
    families = {it.name: it for it in page.collect()}
    sold = labelled(families, "angara_order_sold_hashes_per_second", "order")
    assert sold == {"o1": 10**15, OTHERS: 11}, "one that nobody has read yet is not told"
    assert labelled(families, "angara_order_machines", "order") == {"o1": 9, OTHERS: 18}


def test_what_buyers_owe_is_told_by_age_and_of_no_buyer_by_name() -> None:
    page = Page()
    sat = dict.fromkeys(Age, 0) | {Age.WEEK: 5, Age.ADVANCE: 7}
    collector.add_receivables(page, Receivables(sat=sat, overdue_orders=3, stopped_orders=1))
    families = {it.name: it for it in page.collect()}
    ages = labelled(families, "angara_receivable_satoshis", "age")
    assert (len(ages), ages["overdue-week"], ages["advance"]) == (7, 5, 7)
    assert labelled(families, "angara_unpaid_orders", "state") == {"overdue": 2, "stopped": 1}


EDGE = RemoteFigures(
    name="north",
    state="serves",
    why=None,
    silent_s=12.5,
    heard=True,
    unbooked=400,
    unbooked_bytes=5_000,
    unbooked_s=60.0,
    missing_s=30.0,
    moment_age_s=31.0,
    beyond_s=None,
    machines=5_000,
    mining=4_980,
)


def test_edges_of_a_hub_are_told_and_the_way_to_them() -> None:
    held = msgspec.structs.replace(EDGE, name="south", state="held", beyond_s=BEYOND_S - 1)
    waits = msgspec.structs.replace(EDGE, name="west", state="waits", beyond_s=BEYOND_S)
    link = LinkFigures(
        connected=False, since_s=9.0, url="tls://nats.example:4222", dropped=7, error="refused"
    )
    page = Page()
    collector.add_hub(page, HubFigures(edges=(EDGE, held, waits), link=link))
    families = {it.name: it for it in page.collect()}
    told = {
        "heard_age_seconds": 12.5,
        "missing_age_seconds": 30.0,
        "moment_age_seconds": 31.0,
        "unbooked_age_seconds": 60.0,
        "unbooked_records": 400,
        "unbooked_bytes": 5_000,
    }
    for name, value in told.items():
        assert labelled(families, f"angara_edge_{name}", "edge")["north"] == value
    for name, flags in (("held", (0, 1, 0)), ("waits", (0, 0, 1)), ("beyond", (0, 1, 0))):
        found = labelled(families, f"angara_edge_{name}", "edge")
        assert tuple(found[it] for it in ("north", "south", "west")) == flags, name
    machines = labelled(families, "angara_edge_machines", "edge", "state")
    assert (machines["north", "mining"], machines["north", "offline"]) == (4_980, 20)
    assert [it.value for it in families["angara_nats_connected"].samples] == [0]
    assert [it.value for it in families["angara_nats_dropped_messages"].samples] == [7]


def test_a_pool_that_keeps_nobodys_books_but_its_own_has_no_series_of_edges() -> None:
    page = Page()
    collector.add_hub(page, NO_HUB)
    assert not [sample for it in page.collect() for sample in it.samples]


def test_a_figure_of_money_leaves_exactly() -> None:
    page = Page()
    for number, satoshi in enumerate((21_000_000 * 10**8, -(21_000_000 * 10**8) + 1, 123_456_789_012_345)):
        page.add("angara_account_satoshis", satoshi, str(number))
    (family,) = (
        it
        for it in text_string_to_metric_families(text_of(page).decode())
        if it.name.endswith("t_satoshis") and it.samples
    )
    assert [int(it.value) for it in family.samples] == [
        21_000_000 * 10**8,
        -(21_000_000 * 10**8) + 1,
        123_456_789_012_345,
    ]


async def test_figures_of_a_database_that_is_away_are_those_of_before_and_say_how_old(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    with closing(store_in(tmp_path)) as store:
        reader = StoreThatIsAway(store)
        async with trio.open_nursery() as nursery:
            books = BookReader(reader)
            nursery.start_soon(books.run)
            books.want()
            await trio.sleep(1)
            read = books.figures
            assert read is not None
            reader.away = True
            with capture_logs() as logs:
                books.want()
                await trio.sleep(2 * READ_S)
            assert [it["event"] for it in logs] == ["figures_not_read"]
            assert books.figures is read
            assert trio.current_time() - books.read_s >= READ_S
            nursery.cancel_scope.cancel()
        assert reader.reads == 2, "once a minute at most, and never without somebody who looks"


class StoreThatIsAway(Store):
    def __init__(self, whole: Store) -> None:
        super().__init__(whole.engine)
        self.away, self.reads = False, 0

    @contextmanager
    def read(self) -> Iterator[Connection]:
        self.reads += 1
        if self.away:
            raise OperationalError("SELECT", None, Exception("the connection is lost"))
        with super().read() as connection:
            yield connection


def test_a_histogram_has_each_where_prometheus_looks_for_it() -> None:
    it = Histogram((0.1, 1.0))
    it.add(0.1)
    it.add(0.5, 3)
    it.add(7.0)
    assert (it.counts, round(it.sum_s, 6)) == ([1, 3, 1], 8.6)
    page = Page()
    page.add_histogram("angara_fold_seconds", it)
    families = {it.name: it for it in page.collect()}
    found = [(it.name, it.labels.get("le"), it.value) for it in families["angara_fold_seconds"].samples]
    assert found == [
        ("angara_fold_seconds_bucket", "0.1", 1),
        ("angara_fold_seconds_bucket", "1.0", 4),
        ("angara_fold_seconds_bucket", "+Inf", 5),
        ("angara_fold_seconds_count", None, 5),
        ("angara_fold_seconds_sum", None, it.sum_s),
    ]
