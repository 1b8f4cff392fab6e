"""What is told, and when: findings in, messages out, once a minute.

    nothing --holds for so many looks--> raised --does not for so many--> nothing

What was told last of a condition is compared with how it is: each difference is a message, and nothing else
is but a reminder. So what is held back (a silence, a bound) is told when it may be, if it is still so, and
what came and went meanwhile is not.

Invariants: a condition costs at most SUBJECT_MESSAGES an hour, and one that says that it comes and goes; all
that one cause can bring about at most its MESSAGES, and one that says that others are held back; several of a
kind in one look are one message, of which NAMED_MAX have their names. What people do is never held back by
what strangers do.

Must not know: what is judged and how, how a message is sent, where the memory is kept.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Final

import msgspec

from pool.messages.conditions import Finding
from pool.messages.kinds import KINDS, Cause
from pool.messages.message import Happened, Message, Severity
from pool.reports.figures import grouped

HOUR_S: Final = 3600
SUBJECT_MESSAGES: Final = 4  # raised, back, raised, back; what goes on so is no news
# In an hour, of each cause. A night shift reads this many; a bad hour of 14 containers has ten, and one site
# has ten where its line comes and goes: three of them do not hide what a fourth sends.
MESSAGES: Final = {Cause.MACHINES: 20, Cause.HOUSE: 20, Cause.EDGES: 40, Cause.PEOPLE: 60}
NAMED_MAX: Final = 5  # in one message: a screen of a phone
# Conditions with a state: every container may have three. Those of a pool with more are not watched.
STATES_MAX: Final = 50_000


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What is over when it is told."""

    kind: str
    subject: str
    name: str
    words: str
    under: tuple[str, ...] = ()


class State(msgspec.Struct):
    """Of one condition. Times in Unix seconds; `looks` in a row say the contrary of `raised`."""

    raised: bool = False
    looks: int = 0
    since_s: int = 0  # raised, or not
    told: bool = False  # what was told last
    told_s: int = 0
    recent_s: list[int] = []  # when messages were sent of it, in the last hour
    restless: bool = False  # it was said that it comes and goes


class Memory(msgspec.Struct):
    """What outlives a restart: else each start told everything again, and nobody heard that it is over."""

    states: dict[str, State] = {}
    recent_s: dict[str, list[int]] = {}  # by cause
    full: list[str] = []  # causes of which it was said that more is held back


class Raised(msgspec.Struct, frozen=True, kw_only=True):
    """A condition that is raised, for lists."""

    kind: str
    subject: str
    since_at_s: int
    told: bool
    words: str


class Teller:
    """Given every look's findings and events."""

    def __init__(self, memory: Memory, *, remind_s: float) -> None:
        self.memory = memory
        self.remind_s = remind_s  # what is in force now
        self._words: dict[str, str] = {}

    @property
    def raised(self) -> Collection[str]:
        """Keys of what is raised."""
        return {key for key, it in self.memory.states.items() if it.raised}

    def all_raised(self) -> list[Raised]:
        """What is wrong now, the latest first."""
        found = [
            Raised(
                kind=key.partition(":")[0],
                subject=key.partition(":")[2],
                since_at_s=it.since_s,
                told=it.told,
                words=self._words.get(key, ""),
            )
            for key, it in self.memory.states.items()
            if it.raised
        ]
        return sorted(found, key=lambda it: (-it.since_at_s, it.kind, it.subject))

    def look(
        self, findings: Sequence[Finding], events: Sequence[Event], silenced: Collection[str], now_s: int
    ) -> list[Message]:
        """What is to be told now. `silenced` are subjects, `all` among them if it is."""
        self._forget_old(now_s)
        judged = {it.key: it for it in findings[:STATES_MAX]}
        self._follow(judged, now_s)
        due: dict[tuple[str, Happened], list[Finding]] = defaultdict(list)
        restless: list[Finding] = []
        for key, finding in judged.items():
            happened = self._due(self.memory.states[key], finding, now_s)
            if happened is None or is_silenced(finding, silenced):
                continue
            state = self.memory.states[key]
            if len(state.recent_s) < SUBJECT_MESSAGES:
                due[finding.kind, happened].append(finding)
            elif not state.restless:
                restless.append(finding)
        messages = self._events(events, silenced, now_s)
        for (kind, happened), of in due.items():
            messages += self._tell(kind, happened, of, now_s)
        for finding in restless:
            messages += self._tell_restless(finding, now_s)
        return messages

    def _follow(self, judged: dict[str, Finding], now_s: int) -> None:
        """Keep states; forget those of what is not there any more."""
        self.memory.states = {key: self.memory.states.get(key) or State() for key in judged}
        self._words = {key: it.words for key, it in judged.items()}
        for key, finding in judged.items():
            state = self.memory.states[key]
            if finding.holds is None:
                continue
            state.looks = 0 if finding.holds is state.raised else state.looks + 1
            if state.looks >= (finding.clear_looks if state.raised else finding.raise_looks):
                state.raised, state.looks, state.since_s = not state.raised, 0, now_s

    def _due(self, state: State, finding: Finding, now_s: int) -> Happened | None:
        if state.raised is not state.told:
            return Happened.RAISED if state.raised else Happened.RECOVERED
        # A clock that went back reminds at once, and not for ever.
        if state.raised and finding.holds and not 0 <= now_s - state.told_s < self.remind_s:
            return Happened.REMINDER
        return None

    def _tell(self, kind: str, happened: Happened, of: list[Finding], now_s: int) -> list[Message]:
        refused = self._refused(kind, now_s)
        if refused is not None:
            return refused
        lines = []
        for it in of:
            state = self.memory.states[it.key]
            since_s = max(0, now_s - state.since_s)
            after = f", for {_duration(since_s)}" if happened is Happened.REMINDER else ""
            lines.append(f"{it.words}{after}")
            state.told, state.told_s = state.raised, now_s
            state.recent_s.append(now_s)
        return [_message(kind, happened, [(it.subject, it.name) for it in of], lines, now_s)]

    def _tell_restless(self, finding: Finding, now_s: int) -> list[Message]:
        refused = self._refused(finding.kind, now_s)
        if refused is not None:
            return refused
        state = self.memory.states[finding.key]
        state.restless, state.told, state.told_s = True, state.raised, now_s
        words = f"{finding.words}. It comes and goes: no more is told of it for up to an hour"
        happened = Happened.RAISED if state.raised else Happened.RECOVERED
        return [_message(finding.kind, happened, [(finding.subject, finding.name)], [words], now_s)]

    def _events(self, events: Iterable[Event], silenced: Collection[str], now_s: int) -> list[Message]:
        kinds: dict[str, list[Event]] = defaultdict(list)
        for event in events:
            if not is_silenced(event, silenced):
                kinds[event.kind].append(event)
        messages: list[Message] = []
        for kind, of in kinds.items():
            refused = self._refused(kind, now_s)
            messages += (
                [
                    _message(
                        kind,
                        Happened.EVENT,
                        [(it.subject, it.name) for it in of],
                        [it.words for it in of],
                        now_s,
                    )
                ]
                if refused is None
                else refused
            )
        return messages

    def _refused(self, kind: str, now_s: int) -> list[Message] | None:
        """None where a message of this kind may go, which is counted; else what is said instead."""
        cause = KINDS[kind].cause
        recent = self.memory.recent_s.setdefault(cause.value, [])
        if len(recent) < MESSAGES[cause]:
            recent.append(now_s)
            return None
        if cause.value in self.memory.full:
            return []
        self.memory.full.append(cause.value)
        return [
            Message(
                kind="held-back",
                happened=Happened.EVENT,
                severity=Severity.CRITICAL,
                subjects=(),
                title=f"messages about {cause.value} are held back",
                text=f"There were {MESSAGES[cause]} in an hour. What is still so is told later;"
                " angara message list has all of it now.",
                at_s=now_s,
            )
        ]

    def _forget_old(self, now_s: int) -> None:
        """What is an hour old, or not yet, since a clock went back."""

        def kept(times: list[int]) -> list[int]:
            return [at_s for at_s in times if 0 <= now_s - at_s < HOUR_S]

        for state in self.memory.states.values():
            state.recent_s = kept(state.recent_s)
            state.restless = state.restless and len(state.recent_s) >= SUBJECT_MESSAGES
        self.memory.recent_s = {cause: kept(times) for cause, times in self.memory.recent_s.items()}
        self.memory.full = [
            it for it in self.memory.full if len(self.memory.recent_s.get(it, ())) >= MESSAGES[Cause(it)]
        ]


def is_silenced(it: Finding | Event, silenced: Collection[str]) -> bool:
    """Itself, by what it is under, or with everything."""
    names = {it.subject, *it.under, "all"}
    return KINDS[it.kind].silenceable and not names.isdisjoint(silenced)


def _message(
    kind: str, happened: Happened, of: list[tuple[str, str]], lines: list[str], now_s: int
) -> Message:
    more = len(of) - NAMED_MAX
    shown = lines[:NAMED_MAX] + ([f"and {grouped(more)} more"] if more > 0 else [])
    return Message(
        kind=kind,
        happened=happened,
        severity=KINDS[kind].severity,
        subjects=tuple(subject for subject, _ in of[:NAMED_MAX]),
        title=KINDS[kind].title(happened, [name for _, name in of]),
        text="\n".join(shown),
        at_s=now_s,
    )


def _duration(seconds: int) -> str:
    minutes = seconds // 60
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 2880 else f"{minutes // 1440} d"
