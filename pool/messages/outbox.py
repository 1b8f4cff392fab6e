"""The way of messages to their receivers: a queue each, in a thread, tried again, and never in the way.

Invariants: whoever puts a message waits for nothing; a receiver that is slow, silent or gone holds up no
other and ends nothing; a failure is logged once, and its end once. At least once: who answers too late gets
a message again, with the same id.

Must not know: what is told, and by what protocol.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec
import structlog
import trio

from pool.messages.message import Message, Severity
from pool.messages.receiver import NotSent, Sender

log = structlog.get_logger()

QUEUE_MAX: Final = 100  # messages to one receiver: five bad hours; the oldest make room
SEND_S: Final = 20.0  # a mail server that greets slowly takes ten
# At once; a thread that never returns keeps its place, so these are all that can hang.
THREADS_MAX: Final = 8
RETRY_MIN_S: Final = 5.0
RETRY_MAX_S: Final = 300.0
GIVE_UP_S: Final = 6 * 3600.0  # of one message; what is still so is told by a reminder

Send = Callable[[Sender, Message], Awaitable[None]]


class Answer(msgspec.Struct, frozen=True):
    """What became of one message to one receiver, in words."""

    receiver: str
    sent: bool
    words: str


class Receiver:
    """Somebody who is told what is at least so bad."""

    def __init__(self, name: str, sender: Sender, least: Severity) -> None:
        self.name, self.sender, self.least = name, sender, least
        self.queue: deque[Message] = deque()
        self.lost = 0  # since it was reached last
        self.failing = False
        self.news = trio.Event()  # replaced when it was seen
        self.scope = trio.CancelScope()  # for as long as it is told anything


class Outbox:
    """Of all receivers; `send` is a way to send that does not block."""

    def __init__(self, receivers: Sequence[Receiver], *, send: Send | None = None) -> None:
        self.receivers = tuple(receivers)
        self._nursery: trio.Nursery | None = None
        self._threads = trio.CapacityLimiter(THREADS_MAX)
        self._send = send or self._in_thread

    def put(self, message: Message) -> None:
        """Have everybody told whom it is bad enough for."""
        for receiver in self.receivers:
            if message.severity < receiver.least:
                continue
            if len(receiver.queue) >= QUEUE_MAX:
                receiver.queue.popleft()
                receiver.lost += 1
            receiver.queue.append(message)
            receiver.news.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for receiver in self.receivers:
                nursery.start_soon(self._keep_sending, receiver)
            await trio.sleep_forever()

    def replace(self, receivers: Sequence[Receiver]) -> None:
        """Tell these from now on. Who was told before goes on with what waits for it; what waits for others
        is told nobody."""
        before, self.receivers = self.receivers, tuple(receivers)
        for receiver in before:
            if receiver not in self.receivers:
                receiver.scope.cancel()
        if self._nursery is not None:
            for receiver in self.receivers:
                if receiver not in before:
                    self._nursery.start_soon(self._keep_sending, receiver)

    async def send_now(self, message: Message) -> list[Answer]:
        """To all, whatever waits, each once; what each answered."""
        answers: dict[str, Answer] = {}
        receivers = self.receivers  # others may be told in between

        async def send(receiver: Receiver) -> None:
            words = await self._try(receiver, message)
            answers[receiver.name] = Answer(receiver.name, words is None, words or "took it")

        async with trio.open_nursery() as nursery:
            for receiver in receivers:
                nursery.start_soon(send, receiver)
        return [answers[receiver.name] for receiver in receivers]

    async def _keep_sending(self, receiver: Receiver) -> None:
        with receiver.scope:
            while True:
                await receiver.news.wait()
                receiver.news = trio.Event()
                while receiver.queue:
                    await self._deliver(receiver, receiver.queue.popleft())

    async def _deliver(self, receiver: Receiver, message: Message) -> None:
        give_up_s, wait_s = trio.current_time() + GIVE_UP_S, RETRY_MIN_S
        if receiver.lost:
            lost = f"{message.text}\n({receiver.lost} messages before this one did not arrive)"
            message = msgspec.structs.replace(message, text=lost)
        while (words := await self._try(receiver, message)) is not None:
            if not receiver.failing:
                receiver.failing = True
                log.error("messages_not_sent", receiver=receiver.name, reason=words)
            if trio.current_time() + wait_s > give_up_s:
                receiver.lost += 1
                return
            await trio.sleep(wait_s)
            wait_s = min(2 * wait_s, RETRY_MAX_S)
        if receiver.failing:
            log.info("messages_sent_again", receiver=receiver.name, lost=receiver.lost)
        receiver.failing, receiver.lost = False, 0

    async def _try(self, receiver: Receiver, message: Message) -> str | None:
        """None when it was taken, else why not."""
        try:
            with trio.move_on_after(SEND_S):
                await self._send(receiver.sender, message)
                return None
        except NotSent as error:
            return str(error)
        except Exception as error:  # a mistake of ours or of a library is no reason to stop miners
            return f"failed with {type(error).__name__}"
        return f"no answer within {SEND_S:.0f} s"

    async def _in_thread(self, sender: Sender, message: Message) -> None:
        await trio.to_thread.run_sync(sender.send, message, abandon_on_cancel=True, limiter=self._threads)
