"""The books as the payout commands use them: one function, one transaction, in a worker thread.

Invariant: a write is committed when it returns; whatever it answers is lost when the process dies after
that, so everything that is written can be found again.

Must not know: what is written.
"""

from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

import trio
from sqlalchemy import Connection

from payouts.batches.rows import Act, act_of_person
from pool.books.store import Store

_Params = ParamSpec("_Params")
_Result = TypeVar("_Result")


class PayoutBooks:
    """A store, and the clock that its rows are dated by."""

    def __init__(self, store: Store, clock: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock

    def now_s(self) -> int:
        """Unix seconds."""
        return self._clock()

    def act(self, by: str) -> Act:
        """That a person does something now."""
        return act_of_person(by, self._clock())

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
