"""All machines of the books, told by whoever reaches each: where it is, and a site that goes meanwhile."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from sqlalchemy import event
from trio.testing import MockClock

from pool.books.store import Store
from pool.link import LinkClosed
from pool.power.control.accepted_shares import AcceptedShares
from pool.power.control.batches import Answers
from pool.power.control.contract import (
    WORDS_CHARS_MAX,
    Action,
    Answer,
    Answered,
    Asked,
    Firmware,
    MachineName,
)
from pool.power.control.control import Control, Reach
from pool.power.control.firmware import Credential
from pool.power.control.held import Standing
from pool.power.control.held_watch import LOOK_S, HeldWatch
from pool.power.control.network import Order
from pool.power.control.peers import Peers
from pool.power.control.rows import (
    ASKED_AT_ONCE,
    MachineAddress,
    addresses_of,
    set_address,
    set_credential,
)
from pool.power.control.runner import HeldView, Machines, Runner
from pool.power.control.whereabouts import STALE_S, Seen
from pool.questions import AnsweredWithError
from pool.swarm.machine_api import PASSWORDS
from tests.fixtures.databases import add_tenant
from tests.stages.machines import MachinesOnTheNetwork, name_of

pytestmark = pytest.mark.sqlite_suffices
NOW_S = 1_800_000_000


def said(unit: int, address: str | None, firmware: Firmware | None = None) -> MachineAddress:
    return MachineAddress(tenant="acme", container="c01", unit=f"u{unit}", address=address, firmware=firmware)


def pause(*units: int) -> tuple[Asked, ...]:
    return tuple(Asked(machine=name_of(it), action=Action.PAUSE, until_s=NOW_S + 600) for it in units)


class Site:
    """Machines at one site, and a runner that reaches them."""

    def __init__(self, nursery: trio.Nursery, directory: Path, name: str = "") -> None:
        self.name, self.directory = name, directory
        self.machines = MachinesOnTheNetwork(nursery)
        self.mines_from: dict[str, tuple[str, str]] = {}
        self.asked = 0

    async def peers(self) -> tuple[Peers, ...]:
        self.asked += 1
        return (
            Peers(
                tenant="acme",
                container="c01",
                units=tuple(self.mines_from),
                addresses=tuple(it[0] for it in self.mines_from.values()),
                agents=tuple(it[1] for it in self.mines_from.values()),
                accepted=b"\1" * len(self.mines_from),
                ages_s=(5,) * len(self.mines_from),
            ),
        )

    async def reach(self, nursery: trio.Nursery) -> Reach:
        shares = AcceptedShares(lambda *name: None)
        runner = Runner(
            self.machines.network(), self.directory, shares, wall_clock=lambda: NOW_S + trio.current_time()
        )
        await nursery.start(runner.run)
        return Reach(self.name, lambda *place: True, self.peers, runner)


def control(store: Store, *reaches: Reach, dry_run: bool = False) -> Control:
    return Control(store, lambda: reaches, dry_run=dry_run)


@pytest.fixture
def books(store: Store) -> Store:
    with store.write() as connection:
        add_tenant(connection, 1, "acme")
    return store


async def test_what_the_operator_says_counts_before_where_a_machine_mines_from(
    books: Store, nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = Site(nursery, tmp_path)
    by_hand, by_itself = (site.machines.stand(unit, Firmware.BRAIINS) for unit in (1, 2))
    with books.write() as connection:
        set_address(connection, said(1, by_hand.address, Firmware.BRAIINS), by="olga", now_s=NOW_S)
    site.mines_from = {"u1": ("10.66.66.66", "btminer"), "u2": (by_itself.address, "bosminer 1")}
    answers = await control(books, await site.reach(nursery)).control(pause(1, 2, 3))
    assert [it.answer for it in answers] == [Answer.SAID_YES, Answer.SAID_YES, Answer.UNREACHED]
    assert "no address" in answers[2].words
    assert {address for address, _ in site.machines.connections} == {by_hand.address, by_itself.address}


def test_of_more_machines_than_one_query_names_those_are_found_that_were_asked_about(books: Store) -> None:
    with books.write() as connection:
        for unit in range(ASKED_AT_ONCE + 2):
            set_address(connection, said(unit, f"10.0.1.{unit}"), by="olga", now_s=NOW_S)
    statements = list[Any]()
    event.listen(books.engine, "before_cursor_execute", lambda *it: statements.append(it[3]))
    with books.read() as connection:
        for asked in (ASKED_AT_ONCE, ASKED_AT_ONCE + 1):
            names = [name_of(unit) for unit in range(asked)]
            assert addresses_of(connection, names).keys() == set(names)
    assert max(map(len, statements)) == ASKED_AT_ONCE + 2, "units, their tenant and container"


async def test_the_password_of_a_container_counts_before_that_of_all(
    books: Store, nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = Site(nursery, tmp_path)
    reached = site.machines.stand(1, Firmware.ANTMINER)
    wrong = site.machines.keys.seal(Firmware.ANTMINER, "", Credential("root", "wrong"))
    right = site.machines.keys.seal(Firmware.ANTMINER, "container:acme.c01", Credential("root", "root"))
    with books.write() as connection:
        set_address(connection, said(1, reached.address, Firmware.ANTMINER), by="olga", now_s=NOW_S)
        set_credential(connection, wrong, by="olga", now_s=NOW_S)
    telling = control(books, await site.reach(nursery))
    assert (await telling.control(pause(1)))[0].answer is not Answer.SAID_YES
    with books.write() as connection:
        set_credential(connection, right, by="olga", now_s=NOW_S)
    assert (await telling.control(pause(1)))[0].answer is Answer.SAID_YES


async def test_without_power_in_the_settings_nobody_is_asked(books: Store) -> None:
    telling = Control(books, list, dry_run=True, enabled=False)
    (answered,) = await telling.control(pause(1))
    assert answered.answer is Answer.UNREACHED


async def test_in_a_dry_run_other_sites_are_told_nothing(
    books: Store, nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = Site(nursery, tmp_path, "north")
    reached = site.machines.stand(1, Firmware.BRAIINS)
    site.mines_from = {"u1": (reached.address, "bosminer 1")}
    (answered,) = await control(books, await site.reach(nursery), dry_run=True).control(pause(1))
    assert answered.answer is Answer.DRY_RUN
    assert reached.address in answered.words
    assert site.machines.connections == []


class SiteThatIsGone(Machines):
    """Its line is cut before it hears of anything, or while machines are told."""

    def __init__(self, *, hears: bool) -> None:
        self._hears = hears
        self.orders: Sequence[Order] = ()

    async def begin(self, orders: tuple[Order, ...]) -> int:
        if not self._hears:
            raise LinkClosed("no answer")
        self.orders = orders
        return 7

    async def answers(self, batch: int, after: int) -> Answers:
        raise LinkClosed("no answer")

    async def held(self, after: int) -> tuple[HeldView, ...]:
        raise LinkClosed("no answer")

    async def standing(self) -> Standing:
        raise LinkClosed("no answer")

    async def forget(self, machine: MachineName) -> bool:
        raise LinkClosed("no answer")


class SiteThatSpeaksOfOthers(SiteThatIsGone):
    """A captured edge."""

    async def answers(self, batch: int, after: int) -> Answers:
        others = Answered(machine=MachineName("else", "c01", "u1"), answer=Answer.SAID_YES)
        return Answers(answered=(others,) * 1_000, over=True)

    async def standing(self) -> Standing:
        return Standing(given_up_machines=1, given_up=(MachineName("else", "c01", "u1"),))


@pytest.mark.parametrize("hears", [False, True])
async def test_of_machines_of_a_site_that_is_gone_nobody_knows_what_became(
    hears: bool, books: Store, nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = Site(nursery, tmp_path)
    site.mines_from = {"u1": ("10.0.0.1", "bosminer 1")}
    gone = Reach("north", lambda *place: True, site.peers, SiteThatIsGone(hears=hears))
    telling = control(books, gone)
    (answered,) = await telling.control(pause(1))
    assert answered.answer is Answer.UNKNOWN
    assert await telling.held() == ()
    assert trio.current_time() < 120


async def test_a_captured_edge_says_nothing_of_anothers_machines(
    books: Store, nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = Site(nursery, tmp_path)
    site.mines_from = {"u1": ("10.0.0.1", "bosminer 1")}
    captured = Reach("north", lambda *place: True, site.peers, SiteThatSpeaksOfOthers(hears=True))
    (answered,) = await control(books, captured).control(pause(1))
    assert answered.machine == name_of(1)
    assert answered.answer is Answer.UNKNOWN


class SiteThatSaysWhatNoDatabaseTakes(SiteThatIsGone):
    """A captured edge, of its own machines."""

    async def begin(self, orders: tuple[Order, ...]) -> int:
        if not self._hears:
            raise AnsweredWithError("\0" * 300)
        return await super().begin(orders)

    async def answers(self, batch: int, after: int) -> Answers:
        return Answers(
            answered=(Answered(machine=name_of(1), answer=Answer.REFUSED, words="no\0\n" * 1_000),), over=True
        )


@pytest.mark.parametrize("hears", [False, True])
async def test_what_a_captured_edge_says_of_its_machines_can_be_written_down(
    hears: bool, books: Store, nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Each step of an event has it. While it could not be written no event of any site went on."""
    site = Site(nursery, tmp_path)
    site.mines_from = {"u1": ("10.0.0.1", "bosminer 1")}
    captured = Reach("north", lambda *place: True, site.peers, SiteThatSaysWhatNoDatabaseTakes(hears=hears))
    (answered,) = await control(books, captured).control(pause(1))
    assert answered.words.isprintable()
    assert 0 < len(answered.words) <= WORDS_CHARS_MAX


async def test_a_site_that_does_not_say_where_machines_mine_from_is_told_by_hand_alone(
    books: Store, nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = Site(nursery, tmp_path)
    reached = site.machines.stand(1, Firmware.BRAIINS)

    async def silent() -> tuple[Peers, ...]:
        raise AnsweredWithError("not all processes say where machines mine from")

    with books.write() as connection:
        set_address(connection, said(1, reached.address, Firmware.BRAIINS), by="olga", now_s=NOW_S)
    reach = await site.reach(nursery)
    answers = await control(books, Reach("", reach.has, silent, reach.machines)).control(pause(1, 2))
    assert [it.answer for it in answers] == [Answer.SAID_YES, Answer.UNREACHED]


async def test_where_machines_mine_from_is_asked_once_a_minute(
    books: Store, nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = Site(nursery, tmp_path)
    telling = control(books, await site.reach(nursery))
    for _ in range(10):
        await telling.control(pause(1))
    assert site.asked == 1


async def test_a_machine_that_is_off_and_mines_from_nowhere_is_held_on_and_resumed(
    books: Store, nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """A machine that sleeps is disconnected: it could not be held on, and came back in mid-event."""
    site, other = Site(nursery, tmp_path / "a", "north"), Site(nursery, tmp_path / "b", "south")
    reached = site.machines.stand(1, Firmware.BRAIINS)
    site.mines_from = {"u1": (reached.address, "bosminer 1")}
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    telling = control(books, await other.reach(nursery), await site.reach(nursery))
    assert (await telling.control(pause(1)))[0].answer is Answer.SAID_YES
    site.mines_from = {}
    for _ in range(6):
        await trio.sleep(300)
        hold = Asked(machine=name_of(1), action=Action.HOLD, until_s=NOW_S + int(trio.current_time()) + 600)
        assert (await telling.control((hold,)))[0].answer is Answer.SAID_YES
    assert not site.machines.at(reached).mines
    (answered,) = await telling.control((Asked(machine=name_of(1), action=Action.RESUME),))
    assert answered.answer is Answer.SAID_YES
    assert site.machines.at(reached).mines
    assert other.machines.connections == []


async def test_where_a_machine_mines_from_no_password_is_proven_but_its_containers(
    books: Store, nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = Site(nursery, tmp_path)
    reached = site.machines.stand(1, Firmware.ANTMINER)
    site.mines_from = {"u1": (reached.address, "bmminer 1")}
    of_all, of_its_own = (
        site.machines.keys.seal(Firmware.ANTMINER, scope, Credential("root", "root"))
        for scope in ("", "container:acme.c01")
    )
    with books.write() as connection:
        set_credential(connection, of_all, by="olga", now_s=NOW_S)
    telling = control(books, await site.reach(nursery))
    assert (await telling.control(pause(1)))[0].answer is Answer.UNREACHED
    assert site.machines.connections == []
    with books.write() as connection:
        set_credential(connection, of_its_own, by="olga", now_s=NOW_S)
    assert (await telling.control(pause(1)))[0].answer is Answer.SAID_YES


async def test_what_a_machine_says_that_it_runs_gets_no_password_in_clear_at_an_address_by_hand(
    books: Store, nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = Site(nursery, tmp_path)
    reached = site.machines.stand(1, Firmware.VNISH)
    site.mines_from = {"u1": (reached.address, "vnish 1")}
    user, password = PASSWORDS["vnish"]
    sealed = site.machines.keys.seal(Firmware.VNISH, "", Credential(user, password))
    telling = control(books, await site.reach(nursery))
    answers: list[Answer] = []
    for firmware in (None, Firmware.VNISH):
        with books.write() as connection:
            set_address(connection, said(1, reached.address, firmware), by="olga", now_s=NOW_S)
            set_credential(connection, sealed, by="olga", now_s=NOW_S)
        answers += [it.answer for it in await telling.control(pause(1))]
    assert answers == [Answer.UNREACHED, Answer.SAID_YES]


async def test_how_many_are_held_is_of_whoever_answers_and_of_who_is_away_what_he_said_last(
    books: Store, nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    site, edge = Site(nursery, tmp_path), Site(nursery, tmp_path / "north", "north")
    edge.directory.mkdir()
    reach, north = await site.reach(nursery), await edge.reach(nursery)
    reaches = [reach, north]
    telling = Control(books, lambda: reaches, dry_run=False)
    watch = HeldWatch(telling.standing)
    nursery.start_soon(watch.run)
    await trio.sleep(1)
    assert watch.now == Standing()
    for it, unit in ((site, 1), (edge, 2)):
        it.mines_from = {f"u{unit}": (it.machines.stand(unit, Firmware.BRAIINS).address, "bosminer 1")}
    reaches[:] = [reach]
    await telling.control(pause(1))
    reaches[:] = [north]
    await telling.control(pause(2))
    reaches[:] = [reach, north]
    await trio.sleep(LOOK_S)
    assert watch.now == Standing(off=2)
    reaches[1] = Reach("north", lambda *place: True, edge.peers, SiteThatIsGone(hears=False))
    await trio.sleep(LOOK_S)
    assert watch.now == Standing(off=2)
    captured = SiteThatSpeaksOfOthers(hears=True)
    reaches[1] = Reach("north", lambda tenant, _: tenant == "acme", edge.peers, captured)
    await trio.sleep(LOOK_S)
    assert watch.now == Standing(off=1, given_up_machines=1)
    assert not await telling.forget(name_of(1)), "north may still tell it"
    del reaches[1]
    await trio.sleep(LOOK_S)
    assert watch.now == Standing(off=1)
    assert await telling.forget(name_of(1))


async def test_where_a_machine_mined_from_when_it_was_told_to_pause_is_looked_at_while_it_is_waited_for(
    books: Store, nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    site, edge = Site(nursery, tmp_path), Site(nursery, tmp_path / "north", "north")
    edge.directory.mkdir()
    reached = site.machines.stand(1, Firmware.BRAIINS)
    site.mines_from = {"u1": (reached.address, "bosminer 1")}
    reaches = [await site.reach(nursery), await edge.reach(nursery)]
    telling = control(books, *reaches)
    await telling.control(pause(1))
    name = name_of(1)
    await trio.sleep(60)
    site.mines_from = {"u1": ("10.66.66.66", "bosminer 1")}  # whoever mines under its name since
    await telling.control(pause(1))
    await telling.look_around({name})
    now_s = trio.current_time()
    seen = telling.whereabouts.seen(name, now_s)
    assert seen is not None
    assert (seen.last_s, seen.looked_s) == (float("-inf"), now_s)
    edge.mines_from = {"u1": (reached.address, "bosminer 1")}
    await telling.look_around({name})
    assert telling.whereabouts.seen(name, now_s) == Seen(now_s - 5, now_s)
    assert telling.whereabouts.seen(name, now_s + STALE_S) is None

    async def away() -> tuple[Peers, ...]:
        raise LinkClosed("no answer")

    reaches[1] = Reach("north", lambda *place: True, away, reaches[1].machines)
    await trio.sleep(STALE_S)
    telling = Control(books, lambda: reaches, dry_run=False)
    await telling.control(pause(1))
    await telling.look_around({name})
    assert telling.whereabouts.seen(name, trio.current_time()) is None, "it may be at the one that is away"
    await telling.look_around(set())
    assert not telling.whereabouts.names
