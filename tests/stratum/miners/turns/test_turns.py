"""One source after the other, then one connection of it after the other."""

from hypothesis import given, settings
from hypothesis import strategies as st

from stratum.miners.turns.turns import Lane, Turns


def all_of(turns: Turns[str]) -> list[str]:
    return [item for _ in range(len(turns)) if (item := turns.next()) is not None]


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


def test_who_has_left_waits_no_more_and_nobody_loses_his_turn_by_it() -> None:
    turns: Turns[str] = Turns()
    for source in ("flood", "good"):
        turns.add(source, f"{source} 0")
    for number in range(1, 100_000):
        turns.discard("flood", f"flood {number - 1}")
        turns.add("flood", f"flood {number}")
        assert len(turns) == 2
    turns.discard("flood", "flood 0")
    turns.discard("nobody", "flood 99999")
    assert sorted(all_of(turns)) == ["flood 99999", "good 0"]


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
            assert item is not None
            assert item == next(it for it in waiting if it[0] == item[0])
            waiting.remove(item)
            for other in since:
                since[other].append(item[0])
                assert len(set(since[other])) == len(since[other]) or other == item[0]
            since.pop(item[0])
            if any(it[0] == item[0] for it in waiting):
                since[item[0]] = []
        assert len(turns) == len(waiting)


class Costly:
    """It costs what it says, each time."""

    def __init__(self, cost: int) -> None:
        self.cost = cost
        self.turns = 0

    def take_turn(self) -> int:
        self.turns += 1
        return self.cost


def test_a_round_beside_miners_costs_little_and_rests_in_proportion() -> None:
    lane = Lane(cost=100, cost_beside_miners=10, rest_s=1.0)
    cheap, dear = [Costly(3) for _ in range(40)], Costly(50)
    for waiting in cheap:
        lane.add("site", waiting)
    assert lane.round(beside_miners=True) == 1.2, "a turn that has begun is given"
    assert sum(waiting.turns for waiting in cheap) == 4
    assert lane.round(beside_miners=False) == 0.0
    assert sum(waiting.turns for waiting in cheap) == 4 + 34
    assert lane.wanted.is_set()
    lane.round(beside_miners=False)
    assert not lane.wanted.is_set(), "nobody is left"
    lane.add("stranger", dear)
    assert lane.wanted.is_set()
    assert lane.round(beside_miners=True) == 5.0


def test_a_lane_of_those_who_have_time_always_rests() -> None:
    lane = Lane(cost=10, cost_beside_miners=10, rest_s=1.0, always_rests=True)
    lane.add("site", Costly(1))
    assert lane.round(beside_miners=False) == 1.0


def test_who_has_begun_goes_before_who_arrives_and_keeps_nobody_out() -> None:
    """A rush of ten thousand whose second line comes when the first is answered: it ends what it begins."""
    lane = Lane(cost=100, cost_beside_miners=100, rest_s=1.0)
    begun = most = ended = 0

    class Machine:
        def __init__(self) -> None:
            self.begun = False

        def take_turn(self) -> int:
            nonlocal begun, ended, most
            if self.begun:
                begun, ended = begun - 1, ended + 1
            else:
                begun, self.begun = begun + 1, True
                lane.add("site", self)
            most = max(most, begun)
            return 1

    for _ in range(10_000):
        lane.add("site", Machine(), arrives=True)
    talker = Costly(1)
    while len(lane):
        lane.add("other", talker)
        lane.round(beside_miners=True)
    assert (ended, begun) == (10_000, 0)
    assert most <= 100


def test_who_arrives_waits_while_those_before_are_not_done_and_who_has_begun_does_not() -> None:
    lane = Lane(cost=100, cost_beside_miners=10, rest_s=1.0)
    lane.may_arrive = lambda source: False
    begun, arriving = Costly(3), Costly(3)
    lane.add("site", begun)
    lane.add("site", arriving, arrives=True)
    assert lane.round(beside_miners=False) == 1.0, "it is looked at again, and not without a rest"
    assert (begun.turns, arriving.turns) == (1, 0)
    assert lane.wanted.is_set()
    lane.may_arrive = lambda source: True
    assert lane.round(beside_miners=False) == 0.0
    assert arriving.turns == 1
