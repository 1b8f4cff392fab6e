"""Which of many sockets are ready: epoll, or whatever `selectors` has where there is no epoll.

`selectors.DefaultSelector` builds a key for every ready socket, even for those that a bounded round has to
leave for the next one; with thousands of ready miners that costs more than reading them. The kernel bounds
the round instead, and rotates, so that nobody is left behind.
"""

import select
import selectors
from typing import Any, NamedTuple, Protocol

from stratum._engine import Engine

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE


class Round(NamedTuple):
    """Ready sockets, as data and READ | WRITE; errors are READ. And of what the engine has read by itself:
    lines that are no submits, and who has ended, why, and with what mistake of ours if it was one."""

    ready: list[tuple[Any, int]]
    lines: list[tuple[Any, bytes]]
    ends: list[tuple[Any, str, str]]


class Poller(Protocol):
    """Sockets and what each stands for. Level-triggered."""

    def fileno(self) -> int:
        """A descriptor that is readable when any socket is ready."""

    def register(self, descriptor: int, data: Any) -> None:
        """Watch for READ."""

    def modify(self, descriptor: int, events: int, data: Any) -> None:
        """Watch for these instead; for none, only errors may still be told."""

    def unregister(self, descriptor: int) -> None: ...

    def poll(self, events_max: int) -> Round:
        """What is ready, without waiting.

        At most events_max where the kernel rotates: to cut its list here would always cut off the same ones.
        """

    def close(self) -> None: ...


if hasattr(select, "epoll"):

    class EpollPoller:
        """Linux. The engine reads what it has wires for."""

        def __init__(self, engine: Engine) -> None:
            self._read = engine.read
            self._epoll = select.epoll()
            self._data: list[Any] = []  # by descriptor
            self.fileno = self._epoll.fileno
            self.close = self._epoll.close

        def register(self, descriptor: int, data: Any) -> None:
            self._epoll.register(descriptor, select.EPOLLIN)
            self._data.extend([None] * (descriptor + 1 - len(self._data)))
            self._data[descriptor] = data

        def modify(self, descriptor: int, events: int, data: Any) -> None:
            mask = select.EPOLLIN if events & READ else 0
            self._epoll.modify(descriptor, mask | (select.EPOLLOUT if events & WRITE else 0))

        def unregister(self, descriptor: int) -> None:
            self._epoll.unregister(descriptor)
            self._data[descriptor] = None

        def poll(self, events_max: int) -> Round:
            ready, lines, ends = self._read(self._epoll.fileno(), events_max)
            data = self._data
            return Round([(data[descriptor], _events(mask)) for descriptor, mask in ready], lines, ends)


def _events(mask: int) -> int:
    return (READ if mask & ~select.EPOLLOUT else 0) | (WRITE if mask & select.EPOLLOUT else 0)


class SelectorPoller:
    """kqueue and others."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self.fileno = self._selector.fileno
        self.close = self._selector.close

    def register(self, descriptor: int, data: Any) -> None:
        self._selector.register(descriptor, READ, data)

    def modify(self, descriptor: int, events: int, data: Any) -> None:
        if descriptor not in self._selector.get_map():
            self._selector.register(descriptor, events, data)
        elif events:
            self._selector.modify(descriptor, events, data)
        else:
            self._selector.unregister(descriptor)

    def unregister(self, descriptor: int) -> None:
        if descriptor in self._selector.get_map():
            self._selector.unregister(descriptor)

    def poll(self, events_max: int) -> Round:
        return Round([(key.data, events) for key, events in self._selector.select(0)], [], [])


def new_poller(engine: Engine) -> Poller:
    return EpollPoller(engine) if hasattr(select, "epoll") else SelectorPoller()
