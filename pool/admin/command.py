"""What a command is: the type of its parameters, a function, and the least role that may give it.

Must not know: which commands there are.
"""

from collections.abc import Callable, Mapping
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
from sqlalchemy import Connection

from pool.admin.desk import Desk, OperatorDesk
from pool.admin.pages import Page
from pool.books.changes.changes import State
from pool.books.changes.keys import ChangeKey
from pool.people.roles import Caller, Role


class Question(msgspec.Struct, frozen=True):
    """A command that changes nothing."""

    params: type[msgspec.Struct]
    answer: Callable[[Desk, Any], Any]
    least: Role = Role.VIEWER
    narrowed: Callable[[Any, Caller], Any] | None = None
    tells: bool = False  # other people, or machines: it is not asked by a URL alone
    asks_machines: bool = False  # which may take as long as they like, within its bound

    @property
    def result(self) -> Any:
        """The type of what it answers; of a list, that of all its rows."""
        told = get_type_hints(self.answer)["return"]
        return list[get_args(told)[0]] if self.paged else told  # type: ignore[misc]

    @property
    def paged(self) -> bool:
        """Whether it is a list that may be asked for a page at a time."""
        return get_origin(get_type_hints(self.answer)["return"]) is Page


class Change(msgspec.Struct, frozen=True):
    """A command that changes something. `state` has no secrets: it is kept."""

    params: type[msgspec.Struct]
    carry_out: Callable[[OperatorDesk, Any], Any]
    subject: Callable[[Any], str]
    state: Callable[[Connection, str], State]
    least: Role
    narrowed: Callable[[Any, Caller], Any] | None = None
    makes_books: bool = True  # where there are none yet: one that is for a running pool makes none
    secret: bool = False  # what is answered, which is then kept nowhere, and is for who asked alone
    asks_nodes: bool = False  # which may take as long as they like, and nothing else waits for that
    asks_machines: bool = False  # likewise

    @property
    def result(self) -> Any:
        """The type of what it answers."""
        return get_type_hints(self.carry_out)["return"]

    def desk(
        self, desk: Desk, name: str, params: Any, caller: Caller, key: ChangeKey | None = None
    ) -> OperatorDesk:
        """Where this one makes it."""
        return OperatorDesk(
            desk.store,
            desk.network,
            desk.live,
            desk.paying,
            desk.policy,
            desk.durations,
            desk.proof,
            caller=caller,
            command=name,
            subject=self.subject(params),
            state=self.state,
            key=key,
        )


def always(params: Any, caller: Caller) -> bool:
    return True


def never(was: State) -> bool:
    return False


def as_it_is(params: Any) -> Any:
    return params


def no_state(connection: Connection, subject: str) -> State:
    """Of a change that is not in the books: its command notes by itself what was and what became."""
    return {}


class Guarded(Change, frozen=True, kw_only=True):
    """One that moves money or power: it waits for a second person, or a time, where the settings say so.

    It writes in one transaction, the desk's `write`, and before that does nothing that is seen."""

    waits: Callable[[Any, Caller], bool] = always
    held: Callable[[State], bool] = never  # the books themselves hold it back for longer
    without_secrets: Callable[[Any], Any] = as_it_is


Commands = Mapping[str, Question | Change]
"""By their names: a noun's file has a table of its own, `COMMANDS`."""
