"""What each firmware is seen to do: by what happens on the wire, for a bounded number of kinds."""

import pytest

from stratum.miners.firmware import (
    FAMILIES,
    KINDS_MAX,
    ORDERS_MAX,
    OTHER,
    Family,
    Firmware,
    FirmwareBook,
    family_of,
    kind_of,
)
from stratum.miners.liveness import SessionLimits
from tests.stages.sessions import CHECK_S, ROLLING, Miner, SessionStage

BIT = 1 << 13


@pytest.mark.parametrize(
    ("agent", "kind"),
    [
        ("bmminer/2.0.0/Antminer S19/1234", "bmminer 2.0.0"),
        ("cgminer/4.11.1", "cgminer 4.11.1"),
        ("NiceHash/1.0.0", "NiceHash 1.0.0"),
        ("ESP-Miner/bm1366/v2.1", "ESP-Miner/bm1366 v2.1"),
        ("bosminer-plus-tuner 0.2.0-5ab1c2d", "bosminer-plus-tuner 0.2.0"),
        ("xminer-1.2.8", "xminer 1.2.8"),
        ("bitaxe/BM1370/v2.4.1-rc1", "bitaxe/BM1370 v2.4.1"),
        ("Braiins OS+", "Braiins OS+"),
        ("", "(none)"),
        ("x" * 255, "x" * 48),
        ("/1." + "1" * 250, "1." + "1" * 46),
    ],
)
def test_a_kind_is_a_firmware_and_a_version(agent: str, kind: str) -> None:
    assert kind_of(agent) == kind


def test_case_makes_no_kind() -> None:
    book = FirmwareBook()
    assert book.begin("CGMiner/4.11.1") is book.begin("cgminer/4.11.1")


def test_who_invents_agents_pushes_out_no_firmware_that_mines() -> None:
    book = FirmwareBook()
    real = book.begin("bmminer/2.0.0")
    real.accepted = 2
    book.prove(real)
    for number in range(2 * KINDS_MAX):
        invented = book.begin(f"invented/{number}")
        assert len(book.kinds) <= 2 * KINDS_MAX
        if number >= KINDS_MAX:  # or, at what that costs, with a share each
            invented.accepted = 1
            book.prove(invented)
    for number in range(KINDS_MAX):
        book.begin(f"another/{number}")
    assert len(book.kinds) == 2 * KINDS_MAX
    assert real in book.kinds


def test_who_names_himself_a_thousand_ways_makes_no_family_and_no_count_goes_back() -> None:
    """What he gains: his own shares, as `other`."""
    book = FirmwareBook()
    families = set(book.families)
    real = book.begin("BMMiner/2.0.0/Antminer S19")
    book.count(real, 7, 1)
    invented = [book.begin(f"invented/{number}") for number in range(3 * KINDS_MAX)]
    for kind in invented:
        book.count(kind, 1, 2)
        book.prove(kind)
    assert set(book.families) == families == {*FAMILIES, OTHER}
    assert book.families["bmminer"] == Family(here=1, accepted=7, rejected=1)
    assert book.families[OTHER] == Family(
        here=len(invented), accepted=len(invented), rejected=2 * len(invented)
    )
    for kind in (real, *invented):
        book.end(kind)
    assert {it.here for it in book.families.values()} == {0}
    assert family_of(kind_of("NiceHash/1.0.0 for cgminer")) == "nicehash"


def test_of_those_without_a_share_the_newest_are_known() -> None:
    book = FirmwareBook()
    kinds = [book.begin(f"firmware/{number}") for number in range(KINDS_MAX + 1)]
    assert kinds[0] not in book.kinds
    kinds[0].accepted = 1
    book.prove(kinds[0])
    assert kinds[0] in book.kinds, "as soon as it has one"
    assert kinds[-1] in book.kinds


def test_orders_and_masks_of_one_kind_are_bounded() -> None:
    kind = FirmwareBook().begin("x")
    for number in range(100):
        kind.asked_in_order(str(number))
        kind.asked_to_roll(number)
    assert len(kind.orders) == len(kind.masks) == ORDERS_MAX + 1
    assert sum(kind.orders.values()) == 100
    assert kind.masks[OTHER] == 100 - ORDERS_MAX


def only_kind(stage: SessionStage) -> Firmware:
    (kind,) = stage.services.firmware.kinds
    return kind


def mining(stage: SessionStage, agent: str = "bmminer/2.0.0") -> Miner:
    miner = stage.connect()
    miner.ask("mining.subscribe", agent)
    miner.ask("mining.authorize", "acme.c01.u1", "x")
    return miner


def test_the_order_of_first_requests_is_as_it_was_on_the_wire_those_behind_authorize_too() -> None:
    stage = SessionStage()
    miner = mining(stage)
    miner.ask("mining.configure", *ROLLING)
    miner.ask("mining.configure", *ROLLING)
    miner.ask("mining.suggest_difficulty", 1)
    stage.advance(CHECK_S)
    miner.ask("mining.extranonce.subscribe")  # too late to be a part of how it begins
    kind = only_kind(stage)
    assert kind.orders == {"subscribe authorize configure suggest": 1}
    assert (kind.sessions, kind.here, kind.mined) == (1, 1, 1)
    assert (kind.configured, kind.suggested, kind.extranonce) == (1, 1, 0)
    assert kind.masks == {"1fffe000": 1}


def test_who_leaves_at_once_has_an_order_too_and_who_never_mines_has_none() -> None:
    stage = SessionStage()
    mining(stage).leave()
    stage.connect().ask("mining.subscribe", "bmminer/2.0.0")
    kind = only_kind(stage)
    assert kind.orders == {"subscribe authorize": 1}
    assert (kind.sessions, kind.here, kind.mined) == (2, 1, 1)


def test_shares_are_counted_once_and_the_bits_that_accepted_ones_rolled() -> None:
    stage = SessionStage()
    miner = mining(stage)
    miner.mine()
    stage.advance(CHECK_S)
    share = miner.share(rolled=BIT)
    assert miner.submit(*share, f"{BIT:08x}")["result"] is True
    assert miner.submit(*share, f"{BIT:08x}")["error"][0] == 22
    miner.submit(*miner.share(hit=False), "00004000")
    stage.advance(CHECK_S)
    miner.leave()
    kind = only_kind(stage)
    assert (kind.accepted, kind.rejected) == (2, 2)
    assert kind.rolled == BIT, "bits of what was rejected prove nothing"
    assert kind.here == 0


@pytest.mark.parametrize(("obeys", "obeyed"), [(True, 1), (False, 0)])
def test_a_reconnect_is_obeyed_by_who_leaves_in_time(obeys: bool, obeyed: int) -> None:
    stage = SessionStage()
    miner = mining(stage)
    miner.mine()
    miner.write(miner.assignment.send_away(stage.now_s))
    stage.advance(SessionLimits().leave_s + CHECK_S)
    assert miner.session.closing == "moved"
    if obeys:
        miner.session.closing = None
    miner.session.close(left=obeys)
    kind = only_kind(stage)
    assert (kind.reconnects, kind.obeyed) == (1, obeyed)
    assert kind.accepted == 1, "counted once, although its last check was cut short"


def test_who_is_dropped_by_us_meanwhile_has_neither_obeyed_nor_not() -> None:
    stage = SessionStage()
    miner = mining(stage)
    miner.write(miner.assignment.send_away(stage.now_s))
    miner.session.close()  # the pool stops
    assert only_kind(stage).reconnects == 0


def test_a_ping_and_its_answer_are_counted() -> None:
    limits = SessionLimits(idle_s=60.0)
    stage = SessionStage(limits=limits)
    miner = mining(stage)
    stage.advance(60.0 + CHECK_S)
    miner.say(b'{"id":1,"result":"bmminer/2.0.0","error":null}\n')
    kind = only_kind(stage)
    assert (kind.pings, kind.answers) == (1, 1)


def test_lines_that_were_refused_or_could_not_be_read_are_counted() -> None:
    stage = SessionStage()
    miner = mining(stage)
    miner.ask("mining.get_transactions", "0")
    miner.say(b"{\n")
    kind = only_kind(stage)
    assert (kind.refused, kind.unreadable) == (1, 1)
