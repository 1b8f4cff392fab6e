"""Messages of a pool with real books: what they say is told once, whatever is restarted, restored or away.

A look is asked for, a minute of the wall clock apart; threads do what they do.
"""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import trio
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from payouts.income import Block, record_block
from payouts.rates import Scheme
from payouts.schemas.money import containers
from pool.admin.commands import execute
from pool.admin.desk import Desk
from pool.admin.requests.policy_record import note_policy
from pool.books.edges.watch import NO_HUB, HubFigures, RemoteFigures
from pool.books.store import Store
from pool.fleet.rows import RegistryError, TenantTerms, add_tenant, set_address
from pool.messages.conditions import START_S, Thresholds
from pool.messages.look import NodeLook
from pool.messages.message import Message, Severity
from pool.messages.messenger import Figures, MachineFigures, Messenger
from pool.messages.outbox import Outbox, Receiver
from pool.messages.receiver import Sender
from pool.messages.settings import MessageSettings
from pool.messages.webhook import Webhook
from pool.people.roles import Caller, host_account
from pool.power.curtailment.events import NewEvent, add_event
from pool.power.curtailment.machines import add_machines
from pool.power.curtailment.states import MachineState
from pool.requests.made import RequestMade
from pool.requests.policy import Approval
from tests.fixtures.databases import store_in
from tests.histories.power import add_container
from tests.stages.people import user

SETTINGS = MessageSettings(receivers=(), remind_s=8 * 3600.0, thresholds=Thresholds(disk_free_gib=0.1))
EVE = host_account("eve", "alone")
TERMS = TenantTerms(scheme=Scheme.PPS, fee_bps=200, payout_minimum_sat=1_000_000)
FIRST, SECOND = (
    "bcrt1qqqqsyqcyq5rqwzqfpg9scrgwpugpzysnard0ew",
    "bcrt1qk3e2yekshkyuzdcx5sfjena3da7rh87tay47fm",
)
NOBODY = MachineFigures(
    workers=np.zeros(0, dtype=np.int64),
    containers=np.zeros(0, dtype=np.int64),
    ages_s=np.zeros(0),
    hashrates_hps=np.zeros(0),
    rejected_hps=np.zeros(0),
)


class House:
    """A messenger on these books, whose messages are kept."""

    def __init__(self, directory: Path, store: Store) -> None:
        self.directory, self.store = directory, store
        self.now_s = time.time()
        self.failed = False
        self.nodes: tuple[NodeLook, ...] = (NodeLook("first", True, ""),)
        self.guesses = 0
        self.machines, self.hub = NOBODY, NO_HUB
        self.messages: list[Message] = []
        self.start()

    def start(self) -> None:
        async def send(sender: Sender, message: Message) -> None:
            self.messages.append(message)

        receiver = Receiver("1 (test)", Webhook("http://127.0.0.1:1", b""), Severity.INFO)
        self.outbox = Outbox([receiver], send=send)
        self.messenger = Messenger(
            SETTINGS,
            self.store,
            self.directory,
            (),
            figures=self._figures,
            journal_failed=lambda: self.failed,
            machine_name=lambda number: f"acme.c01.u{number}",
            outbox=self.outbox,
            wall_clock=lambda: self.now_s,
        )

    async def _figures(self) -> Figures:
        return Figures(
            running_s=START_S,
            job_age_s=1.0,
            machines=self.machines,
            nodes=self.nodes,
            upstreams=(),
            orders=(),
            guesses=self.guesses,
            hub=self.hub,
        )

    async def restart(self) -> None:
        self.start()
        await self.messenger.remember()

    async def looks(self, minutes: int = 1) -> list[str]:
        """Titles of what is told."""
        told: list[str] = []
        for _ in range(minutes):
            self.now_s += 60
            await self.messenger.look()
            (receiver,) = self.outbox.receivers
            told += [it.title for it in receiver.queue]
            self.messages += receiver.queue
            receiver.queue.clear()
        return told

    def give(self, name: str, /, **params: Any) -> Any:
        return self.give_under(Approval(), name, params)

    def give_under(
        self,
        policy: Approval,
        name: str,
        params: dict[str, Any],
        glass: str | None = None,
        caller: Caller = EVE,
    ) -> Any:
        desk = Desk(self.store, "regtest", policy=policy)
        return execute(desk, name, msgspec.json.encode(params), caller, glass)

    def found(self, height: int) -> None:
        block = Block(
            hash=f"{height:064x}", height=height, income_sat=1, worker_id=None, found_at_s=int(self.now_s)
        )
        with self.store.write() as connection:
            record_block(connection, block, int(self.now_s))

    def set_address(self, address: str) -> None:
        with self.store.write() as connection:
            set_address(connection, "acme", address, network="regtest", by="eve", now_s=int(self.now_s))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with closing(store_in(tmp_path)) as store:
        with store.write() as connection:
            add_tenant(connection, "acme", TERMS, by="ann", now_s=int(time.time()))
        yield House(tmp_path, store)


async def test_what_was_booked_before_is_no_news_and_what_is_booked_is_told_once(house: House) -> None:
    house.found(100)
    house.set_address(FIRST)
    assert await house.looks(2) == []
    house.found(101)
    assert await house.looks(2) == ["block 101 found"]
    house.set_address(SECOND)
    assert await house.looks(2) == ["payout address of acme changed"]
    text = house.messages[-1].text
    assert SECOND in text
    assert "by eve" in text
    assert "in 72 h" in text
    await house.restart()
    assert await house.looks(2) == []
    house.found(102)
    house.found(103)
    await house.restart()
    assert await house.looks(2) == ["2 blocks found"], "what happened while nobody looked is told too"


async def test_books_that_were_restored_hide_no_new_address(house: House) -> None:
    await house.looks()
    house.set_address(FIRST)
    assert len(await house.looks()) == 1
    path = house.directory / "messages.json"
    path.write_bytes(path.read_bytes().replace(b'"address":1', b'"address":900'))
    await house.restart()
    await house.looks()
    house.set_address(SECOND)
    assert await house.looks() == ["payout address of acme changed"]


async def test_a_silence_is_told_holds_and_ends(house: House) -> None:
    await house.looks()
    house.give("message.silence", subject="node/first", for_s=3600, reason="a new disk")
    house.nodes = (NodeLook("first", False, "refused"),)
    assert await house.looks(50) == ["node/first is silenced"]
    assert house.messages[-1].text == "node/first for 60 min, by eve: a new disk"
    assert [it["subject"] for it in house.give("message.list")] == ["node/first"]
    assert await house.looks(20) == ["node first is down"]
    house.give("message.silence", subject="all", for_s=604_800, reason="x")
    house.give("message.silence", subject="all", for_s=0, reason="done")
    assert await house.looks() == ["2 silences"]
    assert "all no longer, by eve: done" in house.messages[-1].text


async def test_who_has_a_machine_forgotten_is_told_of_whatever_is_silenced(house: House) -> None:
    """He hides that it did not come back: whoever took it away would like that."""
    now_s = int(house.now_s)
    with house.store.write() as connection:
        (worker,) = add_container(connection, "acme.c01", 1, now_s=now_s)
        new = NewEvent(
            source="cli", reference="a", target="everything", from_s=now_s, until_s=now_s + 900, ramp_s=0
        )
        event, _ = add_event(connection, new, by="ann", now_s=now_s)
        chosen = {"worker_id": worker, "batch": 0, "due_s": now_s, "watts_before": 3_000, "watts_idle": 60}
        window = {"before_from_s": now_s - 3_600, "before_until_s": now_s, "basis": "work", "error_bps": 500}
        add_machines(connection, event.id, [chosen | window], "chosen", now_s, MachineState.RELEASED)
    await house.looks()
    house.give("message.silence", subject="all", for_s=3600, reason="quiet")
    house.give("held.forget", machine="acme.c01.u1", reason="its boards are burnt")
    assert set(await house.looks()) == {"all is silenced", "machine acme.c01.u1 is gone for good"}
    told = next(it for it in house.messages if it.title.startswith("machine"))
    assert told.text == "acme.c01.u1, by eve: no event asks it any more, and it is not told to mine"


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"subject": "acme", "for_s": 60, "reason": "x"}, "'acme' is no subject: container/NAME"),
        ({"subject": "container/", "for_s": 60, "reason": "x"}, "is no subject"),
        (
            {"subject": "container/c01", "for_s": 60, "reason": "x"},
            "there is no container/c01: nothing would be",
        ),
        ({"subject": "container/acme.c99", "for_s": 60, "reason": "x"}, "there is no container/acme.c99"),
        ({"subject": "tenant/acne", "for_s": 60, "reason": "x"}, "there is no tenant/acne"),
        ({"subject": "all", "for_s": 604_801, "reason": "x"}, "a silence is up to 7 days"),
        ({"subject": "all", "for_s": -1, "reason": "x"}, "a silence is up to 7 days"),
        ({"subject": "all", "for_s": 60, "reason": " "}, "a silence has a reason"),
        ({"subject": "all", "for_s": 60, "reason": "x" * 201}, "a silence has a reason"),
    ],
)
def test_a_silence_that_cannot_be_is_refused_in_words(
    house: House, params: dict[str, Any], words: str
) -> None:
    with pytest.raises(RegistryError, match=words):
        house.give("message.silence", **params)


async def test_a_container_is_silenced_by_the_name_that_messages_have_for_it(house: House) -> None:
    with house.store.write() as connection:
        add_container(connection, "acme.c#1", 1, now_s=int(house.now_s))
    for subject in ("container/acme.c?1", "tenant/acme"):
        house.give("message.silence", subject=subject, for_s=3600, reason="x")
    house.give("message.silence", subject="container/acme.c99", for_s=0, reason="it was removed")


async def test_guesses_are_counted_over_an_hour(house: House) -> None:
    house.guesses = 99
    assert await house.looks(60) == []
    house.guesses = 199
    assert await house.looks() == ["somebody guesses tokens"]
    assert await house.looks(59 + 4) == [], "they are an hour old, and then it must be over for good"
    assert await house.looks(1) == ["nobody guesses tokens any more"]


async def test_a_restart_tells_nothing_again(house: House) -> None:
    house.nodes = (NodeLook("first", False, "refused"),)
    assert await house.looks(3) == ["node first is down"]
    await house.restart()
    assert await house.looks(10) == []
    house.nodes = (NodeLook("first", True, ""),)
    await house.restart()
    assert await house.looks(10) == ["node first is up again"]


@pytest.mark.parametrize("content", [b'{"memory": 5}', b'{"x": "\xff"}', b'{"x": ' + b"[" * 100_000])
async def test_a_memory_that_cannot_be_read_is_an_empty_one(house: House, content: bytes) -> None:
    house.nodes = (NodeLook("first", False, "refused"),)
    await house.looks(3)
    (house.directory / "messages.json").write_bytes(content)
    await house.restart()
    assert await house.looks(3) == ["node first is down"]


async def test_books_that_are_away_are_told_and_everything_else_goes_on(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.looks()

    def away() -> Any:
        raise OperationalError("SELECT", {}, Exception("server closed the connection"))

    with monkeypatch.context() as patched:
        patched.setattr(house.store, "read", away)
        house.nodes = (NodeLook("first", False, "refused"),)
        assert await house.looks(3) == ["node first is down", "the database does not answer"]
    assert await house.looks() == ["the database answers again"]


async def test_a_journal_that_failed_has_last_words_and_the_next_pool_says_that_it_runs(house: House) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.messenger.run)
        await trio.testing.wait_all_tasks_blocked()
        house.failed = True
        nursery.cancel_scope.cancel()
    assert [it.title for it in house.messages] == ["the journal failed and the pool has stopped"]
    house.failed = False
    await house.restart()
    assert await house.looks(3) == ["the pool runs again after its journal failed"]
    await house.restart()
    assert await house.looks(3) == []


async def test_a_request_waits_and_a_broken_glass_is_told_whatever_is_silent(
    house: House,
) -> None:
    four_eyes, fee = Approval(people=2), {"name": "acme", "fee_bps": 7}
    house.give_under(Approval(), "user.add", {"name": "ann", "role": "payer"})
    await house.looks()
    note_policy(house.store, four_eyes, by="angara", source="start")
    assert await house.looks() == ["who has to agree to changes is set anew"]
    with pytest.raises(RequestMade):
        house.give_under(four_eyes, "tenant.set-terms", fee, caller=user("ann", 1))
    told = await house.looks(7)
    assert told == ["request 1 waits for a person"]
    assert "tenant.set-terms of acme, asked for by ann, waits for a second person" in house.messages[-1].text
    house.give("message.silence", subject="all", for_s=3600, reason="nobody is to know")
    house.give_under(four_eyes, "tenant.set-terms", fee, glass="the buyer waits")
    told = await house.looks()
    assert sorted(told) == ["all is silenced", "the glass was broken for acme"]
    texts = {it.kind: (it.severity, it.text) for it in house.messages}
    words = "tenant.set-terms of acme, by eve alone: the buyer waits"
    assert texts["glass-broken"] == (Severity.CRITICAL, words)
    note_policy(house.store, Approval(), by="angara", source="start")
    assert await house.looks() == ["who has to agree to changes is set anew"]
    assert house.messages[-1].text.startswith("people = 1, time_lock_s = 0")


async def test_of_a_site_that_is_cut_off_one_message_is_told_and_what_is_lost_there_afterwards(
    house: House,
) -> None:
    """Six hundred machines in three containers: of two the site's line is cut, and one loses its power."""
    for name in ("c01", "c02", "d01"):
        house.give("container.set", tenant="acme", name=name, site="Bratsk", units=200, ths=20_000)
    with house.store.read() as connection:
        numbers = list(connection.scalars(select(containers.c.id).order_by(containers.c.name)))
    at_site = np.repeat([True, True, False], 200)
    mines = MachineFigures(
        workers=np.arange(1, 601),
        containers=np.repeat(numbers, 200),
        ages_s=np.full(600, 5.0),
        hashrates_hps=np.full(600, 1e14),
        rejected_hps=np.zeros(600),
        unheard=np.zeros(600, dtype=np.bool_),
    )
    edge = RemoteFigures(
        name="bratsk",
        state="serves",
        why=None,
        silent_s=10.0,
        heard=True,
        unbooked=0,
        unbooked_bytes=0,
        unbooked_s=0.0,
        missing_s=10.0,
        moment_age_s=10.0,
        beyond_s=None,
        machines=400,
        mining=400,
    )
    house.machines, house.hub = mines, HubFigures(edges=(edge,))
    assert await house.looks(30) == []
    house.machines = msgspec.structs.replace(
        mines,
        ages_s=np.where(at_site, 900.0, 5.0),
        hashrates_hps=np.where(at_site, 0.0, 1e14),
        unheard=at_site,
    )
    cut = msgspec.structs.replace(edge, state="silent", silent_s=900.0, missing_s=900.0, mining=0)
    house.hub = HubFigures(edges=(cut,))
    assert await house.looks(120) == ["edge bratsk is silent"]
    lost = np.repeat([True, False, False], 200)
    house.machines = msgspec.structs.replace(mines, ages_s=np.where(lost, 9_000.0, 5.0))
    house.hub = HubFigures(edges=(edge,))
    assert await house.looks(10) == ["edge bratsk is heard of again", "container acme.c01 is offline"]
