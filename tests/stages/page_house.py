"""A whole pool with a fleet on its books, for who looks at the page: `python -m tests.stages.page_house DIR`.

It prints its address and a token of everybody's in a line of JSON, and ends when its standard input does. The
machines have no sockets: what they did is counted as if they had.
"""

import math
import random
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import trio
from sqlalchemy import Connection, insert, select

from payouts.accrual import settle
from payouts.income import Block, record_block
from payouts.ratebook import record_rate
from payouts.rates import Price, Scheme
from payouts.schemas.money import containers, tenants, workers
from payouts.tallies import Tally, record
from pool.admin.commands import execute
from pool.admin.desk import Desk
from pool.admin.operators import ALONE
from pool.books.edges.leases import Asked, begin
from pool.books.edges.watch import LinkFigures, RemoteFigures, State
from pool.books.store import Store
from pool.dashboard.figures import Figures
from pool.fleet.hashrate import HashrateBook, MachineLooks
from pool.journal.frames import Place
from pool.main import Pool
from pool.people.roles import host_account
from pool.requests.made import RequestMade
from pool.requests.policy import Approval
from stratum.miners.contracts import Admitted
from stratum.tallies import RECORD, Verdict
from tests.fakes.owners import ConnectionFrom
from tests.fakes.treasuries import TreasuryWhoseNodesAgree, agreeing
from tests.fixtures.databases import store_in
from tests.stages.payouts import PAYEES, register
from tests.stages.plant import Plant, plant
from tests.stages.site_journal import new_nkey

ROWS, SLOTS = 8, 12
CONTAINERS: Final = 14
TENANTS: Final = ("acme", "borealis")
SITES: Final = ("north", "south")
MACHINE_THS: Final = 110
LOG2: Final = 10  # 25 shares a second, so that a second says how fast a machine is
DIFFICULTY_THS: Final = 2**32 * 2**LOG2 / 1e12
AGENT: Final = "cgminer/4.12.1"
# What strangers call their machines: markup, direction of text, something that a sheet would calculate.
HOSTILE: Final = ("<img src=x onerror=document.title='taken'>", "a‮b", "=1+1", "'\"><script>x</script>")
USERS: Final = {
    "vera": {"role": "viewer"},
    "otto": {"role": "operator"},
    "paul": {"role": "payer"},
    "ada": {"role": "admin"},
    "tina": {"role": "tenant", "tenant": "borealis"},
}
FOUR_EYES: Final = Approval(people=2)
STEPS: Final = 96  # of its history: eight hours, each step of which takes its time


class House(msgspec.Struct, frozen=True):
    """Where it is, and who is let in by what."""

    url: str
    tokens: dict[str, str]


@contextmanager
def page_house(directory: Path, containers: int = CONTAINERS) -> Iterator[House]:
    """In a process of its own."""
    command = (sys.executable, "-m", __name__, str(directory), str(containers))
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        line = next((it for it in process.stdout if it.startswith(b'{"url"')), None)
        assert line is not None, "it ended before it was ready"
        yield msgspec.json.decode(line, type=House)
    finally:
        process.communicate()
    assert process.returncode == 0


async def _play(directory: Path, containers: int) -> None:
    _book(directory)
    Pool._treasury = lambda it: TreasuryBesideThePool()  # type: ignore[method-assign, assignment, return-value]
    async with plant(directory, approval=FOUR_EYES) as site:
        give = _Giver(site)
        await _furnish(give, containers)
        tokens = {}
        for name, role in USERS.items():
            await give("user.add", name=name, **role)
            tokens[name] = (await give("token.create", user=name, label="the page"))["token"]
        await _ask(site, tokens["ada"], "payout.create", b"{}")
        fleet = _Fleet(site, containers)
        async with trio.open_nursery() as nursery:
            await nursery.start(fleet.run)
            if containers <= CONTAINERS:  # of a whole site it takes a minute
                await fleet.live_through_a_shift(site)
            with suppress(RequestMade):  # a change that waits for a second person
                await _ask(site, tokens["paul"], "tenant.set-terms", b'{"name": "acme", "fee_bps": 150}')
            _firmware(site)
            await _hub(site, give)
            assert site.running.web is not None
            house = House(f"http://127.0.0.1:{site.running.web[1]}", tokens)
            sys.stdout.buffer.write(msgspec.json.encode(house) + b"\n")
            sys.stdout.flush()
            await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
            nursery.cancel_scope.cancel()


async def _ask(site: Plant, token: str, command: str, body: bytes) -> None:
    """As a user, where the host's accounts are nobody's second person."""
    who = site.pool._authentication

    def ask() -> None:
        who.load()
        user = who.caller(who.recognised("127.0.0.1", token), "127.0.0.1")
        desk = Desk(site.store, "regtest", site.running.live, agreeing(), FOUR_EYES)
        execute(desk, command, body, user)

    await trio.to_thread.run_sync(ask)


def _firmware(site: Plant) -> None:
    """As its sessions would be counted; the second says what a stranger likes."""
    for agent, sessions in ((AGENT, 1_200), (HOSTILE[0], 1)):
        for _ in range(sessions):
            kind = site.pool.edge.miners.firmware.begin(agent)
            kind.asked_in_order("configure subscribe authorize")
            kind.asked_to_roll(0x1FFFE000)
            kind.mined, kind.accepted, kind.rejected = kind.mined + 1, kind.accepted + 300, kind.rejected + 1
        kind.rolled, kind.pings, kind.answers = 0x1FFFE000, 12, 11


# What its edges do; the first has come to nobody yet.
EDGES: Final[tuple[tuple[str, State | None, tuple[str, ...]], ...]] = (
    ("amur", None, ()),
    ("bratsk", "serves", ("acme.c01", "acme.c02", "acme.c03")),
    ("omsk", "silent", ("acme.c04",)),
    ("sayan", "held", ("borealis.c08",)),
    ("tomsk", "waits", ("borealis.c09",)),
    ("yenisei", "behind", ("borealis.c10",)),
)
WHY: Final = {
    "held": f"edge sayan may not count for acme.c01.{HOSTILE[0]}: it may for borealis.c08",
    "waits": "the clock of edge tomsk is 240 s ahead of ours",
}


async def _hub(site: Plant, give: "_Giver") -> None:
    """As the pool would tell that keeps the books of edges at other sites, while one's line is cut."""
    for name, state, places in EDGES:
        await give("edge.add", name=name, nkey=new_nkey(), containers=places or ["acme.c05"], ths=32_000)
        if state is not None:
            asked = Asked(edge=name, host=f"edge-1.{name}", process="41", writer=secrets.token_hex(16))
            with site.store.write() as connection:
                begin(connection, asked, Place(), int(time.time()))
    edges = tuple(_edge(name, state, at) for at, (name, state, _) in enumerate(EDGES) if state is not None)
    link = LinkFigures(connected=True, since_s=11_520.0, url="tls://nats-1.example:4222", dropped=2, error="")
    dashboard = site.pool._dashboard
    assert dashboard is not None
    figures = dashboard._figures

    async def with_edges() -> Figures:
        it = await figures()
        return Figures(msgspec.structs.replace(it.whole, edges=edges, link=link), it.tenants)

    dashboard._figures = with_edges


def _edge(name: str, state: State, at: int) -> RemoteFigures:
    silent_s = 420.0 if state == "silent" else 7.0 + at
    late_s = 1_560.0 if state in ("held", "behind") else silent_s
    return RemoteFigures(
        name=name,
        state=state,
        why=WHY.get(state),
        silent_s=silent_s,
        heard=True,
        unbooked=0 if state == "silent" else 37_411 * at,
        unbooked_bytes=0 if state == "silent" else 31_457_280 * at,
        unbooked_s=0.0 if state == "silent" else 55.0 + late_s,
        missing_s=late_s,
        moment_age_s=late_s,
        beyond_s=1_900.0 if state == "behind" else None,
        machines=5_000,
        mining=4_980 if state == "serves" else 0,
    )


class TreasuryBesideThePool(TreasuryWhoseNodesAgree):
    """With nothing to follow: what it pays never reaches a chain."""

    async def follow(self, store: Store) -> None:
        await trio.sleep_forever()

    async def aclose(self) -> None:
        pass


def _book(directory: Path) -> None:
    """Tenants that are owed something, a day of work of some machines, and blocks."""
    now_s = int(time.time())
    with closing(store_in(directory)) as store:
        register(store, PAYEES[: len(TENANTS)], now_s=now_s - 30 * 3_600)
        with store.write() as connection:
            # What it is paid is what it was owed.
            nothing = _work(connection, "acme", "c04", now_s, subsidy_sat=0)
            _work(connection, "borealis", "c09", now_s, subsidy_sat=312_500_000)
            _last_hour(connection, nothing, now_s)
            while settle(connection, now_s - 3_600):
                pass
    with closing(store_in(directory)) as store, store.write() as connection:
        for number in range(5):
            found = Block(
                hash=f"{number + 0xA1:064x}",
                height=96 + number,
                income_sat=312_500_000 + number * 1_234,
                worker_id=None,
                found_at_s=int(time.time()) - 3_600 * (9 - number),
            )
            record_block(connection, found, found.found_at_s)


def _work(connection: Connection, tenant: str, container: str, now_s: int, *, subsidy_sat: int) -> int:
    """Of a row of machines, a day up to an hour ago: shares, of which some were stale or too low. The number
    of their rate."""
    number = connection.scalars(select(tenants.c.id).where(tenants.c.name == tenant)).one()
    at = {"id": 100 + number, "tenant_id": number, "created_at_s": 0}
    connection.execute(insert(containers).values(name=container, **at))
    for slot in range(1, SLOTS + 1):
        machine = {"id": 1_000 * number + slot, "tenant_id": number, "container_id": at["id"]}
        seen = {"first_seen_at_s": now_s - 86_400, "last_seen_at_s": now_s, "agent": AGENT}
        connection.execute(insert(workers).values(unit=f"r01s{slot:02}", **machine, **seen))
    since_s = now_s - 86_400
    price = Price(scheme=Scheme.PPS, nbits=0x17021A42, subsidy_sat=subsidy_sat, block_fees_sat=0, fee_bps=200)
    rate = record_rate(connection, number, price, 1_000, None, since_s)
    chance = random.Random(number)
    verdicts = {Verdict.ACCEPTED: 600, Verdict.STALE: 3, Verdict.LOW_DIFFICULTY: 1}
    record(
        connection,
        f"day of {tenant}",
        1,
        [
            Tally(
                worker_id=1_000 * number + slot,
                rate_id=rate,
                minute=since_s // 60 + 60 * hour,
                difficulty_log2=17,
                verdict=verdict,
                shares=round(shares * chance.uniform(0.8, 1.2)),
            )
            for hour in range(22)
            for slot in range(1, SLOTS + 1)
            for verdict, shares in verdicts.items()
        ],
    )
    return rate


def _last_hour(connection: Connection, rate: int, now_s: int) -> None:
    """Of acme's row, which is paid nothing for it by that rate: by its minutes what it draws is known."""
    minutes = range(now_s // 60 - 62, now_s // 60)
    rows = [
        Tally(
            worker_id=1_000 + slot,
            rate_id=rate,
            minute=minute,
            difficulty_log2=17,
            verdict=Verdict.ACCEPTED,
            shares=12,  # of 110 TH/s
        )
        for slot in range(1, SLOTS + 1)
        for minute in minutes
    ]
    record(connection, "an hour of acme", 1, rows)


class _Giver:
    def __init__(self, site: Plant) -> None:
        self._site = site

    async def __call__(self, command: str, /, **params: Any) -> Any:
        desk = Desk(self._site.store, "regtest", self._site.running.live, agreeing())
        body, olga = msgspec.json.encode(params), host_account("olga", ALONE)
        return await trio.to_thread.run_sync(execute, desk, command, body, olga)


async def _furnish(give: _Giver, containers: int) -> None:
    for at in range(containers):
        tenant = TENANTS[at * len(TENANTS) // containers]
        units = ROWS * SLOTS + (6 if at == containers - 1 else 0)  # some that never came
        nameplate = {"units": units, "ths": units * MACHINE_THS, "kw": units * 3}
        await give("container.set", tenant=tenant, name=f"c{at + 1:02}", site=SITES[at % 2], **nameplate)
        figures = {"hashrate_ghs": MACHINE_THS * 1_000, "watts": 3_000}  # the plate is in force in an hour
        await give("model.set", container=f"{tenant}.c{at + 1:02}", **figures)
    await give("limit.set", site="south", kw=1_500, reason="the transformer")
    endpoints = ({"host": "127.0.0.1", "port": 1, "user": "acme.farm"},)
    await give("upstream.add", name="north-pool", endpoints=endpoints)
    sold = {"hashrate_ths": 5_000, "sat_per_ph_day": 4_500, "tenants": ("acme",)}
    days = {"until_s": int(time.time()) + 30 * 86_400}
    await give("order.add", name="blue", buyer="Blue Fund", upstream="north-pool", **sold, **days)
    await give("tenant.set-status", name="borealis", active=False)
    await give("tenant.set-status", name="borealis", active=True)


class _Scaled:
    """Hashrates of another hour than that of `now_s`."""

    def __init__(self, whole: HashrateBook, now_s: float, rates: float, rejects: float) -> None:
        self._whole, self._now_s, self._rates, self._rejects = whole, now_s, rates, rejects

    def look(self, numbers: Any, now_s: float) -> MachineLooks:
        looks = self._whole.look(numbers, self._now_s)
        return msgspec.structs.replace(
            looks, rates_hps=looks.rates_hps * self._rates, rejected_hps=looks.rejected_hps * self._rejects
        )


class _Fleet:
    """What each machine does, by its number."""

    def __init__(self, site: Plant, containers: int) -> None:
        self._registry, self._hashrates = site.running.registry, site.running.hashrates
        self._chance = random.Random(7)
        paces, rejected = {}, {}
        for at in range(containers):
            tenant = TENANTS[at * len(TENANTS) // containers]
            for place in range(ROWS * SLOTS):
                row, slot = divmod(place, SLOTS)
                number = self._machine(f"{tenant}.c{at + 1:02}.r{row + 1:02}s{slot + 1:02}")
                paces[number], rejected[number] = self._does(at, row)
        for name in HOSTILE:
            paces[self._machine(f"acme.c01.{name}")] = 1.0
        self._numbers = np.array(list(paces), dtype="<u4")
        self._paces = np.array(list(paces.values()))
        self._rejected = np.array([rejected.get(it, 0.0) for it in paces])

    def _machine(self, name: str) -> int:
        admitted = self._registry.admit(name, AGENT, ConnectionFrom())
        assert isinstance(admitted, Admitted), admitted
        self._registry.prove(admitted.worker)
        known = self._registry.workers[admitted.worker]
        self._registry.workers[admitted.worker] = msgspec.structs.replace(known, difficulty_log2=LOG2)
        return admitted.worker

    def _does(self, container: int, row: int) -> tuple[float, float]:
        """Its hashrate as a part of the nameplate's, and what part of it is rejected."""
        luck = self._chance.random()
        if (container, row) == (3, 5) or luck < 0.004:
            return 0.0, 0.0
        if luck < 0.02 or (container == 8 and luck < 0.2):
            return 0.7, 0.0
        return self._chance.uniform(0.97, 1.03), 0.3 if luck > 0.992 else 0.0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        chance = np.random.default_rng(7)
        before_s = trio.current_time()
        self._hashrates.update(before_s)
        self._hashrates._make_room(int(self._numbers.max()))
        self._hashrates._since_s[:] = before_s  # nobody has mined yet, and nobody is slow for that
        while True:
            await trio.sleep(1.0)
            now_s = trio.current_time()
            self._mine(chance, now_s - before_s)
            self._hashrates.update(now_s)
            before_s = now_s
            task_status.started()
            task_status = trio.TASK_STATUS_IGNORED

    async def live_through_a_shift(self, site: Plant) -> None:
        """What pages draw of it: some machines were away for a while, and more was rejected later."""
        dashboard = site.pool._dashboard
        assert dashboard is not None
        history = dashboard._history
        whole, now_s = history._hashrates, trio.current_time()
        for step in range(STEPS):
            of_day = step / STEPS
            rates = 0.97 + 0.03 * math.sin(math.tau * of_day) - (0.2 if 0.3 < of_day < 0.36 else 0.0)
            rejects = 1.0 + 4.0 * max(0.0, math.sin(math.tau * of_day - 1.0))
            history._hashrates = _Scaled(whole, now_s, rates * self._chance.uniform(0.99, 1.01), rejects)  # type: ignore[assignment]
            await history.step()
        history._hashrates = whole

    def _mine(self, chance: np.random.Generator, elapsed_s: float) -> None:
        shares = self._paces * MACHINE_THS / DIFFICULTY_THS * elapsed_s
        for verdict, part in (
            (Verdict.ACCEPTED, 1 - self._rejected),
            (Verdict.LOW_DIFFICULTY, self._rejected),
        ):
            records = np.zeros(len(shares), dtype=RECORD)
            records["worker"], records["rate"], records["difficulty_log2"] = self._numbers, 1, LOG2
            records["verdict"], records["count"] = verdict, chance.poisson(shares * part)
            self._hashrates.add(records[records["count"] > 0].tobytes(), trio.current_time())


if __name__ == "__main__":
    trio.run(_play, Path(sys.argv[1]), int(sys.argv[2]))
