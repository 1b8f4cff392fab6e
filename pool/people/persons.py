"""Who may be one person, though the names say nothing of it: by users, and by accounts of the host.

Where two persons are needed, these are one:

    accounts without a user     whoever can open the database: root is the pool's account at will
    a user, and that account    where the account that is his is recorded by its own name
    users of one account        the next one after the first was suspended

Whoever is suspended, or may pay no more, is `gone`: beside what is in his name nobody is a second one.
So two persons are two users, or a user and somebody on the host; a name of before there were users is the
host's, unless it is a user's. Where four eyes are asked for (`two_users`), two persons are two users: whoever
is somebody on the host may be a user as well, which nothing here can know.

Invariants: pure; what is not known makes one person, not two. Must not know: what needs two persons.
"""

from collections.abc import Collection, Container, Hashable, Iterable
from typing import Final

from payouts.persons import folded
from pool.people.roles import Caller, Role
from pool.people.users import ACTIVE, UserView

THE_HOST: Final = "the host"
MAY_PAY: Final = (Role.PAYER, Role.ADMIN)


class Persons:
    """Everybody at one moment: users, and `host_names`, which are what accounts without a user are recorded
    by."""

    def __init__(
        self, users: Iterable[UserView], host_names: Collection[str], *, two_users: bool = False
    ) -> None:
        self._two_users = two_users
        self._hosts = frozenset(host_names)
        self._by_id = {it.id: it for it in users}
        self._by_name: dict[str, list[UserView]] = {}
        for it in self._by_id.values():
            self._by_name.setdefault(folded(it.name), []).append(it)

    def also_known_as(self, caller: Caller, besides: Collection[int] = ()) -> Container[str]:
        """The names that may be the caller's, whichever are in the books by the time that it is asked;
        `besides`: numbers of users who may be he as well."""
        if caller.user_id is None:
            if self._two_users:
                return _AllNames()
            his = self._marks_of_name(caller.name) | self._marks_of_account(caller.name) | {THE_HOST}
        else:
            his = self._marks(self._by_id[caller.user_id]) | frozenset(besides)
        return _Names(self, his)

    @property
    def gone(self) -> Container[str]:
        """The names of who has said nothing, as it were."""
        return _Gone(self)

    def share(self, his: frozenset[Hashable], name: str) -> bool:
        """Whether whose marks these are may be called that."""
        if self._two_users and self._may_be_the_hosts(name):
            return True
        return not his.isdisjoint(self._marks_of_name(name))

    def is_gone(self, name: str) -> bool:
        """Whether it is the name of a user, and of none who may pay at this moment."""
        users = () if name in self._hosts else self._by_name.get(folded(name), ())
        return bool(users) and not any(it.status == ACTIVE and it.role in MAY_PAY for it in users)

    def _marks_of_name(self, name: str) -> frozenset[Hashable]:
        users = self._by_name.get(folded(name), ())
        marks = frozenset[Hashable]().union(*map(self._marks, users))
        if self._may_be_the_hosts(name):
            marks |= self._marks_of_account(name) | {THE_HOST}
        return marks

    def _may_be_the_hosts(self, name: str) -> bool:
        return name in self._hosts or folded(name) not in self._by_name

    def _marks(self, user: UserView) -> frozenset[Hashable]:
        """What two users have in common who may be one person."""
        marks = frozenset[Hashable]((user.id,))
        return marks if user.account is None else marks | self._marks_of_account(user.account)

    def _marks_of_account(self, account: str) -> frozenset[Hashable]:
        marks: tuple[Hashable, ...] = (("account", account),)
        return frozenset((*marks, THE_HOST) if account in self._hosts else marks)


class _AllNames(Container[str]):
    """Of who may be anybody."""

    def __contains__(self, name: object) -> bool:
        return True


class _Names(Container[str]):
    """Of one person."""

    def __init__(self, persons: Persons, his: frozenset[Hashable]) -> None:
        self._persons, self._his = persons, his

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._persons.share(self._his, name)


class _Gone(Container[str]):
    """Of those who have no say."""

    def __init__(self, persons: Persons) -> None:
        self._persons = persons

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._persons.is_gone(name)
