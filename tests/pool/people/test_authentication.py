"""Tokens: what they are, whom they let in and for how long, and what it costs to show wrong ones.

The clocks are the test's own; the secrets are made up by the system, as they are in a pool.
"""

import re
from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from pool.books.store import Store
from pool.fleet.rows import RegistryError
from pool.people.authentication import USE_NOTED_S, Authentication, WrongToken
from pool.people.refusals import Refusals
from pool.people.roles import Caller, Role
from pool.people.tokens import DAY_S, TokenView, create_token, list_tokens, revoke_token
from pool.people.users import add_user, set_role, set_status
from pool.people.wrong_tokens import FREE_TRIES, KEPT_MAX, WAIT_S_MAX, WrongTokens
from tests.fixtures.databases import Databases, add_tenant, disarm, fresh_store

NOW_S = 2_000_000_000
HERE, ELSEWHERE = "192.0.2.1", "198.51.100.7"
ROLES = {"vera": "viewer", "ada": "admin", "tom": "tenant"}


class House:
    """Users, and a pool that they ask."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.wall_s = float(NOW_S)
        self.now_s = 100.0
        self.refusals = Refusals(self.now_s)
        self.authentication = Authentication(
            store, self.refusals, wall_clock=lambda: self.wall_s, clock=lambda: self.now_s
        )

    def token(self, user: str, scope: str | None = None, days: int = 1) -> tuple[TokenView, str]:
        with self.store.write() as connection:
            made = create_token(connection, user, "grafana", scope, days, by="ada", now_s=NOW_S)
        self.authentication.load()
        return made

    def show(self, token: str, address: str = HERE) -> Caller:
        return self.authentication.caller(self.authentication.recognised(address, token), address)

    def refused(self, token: str, address: str = HERE) -> float:
        with pytest.raises(WrongToken, match="the token is wrong, or has ended") as refused:
            self.show(token, address)
        return refused.value.wait_s


@pytest.fixture
def house(databases: Databases) -> Iterator[House]:
    with fresh_store(databases) as store:
        with store.write() as connection:
            add_tenant(connection, 1, "acme")
            for name, role in ROLES.items():
                tenant = "acme" if role == "tenant" else None
                add_user(
                    connection,
                    name,
                    role,
                    tenant=tenant,
                    account=None,
                    host_names=(),
                    by="ann",
                    now_s=NOW_S,
                )
        yield House(store)


@pytest.mark.sqlite_suffices
def test_a_token_is_256_random_bits_and_the_books_have_its_hash_alone(house: House) -> None:
    view, token = house.token("vera")
    assert re.fullmatch(r"angara_1_[A-Za-z0-9_-]{43}", token)
    assert house.token("vera")[1] != token
    with house.store.read() as connection:
        rows = str(connection.execute(text("SELECT * FROM tokens")).all())
    assert token.split("_", 2)[2] not in rows + str(view)
    assert house.show(token).name == "vera"


@pytest.mark.sqlite_suffices
def test_who_shows_it_is_its_user_in_no_more_than_its_scope_and_his_role_of_now(house: House) -> None:
    _, own = house.token("ada")
    _, less = house.token("ada", "operator")
    _, figures = house.token("ada", "metrics")
    assert [house.show(it).role for it in (own, less, figures)] == ["admin", "operator", "metrics"]
    assert house.show(own).source == f"token 1 from {HERE}"
    with house.store.write() as connection:
        set_role(connection, "ada", "viewer", None)
    assert [house.show(it).role for it in (own, less, figures)] == ["viewer", "viewer", "metrics"]
    with house.store.write() as connection:
        set_role(connection, "ada", "tenant", "acme")
    assert [house.show(it).role for it in (own, less)] == ["tenant", "tenant"]
    house.refused(figures)  # they are of every tenant
    _, toms = house.token("tom")
    assert (house.show(toms).role, house.show(toms).tenant) == (Role.TENANT, "acme")
    with house.store.write() as connection:
        set_status(connection, "ada", active=False, host_names=())
    assert [house.refused(it) for it in (own, less, figures)] == [0.0, 0.0, 0.0]


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize(
    ("user", "scope", "days", "words"),
    [
        ("vera", "operator", 1, "makes no token with the scope operator"),
        ("tom", "viewer", 1, "makes no token with the scope viewer"),
        ("ada", "tenant", 1, "for users of that role"),
        ("tom", "metrics", 1, "are not a tenant's"),
        ("ada", "king", 1, "is none of metrics"),
        ("nobody", None, 1, "no user 'nobody'"),
        ("vera", None, 0, "1 to 366 days"),
        ("vera", None, 367, "1 to 366 days"),
    ],
)
def test_a_token_that_cannot_be_is_refused_in_words(
    house: House, user: str, scope: str | None, days: int, words: str
) -> None:
    with pytest.raises(RegistryError, match=words):
        house.token(user, scope, days)


def test_it_ends_at_its_time_or_when_it_is_revoked_and_nothing_brings_it_back(house: House) -> None:
    (_, one), (second, two) = house.token("vera"), house.token("vera", days=2)
    house.wall_s = NOW_S + DAY_S - 1
    assert house.show(one).name == house.show(two).name == "vera"
    house.wall_s = NOW_S + DAY_S
    house.refused(one)
    with house.store.write() as connection:
        with pytest.raises(RegistryError, match="ada has no token 2"):
            revoke_token(connection, "ada", second.id, NOW_S)
        revoked = revoke_token(connection, "vera", second.id, NOW_S)
        with pytest.raises(RegistryError, match="is revoked already"):
            revoke_token(connection, "vera", second.id, NOW_S + 9)
        assert revoked in list_tokens(connection, "vera")
    house.refused(two)  # with what the pool knew before it was told
    house.authentication.load()
    house.refused(two)
    for change in (
        "UPDATE tokens SET revoked_at_s = NULL",
        "UPDATE tokens SET expires_at_s = expires_at_s + 9",
        "UPDATE tokens SET scope = 'admin'",
        "UPDATE tokens SET digest = replace(digest, '0', 'f')",
        "DELETE FROM tokens",
    ):
        with pytest.raises(DatabaseError), house.store.write() as connection:
            connection.execute(text(change))


@pytest.mark.sqlite_suffices
def test_of_a_users_tokens_there_is_an_end(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pool.people.tokens.TOKENS_OF_USER_MAX", 1)
    view, _ = house.token("vera")
    with pytest.raises(RegistryError, match="revoke one first"):
        house.token("vera")
    with house.store.write() as connection:
        revoke_token(connection, "vera", view.id, NOW_S)
    house.token("vera")
    monkeypatch.setattr("pool.people.tokens.TOKENS_MAX", 1)
    with pytest.raises(RegistryError, match="revoke some first"):
        house.token("ada")


@pytest.mark.sqlite_suffices
def test_its_last_use_is_written_at_most_once_a_minute(house: House) -> None:
    _, token = house.token("vera")
    seen = []
    for later_s in (0, 1, USE_NOTED_S - 1, USE_NOTED_S, USE_NOTED_S + 1, -5):
        house.wall_s = NOW_S + later_s
        house.show(token)
        with house.store.read() as connection:
            seen.append(list_tokens(connection, "vera")[0].last_used_at_s)
    noted = NOW_S + USE_NOTED_S
    assert seen == [NOW_S, NOW_S, NOW_S, noted, noted, noted]


# Wrong ones


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize(
    "token",
    ["", "angara_", "angara_1_", "x" * 1_000_000, "angara_0_" + "a" * 43, "angara_1_" + "a" * 44, "\0", "é"],
)
def test_what_is_no_token_is_refused_as_a_wrong_one_is(house: House, token: str) -> None:
    house.token("vera")
    house.refused(token)
    house.refused("angara_1_" + "a" * 43)
    house.refused("angara_99_" + "a" * 43)


@pytest.mark.sqlite_suffices
def test_nothing_of_a_wrong_token_asks_the_books(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    _, token = house.token("vera")
    monkeypatch.setattr(house.authentication, "_books", None)
    almost = token[:-1] + ("A" if token[-1] != "A" else "B")
    for guess in ("angara_1_" + "a" * 43, "angara_7_" + "a" * 43, almost):
        with pytest.raises(WrongToken):
            house.authentication.recognised(HERE, guess)
    assert house.authentication.recognised(HERE, token) == 1


@pytest.mark.sqlite_suffices
def test_who_guesses_waits_longer_and_longer_and_keeps_nobody_else_out(house: House) -> None:
    """Not even who is behind the same address, or has the token that is guessed at."""
    _, token = house.token("vera")
    guess = "angara_1_" + "a" * 43
    waits = [house.refused(guess) for _ in range(FREE_TRIES + 1)]
    assert waits == [0.0] * (FREE_TRIES - 1) + [1.0, 1.0]
    assert house.show(token).name == "vera"
    assert house.refused("angara_99_" + "a" * 43) == 1.0, "by its address"
    assert house.refused(guess, ELSEWHERE) == 1.0, "by the token that is guessed at"
    assert house.refused("angara_99_" + "a" * 43, ELSEWHERE) == 0.0
    for _ in range(20):
        house.now_s += house.refused(guess)
    assert house.refused(guess) == WAIT_S_MAX
    house.now_s += 2 * WAIT_S_MAX + 1
    assert house.refused(guess) == 0.0


@pytest.mark.sqlite_suffices
def test_one_site_of_ipv6_is_one_guesser(house: House) -> None:
    waits = [house.refused("x", f"2001:db8::{n:x}") for n in range(FREE_TRIES)]
    assert waits[-1] == 1.0
    assert house.refused("x", "2001:db8:0:1::1") == 0.0


def test_a_million_addresses_take_no_more_memory_than_a_few_thousand() -> None:
    wrong = WrongTokens()
    for n in range(3 * KEPT_MAX):
        wrong.count(float(n), n, "the token")
    assert len(wrong) == KEPT_MAX
    assert wrong.wait_s(3.0 * KEPT_MAX, "the token") == WAIT_S_MAX - 1


@pytest.mark.sqlite_suffices
def test_what_may_be_written_by_nobody_but_the_database_may_still_not_let_in_more(house: House) -> None:
    """Somebody with all rights to the books lengthens a scope: his user's role is the bound all the same."""
    _, token = house.token("vera")
    with house.store.write() as connection:
        disarm(connection)
        connection.execute(text("UPDATE tokens SET scope = 'admin'"))
    assert house.show(token).role is Role.VIEWER
