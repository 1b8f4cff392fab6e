"""A site as messages see it, a look a minute: what is told of it, on a clock of the test's own."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec

from pool.messages.conditions import START_S, Thresholds, conditions
from pool.messages.edge_conditions import edge_conditions
from pool.messages.look import ContainerLook, Look, NodeLook
from pool.messages.message import Message
from pool.messages.power_conditions import power_conditions
from pool.messages.teller import Event, Memory, Teller

TH = 10**12
NOON_S = 1_790_000_000
REMIND_S = 8 * 3600.0


def container(name: str = "acme.c01", site: str | None = None, **changes: Any) -> ContainerLook:
    """400 machines of 100 TH/s that all mine."""
    whole: dict[str, Any] = {
        "name": name,
        "tenant": name.partition(".")[0],
        "site": site,
        "usual": 400,
        "mining": 400,
        "hashrate_hps": 40_000.0 * TH,
        "rejected_hps": 0.0,
        "nameplate_hps": 40_000.0 * TH,
    }
    return ContainerLook(**whole | changes)


def gone(it: ContainerLook, mining: int = 0) -> ContainerLook:
    return msgspec.structs.replace(it, mining=mining, hashrate_hps=mining * 100.0 * TH)


WELL = Look(
    running_s=START_S,
    job_age_s=10.0,
    containers=(container(),),
    nodes=(NodeLook("first", True, ""),),
    disk_free_bytes=100 << 30,
)


class Watch:
    """Looks at `now`, which tests replace, and keeps what was told: (minute, title)."""

    def __init__(self, now: Look = WELL, limits: Thresholds | None = None) -> None:
        self.now = now
        self.minute = 0
        self.silenced: Collection[str] = ()
        self.messages: list[Message] = []
        self.told: list[tuple[int, str]] = []
        self._limits = limits or Thresholds()
        self._teller = Teller(Memory(), remind_s=REMIND_S)

    @property
    def now_s(self) -> int:
        return NOON_S + 60 * self.minute

    def set(self, **changes: Any) -> None:
        self.now = msgspec.structs.replace(self.now, **changes)

    def change(self, name: str, change: Callable[[ContainerLook], ContainerLook]) -> None:
        self.set(containers=tuple(change(it) if it.name == name else it for it in self.now.containers))

    def restart(self) -> None:
        """As a pool does that reads what it wrote down."""
        kept = msgspec.json.decode(msgspec.json.encode(self._teller.memory), type=Memory)
        self._teller = Teller(kept, remind_s=REMIND_S)

    def look(self, events: Sequence[Event] = ()) -> list[Message]:
        self.minute += 1
        findings = edge_conditions(self.now, self._limits)
        findings += conditions(self.now, self._limits, self._teller.raised)
        findings += power_conditions(self.now, self._teller.raised)
        messages = self._teller.look(findings, events, self.silenced, self.now_s)
        self.messages += messages
        self.told += [(self.minute, it.title) for it in messages]
        return messages

    def looks(self, minutes: int) -> list[str]:
        """The titles of what is told meanwhile."""
        before = len(self.told)
        for _ in range(minutes):
            self.look()
        return [title for _, title in self.told[before:]]
