"""Who shows a token, in the one place that decides it.

In two steps. `recognised` takes what was shown: a hash and a look into memory, so that a wrong one costs
neither the database nor a thread, at whatever rate it comes. `caller` asks the books who that is at this
moment, for a token that is right: its user may have another role since, or be suspended.

Who shows the right token never waits for who guesses, not even at one address. What is wrong is answered in
the same words whatever is wrong with it, and counted (`pool.people.refusals`).

Invariants: hashes are compared in a time that says nothing of them; a token may never more than its scope,
nor more than its user may now. Must not know: HTTP, sockets.
"""

import hmac
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final, Protocol

from sqlalchemy import Connection

from pool.people.refusals import Refusals, Refused
from pool.people.roles import Caller, NotPermitted, Role
from pool.people.tokens import digest_of, digests, note_use, number_of, valid_token
from pool.people.wrong_tokens import WrongTokens
from stratum.miners.turns.connection_limits import source_of

USE_NOTED_S: Final = 60  # a use is written down at most once in this time: it is a commit of the books
LOOKED_UP_S: Final = (
    5.0  # one that let nobody in is not looked up again before: it would be a thread each time
)
TOKEN_CHARS_MAX: Final = 128  # longer is none, and is not hashed
NONE: Final = "0" * 64
WRONG: Final = "the token is wrong, or has ended"


class Books(Protocol):
    """As pool.books.store.Store."""

    def read(self) -> AbstractContextManager[Connection]: ...

    def write(self) -> AbstractContextManager[Connection]: ...


class WrongToken(NotPermitted):
    """Somebody is not let in; `wait_s` is how long he is to leave it."""

    def __init__(self, wait_s: float = 0.0) -> None:
        super().__init__(WRONG)
        self.wait_s = wait_s


class Authentication:
    """Of one running pool. `wall_clock` and `clock` give seconds; the second never steps back, and is that of
    the refusals."""

    def __init__(
        self,
        books: Books,
        refusals: Refusals,
        *,
        wall_clock: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        self._books, self._refusals = books, refusals
        self._wall_clock = wall_clock
        self._clock = clock
        self._wrong = WrongTokens()
        self._digests: dict[int, str] = {}
        self._ended: dict[int, float] = {}  # when they were looked up, by number

    def load(self) -> None:
        """Learn which tokens there are: at the start, and when one was made or revoked. Blocks."""
        with self._books.read() as connection:
            self._digests = digests(connection, int(self._wall_clock()))

    def recognised(self, address: str, token: str) -> int:
        """The number of the token that this is; it is right, but may have ended. Never waits for anything.
        Raises WrongToken."""
        number = number_of(token) if len(token) <= TOKEN_CHARS_MAX else None
        known = NONE if number is None else self._digests.get(number, NONE)
        if number is not None and hmac.compare_digest(digest_of(token), known):
            self.check_ended(address, number)
            return number
        raise self.guessed(address, None if known is NONE else number)

    def guessed(self, address: str, number: int | None = None) -> WrongToken:
        """Count that something wrong was shown, a token or what stands for one, and say how long whoever does
        that is to leave it. `number`: of the token that he may be after."""
        now_s, source = self._clock(), source_of(address)
        keys = (source,) if number is None else (source, number)
        self._refusals.count(now_s, Refused.GUESSED, source, number)
        wait_s = self._wrong.wait_s(now_s, *keys)
        if wait_s == 0.0:
            self._wrong.count(now_s, *keys)
            wait_s = self._wrong.wait_s(now_s, *keys)
        return WrongToken(wait_s)

    def check_ended(self, address: str, number: int) -> None:
        """Raises WrongToken where the books said a moment ago that the token of this number has ended."""
        now_s = self._clock()
        if now_s - self._ended.get(number, -LOOKED_UP_S) < LOOKED_UP_S:
            self._refusals.count(now_s, Refused.ENDED, source_of(address), number)
            raise WrongToken

    def caller(self, number: int, address: str) -> Caller:
        """Who that is. Blocks: call it from a worker thread. Raises WrongToken too."""
        try:
            return _caller(self._books, number, int(self._wall_clock()), address)
        except WrongToken:
            self._ended[number] = self._clock()  # of the digests: no more than those
            self._refusals.count(self._clock(), Refused.ENDED, source_of(address), number)
            raise


def caller_of_token(books: Books, token: str, now_s: int, where: str) -> Caller:
    """Who shows a token on the pool's host, where no guess is counted: whoever comes that far is known by his
    account, and asks the books each time. Blocks. Raises WrongToken."""
    number = number_of(token) if len(token) <= TOKEN_CHARS_MAX else None
    with books.read() as connection:
        known = NONE if number is None else digests(connection, now_s).get(number, NONE)
    if number is None or not hmac.compare_digest(digest_of(token), known):
        raise WrongToken
    return _caller(books, number, now_s, where)


def _caller(books: Books, number: int, now_s: int, where: str) -> Caller:
    with books.read() as connection:
        valid = valid_token(connection, number, now_s)
    # Metrics have every tenant's business in them, and its user may be a tenant's since.
    if valid is None or (valid.scope, valid.role) == (Role.METRICS, Role.TENANT):
        raise WrongToken
    if valid.last_used_at_s is None or now_s - valid.last_used_at_s >= USE_NOTED_S:
        with books.write() as connection:
            note_use(connection, number, now_s)
    role = min(Role(valid.scope), Role(valid.role), key=lambda it: it.rank)
    return Caller(
        name=valid.user,
        source=f"token {number} from {where}",
        role=role,
        tenant=valid.tenant,
        user_id=valid.user_id,
        token=number,
        expires_at_s=valid.expires_at_s,
    )
