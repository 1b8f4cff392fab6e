"""The books as the payout commands use them: one function, one transaction, in a worker thread.

One person's: `also` are other names that may be his, `gone` those of who has no say any more.

Invariant: a write is committed when it returns; whatever it answers is lost when the process dies after
that, so everything that is written can be found again.

Must not know: what is written.
"""

from collections.abc import Callable, Container
from contextlib import AbstractContextManager
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import trio
from sqlalchemy import Connection

from payouts.batches.rows import Act, act_of_person

_Params = ParamSpec("_Params")
_Result = TypeVar("_Result")


class Transactions(Protocol):
    """As pool.books.store.Store."""

    def read(self) -> AbstractContextManager[Connection]: ...

    def write(self) -> AbstractContextManager[Connection]: ...


class PayoutBooks:
    """A store, and the clock that its rows are dated by."""

    def __init__(
        self,
        store: Transactions,
        clock: Callable[[], int],
        also: Container[str] = frozenset(),
        gone: Container[str] = frozenset(),
    ) -> None:
        self._store = store
        self._clock = clock
        self._also = also
        self._gone = gone

    def now_s(self) -> int:
        """Unix seconds."""
        return self._clock()

    def act(self, by: str) -> Act:
        """That a person does something now."""
        return act_of_person(by, self._clock(), self._also, self._gone)

    async def read(
        self,
        work: Callable[Concatenate[Connection, _Params], _Result],
        *args: _Params.args,
        **kwargs: _Params.kwargs,
    ) -> _Result:
        """The result of `work` on what there is at one moment."""

        def run() -> _Result:
            with self._store.read() as connection:
                return work(connection, *args, **kwargs)

        return await trio.to_thread.run_sync(run)

    async def write(
        self,
        work: Callable[Concatenate[Connection, _Params], _Result],
        *args: _Params.args,
        **kwargs: _Params.kwargs,
    ) -> _Result:
        """The result of `work`, committed; where it raises, nothing is."""

        def run() -> _Result:
            with self._store.write() as connection:
                return work(connection, *args, **kwargs)

        return await trio.to_thread.run_sync(run)
