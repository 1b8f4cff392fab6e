"""Who is one person by users and accounts, whatever the names look like."""

from itertools import product
from typing import Final

import msgspec

from pool.people.persons import Persons
from pool.people.roles import Caller, Role, host_account
from pool.people.users import UserView

HOSTS: Final = ("root", "angara")  # what the accounts that need no user are recorded by


def view(number: int, name: str, account: str | None, status: str = "active") -> UserView:
    return UserView(
        id=number,
        name=name,
        role="payer",
        tenant=None,
        account=account,
        status=status,
        created_at_s=0,
        created_by="root",
    )


USERS: Final = (
    view(1, "annette", "other", "suspended"),
    view(2, "ann", "other"),
    view(3, "petra", "angara"),  # added where no pool ran, by root
    view(4, "bob", "bob"),
    view(5, "zoe", None),
    view(6, "angara", None),  # likewise: a user by the name of the pool's account
)
PERSONS: Final = Persons(USERS, HOSTS)


def by_user(number: int, token: int | None = None) -> Caller:
    name = next(it.name for it in USERS if it.id == number)
    return Caller(name=name, source="test", role=Role.PAYER, user_id=number, token=token)


def host(name: str) -> Caller:
    return host_account(name, "alone")


# What one human has to choose from, who is root, and one who is not: all that he can act as.
OF_ROOT: Final = (host("root"), host("angara"), host("uid 1000"), host("other"), by_user(3))
OF_ANN: Final = (by_user(2), by_user(2, token=7), by_user(1), host("other"), host("ann"))


def one_person(first: Caller, second: Caller) -> bool:
    """Whether the second is none beside the first, whose name is in the books."""
    return first.name in PERSONS.also_known_as(second)


def test_a_human_with_any_two_of_his_names_is_one_person() -> None:
    """The thief's best strategy, short of becoming another user. Gain: none of 50 pairs."""
    for his in (OF_ROOT, OF_ANN):
        assert [pair for pair in product(his, his) if not one_person(*pair)] == []


def test_two_users_are_two_and_so_are_a_user_and_the_host() -> None:
    for first, second in (
        (by_user(2), by_user(4)),
        (by_user(2), by_user(5)),
        (host("root"), by_user(4)),
        (host("angara"), by_user(5)),
        (by_user(2), host("root")),
    ):
        assert not one_person(first, second)
        assert not one_person(second, first)


def test_where_four_eyes_are_asked_for_somebody_on_the_host_may_be_any_user() -> None:
    persons = Persons(USERS, HOSTS, two_users=True)
    hosts = (host("root"), host("angara"), host("other"))
    for root, anybody in product(hosts, map(by_user, range(1, 7))):
        assert root.name in persons.also_known_as(anybody)
        assert anybody.name in persons.also_known_as(root)
    for first, second in ((2, 4), (2, 5), (3, 4), (4, 3)):
        assert by_user(first).name not in persons.also_known_as(by_user(second))


def test_a_name_of_before_there_were_users_is_a_users_or_the_hosts() -> None:
    """Which anybody could type."""
    for name, callers in (
        ("A n n", (by_user(2), by_user(1))),
        ("somebody", (host("root"), host("angara"), by_user(3))),
        ("b o b", (by_user(4),)),
        ("angara", (host("root"), host("angara"), by_user(3), by_user(6))),
    ):
        everybody = (*map(by_user, range(1, 7)), *map(host, HOSTS))
        assert {it.name for it in everybody if name in PERSONS.also_known_as(it)} == {
            it.name for it in callers
        }


def test_beside_who_may_pay_no_more_nobody_is_a_second_person() -> None:
    """What was said in the name of who is suspended, or is a viewer by now, was not said: gain of who has his
    token of before, or of who finds an old word of his: nothing."""
    gone = (
        view(7, "olga", "olga", "suspended"),
        msgspec.structs.replace(view(8, "vera", None), role="viewer"),
    )
    persons = Persons((*USERS, *gone), HOSTS)
    assert all(name in persons.gone for name in ("olga", "O.l.g.a", "vera"))
    assert not any(name in persons.gone for name in ("zoe", "root", "nobody"))


def test_whoever_may_be_his_puppet_is_he() -> None:
    assert "bob" in PERSONS.also_known_as(by_user(5), {4})
    assert "ann" not in PERSONS.also_known_as(by_user(5), {4})
