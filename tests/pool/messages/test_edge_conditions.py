"""What is told of edges at other sites: each condition from its beginning to its end, and that a site that is
cut off is one message, whatever its machines seem to do."""

from typing import Any

import msgspec
import pytest

from pool.books.edges.watch import BEYOND_S, HubFigures, LinkFigures, RemoteFigures
from pool.messages.conditions import Thresholds
from pool.messages.kinds import KINDS
from pool.messages.teller import MESSAGES
from tests.stages.watch import Watch, container, gone

DAY_S = 86_400.0
CONNECTED = LinkFigures(
    connected=True, since_s=DAY_S, url="tls://nats.example:4222", dropped=0, error="it was refused once"
)


def edge(name: str = "north", **changes: Any) -> RemoteFigures:
    """It serves 5,000 machines."""
    whole: dict[str, Any] = {
        "name": name,
        "state": "serves",
        "why": None,
        "silent_s": 20.0,
        "heard": True,
        "unbooked": 400,
        "unbooked_bytes": 5 << 20,
        "unbooked_s": 60.0,
        "missing_s": 30.0,
        "moment_age_s": 31.0,
        "beyond_s": None,
        "machines": 5_000,
        "mining": 4_980,
    }
    return RemoteFigures(**whole | changes)


def hub(*edges: RemoteFigures, **link: Any) -> HubFigures:
    return HubFigures(edges=edges, link=msgspec.structs.replace(CONNECTED, **link))


def silent(name: str = "north", seconds: float = 300.0, **changes: Any) -> RemoteFigures:
    ages = {"silent_s": seconds, "missing_s": seconds, "moment_age_s": seconds}
    return edge(name, **{"state": "silent", "mining": 0, "unbooked": 0, "unbooked_s": 0.0} | ages | changes)


def held(name: str = "north", **changes: Any) -> RemoteFigures:
    return edge(name, state="held", why="edge north may not count for borealis.c01.u1", **changes)


WELL = hub(edge())
# Of each condition: what is not enough, what is wrong and after how many looks, what ends it no more, what
# ends it and after how many looks; and both titles.
TABLE = {
    "the hub is connected to nothing": (
        hub(silent(seconds=119.0), connected=False, since_s=119.0),
        hub(silent(seconds=120.0), connected=False, since_s=120.0),
        1,
        hub(silent(seconds=9_000.0), connected=False, since_s=9_000.0),
        hub(silent(seconds=9_000.0), since_s=1.0),
        1,
        "the hub is connected to no NATS server",
        "the hub is connected to a NATS server again",
    ),
    "an edge is not heard of": (
        hub(silent(seconds=299.0)),
        hub(silent(seconds=300.0)),
        1,
        hub(silent(seconds=DAY_S)),
        hub(edge(silent_s=0.0, state="behind", missing_s=600.0)),
        1,
        "edge north is silent",
        "edge north is heard of again",
    ),
    "an edge is held": (
        WELL,
        hub(held()),
        1,
        hub(held(missing_s=20_000.0, unbooked_s=20_000.0)),
        WELL,
        1,
        "nothing of edge north is booked",
        "edge north is booked again",
    ),
    "more than its machines can do": (
        WELL,
        hub(edge(beyond_s=0.0)),
        1,
        hub(edge(beyond_s=3_599.0)),
        hub(edge(beyond_s=3_600.0)),
        1,
        "edge north sends more work than its machines can do",
        "edge north is within its nameplate again",
    ),
    "what it has is not here": (
        hub(edge(state="behind", missing_s=899.0)),
        hub(edge(state="behind", missing_s=900.0)),
        5,
        hub(edge(moment_age_s=900.0)),
        hub(edge(moment_age_s=899.0)),
        5,
        "edge north is behind",
        "edge north is no longer behind",
    ),
    "what came of it is not in the books": (
        hub(edge(state="behind", unbooked_s=899.0)),
        hub(edge(state="behind", unbooked_s=900.0)),
        5,
        hub(edge(state="waits", why="the disk of the hub is full")),
        WELL,
        5,
        "edge north is behind",
        "edge north is no longer behind",
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_a_condition_is_told_when_it_lasts_reminded_of_and_told_when_it_is_over(name: str) -> None:
    enough, wrong, raise_looks, still, well, clear_looks, raised, recovered = TABLE[name]
    watch = Watch()
    watch.set(running_s=BEYOND_S)

    def looks(figures: HubFigures, minutes: int) -> list[str]:
        watch.set(hub=figures)
        return watch.looks(minutes)

    assert looks(enough, 100) == [], "within its threshold"
    assert looks(wrong, raise_looks - 1) == [], "it must last"
    assert looks(wrong, 1) == [raised]
    assert looks(wrong, 60) == looks(still, 60) == [], "it is told once"
    assert looks(still, 360) == [f"Still: {raised}"], "every eight hours"
    assert looks(well, clear_looks - 1) == [], "it must be over for good"
    assert looks(well, 1) == [recovered]
    assert looks(WELL, 600) == []


def test_a_pool_that_keeps_nobodys_books_but_its_own_is_told_nothing_of_edges() -> None:
    watch = Watch()
    assert watch.looks(600) == []
    assert not {key for key in watch._teller.memory.states if key.startswith(("edge-", "nats-"))}


def test_a_site_that_is_cut_off_is_one_message_whatever_its_machines_seem_to_do() -> None:
    """Fourteen containers of 400; the edge of two others goes on, and is judged as ever."""
    watch = Watch()
    away = tuple(
        gone(container(f"acme.c{number:02d}", "Bratsk", usual=0, unheard=400)) for number in range(14)
    )
    here = (container("acme.d01", "Omsk"), container("acme.d02", "Omsk"))
    watch.set(hub=hub(silent(machines=5_600), edge("south")), containers=(*away, *here))
    assert watch.looks(300) == ["edge north is silent"]
    assert watch.messages[0].text == (
        "north: not heard of for 5 min, and 5,600 machines of it neither; if its line is down they mine on,"
        " and each share is booked when it is up again"
    )
    watch.set(containers=(*away, here[0], gone(here[1])))
    assert watch.looks(3) == ["container acme.d02 is offline"]


def test_half_of_a_container_that_nothing_is_known_of_is_no_container_under_its_nameplate() -> None:
    watch = Watch()
    half = container(usual=200, mining=200, unheard=200, hashrate_hps=20_000e12)
    watch.set(hub=hub(silent(), edge("south")), containers=(half,))
    assert watch.looks(120) == ["edge north is silent"]
    watch.set(containers=(msgspec.structs.replace(half, mining=10),))
    assert watch.looks(3) == ["container acme.c01 is offline"], "of whom is known nearly all are"


def test_seventy_sites_whose_provider_fails_are_one_message() -> None:
    watch = Watch()
    watch.set(hub=hub(*(silent(f"site-{number}") for number in range(70))))
    assert watch.looks(300) == ["70 edges are silent"]
    assert "and 65 more" in watch.messages[0].text


def test_where_nothing_is_connected_no_edge_is_silent_nor_for_minutes_after_it() -> None:
    watch = Watch()
    away = tuple(silent(f"site-{number}", 2_000.0) for number in range(70))
    watch.set(hub=hub(*away, connected=False, since_s=1_900.0, error="the connection was refused"))
    assert watch.looks(60) == ["the hub is connected to no NATS server"]
    assert watch.messages[0].text == (
        "for 32 min: the connection was refused; no edge is heard of, and miners there notice nothing"
    )
    watch.set(hub=hub(*away, since_s=60.0))
    assert watch.looks(1) == ["the hub is connected to a NATS server again"]
    watch.set(hub=hub(*map(edge, ("site-1", "site-2")), silent("site-3"), since_s=120.0))
    assert watch.looks(60) == ["edge site-3 is silent"]


def test_a_hub_that_hears_of_no_edge_does_not_know_whether_miners_have_work() -> None:
    watch = Watch()
    watch.set(hub=hub(), job_age_s=9_000.0)
    assert watch.looks(60) == [], "it has none yet"
    watch.set(hub=hub(silent("north"), silent("south")))
    assert watch.looks(60) == ["2 edges are silent"]
    watch.set(hub=hub(edge("north"), silent("south")))
    assert watch.looks(1) == ["edge north is heard of again", "miners get no new work"]


def test_an_edge_that_is_silent_or_held_is_not_behind_besides() -> None:
    watch = Watch()
    watch.set(hub=hub(silent("north", 9_000.0), held("south", missing_s=9_000.0)))
    assert watch.looks(60) == ["edge north is silent", "nothing of edge south is booked"]


def test_where_the_database_is_away_no_edge_is_behind() -> None:
    watch = Watch()
    watch.set(hub=hub(edge(state="behind", unbooked_s=2_000.0)), books_away=True)
    assert watch.looks(60) == ["the database does not answer"]


def test_a_hub_that_is_started_again_takes_nothing_back_before_it_knows() -> None:
    watch = Watch()
    watch.set(hub=hub(silent("north"), edge("south", beyond_s=10.0)), running_s=BEYOND_S)
    assert len(watch.looks(1)) == 2
    watch.restart()
    for minute in range(5):
        starts = silent("north", 60.0 * minute, heard=False, state="serves")
        watch.set(hub=hub(starts, edge("south")), running_s=60.0 * minute)
        assert watch.looks(1) == []
    watch.set(hub=hub(edge("north"), edge("south")), running_s=300.0)
    assert watch.looks(1) == ["edge north is heard of again"]
    watch.set(running_s=BEYOND_S)
    assert watch.looks(1) == ["edge south is within its nameplate again"]


def test_thresholds_are_settings() -> None:
    watch = Watch(limits=Thresholds(edge_silent_s=3_600.0, edge_lags_s=60.0))
    watch.set(hub=hub(silent("north", 3_599.0), edge("south", missing_s=60.0, state="behind")))
    assert watch.looks(5) == ["edge south is behind"]


def test_nobody_silences_that_work_came_which_nobody_can_have_done() -> None:
    """Who makes shares up at a site has a friend who may silence it."""
    watch = Watch()
    watch.silenced = ["edge/north"]
    watch.set(hub=hub(edge(beyond_s=1.0), silent("south")))
    assert set(watch.looks(1)) == {
        "edge north sends more work than its machines can do",
        "edge south is silent",
    }
    watch.silenced = ["all"]
    watch.set(hub=hub(edge("west", beyond_s=1.0), held("east")))
    assert watch.looks(1) == ["edge west sends more work than its machines can do"]


def test_sites_whose_lines_come_and_go_do_not_hide_what_another_one_sends() -> None:
    watch = Watch()
    assert KINDS["edge-beyond-nameplate"].cause is KINDS["edge-silent"].cause
    flapping = tuple(f"site-{number}" for number in range(4))
    for minute in range(55):
        quiet = flapping[minute % 4]
        watch.set(hub=hub(*(silent(it) if it == quiet else edge(it) for it in flapping)))
        watch.looks(1)
    assert len(watch.told) < MESSAGES[KINDS["edge-silent"].cause]
    watch.set(hub=hub(*map(edge, flapping), edge("thief", beyond_s=1.0)))
    assert "edge thief sends more work than its machines can do" in watch.looks(1)


def test_what_an_edge_said_is_plain() -> None:
    watch = Watch()
    watch.set(hub=hub(edge(state="held", why="may not count for <img src=x>.`c01`\n@all")))
    watch.looks(1)
    assert "may not count for ?img src=x?.?c01???all" in watch.messages[0].text
