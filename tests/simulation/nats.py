"""NATS servers that lose what they are given: at once, later, or all of it.

What an edge and a hub say of NATS is production code down to `pool.sites.nats.connection.Connection`, of
which `LineToForgetfulNats` is one without a thread and a socket. Behind it is `NatsThatForgets`: messages
come late, and with it out of order; in bad `weather` twice, or not at all. A client is cut off and told so,
or it is not; two clients are kept apart while both are connected; JetStream forgets what it has, with stream
and consumer.

What a server does that is not broken is as NATS 2.15 does it: whom it says that nobody listens, that a pull
is over, and what is delivered again where nobody has acknowledged it.

Must not know: what is said.
"""

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, Final, cast

import msgspec
import trio

from pool.sites.nats.client import Access, ConnectionState, Inflow, Message, NatsAway
from pool.sites.nats.connection import (
    WAITING_BYTES_MAX,
    WAITING_MESSAGES_MAX,
    Connection,
    Subscribed,
)
from tests.simulation.dice import Dice
from tests.simulation.network import Network
from tests.simulation.process import PROCESS, Killed, Process

DELAY_S: Final = (0.002, 0.05)  # by a line that is well
CONNECT_S: Final = (0.05, 1.0)
LATE_S: Final = (0.2, 6.0)  # in bad weather
SILENT_S: Final = 8.0  # until a line that was cut and says nothing is given up
ACK_WAIT_S: Final = 12.0  # a fifth of what a hub asks for
DELIVERIES_MAX: Final = 5
PAYLOAD_BYTES_MAX: Final = 8 << 20
NO_STREAM: Final = {"error": {"err_code": 10059, "description": "stream not found"}}
NO_CONSUMER: Final = {"error": {"err_code": 10014, "description": "consumer not found"}}
DONE: Final[dict[str, Any]] = {"config": {}}
API: Final = "$JS.API."
ACK: Final = "$JS.ACK."

AT_ONCE: Final = cast(
    trio.lowlevel.TrioToken, SimpleNamespace(run_sync_soon=lambda work, *, idempotent=False: work())
)  # whoever delivers is no other thread


class Weather(msgspec.Struct):
    """Chances of each message: to be lost, to come twice, to come late."""

    loses: float = 0.0
    repeats: float = 0.0
    delays: float = 0.0


class _Stored(msgspec.Struct):
    """In the stream, for the hub's consumer of its edge."""

    subject: str
    data: bytes
    number: int
    at_ns: int
    deliveries: int = 0
    due_s: float = 0.0  # when it is delivered again
    acknowledged: bool = False


class _Pull(msgspec.Struct):
    """A hub's question for messages of an edge."""

    by: "LineToForgetfulNats"
    edge: str
    reply: str
    left: int
    until_s: float


class Sent(msgspec.Struct, frozen=True):
    """A message of a journal that a server has read."""

    at_s: float
    data: bytes


class NatsThatForgets:
    """All servers as one. `sent` is what came of each edge's journal, whatever became of it."""

    def __init__(self, network: Network, chance: Dice) -> None:
        self.weather = Weather()
        self.up = True
        self.stores = True  # else their disk was full once: until they are started anew nothing is stored
        self.sent: dict[str, list[Sent]] = {}
        self.apart: set[frozenset[str]] = set()  # hosts that hear nothing of each other
        self.cut_off: set[str] = set()  # hosts that reach no server, and are told so
        self.silent: set[str] = set()  # and those who are not told
        self._held_back: dict[LineToForgetfulNats, list[Callable[[], None]]] = {}
        self._network, self._chance = network, chance
        self._clients: list[LineToForgetfulNats] = []
        self._stream: list[_Stored] = []
        self._there = False  # the stream
        self._consumers: set[str] = set()  # by edge
        self._stored = 0
        self._pulls: list[_Pull] = []

    # Clients

    def join(self, client: "LineToForgetfulNats") -> None:
        self._clients.append(client)

    def leave(self, client: "LineToForgetfulNats") -> None:
        self._clients.remove(client)

    def reaches(self, host: str) -> bool:
        return self.up and host not in self.cut_off and host not in self.silent

    def cut(self, *hosts: str) -> None:
        """Their connections, all of them by default; they come back by themselves where they can."""
        for client in self._clients:
            if not hosts or client.host in hosts:
                client.lose()

    def hold_back(self, host: str) -> Callable[[], None]:
        """What its process of now publishes of a journal is on its way until what is given back is called."""
        held = {it: list[Callable[[], None]]() for it in self._clients if it.host == host}
        self._held_back |= held

        def release() -> None:
            for client, messages in held.items():
                self._held_back.pop(client, None)
                while messages:
                    messages.pop(0)()

        return release

    def forget(self) -> None:
        """All stores are empty, of servers that are started anew."""
        self._stream, self._there, self._pulls = [], False, []
        self.stores = True
        self._consumers.clear()
        self.cut()

    # Messages

    def take(self, client: "LineToForgetfulNats", subject: str, data: bytes, reply: str) -> None:
        """Read by a server some time after it was given to it."""
        self._some_time_later(lambda: self._read(client, subject, data, reply), client.host)

    def _some_time_later(self, act: Callable[[], None], host: str) -> None:
        weather, chance = self.weather, self._chance
        if host in self.silent or chance.random() < weather.loses:
            return
        for _ in range(2 if chance.random() < weather.repeats else 1):
            late_s = chance.uniform(*LATE_S) if chance.random() < weather.delays else 0.0
            self._network.after(chance.uniform(*DELAY_S) + late_s, act)

    def _read(self, client: "LineToForgetfulNats", subject: str, data: bytes, reply: str) -> None:
        if not self.up:
            return
        if subject.startswith(API):
            self._ask(client, subject.removeprefix(API), data, reply)
        elif subject.startswith(ACK):
            self._acknowledge(int(subject.split(".")[5]))
        elif subject.startswith("angara.journal."):
            held = self._held_back.get(client)
            if held is None:
                self._store(subject, data)
            else:
                held.append(lambda: self._store(subject, data))
        else:
            self._hand_on(client, subject, data, reply)

    def _hand_on(self, client: "LineToForgetfulNats", subject: str, data: bytes, reply: str) -> None:
        heard = False
        for other in self._clients:
            if frozenset((client.host, other.host)) not in self.apart and other.listens(subject):
                heard = True
                self._deliver(other, Message(subject, data, reply))
        if not heard and reply:
            self._deliver(client, Message(reply, b"", "", "503"))

    def _deliver(self, client: "LineToForgetfulNats", message: Message, at: str = "") -> None:
        """To who listens at its subject, or at another one."""
        self._some_time_later(lambda: client.hear(message, at or message.subject), client.host)

    # JetStream

    def _ask(self, client: "LineToForgetfulNats", method: str, data: bytes, reply: str) -> None:
        verb, _, name = method.rpartition(".hub-")
        if verb.startswith("CONSUMER.MSG.NEXT."):
            self._pull(client, name, json.loads(data), reply)
            return
        if method.startswith("STREAM.CREATE."):
            self._there = True
        answer = DONE if self._there else NO_STREAM
        if verb.startswith("CONSUMER.CREATE.") and self._there:
            self._consumers.add(name)
        elif method.startswith("CONSUMER.") and self._there and name not in self._consumers:
            answer = NO_CONSUMER
        self._deliver(client, Message(reply, json.dumps(answer).encode()))

    def _store(self, subject: str, data: bytes) -> None:
        edge = subject.removeprefix("angara.journal.")
        self.sent.setdefault(edge, []).append(Sent(trio.current_time(), data))
        if self._there and self.stores:
            self._stored += 1
            self._stream.append(_Stored(subject, data, self._stored, int(time.time() * 10**9)))
            self._serve()

    def _pull(self, client: "LineToForgetfulNats", edge: str, asked: dict[str, Any], reply: str) -> None:
        if edge not in self._consumers:
            self._deliver(client, Message(reply, b"", "", "503"))
            return
        until_s = trio.current_time() + asked["expires"] / 10**9
        pull = _Pull(client, edge, reply, asked["batch"], until_s)
        self._pulls.append(pull)
        self._network.at(until_s, lambda: self._over(pull))
        self._serve()

    def _over(self, pull: _Pull) -> None:
        if pull in self._pulls:
            self._pulls.remove(pull)
            self._deliver(pull.by, Message(pull.reply, b"", "", "408"))

    def _serve(self) -> None:
        """Give those who have asked for messages what there is."""
        now_s = trio.current_time()
        for it in [it for it in self._stream if it.due_s <= now_s]:
            edge = it.subject.removeprefix("angara.journal.")
            pull = next((at for at in self._pulls if at.edge == edge and at.by.state.connected), None)
            if pull is None:
                continue
            it.deliveries, it.due_s = it.deliveries + 1, now_s + ACK_WAIT_S
            if it.deliveries == DELIVERIES_MAX:
                self._stream.remove(it)
            else:
                self._network.at(it.due_s, self._serve)
            pull.left -= 1
            if not pull.left:
                self._pulls.remove(pull)
            reply = f"{ACK}ANGARA_JOURNAL.hub-{edge}.{it.deliveries}.{it.number}.{it.number}.{it.at_ns}.0"
            self._deliver(pull.by, Message(it.subject, it.data, reply), pull.reply)

    def _acknowledge(self, number: int) -> None:
        self._stream = [it for it in self._stream if it.number != number]


class LineToForgetfulNats(Connection):
    """As production's, of one process on `host`."""

    def __init__(self, access: Access, nats: NatsThatForgets, host: str, chance: Dice) -> None:
        self.host = host
        self._nats, self._chance = nats, chance
        self._process: Process | None = PROCESS.get()
        self._now = ConnectionState()
        self._news = trio.Event()
        self._lost = trio.Event()
        self._inflows: list[Inflow] = []

    @property
    def state(self) -> ConnectionState:
        return self._now

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self._nats.join(self)
        try:
            task_status.started()
            while True:
                await trio.sleep(self._chance.uniform(*CONNECT_S))
                if self._nats.reaches(self.host):
                    self._lost = trio.Event()
                    self._change(connected=True, connections=self.state.connections + 1, error="")
                    await self._until_lost()
        finally:
            self._nats.leave(self)
            self._now = msgspec.structs.replace(self._now, connected=False)

    async def _until_lost(self) -> None:
        while not self._lost.is_set():
            with trio.move_on_after(SILENT_S):
                await self._lost.wait()
            if not self._nats.reaches(self.host):
                self.lose()

    def lose(self) -> None:
        """The connection, if there is one."""
        self._lost.set()
        if self._now.connected:
            self._change(connected=False, error="the connection was lost")

    def _change(self, **news: Any) -> None:
        self._now = msgspec.structs.replace(self._now, payload_bytes_max=PAYLOAD_BYTES_MAX, **news)
        self._tell()

    def listens(self, subject: str) -> bool:
        return self._heard and any(_meant(it.subject, subject) for it in self._inflows)

    def hear(self, message: Message, subject: str) -> None:
        for inflow in self._inflows if self._heard else ():
            if _meant(inflow.subject, subject):
                inflow.put(message)

    @property
    def _heard(self) -> bool:
        return self._now.connected and (self._process is None or self._process.alive)

    async def publish(self, subject: str, data: bytes, *, reply: str = "") -> None:
        await trio.lowlevel.checkpoint()
        self._check()
        self._nats.take(self, subject, data, reply)

    async def flushed(self) -> None:
        self._check()
        with trio.move_on_after(self._chance.uniform(*DELAY_S) + DELAY_S[1]):
            await self._lost.wait()
        if self.host in self._nats.silent:
            await self._lost.wait()
        self._check()

    def _check(self) -> None:
        """Raises NatsAway."""
        if self._process is not None and not self._process.alive:
            raise Killed(self._process.name)
        if not self._now.connected:
            raise NatsAway(self._now.error or "no NATS server is connected yet")

    @asynccontextmanager
    async def subscribed(
        self,
        subject: str,
        *,
        messages_max: int = WAITING_MESSAGES_MAX,
        bytes_max: int = WAITING_BYTES_MAX,
        bounded: bool = False,
    ) -> AsyncIterator[Subscribed]:
        it = Subscribed(subject, messages_max, bytes_max, AT_ONCE)
        self._inflows.append(it.inflow)
        try:
            yield it
        finally:
            self._inflows.remove(it.inflow)


def _meant(pattern: str, subject: str) -> bool:
    wanted, found = pattern.split("."), subject.split(".")
    return len(wanted) == len(found) and all(it in ("*", is_) for it, is_ in zip(wanted, found, strict=True))
