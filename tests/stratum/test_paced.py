"""Latest value wins, at most one every so many seconds, and an urgent one passes."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from stratum.paced import Paced

GAP_S, URGENT_GAP_S = 10.0, 1.0


class HandedOn:
    """What came out, at what second, and whether it was urgent."""

    def __init__(self, paced: Paced[str]) -> None:
        self.paced = paced
        self.values: list[tuple[str, float, bool]] = []
        self._began_s = trio.current_time()

    async def run(self) -> None:
        while True:
            value = await self.paced.due()
            self.values.append((value, trio.current_time() - self._began_s, self.paced.hand_on()))


@pytest.fixture
async def out(autojump_clock: MockClock, nursery: trio.Nursery) -> HandedOn:
    out = HandedOn(Paced[str](GAP_S, urgent_gap_s=URGENT_GAP_S))
    nursery.start_soon(out.run)
    return out


async def test_the_first_goes_at_once_and_of_those_that_follow_the_latest_after_the_gap(
    autojump_clock: MockClock, out: HandedOn
) -> None:
    out.paced.put("a")
    await wait_all_tasks_blocked()
    for value in "bcd":
        out.paced.put(value)
        await trio.sleep(1)
    await trio.sleep(60)
    assert out.values == [("a", 0, False), ("d", GAP_S, False)]


async def test_one_that_comes_after_the_gap_does_not_wait(autojump_clock: MockClock, out: HandedOn) -> None:
    out.paced.put("a")
    await trio.sleep(GAP_S + 3)
    out.paced.put("b")
    await wait_all_tasks_blocked()
    assert out.values == [("a", 0, False), ("b", GAP_S + 3, False)]


async def test_an_urgent_one_passes_the_gap_and_has_its_own(autojump_clock: MockClock, out: HandedOn) -> None:
    out.paced.put("a")
    await wait_all_tasks_blocked()
    out.paced.put("b")
    await trio.sleep(4)
    out.paced.put("c", urgent=True)
    await wait_all_tasks_blocked()
    out.paced.put("d", urgent=True)
    await trio.sleep(60)
    assert out.values == [("a", 0, False), ("c", 4, True), ("d", 4 + URGENT_GAP_S, True)]


async def test_what_overtakes_an_urgent_one_is_urgent(autojump_clock: MockClock, out: HandedOn) -> None:
    out.paced.put("a")
    await wait_all_tasks_blocked()
    out.paced.put("b", urgent=True)
    out.paced.put("c")
    await trio.sleep(60)
    out.paced.put("d")
    await wait_all_tasks_blocked()
    assert out.values == [("a", 0, False), ("c", URGENT_GAP_S, True), ("d", 60, False)]


async def test_what_is_dropped_is_never_handed_on_nor_its_urgency(
    autojump_clock: MockClock, out: HandedOn
) -> None:
    out.paced.put("a")
    await wait_all_tasks_blocked()
    out.paced.put("b", urgent=True)
    out.paced.drop()
    await trio.sleep(2)
    assert out.paced.latest is None
    out.paced.put("c")
    await trio.sleep(60)
    assert out.values == [("a", 0, False), ("c", GAP_S, False)]


async def test_it_can_be_overtaken_between_due_and_take(autojump_clock: MockClock) -> None:
    """For who has something to do meanwhile: the urgency is that of both."""
    paced = Paced[str](GAP_S)
    paced.put("a", urgent=True)
    assert await paced.due() == "a"
    paced.put("b")
    assert paced.latest == "b"
    assert await paced.due() == "b"
    assert paced.hand_on()
    assert paced.latest is None


async def test_waiting_can_be_cancelled_and_loses_nothing(autojump_clock: MockClock) -> None:
    paced = Paced[str](GAP_S)
    paced.hand_on()
    paced.put("a")
    with trio.move_on_after(1) as early:
        await paced.due()
    assert early.cancelled_caught
    assert await paced.due() == "a"
