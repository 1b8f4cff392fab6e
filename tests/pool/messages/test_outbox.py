"""Messages find their way when they can, bounded, and hold up nobody. No thread works: the clock jumps."""

from collections.abc import Callable

import msgspec
import pytest
import structlog
import trio
import trio.testing

from pool.messages.message import Message, Severity
from pool.messages.outbox import GIVE_UP_S, QUEUE_MAX, SEND_S, Outbox, Receiver
from pool.messages.receiver import NotSent, Sender
from tests.pool.messages.test_webhook import MESSAGE


class Post:
    """A sender that takes messages, or does what `fault` does."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.tries = 0
        self.silent = False
        self.fault: Callable[[], None] | None = None

    def send(self, message: Message) -> None:
        raise AssertionError("in no thread")

    async def take(self, message: Message) -> None:
        self.tries += 1
        if self.silent:
            await trio.sleep_forever()
        if self.fault is not None:
            self.fault()
        self.taken.append(message.text)


async def send(sender: Sender, message: Message) -> None:
    assert isinstance(sender, Post)
    await sender.take(message)


def refuse() -> None:
    raise NotSent("refused")


def message(text: str, severity: Severity = Severity.WARNING) -> Message:
    return msgspec.structs.replace(MESSAGE, text=text, severity=severity)


class House:
    """Two receivers: one of everything, one of what is critical."""

    def __init__(self) -> None:
        self.all, self.critical = Post(), Post()
        receivers = (
            Receiver("1 (mailto)", self.all, Severity.INFO),
            Receiver("2 (tgram)", self.critical, Severity.CRITICAL),
        )
        self.outbox = Outbox(receivers, send=send)


@pytest.fixture
async def house(nursery: trio.Nursery) -> House:
    found = House()
    nursery.start_soon(found.outbox.run)
    return found


async def test_who_is_told_is_told_what_is_bad_enough_in_order(
    house: House, autojump_clock: trio.testing.MockClock
) -> None:
    for text, severity in (("a", Severity.INFO), ("b", Severity.CRITICAL), ("c", Severity.WARNING)):
        house.outbox.put(message(text, severity))
    await trio.sleep(1)
    assert (house.all.taken, house.critical.taken) == (["a", "b", "c"], ["b"])


async def test_others_are_told_from_a_moment_on_and_who_stays_hears_what_waited(
    house: House, autojump_clock: trio.testing.MockClock
) -> None:
    house.all.fault = house.critical.fault = refuse
    house.outbox.put(message("a", Severity.CRITICAL))
    await trio.sleep(0.1)
    stays, _ = house.outbox.receivers
    new = Post()
    house.outbox.replace((stays, Receiver("3 (json)", new, Severity.INFO)))
    house.outbox.put(message("b", Severity.CRITICAL))
    house.all.fault = house.critical.fault = None
    await trio.sleep(GIVE_UP_S)
    assert (house.all.taken, new.taken, house.critical.taken) == (["a", "b"], ["b"], [])
    house.outbox.replace(())
    house.outbox.put(message("c", Severity.CRITICAL))
    await trio.sleep(1)
    assert house.all.taken == ["a", "b"]


async def test_a_receiver_that_is_away_gets_it_later_and_the_log_has_two_lines(
    house: House, autojump_clock: trio.testing.MockClock
) -> None:
    house.all.fault = refuse
    with structlog.testing.capture_logs() as lines:
        house.outbox.put(message("a"))
        house.outbox.put(message("b"))
        await trio.sleep(3600)
        assert house.all.tries < 25, "less and less often"
        house.all.fault = None
        await trio.sleep(600)
    assert house.all.taken == ["a", "b"]
    assert [(it["event"], it["receiver"]) for it in lines] == [
        ("messages_not_sent", "1 (mailto)"),
        ("messages_sent_again", "1 (mailto)"),
    ]


async def test_a_receiver_that_is_silent_holds_up_no_other(
    house: House, autojump_clock: trio.testing.MockClock
) -> None:
    house.all.silent = True
    for number in range(5):
        house.outbox.put(message(str(number), Severity.CRITICAL))
    await trio.sleep(1)
    assert house.critical.taken == ["0", "1", "2", "3", "4"]
    (silent, other) = await house.outbox.send_now(message("now", Severity.CRITICAL))
    assert (silent.sent, silent.words) == (False, f"no answer within {SEND_S:.0f} s")
    assert (other.sent, other.words) == (True, "took it")


async def test_what_waits_is_bounded_and_what_is_lost_is_told(
    house: House, autojump_clock: trio.testing.MockClock
) -> None:
    house.all.fault = refuse
    for number in range(QUEUE_MAX + 50):
        house.outbox.put(message(str(number)))
    await trio.sleep(1)
    house.all.fault = None
    await trio.sleep(3600)
    assert len(house.all.taken) == QUEUE_MAX
    assert house.all.taken[-1] == str(QUEUE_MAX + 49)
    assert any("50 messages before this one did not arrive" in text for text in house.all.taken)


async def test_a_message_is_given_up_in_the_end(house: House, autojump_clock: trio.testing.MockClock) -> None:
    house.all.fault = refuse
    house.outbox.put(message("old"))
    await trio.sleep(GIVE_UP_S + 1)
    house.all.fault = None
    house.outbox.put(message("new"))
    await trio.sleep(600)
    assert house.all.taken == ["new\n(1 messages before this one did not arrive)"]


async def test_a_mistake_of_a_library_ends_nothing(
    house: House, autojump_clock: trio.testing.MockClock
) -> None:
    def fault() -> None:
        raise ZeroDivisionError("hunter2")

    house.all.fault = fault
    with structlog.testing.capture_logs() as lines:
        house.outbox.put(message("a"))
        await trio.sleep(1)
    assert [it["reason"] for it in lines] == ["failed with ZeroDivisionError"]
    house.all.fault = None
    await trio.sleep(600)
    assert house.all.taken == ["a"]
