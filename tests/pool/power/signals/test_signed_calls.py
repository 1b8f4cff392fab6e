"""A signed call is done once, by who has the secret, in the order that he signed them in."""

import hashlib
import hmac
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from pool.books.store import Store
from pool.power.curtailment import asking
from pool.power.signals.bounds import Bounds
from pool.power.signals.call import BadCall
from pool.power.signals.intake import Answer
from pool.power.signals.signed_calls import HEARD_MAX, WINDOW_S, NotSigned, SignedCalls, TooMany
from tests.stages.signals import HOUR_S, NOW_S, SignalHouse, iso

SECRET = b"0123456789abcdef0123456789abcdef"
CURTAIL: dict[str, Any] = {
    "reference": "grid-1",
    "site": "north",
    "target": "everything",
    "from": iso(NOW_S),
    "until": iso(NOW_S + HOUR_S),
    "ramp_s": 300,
}


def body(**changed: Any) -> bytes:
    return msgspec.json.encode({"version": 1, "curtail": CURTAIL | changed})


def restore(reference: str = "grid-1") -> bytes:
    return msgspec.json.encode({"version": 1, "restore": {"reference": reference}})


def header(body: bytes, at_s: int, secret: bytes = SECRET) -> str:
    return f"t={at_s},v1={hmac.new(secret, b'%d.%s' % (at_s, body), hashlib.sha256).hexdigest()}"


class Signing(SignalHouse):
    """A pool that is asked by signed calls, and whoever has the secret."""

    def start(self) -> None:
        super().start()
        self.since_s = self.events.now_s
        self.calls = SignedCalls(
            self.intake, "webhook", since_s=self.since_s, wall_clock=lambda: self.events.now_s
        )

    def ask(self, body: bytes, at_s: int | None = None, *, shown: str | None = None) -> Answer:
        at_s = self.events.now_s if at_s is None else at_s
        return self.calls.answer(header(body, at_s) if shown is None else shown, body, SECRET)


def test_who_has_the_secret_has_a_site_curtailed_and_restored(books: Store) -> None:
    house = Signing(books)
    assert house.ask(body()) == Answer(reference="grid-1", taken=True, words="asked")
    assert house.ask(restore()) == Answer(reference="grid-1", taken=True, words="restored")
    assert house.events.asked == ["ask grid-1", "restore grid-1"]


@pytest.mark.parametrize(
    "shown",
    [
        lambda it: "",
        lambda it: header(it, NOW_S, b"x" * 32),
        lambda it: header(it + b" ", NOW_S),
        lambda it: header(it, NOW_S).upper(),
        lambda it: header(it, NOW_S).replace(f"t={NOW_S}", f"t={NOW_S + 1}"),
        lambda it: header(it, NOW_S) + ",v0=00",
        lambda it: "t=1,v1=" + "0" * 64,
        lambda it: f"t={NOW_S},v1=" + "é" * 64,
        lambda it: header(it, NOW_S - WINDOW_S - 1),
        lambda it: header(it, NOW_S + WINDOW_S + 1),
    ],
)
def test_who_has_it_not_or_not_now_asks_for_nothing(books: Store, shown: Callable[[bytes], str]) -> None:
    house = Signing(books)
    with pytest.raises(NotSigned) as found:
        house.ask(body(), shown=shown(body()))
    assert found.value.guess
    assert house.events.asked == []
    assert house.source("webhook").heard_at_s is None


def test_the_same_bytes_are_answered_the_same_and_done_once(books: Store) -> None:
    house = Signing(books)
    first = header(body(), NOW_S)
    assert [house.ask(body(), shown=first).words for _ in range(3)] == ["asked"] * 3
    house.events.now_s += 10
    house.ask(body(until=iso(NOW_S + 1800)))
    assert house.ask(body(), shown=first).words == "asked"  # which whoever listened sends again
    assert house.events.asked == ["ask grid-1", "change grid-1"]


def test_what_was_held_back_on_its_way_undoes_nothing_that_was_signed_after_it(books: Store) -> None:
    house = Signing(books)
    house.ask(body())
    held = body(until=iso(NOW_S + 1800))
    house.events.now_s += 60
    house.ask(body(until=iso(NOW_S + 2400)))
    with pytest.raises(NotSigned, match="what was signed later was taken before this"):
        house.ask(held, NOW_S + 30)
    assert house.ask(body(reference="grid-2"), NOW_S + 30).taken  # another event is another matter


def test_what_was_signed_before_a_start_is_not_done_after_it(books: Store) -> None:
    """All that the pool knew of whom it had heard is gone with it."""
    house = Signing(books)
    shown, late = header(body(), NOW_S), body(until=iso(NOW_S + 1800))
    house.ask(body(), shown=shown)
    house.events.now_s += 60
    house.ask(late)
    house.events.now_s += 1
    house.start()
    with pytest.raises(NotSigned, match="before the pool was started: sign it anew") as found:
        house.ask(body(), shown=shown)
    assert not found.value.guess
    assert house.events.asked == ["ask grid-1", "change grid-1"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[" * 4_000,
        b"\xff",
        msgspec.json.encode({"version": 2, "restore": {"reference": "grid-1"}}),
        msgspec.json.encode({"version": 1}),
        msgspec.json.encode({"version": 1, "curtail": CURTAIL, "restore": {"reference": "grid-1"}}),
        body(target="limit"),
        body(site=None),
        body(extra=1),
    ],
)
def test_what_is_no_call_asks_for_nothing(books: Store, content: bytes) -> None:
    house = Signing(books)
    with pytest.raises(BadCall) as found:
        house.ask(content)
    assert str(found.value).isprintable()
    assert house.events.asked == []


def test_of_who_has_the_secret_no_more_is_remembered_than_there_may_be(books: Store) -> None:
    house = Signing(books)
    for it in range(HEARD_MAX):
        house.ask(restore(f"x-{it}"))
    with pytest.raises(TooMany):
        house.ask(body())
    house.events.now_s += 2 * WINDOW_S + 1
    now = {"from": iso(house.events.now_s), "until": iso(house.events.now_s + 600)}
    assert house.ask(body(**now)).taken


def test_a_thief_of_the_secret_stops_a_site_for_the_hours_that_the_settings_say_and_no_more(
    books: Store,
) -> None:
    """He asks whenever it runs again, for two days, for the longest that he may and then for less."""
    house = Signing(books, Bounds(longest_s=2 * HOUR_S, hours_a_day=3, calls_a_day=6))
    down: set[int] = set()
    for minute in range(0, 2 * 24 * 60, 10):
        now_s = house.events.now_s = NOW_S + minute * 60
        for hours in (2, 1):
            if not house.events.live("webhook"):
                span = {"from": iso(now_s), "until": iso(now_s + hours * HOUR_S)}
                house.ask(body(reference=f"x-{minute}-{hours}", **span))
    for it in asking.standing(books, "webhook", 0):
        down |= set(range(it.from_s // 60, it.until_s // 60))
    first = min(down)
    of_a_day = [sum(at <= it < at + 1440 for it in down) for at in range(first, first + 2 * 1440, 10)]
    assert max(of_a_day) == 3 * 60
