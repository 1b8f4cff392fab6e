"""Users as rows: names that nobody takes for another's, accounts that are one user's, nobody forgotten."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError, IntegrityError

from pool.books.store import Store
from pool.fleet.rows import RegistryError
from pool.people.users import UserView, active_user, add_user, list_users, set_role, set_status
from tests.fixtures.databases import Databases, add_tenant, fresh_store

HOST = ("angara", "root")


@pytest.fixture(scope="module")
def books(databases: Databases) -> Iterator[Store]:
    """With the tenant acme, and vera, whose account is vera's."""
    with fresh_store(databases) as store:
        with store.write() as connection:
            add_tenant(connection, 1, "acme")
        added(store, "vera", "viewer", account="vera")
        yield store


def added(
    store: Store, name: str, role: str = "viewer", tenant: str | None = None, account: str | None = None
) -> UserView:
    with store.write() as connection:
        return add_user(
            connection, name, role, tenant=tenant, account=account, host_names=HOST, by="ann", now_s=5
        )


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "is no name"),
        ("x" * 65, "is no name"),
        ("a\nb", "is no name"),
        ("uid 1000", "is no name"),  # what an account without a name is recorded by
        ("vera", "could be taken for 'vera'"),
        ("Vera", "could be taken for 'vera'"),
        ("v e r a", "could be taken for 'vera'"),
        ("root", "could be taken for 'root'"),
        ("Angara", "could be taken for 'angara'"),
        ("chain", "could be taken for 'chain'"),
    ],
)
def test_no_name_is_taken_for_another(books: Store, name: str, words: str) -> None:
    with pytest.raises(RegistryError, match=words):
        added(books, name)


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"role": "king"}, "is none of tenant, viewer"),
        ({"role": "metrics"}, "is none of tenant, viewer"),
        ({"role": "tenant"}, "takes the tenant"),
        ({"role": "admin", "tenant": "acme"}, "takes the tenant"),
        ({"role": "tenant", "tenant": "nobody"}, "no tenant 'nobody'"),
        ({"account": "vera"}, "is vera's"),
        ({"account": "root"}, "can open the database itself"),
        ({"account": ""}, "is no account"),
    ],
)
def test_what_cannot_be_is_refused_in_words(books: Store, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(RegistryError, match=words):
        added(books, "new", **asked)


def test_an_account_is_that_of_its_active_user_and_of_nobody_else(books: Store) -> None:
    added(books, "anna", account="night")
    with books.write() as connection:
        set_status(connection, "anna", active=False, host_names=HOST)
    with books.read() as connection:
        assert active_user(connection, account="night") is None
    added(books, "boris", account="night")
    with books.write() as connection:
        found = active_user(connection, account="night")
        assert found is not None
        assert found.name == "boris"
        with pytest.raises(RegistryError, match="is boris's"):
            set_status(connection, "anna", active=True, host_names=HOST)
    with books.read() as connection:
        assert active_user(connection, account="") is None


def test_a_role_is_another_one_from_then_on(books: Store) -> None:
    added(books, "carla")
    with books.write() as connection:
        assert set_role(connection, "carla", "tenant", "acme").tenant == "acme"
        assert set_role(connection, "carla", "payer", None).tenant is None


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM users",
        "UPDATE users SET name = 'eve'",
        "UPDATE users SET account = 'eve' WHERE name = 'vera'",
        "UPDATE users SET account = NULL WHERE name = 'vera'",
        "UPDATE users SET role = 'king'",
        "UPDATE users SET role = 'tenant'",
        "INSERT INTO users VALUES (99, 'eve', 'admin', NULL, 'vera', 'active', 0, 'eve')",
    ],
)
def test_the_database_itself_keeps_who_is_who(books: Store, statement: str) -> None:
    with books.read() as connection:
        before = list_users(connection)
    with pytest.raises((DatabaseError, IntegrityError)), books.write() as connection:
        connection.execute(text(statement))
    with books.read() as connection:
        assert list_users(connection) == before


@pytest.mark.sqlite_suffices
def test_there_is_an_end_of_users(books: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pool.people.users.USERS_MAX", 1)
    with pytest.raises(RegistryError, match="all there may be"):
        added(books, "dora")
