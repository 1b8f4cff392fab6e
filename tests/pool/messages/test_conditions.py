"""What is told of a site: each condition from its beginning to its end, and a day of many of them."""

from typing import Any

import pytest

from pool.messages.conditions import Thresholds
from pool.messages.look import (
    CertificateLook,
    MeterLook,
    NodeLook,
    OrderLook,
    PowerLook,
    UpstreamLook,
    WaitingLook,
)
from tests.stages.watch import TH, WELL, Watch, container, gone

DAY_S = 86_400.0
SITE = tuple(container(f"acme.c{number:02d}", "Bratsk") for number in range(1, 15))
OTHERS = tuple(container(f"borealis.d{number:02d}", "Omsk") for number in range(1, 3))
PLATE = container().nameplate_hps
assert PLATE is not None


def only(**changes: Any) -> dict[str, Any]:
    return {"containers": (container(**changes),)}


# Of each condition: how it is, what is not enough, what is wrong and after how many looks, what ends it no
# more, what ends it and after how many looks; and both titles.
TABLE = {
    "container offline": (
        only(mining=41),
        only(mining=40),
        3,
        only(mining=199),
        only(mining=200),
        2,
        "container acme.c01 is offline",
        "container acme.c01 mines again",
    ),
    "under nameplate": (
        only(hashrate_hps=0.85 * PLATE),
        only(hashrate_hps=0.849 * PLATE),
        30,
        only(hashrate_hps=0.879 * PLATE),
        only(hashrate_hps=0.88 * PLATE),
        5,
        "container acme.c01 is under its nameplate",
        "container acme.c01 has its nameplate again",
    ),
    "rejects of a container": (
        only(hashrate_hps=96.0, rejected_hps=4.9, nameplate_hps=None),
        only(hashrate_hps=95.0, rejected_hps=5.0, nameplate_hps=None),
        10,
        only(hashrate_hps=97.0, rejected_hps=3.1, nameplate_hps=None),
        only(hashrate_hps=97.1, rejected_hps=2.9, nameplate_hps=None),
        5,
        "work of container acme.c01 is rejected",
        "work of container acme.c01 is good again",
    ),
    "no job": (
        {"job_age_s": 119.0},
        {"job_age_s": 120.0},
        1,
        {"job_age_s": 120.0},
        {"job_age_s": 1.0},
        1,
        "miners get no new work",
        "miners get work again",
    ),
    "node down": (
        {},
        {"nodes": (NodeLook("first", False, "refused"),)},
        2,
        {"nodes": (NodeLook("first", False, "at 5, while other is at 7"),)},
        {},
        5,
        "node first is down",
        "node first is up again",
    ),
    "upstream down": (
        {"upstreams": (UpstreamLook("north", 119.0, "refused", False),)},
        {"upstreams": (UpstreamLook("north", 120.0, "refused", False),)},
        1,
        {"upstreams": (UpstreamLook("north", 900.0, "refused", True),)},
        {"upstreams": (UpstreamLook("north", None, "", False),)},
        5,
        "upstream north is down",
        "upstream north serves again",
    ),
    "order short": (
        {"orders": (OrderLook("blue", 1e15, 0.0),)},
        {"orders": (OrderLook("blue", 1e15, 1.0),)},
        15,
        {"orders": (OrderLook("blue", 1e15, 1.0),)},
        {"orders": (OrderLook("blue", 1e15, 0.0),)},
        5,
        "order blue is short",
        "order blue is delivered in full",
    ),
    "a site draws more than its limit": (
        {"power": (PowerLook("site", "Bratsk", 6_000_000, 6_000_000, "work"),)},
        {"power": (PowerLook("site", "Bratsk", 6_000_001, 6_000_000, "work"),)},
        2,
        {"power": (PowerLook("site", "Bratsk", 5_880_001, 6_000_000, "meter"),)},
        {"power": (PowerLook("site", "Bratsk", 5_880_000, 6_000_000, "meter"),)},
        1,
        "Bratsk draws more than its limit",
        "Bratsk is within its limit again",
    ),
    "a meter stands still": (
        {"meters": (MeterLook("box", None),)},
        {"meters": (MeterLook("box", "it has said the same for an hour"),)},
        5,
        {"meters": (MeterLook("box", "it has read nothing for minutes"),)},
        {"meters": (MeterLook("box", None),)},
        2,
        "meter box cannot be right",
        "meter box reads again",
    ),
    "a payout waits": (
        {"waiting": (WaitingLook("payout/12", 299.0, "it waits"),)},
        {"waiting": (WaitingLook("payout/12", 300.0, "it waits"),)},
        1,
        {"waiting": (WaitingLook("payout/12", 9000.0, "it waits"),)},
        {"waiting": (WaitingLook("payout/12", 0.0, "it waits"),)},
        1,
        "payout 12 waits for a person",
        "payout 12 waits no longer",
    ),
    "a certificate is about to end": (
        {"certificates": (CertificateLook("pool.example:3334", 14 * DAY_S, "until"),)},
        {"certificates": (CertificateLook("pool.example:3334", 14 * DAY_S - 1, "until"),)},
        1,
        {"certificates": (CertificateLook("pool.example:3334", None, "cannot read it"),)},
        {"certificates": (CertificateLook("pool.example:3334", 90 * DAY_S, "until"),)},
        1,
        "the certificate of pool.example:3334 is about to end",
        "the certificate of pool.example:3334 is renewed",
    ),
    "the disk is nearly full": (
        {"disk_free_bytes": 5 << 30},
        {"disk_free_bytes": (5 << 30) - 1},
        1,
        {"disk_free_bytes": 7 << 30},
        {"disk_free_bytes": 8 << 30},
        5,
        "the disk of the pool is nearly full",
        "the disk of the pool has room again",
    ),
    "tokens are guessed": (
        {"guesses": 99},
        {"guesses": 100},
        1,
        {"guesses": 50},
        {"guesses": 49},
        5,
        "somebody guesses tokens",
        "nobody guesses tokens any more",
    ),
    "the database does not answer": (
        {},
        {"books_away": True},
        2,
        {"books_away": True},
        {},
        1,
        "the database does not answer",
        "the database answers again",
    ),
    "shares wait for the books": (
        {"unbooked_s": 599},
        {"unbooked_s": 600},
        1,
        {"unbooked_s": 3600, "books_away": False},
        {"unbooked_s": 70},
        1,
        "shares wait for the books",
        "the books have every share again",
    ),
    "a process that serves miners died": (
        {"processes": 2, "processes_serving": 2},
        {"processes": 2, "processes_serving": 1, "processes_died": 1},
        1,
        {"processes": 2, "processes_serving": 2, "processes_died": 1},
        {"processes": 2, "processes_serving": 2},
        1,
        "a process that serves miners died",
        "all processes serve miners again",
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_a_condition_is_told_when_it_lasts_reminded_of_and_told_when_it_is_over(name: str) -> None:
    enough, wrong, raise_looks, still, well, clear_looks, raised, recovered = TABLE[name]
    watch = Watch()

    def looks(changes: dict[str, Any], minutes: int) -> list[str]:
        watch.now = WELL
        watch.set(**changes)
        return watch.looks(minutes)

    assert looks(enough, 100) == [], "within its threshold"
    assert looks(wrong, raise_looks - 1) == [], "it must last"
    assert looks(enough, 1) == [], "and begins anew"
    assert looks(wrong, raise_looks) == [raised]
    assert looks(wrong, 60) == looks(still, 60) == [], "it is told once"
    assert looks(still, 360) == [f"Still: {raised}"], "every eight hours"
    assert looks(well, clear_looks - 1) == looks(still, 1) == [], "it must be over for good"
    assert looks(well, clear_looks) == [recovered]
    assert looks(well, 600) == []


@pytest.mark.parametrize("name", TABLE)
def test_what_is_silenced_is_told_afterwards_if_it_is_still_so(name: str) -> None:
    _, wrong, raise_looks, _, well, clear_looks, raised, recovered = TABLE[name]
    watch = Watch()
    watch.silenced = ["all"]
    watch.set(**wrong)
    assert watch.looks(raise_looks + 600) == []
    watch.silenced = []
    assert watch.looks(1) == [raised]
    watch.silenced = ["all"]
    watch.now = WELL
    watch.set(**well)
    assert watch.looks(clear_looks + 600) == []
    watch.silenced = []
    assert watch.looks(1) == [recovered]


def test_a_silence_is_of_a_subject_and_of_what_is_in_it() -> None:
    for subject, told in {
        "container/acme.c01": False,
        "tenant/acme": False,
        "site/Bratsk": False,
        "container/acme.c02": True,
        "tenant/borealis": True,
    }.items():
        watch = Watch()
        watch.silenced = [subject]
        watch.set(containers=(gone(container("acme.c01", "Bratsk")), container("acme.c02", "Bratsk")))
        assert bool(watch.looks(5)) is told, subject


def test_a_site_is_one_message_and_none_of_its_containers() -> None:
    watch = Watch()
    watch.set(containers=(*map(gone, SITE), *OTHERS))
    assert watch.looks(300) == ["site Bratsk is offline"]
    assert watch.messages[0].text == "Bratsk: 0 of 5,600 machines mine, in 14 containers"
    watch.set(containers=(*SITE[:9], *map(gone, SITE[9:]), *OTHERS))
    assert watch.looks(2) == ["site Bratsk mines again"]
    assert watch.looks(3) == ["5 containers are offline"], "what is left is told of by itself"


def test_all_sites_are_one_message_too() -> None:
    watch = Watch()
    watch.set(containers=tuple(map(gone, (*SITE, *OTHERS))))
    assert watch.looks(300) == ["all machines are offline"]


def test_who_has_no_work_is_not_missing() -> None:
    watch = Watch()
    watch.set(containers=tuple(map(gone, (*SITE, *OTHERS))), job_age_s=600.0)
    assert watch.looks(300) == ["miners get no new work"]


def test_after_a_start_nobody_is_missing_for_ten_minutes() -> None:
    watch = Watch()
    watch.set(containers=tuple(map(gone, SITE)), running_s=599.0)
    assert watch.looks(9) == []


def test_a_tenant_with_a_wrong_firmware_is_one_message() -> None:
    watch = Watch()
    bad = [container(f"acme.c{number:02d}", hashrate_hps=90.0, rejected_hps=10.0) for number in range(14)]
    watch.set(containers=tuple(container(it.name, hashrate_hps=90.0, rejected_hps=10.0) for it in bad))
    assert "work of tenant acme is rejected" in watch.looks(10)
    assert not [title for title in watch.looks(60) if "container" in title and "rejected" in title]


def test_a_container_without_a_nameplate_is_under_none() -> None:
    watch = Watch()
    watch.set(containers=(container(nameplate_hps=None, hashrate_hps=1.0),))
    assert watch.looks(120) == []


def test_a_node_that_a_start_did_not_ask_yet_is_not_called_down() -> None:
    """Every start told so where `node_down_s` is a minute, and five minutes later that it is up again."""
    watch = Watch(limits=Thresholds(node_down_s=60.0))
    watch.set(running_s=1.0, nodes=(NodeLook("first", False, "not asked yet"),))
    assert watch.looks(1) == []
    watch.set(running_s=61.0, nodes=WELL.nodes)
    assert watch.looks(10) == []


def test_a_node_that_is_down_since_the_start_is_told_of_when_that_is_so_long() -> None:
    watch = Watch()
    for running_s, said in ((1.0, list[str]()), (61.0, []), (121.0, ["node first is down"])):
        watch.set(running_s=running_s, nodes=(NodeLook("first", False, "refused"),))
        assert watch.looks(1) == said


@pytest.mark.simulation
def test_a_day_of_a_site_is_these_messages() -> None:
    """Fourteen containers on one site and two on another; by minute of the day."""
    watch = Watch()
    watch.set(containers=(*SITE, *OTHERS))
    c03, c07, all_of_it = SITE[2].name, SITE[6].name, (*SITE, *OTHERS)
    happens: dict[int, Any] = {
        60: lambda: watch.change(c07, gone),  # its breaker
        95: lambda: watch.change(c07, lambda it: SITE[6]),
        200: lambda: watch.set(nodes=(NodeLook("first", False, "refused"),)),  # restarted, up in a minute
        201: lambda: watch.set(nodes=WELL.nodes),
        300: lambda: watch.set(containers=(*map(gone, SITE), *OTHERS)),  # a cable is cut, for two hours
        420: lambda: watch.set(containers=all_of_it),
        500: lambda: watch.change(c03, lambda it: gone(it, 300)),  # half a breaker: a quarter is missing
        560: lambda: watch.change(c03, lambda it: SITE[2]),
        700: lambda: watch.set(orders=(OrderLook("blue", 1e15, 1e14),)),
        710: lambda: watch.set(orders=(OrderLook("blue", 1e15, 0.0),)),  # the allocator did it
        800: lambda: watch.set(job_age_s=200.0, nodes=(NodeLook("first", False, "silent"),)),
        812: lambda: watch.set(job_age_s=5.0, nodes=WELL.nodes),
        1000: lambda: watch.set(disk_free_bytes=4 << 30),
    }
    for minute in range(1, 1441):
        if minute in happens:
            happens[minute]()
        watch.look()
    assert watch.told == [
        (62, "container acme.c07 is offline"),
        (96, "container acme.c07 mines again"),
        (302, "site Bratsk is offline"),
        (421, "site Bratsk mines again"),
        (529, "container acme.c03 is under its nameplate"),
        (564, "container acme.c03 has its nameplate again"),
        (800, "miners get no new work"),
        (801, "node first is down"),
        (812, "miners get work again"),
        (816, "node first is up again"),
        (1000, "the disk of the pool is nearly full"),
    ]


def test_thresholds_are_settings() -> None:
    watch = Watch(limits=Thresholds(offline_percent=20.0, no_job_s=3600.0))
    watch.set(containers=(gone(container(), 300),), job_age_s=3000.0)
    assert watch.looks(3) == ["container acme.c01 is offline"]


def test_hashrates_are_told_in_words() -> None:
    watch = Watch()
    watch.set(containers=(container(hashrate_hps=20_000.0 * TH, mining=390),))
    watch.looks(30)
    assert watch.messages[0].text == "acme.c01: 20.00 PH/s of 40.00 PH/s, 50 %; 390 of 400 machines mine"
