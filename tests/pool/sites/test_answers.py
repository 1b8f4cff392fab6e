"""What a hub answers an edge that may be captured: nothing that it says makes its words worth more than they
are, and it learns nothing of others."""

import sqlite3
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
import trio
import trio.testing
from sqlalchemy import func, insert, select
from sqlalchemy.exc import OperationalError

import pool.sites.answers
from payouts.rates import Scheme
from payouts.schemas.divisions import block_funds
from payouts.schemas.money import sibling_blocks, workers
from payouts.schemas.orders import channel_events
from payouts.siblings import SiblingKey
from pool.books.edges.hub_copies import note_copy
from pool.books.edges.leases import Asked, EdgeRefused
from pool.books.edges.rows import PART_RESTS_S, reset_edge
from pool.books.edges.schema import edge_copies, edge_writers
from pool.books.journal import folding
from pool.books.journal.credit_book import CreditsPage
from pool.books.store import Store
from pool.chain.blocks import assemble_block
from pool.chain.templates import parse_template
from pool.fleet.rows import TenantTerms, set_terms
from pool.hub import HubAway, Plan, RouteEvent
from pool.journal.beginning import Mark
from pool.journal.records import Machine
from pool.orders.rows import add_order
from pool.sites.answers import SESSIONS_MAX
from pool.sites.sites import ASKED_AT_ONCE
from pool.upstreams.rows import add_upstream
from tests.fakes.bitcoinds import template_result
from tests.fakes.disks import disk_full
from tests.histories.orders import new_order, new_upstream
from tests.histories.solving import EXTRANONCE1, PAYOUT, hash_hex, solve, work_on
from tests.stages.answering_hub import EASIEST, NORTH, SOUTH, House
from tests.stages.journal import NOW_S

MINED_S = NOW_S + 1_400
NOBODYS = bytes.fromhex("0014" + "00" * 20)


def machine(name: str) -> Machine:
    tenant, container, unit = name.split(".")
    return Machine(
        number=513,
        tenant_id=1,
        tenant=tenant,
        container_id=257,
        container=container,
        unit=unit,
        agent=None,
    )


def block(
    *,
    payout_script: bytes = PAYOUT,
    salt: bytes = b"bootjob1",
    at_s: int = MINED_S,
    part: int = 0,
) -> tuple[bytes, str]:
    """One that was found, and its hash; with extranonces of that part, or of nobody's."""
    template = parse_template(template_result(curtime=at_s))
    extranonce1 = bytes([part, 1, 2, 3]) if part else EXTRANONCE1
    solution = solve(work_on(template, payout_script=payout_script, salt=salt), extranonce1=extranonce1)
    return assemble_block(solution, template).whole, hash_hex(solution)


@pytest.fixture
async def house(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setattr(folding, "STEP_PAUSE_S", 0.0)
    made = House(store, tmp_path)
    await made.start()
    return made


@pytest.mark.sqlite_suffices
async def test_what_an_edge_has_is_asked_of_no_other_hub_once_it_has_heard_of_this_one(house: House) -> None:
    """It is all here; but what it said to the hub before may be older than what that one has."""
    store, epoch = house.hub.store, house.granted.epoch
    store.acquire_lease()
    ours, mark = store.lease_epoch or 0, Mark(number=0, moment_s=NOW_S)
    with store.write() as connection:
        note_copy(connection, house.site.writer, "hub1", 7)
    for hub, others in ((0, ["hub1"]), (ours - 1, ["hub1"]), (ours, [])):
        await house.north.renew(epoch, mark, hub)
        with store.read() as connection:
            hubs = connection.scalars(select(edge_copies.c.hub).where(edge_copies.c.hub == "hub1"))
            assert list(hubs) == others


async def test_a_block_is_booked_with_what_its_own_bytes_pay_and_once(house: House) -> None:
    raw, hash_ = block()
    value = parse_template(template_result()).coinbase_value_sat
    epoch = house.granted.epoch
    assert await house.north.unbooked(epoch, [hash_]) == [hash_]
    for _ in range(2):
        await house.north.found(epoch, raw, None)
    assert house.in_books() == [(hash_, 101, value, None)]
    assert await house.north.unbooked(epoch, [hash_]) == []


async def test_a_block_that_the_hubs_disk_does_not_take_is_asked_for_later_in_words(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its log had a traceback each time, of another file each."""

    def full(*_: object) -> None:
        raise disk_full()

    raw, hash_ = block()
    with monkeypatch.context() as now, structlog.testing.capture_logs() as logs:
        now.setattr(pool.sites.answers, "write_whole", full)
        with pytest.raises(HubAway, match="blocks: No space left on device"):
            await house.north.found(house.granted.epoch, raw, None)
    assert [it["event"] for it in logs] == ["block_of_edge_not_stored"]
    await house.north.found(house.granted.epoch, raw, None)
    assert [it[0] for it in house.in_books()] == [hash_]


@pytest.mark.sqlite_suffices
async def test_books_that_take_nothing_are_told_to_who_begins_and_who_lives_in_words(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub's log had a traceback a second of each edge that began while its disk was full."""

    def full() -> None:
        raise OperationalError("UPDATE", None, sqlite3.OperationalError("disk I/O error"))

    site, (north,) = house.site, house.hub.edges.open
    asked = Asked(edge=NORTH, host="host-1", process="p", writer=site.writer, last=site.log.at)
    north.renewed_s = None
    monkeypatch.setattr(house.hub.store, "write", full)
    with pytest.raises(HubAway, match="the books do not take that it begins: disk I/O error"):
        await house.north.begin(asked)
    with pytest.raises(HubAway, match="the books do not take that it lives: disk I/O error"):
        await house.north.renew(house.granted.epoch, Mark(number=0, moment_s=NOW_S))


async def test_a_block_that_pays_somebody_else_is_no_income(house: House) -> None:
    raw, hash_ = block(payout_script=NOBODYS)
    await house.north.found(house.granted.epoch, raw, None)
    assert [(it[0], it[2]) for it in house.in_books()] == [(hash_, 0)]


async def test_who_found_what_pays_others_too_is_nobody(house: House) -> None:
    """All blocks of the chain have work. Whoever withholds his own, or has them pay himself, would say that
    his machines have found those of others, and luck would be as it should."""
    template = parse_template(template_result(curtime=MINED_S, default_witness_commitment=None))
    value, expected = template.coinbase_value_sat, {}
    for number, paid_sat in enumerate((value, value - 1, 1, 0)):
        payouts = [(PAYOUT, paid_sat), (NOBODYS, value - paid_sat)]
        outputs = b"\2" + b"".join(struct.pack("<q", it) + bytes([len(to)]) + to for to, it in payouts)
        work = work_on(template, salt=f"{number:08}".encode())
        solution = solve(msgspec.structs.replace(work, coinbase2=b"\xff" * 4 + outputs + bytes(4)))
        raw = assemble_block(solution, template).whole
        await house.north.found(house.granted.epoch, raw, machine("acme.c01.u1"))
        expected[hash_hex(solution)] = "u1" if paid_sat == value else None
    assert house.finders() == expected


async def test_who_found_a_block_is_a_machine_of_that_edge_or_nobody(house: House) -> None:
    house.site.share("acme.c01.u1")
    await house.hub.send(NORTH, house.granted, house.site)
    await house.hub.folding.fold()
    expected = {}
    for number, (name, unit) in enumerate(
        (
            ("acme.c01.u1", "u1"),
            ("borealis.c01.u1", None),
            ("acme.c01." + "u" * 64, None),
            ("acme.c01.u\0", None),  # that no database takes: its block is booked all the same
            ("acme.c\0.u1", None),
            ("acme..", ""),  # a machine may say its tenant's name alone
        )
    ):
        raw, hash_ = block(salt=f"{number:08}".encode())
        await house.north.found(house.granted.epoch, raw, machine(name))
        expected[hash_] = unit
    assert house.finders() == expected


async def test_a_block_of_a_machine_that_no_record_has_named_yet_is_its_groups(house: House) -> None:
    """It is told at once, and the record with its first share comes within a minute, or never: with nobody as
    its finder the pool would keep all of it. Its row is the one that the journal means then."""
    with house.hub.store.write() as connection:
        terms = TenantTerms(scheme=Scheme.PPLNS1, fee_bps=200, payout_minimum_sat=0)
        set_terms(connection, "acme", terms, by="ann", now_s=NOW_S)
    raw, hash_ = block()
    async with trio.open_nursery() as told_again:
        for _ in range(3):
            given = (house.granted.epoch, raw, machine("acme.c07.new"), Scheme.PPLNS1)
            told_again.start_soon(house.north.found, *given)
    assert (house.finders(), house.divided_by()) == ({hash_: "new"}, {hash_: "pplns1"})
    house.site.share("acme.c07.new")
    await house.hub.send(NORTH, house.granted, house.site)
    await house.hub.folding.fold()
    assert house.hub.shares() == {"acme.c07.new": 1}
    with house.hub.store.read() as connection:
        assert connection.scalar(select(func.count()).select_from(workers)) == 1


async def test_its_number_there_is_another_ones_here(house: House) -> None:
    """A block names who found it, whatever number its edge says."""
    (first, of_first), (other, of_other) = block(), block(salt=b"bootjob2")
    assert machine("acme.c01.u1").number == machine("acme.c01.u2").number
    await house.north.found(house.granted.epoch, first, machine("acme.c01.u1"))
    await house.north.found(house.granted.epoch, other, machine("acme.c01.u2"))
    assert house.finders() == {of_first: "u1", of_other: "u2"}


@pytest.mark.sqlite_suffices
async def test_who_may_bring_no_more_machines_brings_none_by_a_block(house: House) -> None:
    house.room = False
    raw, hash_ = block()
    await house.north.found(house.granted.epoch, raw, machine("acme.c01.u1"))
    assert house.finders() == {hash_: None}
    assert house.hub.registry.workers_of("acme") == 0


async def test_a_block_that_another_edge_found_is_not_for_this_one_to_tell(house: House) -> None:
    """All edges hear all blocks, some of them before the one that found it has told it here. Who has taken
    over a site would have all blocks of all others divided over the work of a tenant of his alone."""
    south = house.answers(SOUTH)
    granted = await house.hub.begin(SOUTH, house.hub.site(SOUTH))
    parts = {it: house.hub.edge(it).part for it in (NORTH, SOUTH)}
    theirs, hash_ = block(part=parts[NORTH])
    for finder in (machine("acme.c01.thief"), None):
        await south.found(granted.epoch, theirs, finder)
    assert house.in_books() == []
    assert not list((house.hub.home / "blocks").glob("*")), "nor is his note the first"
    await house.north.found(house.granted.epoch, theirs, machine("acme.c01.u1"))
    mine, of_mine = block(part=parts[SOUTH])
    await south.found(granted.epoch, mine, machine("acme.c01.u2"))
    assert house.finders() == {hash_: "u1", of_mine: "u2"}


async def test_an_edge_that_was_given_another_part_tells_what_it_found_with_the_one_before(
    house: House,
) -> None:
    """Its journal was reset while a block of it waited; a part is another edge's after a month, and from then
    on its numbers are that one's."""
    before = house.hub.edge(NORTH).part
    await house.hub.change(lambda connection: reset_edge(connection, NORTH, NOW_S))
    await house.hub.begin(NORTH, house.hub.site(NORTH))
    epoch, part = house.hub.edge(NORTH).epoch, house.hub.edge(NORTH).part
    assert part != before
    raw, hash_ = block(part=before)
    await house.north.found(epoch, raw, machine("acme.c01.u1"))
    with house.hub.store.write() as connection:
        souths = {"writer": "another", "edge_id": house.hub.edge(SOUTH).id, "part": before}
        souths["began_at_s"] = MINED_S + PART_RESTS_S
        connection.execute(insert(edge_writers).values(souths))
    late, of_late = block(part=before, salt=b"bootjob2")
    await house.north.found(epoch, late, machine("acme.c01.u1"))
    theirs, _ = block(part=before, at_s=MINED_S + PART_RESTS_S)
    await house.north.found(epoch, theirs, machine("acme.c01.u1"))
    assert house.finders() == {hash_: "u1", of_late: "u1"}


@pytest.mark.sqlite_suffices
async def test_a_site_says_by_which_terms_of_the_week_it_worked_and_by_no_others(house: House) -> None:
    """Its tenant changed to luck when it was cut off. What a block is divided by is no word of an edge: but
    for which of the terms that its shares may have."""
    house.site.share("acme.c01.u1")
    await house.hub.send(NORTH, house.granted, house.site)
    await house.hub.folding.fold()
    mined_at_s = parse_template(template_result()).curtime
    with house.hub.store.write() as connection:
        terms = TenantTerms(scheme=Scheme.PPLNS1, fee_bps=200, payout_minimum_sat=0)
        assert set_terms(connection, "acme", terms, by="ann", now_s=mined_at_s - 60).terms_at_s < mined_at_s
    house.hub.clock.now_s = mined_at_s
    found: dict[Scheme | None, str | None] = {}
    for number, said in enumerate((Scheme.PPS, Scheme.PPLNS1, Scheme.PPLNS8, None)):
        raw, hash_ = block(salt=f"{number:08}".encode())
        await house.north.found(house.granted.epoch, raw, machine("acme.c01.u1"), said)
        with house.hub.store.read() as connection:
            of = block_funds.c
            found[said] = connection.scalar(select(of.scheme).where(of.block_hash == hash_))
    assert found == {Scheme.PPS: None, Scheme.PPLNS1: "pplns1", Scheme.PPLNS8: "pplns1", None: "pplns1"}


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("alone", [False, True])
async def test_whose_a_block_is_follows_from_when_its_edge_was_told_and_not_from_what_it_says(
    house: House, alone: bool
) -> None:
    """Its tenant changed from PPS to luck ten hours before. One that was heard of had its shares paid by the
    one for eight days, and its blocks divided by the other: 3.6 BTC of a thousandth of Bitcoin. Told at once
    it has what it works by from then on, and one that was alone what it worked by until it is back."""
    house.site.share("acme.c01.u1")
    await house.hub.send(NORTH, house.granted, house.site)
    await house.hub.folding.fold()
    changed_at_s, mined_at_s = NOW_S + 6 * 3_600, NOW_S + 16 * 3_600
    with house.hub.store.write() as connection:
        terms = TenantTerms(scheme=Scheme.PPLNS1, fee_bps=200, payout_minimum_sat=0)
        set_terms(connection, "acme", terms, by="ann", now_s=changed_at_s)
    for house.hub.clock.now_s in range(NOW_S, changed_at_s - 3_600 if alone else mined_at_s, 60):
        house.hub.edges.told(NORTH, house.granted.epoch)
    house.hub.clock.now_s = mined_at_s + 5 * 3_600
    found = []
    for number, said in enumerate((Scheme.PPS, Scheme.PPLNS1, None)):
        raw, hash_ = block(salt=f"{number:08}".encode(), at_s=mined_at_s)
        await house.north.found(house.granted.epoch, raw, machine("acme.c01.u1"), said)
        with house.hub.store.read() as connection:
            of = block_funds.c
            found.append(connection.scalar(select(of.scheme).where(of.block_hash == hash_)))
    assert found == ([None] * 3 if alone else ["pplns1"] * 3)


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("raw", [b"", b"\x00" * 80, b"\x00" * 81, b"\xff" * 4_000_001])
async def test_what_is_no_block_is_not_booked(house: House, raw: bytes) -> None:
    await house.north.found(house.granted.epoch, raw, None)
    assert house.in_books() == []


@pytest.mark.sqlite_suffices
async def test_a_header_with_work_and_nothing_behind_it_is_not_booked(house: House) -> None:
    raw, _ = block()
    for cut in (81, 120, len(raw) - 1):
        await house.north.found(house.granted.epoch, raw[:cut], None)
    assert house.in_books() == []


@pytest.mark.sqlite_suffices
async def test_work_proves_a_header_and_not_what_somebody_puts_behind_it(house: House) -> None:
    """Any block of the chain would be income of ours, and one that another edge found nobody's."""
    (theirs, _), (ours, _) = block(payout_script=NOBODYS), block()
    await house.north.found(house.granted.epoch, theirs[:80] + ours[80:], None)
    assert house.in_books() == []
    assert not list((house.hub.home / "blocks").glob("*"))


@pytest.mark.parametrize(
    "outputs",
    [
        b"\0",
        b"\1" + struct.pack("<q", -1) + bytes([len(PAYOUT)]) + PAYOUT,
        b"\2" + 2 * (struct.pack("<q", 1 << 62) + bytes([len(PAYOUT)]) + PAYOUT),
    ],
    ids=["none", "less than nothing", "more than there is"],
)
async def test_a_block_that_pays_what_there_is_not_is_not_booked(house: House, outputs: bytes) -> None:
    """The books do not take it, and what is on the hub's disk is booked again and again."""
    template = parse_template(template_result(curtime=MINED_S, default_witness_commitment=None))
    work = msgspec.structs.replace(work_on(template), coinbase2=b"\xff" * 4 + outputs + bytes(4))
    await house.north.found(house.granted.epoch, assemble_block(solve(work), template).whole, None)
    assert house.in_books() == []
    assert not list((house.hub.home / "blocks").glob("*"))


async def test_a_block_of_less_work_than_the_chain_asks_for_is_not_booked(house: House) -> None:
    raw, _ = block()
    house.easiest = EASIEST // 2
    await house.north.found(house.granted.epoch, raw, None)
    assert house.in_books() == []
    house.easiest = None
    with pytest.raises(HubAway, match="not known here yet"):
        await house.north.found(house.granted.epoch, raw, None)


async def test_how_many_blocks_an_edge_may_say_is_bounded(
    house: House, autojump_clock: trio.testing.MockClock
) -> None:
    house.north = house.answers(NORTH)
    for _ in range(100):
        await house.north.found(house.granted.epoch, b"", None)
    with pytest.raises(HubAway, match="too many"):
        await house.north.found(house.granted.epoch, b"", None)
    await trio.sleep(2)
    await house.north.found(house.granted.epoch, b"", None)


async def test_who_tells_what_is_no_block_or_not_its_own_is_not_read_at_length_again(
    house: House, autojump_clock: trio.testing.MockClock
) -> None:
    """Of headers of the chain, with whatever behind them: for each 4 MB the hub read ten seconds, and no
    other site could begin, or tell a block."""
    epoch, wrong = house.granted.epoch, [block(salt=b"%08d" % it)[0] + b"\0" for it in range(5)]
    others = [block(salt=b"%08d" % it)[0] for it in range(5, 10)]
    for raw in wrong + others:
        await house.north.found(epoch, raw, None)
    with pytest.raises(HubAway, match="were none, or not its own"):
        await house.north.found(epoch, block()[0], None)
    await trio.sleep(600)
    await house.north.found(epoch, block(part=house.granted.part)[0], None)
    assert len(house.in_books()) == len(others) + 1


async def test_siblings_are_nobodys_since_no_work_proves_them(house: House) -> None:
    """Blocks that were found and not submitted count for the luck of who found them."""
    house.site.share("acme.c01.u1")
    await house.hub.send(NORTH, house.granted, house.site)
    await house.hub.folding.fold()
    key = SiblingKey(parent_hash="ab" * 32, height=5, worker_id=0, pays_pool=True)
    counts = [
        (key, machine("acme.c01.u1"), 2),
        (msgspec.structs.replace(key, height=6), machine("borealis.c01.u1"), 3),
        (msgspec.structs.replace(key, height=7), None, 1 << 50),
        (msgspec.structs.replace(key, height=8), None, -4),
    ]
    await house.north.count_siblings("report", counts)
    with house.hub.store.read() as connection:
        by = select(sibling_blocks.c.worker_id, func.sum(sibling_blocks.c.blocks))
        assert connection.execute(by.group_by(sibling_blocks.c.worker_id)).all() == [(0, 5)]


@pytest.mark.sqlite_suffices
async def test_who_is_not_the_edge_any_more_is_told_nothing(house: House) -> None:
    south = house.answers(SOUTH)
    for answers, epoch in ((house.north, house.granted.epoch - 1), (south, 0)):
        with pytest.raises(EdgeRefused):
            await answers.everything(epoch)
        with pytest.raises(EdgeRefused):
            await answers.found(epoch, block()[0], None)


@pytest.mark.sqlite_suffices
async def test_whose_an_edge_is_is_not_for_itself_to_say(house: House) -> None:
    site = house.hub.site(SOUTH)
    asked = Asked(edge=NORTH, host="h", process="p", writer=site.writer, last=site.log.at)
    granted = await house.answers(SOUTH).begin(asked)
    assert granted.part == house.hub.edge(SOUTH).part
    assert house.hub.edge(NORTH).writer == house.site.writer


def lost(**changes: Any) -> RouteEvent:
    event = RouteEvent(at_s=NOW_S, upstream_id=1, order_id=None, event="lost", words="", sessions=5)
    return msgspec.structs.replace(event, **changes)


def events(house: House) -> list[tuple[int, int | None, str, int]]:
    with house.hub.store.read() as connection:
        of = channel_events.c
        columns = of.at_s, of.order_id, of.event, of.sessions
        return [tuple(row) for row in connection.execute(select(*columns).order_by(of.id))]


@pytest.mark.sqlite_suffices
async def test_events_beyond_what_upstreams_can_have_are_not_written(
    house: House, autojump_clock: trio.testing.MockClock
) -> None:
    house.north = house.answers(NORTH)
    sell(house, "acme")
    for _ in range(500):
        await house.north.note_event(lost())
    assert len(events(house)) == 200


def sell(house: House, tenant: str) -> int:
    """An order of that tenant's machines, by its number."""
    name = f"of-{tenant}"
    with house.hub.store.write() as connection:
        add_upstream(connection, new_upstream(name), by="ann", now_s=NOW_S)
        order = new_order(name, upstream=name, from_s=NOW_S, until_s=NOW_S + 3_600, tenants=(tenant,))
        return add_order(connection, order, by="ann", now_s=NOW_S).id


async def test_what_happened_to_an_order_says_who_supplies_it_and_nobody_else(house: House) -> None:
    """North may count for acme. Of another buyer's order it said two hundred interruptions at once, and one
    in five seconds from then on; and a change of the upstream, which is a person's, in everybody's report."""
    acme, borealis = sell(house, "acme"), sell(house, "borealis")
    for _ in range(50):
        await house.north.note_event(lost(upstream_id=2, order_id=borealis))
        await house.north.note_event(lost(event="switched"))
    for order_id in (99, 1 << 70, -1):
        await house.north.note_event(lost(order_id=order_id))
        await house.north.note_event(lost(upstream_id=1 << 70))
    assert events(house) == []
    house.hub.clock.now_s += 7_200  # that it is over is said behind its end
    await house.north.note_event(lost(order_id=acme))
    assert events(house) == [(NOW_S + 7_200, acme, "lost", 5)]


@pytest.mark.sqlite_suffices
async def test_an_event_is_of_when_it_is_told_and_of_no_more_machines_than_there_can_be(house: House) -> None:
    acme = sell(house, "acme")
    for at_s, sessions in ((0, -1), (1 << 80, 1 << 80)):
        await house.north.note_event(lost(order_id=acme, at_s=at_s, sessions=sessions))
    assert events(house) == [(NOW_S, acme, "lost", 0), (NOW_S, acme, "lost", SESSIONS_MAX)]


@pytest.mark.sqlite_suffices
async def test_who_asks_without_end_has_the_books_for_so_many_questions(
    house: House, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the hub's log has nothing of the others: what is refused for that is told the edge alone. A start
    asks for 2,000 blocks, twice each, and is answered."""
    asked: Counter[str] = Counter()

    async def plan() -> Plan:
        asked["plan"] += 1
        return Plan({}, {})

    async def credits(prevhash: bytes, after: int) -> CreditsPage:
        asked["credits"] += 1
        return []

    monkeypatch.setattr(house.keeping, "plan", plan)
    monkeypatch.setattr(house.keeping, "credits", credits)
    house.north = house.answers(NORTH)

    async def ask(times: int, question: Callable[[], Awaitable[object]]) -> int:
        refused = 0
        for _ in range(times):
            try:
                await question()
            except HubAway:
                refused += 1
        return refused

    assert await ask(4_000, lambda: house.north.credits(bytes(32), 0)) == 0
    assert await ask(20_000, lambda: house.north.credits(bytes(32), 0)) == 14_000
    assert await ask(1_000, house.north.plan) == 900
    assert asked == {"credits": 10_000, "plan": 100}
    assert await ask(1_000, lambda: house.north.unbooked(1, [])) == 1_000  # of the same
    await trio.sleep(5.0)
    assert await ask(2, house.north.plan) == 1


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize(
    ("prevhash", "after"), [(b"", 0), (bytes(31), 0), (bytes(32), 1 << 64), (bytes(32), -1)]
)
async def test_of_what_is_no_block_nothing_was_credited(house: House, prevhash: bytes, after: int) -> None:
    assert await house.north.credits(prevhash, after) == []


@pytest.mark.sqlite_suffices
async def test_edges_that_come_all_at_once_have_no_more_of_the_hub_than_a_few_have(
    house: House, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they do when it has taken over: all of them are answered, one after the other."""
    under_way, most, answered, goes_on = 0, 0, 0, trio.Event()

    async def plan() -> Plan:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await goes_on.wait()
        await trio.lowlevel.checkpoint()
        under_way -= 1
        return Plan({}, {})

    async def ask(name: str) -> None:
        nonlocal answered
        assert await house.answers(name).plan() == Plan({}, {})
        answered += 1

    monkeypatch.setattr(house.keeping, "plan", plan)
    for number in range(75):
        nursery.start_soon(ask, f"edge {number}")
    await trio.testing.wait_all_tasks_blocked()
    assert (under_way, answered) == (ASKED_AT_ONCE, 0)
    goes_on.set()
    while answered < 75:
        await trio.lowlevel.checkpoint()
    assert most == ASKED_AT_ONCE
