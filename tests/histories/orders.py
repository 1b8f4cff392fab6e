"""An order's history for tests: sold, delivered, judged by its upstream and settled by the functions that a
pool uses."""

from typing import Any

from sqlalchemy import insert

from payouts.ratebook import WorkSource, record_rate
from payouts.rates import Scheme
from payouts.schemas.orders import upstream_hours
from pool.books.store import Store
from pool.orders.rows import NewOrder, OrderView, add_order, note_event, note_minute
from pool.upstreams.rows import NewUpstream, UpstreamRecord, add_upstream
from stratum.upstream.endpoint import UpstreamEndpoint
from tests.histories.statements import ACME, BOREALIS, DAY_S, HOUR, History, price

HOUR_S = 3600
BUYER = "Blue Ocean <b>& Sons</b>"
TARGET = (0xFFFF << 208) >> 20  # of difficulty 2^20
PRICE = 4_500  # sat per PH-day


def new_upstream(name: str = "north", **change: Any) -> NewUpstream:
    fields: dict[str, Any] = {
        "name": name,
        "endpoints": tuple(
            UpstreamEndpoint(host=f"{host}.pool.example", port=3333, user="acme.farm7", password="hunter2")
            for host in ("a", "b", "c")
        ),
    }
    return NewUpstream(**(fields | change))


def new_order(name: str = "blue", **change: Any) -> NewOrder:
    """1 PH/s from 10:30 to 13:15 on DAY."""
    fields: dict[str, Any] = {
        "name": name,
        "buyer": BUYER,
        "upstream": "north",
        "hashrate_ths": 1000,
        "tolerance_bps": 200,
        "from_s": DAY_S + 10 * HOUR_S + 1800,
        "until_s": DAY_S + 13 * HOUR_S + 900,
        "priority": 50,
        "sat_per_ph_day": PRICE,
        "tenants": ("acme", "borealis"),
        "containers": (),
    }
    return NewOrder(**(fields | change))


class OrderHistory(History):
    """`blue` on `north`, with a rate for each of the two tenants: acme's is the order's price."""

    def __init__(self, store: Store, **change: Any) -> None:
        super().__init__(store)
        now_s = DAY_S - 86_400
        self.set_terms(now_s, 250, BOREALIS)
        with store.write() as connection:
            self.north: UpstreamRecord = add_upstream(connection, new_upstream(), by="olga", now_s=now_s)
            self.blue: OrderView = add_order(connection, new_order(**change), by="olga", now_s=now_s)
        self.acme = self.sold_rate(ACME, self.blue.id, sat_per_ph_day=PRICE)
        self.borealis = self.sold_rate(BOREALIS, self.blue.id)

    def sold_rate(self, tenant_id: int, order_id: int, **change: Any) -> int:
        source = WorkSource(self.north.id, order_id)
        sold = price(scheme=Scheme.PPS, block_fees_sat=0, **change)
        with self.store.write() as connection:
            return record_rate(connection, tenant_id, sold, 1_000_000, None, DAY_S, source)

    def measured(self, hour: int, minutes: int, short: int, moves: int) -> None:
        """What the allocator saw in an hour of DAY."""
        with self.store.write() as connection:
            for minute in range(minutes):
                counted = moves if minute == 0 else 0
                note_minute(connection, self.blue.id, HOUR + hour, minute < short, counted)

    def judged(
        self, hour: int, verdict: str, shares: int, reason: str = "", *, target: int = TARGET, order: int = 0
    ) -> None:
        """What the upstream said in an hour of DAY."""
        row = insert(upstream_hours).values(
            hour=HOUR + hour,
            tenant_id=ACME,
            upstream_id=self.north.id,
            order_id=order or self.blue.id,
            target=f"{target:064x}",
            verdict=verdict,
            reason=reason,
            shares=shares,
        )
        with self.store.write() as connection:
            connection.execute(row)

    def happened(self, minute: int, event: str, words: str, *, order: int | None = 0) -> None:
        """An event of the order's channel, or of another order's, or of none."""
        with self.store.write() as connection:
            order_id = self.blue.id if order == 0 else order
            note_event(connection, DAY_S + minute * 60, self.north.id, order_id, event, words, 400)


def deliver(history: OrderHistory) -> None:
    """Three hours of it, with an outage in the second, and all of it settled but the last hour."""
    for hour, shares, other in ((10, 100, 300), (11, 90, 220), (12, 210, 595), (13, 50, 149)):
        history.mine(history.acme, hour * 60 + 40 * (hour == 10), shares, log2=20)
        history.mine(history.borealis, hour * 60 + 40 * (hour == 10), other, worker=BOREALIS * 100, log2=20)
    history.measured(10, 30, 2, 14)
    history.measured(11, 60, 21, 3)
    history.measured(12, 60, 0, 0)
    for hour, accepted in ((10, 402), (11, 299), (12, 811)):
        history.judged(hour, "accepted", accepted)
    history.judged(11, "rejected", 7, "stale")
    history.judged(11, "rejected", 2, "low_difficulty")
    history.judged(11, "unanswered", 4)
    history.judged(12, "accepted", 5, target=TARGET >> 3)
    history.happened(630, "served", "a.pool.example:3333")
    history.happened(671, "lost", "no share answered within 60 s")
    history.happened(672, "fell_back", "to the own pool")
    history.happened(690, "returned", "a.pool.example:3333 serves again")
    history.settle(DAY_S + 13 * HOUR_S + 90)
