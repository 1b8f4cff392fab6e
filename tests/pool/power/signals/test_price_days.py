"""Days of prices that change at any time: machines rest in hours that stay dear, and in none that stay cheap,
whatever is started anew, looked at late or ended by a person; the clock jumps. Seeds are printed."""

import random
from typing import Final

import pytest

from pool.books.store import Store
from pool.power.curtailment.events import end_event, move_event
from pool.power.curtailment.states import ENDED, EventState
from tests.pool.power.signals.test_price_watch import BEGUN, NEW, OLD, Market
from tests.stages.signals import HOUR_S, NOW_S

pytestmark = pytest.mark.soak

WORTH_SAT: Final = {OLD: 81, NEW: 162}  # of a kWh
CHEAP, DEAR = 0.96, 1.04  # of that, where the band of three percent is passed
STEP_S, DAYS = 600, 2
SETTLED_S = 4 * HOUR_S  # since a price, a look or the clock was another than it was to be


class Days(Market):
    """What prices there are, when each was said, and what is off."""

    def __init__(self, store: Store, chance: random.Random) -> None:
        super().__init__(store)
        self.chance = chance
        self.price: dict[int, int] = {}
        self.said_at_s: dict[int, int] = {}
        self.disturbed_s = NOW_S - SETTLED_S
        self.of_persons: set[int] = set()  # hours that somebody has ended
        self.off: set[int] = set()
        self.woken_s: dict[int, int] = {}
        self.say_from(BEGUN, 40)

    def say_from(self, first: int, count: int) -> None:
        prices: list[int] = []
        while len(prices) < count:
            prices += [self.chance.choice([50, 50, 120, 200])] * self.chance.choice([1, 2, 3, 4, 6])
        self.say(*prices[:count], first=first)
        for hour, sat in enumerate(prices[:count], first):
            if self.price.get(hour) != sat:
                self.price[hour], self.said_at_s[hour] = sat, self.events.now_s

    def carry_out(self) -> None:
        """As whoever tells machines does."""
        now_s = self.events.now_s
        with self.store.write() as connection:
            for it in self.all():
                over = now_s >= it.until_s
                if it.state is EventState.PLANNED and now_s >= it.from_s:
                    it = move_event(connection, it, _begun(over=over), "", now_s)
                if it.state is EventState.CURTAILING and (over or it.restore_asked_at_s is not None):
                    it = move_event(connection, it, EventState.RESTORING, "", now_s)
                    move_event(connection, it, EventState.OVER, "", now_s)

    def end_one(self) -> None:
        going = [it for it in self.all() if it.state not in ENDED]
        if going:
            it = self.chance.choice(going)
            with self.store.write() as connection:
                end_event(connection, it, by="olga", words="a pump is hot", now_s=self.events.now_s)
            self.of_persons |= set(range(it.from_s // HOUR_S, it.until_s // HOUR_S + 1))

    def pass_time(self) -> None:
        chance = self.chance
        self.events.now_s += STEP_S
        if chance.random() < 0.005:
            self.events.now_s += chance.choice([-7200, -1800, -600, 1800, 5400])
            self.disturbed_s = self.events.now_s
        hour = self.events.now_s // HOUR_S
        if chance.random() < 0.02:
            self.start()
        if chance.random() < 0.03:
            self.say_from(hour + chance.choice([0, 1, 3, 6, 12]), chance.choice([6, 20, 40]))
        if max(self.price) < hour + 30:
            self.say_from(max(self.price) + 1, 24)
        if chance.random() < 0.03:  # the books are away
            self.disturbed_s = self.events.now_s
            return
        self.watch.look()
        if chance.random() < 0.004:
            self.end_one()
        self.carry_out()

    def judge(self) -> None:
        now_s = self.events.now_s
        hour = now_s // HOUR_S
        was, self.off = self.off, set()
        for it in self.all():
            if it.state is EventState.CURTAILING and it.restore_asked_at_s is None:
                self.off |= self.stops(it)
        self.woken_s |= dict.fromkeys(was - self.off, now_s)
        if now_s - self.disturbed_s < SETTLED_S or self.of_persons & set(range(hour - 3, hour + 4)):
            return
        for kind, worth in WORTH_SAT.items():
            sat = {at: self.price.get(at, 0) for at in range(hour - 3, hour + 4)}
            if kind in self.off - was and min(sat[hour - 1], sat[hour]) > worth * DEAR:
                assert now_s - self.woken_s.get(kind, 0) >= HOUR_S, "stopped again in hours that stayed dear"
            if any(now_s - self.said_at_s.get(at, NOW_S) < SETTLED_S for at in sat):
                continue
            if all(sat[at] < worth * CHEAP for at in range(hour - 2, hour + 3)):
                assert kind not in self.off
            if all(sat[at] > worth * DEAR for at in range(hour - 1, hour + 2)):
                assert kind in self.off


def _begun(*, over: bool) -> EventState:
    return EventState.CANCELLED if over else EventState.CURTAILING


@pytest.mark.parametrize("play", range(3))
def test_machines_rest_while_it_stays_dear_and_mine_while_it_stays_cheap(books: Store, play: int) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    days = Days(books, random.Random(seed))
    for _ in range(DAYS * 86_400 // STEP_S):
        days.pass_time()
        days.judge()
