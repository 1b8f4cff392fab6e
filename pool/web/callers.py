"""Who the tokens' users are at this moment, for what is asked often: the books are asked now and then.

Whoever looks at live figures asks every few seconds, with a hundred others, and wants to see them above all
while the database is away. So what the books said of a token holds for a while; and while they say nothing
for longer, since nothing can be revoked in them meanwhile.

Invariants: what the books say last counts; as many are remembered as there may be tokens; few threads wait
for a database. Must not know: what is asked, and what a role may.
"""

from typing import Final

import msgspec
import trio

from pool.books.store import DATABASE_ERRORS
from pool.people.authentication import Authentication, WrongToken
from pool.people.roles import Caller
from pool.people.tokens import TOKENS_MAX

HOLDS_S: Final = 10.0  # within which whoever is suspended sees no more
AWAY_S: Final = 900.0  # without the books: a token may have ended since, which they would know
THREADS_MAX: Final = 2


class _Known(msgspec.Struct, frozen=True):
    caller: Caller
    asked_s: float


class Callers:
    """Of one running pool."""

    def __init__(self, authentication: Authentication) -> None:
        self._authentication = authentication
        self._known: dict[tuple[int, str], _Known] = {}
        self._threads = trio.CapacityLimiter(THREADS_MAX)

    async def who(self, token: int, address: str, *, holds_s: float = HOLDS_S) -> Caller:
        """Whose token that is. Raises WrongToken, and DATABASE_ERRORS where the books never said."""
        key = token, address
        known = self._known.get(key)
        if known is not None and trio.current_time() - known.asked_s < holds_s:
            return known.caller
        asked_s = trio.current_time()
        try:
            caller = await trio.to_thread.run_sync(
                self._authentication.caller, token, address, limiter=self._threads
            )
        except WrongToken:
            self._known.pop(key, None)
            raise
        except DATABASE_ERRORS:
            if known is None or trio.current_time() - known.asked_s >= AWAY_S:
                raise
            return known.caller
        self._known.pop(key, None)
        if len(self._known) >= TOKENS_MAX:
            del self._known[next(iter(self._known))]
        self._known[key] = _Known(caller, asked_s)
        return caller
