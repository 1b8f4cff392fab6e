"""Sessions of browsers: who has shown a token on the page is known by a cookie until he leaves.

A session is 256 random bits, and is looked up by their hash: how long that takes says nothing of them. It is
in memory alone, so a restart ends them all, and so does a stop. It stands for the token it began with, and
may what that may at that moment: who asks is looked up in the books as if it had shown the token itself.

Invariants: sessions are bounded, in all and of one user; who begins many ends his own. One ends with its
token, after LIFE_S, and after IDLE_S without a request. Must not know: HTTP, and what a token may.
"""

import hashlib
import secrets
from collections import Counter
from collections.abc import Callable
from typing import Final

import msgspec

from pool.people.authentication import WrongToken
from pool.people.roles import Caller

SECRET_BYTES: Final = 32
LIFE_S: Final = 12 * 3600  # a shift
IDLE_S: Final = 3600  # a page that is open asks every few minutes
SESSIONS_MAX: Final = 1_024  # each some 300 bytes
SESSIONS_OF_USER_MAX: Final = 16  # a desk, a phone, a wall, and those that nobody logged out of


class Session(msgspec.Struct):
    """Of one browser."""

    token: int
    user_id: int
    began_s: float
    used_s: float


class Sessions:
    """Of one running pool. `clock` gives seconds, and never steps back."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._sessions: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def begin(self, caller: Caller) -> str:
        """The secret of a new one, of who has shown a token."""
        assert caller.token is not None
        assert caller.user_id is not None
        now_s = self._clock()
        self._make_room(caller.user_id, now_s)
        secret = secrets.token_urlsafe(SECRET_BYTES)
        self._sessions[_digest(secret)] = Session(caller.token, caller.user_id, now_s, now_s)
        return secret

    def token_of(self, secret: str) -> int:
        """The number of the token that it began with. Raises WrongToken: it is none, or over."""
        now_s, session = self._clock(), self._sessions.get(_digest(secret))
        if session is None or _over(session, now_s):
            raise WrongToken
        session.used_s = now_s
        return session.token

    def left_s(self, secret: str) -> float:
        """For how long it goes on, if it is used. Raises WrongToken."""
        self.token_of(secret)
        return self._sessions[_digest(secret)].began_s + LIFE_S - self._clock()

    def end(self, secret: str) -> None:
        """From now on it is nobody's."""
        self._sessions.pop(_digest(secret), None)

    def _make_room(self, user_id: int, now_s: float) -> None:
        for digest in [key for key, it in self._sessions.items() if _over(it, now_s)]:
            del self._sessions[digest]
        counts = Counter(it.user_id for it in self._sessions.values())
        if counts[user_id] >= SESSIONS_OF_USER_MAX:
            self._end_quietest(user_id)
        elif len(self._sessions) >= SESSIONS_MAX:
            self._end_quietest(counts.most_common(1)[0][0])

    def _end_quietest(self, user_id: int) -> None:
        of_user = [key for key, it in self._sessions.items() if it.user_id == user_id]
        del self._sessions[min(of_user, key=lambda key: self._sessions[key].used_s)]


def _over(session: Session, now_s: float) -> bool:
    return now_s - session.began_s >= LIFE_S or now_s - session.used_s >= IDLE_S


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
