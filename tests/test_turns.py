"""One source after the other, then one connection of it after the other."""

from hypothesis import given, settings
from hypothesis import strategies as st

from stratum.turns import Turns


def all_of(turns: Turns[str]) -> list[str]:
    return [turns.next() for _ in range(len(turns))]


def test_who_asks_a_thousand_times_waits_for_its_own_thousand() -> None:
    turns: Turns[str] = Turns()
    for number in range(1_000):
        turns.add("flood", f"flood {number}")
    turns.add("good", "good 0")
    turns.add("other", "other 0")
    turns.add("good", "good 1")
    order = all_of(turns)
    assert order[:6] == ["flood 0", "good 0", "other 0", "flood 1", "good 1", "flood 2"]
    assert order[-1] == "flood 999"


def test_who_comes_back_is_the_last_of_its_source() -> None:
    turns: Turns[str] = Turns()
    turns.add("site", "talker")
    turns.add("site", "quiet")
    assert turns.next() == "talker"
    turns.add("site", "talker")
    assert all_of(turns) == ["quiet", "talker"]


@settings(deadline=None, derandomize=True)
@given(st.lists(st.one_of(st.none(), st.integers(0, 3))))
def test_everybody_gets_a_turn_and_no_source_two_before_another_has_one(steps: list[int | None]) -> None:
    turns: Turns[tuple[int, int]] = Turns()
    waiting: list[tuple[int, int]] = []
    since: dict[int, list[int]] = {}  # by source that waits: whose turns it has seen meanwhile
    for number, source in enumerate(steps):
        if source is not None:
            waiting.append((source, number))
            since.setdefault(source, [])
            turns.add(str(source), (source, number))
        elif waiting:
            item = turns.next()
            assert item == next(it for it in waiting if it[0] == item[0])
            waiting.remove(item)
            for other in since:
                since[other].append(item[0])
                assert len(set(since[other])) == len(since[other]) or other == item[0]
            since.pop(item[0])
            if any(it[0] == item[0] for it in waiting):
                since[item[0]] = []
        assert len(turns) == len(waiting)
