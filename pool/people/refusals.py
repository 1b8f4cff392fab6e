"""Who was not let in, counted: by what he showed, and by where from. What is worth a row comes out in time.

A stranger chooses how often he tries and from how many addresses, so neither is what rows are made of. A
source is told of as soon as it is no mistake, and from then on once an hour as long as it goes on; so many at
a time, and all others together once an hour. What only some can do (show a token that once was right, have an
account on the host) is counted for itself: whoever guesses crowds it out of no row.

Invariants: memory is bounded, and so are the rows of a day, at any rate of tries; every try is in one row; of
what was shown nothing is kept but the number of a token that there is. No I/O, and no clock of its own.
Threads may share it.
"""

import threading
from enum import StrEnum
from typing import Final

import msgspec

HOUR_S: Final = 3600.0
SOURCES_TOLD_MAX: Final = 8  # at a time, of a kind: more is an attack, which the sum of all others says
SOURCES_KEPT_MAX: Final = 1_024  # of a kind: half a kilobyte each
TOKENS_KEPT_MAX: Final = 8  # of a source: who tries more of them tries all


class Refused(StrEnum):
    """Why; named as commands are, since rows of changes are made of it."""

    GUESSED = "token.guessed"  # what was shown is no token's secret
    ENDED = "token.ended"  # it is one's that has ended, or whose user may not come in
    ACCOUNT = "account.refused"  # an account of the host that is no user's, at the socket


# From which try on a source is told of for itself: people paste wrong, and nothing else happens by mistake.
TOLD_AT: Final = {Refused.GUESSED: 5, Refused.ENDED: 1, Refused.ACCOUNT: 1}
# 648: at the worst a book grows by a third of a megabyte a day, and its audit by some 30 ms.
ROWS_A_DAY_MAX: Final = 24 * len(Refused) * (SOURCES_TOLD_MAX + 1)


class Tried(msgspec.Struct):
    """What is not told yet, of one source or of all others. Tokens by number; None: it is none of ours."""

    since_s: float
    tries: int = 0
    tokens: dict[int | None, int] = {}
    more_tokens: int = 0  # tries of those beyond TOKENS_KEPT_MAX
    sources: int = 0  # that are in it, where it is of all others
    told_s: float | None = None

    def count(self, number: int | None, tries: int) -> None:
        self.tries += tries
        if number in self.tokens or len(self.tokens) < TOKENS_KEPT_MAX:
            self.tokens[number] = self.tokens.get(number, 0) + tries
        else:
            self.more_tokens += tries


class RefusalRow(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be written down. `source` is None for all others together."""

    refused: Refused
    source: str | None
    sources: int
    tries: int
    over_s: int
    tokens: dict[int | None, int]
    more_tokens: int


class Refusals:
    """Of one running pool, whose clock gives `now_s`: seconds that never step back."""

    def __init__(self, now_s: float) -> None:
        self._lock = threading.Lock()
        self._of = {refused: _Sources(refused, now_s) for refused in Refused}

    def count(self, now_s: float, refused: Refused, source: str, number: int | None = None) -> None:
        """One more try. `number` is that of a token that there is."""
        with self._lock:
            self._of[refused].count(now_s, source, number)

    def counted(self, refused: Refused) -> int:
        """How often that was since the start."""
        return self._of[refused].counted

    def take(self, now_s: float, *, last: bool = False) -> list[RefusalRow]:
        """The rows that are due, each once; with `last` all that is not told yet."""
        with self._lock:
            return [row for it in self._of.values() for row in it.take(now_s, last=last)]


class _Sources:
    """Of one kind."""

    def __init__(self, refused: Refused, now_s: float) -> None:
        self.counted = 0
        self._refused = refused
        self._tried: dict[str, Tried] = {}
        self._others = Tried(now_s)
        self._hour_s = now_s  # since when all others are summed up

    def count(self, now_s: float, source: str, number: int | None) -> None:
        self.counted += 1
        tried = self._tried.get(source)
        if tried is None:
            if len(self._tried) >= SOURCES_KEPT_MAX:
                self._sum_up(next(name for name, it in self._tried.items() if it.told_s is None))
            tried = self._tried[source] = Tried(now_s)
        if not tried.tries:
            tried.since_s = now_s
        tried.count(number, 1)

    def take(self, now_s: float, *, last: bool) -> list[RefusalRow]:
        rows = []
        for source, it in list(self._tried.items()):
            if it.told_s is not None and (last or now_s - it.told_s >= HOUR_S):
                del self._tried[source]  # its place is another's, if it was quiet
                if it.tries:
                    rows.append(self._row(now_s, source, it))
                    self._tried[source] = Tried(now_s, told_s=now_s)
        free = SOURCES_TOLD_MAX - sum(it.told_s is not None for it in self._tried.values())
        due = [name for name, it in self._tried.items() if it.told_s is None and it.tries >= self._told_at]
        for source in due[:free]:
            rows.append(self._row(now_s, source, self._tried[source]))
            self._tried[source] = Tried(now_s, told_s=now_s)
        if last or now_s - self._hour_s >= HOUR_S:
            self._hour_s = now_s
            for source in [name for name, it in self._tried.items() if it.told_s is None]:
                self._sum_up(source)
            if self._others.tries:
                rows.append(self._row(now_s, None, self._others))
            self._others = Tried(now_s)
        return rows

    @property
    def _told_at(self) -> int:
        return TOLD_AT[self._refused]

    def _sum_up(self, source: str) -> None:
        """It is one of the others."""
        it, others = self._tried.pop(source), self._others
        others.since_s = min(others.since_s, it.since_s) if others.tries else it.since_s
        others.sources += 1
        others.more_tokens += it.more_tokens
        others.tries += it.more_tokens
        for number, tries in it.tokens.items():
            others.count(number, tries)

    def _row(self, now_s: float, source: str | None, it: Tried) -> RefusalRow:
        return RefusalRow(
            refused=self._refused,
            source=source,
            sources=it.sources if source is None else 1,
            tries=it.tries,
            over_s=round(now_s - it.since_s),
            tokens=it.tokens,
            more_tokens=it.more_tokens,
        )
