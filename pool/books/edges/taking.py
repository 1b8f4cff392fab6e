"""The books take an edge's journal: one that they cannot take holds up that edge, and nobody else.

Whatever is wrong with what an edge sent is that edge's: it is held, in the books and in words, until somebody
has looked. What is the database's own is raised, as for every journal, and tried again.

Blocks. Must not know: how frames come.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Final

import structlog
from sqlalchemy.exc import DataError, IntegrityError, InterfaceError, ProgrammingError, SQLAlchemyError

from pool.books.edges.limits import EdgeLimits
from pool.books.edges.prices import NotYet
from pool.books.edges.rows import hold_edge
from pool.books.journal.taker import Taken, Taker
from pool.books.lease import LeaseHeld, LeaseLost
from pool.books.store import Store, words_of
from pool.journal.inbox import Inbox
from pool.journal.segments import Walk

log = structlog.get_logger()

WORDS_CHARS_MAX: Final = 1_000
# What a database says of values that it does not take: they came from the edge.
OF_VALUES: Final = (DataError, IntegrityError, InterfaceError, ProgrammingError)
# What it says of a table or a column that is not there, and of one that we may not write: whoever put the
# books back, or upgraded them, did that.
OF_TABLES: Final = frozenset({"42P01", "42703", "42501"})
OURS: Final = ("pool.", "payouts.", "stratum.")  # whose exceptions say what an operator has to know
TOO_MUCH: Final = "54"  # of PostgreSQL: a value that is too long for an index, which is no error of values


class EdgeTaker(Taker):
    """`wrong` is why it takes nothing more: another one begins again from where the books are."""

    def __init__(
        self,
        store: Store,
        inbox: Inbox,
        limits: EdgeLimits,
        *,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(store, inbox.writer, partial(Walk, inbox.directory, inbox.writer), limits)
        self._inbox, self.limits, self._wall_clock = inbox, limits, wall_clock
        self.wrong: str | None = None
        self.waits: str | None = None  # what came is not to be taken yet
        self._told = False

    def step(self, until: int | None = None, *, whole: bool = False) -> Taken | None:
        """None too where it is held, or has to wait."""
        if self.wrong is None:
            try:
                self._check_rest_is_here()
                until = self.limits.until(self.position.at.number, until)
                taken = super().step(until, whole=whole)
                self.waits = None
                return taken
            except (NotYet, OSError) as error:
                if self.waits is None:
                    log.warning("edge_waits", writer=self._inbox.writer, reason=str(error))
                self.waits = str(error)
                return None
            except Exception as error:
                ours = isinstance(error, LeaseHeld | LeaseLost)
                if ours or (isinstance(error, SQLAlchemyError) and not _is_of_values(error)):
                    raise
                self.wrong = self._why(error)[:WORDS_CHARS_MAX]
                log.error("edge_held", writer=self._inbox.writer, reason=self.wrong)
        self._hold()
        return None

    def _check_rest_is_here(self) -> None:
        """Of what the books have a part of: a hub that takes over has no copies, and it comes again. Raises
        NotYet."""
        have = self._inbox.have.number
        if self.under_way and have < self.position.until:
            raise NotYet(
                f"the books have a part of what is up to record {self.position.until}, and it is here up to"
                f" record {have}: the edge sends it again"
            )

    def _why(self, error: Exception) -> str:
        """In words for an operator, whoever stumbled over it."""
        words, behind = words_of(error), f"behind record {self.position.at.number} of the journal"
        if isinstance(error, SQLAlchemyError):
            return f"the database does not take what is {behind}: {words}"
        if type(error).__module__.startswith(OURS):
            return words
        log.error("journal_not_read", writer=self._inbox.writer, exc_info=True)
        return f"what is {behind} is nothing that Angara has written: {words or type(error).__name__}"

    def _hold(self) -> None:
        """Once; where the database is away, again at the next step."""
        if self._told or self.wrong is None:
            return
        self._inbox.hold(self.wrong)
        with self._store.write() as connection:
            hold_edge(connection, self._inbox.writer, self.wrong, int(self._wall_clock()))
        self._told = True


def _is_of_values(error: SQLAlchemyError) -> bool:
    said = str(getattr(getattr(error, "orig", None), "sqlstate", None))
    return (isinstance(error, OF_VALUES) and said not in OF_TABLES) or said.startswith(TOO_MUCH)
