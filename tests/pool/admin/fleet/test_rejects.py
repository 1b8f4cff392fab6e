"""The account of shares adds up: what was sent was judged, and what was forwarded has an answer each."""

import random
from collections import Counter
from collections.abc import Collection
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from sqlalchemy import insert

from payouts.schemas.money import tally_minutes, worker_days
from payouts.schemas.orders import upstream_days, upstream_hours
from payouts.statements.work import VERDICTS
from pool.admin.desk import Desk, LivePool
from pool.admin.fleet.rejects import RejectShow, reject_show, reject_show_of
from pool.books.store import Store
from pool.fleet.hashrate import Hashrate
from pool.fleet.rows import RegistryError
from pool.people.roles import Caller, NotPermitted, Role
from pool.upstreams.rows import NewUpstream, add_upstream
from stratum.miners.uncharged import REFUSED, Uncharged
from stratum.tallies import Verdict, pack_tallies
from stratum.upstream.endpoint import UpstreamEndpoint
from tests.fixtures.databases import store_in
from tests.stages.journal import JournalOnStore, tally

NOW_S = 1_800_000_000 // 86_400 * 86_400 + 50_000
DAY = NOW_S // 86_400
TARGET = f"{1:064x}"
REASONS = {"accepted": ("",), "rejected": ("stale", "other"), "unanswered": ("",)}


class Running:
    """Of a pool only what it knows that is in no books."""

    def __init__(self, uncharged: Uncharged, machines: dict[str, int]) -> None:
        self.since_s = NOW_S - 3600
        self._uncharged, self._machines = uncharged, machines

    def worker_figures(self, numbers: Collection[int]) -> dict[int, Hashrate]:
        return {}

    def uncharged(self, name: str | None, tenant_id: int | None, since_day: int) -> list[int]:
        acme = [number for it, number in self._machines.items() if it.startswith("acme")]
        return self._uncharged.of(acme if name is None else [self._machines[name]], since_day)


class Site:
    """Two machines of acme, one of borealis, and an upstream; `sent` is what each of them sent since when."""

    def __init__(self, store: Store, seed: int) -> None:
        print(f"seed {seed}")
        self.random, self.store = random.Random(seed), store
        self.books = JournalOnStore(store)
        self.names = ("acme.c1.a", "acme.c1.b", "borealis.c1.a")
        self.machines = {name: self.books.worker(name) for name in self.names}
        self.uncharged = Uncharged(lambda: DAY)
        self.judged: Counter[tuple[str, int]] = Counter()
        self.forwarded: Counter[str] = Counter()

    async def begin(self) -> None:
        for number in self.machines.values():
            await self.books.journal.commit(tally(number, self.books.epoch))
        await self.books.folding.fold()
        new = NewUpstream(
            name="north", endpoints=(UpstreamEndpoint(host="127.0.0.1", port=3333, user="us", password="x"),)
        )
        with self.store.write() as connection:
            self.upstream = add_upstream(connection, new, by="test", now_s=NOW_S)

    def happen(self) -> None:
        """Shares of every age and verdict, and what the upstream said of some."""
        upstream = 1
        spans = ((tally_minutes, "minute", 60), (worker_days, "day", 86_400))
        with self.store.write() as connection:
            for name, worker in self.machines.items():
                for verdict in self.random.sample(range(len(VERDICTS)), 5):
                    table, column, seconds = self.random.choice(spans)
                    at_s, shares = NOW_S - self.random.randrange(3 * 86_400), self.random.randint(1, 99)
                    row = {"worker_id": worker, "difficulty_log2": 0, "verdict": verdict}
                    row |= {"rate_id": 1} if table is tally_minutes else {"minutes": 0}
                    connection.execute(
                        insert(table).values(row | {column: at_s // seconds, "shares": shares})
                    )
                    if at_s // 86_400 == DAY:
                        self.judged[name, verdict] += shares
                for answer, reasons in REASONS.items():
                    day, shares = DAY - self.random.randrange(2), self.random.randint(1, 99)
                    said: dict[str, Any] = {"upstream_id": upstream, "verdict": answer, "shares": shares}
                    connection.execute(insert(upstream_days).values(said | {"day": day, "worker_id": worker}))
                    tenant = 1 if name.startswith("acme") else 2
                    where = {"hour": day * 24 + 3, "tenant_id": tenant, "order_id": worker}
                    words = {"reason": self.random.choice(reasons), "target": TARGET}
                    connection.execute(insert(upstream_hours).values(said | where | words))
                    self.forwarded[name] += shares if day == DAY else 0

    def ask(self, *, live: bool = True, **of: Any) -> dict[str, Any]:
        running = cast(LivePool, Running(self.uncharged, self.machines)) if live else None
        account: dict[str, Any] = msgspec.to_builtins(
            reject_show(Desk(self.store, "regtest", running), RejectShow(**of))
        )
        return account


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pool.admin.fleet.rejects.wall_s", lambda: NOW_S)


def summed(account: dict[str, Any], leg: str, *, but: str = "") -> int:
    return sum(row["shares"] for row in account["rows"] if row["leg"] == leg and row["what"] != but)


def check(account: dict[str, Any], of: str, sent: int, forwarded: int) -> None:
    assert account["of"] == of
    assert account["sent"] == sent == summed(account, "sent")
    assert summed(account, "judged") + summed(account, "not charged") == sent
    said = summed(account, "upstream", but="forwarded")
    assert said == forwarded == sum(it["shares"] for it in account["rows"] if it["what"] == "forwarded")


@pytest.mark.parametrize("seed", range(3))
async def test_every_share_of_a_machine_and_of_a_tenant_is_in_one_row_of_its_account(
    tmp_path: Path, seed: int
) -> None:
    with closing(store_in(tmp_path)) as store:
        site = Site(store, seed)
        await site.begin()
        site.happen()
        strays = Counter[str]()
        for name, worker in site.machines.items():
            verdict, strays[name] = site.random.choice((Verdict.STALE, Verdict.LOW_DIFFICULTY)), 17 + worker
            site.uncharged.add_shares(pack_tallies({(worker, 0, 0, verdict): strays[name]}))
            site.uncharged.add_line(worker, REFUSED)
        judged = Counter[str]()
        for (name, _), shares in site.judged.items():
            judged[name] += shares
        for name in site.names:
            check(site.ask(worker=name), name, judged[name] + strays[name], site.forwarded[name])
        acme = [name for name in site.names if name.startswith("acme")]
        check(
            site.ask(tenant="acme"),
            "acme",
            sum(judged[name] + strays[name] for name in acme),
            sum(site.forwarded[name] for name in acme),
        )
        alone = site.ask(worker=acme[0], live=False)
        assert alone["sent"] == judged[acme[0]], "without a pool, what the books have"
        assert alone["uncharged_since_at_s"] is None
        upstream = site.ask(upstream="north")
        assert upstream["sent"] == sum(site.forwarded.values())
        assert {row["leg"] for row in upstream["rows"]} == {"sent", "upstream"}
        before = site.ask(tenant="acme", since=datetime.fromtimestamp(NOW_S - 3 * 86_400, UTC).date())
        assert before["sent"] >= site.ask(tenant="acme")["sent"]
        assert before["uncharged_since_at_s"] == NOW_S - 3600, "no earlier than the pool itself"


@pytest.mark.parametrize(
    "of", [{}, {"worker": "acme.c1.a", "tenant": "acme"}, {"tenant": "nobody"}, {"upstream": "nobody"}]
)
async def test_what_is_not_one_of_them_is_answered_in_words(tmp_path: Path, of: dict[str, Any]) -> None:
    with closing(store_in(tmp_path)) as store, pytest.raises(RegistryError):
        Site(store, 1).ask(**of)


async def test_a_day_that_has_not_come_is_refused(tmp_path: Path) -> None:
    tomorrow = datetime.fromtimestamp(NOW_S + 86_400, UTC).date()
    with closing(store_in(tmp_path)) as store, pytest.raises(RegistryError, match="is no day between"):
        Site(store, 1).ask(tenant="acme", since=tomorrow)


def test_a_tenants_user_sees_its_own_and_no_upstreams_which_have_the_shares_of_others() -> None:
    ann = Caller(name="ann", source="a test", role=Role.TENANT, tenant="acme", user_id=1)
    assert reject_show_of(RejectShow(), ann).tenant == "acme"
    assert reject_show_of(RejectShow(worker="acme.c1.a"), ann).tenant is None
    for other in (
        RejectShow(tenant="borealis"),
        RejectShow(worker="borealis.c1.a"),
        RejectShow(upstream="north"),
        RejectShow(worker="acme.c1.a", upstream="north"),
    ):
        with pytest.raises(NotPermitted):
            reject_show_of(other, ann)
